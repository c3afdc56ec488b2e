"""Every batch of a training as a pure function of the number of the update, the same for all three frameworks.

So the position in the data is one number, and a training that goes on needs no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Feature = Mapping[str, Any]  # "input_ids": ints, or one list a choice; and the labels, as the task has them
Draw = tuple[int, int, int]  # (seed, epoch, index): seeds what is drawn for one feature in one epoch


@dataclass(frozen=True)
class Collated:
    """Some features as arrays.

    Attributes:
        inputs: arguments of the model's class, labels among them; for "mlm" also "positions" (see `collation`).
        count: targets that the loss is the mean of: masked tokens, labels that are not -100, or rows.
    """

    inputs: dict[str, np.ndarray]
    count: int


@dataclass(frozen=True)
class MicroBatch:
    """A part of an update that goes through the model at once.

    Attributes:
        inputs: as in `Collated`.
        weight: the update's loss is the sum of weight * mean loss of its micro-batches; weights add up to 1.
    """

    inputs: dict[str, np.ndarray]
    weight: float


class Batches:
    """The batches of a training.

    Each epoch has every feature once, in an order of its own; a batch may have the end of one epoch and the start of
    the next, so that every batch is full.

    Args:
        collate: features, and what seeds the draws for each -> arrays.
        batch_size: features of an update.
        micro_batch_size: features that go through the model at once, at most; None for all of an update.
        seed: of the orders.

    Raises:
        ValueError: there are no features, a size is no int of at least 1, or the seed none of at least 0.
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
        self._orders: dict[int, np.ndarray] = {}

    def order(self, epoch: int) -> np.ndarray:
        """The features of an epoch, as indices, shuffled by (seed, epoch)."""
        if epoch not in self._orders:
            self._orders = {key: value for key, value in self._orders.items() if key >= epoch - 1}
            self._orders[epoch] = np.random.default_rng((self.seed, epoch)).permutation(len(self.features))
        return self._orders[epoch]

    def draws(self, number: int) -> list[Draw]:
        """(seed, epoch, index) of each feature of update `number`, which counts from 1."""
        start = (number - 1) * self.batch_size
        places = (divmod(place, len(self.features)) for place in range(start, start + self.batch_size))
        return [(self.seed, epoch, int(self.order(epoch)[place])) for epoch, place in places]

    def update(self, number: int) -> list[MicroBatch]:
        """The micro-batches of update `number`, longest features first; those without a target are left out.

        Raises:
            ValueError: no feature of the whole update has a target.
        """
        draws = sorted(self.draws(number), key=lambda draw: -length(self.features[draw[2]]))
        size = self.micro_batch_size
        groups = [draws[start : start + size] for start in range(0, len(draws), size)]
        parts = [self.collate([self.features[draw[2]] for draw in group], group) for group in groups]
        total = sum(part.count for part in parts)
        if not total:
            raise ValueError(
                f"update {number} has nothing to learn: none of its {len(draws)} examples has a target (a label that is "
                "not -100, a masked token); see to the labels, or take a larger batch_size"
            )
        return [MicroBatch(part.inputs, part.count / total) for part in parts if part.count]

    def updates(self, start: int, stop: int) -> Iterator[list[MicroBatch]]:
        """The micro-batches of each update from `start` + 1 to `stop`."""
        for number in range(start + 1, stop + 1):
            yield self.update(number)


def length(feature: Feature) -> int:
    """Tokens of a feature; of a multiple choice, of its longest one."""
    ids = feature["input_ids"]
    return max(map(len, ids)) if len(ids) and not isinstance(ids[0], int | np.integer) else len(ids)
