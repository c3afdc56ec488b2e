"""Readers during writes: files that are opened together belong to one save, whatever is saved meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import checkpoints
import numpy as np
import pytest
from filelock import FileLock, Timeout

from roberta import CheckpointError
from roberta.common.checkpoint import loading
from roberta.common.checkpoint.checkpoint import legacy, open_checkpoint
from roberta.common.storage import held_files
from roberta.common.storage.folders import write_folder
from roberta.common.storage.held_files import ATTEMPTS, HeldFile, read_one_save

KINDS = {
    "one file": {},
    "shards": {"max_shard_size": "8KB"},
    "pt": {"legacy": "pt"},
    "tf": {"legacy": "tf", "max_shard_size": "8KB"},
    "flax": {"legacy": "flax"},
}
HUB = loading.HubOptions(
    revision="main", subfolder="", cache_dir=None, force_download=False, local_files_only=True, token=None
)


def save(folder: Path, version: int, kind: str = "one file") -> None:
    """A checkpoint whose values are all `version`, as its config says too."""
    options = {**KINDS[kind]}
    if "legacy" in options:
        options["legacy"] = legacy(options["legacy"])
    config = checkpoints.small_config("ForMaskedLM", initializer_range=float(version))
    tensors = {name: np.full_like(array, version) for name, array in checkpoints.draw(config, "ForMaskedLM").items()}
    checkpoints.save(folder, config, tensors, "float32", **options)


def opened(folder: Path) -> loading.Pretrained:
    return loading.open_pretrained(
        folder, "ForMaskedLM", config=None, overrides={}, hub=HUB, formats=None, variant=None, has_pooler=None,
        ignore_mismatched_sizes=False,
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_opened_stays_when_another_is_saved_in_its_place(kind: str, tmp_path: Path) -> None:
    save(tmp_path / "model", 1, kind)
    tensors = open_checkpoint(tmp_path / "model").tensors
    save(tmp_path / "model", 2, kind)
    assert {float(value) for tensor in tensors.values() for value in np.unique(tensor.load())} == {1.0}


@pytest.mark.parametrize("kind", ["one file", "shards"])
def test_config_and_weights_are_of_one_save(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "model", 1, kind)
    original, versions = loading.open_once, iter((2, 3))

    def late(*arguments: object, **options: object) -> object:
        for version in versions:
            save(tmp_path / "model", version, kind)  # after the config was read, and before the weights are
            break
        return original(*arguments, **options)

    monkeypatch.setattr(loading, "open_once", late)
    found = opened(tmp_path / "model")
    values = {float(value) for tensor in found.match.found.values() for value in np.unique(tensor.load())}
    assert (found.config.initializer_range, values) == (3.0, {3.0})


def test_shards_are_of_one_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "model", 1, "shards")
    original, versions = held_files.HeldFile.__init__, iter((2,))

    def late(self: HeldFile, path: Path) -> None:
        if path.name.startswith("model-00003"):
            for version in versions:
                save(tmp_path / "model", version, "shards")
        original(self, path)

    monkeypatch.setattr(held_files.HeldFile, "__init__", late)
    tensors = open_checkpoint(tmp_path / "model").tensors
    assert {float(value) for tensor in tensors.values() for value in np.unique(tensor.load())} == {2.0}


def always_replaced(folder: Path, calls: list[bool]) -> Callable[[], str]:
    """A reader that finds a new folder whenever it may be replaced, and records whether it may."""

    def read() -> str:
        try:
            FileLock(folder.parent / ".model.lock").acquire(timeout=0).lock.release()
        except Timeout:
            calls.append(False)
            return (folder / "a").read_text()
        calls.append(True)
        write_folder(folder, {"a": b"next", "b": b"next"})
        return (folder / "a").read_text()

    return read


def test_writers_wait_in_the_end_for_a_reader_that_they_always_disturb(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", {"a": b"first", "b": b"first"})
    calls: list[bool] = []
    assert read_one_save(tmp_path / "model", always_replaced(tmp_path / "model", calls)) == "next"
    assert calls == [True] * ATTEMPTS + [False]
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def test_a_reader_that_cannot_make_writers_wait_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(folder: Path) -> None:
        raise PermissionError(f"no lock beside {folder.name}")

    write_folder(tmp_path / "model", {"a": b"first", "b": b"first"})
    monkeypatch.setattr(held_files, "kept_from_writers", refused)
    with pytest.raises(CheckpointError, match=r"model was replaced 3 times .*no lock beside model.*read a copy"):
        read_one_save(tmp_path / "model", always_replaced(tmp_path / "model", []))


def test_an_error_of_a_folder_that_nobody_replaced_is_raised_at_once(tmp_path: Path) -> None:
    calls = []

    def read() -> None:
        calls.append(1)
        raise CheckpointError("damaged")

    with pytest.raises(CheckpointError, match="damaged"):
        read_one_save(tmp_path, read)
    assert len(calls) == 1


def test_a_file_that_is_written_into_after_it_was_opened_is_an_error(tmp_path: Path) -> None:
    save(tmp_path, 1)
    tensors = open_checkpoint(tmp_path).tensors
    os.truncate(tmp_path / "model.safetensors", 100)  # a mapped file that shrinks kills the process that reads it
    with pytest.raises(CheckpointError, match=r"model\.safetensors was written into while it was read"):
        tensors["lm_head.bias"].load()


def test_a_layout_that_was_read_from_another_file_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    held = HeldFile(tmp_path / "a")
    held.check_name()
    write_folder(tmp_path, {"a": b"new"})
    with pytest.raises(CheckpointError, match="a was replaced while it was read"):
        held.check_name()


def test_what_was_read_is_closed_when_nothing_needs_it(tmp_path: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    save(tmp_path, 1, "shards")
    tensors = open_checkpoint(tmp_path).tensors
    assert len(os.listdir("/dev/fd")) > before
    del tensors
    assert len(os.listdir("/dev/fd")) == before
