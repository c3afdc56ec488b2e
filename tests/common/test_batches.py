"""The batches of a training, each a function of its number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roberta.common.training.data.batches import Batches, Collated, Draw, Feature, MicroBatch, longest_row
from roberta.common.training.data.orders import MOST_SHUFFLED, ComputedOrder, order_of

COUNTS, SIZES, SEEDS = st.integers(1, 20), st.integers(1, 9), st.integers(0, 9)


def collate(features: Sequence[Feature], draws: Sequence[Draw]) -> Collated:
    """Return the number of each feature and its epoch; the targets are the feature's "targets"."""
    numbers = np.array([feature["number"] for feature in features])
    mask = np.ones((len(features), max(map(longest_row, features))), np.int64)
    inputs = {"number": numbers, "epoch": np.array([draw[1] for draw in draws]), "attention_mask": mask}
    return Collated(inputs, sum(feature["targets"] for feature in features))


def make(count: int, batch_size: int, **settings: Any) -> Batches:
    """Batches of features with 1 to 5 tokens, all of which are targets."""
    features = [{"input_ids": [7] * (n % 5 + 1), "number": n, "targets": n % 5 + 1} for n in range(count)]
    return Batches(features, collate, batch_size=batch_size, **settings)


def seen(update: list[MicroBatch]) -> list[tuple[int, int]]:
    """(epoch, number) of the features of an update, in any order."""
    pairs = [zip(part.inputs["epoch"].tolist(), part.inputs["number"].tolist(), strict=True) for part in update]
    return sorted(pair for part in pairs for pair in part)


@settings(deadline=None)  # the machine may be busy
@given(COUNTS, SIZES, SEEDS)
def test_every_feature_is_there_once_an_epoch(count: int, batch_size: int, seed: int) -> None:
    updates = make(count, batch_size, seed=seed).updates(0, 3 * count)  # 3 * batch_size epochs
    found = Counter(pair for update in updates for pair in seen(update))
    assert found == {(epoch, number): 1 for epoch in range(3 * batch_size) for number in range(count)}


@settings(deadline=None)  # the machine may be busy
@given(COUNTS, SIZES, SIZES, SEEDS)
def test_what_an_update_sees_does_not_depend_on_its_micro_batches(
    count: int, batch_size: int, micro: int, seed: int
) -> None:
    whole = make(count, batch_size, seed=seed)
    parts = make(count, batch_size, seed=seed, micro_batch_size=micro)
    for number in range(1, 6):
        assert seen(parts.update(number)) == seen(whole.update(number))
        assert all(len(part.inputs["number"]) <= micro for part in parts.update(number))


@settings(deadline=None)  # the machine may be busy
@given(COUNTS, SIZES, SEEDS, st.integers(0, 12))
def test_updates_are_the_same_from_any_start(count: int, batch_size: int, seed: int, start: int) -> None:
    whole = [seen(update) for update in make(count, batch_size, seed=seed).updates(0, 12)]
    assert [seen(update) for update in make(count, batch_size, seed=seed).updates(start, 12)] == whole[start:]


def test_an_update_asked_for_again_after_later_ones_is_the_same() -> None:
    batches = make(5, 3)
    first = seen(batches.update(1))
    list(batches.updates(1, 20))
    assert seen(batches.update(1)) == first


@settings(deadline=None)  # the machine may be busy
@given(COUNTS, SIZES, SIZES)
def test_weights_are_shares_of_the_targets_and_add_up_to_one(count: int, batch_size: int, micro: int) -> None:
    for update in make(count, batch_size, micro_batch_size=micro).updates(0, 4):
        targets = [int((part.inputs["number"] % 5 + 1).sum()) for part in update]
        assert [part.weight for part in update] == [part / sum(targets) for part in targets]
        assert sum(part.weight for part in update) == pytest.approx(1, abs=1e-12)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    batches = make(20, 20)
    orders = [one.order(epoch)[np.arange(20)] for one, epoch in ((batches, 0), (batches, 1), (make(20, 20, seed=1), 0))]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


@pytest.mark.parametrize("count", [1, 2, 3, 5, 64, 65, 1000, 4097])
def test_a_computed_order_has_every_feature_once(count: int) -> None:
    places = np.arange(count)
    orders = [ComputedOrder(count, seed, epoch)[places].tolist() for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert all(sorted(order) == list(range(count)) for order in orders)
    assert count < 64 or len({tuple(order) for order in orders}) == 3
    with pytest.raises(IndexError, match=f"place {count} of {count}"):
        ComputedOrder(count, 0, 0)[np.array([0, count])]


def test_a_computed_order_is_as_random_as_a_shuffle() -> None:
    """Where features of a 16th of the data come, and what follows what, by chi-squared tests at 1 in 10,000."""
    count, parts = 2**14 + 77, 16
    for seed in range(3):
        order = ComputedOrder(count, seed, 5)[np.arange(count)]
        place, value = np.arange(count) * parts // count, order * parts // count
        for first, second in ((place, value), (value[:-1], value[1:]), (np.arange(count) % 16, order % 16)):
            table = np.histogram2d(first, second, bins=parts)[0]
            wanted = len(first) / parts**2
            assert ((table - wanted) ** 2 / wanted).sum() < 312.6  # 225 degrees of freedom
        assert abs(np.corrcoef(np.arange(count), order)[0, 1]) < 4 / count**0.5


def test_many_features_have_an_order_that_is_computed_and_few_one_of_numpy() -> None:
    assert isinstance(order_of(MOST_SHUFFLED + 1, 0, 0), ComputedOrder)
    assert order_of(9, 3, 2)[np.arange(9)].tolist() == np.random.default_rng((3, 2)).permutation(9).tolist()


def test_the_longest_features_go_together() -> None:
    update = make(20, 20, micro_batch_size=4).update(1)
    assert [part.inputs["attention_mask"].shape[1] for part in update] == [5, 4, 3, 2, 1]


def test_a_micro_batch_without_a_target_is_left_out() -> None:
    features = [{"input_ids": [7] * n, "number": n, "targets": int(n == 3)} for n in range(1, 5)]
    update = Batches(features, collate, batch_size=4, micro_batch_size=1).update(1)
    assert [(part.inputs["number"].tolist(), part.weight) for part in update] == [([3], 1.0)]


def test_an_update_without_any_target_is_refused_with_the_way_out() -> None:
    features = [{"input_ids": [7], "number": 0, "targets": 0}]
    with pytest.raises(ValueError, match=r"update 3 has nothing to learn: none of its 2 examples .* larger batch_size"):
        Batches(features, collate, batch_size=2).update(3)


def test_data_without_examples_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to train on: the data has no examples"):
        Batches([], collate, batch_size=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be an int of at least 1"),
        ({"batch_size": 2.0}, "batch_size=2.0 must be an int of at least 1"),
        ({"micro_batch_size": 0}, "micro_batch_size=0 must be an int of at least 1"),
        ({"seed": -1}, "seed=-1 must be an int of at least 0"),
    ],
)
def test_a_setting_that_cannot_be_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(3, **{"batch_size": 2, **settings})


def test_a_multiple_choice_is_as_long_as_its_longest() -> None:
    assert longest_row({"input_ids": [[1, 2], [1, 2, 3]]}) == 3
    assert longest_row({"input_ids": np.arange(4)}) == 4
    assert longest_row({"input_ids": []}) == 0
