"""The labels of a training: which there are, what number each has, and what the model is to learn of an example."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

from roberta.common.config import RobertaConfig
from roberta.common.training.data.fields import LabelledText, LabelledWords

Problem = Literal["single_label_classification", "multi_label_classification", "regression"]
_SHOWN = 20  # labels that an error lists at most
_FEW = 20  # fewer rows may well have a label each
_KEPT = "names and numbers are the model's own, and so is the classifier, if it has one"
_WHOLE = re.compile(r"-?[0-9]+\.0")  # how JSON and pandas write a whole number among others
_NOT_LABELLED = "-1"  # in public data sets


@dataclass(frozen=True)
class Labels:
    """The labels of a training.

    Attributes:
        problem: as in `config.problem_type`: one label of several, any number of them, or a number.
        names: the name of each label, by its number; for regression, that of the number.
        takes_numbers: whether the data may have the number of a label instead of its name.
        is_new_head: whether the model's classifier has other labels, so that a new one is initialised.
        remark: where the names come from, and what that means for the classifier.
        places: the name for each place of a list of 0 and 1; () for lists of the labels that hold.
        numbering: the names in the order of the data's numbers, where that is not the order of `names`.
    """

    problem: Problem
    names: tuple[str, ...]
    takes_numbers: bool = False
    is_new_head: bool = False
    remark: str = ""
    places: tuple[str, ...] = ()
    numbering: tuple[str, ...] = ()

    @property
    def id2label(self) -> dict[int, str]:
        """The names as in the model's config."""
        return dict(enumerate(self.names))

    @cached_property
    def label2id(self) -> dict[str, int]:
        """The number of each label."""
        return {name: number for number, name in enumerate(self.names)}

    def id_of(self, label: str, where: str) -> int:
        """The number of a label, given as a name or, if `takes_numbers`, as a number.

        Raises:
            ValueError: there is no such label.
        """
        number = self.label2id.get(label)
        if number is not None:
            return number
        if _WHOLE.fullmatch(label):
            return self.id_of(_without_fraction(label, ()), where)
        if self.takes_numbers and label.isdecimal() and int(label) < len(self.names):
            return self.label2id[self.numbering[int(label)]] if self.numbering else int(label)
        if label == _NOT_LABELLED and all(map(_is_whole, self.names)):
            raise ValueError(
                f"{where} has the label '-1', which marks rows without a label in public data sets; remove the row, or if "
                f"it is a label like the others, give labels={['-1', *self.names[:_SHOWN]]}"
            )
        raise ValueError(
            f"{where} has the label {label!r}, which is not one of the labels of this training: "
            f"{_listed(self.names)}. Correct it, or give training data that has all labels, or their names as labels="
        )

    def target(self, label: str | tuple[str, ...], where: str) -> int | float | list[float]:
        """What the model learns of a text: the number of a label, 1.0 or 0.0 for each label, or a number.

        Raises:
            ValueError: a label is unknown, occurs twice, or is not a number where one is needed.
        """
        if self.problem == "regression":
            return _number(label, where)
        if self.problem == "single_label_classification":
            if not isinstance(label, str):
                raise ValueError(
                    f"{where} has a list of labels, but each text here has one; give problem=, or one label"
                )
            return self.id_of(label, where)
        if self.places:
            return self._of_places(split_labels(label), where)
        ids = [self.id_of(one, where) for one in split_labels(label)]
        if len(set(ids)) < len(ids):
            raise ValueError(f"{where} has a label twice: {list(label)}; list the names of the labels that hold, once")
        return [float(number in ids) for number in range(len(self.names))]

    def _of_places(self, values: Sequence[str], where: str) -> list[float]:
        """What each name has in a list of 0 and 1; `ValueError` for a list of another length, or of anything else."""
        if len(values) != len(self.places) or not all(one in _HOLDS for one in values):
            raise ValueError(
                f"{where} has the labels {_shown_list(values)}; the others are {len(self.places)} numbers, 0 or 1 for "
                f"each of {_listed(self.places)}: write these in the same way"
            )
        held = dict(zip(self.places, values, strict=True))
        return [_HOLDS[held[name]] for name in self.names]


def split_labels(label: str | tuple[str, ...]) -> list[str]:
    """The labels of an example that may have any number of them; in a table commas divide them."""
    return [one.strip() for one in label.split(",") if one.strip()] if isinstance(label, str) else list(label)


