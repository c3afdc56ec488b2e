"""Files held open while they are read: whatever a writer does meanwhile, what is read is of one save.

A writer replaces the old file or folder by a new one; the old one lives on for those that hold it open (on Windows
the writer gets an error instead).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import weakref
from collections.abc import Callable, Iterator
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from roberta.common.storage.folders import CheckpointError, kept_from_writers, restore

_Result = TypeVar("_Result")

ATTEMPTS = 3  # to read a folder between two saves, before its writers are made to wait


class HeldFile:
    """A file that stays the one it was when it was opened, whatever takes its name later.

    As text it is its path, for errors. It is closed when nothing refers to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))  # Windows changes text otherwise
        weakref.finalize(self, os.close, self._descriptor)
        self._opened = self.stat()

    def __str__(self) -> str:
        return str(self.path)

    def stat(self) -> os.stat_result:
        """As `Path.stat`, of the file that is held."""
        return os.fstat(self._descriptor)

    def open(self) -> BinaryIO:
        """The file from its beginning; readers share one position, so one at a time."""
        file = os.fdopen(os.dup(self._descriptor), "rb")
        file.seek(0)
        return file

    def map(self, start: int, size: int) -> np.ndarray:
        """Bytes, uint8 (size,), mapped by themselves: their pages go when the array does.

        Raises:
            CheckpointError: another program has written into the file, or it cannot be mapped.
        """
        skipped = start % mmap.ALLOCATIONGRANULARITY
        return np.frombuffer(self._map(start - skipped, skipped + size, mmap.ACCESS_READ), np.uint8, size, skipped)

    def array(self, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """Values that begin at a byte, mapped by themselves as `map` does."""
        if 0 in shape:
            return np.zeros(shape, dtype)
        return self.map(start, prod(shape) * dtype.itemsize).view(dtype).reshape(shape)

    @cached_property
    def private(self) -> np.ndarray:
        """All bytes, uint8 (size,), mapped as one; what is written into them stays in memory.

        For values that are kept: a map of each would hold a descriptor of each.
        """
        return np.frombuffer(self._map(0, self._opened.st_size, mmap.ACCESS_COPY), np.uint8)

    def _map(self, start: int, size: int, access: int) -> mmap.mmap:
        now = self.stat()
        if (now.st_size, now.st_mtime_ns) != (self._opened.st_size, self._opened.st_mtime_ns):
            raise CheckpointError(f"{self} was written into while it was read; load it again when its writer is done")
        try:
            return mmap.mmap(self._descriptor, size, access=access, offset=start)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self} cannot be read: {error}") from None

    def check_name(self) -> None:
        """Raise `CheckpointError` when the path is no longer this file's: a reader by path would get another."""
        if _identity(self.path) != _identity(self._descriptor):
            raise CheckpointError(f"{self} was replaced while it was read; load it again")


def read_one_save(path: Path, read: Callable[[], _Result]) -> _Result:
    """What `read` returns, all files that it opened in a folder being of one save.

    `read` is called again when the folder was replaced meanwhile; the last time, writers wait for it.

    Args:
        path: the folder, or a file in it.
        read: opens files by path, and holds (`HeldFile`) what is read later.

    Raises:
        CheckpointError: the folder is replaced again and again, and its writers cannot be made to wait.
    """
    folder = path.parent if path.is_file() else path
    for _ in range(ATTEMPTS):
        restore(folder)
        with _place(folder) as is_the_same:
            try:
                result = read()
            except (OSError, ValueError):
                if is_the_same():
                    raise
                continue
            if is_the_same():
                return result
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(kept_from_writers(folder))
        except OSError as error:
            raise CheckpointError(
                f"{folder} was replaced {ATTEMPTS} times while it was read, and its writers cannot be made to wait "
                f"({error}); read a copy of it"
            ) from error
        return read()


@contextlib.contextmanager
def _place(folder: Path) -> Iterator[Callable[[], bool]]:
    """A function that says whether the path is still the folder that it was, or still none."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)  # while it is held, no other folder gets its inode number
    except OSError:  # it is missing; or this is Windows, which cannot open folders and does not reuse numbers
        before = _identity(folder)
        yield lambda: _identity(folder) == before
        return
    try:
        yield lambda: _identity(folder) == _identity(descriptor)
    finally:
        os.close(descriptor)


def _identity(place: Path | int) -> tuple[int, int] | None:
    """Device and inode of a file or folder by its path or descriptor; None when it is missing."""
    try:
        state = os.stat(place)
    except OSError:
        return None
    return state.st_dev, state.st_ino
