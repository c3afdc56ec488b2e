"""Checkpoints in parts: what is common to the frameworks, with a backend in numpy and processes that are threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from thread_processes import Threads, in_all
from training_standin import Model, Trainer, log, make_run, train

from roberta import Training
from roberta.common import frameworks
from roberta.common.formats import safetensors_file
from roberta.common.storage.folders import CheckpointError
from roberta.common.training import part_checkpoints, processes
from roberta.common.training.checkpoints import Checkpoints
from roberta.common.training.initial_weights import is_config
from roberta.common.training.optimizer_state import TrainingState
from roberta.common.training.part_checkpoints import PARTS_FILE, as_whole, read_whole
from roberta.common.training.processes import OneProcess, between

STEP = "step-000006"


class Saving:
    """The saving of a file of arrays that ends when it is told to."""

    def __init__(self, write: Callable[[], object], ends: threading.Event) -> None:
        self.write, self.ends = write, ends

    def is_done(self) -> bool:
        return self.ends.is_set()

    def wait(self) -> None:
        self.write()


class NumpyParts:
    """A `parts_files` of the trainer in numpy: half of each tensor in the file of each process.

    Attributes:
        ends: whether savings end by themselves; else only when they are waited for.
        fails: the rank whose files cannot be written.
        late: the rank whose saving ends only when it is waited for.
        cannot_begin: the rank whose saving does not begin.
    """

    def __init__(self) -> None:
        self.ends, self.fails, self.late, self.cannot_begin = threading.Event(), -1, -1, -1
        self.ends.set()

    def outline(self, trainer: Any) -> tuple[Mapping[str, str], TrainingState]:
        state = trainer.state()
        return {"config.json": "{}"}, TrainingState(state.step, {}, state.groups, state.source)

    def begin_parts(self, trainer: Any, folder: Path) -> Saving:
        rank, count = trainer.processes.rank, trainer.processes.count
        if rank == self.cannot_begin:
            raise MemoryError("no room for a copy")
        arrays = {"weights.weights": trainer.model.weights, **trainer.state().moments}
        own = {name: np.array_split(array, count)[rank].copy() for name, array in arrays.items()}

        def write() -> None:
            assert self.cannot_begin < 0, "waits for ever for the process that has not begun"
            if rank == self.fails:
                raise OSError("No space left on device")
            folder.mkdir(exist_ok=True)
            np.savez(folder / f"{rank}.npz", **own)

        return Saving(write, threading.Event() if rank == self.late else self.ends)

    def restore_parts(self, trainer: Any, folder: Path, state: TrainingState) -> None:
        found = self.read_parts(folder)
        trainer.model.weights, trainer.step = found["weights.weights"], state.step
        trainer.average, trainer.square = found["exp_avg.weights"], found["exp_avg_sq.weights"]

    def read_parts(self, folder: Path) -> dict[str, np.ndarray]:
        parts = []
        for path in sorted(folder.glob("*.npz")):
            with np.load(path) as arrays:
                parts.append(dict(arrays))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> NumpyParts:
    made = NumpyParts()
    monkeypatch.setattr(frameworks, "backend_module", lambda framework, name: made)
    return made


def trained(run: Any, processes: Any, stop: int | None = None) -> Any:
    """Make the updates of a run as a backend's `train` does; `stop` ends them as a kill would."""
    trainer: Any = Trainer(Model(), run.settings, None)
    trainer.processes = processes
    run.restore(trainer)
    try:
        for number, micro_batches in enumerate(run.batches.updates(run.start, run.stop), run.start + 1):
            loss = trainer.update(micro_batches, run.learning_rate(number), number)
            if between(trainer, run, partial(run.finished, number, loss)) or number == stop:
                break
    finally:
        if run.journal is not None:
            run.journal.close()
    return trainer


