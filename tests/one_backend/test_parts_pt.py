"""Checkpoints in parts in PyTorch: torch's distributed checkpoints, whose pickle is read as data."""

from __future__ import annotations

import dataclasses
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import torch.distributed.checkpoint as dcp  # noqa: E402
import updates  # noqa: E402
from backends import backend  # noqa: E402
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex  # noqa: E402

from roberta.common.storage.folders import CheckpointError  # noqa: E402
from roberta.pt import parts_files  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # one process is meant


def made(folder: Path, **changed: Any) -> Any:
    """A trainer with averages, frozen weights and rates by layer."""
    chosen = updates.with_options(updates.settings("tokens"))
    options = {"recipe": chosen.recipe, "frozen": chosen.frozen, **changed}
    return updates.trainer(backend("pt"), "tokens", folder / "tokens", **options)


def batches() -> Any:
    return updates.micro_batches("tokens", updates.inputs("tokens", updates.config_of("tokens")))


def arrays_of(trainer: Any) -> dict[str, np.ndarray]:
    """All that a checkpoint must hold, by the names in parts, as the whole checkpoint has it."""
    state, model = trainer.state(), trainer.model
    found = {f"weights.{name}": tensor.numpy() for name, tensor in model.state_dict().items()}
    found |= {**state.moments, **{f"trained.{name}": array for name, array in state.weights.items()}}
    return updates.copied(found)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray], Any]:
    """A folder of a trainer after one update, what it held then, and the trainer after two."""
    folder = tmp_path_factory.mktemp("parts")
    updates.folder_of(folder, "tokens")
    trainer = made(folder)
    trainer.update(batches(), 1e-3, 1)
    before = arrays_of(trainer)
    saving = parts_files.begin_parts(trainer, folder / "parts")
    trainer.update(batches(), 1e-3, 2)
    saving.wait()
    assert saving.is_done()
    return folder, before, trainer


def test_updates_meanwhile_do_not_change_what_is_written(written: Any) -> None:
    folder, before, _ = written
    found = parts_files.read_parts(folder / "parts")
    assert found.keys() == before.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(found[name], array, name)


def test_torch_reads_the_folder(written: Any) -> None:
    folder, before, _ = written
    tensors = {name: torch.zeros(array.shape, dtype=torch.float64) for name, array in before.items()}
    dcp.load(tensors, checkpoint_id=folder / "parts")
    for name, array in before.items():
        np.testing.assert_array_equal(tensors[name].numpy(), array, name)


def test_a_restored_trainer_continues_as_the_other_one_did(written: Any) -> None:
    folder, _, trainer = written
    other = made(folder)
    state = dataclasses.replace(trainer.state(), step=1, moments={}, weights={})
    parts_files.restore_parts(other, folder / "parts", state)
    other.update(batches(), 1e-3, 2)
    wanted, found = arrays_of(trainer), arrays_of(other)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, name)
    assert other.state().step == trainer.state().step == 2


def test_the_outline_is_the_state_without_arrays(written: Any) -> None:
    texts, state = parts_files.outline(written[2])
    whole = written[2].state()
    assert (state.step, state.groups, state.moments) == (2, whole.groups, {})
    assert texts == written[2].model.to_save()[0]


def test_parts_of_another_training_are_refused(written: Any) -> None:
    folder, _, trainer = written
    state = trainer.state()
    with pytest.raises(
        CheckpointError, match=r"does not hold the state of this training:\n  not of this training: trained"
    ):
        parts_files.restore_parts(made(folder, recipe=updates.RECIPE), folder / "parts", state)
    with pytest.raises(CheckpointError, match=r"torch.float64 \[.*\], not torch.float32"):
        parts_files.restore_parts(made(folder, dtype="float32"), folder / "parts", state)


class Evil:
    """What runs a command when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.file),)


def test_a_description_that_runs_code_is_not_run(written: Any, tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(CheckpointError, match=r"would call (posix|nt).mkdir"):
        parts_files.read_parts(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["../secret.distcp", "/etc/secret.distcp", "", "secret"])
def test_a_description_leads_to_no_file_outside(name: str, written: Any, tmp_path: Path) -> None:
    described = dcp.FileSystemReader(written[0] / "parts").read_metadata()
    for place in described.storage_data.values():
        place.relative_path = name
    (tmp_path / ".metadata").write_bytes(pickle.dumps(described))
    with pytest.raises(CheckpointError, match="is not a file of this folder"):
        parts_files.read_parts(tmp_path)


def test_damaged_parts_are_an_error(written: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"\.metadata does not exist: the checkpoint is not whole"):
        parts_files.read_parts(tmp_path)
    content = (written[0] / "parts" / ".metadata").read_bytes()
    (tmp_path / ".metadata").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"metadata cannot be read, its pickle is damaged|is cut short"):
        parts_files.read_parts(tmp_path)
    (tmp_path / ".metadata").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged: its tensors have \d+ bytes, and its files \d+"):
        parts_files.read_parts(tmp_path)
    file = next((written[0] / "parts").glob("*.distcp"))
    (tmp_path / file.name).write_bytes(bytes(file.stat().st_size))
    with pytest.raises(CheckpointError, match="cannot be read: rank 0: "):
        parts_files.read_parts(tmp_path)


def test_a_description_of_less_than_a_tensor_is_refused(written: Any, tmp_path: Path) -> None:
    """The rest would be whatever lay in that memory."""
    described: Any = dcp.FileSystemReader(written[0] / "parts").read_metadata()
    next(iter(described.state_dict_metadata.values())).chunks.clear()
    (tmp_path / ".metadata").write_bytes(pickle.dumps(described))
    with pytest.raises(CheckpointError, match="damaged: the parts of a tensor are not all of it"):
        parts_files.read_parts(tmp_path)
    whole = next(one for one in described.state_dict_metadata.values() if len(one.size) == 2 and one.size[0] % 2 == 0)
    half = ChunkStorageMetadata(torch.Size([0, 0]), torch.Size([whole.size[0] // 2, whole.size[1]]))
    described.state_dict_metadata = {
        "weights.x": dataclasses.replace(whole, chunks=[half, half])
    }  # as many elements as the tensor
    (tmp_path / ".metadata").write_bytes(pickle.dumps(described))
    with pytest.raises(CheckpointError, match="damaged: the parts of a tensor are not all of it"):
        parts_files.read_parts(tmp_path)
    described.state_dict_metadata, described.storage_data = {}, {MetadataIndex("x"): None}
    (tmp_path / ".metadata").write_bytes(pickle.dumps(described))
    with pytest.raises(CheckpointError, match="damaged: a place is not one"):
        parts_files.read_parts(tmp_path)
