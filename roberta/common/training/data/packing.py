"""Documents of sentences -> rows of tokens for pretraining: the ways of RoBERTa's paper, section 4.2.

Every token of the documents is in exactly one row, and no row is longer than it may be, in all of them. Where the
paper's or fairseq's rule loses, doubles or overruns, ours does not; `pack` says how they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, cast

import numpy as np

from roberta.common.training.data.batches import Feature
from roberta.common.training.data.pairing import paired

Packing = Literal["full-sentences", "doc-sentences", "sentence", "blocks", "segment-pair", "sentence-pair"]
Sentence = Sequence[int]  # or an array of ids
Document = Sequence[Sentence]

PAIR_SPECIALS = 4  # <s> A </s></s> B </s>


def pack(
    documents: Iterable[Document], packing: Packing, *, max_length: int, bos: int, eos: int, seed: int = 0
) -> Iterator[Feature]:
    """The rows of documents, as features of "input_ids".

    | packing | a row |
    | --- | --- |
    | full-sentences | `<s>` and as many sentences as fit, each with its `</s>`; another `</s>` between two documents |
    | doc-sentences | the same of one document; its last row may be short |
    | sentence | `<s>`, one sentence, `</s>` |
    | blocks | `<s>` and the next `max_length` - 1 tokens of that stream, cut anywhere |
    | segment-pair | `<s> A </s></s> B </s>`: A and B are as many sentences of one document as fill half of the row |
    | sentence-pair | the same: A and B are one sentence each |

    Of pairs, half have what follows A as their B, and half something of another document (see `pairing`);
    "is_next" of the feature says which. It is kept aside: no RoBERTa head reads it.

    Else than in fairseq, a sentence that is too long for a row is cut into several; the `</s>` between two documents
    is left out where a row ends; and of pairs there is no share of short ones (0.1 there). Empty sentences and
    documents are skipped.

    Args:
        documents: of sentences of ids, without special tokens. All but pairs take a stream, one document at a time.
        max_length: tokens of a row, at most, special tokens included.
        bos: the id of <s>.
        eos: the id of </s>.
        seed: of pairs.

    Raises:
        ValueError: the packing is unknown, or `max_length` leaves no room for a token.

    Source: CONTRACT 7.2; the paper's table 2.
    """
    if packing not in _ROWS and packing not in _PARTS:
        raise ValueError(f"packing={packing!r} is unknown; it must be one of {', '.join((*_ROWS, *_PARTS))}")
    least = PAIR_SPECIALS + 2 if packing in _PARTS else 3
    if max_length < least:
        raise ValueError(f"max_length={max_length!r} has no room for {packing!r}; it must be at least {least}")
    kept = ([_ids(sentence) for sentence in document if len(sentence)] for document in documents)
    filled = (document for document in kept if document)
    if packing in _PARTS:
        return _pair_rows(filled, _PARTS[packing], (max_length - PAIR_SPECIALS) // 2, bos, eos, seed)
    rows = _ROWS[packing](filled, max_length - 1, eos)
    return ({"input_ids": np.array([bos, *row], np.int32)} for row in rows)


def _ids(sentence: Sentence | np.ndarray) -> list[int]:
    """The ids as Python's ints, which lists hold and numpy takes back several times as fast as its own."""
    return cast("list[int]", sentence.tolist()) if isinstance(sentence, np.ndarray) else list(sentence)


def _cut(tokens: Sentence, size: int) -> Iterator[Sentence]:
    return (tokens[start : start + size] for start in range(0, len(tokens), size))


def _lines(document: Document, room: int, eos: int) -> Iterator[list[int]]:
    """The sentences, each with its </s>; those longer than `room` in several parts."""
    return ([*part, eos] for sentence in document for part in _cut(sentence, room - 1))


def _full_sentences(documents: Iterable[Document], room: int, eos: int) -> Iterator[list[int]]:
    row: list[int] = []
    for document in documents:
        between = [eos] if row else []
        for line in _lines(document, room, eos):
            if len(row) + len(between) + len(line) > room:
                yield row
                row, between = [], []
            row += between + line
            between = []
    if row:
        yield row


def _doc_sentences(documents: Iterable[Document], room: int, eos: int) -> Iterator[list[int]]:
    for document in documents:
        yield from _full_sentences([document], room, eos)


def _sentence(documents: Iterable[Document], room: int, eos: int) -> Iterator[list[int]]:
    for document in documents:
        yield from _lines(document, room, eos)


def _blocks(documents: Iterable[Document], room: int, eos: int) -> Iterator[Sentence]:
    row: list[int] = []
    for number, document in enumerate(documents):
        row += [eos] if number else []
        for sentence in document:
            row += [*sentence, eos]
            full = len(row) - len(row) % room
            yield from _cut(row[:full], room)
            row = row[full:]
    yield from _cut(row, room)


def _segments(document: Document, room: int) -> Iterator[list[int]]:
    """As many sentences as fit into `room`, joined; those longer than it in several parts."""
    segment: list[int] = []
    for part in _sentences(document, room):
        if len(segment) + len(part) > room:
            yield segment
            segment = []
        segment = segment + part
    yield segment


def _sentences(document: Document, room: int) -> Iterator[list[int]]:
    return (list(part) for sentence in document for part in _cut(sentence, room))


def _pair_rows(
    documents: Iterable[Document],
    parts: Callable[[Document, int], Iterator[list[int]]],
    room: int,
    bos: int,
    eos: int,
    seed: int,
) -> Iterator[Feature]:
    """A row for each pair; a part without a partner is a row alone, without "is_next"."""
    for first, second, is_next in paired([list(parts(document, room)) for document in documents], seed):
        if second is None:
            yield {"input_ids": np.array([bos, *first, eos], np.int32)}
        else:
            row = np.array([bos, *first, eos, eos, *second, eos], np.int32)
            yield {"input_ids": row, "is_next": is_next}


_ROWS: dict[str, Callable[[Iterable[Document], int, int], Iterator[Any]]] = {
    "full-sentences": _full_sentences,
    "doc-sentences": _doc_sentences,
    "sentence": _sentence,
    "blocks": _blocks,
}
_PARTS: dict[str, Callable[[Document, int], Iterator[list[int]]]] = {
    "segment-pair": _segments,
    "sentence-pair": _sentences,
}
