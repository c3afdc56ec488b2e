"""Token classification: the entities of a text, token by token or put together."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from roberta.common.pipelines.arrays import check_labels, rectangle, softmax
from roberta.common.pipelines.base import Row, TextPipeline
from roberta.common.pipelines.inputs import Item
from roberta.common.pipelines.options import Options, require_count
from roberta.common.pipelines.windows import Text, spans, tokenised

Strategy = Literal["none", "simple", "first", "average", "max"]
WORD_STRATEGIES = ("first", "average", "max")
Entity = dict[str, Any]


@dataclass(frozen=True)
class TagOptions(Options):
    """How tokens become entities.

    Args:
        aggregation_strategy: "none" gives each token; "simple" puts neighbours of one label together; "first",
            "average" and "max" first give each word one label: that of its first token, of the mean of its tokens'
            scores, or of its highest score.
        ignore_labels: labels that are left out, with or without their "B-" and "I-".
        stride: tokens that two windows of a long text share; None cuts a long text.
    """

    aggregation_strategy: Strategy = "none"
    ignore_labels: Sequence[str] = ("O",)
    stride: int | None = None

    def __post_init__(self) -> None:
        strategies = get_args(Strategy)
        if self.aggregation_strategy not in strategies:
            raise ValueError(
                f"aggregation_strategy={self.aggregation_strategy!r} must be one of {', '.join(strategies)}"
            )
        if isinstance(self.ignore_labels, str):
            raise ValueError(f"ignore_labels={self.ignore_labels!r} must be a list of labels")
        require_count("stride", self.stride, least=0)
        if self.stride is not None and self.aggregation_strategy == "none":
            raise ValueError(
                f'stride={self.stride} needs another aggregation_strategy than "none": entities of two windows are '
                "told apart by their characters"
            )


class Window(NamedTuple):
    """Tokens `start` to `stop` of a text."""

    text: Text
    start: int
    stop: int


class Part(NamedTuple):
    """A token or a word: its label, score, tokens, and characters."""

    label: str
    score: float
    tokens: Sequence[str]
    start: int
    end: int


class Tag(TextPipeline[TagOptions]):
    """Texts in, entities out.

    The result of a text is a list in the order of the text: of {"entity", "score", "index", "word", "start", "end"},
    one a token, or with an aggregation strategy of {"entity_group", "score", "word", "start", "end"}. `start` and
    `end` count characters, `index` tokens, `<s>` being 0.
    """

    task = "token-classification"
    head = "ForTokenClassification"

    def rows(self, items: Sequence[Item], options: TagOptions) -> list[list[Row]]:
        """A row for each window of each text."""
        room = self.limit - 2
        stride = 0 if options.stride is None else options.stride
        if room <= stride:
            raise ValueError(f"stride={stride} leaves no new token for a window of {room}; lower it")
        texts = tokenised(self.tokenizer, [item.value for item in items])
        rows = []
        for item, text in zip(items, texts, strict=True):
            found = spans(len(text.ids), room, stride)
            if options.stride is None and len(found) > 1:
                warnings.warn(
                    f"{item.name} has {len(text.ids)} tokens, of which the first {room} are tagged; pass stride=32, "
                    'say, with an aggregation_strategy other than "none", to tag all',
                    stacklevel=2,
                )
                found = found[:1]
            rows.append([self.row(Window(text, *span)) for span in found])
        return rows

    def row(self, window: Window) -> Row:
        """The ids of a window, with special tokens around."""
        inner = window.text.ids[window.start : window.stop].tolist()
        return Row(self.with_special_tokens(inner), window)

    def memory(self, rows: Sequence[Row], options: TagOptions) -> tuple[np.ndarray, int, bool]:
        """The logits of each token."""
        return np.array([len(row.ids) for row in rows]), 8 * self.model.config.num_labels, True

    def run(self, rows: Sequence[Row], options: TagOptions) -> list[np.ndarray]:
        """The probabilities of each row's own tokens, (tokens, labels)."""
        _, mask = rectangle([row.ids for row in rows], 0)
        where = mask == 1
        scores = softmax(self.infer(rows, where)["logits"].astype(np.float64))
        check_labels(self.model.config, scores.shape[-1])
        ends = np.cumsum([len(row.ids) for row in rows])
        return [part[1:-1] for part in np.split(scores, ends[:-1])]

    def result(
        self, item: Item, rows: Sequence[Row], values: Sequence[np.ndarray], options: TagOptions
    ) -> list[Entity]:
        """The entities of all windows."""
        ignored = set(options.ignore_labels)
        found: list[Entity] = []
        for row, scores in zip(rows, values, strict=True):
            if options.aggregation_strategy == "none":
                entities = self.token_entities(row.note, scores)
            else:
                entities = self.groups(self.parts(item.value, row.note, scores, options.aggregation_strategy))
            found += (e for e in entities if e.get("entity", e.get("entity_group")) not in ignored)
        return without_overlaps(found) if len(rows) > 1 else found

    def token_entities(self, window: Window, scores: np.ndarray) -> Iterator[Entity]:
        """One entity a token."""
        for index, part in enumerate(self.token_parts(window, scores), start=1):
            yield {
                "entity": part.label,
                "score": part.score,
                "index": index,
                "word": part.tokens[0],
                "start": part.start,
                "end": part.end,
            }

    def token_parts(self, window: Window, scores: np.ndarray) -> Iterator[Part]:
        """Each token under its likeliest label."""
        offsets = window.text.offsets[window.start : window.stop].tolist()
        tokens = window.text.tokens[window.start : window.stop]
        for token, (start, end), row in zip(tokens, offsets, scores, strict=True):
            best = int(row.argmax())
            yield Part(self.model.config.id2label[best], float(row[best]), [token], start, end)

    def parts(self, text: str, window: Window, scores: np.ndarray, strategy: Strategy) -> Iterator[Part]:
        """What is put together: tokens, or words with one label each."""
        if strategy not in WORD_STRATEGIES:
            yield from self.token_parts(window, scores)
            return
        offsets = window.text.offsets[window.start : window.stop].tolist()
        tokens = window.text.tokens[window.start : window.stop]
        is_unknown = window.text.ids[window.start : window.stop] == self.tokenizer.unk_token_id
        inside = [is_inside(text, *pair) for pair in itertools.pairwise([(0, 0), *offsets])]
        begins = is_unknown | ~np.array(inside, bool)
        begins[:1] = True
        edges = [*np.flatnonzero(begins).tolist(), len(tokens)]
        for first, last in itertools.pairwise(edges):
            label, score = word_label(scores[first:last], strategy)
            start, end = offsets[first][0], offsets[last - 1][1]
            yield Part(self.model.config.id2label[label], score, tokens[first:last], start, end)

    def groups(self, parts: Iterator[Part]) -> Iterator[Entity]:
        """Neighbours of one label as one entity; "B-" begins a new one."""
        group: list[Part] = []
        for part in parts:
            if group and (part.label.startswith("B-") or bare(part.label) != bare(group[-1].label)):
                yield self.entity(group)
                group = []
            group.append(part)
        if group:
            yield self.entity(group)

    def entity(self, group: Sequence[Part]) -> Entity:
        """One entity of its parts; its score is the mean of theirs."""
        return {
            "entity_group": group[0].label.partition("-")[2] or group[0].label,
            "score": float(np.mean([part.score for part in group])),
            "word": self.tokenizer.convert_tokens_to_string([token for part in group for token in part.tokens]),
            "start": group[0].start,
            "end": group[-1].end,
        }


def bare(label: str) -> str:
    """A label without "B-" or "I-"."""
    return label[2:] if label.startswith(("B-", "I-")) else label


def is_inside(text: str, before: tuple[int, int], token: tuple[int, int]) -> bool:
    """Whether a token goes on with the word of the one before: they share a character, or no space is between.

    Source: RoBERTa's vocabulary marks the beginning of a word by a space, and transformers looks at the text likewise;
    it takes the bytes of one character behind a space for words, though.
    """
    start = token[0]
    return start > 0 and (start < before[1] or " " not in text[start - 1 : start + 1])


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
    """Of entities that share characters, from two windows, the longer one; of equal ones that of the higher score."""
    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda entity: entity["start"]):
        if not kept or not kept[-1]["start"] <= entity["start"] < kept[-1]["end"]:
            kept.append(entity)
        elif weight(entity) > weight(kept[-1]):
            kept[-1] = entity
    return kept


def weight(entity: Entity) -> tuple[int, float]:
    """What decides between two entities: length, then score."""
    return entity["end"] - entity["start"], entity["score"]
