"""From the texts of a call to a flat list of them, and from their ids to the fields of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from roberta.common.tokenizer.encoding import Span
from roberta.common.tokenizer.rows import (
    Aligned,
    Shape,
    Window,
    id_arrays,
    id_rows,
    offset_array,
    offset_rows,
    pad_rows,
    padded_length,
    windows,
)
from roberta.common.vocabulary.errors import ArgumentError


@dataclass(frozen=True)
class Batch:
    """The texts of a call, one after the other; a pair takes two places.

    Args:
        samples: where in `texts` each sample begins.
        is_pair: for each sample; empty when none is.
        is_batch: a list was given, not one text.
    """

    texts: list[Any]
    samples: Sequence[int]
    is_pair: list[bool]
    is_batch: bool


def flatten(name: str, text: Any, text_pair: Any, is_words: bool) -> Batch:
    """The texts of a call.

    Raises:
        ValueError: something that is no text, or no list of words; lists of different lengths; an empty list.
    """
    many = (list, tuple)
    is_batch = isinstance(text, many) and (not is_words or bool(text and isinstance(text[0], many)))
    if not is_batch:
        # an empty second text is none, as in transformers' fast class
        if text_pair is not None:
            _check_text(_pair_name(name), 0, text_pair, is_words, is_batch=False)
        samples: list[Any] = [(text, text_pair)] if text_pair else [text]
    elif text_pair is None:
        samples = list(text)
    elif not isinstance(text_pair, many) or len(text_pair) != len(text):
        count = f"{len(text_pair)}" if isinstance(text_pair, many) else f"a {type(text_pair).__name__}"
        raise ValueError(f"{name} has {len(text)} texts, so {_pair_name(name)} must be a list of as many, not {count}")
    else:
        samples = list(zip(text, text_pair, strict=True))
    if not samples:
        raise ValueError(f"{name} is an empty list; give at least one text")
    if not is_words and set(map(type, samples)) == {str}:
        return Batch(samples, range(len(samples)), [], is_batch)
    is_pair = [_is_pair(sample, is_words) for sample in samples]
    texts = list(
        chain.from_iterable(sample if pair else (sample,) for sample, pair in zip(samples, is_pair, strict=True))
    )
    starts = np.cumsum([0, *(1 + pair for pair in is_pair)])[:-1].tolist()
    for number, value in enumerate(texts):
        _check_text(name, number, value, is_words, is_batch)
    texts = [list(map(str, value)) if is_words else str(value) for value in texts]
    return Batch(texts, starts, is_pair if any(is_pair) else [], is_batch)


def _pair_name(name: str) -> str:
    """The argument that has the second texts."""
    return name.replace("text", "text_pair", 1)


def _is_pair(sample: Any, is_words: bool) -> bool:
    """Whether a sample is two texts: two strings, or with `is_words` two lists of words."""
    if not isinstance(sample, list | tuple) or len(sample) != 2:
        return False
    return not is_words or all(isinstance(part, list | tuple) for part in sample)


def _check_text(name: str, number: int, value: Any, is_words: bool, is_batch: bool) -> None:
    where = f"text {number} of {name}" if is_batch else name
    if not is_words and not isinstance(value, str):
        hint = "; lists of words need is_split_into_words=True" if isinstance(value, list | tuple) else ""
        raise ArgumentError(f"{where} is {value!r:.80}, a {type(value).__name__}; a text is a str{hint}")
    if is_words and not (isinstance(value, list | tuple) and all(isinstance(word, str) for word in value)):
        raise ArgumentError(f"{where} is {value!r:.80}; with is_split_into_words=True a text is a list of str")


def whole_plan(ids: list[list[int]], batch: Batch) -> list[Window]:
    """A window a sample, with all of its tokens."""
    pairs = batch.is_pair or [False] * len(batch.samples)
    return [
        Window(sample, (0, len(ids[at])), (0, len(ids[at + 1])) if pair else None)
        for sample, (at, pair) in enumerate(zip(batch.samples, pairs, strict=True))
    ]


def make_plan(shape: Shape, ids: list[list[int]], batch: Batch) -> list[Window] | None:
    """The windows of every sample, or None when each is one whole text, as most are."""
    if not batch.is_pair:
        is_cut = shape.truncation != "do_not_truncate" and shape.max_length is not None
        if not is_cut:
            return None
        assert shape.max_length is not None
        room = shape.max_length - shape.special(False)
        if room > 0 and shape.stride < room and max(map(len, ids)) <= room:
            return None
    plan = whole_plan(ids, batch)
    return list(
        chain.from_iterable(
            windows(shape, sample, first[1], None if second is None else second[1]) for sample, first, second in plan
        )
    )


class Table:
    """The rows of a batch, as lists or as arrays, padded as `shape` says."""

    def __init__(
        self, shape: Shape, ids: list[list[int]], batch: Batch, plan: list[Window] | None, *, as_arrays: bool
    ) -> None:
        self.shape = shape
        self.samples = batch.samples
        self._plan, self._ids, self._batch = plan, ids, batch
        if plan is None:
            begin, end = shape.single.begin.ids, shape.single.end.ids
            self.rows = [begin + row + end for row in ids]
        else:
            self.rows = id_rows(shape, ids, batch.samples, plan)
        self.lengths = list(map(len, self.rows))
        width = padded_length(shape, self.lengths)
        if width is None and as_arrays and len(set(self.lengths)) == 1:
            width = self.lengths[0]
        self.width = width
        self.as_arrays = as_arrays and width is not None and max(self.lengths) <= width

    @property
    def plan(self) -> list[Window]:
        """The window of each row."""
        if self._plan is None:
            self._plan = whole_plan(self._ids, self._batch)
        return self._plan

    def ids_and_mask(self) -> tuple[Any, Any]:
        """Ids and attention mask, (rows, tokens)."""
        side = self.shape.padding_side
        if self.as_arrays and self.width is not None:
            return id_arrays(self.rows, self.lengths, self.width, self.shape.pad_id, side)
        masks: list[list[Any]] = [[1] * length for length in self.lengths]
        return pad_rows(self.rows, self.width, self.shape.pad_id, side), pad_rows(masks, self.width, 0, side)

    def constants(self, special: int, other: int, padding: int) -> Any:
        """One value for special tokens, one for the others, one for padding: (rows, tokens)."""
        rows: list[list[Any]] = []
        for _, first, second in self.plan:
            begin, middle, end, _ = self.shape.layout(second is not None)
            row = [special] * len(begin.ids) + [other] * (first[1] - first[0])
            if second is not None:
                row += [special] * len(middle.ids) + [other] * (second[1] - second[0])
            rows.append(row + [special] * len(end.ids))
        return self._filled(rows, padding)

    def types(self) -> Any:
        """The type of each token: (rows, tokens)."""
        padding = self.shape.pad_type_id
        if not (self.shape.single.has_types or self.shape.pair.has_types):
            return self.constants(0, 0, padding)
        rows: list[list[Any]] = []
        for _, first, second in self.plan:
            begin, middle, end, (one, other) = self.shape.layout(second is not None)
            row = begin.types + [one] * (first[1] - first[0])
            if second is not None:
                row += middle.types + [other] * (second[1] - second[0])
            rows.append(row + end.types)
        return self._filled(rows, padding)

    def _filled(self, rows: list[list[Any]], padding: int) -> Any:
        if self.as_arrays and self.width is not None:
            return id_arrays(rows, self.lengths, self.width, padding, self.shape.padding_side)[0]
        return pad_rows(rows, self.width, padding, self.shape.padding_side)

    def offsets(self, texts: Sequence[Aligned]) -> Any:
        """The characters of each token, (0, 0) for special tokens and padding: (rows, tokens, 2)."""
        side = self.shape.padding_side
        if self.as_arrays and self.width is not None and self._plan is None:
            begin, end = len(self.shape.single.begin.ids), len(self.shape.single.end.ids)
            return offset_array((text.spans() for text in texts), self.lengths, self.width, side, begin, end)
        rows: list[list[Span]] = offset_rows(self.shape, texts, self.samples, self.plan)
        if self.as_arrays and self.width is not None:
            return offset_array(rows, self.lengths, self.width, side, 0, 0)
        return pad_rows(rows, self.width, (0, 0), side)
