"""What a training tells others while it runs: a record for each line of the log, evaluation and checkpoint, and the end.

That is all that a tracker of experiments needs; docs/training.md shows three of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Happened = Literal["log", "evaluation", "save", "end"]
# What happened -> the method of a callback that is told.
CALLBACK_METHODS: dict[Happened, str] = {
    "log": "on_log", "evaluation": "on_evaluation", "save": "on_save", "end": "on_end"
}  # fmt: skip


@dataclass(frozen=True)
class TrainingRecord:
    """What happened in a training.

    Attributes:
        kind: a line of the log, an evaluation, a checkpoint that was written, or the end.
        update, epoch: after which it happened.
        values: of a log loss, learning_rate, seconds, tokens and tokens_per_second; of an evaluation its metrics; of the
            end best and best_update, if there was an evaluation.
        path: of a checkpoint, its folder; of the end, that of the training; else None.
        status: of the end: "finished", "stopped early", "interrupted" or "failed"; else "".
    """

    kind: Happened
    update: int
    epoch: float
    values: Mapping[str, float]
    path: Path | None = None
    status: str = ""


class Callbacks:
    """The callbacks of a training, called in their order.

    Args:
        given: functions of a record, or objects with any of the methods on_log, on_evaluation, on_save and on_end.

    Raises:
        ValueError: one of them is neither.
    """

    def __init__(self, given: Sequence[Any] = ()) -> None:
        if not isinstance(given, list | tuple):
            raise ValueError(f"callbacks={given!r} must be a list; give [{given!r}]")
        for one in given:
            if not self._methods(one) and (isinstance(one, type) or not callable(one)):
                names = ", ".join(CALLBACK_METHODS.values())
                raise ValueError(
                    f"callbacks: {one!r} must be a function of a record, or an object with one of the methods {names}"
                )
        self.given = tuple(given)

    def tell(self, record: TrainingRecord) -> None:
        """Call all of them that want to know."""
        for one in self.given:
            if not self._methods(one):
                one(record)
            elif hasattr(one, CALLBACK_METHODS[record.kind]):
                getattr(one, CALLBACK_METHODS[record.kind])(record)

    @staticmethod
    def _methods(one: object) -> list[str]:
        if isinstance(one, type):
            return []
        return [name for name in CALLBACK_METHODS.values() if callable(getattr(one, name, None))]
