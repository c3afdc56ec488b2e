"""From the tokens of texts to the rows of a batch: truncation, windows, the special tokens around, padding.

Written once for both tokenizers. What stands around the texts of a row is a `Layout`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from roberta.common.tokenizer.encoding import Encoding, Span
from roberta.common.vocabulary.template import Layout, Specials

Padding = Literal["do_not_pad", "longest", "max_length"]
Truncation = Literal["do_not_truncate", "longest_first", "only_first", "only_second"]
Side = Literal["left", "right"]

PADDINGS = ("longest", "max_length", "do_not_pad")
TRUNCATIONS = ("only_first", "only_second", "longest_first", "do_not_truncate")


class Aligned(Protocol):
    """The tokens of one text, with the characters and the word of each."""

    @property
    def ids(self) -> list[int]:
        """The id of each token."""

    @property
    def tokens(self) -> list[str]:
        """Each token; of an added token the text that it took, white space included."""

    @property
    def offsets(self) -> list[Span]:
        """The characters of each token."""

    @property
    def words(self) -> list[int | None]:
        """The number of the word, or pre-token, of each token."""

    def spans(self) -> list[Span]:
        """The same as `offsets`, where they are read once only: nothing is kept for a second time."""


class Window(NamedTuple):
    """A row to be: a part of the sample's first text, and of its second when it is a pair."""

    sample: int
    first: Span
    second: Span | None


@dataclass(frozen=True)
class Shape:
    """How rows are cut and filled; `max_length` counts the special tokens."""

    add_special_tokens: bool
    truncation: Truncation
    truncation_side: Side
    max_length: int | None
    stride: int
    overflow: bool
    padding: Padding
    padding_side: Side
    pad_to_multiple_of: int | None
    single: Layout  # without special tokens where none are to be added
    pair: Layout
    pad_id: int
    pad_type_id: int
    pad_token: str

    def layout(self, pair: bool) -> Layout:
        """What stands around the texts of a row."""
        return self.pair if pair else self.single

    def special(self, pair: bool) -> int:
        """How many special tokens a row has."""
        return self.layout(pair).size


# -- truncation ----------------------------------------------------------------------------------------------------


def windows(shape: Shape, sample: int, first: int, second: int | None) -> Iterator[Window]:
    """The rows of one sample whose texts have `first` and `second` tokens: one, or with `overflow` as many as it takes.

    With overflow, a pair whose texts are both cut gives each window of the first with each of the second.

    Raises:
        ValueError: `max_length` or `stride` cannot be kept.
    """
    whole = Window(sample, (0, first), None if second is None else (0, second))
    if shape.truncation == "do_not_truncate" or shape.max_length is None:
        yield whole
        return
    room = shape.max_length - shape.special(second is not None)
    _check_room(shape, room, second is not None)
    if first + (second or 0) <= room:
        yield whole
        return
    kept_first, kept_second = kept_lengths(shape.truncation, room, first, second, "max_length", shape.max_length)
    firsts = _cuts(shape, first, kept_first)
    if second is None:
        yield from (Window(sample, cut, None) for cut in firsts)
        return
    seconds = _cuts(shape, second, kept_second)
    yield from (Window(sample, cut, other) for cut in firsts[:1] for other in seconds[:1])
    yield from (Window(sample, cut, other) for cut in firsts[1:] for other in seconds)
    yield from (Window(sample, cut, other) for cut in firsts[:1] for other in seconds[1:])


def _check_room(shape: Shape, room: int, pair: bool) -> None:
    what = "a pair" if pair else "a text"
    if room < 0:
        raise ValueError(
            f"max_length={shape.max_length} is less than the {shape.special(pair)} special tokens of {what}; "
            "give a larger max_length, or add_special_tokens=False"
        )
    if shape.stride and shape.stride >= room:
        raise ValueError(
            f"stride={shape.stride} must be less than the {room} tokens that max_length={shape.max_length} leaves "
            f"beside the {shape.special(pair)} special tokens of {what}; give a smaller stride or a larger max_length"
        )
    if shape.overflow and room == 0:
        raise ValueError(
            f"max_length={shape.max_length} leaves no room beside the {shape.special(pair)} special tokens of {what}, "
            "so that no window can hold the rest; give a larger max_length, or return_overflowing_tokens=False"
        )


