"""Token classification: the entities of a text, token by token or put together."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from roberta.common.pipelines.arrays import labels_of_outputs, rectangle, softmax
from roberta.common.pipelines.base import Row, TextPipeline
from roberta.common.pipelines.entities import (
    WORD_STRATEGIES,
    Entity,
    LabelledPart,
    Strategy,
    Words,
    token_groups,
    without_overlaps,
    word_label,
)
from roberta.common.pipelines.inputs import Item, PipelineOptions, require_count, shown, text_of
from roberta.common.pipelines.windows import Text, TextWindow, spans, tokenised, tokenised_words
from roberta.common.vocabulary.builders import WORD_START


@dataclass(frozen=True)
class TagOptions(PipelineOptions):
    """How tokens become entities.

    Args:
        aggregation_strategy: "none" gives each token; "simple" puts neighbours of one label together; "first",
            "average" and "max" first give each word one label: that of its first token, of the mean of its tokens'
            scores, or of its highest score.
        ignore_labels: names of results to leave out: "LOC" for entities that are put together, "B-LOC" for tokens
            ("none"). A name that no result can have causes a warning.
        stride: tokens that two windows of a long text share; None cuts long texts.
        is_split_into_words: an input is a list of words, which are kept.
        delimiter: the text between such words, where characters are counted.
    """

    aggregation_strategy: Strategy = "none"
    ignore_labels: Sequence[str] = ("O",)
    stride: int | None = None
    is_split_into_words: bool = False
    delimiter: str = " "

    def __post_init__(self) -> None:
        strategies = get_args(Strategy)
        if self.aggregation_strategy not in strategies:
            raise ValueError(
                f"aggregation_strategy={self.aggregation_strategy!r} must be one of {', '.join(strategies)}"
            )
        if isinstance(self.ignore_labels, str):
            raise ValueError(f"ignore_labels={self.ignore_labels!r} must be a list of labels")
        if not isinstance(self.delimiter, str):
            raise ValueError(f"delimiter={self.delimiter!r} must be a str")
        require_count("stride", self.stride, least=0)
        if self.stride is not None and self.aggregation_strategy == "none":
            raise ValueError(
                f'stride={self.stride} needs an aggregation_strategy other than "none": entities of two windows are '
                "told apart by their characters"
            )


@dataclass(frozen=True)
class SplitText:
    """An input that is already split into words."""

    words: Any


class Tag(TextPipeline[TagOptions]):
    """Texts in, entities out.

    The result of a text is a list in the order of the text: of {"entity", "score", "index", "word", "start", "end"},
    one per token, or with an aggregation strategy of {"entity_group", "score", "word", "start", "end"}. `start` and
    `end` count characters, `index` tokens, `<s>` being 0.

    With `is_split_into_words` an input is a list of words; characters are those of the words with `delimiter` between.
    As in transformers, one list of words gives a list of one result.
    """

    task = "token-classification"
    head = "ForTokenClassification"

    def __call__(self, inputs: object, **options: Any) -> Any:
        """See `Pipeline.__call__`."""
        chosen = self.options.updated(options)
        self._check_ignored(chosen)
        if not chosen.is_split_into_words:
            return super().__call__(inputs, **options)
        if isinstance(inputs, str | bytes | Mapping) or not isinstance(inputs, Iterable):
            raise ValueError(f"{_unsplit('the input', inputs)}; give a list of words, or is_split_into_words=False")
        if not isinstance(inputs, list | tuple):
            return super().__call__(map(_sentence, inputs), **options)
        is_one = bool(inputs) and all(isinstance(word, str) for word in inputs)
        return super().__call__(list(map(_sentence, [inputs] if is_one else inputs)), **options)

    def _check_ignored(self, options: TagOptions) -> None:
        """Warn of an ignored label that no result has; "O" is always accepted."""
        labels = self.model.config.id2label.values()
        names = set(labels) if options.aggregation_strategy == "none" else set(map(_group_name, labels))
        unknown = [name for name in options.ignore_labels if name not in names and name != "O"]
        if unknown:
            warnings.warn(
                f"ignore_labels={list(options.ignore_labels)}: with aggregation_strategy="
                f'"{options.aggregation_strategy}" no result is named {unknown[0]!r}; the names are '
                f"{', '.join(sorted(names))}",
                stacklevel=3,
            )

    def checked(self, item: Item) -> Any:
        """The text, or the sentence, each of whose words is a text."""
        if not isinstance(item.value, SplitText):
            return text_of(item.value, item.name)
        words = item.value.words
        if not isinstance(words, list | tuple):
            raise ValueError(f"{_unsplit(item.name, words)}; give a list of words, or is_split_into_words=False")
        return SplitText([text_of(word, f"{item.name}[{number}]") for number, word in enumerate(words)])

    def characters(self, item: Item) -> int:
        """Length of the text, or of all words, in characters."""
        return sum(map(len, item.value.words)) if isinstance(item.value, SplitText) else len(item.value)

    def rows(self, items: Sequence[Item], options: TagOptions) -> list[list[Row]]:
        """A row for each window of each text."""
        room = self.limit - self.tokenizer.num_special_tokens_to_add()
        stride = 0 if options.stride is None else options.stride
        if room <= stride:
            raise ValueError(f"stride={stride} leaves no new token for a window of {room}; lower it")
        if options.is_split_into_words:
            texts = tokenised_words(self.tokenizer, [item.value.words for item in items], len(options.delimiter))
        else:
            texts = tokenised(self.tokenizer, [item.value for item in items])
        found = [spans(len(text.ids), room, stride) for text in texts]
        if options.stride is None:
            _warn_of_cut([pair for pair in zip(items, texts, strict=True) if len(pair[1].ids) > room], room)
            found = [windows[:1] for windows in found]
        begin = len(self.tokenizer.layout().begin.ids)
        return [
            [self.row_of(text.ids[slice(*span)].tolist(), note=TextWindow(text, *span, begin)) for span in windows]
            for text, windows in zip(texts, found, strict=True)
        ]

    def memory(self, rows: Sequence[Row], options: TagOptions) -> tuple[np.ndarray, int, bool]:
        """The logits of each token."""
        return np.array([len(row.ids) for row in rows]), 8 * self.model.config.num_labels, True

    def run(self, rows: Sequence[Row], options: TagOptions) -> list[np.ndarray]:
        """The probabilities of each row's own tokens, (tokens, labels)."""
        _, mask = rectangle([row.ids for row in rows], 0)
        where = mask == 1
        scores = softmax(self.infer(rows, where)["logits"].astype(np.float64))
        labels_of_outputs(self.model.config, scores.shape[-1])
        ends = np.cumsum([len(row.ids) for row in rows])
        windows = [row.note for row in rows]
        parts = zip(np.split(scores, ends[:-1]), windows, strict=True)
        return [part[window.place :][: window.stop - window.start] for part, window in parts]

    def result(
        self, item: Item, rows: Sequence[Row], values: Sequence[np.ndarray], options: TagOptions
    ) -> list[Entity]:
        """The entities of all windows."""
        ignored = set(options.ignore_labels)
        text = _joined(item.value, options)
        found: list[Entity] = []
        for row, scores in zip(rows, values, strict=True):
            if options.aggregation_strategy == "none":
                entities = self.token_entities(row.note, scores)
            else:
                entities = self.grouped(text, row.note, scores, options)
            found += (e for e in entities if e.get("entity", e.get("entity_group")) not in ignored)
        return without_overlaps(found) if len(rows) > 1 else found

    def token_entities(self, window: TextWindow, scores: np.ndarray) -> Iterator[Entity]:
        """One entity for each token."""
        for index, part in enumerate(self.token_parts(window, scores), start=window.place):
            yield {
                "entity": part.label,
                "score": part.score,
                "index": index,
                "word": part.tokens[0],
                "start": part.start,
                "end": part.end,
            }

    def token_parts(self, window: TextWindow, scores: np.ndarray) -> Iterator[LabelledPart]:
        """Each token under its likeliest label."""
        for token, (start, end), row in zip(window.tokens, window.offsets.tolist(), scores, strict=True):
            best = int(row.argmax())
            yield LabelledPart(self.model.config.id2label[best], float(row[best]), [token], start, end)

    def words(self, text: str, window: TextWindow, scores: np.ndarray, options: TagOptions) -> Iterator[LabelledPart]:
        """Each word under one label; words are the tokenizer's, or the caller's own.

        A token that is only the space before a word does not count for its label, unless the words are the caller's own:
        models learn from the first token of such a word, whatever it is.
        """
        offsets, tokens = window.offsets.tolist(), window.tokens
        for first, last in self.borders(text, offsets, window.words, are_given=options.is_split_into_words):
            said = first
            while (
                not options.is_split_into_words
                and said < last - 1
                and (tokens[said] == WORD_START or not text[slice(*offsets[said])].strip())
            ):
                said += 1
            label, score = word_label(scores[said:last], options.aggregation_strategy)
            name = self.model.config.id2label[label]
            yield LabelledPart(name, score, tokens[first:last], offsets[said][0], offsets[last - 1][1])

    @staticmethod
    def borders(
        text: str, offsets: Sequence[Sequence[int]], numbers: np.ndarray, *, are_given: bool
    ) -> Iterator[tuple[int, int]]:
        """The first token of each word and the one after its last; each punctuation mark in a row such as ".," is a word."""
        edges = [*np.flatnonzero(np.diff(numbers, prepend=-1)).tolist(), len(offsets)]
        for first, last in itertools.pairwise(edges):
            if not are_given and not any(map(str.isalnum, text[offsets[first][0] : offsets[last - 1][1]])):
                for at in range(first + 1, last):
                    if offsets[at - 1][0] < offsets[at - 1][1] <= offsets[at][0]:  # not two bytes of one character
                        yield first, at
                        first = at
            yield first, last

    def grouped(self, text: str, window: TextWindow, scores: np.ndarray, options: TagOptions) -> Iterator[Entity]:
        """The entities of a window: tokens, or words, put together."""
        if options.aggregation_strategy in WORD_STRATEGIES:
            labels = set(self.model.config.id2label.values())
            words = self.words(text, window, scores, options)
            are_whole = options.is_split_into_words or not self.tokenizer.is_byte_level
            groups = Words(labels, are_whole=are_whole).groups(text, words)
            if not self.tokenizer.is_byte_level:
                # as in transformers, each word becomes text by itself
                groups = ([part._replace(tokens=[self.text_of_tokens(part.tokens)]) for part in g] for g in groups)
        else:
            groups = token_groups(self.token_parts(window, scores))
        return map(self.entity, groups)

    def text_of_tokens(self, tokens: Sequence[str]) -> str:
        """The text of tokens."""
        return str(self.tokenizer.convert_tokens_to_string(list(tokens)))

    def entity(self, group: Sequence[LabelledPart]) -> Entity:
        """One entity from its parts; its score is their mean."""
        return {
            "entity_group": _group_name(group[0].label),
            "score": float(np.mean([part.score for part in group])),
            "word": self.text_of_tokens([token for part in group for token in part.tokens]),
            "start": group[0].start,
            "end": group[-1].end,
        }


def _sentence(words: object) -> SplitText | ValueError:
    """Words as an input; the error of an input that could not be read stays an error."""
    return words if isinstance(words, ValueError) else SplitText(words)


def _warn_of_cut(cut: Sequence[tuple[Item, Text]], room: int) -> None:
    """One warning, however many texts are cut."""
    if cut:
        item, text = cut[0]
        have = f"has {len(text.ids)}" if len(cut) == 1 else f"and {len(cut) - 1} more have over {room}"
        warnings.warn(
            f"{item.name} {have} tokens, of which the first {room} are tagged; pass stride=32, say, with an "
            'aggregation_strategy other than "none", to tag all',
            stacklevel=3,
        )


def _group_name(label: str) -> str:
    """The name of entities with a label: the label without "B-" or "I-"."""
    return label.partition("-")[2] or label


def _joined(value: str | SplitText, options: TagOptions) -> str:
    """The text in which characters are counted."""
    return options.delimiter.join(value.words) if isinstance(value, SplitText) else value


def _unsplit(name: str, value: object) -> str:
    """The beginning of the error about an input that is not a list of words."""
    return f"{name} is {shown(value)} ({type(value).__name__}), and with is_split_into_words=True it must be words"
