"""Lists of 0 and 1 as the labels of a text: a place for each label, which says whether it holds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

VALUES = {**dict.fromkeys(("0", "0.0", "false"), 0.0), **dict.fromkeys(("1", "1.0", "true"), 1.0)}


def width(lists: Collection[Sequence[str]]) -> int:
    """How long lists of labels are that say 0 or 1 for each of them; 0 where these are not such lists.

    They are equally long, beside empty ones, and have nothing else in them.
    """
    full = [one for one in lists if one]
    sizes = {len(one) for one in full}
    is_so = len(sizes) == 1 and all(one in VALUES for labels in full for one in labels)
    return sizes.pop() if is_so else 0


def check_names(size: int, names: Sequence[str], first: Mapping[tuple[str, ...], str]) -> None:
    """Refuse lists of 0 and 1 that are not as long as there are names; no names: it is not known what they say.

    Raises:
        ValueError: shows the two forms that labels may have.
    """
    if len(names) == size:
        return
    labels, where = next((labels, where) for labels, where in first.items() if labels)
    forms = (
        f"labels={[f'name{number}' for number in range(size)]} if each place is a label that holds (1) or not (0), in the "
        "order of the places; or list the names of the labels that hold, such as ['name0'], in the data"
    )
    if names:
        raise ValueError(f"{where} has the labels {_shown(labels)}, {size} of 0 and 1, and there are {len(names)} "
                         f"names: {', '.join(map(repr, names[:20]))}. Give {forms}")  # fmt: skip
    raise ValueError(f"{where} has the labels {_shown(labels)}, and every other list is as long and has 0 and 1 alone. "
                     f"Give {forms}")  # fmt: skip


def target(labels: Sequence[str], names: Sequence[str], where: str) -> dict[str, float]:
    """What each name has in a list of 0 and 1.

    Raises:
        ValueError: the list is of another length, or has something else in it.
    """
    if len(labels) != len(names) or not all(one in VALUES for one in labels):
        raise ValueError(
            f"{where} has the labels {_shown(labels)}; the others are {len(names)} numbers, 0 or 1 for each of "
            f"{', '.join(map(repr, names[:20]))}: write these so too"
        )
    return {name: VALUES[one] for name, one in zip(names, labels, strict=True)}


def _shown(labels: Sequence[str]) -> str:
    return f"[{', '.join(labels[:20])}{', ...' if len(labels) > 20 else ''}]"
