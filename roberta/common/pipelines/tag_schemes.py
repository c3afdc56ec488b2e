"""Entities in a row of tags, by the rule of CoNLL: where each begins and ends, in every scheme of tags.

A tag is "O", outside of every entity, or a mark and a type: "B-LOC" begins an entity, "I-LOC" is inside of one. The
scheme follows from the labels alone, so that truth and predictions are read alike. A row that breaks its scheme, as
predictions do, is read as the script `conlleval` reads it: "I-" after "O" or after another type begins an entity. That
rule is right for IOB1 too, the scheme of CoNLL-2003's own files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

_OUTSIDE = "O"
SchemeKind = Literal["BIO", "BIOES", "IO", "plain", "none"]

# Mark -> its role: begins an entity, is inside one, ends one, or is one. BILOU has L and U, BMES has M, some have W.
MARKS = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S", "W": "S"}
_MEANING: dict[SchemeKind, str] = {
    "BIO": "B- begins an entity",
    "BIOES": "B- begins an entity, E- or L- ends it, S- or U- is one of one word",
    "IO": "neighbours of one type are one entity",
    "plain": "each label is a type, neighbours of one label are one entity",
    "none": "no label is O and none begins with B- or I-, so they name no entities: only the accuracy of words is measured",
}


class ParsedLabel(NamedTuple):
    """A label in its parts: the mark "B", "I", "E" or "S", and the type; the mark is "" outside entities."""

    mark: str
    type: str


class EntitySpan(NamedTuple):
    """An entity: words `start` to `stop` of a row."""

    type: str
    start: int
    stop: int


@dataclass(frozen=True)
class Scheme:
    """How the labels of a model name entities; made by `scheme_of`.

    Attributes:
        kind: "BIO" (with IOB1), "BIOES" (with BILOU), "IO", "plain" for types without marks beside "O", or "none".
        tags: the parts of each label; empty for "none".
    """

    kind: SchemeKind
    tags: Mapping[str, ParsedLabel] = field(default_factory=dict)

    def spans(self, row: Sequence[str]) -> list[EntitySpan]:
        """The entities of a row of labels, in order. Example, BIO: O B-LOC I-LOC B-LOC -> LOC 1:3, LOC 3:4."""
        return list(_spans([self.tags[label] for label in row]))

    def __str__(self) -> str:
        """A line for users."""
        types = sorted({tag.type for tag in self.tags.values() if tag.type})
        listed = f" of {', '.join(types[:8])}{', ...' * (len(types) > 8)}" if types else ""
        name = {"plain": "types without marks", "none": "no entities"}.get(self.kind, self.kind)
        return f"tags: {name}{listed}; {_MEANING[self.kind]}"


def scheme_of(labels: Iterable[str]) -> Scheme:
    """The scheme of a model's labels.

    Labels have marks where one of them begins with "B-" or "I-" ("B_" and "I_" too), or where there is an "O" and all
    others begin with a mark. "B", "I" and the like alone, which name no type, are marks if all labels are like that.
    Without marks, an "O" tells entities from other labels, such as parts of speech.
    """
    every = dict.fromkeys(labels)
    names, has_outside = [label for label in every if label != _OUTSIDE], _OUTSIDE in every
    begins = [label for label in names if label[:1] in ("B", "I") and _mark(label)]
    has_types = any(len(label) > 1 for label in names)
    is_marked = bool(names) and all(map(_mark, names)) and bool(begins or (has_outside and has_types))
    if is_marked or any(len(label) > 1 for label in begins):
        tags = {label: _marked(label) for label in names}
        marks = {tag.mark for tag in tags.values()}
        kind: SchemeKind = "BIOES" if marks & {"E", "S"} else "BIO" if "B" in marks else "IO"
    elif has_outside:
        tags, kind = {label: ParsedLabel("I", label) for label in names}, "plain"
    else:
        return Scheme("none")
    return Scheme(kind, {_OUTSIDE: ParsedLabel("", ""), **tags})


def _mark(label: str) -> str:
    """The mark of a label, such as "B" of "B-LOC" and of "B"; "" where it has none."""
    has_type = label[1:2] in ("-", "_") and len(label) > 2
    return MARKS.get(label[:1], "") if has_type or len(label) == 1 else ""


def _marked(label: str) -> ParsedLabel:
    """The parts of a label among others with marks; without a mark it is a type, whose neighbours form one entity."""
    return ParsedLabel(_mark(label), label[2:]) if _mark(label) else ParsedLabel("I", label)


def _spans(tags: Sequence[ParsedLabel]) -> Iterator[EntitySpan]:
    """Entities, told apart as by `conlleval`."""
    start, before = 0, ParsedLabel("", "")
    for place, tag in enumerate([*tags, ParsedLabel("", "")]):
        is_new = tag.mark in ("B", "S") or before.mark in ("", "E", "S") or tag.type != before.type
        if before.mark and (is_new or not tag.mark):
            yield EntitySpan(before.type, start, place)
        if tag.mark and is_new:
            start = place
        before = tag