def find_labels(
    examples: Iterable[LabelledText | LabelledWords],
    config: RobertaConfig,
    *,
    problem: Problem | None = None,
    labels: Sequence[str] | None = None,
    keep_labels: bool = False,
    are_columns_said: bool = False,
    skips: bool = False,
) -> Labels:
    """The labels of a training: those of the data, sorted, or in the model's order if it has the same names.

    Labels that are whole numbers are sorted as numbers.

    Args:
        examples: the training data.
        config: of the model. Names like LABEL_0 do not count as names.
        problem: None to tell it: a list of labels means "multi_label_classification"; labels that are all numbers mean
            "regression" if the model has one label or one of them has a fraction.
        labels: their names in the order of their numbers, where the data does not have all of them, or has numbers. A
            model that has exactly these keeps its own order.
        keep_labels: the labels are the model's; numbers are its ids.
        are_columns_said: the caller named the column of labels, so it is taken as one, however odd it looks.
        skips: leave out labels that cannot be used, as their examples will be.

    Raises:
        ValueError: a label of the data is not among those given; there is only one label; or it cannot be told what the
            labels are.
    """
    _check(config, problem, labels, keep_labels)
    # what kind of labels these are, if nobody said
    examples = list(examples)
    first = _first_places(examples)
    own = _own_names(config)
    if examples and isinstance(examples[0], LabelledWords):
        if problem not in (None, "single_label_classification"):
            raise ValueError(f"problem={problem!r} is for texts; each word has one label of several: omit it")
        chosen: Problem = "single_label_classification"
    else:
        chosen = problem or _problem(first, config, own)
        if problem is None and not labels and not keep_labels:
            _check_plausible(first, len(examples), chosen, config, are_columns_said=are_columns_said)
    if chosen == "regression":
        return _regression(config, own, labels)
    # lists of 0 and 1 have no names of their own
    lists = {tuple(split_labels(label)): place for label, place in first.items() if _is_list(label)}
    size = _width(lists) if chosen == "multi_label_classification" and len(lists) == len(first) else 0
    if size > 1 or (size == 1 and len(labels or own) < 2):  # a single 0 or 1 may be the number of a label
        return _multi_hot(size, lists, config, own, labels, keep_labels)
    # single labels, and where each is first
    exact = set(labels or own)
    singles: dict[str, str] = {}
    for label, place in first.items():
        is_one = isinstance(label, str) and chosen != "multi_label_classification"
        for one in [str(label)] if is_one else split_labels(label):
            singles.setdefault(_without_fraction(one, exact), place)
    if labels is None and not keep_labels:
        _check_kinds(singles)
    # their names, which all labels of the data must have
    result = _named(chosen, singles, config, own, labels, keep_labels)
    for one, place in singles.items() if not skips else ():
        result.id_of(one, place)
    if len(result.names) < 2 and chosen == "single_label_classification":
        raise _one_label(result.names[0])
    return result


def _check(config: RobertaConfig, problem: Problem | None, labels: Sequence[str] | None, keep_labels: bool) -> None:
    if problem is not None and problem not in get_args(Problem):
        raise ValueError(f"problem={problem!r} is unknown; it must be one of {', '.join(get_args(Problem))}")
    if labels is not None and len(set(labels)) < len(labels):
        raise ValueError(f"labels={list(labels)} has a name twice; give each once")
    if labels is not None and keep_labels:
        raise ValueError(f"labels={list(labels)} and keep_labels=True both say what the labels are; omit one")


def _one_label(name: str) -> ValueError:
    hint = "; it marks rows without a label in public data sets: use a part that has labels" * (name == _NOT_LABELLED)
    more = ", or problem='regression' if it is a number" if spells_number(name) else ""
    return ValueError(
        f"every example has the label {name!r}: there is nothing to tell apart{hint}; give data with other labels{more}"
    )


def _own_names(config: RobertaConfig) -> tuple[str, ...]:
    """The names that a model has for its labels, by their number; () for LABEL_0, LABEL_1, ..., which say nothing."""
    stored = _stored_names(config)
    return () if stored == tuple(f"LABEL_{number}" for number in range(len(stored))) else stored


def _stored_names(config: RobertaConfig) -> tuple[str, ...]:
    return tuple(str(config.id2label[number]) for number in range(config.num_labels))


