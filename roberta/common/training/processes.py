"""Several processes that train one model, on one machine or several: who writes, and what the others do meanwhile.

Between two updates the first process alone logs, evaluates and saves. The others wait for it, and help where weights
or moments are split over all: it sends them what it needs, until it sends that the training continues. What differs
between the frameworks is only how a number reaches the other processes.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from roberta.common.storage.folders import CheckpointError
from roberta.common.training.checkpoints import Position
from roberta.common.training.optimizer_state import TrainingState
from roberta.common.training.run import AnyTrainer, Interrupted, Run

# What the first process sends.
_NEXT, _MODEL, _STATE, _PAIRS, _END, _STOP, _INTERRUPTED, _BEGIN_PARTS, _FINISH_PARTS = range(9)
_SECONDS_UNTIL_SEEN = 10  # until a file made on one machine is seen on another


class Processes(Protocol):
    """The processes of a training, as each of them sees them; ranks count from 0."""

    @property
    def rank(self) -> int:
        """The number of this one."""

    @property
    def count(self) -> int:
        """How many there are."""

    def gathered(self, value: int) -> list[int]:
        """The value of each process, by rank; all of them ask for it.

        Args:
            value: from 0 to 2**31 - 1, as JAX has no more bits by default.
        """


class OneProcess:
    """A training that has its process to itself."""

    rank, count = 0, 1

    def gathered(self, value: int) -> list[int]:
        """The value."""
        return [value]


class SharedTrainer(AnyTrainer, Protocol):
    """A trainer that may be one of several."""

    processes: Processes


def check_same_training(run: Run, processes: Processes) -> None:
    """Raise `ValueError` in all processes unless all have the same data, settings and checkpoint.

    What they would compute together is an update of no training.
    """
    if processes.count == 1:
        return
    settings = run.settings
    facts = {
        **run.agreement,
        **{"updates made": run.start, "micro_batch_size": run.batches.micro_batch_size},
        **{"sharding": settings.sharding, "compile": settings.compile},
        **{"gradient_checkpointing": settings.gradient_checkpointing, "sharded_checkpoints": run.parts is not None},
        **{"first weights": run.first_weights},
    }
    asked = {"the arguments": sorted(facts)}  # first, as all must ask for the same values below
    wrong = _differing(asked, processes) or _differing(facts, processes) or _blind(run.checkpoints.output, processes)
    if wrong:
        listed = "\n  ".join(f"{name}: rank{'s' * (len(ranks) > 1)} {ranks}" for name, ranks in wrong.items())
        raise ValueError(
            f"the {processes.count} processes are not of one training. What differs from the first one's:\n  {listed}\n"
            f"This is rank {processes.rank} on {socket.gethostname()}. Start all with the same command, on the same "
            "files, and with an output folder that all of them see"
        )


def _blind(output: Path, processes: Processes) -> dict[str, str]:
    """The ranks that do not see a file which the first process makes in the folder of the training."""
    number = processes.gathered(secrets.randbits(31))[0]
    file = output / f".seen-{number:08x}.tmp"
    if processes.rank == 0:
        file.touch()
    processes.gathered(0)  # it is made
    until = time.monotonic() + _SECONDS_UNTIL_SEEN
    while not (is_seen := file.exists()) and time.monotonic() < until:
        time.sleep(0.05)
    seen = processes.gathered(int(is_seen))
    if processes.rank == 0:
        file.unlink(missing_ok=True)
    ranks = ", ".join(str(rank) for rank, one in enumerate(seen) if not one)
    return {f"what is in output, which is {output} here": ranks} if ranks else {}


def _differing(facts: Mapping[str, object], processes: Processes) -> dict[str, str]:
    """The facts that are not the same in all processes -> the ranks that differ from the first."""
    found = {name: processes.gathered(_hash(value)) for name, value in sorted(facts.items())}
    ranks = {name: [rank for rank, value in enumerate(values) if value != values[0]] for name, values in found.items()}
    return {name: ", ".join(map(str, others)) for name, others in ranks.items() if others}


def between(trainer: SharedTrainer, run: Run, finished: Callable[[AnyTrainer], None]) -> bool:
    """Call `finished` in the first process; the others help it until it is done.

    Returns:
        Whether the training ends here: what `run.is_stopped` says in the first process.

    Raises:
        Interrupted: a signal came to any of them.
        CheckpointError: a part of a checkpoint could not be written.
        RuntimeError: in the others, where `finished` raised in the first.
    """
    processes = trainer.processes
    told = max(processes.gathered(run.signal or 0))  # one process may have been told to stop, not all
    run.signal = run.signal or told or None  # or meanwhile
    if processes.rank:
        return _help(trainer, run)
    first = First(trainer, run)
    try:
        if run.parts is not None:
            run.parts.poll(processes)
        finished(first)
    except BaseException as error:
        if isinstance(error, Interrupted):
            processes.gathered(_INTERRUPTED)
            processes.gathered(error.number)  # it may have come after signals were exchanged
        elif not first.is_joined:
            processes.gathered(_END)
        raise
    processes.gathered(_STOP if run.is_stopped else _NEXT)
    return run.is_stopped


def result_of(run: Run, processes: Processes) -> tuple[int, tuple[int, float] | None]:
    """The update of the result and the best evaluation, in all processes, once the first one has published the model."""
    chosen = processes.gathered(run.chosen())[0]
    if processes.rank:
        newest = run.checkpoints.newest()
        return chosen, None if newest is None else newest.position.best
    return chosen, run.best


class First:
    """A trainer as the first process sees it: the others join in what they all have a part of.

    Attributes:
        is_joined: whether the others are gathering tensors, and so cannot hear of an error here. What started the
            processes then ends them, once the first one has ended with its message.
    """

    def __init__(self, trainer: SharedTrainer, run: Run) -> None:
        self.trainer, self.run, self.is_joined = trainer, run, False

    @contextmanager
    def joined(self, what: int) -> Iterator[None]:
        """Have the others join in what the block does; an error leaves them in it."""
        self.trainer.processes.gathered(what)
        self.is_joined = True
        yield
        self.is_joined = False

    @property
    def model(self) -> Any:
        """The model with whole weights."""
        with self.joined(_MODEL):
            return self.trainer.model

    def state(self) -> TrainingState:
        """What the optimizer knows, whole."""
        with self.joined(_STATE):
            return self.trainer.state()

    def pairs(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """A and B of the adapter that is trained, by weight; none without an adapter."""
        with self.joined(_PAIRS):
            return self.trainer.pairs()

    def begin_parts(self, position: Position) -> None:
        """Begin to write a checkpoint in parts, once the one before is whole."""
        processes, parts = self.trainer.processes, self.run.parts
        assert parts is not None
        self.finish_parts()
        parts.prepare(self.trainer, position)
        processes.gathered(_BEGIN_PARTS)
        processes.gathered(position.update)
        parts.begin(self.trainer, processes, position.update, position)

    def finish_parts(self) -> None:
        """Wait until the checkpoint that is being written in parts, if there is one, is whole."""
        if self.run.parts is not None:
            self.trainer.processes.gathered(_FINISH_PARTS)
            self.run.parts.finish(self.trainer.processes)


def _help(trainer: SharedTrainer, run: Run) -> bool:
    """Do what the first process asks for; whether the training ends then."""
    processes, written = trainer.processes, run.parts
    failure: CheckpointError | None = None

    # a failure is known to the first process too, which then sends that the training ends
    def try_to(step: Callable[[], None]) -> None:
        nonlocal failure
        try:
            step()
        except CheckpointError as error:
            failure = error

    asked: dict[int, Callable[[], object]] = {
        _MODEL: lambda: trainer.model, _STATE: trainer.state, _PAIRS: trainer.pairs,
    }  # fmt: skip
    if written is not None:
        try_to(lambda: written.poll(processes))
        asked[_BEGIN_PARTS] = lambda: try_to(lambda: written.begin(trainer, processes, max(processes.gathered(0))))
        asked[_FINISH_PARTS] = lambda: try_to(lambda: written.finish(processes))
    while (what := processes.gathered(_NEXT)[0]) in asked:
        asked[what]()
    if what == _INTERRUPTED:
        raise Interrupted(processes.gathered(0)[0], "a checkpoint")
    if what == _END:
        message = "the first process has ended the training; its own message says why"
        raise RuntimeError(message) if failure is None else failure
    return what == _STOP


def _hash(value: object) -> int:
    """A number of a value that is plain JSON."""
    text = json.dumps(value, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