def kept_lengths(
    truncation: str, room: int, first: int, second: int | None, name: str, value: int | None
) -> tuple[int, int]:
    """How many tokens of each text stay when together they have more than `room`.

    Args:
        name, value: the argument that says so, for the error.
    """
    if room == 0:
        return 0, 0
    if second is None:
        if truncation == "only_second":
            raise ValueError(
                f"truncation='only_second', but a text of {first} tokens has no second text and only {room} fit "
                f"({name}={value}); use truncation=True for single texts"
            )
        return room, 0
    if truncation == "longest_first":
        # the shorter stays whole if it fits into half of the room; of an odd room the longer (or the second) has more
        short = min(first, second, room // 2)
        return (room - short, short) if first > second else (short, room - short)
    only_first = truncation == "only_first"
    other = second if only_first else first
    if other >= room:
        raise ValueError(
            f"truncation={truncation!r} cannot cut this pair ({name}={value}): its {'second' if only_first else 'first'} "
            f"text alone has {other} tokens of the {room} that fit; use truncation='longest_first' or a larger max_length"
        )
    return (room - other, other) if only_first else (other, room - other)


def _cuts(shape: Shape, length: int, kept: int) -> list[Span]:
    """The window of `kept` tokens that stays, and with `overflow` those that cover the rest, `stride` shared."""
    if kept >= length:
        return [(0, length)]
    is_left = shape.truncation_side == "left"
    if not shape.overflow:
        return [(length - kept, length)] if is_left else [(0, kept)]
    if shape.stride >= kept:
        raise ValueError(
            f"stride={shape.stride} must be less than the {kept} tokens of this text that max_length="
            f"{shape.max_length} leaves in a row; give a smaller stride or a larger max_length"
        )
    step = kept - shape.stride
    starts = range(0, max(length - kept, 0) + step, step)
    spans = [(start, min(start + kept, length)) for start in starts]
    return [(length - end, length - start) for start, end in spans] if is_left else spans


# -- rows of ids ---------------------------------------------------------------------------------------------------


def id_rows(
    shape: Shape, texts: Sequence[list[int]], samples: Sequence[int], plan: Sequence[Window]
) -> list[list[int]]:
    """The ids of each row, special tokens included.

    Args:
        texts: the ids of each text.
        samples: where in `texts` each sample begins.
    """
    rows = []
    for sample, (start, end), second in plan:
        at, layout = samples[sample], shape.layout(second is not None)
        row = layout.begin.ids + texts[at][start:end]
        if second is not None:
            row += layout.middle.ids
            row += texts[at + 1][second[0] : second[1]]
        rows.append(row + layout.end.ids)
    return rows


def offset_rows(
    shape: Shape, texts: Sequence[Aligned], samples: Sequence[int], plan: Sequence[Window]
) -> list[list[Span]]:
    """The offsets of each row, (0, 0) for special tokens."""
    rows = []
    for sample, first, second in plan:
        at, (begin, middle, end, _) = samples[sample], shape.layout(second is not None)
        row = [(0, 0)] * len(begin.ids) + texts[at].offsets[slice(*first)]
        if second is not None:
            row += [(0, 0)] * len(middle.ids) + texts[at + 1].offsets[slice(*second)]
        rows.append(row + [(0, 0)] * len(end.ids))
    return rows


# -- padding -------------------------------------------------------------------------------------------------------


def padded_length(shape: Shape, lengths: Sequence[int]) -> int | None:
    """The length that shorter rows are filled up to; None for no padding."""
    if shape.padding == "do_not_pad" or (shape.padding == "max_length" and shape.max_length is None):
        return None
    length = max(lengths, default=0) if shape.padding == "longest" else shape.max_length or 0
    multiple = shape.pad_to_multiple_of
    return length + -length % multiple if multiple else length


def pad_rows(rows: list[list[Any]], width: int | None, value: Any, side: Side) -> list[list[Any]]:
    """The rows, those shorter than `width` filled with `value`; the rows themselves when there is nothing to fill."""
    if width is None:
        return rows
    if side == "left":
        return [[value] * (width - len(row)) + row for row in rows]
    return [row + [value] * (width - len(row)) for row in rows]


def id_arrays(
    rows: list[list[int]], lengths: list[int], width: int, pad_id: int, side: Side
) -> tuple[np.ndarray, np.ndarray]:
    """Padded ids and attention mask, int64, (rows, width)."""
    flat = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=sum(lengths))
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    done = 0
    for row, mask_row, length in zip(ids, mask, lengths, strict=True):
        place = slice(0, length) if side == "right" else slice(width - length, width)
        row[place] = flat[done : done + length]
        mask_row[place] = 1
        done += length
    return ids, mask


