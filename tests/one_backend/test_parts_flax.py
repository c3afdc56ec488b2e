"""Checkpoints in parts in Flax: written by Orbax while the training continues, and read by any number of devices.

Run as a program, this file is one of two processes that write them: `test_parts_flax.py FOLDER`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="jax is not installed")
pytest.importorskip("orbax.checkpoint", reason="orbax-checkpoint is not installed")

import updates  # noqa: E402
from backends import Arrays, assert_close, backend  # noqa: E402
from child_processes import free_ports  # noqa: E402
from jax_processes import environment_of  # noqa: E402

from roberta.common.parameters import parameters  # noqa: E402
from roberta.common.storage.folders import CheckpointError  # noqa: E402
from roberta.flax.parts_files import arrays_of, begin_parts, outline, read_parts, restore_parts  # noqa: E402
from roberta.flax.sharding import is_first  # noqa: E402

CASE, HEAD, UPDATES = "tokens", "ForTokenClassification", 2


def new_trainer(folder: Path, sharded: str = "data", **config: Any) -> Any:
    from roberta.flax.training import Trainer

    if config:
        updates.folder_of(folder, CASE, **config)
    chosen = updates.with_options(updates.settings(CASE, sharding=sharded))
    return Trainer(backend("flax").load(HEAD, folder / CASE, dtype="float64"), chosen)


def update(trainer: Any, number: int) -> float:
    arrays = updates.inputs(CASE, updates.config_of(CASE), 5, seed=number)
    batches = updates.micro_batches(CASE, arrays, 3, trainer.settings.class_weights)
    return float(trainer.update(batches, updates.RATE_OF_TESTS, number))


def written(trainer: Any, folder: Path) -> float:
    """Make two updates, begin to write, and make a third; its loss."""
    for number in range(1, UPDATES + 1):
        update(trainer, number)
    saving = begin_parts(trainer, folder / "parts")
    loss = update(trainer, UPDATES + 1)
    saving.wait()
    assert saving.is_done()
    return loss


def whole(trainer: Any) -> Arrays:
    """All that a training knows, as a whole checkpoint has it."""
    _, tensors = trainer.model.to_save()
    state = trainer.state()
    found = {f"weights.{name}": np.array(load()) for name, (_, _, load) in tensors.items()}
    found |= {f"trained.{name}": np.array(array) for name, array in state.weights.items()}
    return found | {name: np.array(array) for name, array in state.moments.items()}


def serve(folder: Path) -> None:
    """Write parts in one of two processes, read them in the first alone, and resume from them in both."""
    first = is_first()
    trainer = new_trainer(folder, "full")
    loss = written(trainer, folder)
    if first:
        (folder / "read.json").write_text(
            json.dumps({name: a.tolist() for name, a in read_parts(folder / "parts").items()})
        )
    again = new_trainer(folder, "full")
    _, state = outline(trainer)
    restore_parts(again, folder / "parts", state.__class__(UPDATES, {}, state.groups, "the test"))
    assert update(again, UPDATES + 1) == loss
    if first:
        (folder / "loss.json").write_text(json.dumps(loss))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Arrays, float]:
    """A folder with parts, the state beside them, all that they hold, and the loss of the update that follows."""
    folder = tmp_path_factory.mktemp("parts")
    trainer = new_trainer(folder, num_hidden_layers=1)
    loss = written(trainer, folder)
    before = new_trainer(folder, "none")
    for number in range(1, UPDATES + 1):
        update(before, number)
    return folder, outline(before)[1], whole(before), loss


def test_parts_are_those_of_the_moment_when_writing_began(parts: Any) -> None:
    folder, _, wanted, _ = parts
    found = read_parts(folder / "parts")
    assert found.keys() == wanted.keys()
    shapes = {name: one.shape for name, one in parameters(updates.config_of(CASE), HEAD).items()}
    for name, array in wanted.items():
        assert found[name].shape == shapes[name.partition(".")[2]]
        assert_close(found[name], array, 1e-10, name)


@pytest.mark.parametrize("sharded", ["none", "data"])
def test_a_new_trainer_goes_on_from_parts(sharded: str, parts: Any) -> None:
    folder, state, wanted, loss = parts
    trainer = new_trainer(folder, sharded)
    restore_parts(trainer, folder / "parts", state)
    assert trainer.state().step == UPDATES
    found = whole(trainer)
    for name, array in wanted.items():
        assert_close(found[name], array, 1e-10, name)
    assert update(trainer, UPDATES + 1) == pytest.approx(loss, rel=1e-12)


def test_texts_are_those_of_the_models_folder(parts: Any) -> None:
    trainer = new_trainer(parts[0])
    assert outline(trainer)[0] == trainer.model.to_save()[0]


def test_parts_of_another_model_are_refused(parts: Any, tmp_path: Path) -> None:
    other = new_trainer(tmp_path, num_hidden_layers=2)
    with pytest.raises(CheckpointError, match=r"does not fit this training:\n  .*layer.1.*is missing, wanted \(\("):
        restore_parts(other, parts[0] / "parts", parts[1])


@pytest.mark.parametrize("name", ["_METADATA", "manifest.ocdbt"])
def test_damaged_parts_are_an_error_that_names_them(
    name: str, parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one array cannot be read, Orbax ends its loop, and what reads the others then says on stderr that it has."""
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
    shutil.copytree(parts[0] / "parts", tmp_path / "parts")
    (tmp_path / "parts" / name).write_bytes(b"no")
    with pytest.raises(CheckpointError, match=f"{tmp_path}/parts cannot be read by Orbax"):
        read_parts(tmp_path / "parts")
    time.sleep(1)  # until the others have ended


@pytest.mark.slow
def test_two_processes_write_and_one_reads_or_goes_on(parts: Any, tmp_path: Path) -> None:
    updates.folder_of(tmp_path, CASE)
    (port,), command = free_ports(), [sys.executable, __file__, str(tmp_path)]
    children = [
        subprocess.Popen(command, env=environment_of(rank, port, 2), stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for child in children:
        _, error = child.communicate(timeout=300)
        assert not child.returncode, error[-3000:]
    _, state, wanted, loss = parts
    assert json.loads((tmp_path / "loss.json").read_text()) == pytest.approx(loss, rel=1e-10)
    found, by_first = read_parts(tmp_path / "parts"), json.loads((tmp_path / "read.json").read_text())
    for name, array in wanted.items():
        if np.abs(array).max() > 1e-14:  # a bias that does not change the softmax has gradients of only rounding
            assert_close(found[name], array, 1e-10, name)
        np.testing.assert_array_equal(np.array(by_first[name]), found[name])
    trainer = new_trainer(tmp_path)
    restore_parts(trainer, tmp_path / "parts", state)
    assert update(trainer, UPDATES + 1) == pytest.approx(loss, rel=1e-10)
    assert len(arrays_of(trainer)) == len(wanted)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
