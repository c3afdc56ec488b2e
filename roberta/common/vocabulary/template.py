"""What stands around the texts of a row: special tokens and token types, as the post_processor of tokenizer.json says.

Without such a file it is RoBERTa's own: `<s> A </s>` and `<s> A </s></s> B </s>`, all of type 0.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from roberta.common.storage.folders import CheckpointError

_Processor = Mapping[str, Any]


class Specials(NamedTuple):
    """Special tokens in a row: their ids, texts and types."""

    ids: list[int]
    tokens: list[str]
    types: list[int]


class Layout(NamedTuple):
    """A row: special tokens at its begin, between its texts where it has two, and at its end; the types of the texts."""

    begin: Specials
    middle: Specials
    end: Specials
    types: tuple[int, int]

    @property
    def size(self) -> int:
        """How many special tokens there are."""
        return len(self.begin.ids) + len(self.middle.ids) + len(self.end.ids)

    @property
    def has_types(self) -> bool:
        """Whether a type is other than 0."""
        return any((*self.begin.types, *self.middle.types, *self.end.types, *self.types))

    def without_special_tokens(self) -> Layout:
        """The texts alone."""
        return Layout(_NONE, _NONE, _NONE, self.types)

    def row_types(self, first: list[int], second: list[int] | None) -> list[int]:
        """The token types of a row."""
        texts = [self.types[0]] * len(first), [self.types[1]] * len(second or ())
        return [*self.begin.types, *texts[0], *self.middle.types, *texts[1], *self.end.types]

    def row(self, first: list[int], second: list[int] | None) -> list[int]:
        """The ids of a row."""
        return [*self.begin.ids, *first, *self.middle.ids, *(second or ()), *self.end.ids]


_NONE = Specials([], [], [])


@dataclass(frozen=True)
class Template:
    """The rows of one text and of two.

    Attributes:
        processor: as tokenizer.json has it, to be written again.
        trims: whether it excludes white space from offsets; None where it does not say.
    """

    single: Layout
    pair: Layout
    processor: _Processor | None = None
    trims: bool | None = None

    def is_like(self, other: Template) -> bool:
        """Whether rows of both are the same."""
        return (self.single, self.pair) == (other.single, other.pair)


@lru_cache(maxsize=64)  # every call of a tokenizer asks for it
def roberta_template(cls: tuple[str, int], sep: tuple[str, int]) -> Template:
    """RoBERTa's rows, of the text and the id of its two tokens."""
    begin, end = _specials([cls], 0), _specials([sep], 0)
    return Template(Layout(begin, _NONE, end, (0, 0)), Layout(begin, _specials([sep, sep], 0), end, (0, 0)))


def _specials(tokens: Sequence[tuple[str, int]], kind: int) -> Specials:
    return Specials([index for _, index in tokens], [token for token, _ in tokens], [kind] * len(tokens))


# -- reading -------------------------------------------------------------------------------------------------------


def read_template(where: str, processor: _Processor | None) -> Template:
    """The template of a post_processor; without one, a row has its texts alone.

    Raises:
        CheckpointError: another kind, a damaged one, or one that cannot make rows of one text and of two.
    """
    parts = _parts(where, processor)
    trims = [
        bool(part.get("trim_offsets", True)) for part in parts if part["type"] in ("ByteLevel", "RobertaProcessing")
    ]
    makers = [part for part in parts if part["type"] != "ByteLevel"]
    if len(makers) > 1:
        raise CheckpointError(f"{where} adds special tokens {len(makers)} times; it must do so once at most")
    try:
        single, pair = _MAKERS[makers[0]["type"]](makers[0]) if makers else (_bare(), _bare())
    except (KeyError, TypeError, ValueError, IndexError) as error:
        what = f"{type(error).__name__}: {error}; {json.dumps(processor)[:200]}"
        raise CheckpointError(f"{where} is damaged, or cannot make rows of one text and of two: {what}") from None
    return Template(single, pair, processor, any(trims) if trims else None)


