"""From the texts of a call to the windows of its rows: which tokens of which text each row takes.

Written once for both tokenizers: only counts of tokens matter here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from roberta.common.tokenizer.encoding import Span
from roberta.common.tokenizer.options import CallOptions
from roberta.common.vocabulary.errors import ArgumentError

# -- the texts -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextBatch:
    """The texts of a call, one after the other; a pair takes two places.

    Args:
        texts: each a str, or a list of words; or the ids of one.
        samples: where in `texts` each sample begins.
        is_pair: for each sample; empty when there are no pairs.
        is_batch: a list was given, not one text.
    """

    texts: list[Any]
    samples: Sequence[int]
    is_pair: list[bool]
    is_batch: bool


def flatten(name: str, text: object, text_pair: object, is_words: bool, *, keeps_empty: bool = False) -> TextBatch:
    """The texts of a call.

    Args:
        name: the argument that `text` is of, for errors.
        keeps_empty: an empty second text of a single pair counts.

    Raises:
        ValueError: something that is not a text, or not a list of words; lists of different lengths; an empty list.
    """
    many = (list, tuple)
    is_batch = isinstance(text, many) and (not is_words or bool(text and isinstance(text[0], many)))
    # one entry a sample: a text, or a pair of them
    if not isinstance(text, many) or not is_batch:
        # an empty second text counts as absent, as in transformers' fast classes
        if text_pair is not None:
            _check_text(_pair_name(name), 0, text_pair, is_words, is_batch=False)
        is_one_pair = text_pair or (keeps_empty and text_pair is not None)
        samples: list[Any] = [(text, text_pair)] if is_one_pair else [text]
    elif text_pair is None:
        samples = list(text)
    elif not isinstance(text_pair, many) or len(text_pair) != len(text):
        count = f"{len(text_pair)}" if isinstance(text_pair, many) else f"a {type(text_pair).__name__}"
        raise ValueError(f"{name} has {len(text)} texts, so {_pair_name(name)} must be a list of as many, not {count}")
    else:
        samples = list(zip(text, text_pair, strict=True))
    if not samples:
        raise ValueError(f"{name} is an empty list; give at least one text")
    # the common case, fast: nothing but single texts
    if not is_words and set(map(type, samples)) == {str}:
        return TextBatch(samples, range(len(samples)), [], is_batch)
    # pairs take two places of the flat list, so a sample's place is the sum of those before it
    is_pair = [_is_pair(sample, is_words) for sample in samples]
    texts = list(
        chain.from_iterable(sample if pair else (sample,) for sample, pair in zip(samples, is_pair, strict=True))
    )
    starts = np.cumsum([0, *(1 + pair for pair in is_pair)])[:-1].tolist()
    for number, value in enumerate(texts):
        _check_text(name, number, value, is_words, is_batch)
    texts = [list(map(str, value)) if is_words else str(value) for value in texts]
    return TextBatch(texts, starts, is_pair if any(is_pair) else [], is_batch)


def _pair_name(name: str) -> str:
    """The argument that has the second texts."""
    return name.replace("text", "text_pair", 1)


def _is_pair(sample: object, is_words: bool) -> bool:
    """Whether a sample is two texts: two strings, or with `is_words` two lists of words."""
    if not isinstance(sample, list | tuple) or len(sample) != 2:
        return False
    return not is_words or all(isinstance(part, list | tuple) for part in sample)


def _check_text(name: str, number: int, value: object, is_words: bool, is_batch: bool) -> None:
    where = f"text {number} of {name}" if is_batch else name
    if not is_words and not isinstance(value, str):
        hint = "; lists of words need is_split_into_words=True" if isinstance(value, list | tuple) else ""
        raise ArgumentError(f"{where} is {value!r:.80} ({type(value).__name__}), not a str{hint}")
    if is_words and not (isinstance(value, list | tuple) and all(isinstance(word, str) for word in value)):
        raise ArgumentError(f"{where} is {value!r:.80}; with is_split_into_words=True a text is a list of str")


# -- the windows ---------------------------------------------------------------------------------------------------


class Window(NamedTuple):
    """A future row: a part of the sample's first text, and of its second when it is a pair."""

    sample: int
    first: Span
    second: Span | None


def whole_windows(ids: list[list[int]], batch: TextBatch) -> list[Window]:
    """One window for each sample, with all of its tokens."""
    pairs = batch.is_pair or [False] * len(batch.samples)
    return [
        Window(sample, (0, len(ids[at])), (0, len(ids[at + 1])) if pair else None)
        for sample, (at, pair) in enumerate(zip(batch.samples, pairs, strict=True))
    ]


