"""Documents of sentences -> rows of tokens for pretraining, in the ways of RoBERTa's paper, section 4.2.

In each of them every token of the documents is in exactly one row, and no row is too long. Where a rule of the paper or
of fairseq loses tokens, repeats them or overruns a row, ours does not; `pack` says how they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, TypeVar, cast

import numpy as np

from roberta.common.training.data.batches import Feature

Packing = Literal["full-sentences", "doc-sentences", "sentence", "blocks", "segment-pair", "sentence-pair"]
_Sentence = Sequence[int]  # or an array of ids
_Document = Sequence[_Sentence]

_Part = TypeVar("_Part")

PAIR_SPECIALS = 4  # <s> A </s></s> B </s>


def pack(
    documents: Iterable[_Document], packing: Packing, *, max_length: int, bos: int, eos: int, seed: int = 0
) -> Iterator[Feature]:
    """The rows of documents, as features of "input_ids".

    | packing | a row |
    | --- | --- |
    | full-sentences | `<s>` and as many sentences as fit, each with its `</s>`; another `</s>` between two documents |
    | doc-sentences | the same within one document; its last row may be short |
    | sentence | `<s>`, one sentence, `</s>` |
    | blocks | `<s>` and the next `max_length` - 1 tokens of the stream of "full-sentences", cut anywhere |
    | segment-pair | `<s> A </s></s> B </s>`: A and B are as many sentences of one document as fill half of the row |
    | sentence-pair | the same: A and B are one sentence each |

    In half of the pairs B is what follows A, in the other half it is from another document (see `paired`); "is_next" of
    the feature says which. No RoBERTa head reads it.

    Unlike in fairseq, a sentence that is too long for a row is cut into several; the `</s>` between two documents is
    left out where a row ends; and no share of the pairs is short (0.1 there). Empty sentences and documents are skipped.

    Args:
        documents: sentences of ids, without special tokens. A stream is read one document at a time, except for pairs.
        max_length: tokens of a row, at most, special tokens included.
        bos: the id of <s>.
        eos: the id of </s>.
        seed: of the pairs.

    Raises:
        ValueError: the packing is unknown, or `max_length` leaves no room for a token.

    Source: the paper's section 4.2 and table 2.
    """
    check_packing(packing, max_length)
    kept = ([_ids(sentence) for sentence in document if len(sentence)] for document in documents)
    filled = (document for document in kept if document)
    if packing in _PARTS:
        return _pair_rows(filled, _PARTS[packing], (max_length - PAIR_SPECIALS) // 2, bos, eos, seed)
    rows = _ROWS[packing](filled, max_length - 1, eos)
    return ({"input_ids": np.array([bos, *row], np.int32)} for row in rows)


def check_packing(packing: str, max_length: int) -> None:
    """Raise `ValueError` for an unknown packing, or a `max_length` that leaves no room for a token."""
    if packing not in _ROWS and packing not in _PARTS:
        raise ValueError(f"packing={packing!r} is unknown; it must be one of {', '.join((*_ROWS, *_PARTS))}")
    least = PAIR_SPECIALS + 2 if packing in _PARTS else 3
    if max_length < least:
        raise ValueError(f"max_length={max_length!r} has no room for {packing!r}; it must be at least {least}")


def _ids(sentence: _Sentence | np.ndarray) -> list[int]:
    """The ids as a list of Python ints, which numpy takes back several times as fast as its own."""
    return cast("list[int]", sentence.tolist()) if isinstance(sentence, np.ndarray) else list(sentence)


def _cut(tokens: _Sentence, size: int) -> Iterator[_Sentence]:
    return (tokens[start : start + size] for start in range(0, len(tokens), size))


def _lines(document: _Document, room: int, eos: int) -> Iterator[list[int]]:
    """The sentences, each with its </s>; those longer than `room` in several parts."""
    return ([*part, eos] for sentence in document for part in _cut(sentence, room - 1))


def _full_sentences(documents: Iterable[_Document], room: int, eos: int) -> Iterator[list[int]]:
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


def _doc_sentences(documents: Iterable[_Document], room: int, eos: int) -> Iterator[list[int]]:
    for document in documents:
        yield from _full_sentences([document], room, eos)


def _sentence(documents: Iterable[_Document], room: int, eos: int) -> Iterator[list[int]]:
    for document in documents:
        yield from _lines(document, room, eos)


def _blocks(documents: Iterable[_Document], room: int, eos: int) -> Iterator[_Sentence]:
    row: list[int] = []
    for number, document in enumerate(documents):
        row += [eos] if number else []
        for sentence in document:
            row += [*sentence, eos]
            full = len(row) - len(row) % room
            yield from _cut(row[:full], room)
            row = row[full:]
    yield from _cut(row, room)


def _segments(document: _Document, room: int) -> Iterator[list[int]]:
    """As many sentences as fit into `room`, joined; longer ones in several parts."""
    segment: list[int] = []
    for part in _sentences(document, room):
        if len(segment) + len(part) > room:
            yield segment
            segment = []
        segment = segment + part
    yield segment


def _sentences(document: _Document, room: int) -> Iterator[list[int]]:
    return (list(part) for sentence in document for part in _cut(sentence, room))


def _pair_rows(
    documents: Iterable[_Document],
    parts: Callable[[_Document, int], Iterator[list[int]]],
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


_ROWS: dict[str, Callable[[Iterable[_Document], int, int], Iterator[_Sentence]]] = {
    "full-sentences": _full_sentences,
    "doc-sentences": _doc_sentences,
    "sentence": _sentence,
    "blocks": _blocks,
}
_PARTS: dict[str, Callable[[_Document, int], Iterator[list[int]]]] = {
    "segment-pair": _segments,
    "sentence-pair": _sentences,
}


# -- pairs ------------------------------------------------------------------------------------------------------------


def paired(documents: Sequence[Sequence[_Part]], seed: int) -> Iterator[tuple[_Part, _Part | None, bool]]:
    """(first, second, whether the second follows the first) of each pair; a part that is left over has None.

    BERT draws a partner for every second part from anywhere, so that some tokens occur twice and others never. Here
    parts trade partners instead, and each is in exactly one pair.

    The last part of an odd document is paired with that of another one. Of the other pairs, which follow one another,
    so many trade their seconds that half of all pairs do not follow: with other documents, unless one document has more
    than half of those that trade. With documents of few parts, more than half of the pairs may not follow.
    """
    parts = [part for document in documents for part in document]
    counts = np.array([len(document) for document in documents], np.int64)
    for first, second, follows in zip(*(found.tolist() for found in pair_numbers(counts, seed)), strict=True):
        yield parts[first], None if second < 0 else parts[second], follows


def pair_numbers(counts: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of `paired`, of parts that are numbered through all documents.

    Args:
        counts: (documents,), how many parts each has.

    Returns:
        The numbers of the first and of the second part of each pair, int64, -1 for a part that is left over, and whether
        the second follows the first.
    """
    generator = np.random.default_rng(seed)
    ends = np.cumsum(counts, dtype=np.int64)
    last = ends[counts % 2 == 1] - 1
    last = last[generator.permutation(len(last))]
    pairs = counts // 2
    owners = np.repeat(np.arange(len(counts)), pairs)
    firsts = (ends - counts)[owners] + 2 * (np.arange(len(owners)) - np.repeat(np.cumsum(pairs) - pairs, pairs))
    wanted = (len(firsts) + len(last) // 2) // 2 - len(last) // 2
    partners = _traded(owners, wanted, generator)
    seconds = firsts[partners] + 1
    follows = partners == np.arange(len(partners))
    others = np.append(last, np.full(len(last) % 2, -1, np.int64)).reshape(-1, 2)
    return (
        np.concatenate([firsts, others[:, 0]]),
        np.concatenate([seconds, others[:, 1]]),
        np.concatenate([follows, np.zeros(len(others), bool)]),
    )


def _traded(owners: np.ndarray, wanted: int, generator: np.random.Generator) -> np.ndarray:
    """For each pair, the pair whose second it gets; `wanted` pairs, if these are at least two, do not keep their own.

    Those that trade are drawn and put in a circle, document by document. Each takes the second of the pair that is as
    many places ahead as the largest document has in the circle, so it leaves its own document, unless that has more
    than half of them.

    Args:
        owners: (pairs,), the number of the document of each.
    """
    partners = np.arange(len(owners))
    if wanted < 2:
        return partners
    chosen = generator.permutation(len(owners))[:wanted]
    shuffled = generator.permutation(int(owners.max()) + 1)
    circle = chosen[np.argsort(shuffled[owners[chosen]], kind="stable")]
    largest = int(np.bincount(owners[chosen]).max())
    partners[circle] = np.roll(circle, -min(largest, wanted // 2))
    return partners