def _parts(where: str, processor: _Processor | None) -> list[_Processor]:
    """The processors of a sequence, which may be nested, or the only one."""
    if processor is None:
        return []
    kind = processor.get("type") if isinstance(processor, Mapping) else None
    if kind == "Sequence" and isinstance(processor.get("processors"), list):
        return [part for inner in processor["processors"] for part in _parts(where, inner)]
    if not isinstance(kind, str) or (kind != "ByteLevel" and kind not in _MAKERS):
        kinds = ", ".join(("ByteLevel", "Sequence", *_MAKERS))
        raise CheckpointError(f"{where} is {json.dumps(processor)[:80]}; it must be null, or of the type {kinds}")
    return [processor]


def _bare() -> Layout:
    return Layout(_NONE, _NONE, _NONE, (0, 1))


def _token(entry: Any) -> tuple[str, int]:
    text, index = entry
    if not isinstance(text, str) or type(index) is not int or index < 0:
        raise ValueError(f"{entry!r} is not a token with its id")
    return text, index


def _roberta(processor: _Processor) -> tuple[Layout, Layout]:
    made = roberta_template(_token(processor["cls"]), _token(processor["sep"]))
    return made.single, made.pair


def _bert(processor: _Processor) -> tuple[Layout, Layout]:
    begin, sep = _specials([_token(processor["cls"])], 0), _token(processor["sep"])
    end = _specials([sep], 0)
    return Layout(begin, _NONE, end, (0, 0)), Layout(begin, end, _specials([sep], 1), (0, 1))


def _written(processor: _Processor) -> tuple[Layout, Layout]:
    special = processor["special_tokens"]
    return _layout(processor["single"], special, ["A"]), _layout(processor["pair"], special, ["A", "B"])


def _layout(pieces: Sequence[Any], special: Mapping[str, Any], texts: list[str]) -> Layout:
    """The layout of a list of pieces, each a special token or a text."""
    groups, types, found = [Specials([], [], [])], [], []
    for piece in pieces:
        ((kind, value),) = piece.items()
        if kind == "Sequence":
            found.append(value["id"])
            types.append(int(value["type_id"]))
            groups.append(Specials([], [], []))
            continue
        entry = special[value["id"]]
        for token in zip(entry["tokens"], entry["ids"], strict=True):
            text, index = _token(token)
            groups[-1].ids.append(index)
            groups[-1].tokens.append(text)
            groups[-1].types.append(int(value["type_id"]))
    if found != texts:
        raise ValueError(f"its texts are {found}; they must be {texts}")
    middle = groups[1] if len(texts) > 1 else _NONE
    return Layout(groups[0], middle, groups[-1], (types[0], types[-1] if len(texts) > 1 else 0))


_MAKERS: dict[str, Callable[[_Processor], tuple[Layout, Layout]]] = {
    "RobertaProcessing": _roberta,
    "BertProcessing": _bert,
    "TemplateProcessing": _written,
}


# -- writing -------------------------------------------------------------------------------------------------------


def with_settings(processor: object, settings: Mapping[str, bool]) -> Any:
    """A post_processor with other values for those of the settings (`add_prefix_space`, `trim_offsets`) that it has."""
    if not isinstance(processor, Mapping):
        return processor
    changed = {**processor, **{name: value for name, value in settings.items() if name in processor}}
    if "processors" in changed:
        changed["processors"] = [with_settings(part, settings) for part in changed["processors"]]
    return changed


def with_tokens(processor: object, renamed: Mapping[str, str], id_of: Callable[[str], int | None]) -> Any:
    """A post_processor for another vocabulary: its tokens under their new texts and ids.

    Raises:
        ValueError: the vocabulary lacks one.
    """
    if not isinstance(processor, Mapping):
        return processor

    def moved(token: str) -> tuple[str, int]:
        text = renamed.get(token, token)
        index = id_of(text)
        if index is None:
            raise ValueError(f"the post_processor needs the token {text!r}, which is not in the vocabulary")
        return text, index

    changed = dict(processor)
    for name in ("cls", "sep"):
        if name in changed:
            changed[name] = list(moved(changed[name][0]))
    if "processors" in changed:
        changed["processors"] = [with_tokens(part, renamed, id_of) for part in changed["processors"]]
    if "special_tokens" in changed:
        changed["special_tokens"] = {}
        for name, entry in processor["special_tokens"].items():
            tokens = [moved(token) for token in entry["tokens"]]
            ids = [index for _, index in tokens]
            changed["special_tokens"][name] = {**entry, "ids": ids, "tokens": [text for text, _ in tokens]}
    return changed
