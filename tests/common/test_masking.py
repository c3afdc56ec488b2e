"""Dynamic masking as docs/pretraining.md defines it. Draws are seeded; bounds are five binomial standard deviations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roberta import RobertaTokenizerFast
from roberta.common.training.data.masking import Masker, Masking, MaskingVocabulary, Method

SIZE, MASK = 40, 39
SPECIALS, UNDRAWN = (0, 1, 2, 3, MASK), (0, 1, 2, 3)
STARTS = np.isin(np.arange(SIZE), [*SPECIALS, *range(4, 39, 2)])  # odd ids continue a word
VOCABULARY = MaskingVocabulary(SIZE, MASK, SPECIALS, UNDRAWN, STARTS)
METHODS: tuple[Method, ...] = ("exact", "bernoulli")
# 31 tokens: <s>, words of 1 to 3 tokens, </s>
ROW = np.array([0, *[4, 6, 7, 8, 9, 11] * 4, 4, 6, 7, 10, 12, 2], np.int64)
EPOCHS = 2000


def drawn(settings: dict[str, Any], epochs: int = EPOCHS) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    masker = Masker(VOCABULARY, Masking(**settings))
    return (masker(ROW, (0, epoch, 0)) for epoch in range(epochs))


def assert_share(found: float, wanted: float, trials: int) -> None:
    """Assert that a share of independent trials is within five standard deviations of the expected one."""
    assert abs(found - wanted) <= 5 * math.sqrt(wanted * (1 - wanted) / trials), (found, wanted)


@settings(deadline=None)  # a machine may be busy
@given(st.integers(1, 60), st.integers(0, 10**6), st.sampled_from([0.05, 0.15, 0.5]))
def test_the_exact_method_chooses_the_share_rounded_up_or_down(length: int, epoch: int, rate: float) -> None:
    row = np.full(length, 5)
    _, places = Masker(VOCABULARY, Masking(rate=rate))(row, (0, epoch, 0))
    assert math.floor(rate * length) <= len(places) <= math.floor(rate * length) + 1
    assert places.tolist() == sorted(set(places.tolist()))


def test_the_exact_method_rounds_up_as_often_as_makes_the_rate() -> None:
    counts = Counter(len(places) for _, places in drawn({}))
    assert set(counts) == {4, 5}  # 0.15 * 31 = 4.65
    assert_share(counts[5] / EPOCHS, 0.65, EPOCHS)


@pytest.mark.parametrize("method", METHODS)
def test_every_token_is_chosen_at_the_rate_and_special_ones_by_the_exact_method_only(method: Method) -> None:
    found = Counter(place for _, places in drawn({"method": method}) for place in places.tolist())
    for place in range(len(ROW)):
        is_special = ROW[place] in SPECIALS
        assert_share(found[place] / EPOCHS, 0 if method == "bernoulli" and is_special else 0.15, EPOCHS)


def test_the_bernoulli_method_chooses_each_token_by_itself() -> None:
    counts = [len(places) for _, places in drawn({"method": "bernoulli"})]
    variance = 29 * 0.15 * 0.85
    assert abs(np.var(counts) - variance) < 5 * variance * math.sqrt(2 / EPOCHS)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shares", [(0.1, 0.1), (0.0, 0.0), (0.6, 0.2)])
def test_the_chosen_become_masks_random_tokens_or_stay(method: Method, shares: tuple[float, float]) -> None:
    random, unchanged = shares
    settings = {"method": method, "random_share": random, "unchanged_share": unchanged}
    fates: Counter[str] = Counter()
    for ids, places in drawn(settings):
        for place in places.tolist():
            fates["stays" if ids[place] == ROW[place] else "mask" if ids[place] == MASK else "random"] += 1
    total = fates.total()
    by_chance = random / (36 if method == "exact" else 40)  # the drawn token is the old one, or <mask>
    if method == "exact":  # and <s> and </s> cannot be drawn: 29 of the 31 can
        assert_share(fates["stays"] / total, unchanged + by_chance * 29 / 31, total)
        assert_share(fates["random"] / total, random - by_chance * (1 + 29 / 31), total)
    else:
        assert_share(fates["stays"] / total, unchanged + by_chance, total)
        assert_share(fates["random"] / total, random - 2 * by_chance, total)


@pytest.mark.parametrize("method", METHODS)
def test_random_tokens_are_uniform_over_what_may_be_drawn(method: Method) -> None:
    settings = {"method": method, "random_share": 1.0, "unchanged_share": 0.0}
    found = Counter(int(ids[place]) for ids, places in drawn(settings) for place in places)
    wanted = set(range(SIZE)) - (set(UNDRAWN) if method == "exact" else set())
    assert set(found) == wanted
    for count in found.values():
        assert_share(count / found.total(), 1 / len(wanted), found.total())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("whole_words", [False, True])
def test_what_is_drawn_depends_on_seed_epoch_and_index_alone(method: Method, whole_words: bool) -> None:
    settings = Masking(method=method, whole_words=whole_words)
    masker, other = Masker(VOCABULARY, settings), Masker(VOCABULARY, settings)
    draws = [(seed, epoch, index) for seed in range(3) for epoch in range(3) for index in range(3)]
    row = np.tile(ROW, 4)
    first = [masker(row, draw) for draw in draws]
    again = [other(row, draw) for draw in reversed(draws)][::-1]
    assert all(
        np.array_equal(a, b) for one, two in zip(first, again, strict=True) for a, b in zip(one, two, strict=True)
    )
    assert len({tuple(ids.tolist()) for ids, _ in first}) == len(draws)


def words(row: np.ndarray) -> list[set[int]]:
    """The positions of each word of a row: a word starts at an even id, at a special id, and after a special id."""
    found: list[set[int]] = []
    for place, token in enumerate(row.tolist()):
        if not found or token in SPECIALS or token % 2 == 0 or row[place - 1] in SPECIALS:
            found.append(set())
        found[-1].add(place)
    return found


@pytest.mark.parametrize("method", METHODS)
def test_whole_words_are_chosen_whole_at_the_rate(method: Method) -> None:
    found: Counter[int] = Counter()
    all_words = words(ROW)
    for ids, places in drawn({"method": method, "whole_words": True, "random_share": 0.0}):
        for number, word in enumerate(all_words):
            inside = word & set(places.tolist())
            assert inside in (set(), word)
            assert {bool(ids[place] == MASK) for place in word} in ({True}, {False}), "one fate for all of a word"
            found[number] += bool(inside)
    for number, word in enumerate(all_words):
        is_special = ROW[min(word)] in SPECIALS
        assert_share(found[number] / EPOCHS, 0 if method == "bernoulli" and is_special else 0.15, EPOCHS)


def test_a_word_that_follows_a_special_token_is_not_part_of_it() -> None:
    row = np.array([0, 5, 7, 2, 9, 2])  # tokens that continue a word, although first in their sentence
    masker = Masker(VOCABULARY, Masking(rate=0.4, whole_words=True))
    chosen = {tuple(masker(row, (0, epoch, 0))[1].tolist()) for epoch in range(200)}
    assert all((1 in places) == (2 in places) for places in chosen)
    assert any(0 in places and 1 not in places for places in chosen)
    assert any(3 in places and 4 not in places for places in chosen)


def test_the_words_of_a_tokenizer_go_before_those_of_the_vocabulary() -> None:
    row, word_ids = np.array([0, 4, 6, 8, 10, 2]), [None, 0, 0, 0, 1, None]
    masker = Masker(VOCABULARY, Masking(rate=0.4, whole_words=True))
    chosen = [set(masker(row, (0, epoch, 0), word_ids)[1].tolist()) for epoch in range(200)]
    assert all(places & {1, 2, 3} in (set(), {1, 2, 3}) for places in chosen)
    assert any(0 in places and 5 not in places for places in chosen), "two tokens without a word are two"


@pytest.mark.parametrize("method", METHODS)
def test_a_mask_in_the_data_is_never_a_target(method: Method) -> None:
    row = np.array([0, MASK, 4, MASK, 2])
    masker = Masker(VOCABULARY, Masking(rate=0.9, method=method))
    assert all(not {1, 3} & set(masker(row, (0, epoch, 0))[1].tolist()) for epoch in range(200))


def test_the_row_itself_is_not_changed_and_an_empty_one_stays_empty() -> None:
    row = ROW.copy()
    Masker(VOCABULARY, Masking(rate=0.9))(row, (0, 0, 0))
    assert np.array_equal(row, ROW)
    ids, places = Masker(VOCABULARY)(np.zeros(0, np.int64), (0, 0, 0))
    assert len(ids) == len(places) == 0


def test_the_vocabulary_of_a_tokenizer_knows_where_words_start() -> None:
    texts = ["the cat sat on the mat\nthe end of it"] * 9
    tokenizer = RobertaTokenizerFast.train_from_iterator(texts, vocab_size=300)
    vocabulary = MaskingVocabulary.of(tokenizer)
    assert vocabulary.size == len(tokenizer)
    assert vocabulary.mask_token_id == tokenizer.mask_token_id
    assert vocabulary.undrawn_ids == (0, 1, 2, 3)
    assert vocabulary.special_ids == (0, 1, 2, 3, tokenizer.mask_token_id)
    for token, id_ in tokenizer.get_vocab().items():
        text = tokenizer.decode([id_])
        assert vocabulary.word_starts[id_] == (token in tokenizer.all_special_tokens or text[0] in " \n\t\r\v\f"), token


def test_a_tokenizer_without_a_mask_cannot_train_masked_models() -> None:
    tokenizer = RobertaTokenizerFast.train_from_iterator(["a b c"], vocab_size=262)
    tokenizer.mask_token = None
    with pytest.raises(ValueError, match=r"the tokenizer has no mask token; set tokenizer\.mask_token"):
        MaskingVocabulary.of(tokenizer)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 0.0}, "rate=0.0 must be above 0 and below 1; RoBERTa has 0.15"),
        ({"rate": math.nan}, "rate=nan must be above 0"),
        (
            {"random_share": 0.6, "unchanged_share": 0.5},
            "random_share=0.6 and unchanged_share=0.5 must be .* at most 1",
        ),
        ({"unchanged_share": -0.1}, "random_share=0.1 and unchanged_share=-0.1 must be at least 0"),
        ({"method": "static"}, "method='static' is unknown; it must be 'exact' or 'bernoulli'"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="masking: " + message):
        Masking(**settings)


def test_the_name_that_the_documentation_had_before_still_works() -> None:
    with pytest.warns(DeprecationWarning, match="is now called MaskingVocabulary"):
        from roberta.common.training.data.masking import Vocabulary

    assert Vocabulary is MaskingVocabulary
