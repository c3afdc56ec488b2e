"""Processes that train together: what differs between them is refused, a failure or a signal is heard by all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from thread_processes import Threads, in_all
from training_standin import RECIPE, Model, Trainer, make_run

from roberta.common.training import processes
from roberta.common.training.fingerprints import weights_checksum
from roberta.common.training.processes import OneProcess, between, check_same_training, result_of
from roberta.common.training.recipes import Settings
from roberta.common.training.run import Interrupted

RANKS = 3


def run_of(output: Path) -> Any:
    """A run whose log is closed."""
    run = make_run(output)
    assert run.journal is not None
    run.journal.close()
    return run


@pytest.mark.parametrize("what", ["first_weights", "start", "stop early"])
def test_what_differs_is_named_in_all(what: str, tmp_path: Path) -> None:
    def work(own: Threads) -> None:
        run = run_of(tmp_path)
        run.first_weights = weights_checksum(Model())
        if own.rank == 1:
            other = Model()
            other.weights[2] = 1e-6
            run.first_weights = weights_checksum(other) if what == "first_weights" else run.first_weights
            run.start += what == "start"
            run.agreement = {**run.agreement, "more": 1} if what == "stop early" else run.agreement
        check_same_training(run, own)

    wanted = {
        "first_weights": "first weights: rank 1",
        "start": "updates made: rank 1",
        "stop early": "arguments: rank 1",
    }
    for error in in_all(RANKS, work):
        assert isinstance(error, ValueError)
        assert wanted[what] in str(error)


def test_the_same_is_not_refused(tmp_path: Path) -> None:
    assert in_all(RANKS, lambda own: check_same_training(run_of(tmp_path), own)) == [None] * RANKS


def test_a_failure_while_all_gather_is_not_sent_to_those_who_cannot_hear_it(tmp_path: Path) -> None:
    """The others are in the middle of gathering tensors: what they read next would be taken for one."""
    sent: list[int] = []

    class Alone(OneProcess):
        count = 2

        def gathered(self, value: int) -> list[int]:
            sent.append(value)
            return [value]

    class Failing:
        processes = Alone()

        @property
        def model(self) -> Any:
            raise MemoryError("no room for whole weights")

    run, trainer = run_of(tmp_path), Failing()
    with pytest.raises(MemoryError):
        between(trainer, run, lambda first: first.model)
    assert sent[-1] == processes._MODEL

    def fails(first: Any) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        between(trainer, run, fails)
    assert sent[-1] == processes._END


def test_a_signal_that_comes_while_signals_are_exchanged_is_kept(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    run.journal = None

    class Late(OneProcess):
        def gathered(self, value: int) -> list[int]:
            run.signal = 15
            return [value]

    trainer: Any = Trainer(Model(), run.settings, None)
    trainer.processes = Late()
    with pytest.raises(Interrupted, match="stopped by SIGTERM"):
        between(trainer, run, lambda first: run.finished(1, 0.5, first))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_signal_to_the_first_is_told_to_all(when: str, tmp_path: Path) -> None:
    """Before or after they have told each other of signals."""

    def work(own: Threads) -> None:
        run, trainer = run_of(tmp_path), Trainer(Model(), Settings("mlm", RECIPE, 20), None)
        run.journal, shared = None, cast(Any, trainer)
        shared.processes = own
        run.signal = 15 if own.rank == 0 and when == "before" else None

        def finished(first: Any) -> None:
            run.signal = 15
            run.finished(1, 0.5, first)

        between(shared, run, finished)

    results = in_all(RANKS, work)
    assert all(isinstance(error, Interrupted) and error.status == 143 for error in results), results


def test_all_know_the_result(tmp_path: Path) -> None:
    """The first one alone has evaluated; the others read the newest checkpoint."""

    def work(own: Threads) -> Any:
        run = run_of(tmp_path)
        best = (12, 0.25)
        run.checkpoints = SimpleNamespace(newest=lambda: SimpleNamespace(position=SimpleNamespace(best=best)))
        if own.rank == 0:
            run.last, run.best = 20, best
        return result_of(run, own)

    assert in_all(RANKS, work) == [(20, (12, 0.25))] * RANKS