def in_threads(count: int, output: Path, stop: int | None = None, **options: Any) -> list[Any]:
    """What `trained` returns or raises in each of several processes."""
    saved, signalled = options.pop("saved", None), options.pop("signalled", 0)

    def work(own: Threads) -> Any:
        run = make_run(output, saved=saved, sharded="pt", **options)
        if own.rank:
            run.journal.close()
            run.journal = None
        run.signal = signalled or None
        return trained(run, own, stop)

    return in_all(count, work)


def test_a_resumed_training_ends_as_one_of_whole_checkpoints_does(parts: NumpyParts, tmp_path: Path) -> None:
    """Two processes write, one resumes; the last checkpoint is whole."""
    wanted = train(make_run(tmp_path / "whole"))
    in_threads(2, tmp_path / "run", stop=14)
    assert Checkpoints(tmp_path / "run").updates() == [6, 12]
    folder = tmp_path / "run" / "checkpoints" / STEP
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "vocab.json", "trainer.json", "optimizer.json", "parts", "parts.json",
    }  # fmt: skip
    saved = Checkpoints(tmp_path / "run").newest()
    assert saved is not None
    assert (saved.parts, saved.state.moments) == ("pt", {})
    run = make_run(tmp_path / "run", saved=saved, sharded="pt")
    found = trained(run, OneProcess())
    np.testing.assert_array_equal(found.model.weights, wanted.model.weights)
    np.testing.assert_array_equal(found.square, wanted.square)
    assert log(tmp_path / "run") == log(tmp_path / "whole")
    last = Checkpoints(tmp_path / "run").newest()
    assert last is not None
    assert not [path for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.startswith(".")]
    assert (last.parts, last.position.update) == (None, 20)


def test_nothing_counts_before_all_parts_are_written(parts: NumpyParts, tmp_path: Path) -> None:
    parts.ends.clear()
    in_threads(2, tmp_path, stop=11)
    assert Checkpoints(tmp_path).updates() == []
    (litter,) = (tmp_path / "checkpoints").iterdir()
    assert litter.name == f".{STEP}.parts.tmp"
    Checkpoints(tmp_path).remove_litter()
    assert not litter.exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_one_process_that_is_late_holds_back_the_name(rank: int, parts: NumpyParts, tmp_path: Path) -> None:
    parts.late = rank
    in_threads(2, tmp_path, stop=11)
    assert Checkpoints(tmp_path).updates() == []


def test_the_next_checkpoint_waits_for_the_one_before(parts: NumpyParts, tmp_path: Path) -> None:
    parts.ends.clear()
    in_threads(2, tmp_path, stop=12)
    assert Checkpoints(tmp_path).updates() == [6]


def test_a_part_that_cannot_be_written_is_an_error_in_all(parts: NumpyParts, tmp_path: Path) -> None:
    parts.fails = 1
    first, second = in_threads(2, tmp_path)
    assert isinstance(first, CheckpointError)
    assert f"{STEP} could not be written: rank 1 failed, and its own message says why; there is no" in str(first)
    assert "could not be written: OSError: No space left on device; there is no checkpoint yet" in str(second)


@pytest.mark.parametrize("signalled", [0, 15])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_cannot_begin_ends_all(rank: int, signalled: int, parts: NumpyParts, tmp_path: Path) -> None:
    """Also where they would wait for the parts at once, because a signal has come."""
    parts.cannot_begin = rank
    results = in_threads(2, tmp_path, signalled=signalled)
    assert all(isinstance(result, CheckpointError) for result in results), results
    assert "could not be written: MemoryError: no room for a copy" in str(results[rank])
    assert f"rank {rank} failed" in str(results[1 - rank])
    assert Checkpoints(tmp_path).updates() == []


