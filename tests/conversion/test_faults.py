"""A short version of `tests/faults.py`: saves that are killed, refused by the disk, or read meanwhile."""

from __future__ import annotations

import importlib
import random
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("h5py", reason="h5py is not installed")
pytest.importorskip("msgpack", reason="msgpack is not installed")
if sys.platform == "win32":
    pytest.skip("Windows has no fork", allow_module_level=True)

import faults
import saves
import syscall_faults
import training_faults
from backends import Backend

from roberta.conversion import convert

# JAX, if another test has imported it, warns about every fork; the children here use only numpy
pytestmark = pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning")


def kind(framework: str, name: str) -> saves.Kind:
    return next(one for one in saves.KINDS[framework] if one.name == name)


@pytest.mark.parametrize(("framework", "name"), [("files", "one file"), ("convert", "pt, shards")])
def test_a_kill_at_any_moment_leaves_one_version_whole(framework: str, name: str, tmp_path: Path) -> None:
    counts = faults.kills(kind(framework, name), 4, tmp_path, random.Random(1))
    assert faults.good_kills(counts), counts


@pytest.mark.skipif(syscall_faults.lacking() is not None, reason=str(syscall_faults.lacking()))
@pytest.mark.parametrize("name", ["one file", "three files"])
def test_a_fault_at_any_system_call_leaves_one_version_whole(name: str, tmp_path: Path) -> None:
    counts = faults.syscalls(kind("files", name), tmp_path)
    assert faults.good_syscalls(counts), counts


def test_a_training_that_is_killed_ends_with_the_bytes_of_one_that_is_not(backend: Backend, tmp_path: Path) -> None:
    counts = training_faults.kills(backend.name, 2, tmp_path, random.Random(1))
    assert training_faults.good(counts), counts


@pytest.mark.parametrize("reader", ["open", "convert"])
def test_a_reader_beside_two_writers_sees_one_version(reader: str, tmp_path: Path) -> None:
    counts = faults.torn(kind("convert", "safetensors, shards"), 1.0, tmp_path, reader)
    assert counts["torn"] == counts["failed"] == 0 < counts["good"], counts


def test_a_source_that_is_replaced_while_it_is_converted_is_converted_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = saves.make_sources(tmp_path)
    convert(sources[1], tmp_path / "model", to="safetensors")
    module = importlib.import_module("roberta.conversion.convert")  # in the package, the function has this name
    original = module.write_folder

    def late(folder: Path, *arguments: Any, **options: Any) -> None:
        monkeypatch.setattr(module, "write_folder", original)
        convert(sources[2], tmp_path / "model", to="safetensors", overwrite=True)  # all is open, nothing copied yet
        original(folder, *arguments, **options)

    monkeypatch.setattr(module, "write_folder", late)
    convert(tmp_path / "model", tmp_path / "copy", to="pt")
    assert saves.versions_read(tmp_path / "copy") == {1.0}
    assert saves.versions_read(tmp_path / "model") == {2.0}
