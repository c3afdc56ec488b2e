"""A folder of results that one process at a time writes: a training's, or a token store's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout


@contextlib.contextmanager
def locked_output(output: Path, lock_file: str, purpose: str, busy: Callable[[], None]) -> Iterator[None]:
    """Make a folder, and hold it.

    Args:
        purpose: what the folder is for, such as "a training", for the error.
        busy: called if another process holds it: raises an error, or says that we wait.

    Raises:
        ValueError: it cannot be made.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"output={output} cannot be a folder for {purpose}: {error.strerror}; give the path of a folder, or of a new "
            "one in a place that can be written"
        ) from error
    lock = FileLock(output / lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        busy()
        lock.acquire()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (output / lock_file).unlink()
        lock.release()