def test_a_save_in_parts_gathers_no_whole_model(
    parts: NumpyParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def whole(first: Any) -> Any:
        asked.append("model")
        return first.trainer.model

    monkeypatch.setattr(processes.First, "model", property(whole))
    in_threads(2, tmp_path, stop=14)
    assert Checkpoints(tmp_path).updates() == [6, 12]
    assert asked == []


def test_a_signal_waits_for_the_checkpoint(parts: NumpyParts, tmp_path: Path) -> None:
    parts.ends.clear()
    run = make_run(tmp_path, sharded="pt")
    run.signal = 15
    with pytest.raises(KeyboardInterrupt, match=r"stopped by SIGTERM; .*step-000001 is written"):
        trained(run, OneProcess())
    assert Checkpoints(tmp_path).updates() == [1]


def test_the_best_checkpoint_becomes_a_model_that_all_read(parts: NumpyParts, tmp_path: Path) -> None:
    in_threads(2, tmp_path, stop=14)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.publish(6)
    saved = checkpoints.newest()
    assert saved is not None
    stored = safetensors_file.read_safetensors(tmp_path / "model.safetensors")
    wanted = parts.read_parts(checkpoints.path(6) / "parts")["weights.weights"]
    np.testing.assert_array_equal(stored["weights"].load(), wanted)
    assert not (tmp_path / PARTS_FILE).exists()


def test_another_framework_reads_the_parts_whole(parts: NumpyParts, tmp_path: Path) -> None:
    in_threads(2, tmp_path, stop=14)
    saved = Checkpoints(tmp_path).newest()
    assert saved is not None
    tensors = parts.read_parts(saved.folder / "parts")
    with as_whole(saved, tmp_path) as whole:
        stored = safetensors_file.read_safetensors(whole.folder / "model.safetensors")
        np.testing.assert_array_equal(stored["weights"].load(), tensors["weights.weights"])
        np.testing.assert_array_equal(whole.state.moments["exp_avg.weights"], tensors["exp_avg.weights"])
        assert whole.state.step == 12
    assert not whole.folder.exists()


def test_parts_that_are_cut_short_are_not_resumed_from(parts: NumpyParts, tmp_path: Path) -> None:
    in_threads(2, tmp_path, stop=14)
    (tmp_path / "checkpoints" / "step-000012" / "parts" / "1.npz").write_bytes(b"few")
    with pytest.warns(UserWarning, match="1.npz has 3 bytes, not .*; trying an older checkpoint"):
        saved = Checkpoints(tmp_path).newest()
    assert saved is not None
    assert saved.position.update == 6


def test_parts_need_what_reads_them(parts: NumpyParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_threads(2, tmp_path, stop=8)
    saved = Checkpoints(tmp_path).newest()
    assert saved is not None
    monkeypatch.setitem(part_checkpoints._ENGINES, "pt", (("a_module_that_is_missing",), "pip install it"))
    with pytest.raises(CheckpointError, match="is in parts, which only a_module_that_is_missing reads: pip install it"):
        read_whole(saved)


def test_a_checkpoint_in_parts_is_no_config_for_new_weights(parts: NumpyParts, tmp_path: Path) -> None:
    in_threads(2, tmp_path, stop=8)
    with pytest.raises(CheckpointError, match="is a checkpoint in parts, which only the training that wrote it reads"):
        is_config(tmp_path / "checkpoints" / STEP)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "sharded_checkpoints=True is for several processes, each of which writes its parts; omit it, or give"),
        ({"sharding": "data", "lora": "r=2"}, "with lora='r=2' a checkpoint holds the adapter and the head only"),
    ],
)
def test_what_has_no_parts_is_refused(given: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=text):
        Training(task="mlm", model="m", train=["t"], output=tmp_path, sharded_checkpoints=True, **given)


def test_tensorflow_has_no_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frameworks, "installed", lambda: ["tf"])
    options: dict[str, Any] = {"sharding": "data", "sharded_checkpoints": True, "framework": "tf"}
    with pytest.raises(ValueError, match="framework='tf' keeps all weights in every process, and has no parts"):
        Training(task="mlm", model="m", train=["t"], output=tmp_path, **options).run()