def _regression(config: RobertaConfig, own: tuple[str, ...], labels: Sequence[str] | None) -> Labels:
    if labels is not None and len(labels) != 1:
        raise ValueError(f"labels={list(labels)}: regression learns one number; give one name, or none")
    names = tuple(labels or (own if len(own) == 1 else ("LABEL_0",)))
    is_new = config.num_labels != 1 or bool(own and own != names)
    before = (
        f"; the model's labels were {_listed(own)}, and its classifier is newly initialised" if is_new and own else ""
    )
    return Labels("regression", names, is_new_head=is_new, remark="a number" + before)


def _multi_hot(
    size: int, lists: Mapping[tuple[str, ...], str], config: RobertaConfig, own: tuple[str, ...],
    labels: Sequence[str] | None, keep_labels: bool,
) -> Labels:  # fmt: skip
    """The names for the places of lists of 0 and 1; the model's own if it was trained on such lists."""
    is_own = keep_labels or config.problem_type == "multi_label_classification"
    stored = _stored_names(config)
    places = tuple(labels) if labels is not None else stored if keep_labels else own if is_own else ()
    _check_places(size, places, lists)
    named = _named("multi_label_classification", dict.fromkeys(places, ""), config, own, labels, keep_labels)
    return replace(named, places=places)


def _named(
    chosen: Problem, singles: Mapping[str, str], config: RobertaConfig, own: tuple[str, ...],
    labels: Sequence[str] | None, keep_labels: bool,
) -> Labels:  # fmt: skip
    """The names of labels, and what that means for the model's classifier."""
    stored = _stored_names(config)
    takes_numbers = (labels is not None or keep_labels) and not any(map(spells_number, labels or own))
    if labels and not keep_labels and set(labels) == set(stored):  # the order says what numbers mean
        return Labels(chosen, stored, takes_numbers, remark=_KEPT, numbering=tuple(labels))
    if keep_labels or (labels is None and set(singles) <= set(stored)):
        return Labels(chosen, stored, takes_numbers, remark=_KEPT)
    if own and labels is None and all(map(_is_whole, singles)) and not any(map(spells_number, own)):
        most = max(min(max(map(int, singles)), _SHOWN), 1)
        raise ValueError(
            f"the labels of the data are the numbers {_listed(sorted(singles, key=_order))}, and the model's labels are "
            f"{_listed(own)}. Say what the numbers mean: their names in the order of the numbers, such as "
            f"labels={[f'name{number}' for number in range(most + 1)]}, or keep_labels=True if they are the "
            "numbers of the model's own labels"
        )
    names = tuple(labels) if labels is not None else tuple(sorted(_usable(singles), key=_order))
    numbers = tuple(map(str, range(len(names))))
    is_new = len(names) != config.num_labels or bool(own) or names != numbers
    before = f" in place of the model's {_listed(own)}" if own else ""
    remark = f"the names are {'those asked for' if labels is not None else 'those of the data'}{before}"
    return Labels(
        chosen, names, takes_numbers, is_new, remark + ("; the classifier is newly initialised" if is_new else "")
    )


def _usable(singles: Iterable[str]) -> list[str]:
    """The labels; without -1 if all others are whole numbers from 0, as it then marks rows without a label."""
    found = list(singles)
    others = [one for one in found if one != _NOT_LABELLED]
    is_mark = len(others) > 1 and all(one.isdecimal() for one in others)
    return others if is_mark else found


def _check_plausible(
    first: Mapping[str | tuple[str, ...], str], rows: int, chosen: Problem, config: RobertaConfig, *,
    are_columns_said: bool,
) -> None:  # fmt: skip
    """Raise `ValueError` for labels that are most likely not labels, where nobody said what they are.

    Nearly every row has its own, or all numbers have a fraction of .0.
    """
    if chosen == "single_label_classification" and not are_columns_said and rows >= _FEW and len(first) > rows / 2:
        shown = "\n".join(f"    {str(label)[:100]}" for label in list(first)[:3])
        raise ValueError(
            f"{rows} rows have {len(first)} labels, nearly every row its own; the first are\n{shown}\nSay which "
            "column has the labels, such as columns={'label': 'NAME'}; if these are the labels, "
            "problem='single_label_classification'"
        )
    if chosen == "regression" and config.num_labels != 1 and all(float(str(label)).is_integer() for label in first):
        raise ValueError(
            f"the labels are {_listed([str(label) for label in first])}: whole numbers with a fraction of .0; say whether "
            "they are classes, problem='single_label_classification', or amounts, problem='regression'"
        )