def cut_windows(options: CallOptions, ids: list[list[int]], batch: TextBatch) -> list[Window] | None:
    """The windows of every sample; None, found out fast, when each is one whole text, as most are.

    Args:
        ids: those of each text, without special tokens.
    """
    if not batch.is_pair:
        if options.truncation == "do_not_truncate" or options.max_length is None:
            return None
        room = options.max_length - options.single.size
        if room > 0 and options.stride < room and max(map(len, ids)) <= room:
            return None
    return list(chain.from_iterable(_cut(options, window) for window in whole_windows(ids, batch)))


def _cut(options: CallOptions, whole: Window) -> Iterator[Window]:
    """The rows of one sample: one, or with `return_overflowing_tokens` as many as it takes.

    With overflow, a pair whose texts are both cut gives each window of the first with each of the second.

    Raises:
        ValueError: `max_length` or `stride` does not fit.
    """
    if options.truncation == "do_not_truncate" or options.max_length is None:
        yield whole
        return
    # does the sample fit beside its special tokens?
    sample, (_, first), second = whole
    room = options.max_length - options.layout(second is not None).size
    _check_room(options, room, second is not None)
    if first + (second[1] if second else 0) <= room:
        yield whole
        return
    # it does not: cut each text to its share of the room
    kept_first, kept_second = kept_lengths(
        options.truncation,
        room,
        first,
        second and second[1],
        "max_length",
        options.max_length,
        cuts_second_first=options.cuts_second_first,
    )
    firsts = _spans(options, first, kept_first)
    if second is None:
        yield from (Window(sample, span, None) for span in firsts)
        return
    # in the order of the tokenizers library: both beginnings, then the rest of the first text, then of the second
    seconds = _spans(options, second[1], kept_second)
    yield from (Window(sample, span, other) for span in firsts[:1] for other in seconds[:1])
    yield from (Window(sample, span, other) for span in firsts[1:] for other in seconds)
    yield from (Window(sample, span, other) for span in firsts[:1] for other in seconds[1:])


def _check_room(options: CallOptions, room: int, is_pair: bool) -> None:
    what, special = "a pair" if is_pair else "a text", options.layout(is_pair).size
    if room < 0:
        raise ValueError(
            f"max_length={options.max_length} is less than the {special} special tokens of {what}; "
            "give a larger max_length, or add_special_tokens=False"
        )
    if options.stride and options.stride >= room:
        raise ValueError(
            f"stride={options.stride} must be less than the {room} tokens that max_length={options.max_length} leaves "
            f"beside the {special} special tokens of {what}; give a smaller stride or a larger max_length"
        )
    if options.return_overflowing_tokens and room == 0:
        raise ValueError(
            f"max_length={options.max_length} leaves no room beside the {special} special tokens of {what}, "
            "so that no window can hold the rest; give a larger max_length, or return_overflowing_tokens=False"
        )


def kept_lengths(
    truncation: str,
    room: int,
    first: int,
    second: int | None,
    name: str,
    value: int,
    *,
    cuts_second_first: bool = False,
) -> tuple[int, int]:
    """The number of tokens of each text that stay when together they have more than `room`.

    Args:
        name, value: the argument that limits the room, for the error.
        cuts_second_first: where longest_first cuts both, the first has more of an odd room.
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
    if truncation == "longest_first" and cuts_second_first:
        kept = min(second, max(room - first, room // 2))
        return room - kept, kept
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


def _spans(options: CallOptions, length: int, kept: int) -> list[Span]:
    """The span of `kept` tokens that stays; with overflow also those that cover the rest, `stride` tokens shared."""
    if kept >= length:
        return [(0, length)]
    is_left = options.truncation_side == "left"
    if not options.return_overflowing_tokens:
        return [(length - kept, length)] if is_left else [(0, kept)]
    if options.stride >= kept:
        raise ValueError(
            f"stride={options.stride} must be less than the {kept} tokens of this text that max_length="
            f"{options.max_length} leaves in a row; give a smaller stride or a larger max_length"
        )
    step = kept - options.stride
    starts = range(0, max(length - kept, 0) + step, step)
    spans = [(start, min(start + kept, length)) for start in starts]
    return [(length - end, length - start) for start, end in spans] if is_left else spans
