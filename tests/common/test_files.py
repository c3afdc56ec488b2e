"""write_folder: a reader, or a crash at any moment, sees the old folder or the new one, whole."""

from __future__ import annotations

import errno
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from roberta.common import files
from roberta.common.checkpoint import size_in_bytes
from roberta.common.files import CheckpointError, write_folder

SAVER = """
import itertools, sys
from roberta.common.files import write_folder
for version in itertools.count():
    content = str(version).encode().rjust(8) * 20_000
    write_folder(sys.argv[1], {name: content for name in ("a", "b", "c")})
"""


def test_a_kill_at_any_moment_leaves_one_whole_version(tmp_path: Path) -> None:
    rng = random.Random(0)
    target = tmp_path / "model"
    for _ in range(12):
        saver = subprocess.Popen([sys.executable, "-c", SAVER, str(target)], stderr=subprocess.DEVNULL)
        while not target.exists() and saver.poll() is None:
            time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.3))
        saver.kill()
        saver.wait()
        contents = {path.name: path.read_bytes() for path in target.iterdir() if not path.name.startswith(".")}
        assert set(contents) == {"a", "b", "c"}
        assert len(set(contents.values())) == 1
        assert {len(content) for content in contents.values()} == {160_000}
    write_folder(target, {"a": b"1", "b": b"2"})
    assert {path.name for path in tmp_path.iterdir()} == {"model", ".model.lock"}, "what the dead left is removed"
    assert (target / "c").exists(), "other files stay"


def test_an_error_on_the_way_leaves_the_old_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", {"a": b"old", "b": b"old"})

    def content() -> Iterator[bytes]:
        yield b"new"
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_folder(tmp_path / "model", {"a": b"new", "b": content()})
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == {"a": b"old", "b": b"old"}


@pytest.mark.parametrize("where", ["FileLock", "_swap"])
def test_where_nothing_may_be_written_beside_the_folder_it_is_written_inside(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock fails where the parent may not be written, the swap where the folder is a mount point."""
    folder = tmp_path / "model"
    write_folder(folder, {"a": b"old", "shard-1": b"old", "mine": b"kept"})
    original = getattr(files, where)

    def refused(path: Path, *arguments: Path) -> object:
        if path.parent == folder:
            return original(path, *arguments)
        raise OSError(errno.EBUSY if where == "_swap" else errno.EACCES, "refused", str(path))

    monkeypatch.setattr(files, where, refused)
    write_folder(folder, {"a": b"new", "b": b"new"}, stale=lambda name: name.startswith("shard"))
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}
    assert found == {"a": b"new", "b": b"new", "mine": b"kept"}
    with pytest.raises(OSError, match="refused"):
        write_folder(tmp_path / "another", {"a": b"new"})


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("")
    with pytest.raises(CheckpointError, match="is a file"):
        write_folder(tmp_path / "model", {"a": b""})


@pytest.mark.parametrize(
    ("text", "size"), [(500, 500), ("500", 500), ("2KB", 2000), ("2KiB", 2048), ("5GB", 5 * 10**9)]
)
def test_sizes(text: int | str, size: int) -> None:
    assert size_in_bytes(text) == size
    with pytest.raises(ValueError, match="is no size"):
        size_in_bytes("many")