def _listed(names: Sequence[str]) -> str:
    """The first of some names, for an error or a report."""
    return ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")


def _first_places(examples: Iterable[LabelledText | LabelledWords]) -> dict[str | tuple[str, ...], str]:
    """Each label, or list of labels, and where it occurs first."""
    first: dict[str | tuple[str, ...], str] = {}
    for example in examples:
        for label in example.labels if isinstance(example, LabelledWords) else (example.label,):
            first.setdefault(label, example.where)
    return first


def _problem(first: Collection[str | tuple[str, ...]], config: RobertaConfig, own: tuple[str, ...]) -> Problem:
    """What the labels of the data are; where that is open, what the model's own are."""
    if any(not isinstance(label, str) for label in first):
        return "multi_label_classification"
    labels = [label for label in first if isinstance(label, str)]
    is_known = {one for label in labels for one in split_labels(label)} <= set(own)
    if own and config.problem_type == "multi_label_classification" and is_known:
        return "multi_label_classification"
    are_numbers = all(map(spells_number, labels))
    is_amount = own and config.problem_type == "regression"
    if are_numbers and (config.num_labels == 1 or is_amount or not all(map(_is_whole, labels))):
        return "regression"
    return "single_label_classification"


def _is_list(label: str | tuple[str, ...]) -> bool:
    """Whether a label is a list, which in a table has commas."""
    return not isinstance(label, str) or "," in label


def spells_number(label: str) -> bool:
    """Whether a label is a finite number."""
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False


def _without_fraction(label: str, names: Container[str]) -> str:
    """A label without a fraction of .0, unless one of the names is spelled like it."""
    return label.removesuffix(".0") if _WHOLE.fullmatch(label) and label not in names else label


def _check_kinds(singles: Mapping[str, str]) -> None:
    """Raise `ValueError` for true and false beside numbers: true may be the same as 1."""
    truths = [one for one in singles if one in ("true", "false")]
    others = [one for one in singles if one not in truths]
    if truths and others and all(map(spells_number, others)):
        raise ValueError(
            f"{singles[others[0]]} has the label {others[0]!r} and {singles[truths[0]]} the label {truths[0]!r}, which may "
            f"be the same; write all as numbers, or if they are different, give labels={[*others[:_SHOWN], *truths]}"
        )


def _is_whole(label: str) -> bool:
    return label.removeprefix("-").isdecimal()


def _order(label: str) -> tuple[int, int, str]:
    """Whole numbers first, as numbers; then names."""
    return (0, int(label), "") if _is_whole(label) else (1, 0, label)


def _number(label: str | tuple[str, ...], where: str) -> float:
    if isinstance(label, str) and spells_number(label):
        return float(label)
    raise ValueError(f"{where} has the label {label!r}; regression needs finite numbers: correct it, or give problem=")


# -- lists of 0 and 1: a place for each label, which says whether it holds ---------------------------------------------

_HOLDS = {**dict.fromkeys(("0", "0.0", "false"), 0.0), **dict.fromkeys(("1", "1.0", "true"), 1.0)}


def _width(lists: Collection[Sequence[str]]) -> int:
    """The length of lists that have only 0 and 1, and are equally long or empty; 0 for any other lists."""
    full = [one for one in lists if one]
    sizes = {len(one) for one in full}
    is_so = len(sizes) == 1 and all(one in _HOLDS for labels in full for one in labels)
    return sizes.pop() if is_so else 0


def _check_places(size: int, names: Sequence[str], first: Mapping[tuple[str, ...], str]) -> None:
    """Raise `ValueError` for lists of 0 and 1 that are not as long as there are names; shows the forms of labels."""
    if len(names) == size:
        return
    labels, where = next((labels, where) for labels, where in first.items() if labels)
    problem = (
        f"{size} of 0 and 1, and there are {len(names)} names: {_listed(names)}"
        if names
        else "and every other list is as long and has only 0 and 1"
    )
    raise ValueError(
        f"{where} has the labels {_shown_list(labels)}, {problem}. Give "
        f"labels={[f'name{number}' for number in range(size)]} if each place is a label that holds (1) or not (0), in the "
        "order of the places; or list the names of the labels that hold, such as ['name0'], in the data"
    )


def _shown_list(labels: Sequence[str]) -> str:
    return f"[{', '.join(labels[:_SHOWN])}{', ...' if len(labels) > _SHOWN else ''}]"
