"""Every batch of a training as a pure function of the update's number, the same in all three frameworks.

So the position in the data is one number, and that is all a resumed training needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roberta.common.training.data.orders import Order, order_of
from roberta.common.training.data.tasks import Task
from roberta.common.values import IGNORED

Feature = Mapping[str, Any]  # "input_ids": ints, or a list of them for each choice; and the labels of the task
TARGETS = ("labels", "positions", "start_positions", "end_positions")  # inputs that the encoder does not see
Draw = tuple[int, int, int]  # (seed, epoch, index): seeds what is drawn for one feature in one epoch


@dataclass(frozen=True)
class Collated:
    """Some features as arrays.

    Attributes:
        inputs: arguments of the model's class, labels among them; for "mlm" also "positions" (see `collation`).
        count: the targets that the loss averages over, or the sum of their weights; see `count_targets`.
    """

    inputs: dict[str, np.ndarray]
    count: float


@dataclass(frozen=True)
class MicroBatch:
    """The part of an update that goes through the model at once.

    Attributes:
        inputs: as in `Collated`.
        weight: the update's loss is the sum of weight * mean loss of its micro-batches; weights add up to 1.
    """

    inputs: dict[str, np.ndarray]
    weight: float


class Batches:
    """The batches of a training.

    Each epoch has every feature once, in its own order. Every batch is full: it may hold the end of one epoch and the
    start of the next.

    Args:
        collate: features, and what seeds the draws for each -> arrays.
        batch_size: features of an update.
        micro_batch_size: features that go through the model at once, at most; None for all of an update.
        seed: of the orders.

    Raises:
        ValueError: there are no features, a size is not an int of at least 1, or the seed is not one of at least 0.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        collate: Callable[[Sequence[Feature], Sequence[Draw]], Collated],
        *,
        batch_size: int,
        micro_batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        if not len(features):
            raise ValueError("there is nothing to train on: the data has no examples")
        micro = batch_size if micro_batch_size is None else micro_batch_size
        for name, value, least in (("batch_size", batch_size, 1), ("micro_batch_size", micro, 1), ("seed", seed, 0)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise ValueError(f"{name}={value!r} must be an int of at least {least}")
        self.features = features
        self.collate = collate
        self.batch_size = batch_size
        self.micro_batch_size = micro
        self.seed = seed
        self._orders: dict[int, Order] = {}

    def order(self, epoch: int) -> Order:
        """The features of an epoch, as indices, in an order that follows from (seed, epoch)."""
        if epoch not in self._orders:
            self._orders[epoch] = order_of(len(self.features), self.seed, epoch)
        return self._orders[epoch]

    def draws(self, number: int) -> list[Draw]:
        """(seed, epoch, index) of each feature of update `number`, which counts from 1."""
        start = (number - 1) * self.batch_size
        epochs, places = np.divmod(np.arange(start, start + self.batch_size), len(self.features))
        self._orders = {epoch: order for epoch, order in self._orders.items() if epoch >= epochs[0]}
        drawn: list[Draw] = []
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            drawn += [(self.seed, epoch, index) for index in self.order(epoch)[places[epochs == epoch]].tolist()]
        return drawn

    def update(self, number: int) -> list[MicroBatch]:
        """The micro-batches of update `number`, longest features first; those without a target are left out.

        Raises:
            ValueError: no feature of the whole update has a target.
        """
        drawn = [(self.features[draw[2]], draw) for draw in self.draws(number)]
        drawn.sort(key=lambda pair: -longest_row(pair[0]))
        size = self.micro_batch_size
        groups = [drawn[start : start + size] for start in range(0, len(drawn), size)]
        parts = [self.collate([feature for feature, _ in group], [draw for _, draw in group]) for group in groups]
        total = sum(part.count for part in parts)
        if not total:
            raise ValueError(
                f"update {number} has nothing to learn: none of its {len(drawn)} examples has a target (a label that is "
                "not -100, a masked token); check the labels, or use a larger batch_size"
            )
        return [MicroBatch(part.inputs, part.count / total) for part in parts if part.count]

    def updates(self, start: int, stop: int) -> Iterator[list[MicroBatch]]:
        """The micro-batches of each update from `start` + 1 to `stop`."""
        for number in range(start + 1, stop + 1):
            yield self.update(number)


def longest_row(feature: Feature) -> int:
    """Tokens of a feature; of a multiple choice, those of its longest choice."""
    ids = feature["input_ids"]
    return max(map(len, ids)) if len(ids) and not isinstance(ids[0], int | np.integer) else len(ids)


def count_targets(inputs: Mapping[str, np.ndarray], task: Task, class_weights: Sequence[float] | None = None) -> float:
    """How many targets the loss of some inputs averages over: labels that are not -100, or else rows.

    Args:
        class_weights: a target counts as many times as its class says; None for once.
    """
    labels = inputs.get("labels")
    if labels is None or labels.dtype.kind == "f":  # spans; amounts, and several labels at once
        return len(inputs["attention_mask"])
    if task == "clm":  # nothing predicts the first token of a row
        labels = labels[:, 1:]
    if class_weights is not None:
        return float(np.asarray(class_weights)[labels[labels != IGNORED]].sum())
    return int((labels != IGNORED).sum())


def rows_of_rank(
    inputs: Mapping[str, np.ndarray], task: Task, rank: int, world: int, class_weights: Sequence[float] | None = None
) -> tuple[dict[str, np.ndarray], float]:
    """Every `world`-th row from row `rank` on, and its share of the targets; the shares of all ranks add up to 1.

    A rank without a target takes part all the same, because the others wait for its gradients: it gets a share of 0,
    and one row whose targets are valid and count for nothing.

    Returns:
        inputs as in `Collated`, and the share.
    """
    if world == 1:
        return dict(inputs), 1.0
    whole = count_targets(inputs, task, class_weights)
    own = _every_nth_row(inputs, rank, world)
    count = count_targets(own, task, class_weights)
    if count:
        return own, count / whole
    own = _every_nth_row(inputs, 0, len(inputs["attention_mask"]))
    if "positions" in own:
        own |= {"positions": np.zeros(1, np.int64), "labels": np.zeros(1, np.int64)}
    elif "labels" in own:
        own["labels"] = np.zeros_like(own["labels"])
    return own, 0.0


def _every_nth_row(inputs: Mapping[str, np.ndarray], rank: int, world: int) -> dict[str, np.ndarray]:
    """The rows rank, rank + world, ...; the positions of masked tokens count in these rows."""
    if "positions" not in inputs:
        return {name: array[rank::world] for name, array in inputs.items()}
    row, column = np.divmod(inputs["positions"], inputs["attention_mask"].shape[-1])
    kept = (row % world == rank) & (inputs["labels"] != IGNORED)
    own = {name: array[rank::world] for name, array in inputs.items() if name not in ("positions", "labels")}
    places = row[kept] // world * inputs["attention_mask"].shape[-1] + column[kept]
    return {**own, "positions": places, "labels": inputs["labels"][kept]}
