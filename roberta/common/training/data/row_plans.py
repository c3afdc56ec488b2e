"""Where the rows of a packing begin, computed on the lengths of sentences alone, some of them after another.

The rules are those of `packing.pack`, whose rows these are, to the bit; a row is a range of the tokens of a corpus, so
a number for each is all that has to be kept. Nothing here is a Python object for each sentence: a corpus has 10 million
of them for each gigabyte of text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

# Lengths of sentences, none of them 0, and whether a document begins with each.
LengthChunk = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class GreedyRule:
    """How parts of sentences are gathered.

    Attributes:
        cut: tokens of a part, at most; longer sentences have several.
        room: tokens of a row without its <s>, with one </s> for each part if `has_ends`.
        has_ends: whether a part is followed by a </s>.
        crosses: whether a row may hold the end of a document and, after another </s>, the beginning of the next.
        gathers: whether a row holds several parts.
    """

    cut: int
    room: int
    has_ends: bool = True
    crosses: bool = False
    gathers: bool = True


@dataclass(frozen=True)
class RowStarts:
    """Some rows, in their order.

    Attributes:
        starts: the number of the first token of each, int64.
        begin_documents: whether a document begins with each.
        tokens: of all of these rows together, without <s>.
    """

    starts: np.ndarray
    begin_documents: np.ndarray
    tokens: int


def row_starts(chunks: Iterable[LengthChunk], rule: GreedyRule) -> Iterator[RowStarts]:
    """Where rows begin; the memory needed is that of a chunk."""
    token = 0
    sizes, begins = np.zeros(0, np.int64), np.zeros(0, bool)  # parts that are not in a row yet
    for lengths, flags in chunks:
        more_sizes, more_begins = _parts(lengths, flags, rule.cut)
        sizes, begins = np.concatenate([sizes, more_sizes]), np.concatenate([begins, more_begins])
        found, taken = _gathered(sizes, begins, rule, token, is_end=False)
        yield found
        token += int(sizes[:taken].sum())
        sizes, begins = sizes[taken:], begins[taken:]
    yield _gathered(sizes, begins, rule, token, is_end=True)[0]


def _parts(lengths: np.ndarray, flags: np.ndarray, cut: int) -> LengthChunk:
    """Sentences in parts of at most `cut` tokens; a document begins with the first part of its first sentence."""
    counts = -(-lengths // cut)
    if not len(counts) or counts.max() == 1:
        return lengths, flags
    ends = np.cumsum(counts)
    sizes = np.full(int(ends[-1]), cut, np.int64)
    sizes[ends - 1] = lengths - (counts - 1) * cut
    begins = np.zeros(len(sizes), bool)
    begins[ends - counts] = flags
    return sizes, begins


def _gathered(
    sizes: np.ndarray, begins: np.ndarray, rule: GreedyRule, token: int, *, is_end: bool
) -> tuple[RowStarts, int]:
    """The rows of some parts, and how many parts are in them: all at the end, else all but those of the last row.

    Args:
        token: the number of the first token of these parts.
    """
    count = len(sizes)
    # what each part takes of a row, and the separator before it, which a row does not begin with
    separators = begins.astype(np.int64) if rule.crosses else np.zeros(count, np.int64)
    taken = np.concatenate([[0], np.cumsum(sizes + int(rule.has_ends) + separators)])
    if rule.gathers:
        # the end of a row that would begin with each part: as far as the room reaches, and in its document
        ends = np.searchsorted(taken, taken[:-1] + separators + rule.room, side="right") - 1
        if not rule.crosses:
            documents = np.append(np.flatnonzero(begins), count)
            ends = np.minimum(ends, documents[np.searchsorted(documents, np.arange(count), side="right")])
    else:
        ends = np.arange(1, count + 1)
    # from each row to the next; the last one may have room for parts that are still to come
    firsts, place, following = [], 0, ends.tolist()
    while place < count and (is_end or not rule.gathers or following[place] < count):
        firsts.append(place)
        place = following[place]
    first = np.array(firsts, np.int64)
    before = np.concatenate([[0], np.cumsum(sizes)])
    total = int((taken[ends[first]] - taken[first] - separators[first]).sum())
    return RowStarts(token + before[first], begins[first], total), place
