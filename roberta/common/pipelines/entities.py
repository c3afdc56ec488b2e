"""Entities of labelled tokens or words: which neighbours form one, and which of two overlapping ones stays.

Labels are "B-PER", "I-PER" and the like, plain ones such as "PER", or those of BIOES and BILOU, which also mark the last
word of an entity and an entity of one word.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from roberta.common.pipelines.tag_schemes import MARKS

Strategy = Literal["none", "simple", "first", "average", "max"]
WORD_STRATEGIES = ("first", "average", "max")
Entity = dict[str, Any]


class LabelledPart(NamedTuple):
    """A token or a word: its label, score, tokens and characters."""

    label: str
    score: float
    tokens: Sequence[str]
    start: int
    end: int


def _bare(label: str) -> str:
    """A label without "B-" or "I-"."""
    return label[2:] if label.startswith(("B-", "I-")) else label


def token_groups(parts: Iterable[LabelledPart]) -> Iterator[list[LabelledPart]]:
    """Neighbours of one label; "B-" begins a new group, as in transformers."""
    group: list[LabelledPart] = []
    for part in parts:
        if group and (part.label.startswith("B-") or _bare(part.label) != _bare(group[-1].label)):
            yield group
            group = []
        group.append(part)
    if group:
        yield group


class Words:
    """Puts neighbouring words together.

    Args:
        labels: all labels of the model, which show whether "S-" and the like are marks or the beginning of a name.
        are_whole: whether words are those of the data that models learn from, so that every mark counts: the caller's own,
            or those of a tokenizer that is not byte-level.
    """

    def __init__(self, labels: Collection[str], *, are_whole: bool) -> None:
        self.marks = {label: self.mark(label, labels) for label in labels}
        self.are_whole = are_whole

    @staticmethod
    def mark(label: str, labels: Collection[str]) -> tuple[str, str]:
        """The mark of a label, by `MARKS`, or "", and the kind: "B-PER" -> ("B", "PER")."""
        mark, dash, kind = label[:1], label[1:2], label[2:]
        if dash in ("-", "_") and kind and (mark in ("B", "I") or (mark in MARKS and f"B{dash}{kind}" in labels)):
            return MARKS[mark], kind
        return "", label

    def groups(self, text: str, words: Iterable[LabelledPart]) -> Iterator[list[LabelledPart]]:
        """Groups of words that form one entity, or have one label.

        White space between words belongs to the group around it, whatever its own label is; between two groups it is
        left out.
        """
        group: list[LabelledPart] = []
        gap: list[LabelledPart] = []
        for word in words:
            if not text[word.start : word.end].strip():
                gap.append(word)
                continue
            # the characters of some tokens begin with the space before them
            start = word.start + len(word_text := text[word.start : word.end]) - len(word_text.lstrip())
            if group and self.goes_on(group[-1], gap, word, text[group[-1].end : start]):
                between = [token for blank in gap for token in blank.tokens]
                group.append(word._replace(tokens=[*between, *word.tokens]))
            else:
                if group:
                    yield group
                group = [word]
            gap = []
        if group:
            yield group

    def goes_on(self, before: LabelledPart, gap: Sequence[LabelledPart], word: LabelledPart, between: str) -> bool:
        """Whether a word continues the entity of the word before, with only white space between them.

        No entity continues over the end of a line. Without white space between, a word of the same kind continues it
        whatever its mark is: "U.S." is four words here, but one in the data that models learn from, with one mark.
        """
        (last, kind), (mark, other) = self.marks[before.label], self.marks[word.label]
        if kind != other or len(f"{between}.".splitlines()) > 1:
            return False
        if not mark:
            return all(blank.label == word.label for blank in gap)
        touches = not between and not self.are_whole
        return touches or not (mark in ("B", "S") or last in ("E", "S"))


def word_label(scores: np.ndarray, strategy: Strategy) -> tuple[int, float]:
    """The label of a word and its score, from the scores of its tokens, (tokens, labels)."""
    if strategy == "first":
        row = scores[0]
    elif strategy == "max":
        row = scores[int(scores.max(axis=1).argmax())]
    else:
        row = scores.mean(axis=0)
    return int(row.argmax()), float(row.max())


def without_overlaps(entities: Sequence[Entity]) -> list[Entity]:
    """The longer of two entities that share characters, from two windows; the likelier if they are equally long."""
    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda entity: entity["start"]):
        if not kept or not kept[-1]["start"] <= entity["start"] < kept[-1]["end"]:
            kept.append(entity)
        elif _weight(entity) > _weight(kept[-1]):
            kept[-1] = entity
    return kept


def _weight(entity: Entity) -> tuple[int, float]:
    """What decides between two overlapping entities: length, then score."""
    return entity["end"] - entity["start"], entity["score"]
