"""What happens between two updates, the same in every framework: the log, evaluations, checkpoints, interrupts."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn, Protocol, cast

import numpy as np

from roberta.common.checkpoint.checkpoint import weight_contents
from roberta.common.storage.folders import CheckpointError, Content
from roberta.common.training.callbacks import TrainingRecord
from roberta.common.training.checkpoints import Checkpoints, Position, Saved
from roberta.common.training.data.batches import Batches, Feature
from roberta.common.training.journal import Journal
from roberta.common.training.lora import trained_contents
from roberta.common.training.optimizer_state import TrainingState
from roberta.common.training.part_checkpoints import PartCheckpoints, restore_trainer
from roberta.common.training.recipes import Settings, learning_rate

_Evaluate = Callable[[Any], dict[str, float]]
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class AnyTrainer(Protocol):
    """A model and its optimizer, in one framework."""

    @property
    def model(self) -> Any:
        """One of the public classes: `to_save`, `infer`, `release_infer`."""

    def state(self) -> TrainingState:
        """The state of the optimizer."""

    def pairs(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """A and B of the adapter that is trained, by weight; none without an adapter."""


class WritesParts(AnyTrainer, Protocol):
    """A trainer whose processes write their own parts of a checkpoint: `processes.First`."""

    def begin_parts(self, position: Position) -> None:
        """Begin to write a checkpoint in parts."""

    def finish_parts(self) -> None:
        """Wait until the checkpoint that is being written in parts, if there is one, is whole."""


class Interrupted(KeyboardInterrupt):
    """A signal ended a training, after a checkpoint was written.

    Attributes:
        number: of the signal.
        status: the exit status of the process, as in a shell: 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, number: int, where: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; {where} is written; resume from it with --resume")
        self.number, self.status = number, 128 + number


