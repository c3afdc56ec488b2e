"""write_folder: a reader sees the complete old folder or the complete new one, and so does a crash at any moment."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from roberta.common.checkpoint.checkpoint import is_stale, size_in_bytes
from roberta.common.storage import folders
from roberta.common.storage.folders import CheckpointError, write_folder
from roberta.common.storage.held_files import read_one_save
from roberta.common.storage.hub import local_folder
from roberta.common.storage.names import FORMATS, weight_files

SAVER = """
import itertools, sys
from roberta.common.storage.folders import write_folder
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
    assert {path.name for path in tmp_path.iterdir()} == {"model"}, "what the dead left is removed"
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
    """The lock fails if the parent is not writable, the swap if the folder is a mount point."""
    folder = tmp_path / "model"
    write_folder(folder, {"a": b"old", "shard-1": b"old", "mine": b"kept"})
    original = getattr(folders, where)

    def refused(path: Path, *arguments: Path) -> object:
        if path.parent == folder:
            return original(path, *arguments)
        raise OSError(errno.EBUSY if where == "_swap" else errno.EACCES, "refused", str(path))

    monkeypatch.setattr(folders, where, refused)
    write_folder(folder, {"a": b"new", "b": b"new"}, stale=lambda name: name.startswith("shard"))
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert found == {"a": b"new", "b": b"new", "mine": b"kept"}
    with pytest.raises(OSError, match="refused"):
        write_folder(tmp_path / "another", {"a": b"new"})


def test_contents_in_pieces_are_not_lost_where_the_folder_cannot_be_swapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Path) -> None:
        raise OSError(errno.EBUSY, "a mount point")

    folder = tmp_path / "model"
    write_folder(folder, {"a": b"old", "b": b"old"})
    monkeypatch.setattr(folders, "_swap", refused)
    write_folder(folder, {"a": iter([b"ne", b"w"]), "assets/b": iter([b"new"])})
    assert {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == {"a": b"new", "b": b"new"}


# A writer on a system that cannot swap folders in one step, killed after the old one was moved and before the new one.
BETWEEN = """
import os, signal, sys
from pathlib import Path
from roberta.common.storage import folders
folders._exchange = lambda one, other: False
rename = Path.rename
def dying(self, target):
    if str(target) == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
Path.rename = dying
folders.write_folder(sys.argv[1], {"a": b"new", "b": b"new"})
"""


def killed_between_two_renames(folder: Path) -> Path:
    write_folder(folder, {"a": b"old", "b": b"old", "mine": b"kept"})
    assert subprocess.run([sys.executable, "-c", BETWEEN, str(folder)], check=False).returncode == -9
    assert not folder.exists()
    return folder


def test_a_writer_killed_between_two_renames_loses_nothing_at_the_next_save(tmp_path: Path) -> None:
    folder = killed_between_two_renames(tmp_path / "model")
    write_folder(folder, {"a": b"next", "b": b"next"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": b"next", "b": b"next", "mine": b"kept"}
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


@pytest.mark.parametrize("reader", ["read_one_save", "local_folder"])
def test_a_writer_killed_between_two_renames_loses_nothing_for_a_reader(reader: str, tmp_path: Path) -> None:
    folder = killed_between_two_renames(tmp_path / "model")
    if reader == "read_one_save":
        assert read_one_save(folder, lambda: (folder / "a").read_bytes()) == b"old"
    else:
        assert local_folder(folder, files=("a",)) == folder
    assert {path.name for path in folder.iterdir()} == {"a", "b", "mine"}


def test_a_folder_left_aside_that_may_not_be_moved_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = killed_between_two_renames(tmp_path / "model")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(folders.FileLock, "acquire", refused)
    with pytest.raises(CheckpointError, match=r"writer died; move .*\.old\.tmp there: read-only"):
        folders.restore(folder)


def test_a_writer_leaves_those_of_folders_with_like_names_alone(tmp_path: Path) -> None:
    def content() -> Iterator[bytes]:
        yield b"new"
        write_folder(tmp_path / "model", {"a": b"", "b": b""})

    write_folder(tmp_path / "model.v2", {"a": b"new", "b": content()})
    assert (tmp_path / "model.v2" / "b").read_bytes() == b"new"


def test_litter_of_a_folder_with_brackets_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".model[1].123.0123abcd.tmp").mkdir()
    write_folder(tmp_path / "model[1]", {"a": b"", "b": b""})
    assert [path.name for path in tmp_path.iterdir()] == ["model[1]"]


def test_writers_stay_apart_although_the_lock_file_goes(tmp_path: Path) -> None:
    inside: list[int] = []

    def content(writer: int) -> Iterator[bytes]:
        inside.append(writer)
        time.sleep(0.001)
        yield str(inside).encode()
        inside.remove(writer)

    def save(writer: int) -> None:
        for _ in range(10):
            write_folder(tmp_path / "model", {"a": content(writer), "b": b""})
            assert (tmp_path / "model" / "a").read_bytes().count(b",") == 0, "two writers at once"

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(save, range(6)))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_on_a_read_only_disk_a_save_is_an_error_and_the_old_folder_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "model", {"a": b"old", "b": b"old"})
    original = os.open

    def read_only(path: str, flags: int, *mode: int, **options: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return original(path, flags, *mode, **options)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(OSError, match="Read-only file system"):
        write_folder(tmp_path / "model", {"a": b"new", "b": b"new"})
    found = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    assert found == {"a": b"old", "b": b"old"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
def test_files_and_folder_have_the_modes_that_the_umask_leaves(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_folder(tmp_path / "model", {"a": b"", "b": b""})
        write_folder(tmp_path / "model", {"a": b""})
    finally:
        os.umask(old)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "model", *(tmp_path / "model").iterdir())]
    assert modes == [0o750, 0o640, 0o640]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("")
    with pytest.raises(CheckpointError, match="is a file"):
        write_folder(tmp_path / "model", {"a": b""})


@pytest.mark.parametrize(
    ("text", "size"), [(500, 500), ("500", 500), ("2KB", 2000), ("2KiB", 2048), ("5GB", 5 * 10**9)]
)
def test_sizes(text: int | str, size: int) -> None:
    assert size_in_bytes(text) == size
    with pytest.raises(ValueError, match="is not a size"):
        size_in_bytes("many")


@pytest.mark.parametrize("variant", [None, "", "fp16", "a.b", "a+b", "a b"])
def test_old_files_of_a_variant_are_stale_and_others_stay(variant: str | None) -> None:
    for format_, (stem, suffix) in FORMATS.items():
        single, index = weight_files(format_, variant)
        shard = f"{single.removesuffix(suffix)}-00001-of-00002{suffix}"
        assert all(is_stale(name, variant) for name in (single, index, shard))
        assert not is_stale(f"{stem}.other{suffix}", variant)
        assert is_stale(f"{stem}{suffix}", variant) == (variant is None)
