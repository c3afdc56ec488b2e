"""Packing sentences into rows: nothing is lost, nothing is duplicated, nothing is too long."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from roberta.common.training.data.packing import Packing, pack, paired

BOS, EOS = 0, 2
PACKINGS = get_args(Packing)
PAIRS = [packing for packing in PACKINGS if packing.endswith("pair")]
LENGTHS = st.lists(st.lists(st.integers(0, 12), max_size=6), max_size=6)
ROOMS = st.integers(6, 20)


def documents(lengths: list[list[int]]) -> list[list[list[int]]]:
    """Documents whose sentences have these lengths; every token has a different id, from 10 on."""
    tokens = itertools.count(10)
    return [[list(itertools.islice(tokens, length)) for length in document] for document in lengths]


def filled(document: list[list[int]]) -> list[list[int]]:
    """The sentences of a document that are not empty."""
    return [sentence for sentence in document if sentence]


def rows(lengths: list[list[int]], packing: Any, max_length: int, seed: int = 0) -> list[list[int]]:
    packed = pack(documents(lengths), packing, max_length=max_length, bos=BOS, eos=EOS, seed=seed)
    return [feature["input_ids"].tolist() for feature in packed]


@settings(deadline=None)  # the machine may be busy
@given(LENGTHS, st.sampled_from(PACKINGS), ROOMS, st.integers(0, 9))
def test_every_token_is_in_exactly_one_row_and_no_row_is_too_long(
    lengths: list[list[int]], packing: Packing, max_length: int, seed: int
) -> None:
    found = rows(lengths, packing, max_length, seed)
    count = sum(map(sum, lengths))
    assert sorted(token for row in found for token in row if token >= 10) == list(range(10, 10 + count))
    assert all(len(row) <= max_length and row[0] == BOS and BOS not in row[1:] for row in found)
    assert packing == "blocks" or all(row[-1] == EOS and any(token >= 10 for token in row) for row in found)


@settings(deadline=None)  # the machine may be busy
@given(LENGTHS, st.sampled_from([packing for packing in PACKINGS if packing not in PAIRS]), ROOMS)
def test_tokens_stay_in_their_order(lengths: list[list[int]], packing: Packing, max_length: int) -> None:
    tokens = [token for row in rows(lengths, packing, max_length) for token in row if token >= 10]
    assert tokens == sorted(tokens)


def test_full_sentences_cross_documents_with_a_separator_between_them() -> None:
    # 3 + 3 | 3, then 2 of the next document, with </s> </s> between them
    assert rows([[2, 2, 2], [1]], "full-sentences", 8) == [
        [0, 10, 11, 2, 12, 13, 2],
        [0, 14, 15, 2, 2, 16, 2],
    ]


def test_a_separator_counts_when_a_row_would_be_too_long() -> None:
    assert rows([[2], [1]], "full-sentences", 7) == [[0, 10, 11, 2, 2, 12, 2]]
    assert rows([[2], [1]], "full-sentences", 6) == [[0, 10, 11, 2], [0, 12, 2]]


def test_a_separator_that_would_stand_at_the_edge_of_a_row_is_left_out() -> None:
    assert rows([[3], [3]], "full-sentences", 5) == [[0, 10, 11, 12, 2], [0, 13, 14, 15, 2]]


@settings(deadline=None)  # the machine may be busy
@given(LENGTHS, ROOMS)
@example([[1, 0], [2]], 6)  # the last sentence of a document is empty
def test_full_sentences_start_a_row_only_when_the_next_does_not_fit(lengths: list[list[int]], max_length: int) -> None:
    last = {document[-1][-1] for document in map(filled, documents(lengths)) if document}
    for row, after in itertools.pairwise(rows(lengths, "full-sentences", max_length)):
        separator = row[-2] in last
        assert len(row) + separator + after.index(EOS) > max_length


def test_doc_sentences_end_with_their_document() -> None:
    assert rows([[2, 2], [1, 1]], "doc-sentences", 20) == [[0, 10, 11, 2, 12, 13, 2], [0, 14, 2, 15, 2]]


def test_a_sentence_alone_has_its_own_row() -> None:
    assert rows([[2, 1], [], [0, 3]], "sentence", 9) == [[0, 10, 11, 2], [0, 12, 2], [0, 13, 14, 15, 2]]


def test_a_sentence_too_long_for_a_row_is_cut_into_several() -> None:
    assert rows([[5]], "full-sentences", 4) == [[0, 10, 11, 2], [0, 12, 13, 2], [0, 14, 2]]


def test_blocks_are_full_but_the_last_and_cut_the_stream_anywhere() -> None:
    assert rows([[3, 1], [2]], "blocks", 5) == [[0, 10, 11, 12, 2], [0, 13, 2, 2, 14], [0, 15, 2]]


def test_a_pair_stands_between_special_tokens_as_roberta_has_them() -> None:
    assert rows([[2, 1]], "sentence-pair", 16) == [[0, 10, 11, 2, 2, 12, 2]]
    assert rows([[2, 1, 3, 4, 1]], "segment-pair", 16) == [[0, 10, 11, 12, 13, 14, 15, 2, 2, 16, 17, 18, 19, 20, 2]]


@pytest.mark.parametrize("packing", PAIRS)
def test_half_of_the_pairs_follow_one_another_and_the_others_are_of_two_documents(packing: Packing) -> None:
    lengths = [[5] * 20] * 30
    owner = {t: number for number, document in enumerate(documents(lengths)) for part in document for t in part}
    features = list(pack(documents(lengths), packing, max_length=24, bos=BOS, eos=EOS, seed=3))
    assert Counter(feature["is_next"] for feature in features) == {True: len(features) / 2, False: len(features) / 2}
    for feature in features:
        tokens = [token for token in feature["input_ids"].tolist() if token >= 10]
        follows = tokens == list(range(tokens[0], tokens[0] + len(tokens)))
        assert follows == feature["is_next"]
        assert len({owner[token] for token in tokens}) == (1 if follows else 2)


def test_a_part_that_nothing_follows_goes_with_one_of_another_document() -> None:
    assert sorted(paired([["a"], ["b"]], seed=0)) in ([("a", "b", False)], [("b", "a", False)])
    assert list(paired([["a", "b", "c"]], seed=0)) == [("a", "b", True), ("c", None, False)]


def test_parts_that_nothing_follows_count_among_the_half_that_is_not_next() -> None:
    pairs = list(paired([[(number, place) for place in range(5)] for number in range(40)], seed=0))
    assert sum(is_next for _, _, is_next in pairs) * 2 == len(pairs) == 100


def test_one_document_trades_with_itself() -> None:
    pairs = list(paired([list(range(40))], seed=0))
    assert sum(is_next for _, _, is_next in pairs) == 10
    assert all((second == first + 1) == is_next for first, second, is_next in pairs)


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.integers(0, 9), max_size=9), st.integers(0, 99))
def test_parts_are_in_one_pair_each(counts: list[int], seed: int) -> None:
    parts = [[(number, place) for place in range(count)] for number, count in enumerate(counts)]
    pairs = list(paired(parts, seed))
    assert sorted(part for pair in pairs for part in pair[:2] if part) == sorted(itertools.chain(*parts))
    assert all(is_next == (second == (first[0], first[1] + 1)) for first, second, is_next in pairs if second)
    assert sum(second is None for _, second, _ in pairs) <= 1


def test_pairs_depend_on_the_seed_alone() -> None:
    lengths = [[3] * 10] * 5
    assert rows(lengths, "sentence-pair", 16, seed=1) == rows(lengths, "sentence-pair", 16, seed=1)
    assert rows(lengths, "sentence-pair", 16, seed=1) != rows(lengths, "sentence-pair", 16, seed=2)


def test_a_stream_is_read_one_document_at_a_time() -> None:
    endless = ([[10, 11, 12]] for _ in itertools.count())
    packed = pack(endless, "full-sentences", max_length=9, bos=BOS, eos=EOS)
    assert np.array_equal(next(packed)["input_ids"], [0, 10, 11, 12, 2])


@pytest.mark.parametrize("packing", PACKINGS)
def test_sentences_may_be_arrays(packing: Packing) -> None:
    lists = documents([[3, 0, 9], [1, 2], [20]])
    arrays = [[np.array(sentence, np.int32) for sentence in document] for document in lists]
    found = [list(pack(made, packing, max_length=16, bos=BOS, eos=EOS)) for made in (lists, arrays)]
    assert [feature["input_ids"].tolist() for feature in found[0]] == [f["input_ids"].tolist() for f in found[1]]


def test_what_cannot_be_packed_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"packing='nsp' is unknown; it must be one of full-sentences, .*sentence-pair"
    ):
        pack([], "nsp", max_length=9, bos=BOS, eos=EOS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_length=2 has no room for 'blocks'; it must be at least 3"):
        pack([], "blocks", max_length=2, bos=BOS, eos=EOS)
    with pytest.raises(ValueError, match="max_length=5 has no room for 'segment-pair'; it must be at least 6"):
        pack([], "segment-pair", max_length=5, bos=BOS, eos=EOS)