def offset_array(
    spans: Iterable[list[Span]], lengths: list[int], width: int, side: Side, begin: int, end: int
) -> np.ndarray:
    """Padded offsets, int64, (rows, width, 2).

    Args:
        spans: the offsets of each row, without the special tokens: `begin` before them and `end` behind.
        lengths: with them.
    """
    flat = np.fromiter(chain.from_iterable(chain.from_iterable(spans)), dtype=np.int64).reshape(-1, 2)
    offsets = np.zeros((len(lengths), width, 2), dtype=np.int64)
    done = 0
    for row, length in zip(offsets, lengths, strict=True):
        start = begin + (0 if side == "right" else width - length)
        count = length - begin - end
        row[start : start + count] = flat[done : done + count]
        done += count
    return offsets


# -- rows with everything ------------------------------------------------------------------------------------------


def encodings(
    shape: Shape,
    texts: Sequence[Aligned],
    samples: Sequence[int],
    plan: Sequence[Window],
) -> list[Encoding]:
    """Every row with tokens, offsets, words and masks, padded; a sample's later windows also in its first's overflow."""
    rows = [_encoding(shape, texts, samples, window) for window in plan]
    width = padded_length(shape, [len(row) for row in rows])
    for row in rows:
        if width is not None and len(row) < width:
            _pad(row, width - len(row), shape)
    firsts: dict[int, Encoding] = {}
    for row, window in zip(rows, plan, strict=True):
        first = firsts.setdefault(window.sample, row)
        if first is not row:
            first.overflowing.append(row)
    return rows


def _encoding(
    shape: Shape,
    texts: Sequence[Aligned],
    samples: Sequence[int],
    window: Window,
) -> Encoding:
    row = Encoding([], [], [], [], [], [], [], [])
    layout = shape.layout(window.second is not None)
    _append_special(row, layout.begin)
    for number, span in enumerate((window.first, window.second)):
        if span is None:
            break
        if number:
            _append_special(row, layout.middle)
        text = texts[samples[window.sample] + number]
        part = slice(*span)
        tokens = text.tokens[part]
        count = len(tokens)
        row.ids += text.ids[part]
        row.type_ids += [layout.types[number]] * count
        row.tokens += tokens
        row.offsets += text.offsets[part]
        row.word_ids += text.words[part]
        row.sequence_ids += [number] * count
        row.special_tokens_mask += [0] * count
        row.attention_mask += [1] * count
    _append_special(row, layout.end)
    return row


def _append_special(row: Encoding, special: Specials) -> None:
    for index, token, kind in zip(*special, strict=True):
        for values, value in _entries(row, index, kind, token, 1, 1):
            values.append(value)


def _pad(row: Encoding, count: int, shape: Shape) -> None:
    for values, value in _entries(row, shape.pad_id, shape.pad_type_id, shape.pad_token, 1, 0):
        if shape.padding_side == "left":
            values[:0] = [value] * count
        else:
            values += [value] * count


def _entries(
    row: Encoding, index: int, type_id: int, token: str, special: int, attention: int
) -> list[tuple[list[Any], Any]]:
    """Each list of a row with the entry of a token that is of no text."""
    return [
        (row.ids, index),
        (row.type_ids, type_id),
        (row.tokens, token),
        (row.offsets, (0, 0)),
        (row.word_ids, None),
        (row.sequence_ids, None),
        (row.special_tokens_mask, special),
        (row.attention_mask, attention),
    ]
