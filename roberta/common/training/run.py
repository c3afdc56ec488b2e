"""What happens between two updates, the same in every framework: the log, evaluation, checkpoints, an interrupt."""

from __future__ import annotations

from typing import Any, Protocol

from roberta.common.training.batches import Batches
from roberta.common.training.settings import Settings
from roberta.common.training_state import TrainingState


class Trainer(Protocol):
    """A model and its optimizer, in one framework."""

    model: Any  # one of the public classes: `save_pretrained`, `infer`

    def state(self) -> TrainingState:
        """What the optimizer knows."""


class Run:
    """One training.

    A backend makes updates `start` + 1 to `stop` and calls `finished` after each.

    Attributes:
        start: updates made before.
        stop: updates in all.
        resumed: what the optimizer knew after `start` updates; None for a new one.
    """

    settings: Settings
    batches: Batches
    start: int
    stop: int
    resumed: TrainingState | None

    def learning_rate(self, number: int) -> float:
        """The rate of update `number`, which counts from 1."""
        raise AssertionError("to be written")

    def finished(self, number: int, loss: float, trainer: Trainer) -> None:
        """Called after update `number` with its loss, that of the weights before the update.

        Raises:
            ValueError: the loss is not finite. A backend leaves weights and optimizer as they were in that case, so
                that what was trained so far can be saved.
        """
        raise AssertionError("to be written")
