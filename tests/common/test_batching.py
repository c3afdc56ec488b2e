"""Which rows go through a model together."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roberta.common.inference.batching import bounded, buckets, groups, lists_of, packs

LENGTHS = st.lists(st.integers(0, 60), max_size=50).map(lambda values: np.array(values, np.int64))
BUDGETS = st.integers(1, 200)


@given(LENGTHS, BUDGETS, st.booleans())
def test_every_row_is_in_exactly_one_group(rows: np.ndarray, budget: int, padded: bool) -> None:
    found = groups(rows, budget, padded=padded)
    assert sorted(itertools.chain.from_iterable(group.tolist() for group in found)) == list(range(len(rows)))
    assert all(len(group) for group in found)


@given(LENGTHS, BUDGETS)
def test_the_rectangles_of_padded_groups_stay_within_the_budget(rows: np.ndarray, budget: int) -> None:
    for group in groups(rows, budget, padded=True):
        assert len(group) == 1 or len(group) * rows[group].max() <= budget


@given(LENGTHS, BUDGETS)
def test_the_tokens_of_packed_groups_stay_within_the_budget(rows: np.ndarray, budget: int) -> None:
    for group in groups(rows, budget, padded=False):
        assert len(group) == 1 or rows[group].sum() <= budget


@given(LENGTHS, BUDGETS, st.booleans())
def test_the_longest_rows_come_first_and_equal_rows_keep_their_order(
    rows: np.ndarray, budget: int, padded: bool
) -> None:
    order = [int(row) for group in groups(rows, budget, padded=padded) for row in group]
    assert order == sorted(range(len(rows)), key=lambda row: (-max(rows[row], 1), row))


@given(LENGTHS, BUDGETS, st.booleans())
def test_no_group_has_room_for_the_row_after_it(rows: np.ndarray, budget: int, padded: bool) -> None:
    costs = np.maximum(rows, 1)
    for group, after in itertools.pairwise(groups(rows, budget, padded=padded)):
        grown = np.append(group, after[0])
        assert (len(grown) * costs[grown].max() if padded else costs[grown].sum()) > budget


@given(LENGTHS, BUDGETS, st.booleans())
def test_results_go_back_to_the_order_of_the_caller(rows: np.ndarray, budget: int, padded: bool) -> None:
    result = np.full(len(rows), -1)
    for group in groups(rows, budget, padded=padded):
        result[group] = rows[group]
    assert result.tolist() == rows.tolist()


def test_groups_of_the_example() -> None:
    for padded in (True, False):
        assert [group.tolist() for group in groups(np.array([3, 9, 4]), 9, padded=padded)] == [[1], [2, 0]]


def test_a_group_is_filled_to_the_last_token_that_it_has_room_for() -> None:
    assert [group.tolist() for group in groups(np.array([5, 4, 1]), 9, padded=False)] == [[0, 1], [2]]


@pytest.mark.parametrize("budget", [0, -1, True, 4.0])
def test_a_budget_without_a_token_is_refused(budget: int) -> None:
    with pytest.raises(ValueError, match="batch_tokens must be an int of at least 1"):
        groups(np.array([1]), budget, padded=True)


@given(st.integers(1, 3000), st.integers(1, 12))
def test_buckets_rise_to_the_longest_length(longest: int, count: int) -> None:
    found = buckets(longest, count)
    assert found[-1] == longest
    assert len(found) <= count
    assert list(found) == sorted(set(found))
    assert all(length % 8 == 0 and length >= 16 for length in found[:-1])


@given(st.integers(1, 3000), st.integers(1, 12))
def test_no_bucket_is_more_than_one_factor_and_eight_tokens_above_the_one_before(longest: int, count: int) -> None:
    found = buckets(longest, count)
    factor = (longest / min(16, longest)) ** (1 / max(count - 1, 1))
    for shorter, longer in itertools.pairwise(found):
        assert longer <= shorter * factor + 8


def test_buckets_of_the_example() -> None:
    assert buckets(512) == (16, 32, 48, 72, 120, 192, 320, 512)


@pytest.mark.parametrize(("longest", "count"), [(0, 8), (8, 0)])
def test_buckets_of_nothing_are_refused(longest: int, count: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        buckets(longest, count)


@given(st.lists(st.integers(), max_size=30), st.integers(1, 9))
def test_windows_hold_the_stream_in_order(items: list[int], size: int) -> None:
    found = list(lists_of(iter(items), size))
    assert list(itertools.chain.from_iterable(found)) == items
    assert all(len(window) == size for window in found[:-1])


def test_a_window_takes_no_more_of_a_stream_than_it_holds() -> None:
    stream = itertools.count()
    assert next(lists_of(stream, 3)) == [0, 1, 2]
    assert next(stream) == 3


def test_a_window_of_nothing_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="size must be at least 1"):
        lists_of([1], 0)


COSTS = st.lists(st.integers(0, 40), max_size=40)


@given(COSTS, st.integers(0, 60), st.integers(1, 9), st.integers(1, 9))
def test_bounded_lists_hold_the_stream_in_order(costs: list[int], budget: int, most: int, first: int) -> None:
    found = list(bounded(iter(costs), int, budget=budget, most=most, first=first))
    assert list(itertools.chain.from_iterable(found)) == costs
    assert all(len(window) <= most and (len(window) == 1 or sum(window) <= budget) for window in found)


def test_the_lists_of_a_stream_grow() -> None:
    found = bounded(range(40), lambda item: 1, budget=99, most=10, first=2)
    assert [len(window) for window in found] == [2, 4, 8, 10, 10, 6]


def test_a_full_list_comes_before_the_next_item_is_asked_for() -> None:
    stream = itertools.count()
    assert next(bounded(stream, lambda item: 1, budget=99, most=3)) == [0, 1, 2]
    assert next(stream) == 3


def test_what_came_before_a_stream_failed_is_given_first() -> None:
    def stream():
        yield from (1, 2)
        raise OSError("gone")

    lists = bounded(stream(), int, budget=99, most=9)
    assert next(lists) == [1, 2]
    with pytest.raises(OSError, match="gone"):
        next(lists)


def test_lists_of_no_items_are_refused() -> None:
    with pytest.raises(ValueError, match="both must be at least 1"):
        bounded([1], int, budget=1, most=0)


@given(LENGTHS, BUDGETS)
def test_every_row_is_in_exactly_one_pack_with_room_for_it(rows: np.ndarray, size: int) -> None:
    found = packs(rows, size)
    assert sorted(itertools.chain.from_iterable(pack.tolist() for pack in found)) == list(range(len(rows)))
    for pack in found:
        assert len(pack) == 1 or np.maximum(rows[pack], 1).sum() <= size


@given(LENGTHS, BUDGETS)
def test_no_pack_has_room_for_the_first_row_of_a_later_one(rows: np.ndarray, size: int) -> None:
    costs = np.minimum(np.maximum(rows, 1), size)
    found = packs(rows, size)
    for pack, later in itertools.combinations(found, 2):
        assert costs[pack].sum() + costs[later[0]] > size


def test_short_rows_fill_what_long_ones_leave() -> None:
    assert [pack.tolist() for pack in packs(np.array([3, 9, 4, 2]), 9)] == [[1], [2, 0, 3]]
    assert [pack.tolist() for pack in packs(np.array([5, 6, 4, 3]), 9)] == [[1, 3], [0, 2]]


def test_a_pack_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_tokens"):
        packs(np.array([3]), 0)