@dataclass(frozen=True)
class RunPlan:
    """When a run saves and evaluates.

    Attributes:
        save_every, evaluate_every: updates from one to the next. Both also happen after the last update, and what was
            evaluated is saved.
        metric: by which evaluations are compared, and whether more of it is better.
        keeps_best: the result is the model of the best evaluation, not the last one.
        patience: evaluations without a better one that end the training; None for any number.
    """

    save_every: int
    evaluate_every: int
    metric: tuple[str, bool] = ("loss", False)
    keeps_best: bool = False
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("save_every", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1 update")


class Run:
    """One training.

    A backend makes updates `start` + 1 to `stop` and calls `finished` after each. As a context manager it handles
    signals: the current update is finished, a checkpoint written, and `Interrupted` raised; a second signal ends the
    process at once. At the end of the context the log is closed.

    Args:
        journal: the log; None in a process that only helps another one, and writes nothing.
        agreement: what a resumed training must share with this one.
        evaluate: a model -> its metrics; None without validation data.
        saved: the checkpoint to resume from.
        sharded: the framework that writes the checkpoints before the last in parts; None to write them whole.

    Attributes:
        start: updates made before.
        stop: updates in all.
        last: the last update that was made.
        waited: evaluations since the best one.
        resumed: the state of the optimizer after `start` updates; None for a new one.
        parts: what writes checkpoints in parts; None to write them whole.
        first_weights: a checksum of those that are trained first; None where they are from a checkpoint.
        restored: the checkpoint in parts that `restore` gives to a trainer, instead of `resumed`.
    """

    def __init__(
        self,
        settings: Settings,
        batches: Batches,
        checkpoints: Checkpoints,
        journal: Journal | None,
        plan: RunPlan,
        *,
        agreement: Mapping[str, Any],
        evaluate: _Evaluate | None = None,
        saved: Saved | None = None,
        sharded: str | None = None,
    ) -> None:
        self.settings = settings
        self.batches = batches
        self.checkpoints = checkpoints
        self.journal = journal
        self.plan = plan
        self.agreement = agreement
        self.evaluate = evaluate
        self.start = 0 if saved is None else saved.position.update
        self.stop = settings.updates
        self.last = self.start
        self.waited = 0 if saved is None else saved.position.waited
        self.restored = None if saved is None or saved.parts is None else saved
        self.resumed = None if saved is None or self.restored is not None else saved.state
        self.parts = None if sharded is None else PartCheckpoints(checkpoints, sharded, self._tell_saved)
        self.first_weights: int | None = None
        self.best = None if saved is None else saved.position.best
        self.signal: int | None = None
        self._handlers: dict[int, Any] = {}

    def learning_rate(self, number: int) -> float:
        """The rate of update `number`, which counts from 1."""
        return learning_rate(number, self.settings.recipe, self.stop)

    def finished(self, number: int, loss: float, trainer: AnyTrainer) -> None:
        """Log, evaluate and save after update `number`, whose loss is that of the weights before it.

        Raises:
            ValueError: the loss is not finite. A backend then leaves weights and optimizer as they were, so that what was
                trained so far can be saved.
            Interrupted: a signal came.
            CheckpointError: the disk is full or cannot be written.
        """
        if not math.isfinite(loss):
            self._fail(number, loss, trainer)
        is_evaluated = self.evaluate is not None and self._is_due(number, self.plan.evaluate_every)
        try:
            self._log(number, loss)
            if is_evaluated:
                self._evaluate(number, trainer)
        except OSError as error:
            raise CheckpointError(
                f"the log of update {number} could not be written: {error}; {self.checkpoints.what_is_kept()}"
            ) from error
        # what was evaluated is always saved: it may be the best, which a process without the metrics cannot know
        if self._is_due(number, self.plan.save_every) or is_evaluated or self.signal is not None:
            self._save(number, trainer)
        self.last = number
        if self.signal is not None:
            self._finish_parts(trainer)
            raise Interrupted(self.signal, str(self.checkpoints.path(number)))
        if self.journal is not None:
            self.journal.resumed()

    def restore(self, trainer: AnyTrainer) -> None:
        """Give a new trainer what the checkpoint holds, if that is in parts; all processes ask for it."""
        if self.restored is not None:
            restore_trainer(self.restored, trainer)

    @property
    def is_stopped(self) -> bool:
        """Whether the training ends before its last update, because evaluations have stopped getting better."""
        return self.plan.patience is not None and self.waited >= self.plan.patience

    def chosen(self) -> int:
        """The update whose model is the result: the last one, or with `keeps_best` the best."""
        return self.best[0] if self.plan.keeps_best and self.best is not None else self.last

    def epoch(self, number: int) -> float:
        """Passes over the data after an update."""
        return number * self.batches.batch_size / len(self.batches.features)

    # -- signals -------------------------------------------------------------------------------------------------

    def __enter__(self) -> Run:
        if threading.current_thread() is threading.main_thread():  # other threads cannot set handlers
            self._handlers = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self.journal is None:
            return
        try:
            self.journal.callbacks.tell(self._end(kind))
        finally:
            self.journal.close()

    def _end(self, kind: type[BaseException] | None) -> TrainingRecord:
        """The record of the end, for callbacks."""
        status = "stopped early" if self.is_stopped and self.last < self.stop else "finished"
        if kind is not None:
            status = "interrupted" if issubclass(kind, KeyboardInterrupt) else "failed"
        best = {} if self.best is None else {"best": self.best[1], "best_update": self.best[0]}
        return TrainingRecord("end", self.last, self.epoch(self.last), best, self.checkpoints.output, status)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        for other, handler in self._handlers.items():
            signal.signal(other, handler)
        if self.journal is not None:
            self.journal.say("stopping: the current update is finished and saved first; once more stops at once")

    # -- parts of `finished` -------------------------------------------------------------------------------------

    def _is_due(self, number: int, every: int) -> bool:
        return number % every == 0 or number == self.stop

    def _log(self, number: int, loss: float) -> None:
        if self.journal is not None:
            tokens = sum(_tokens_of(self.batches.features[index]) for _, _, index in self.batches.draws(number))
            self.journal.update(number, self.epoch(number), loss, self.learning_rate(number), tokens)

    def _evaluate(self, number: int, trainer: AnyTrainer) -> None:
        """Log the metrics of the model, and note whether it is the best so far."""
        if self.journal is None or self.evaluate is None:
            return
        trainer.model.release_infer()  # it keeps copies of older weights
        metrics = self.evaluate(trainer.model)
        trainer.model.release_infer()
        self.journal.evaluation(number, self.epoch(number), metrics)
        name, more_is_better = self.plan.metric
        value, sign = metrics[name], 1 if more_is_better else -1
        is_nan = math.isnan(value) or math.isnan(metrics.get("loss", 0.0))  # even logits of nan have an accuracy
        self.waited += 1
        if not is_nan and (self.best is None or sign * value > sign * self.best[1]):
            self.best, self.waited = (number, value), 0
        if self.is_stopped:
            self.journal.say(f"stopping early: no better {name} in {self.waited} evaluations")

    def _save(self, number: int, trainer: AnyTrainer, *, removes_old: bool = True) -> None:
        """Write a checkpoint. All processes that share a model take part: whole tensors are gathered from all of them."""
        is_last = number == self.stop or self.is_stopped
        if self.parts is not None and self.journal is not None and removes_old and not is_last:
            cast("WritesParts", trainer).begin_parts(self._position(number, self.journal))  # `between` gives such a one
            return
        self._finish_parts(trainer)
        state, (texts, tensors) = trainer.state(), trainer.model.to_save()
        if self.journal is not None:
            lora = self.settings.lora
            model: dict[str, Content] = {name: text.encode() for name, text in texts.items()}
            model |= weight_contents(tensors) if lora is None else trained_contents(lora, trainer.pairs(), tensors)
            path = self.checkpoints.save(self._position(number, self.journal), model, state, removes_old=removes_old)
            self._tell_saved(number, path)

    def _position(self, number: int, journal: Journal) -> Position:
        return Position(number, journal.metrics.size(), self.best, self.agreement, self.waited)

    def _finish_parts(self, trainer: AnyTrainer) -> None:
        """Wait for the checkpoint that is being written in parts, if there is one."""
        if self.parts is not None:
            cast("WritesParts", trainer).finish_parts()

    def _tell_saved(self, number: int, path: Path) -> None:
        if self.journal is not None:
            self.journal.saved(number, self.epoch(number), path)

    def _fail(self, number: int, loss: float, trainer: AnyTrainer) -> NoReturn:
        """Save the state before an update whose loss is not finite, and raise the error.

        That state may be ruined already, so no older one is removed for it.
        """
        before = number - 1
        self._finish_parts(trainer)
        if before not in self.checkpoints.updates():
            self._save(before, trainer, removes_old=False)
        older = [self.checkpoints.path(update).name for update in self.checkpoints.updates() if update < before]
        raise ValueError(
            f"update {number} has a loss of {loss}; the weights that gave it are in {self.checkpoints.path(before)}, "
            f"older ones beside it in {', '.join(older) if older else 'no folder'}. Start from the newest one that was "
            "still good, or from the model that this training began with, in a new output folder, with a lower "
            f"learning_rate (it was {self.learning_rate(number):.3g}), a longer warmup, clip_norm=1.0 or another dtype"
        )


def _tokens_of(feature: Feature) -> int:
    """The tokens of a feature, of all choices together."""
    ids = feature["input_ids"]
    return sum(map(len, ids)) if len(ids) and hasattr(ids[0], "__len__") else len(ids)
