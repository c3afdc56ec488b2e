"""Writing folders so that nothing is ever half-written, and the one error for files that cannot be used.

A folder is written beside its place and swapped in: a reader, or a crash at any instruction, sees the old folder or
the new one, whole.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from filelock import FileLock

Content = bytes | Iterable[bytes | memoryview]

# A folder whose parent may not be written, or that is a mount point itself, as volumes of containers are.
_NOT_BESIDE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV)
_PATIENCE = 60  # seconds that a reader waits for a writer
_RENAME_EXCHANGE = 2  # linux/fs.h
_AT_FDCWD = -100  # fcntl.h
_ASIDE = ".old.tmp"  # ends the name of the old folder while the new one takes its place in two steps


class CheckpointError(OSError, ValueError):
    """A file, folder or name that cannot be used; the message names it and the way out."""


class NoFitError(CheckpointError, RuntimeError):
    """Tensors that do not fit the config; a `RuntimeError` too, as PyTorch's `load_state_dict` raises."""


def write_folder(
    folder: str | Path, files: Mapping[str, Content], *, stale: Callable[[str], bool] | None = None
) -> None:
    """Write files into a folder, all or nothing; the folder is made when missing, its other files stay.

    `.NAME.lock` beside it keeps two writers apart, and goes at the end. Where the folder's parent may not be written,
    or the folder is a mount point, each file is replaced whole, but a reader may see old and new files side by side.

    Args:
        files: name -> content, whole or in pieces; a name such as "assets/a.txt" is in a folder that is replaced as a whole.
        stale: whether an old file that is not among `files` is removed, by its name.

    Raises:
        CheckpointError: the folder's path is a file.
    """
    target = Path(folder).resolve()
    if target.exists() and not target.is_dir():
        raise CheckpointError(f"{folder} is a file; give a folder to save into")
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_locked(_lock_beside(target)))
            _put_back(target)
            _remove_litter([*_beside(target), *_temporary_files(target)])
            temporary = _new_beside(target)
        except OSError as error:
            if error.errno not in _NOT_BESIDE or not target.is_dir():
                raise
            _write_inside(target, files, stale)
            return
        stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        _write_beside(target, temporary, files, stale)


@contextlib.contextmanager
def kept_from_writers(folder: Path) -> Iterator[None]:
    """A context during which `write_folder` waits.

    Raises:
        OSError: the folder's parent is not writable, or a writer is at work for longer than a minute.
    """
    target = folder.resolve()
    with _locked(_lock_beside(target), seconds=_PATIENCE, pause=0.0005):  # writers without a pause leave little time
        _put_back(target)
        yield


def restore(folder: Path) -> None:
    """Put back a folder that a writer had moved aside when it died; a writer still at work is waited for.

    Only where the system cannot swap two folders in one step is a folder ever moved aside.

    Raises:
        CheckpointError: it lies aside and cannot be moved; the message names the place.
    """
    target = folder.resolve()
    aside = None if target.exists() else _aside_of(target)
    if aside is None:
        return
    try:
        with _locked(_lock_beside(target), seconds=_PATIENCE):
            _put_back(target)
    except OSError as error:
        raise CheckpointError(
            f"{folder} was being replaced when its writer died; move {aside} there: {error}"
        ) from error


def file_pieces(path: Path) -> Iterator[bytes]:
    """The bytes of a file, 16 MB at a time."""
    with open(path, "rb") as file:
        while piece := file.read(2**24):
            yield piece


def _temporary_files(target: Path) -> Iterator[Path]:
    """The temporary files that writers have in the folder."""
    return target.glob(".*.[0-9]*.tmp")


@contextlib.contextmanager
def _locked(file: Path, seconds: float = -1, pause: float = 0.01) -> Iterator[None]:
    """Hold a lock, whose file goes before it is let go: a waiter notices that the file is gone and retries.

    Args:
        seconds: to wait for it at most; -1 for ever.
        pause: seconds between two trials.
    """
    with FileLock(file).acquire(seconds, poll_interval=pause):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows removes no open file; filelock does it there
                file.unlink()


def _lock_beside(target: Path) -> Path:
    return target.parent / f".{target.name}.lock"


def _write_beside(
    target: Path, temporary: Path, files: Mapping[str, Content], stale: Callable[[str], bool] | None
) -> None:
    old = {entry.name for entry in target.iterdir()} if target.exists() else set()
    tops = {Path(name).parts[0] for name in files}
    gone = {name for name in old - tops if stale is not None and stale(name)}
    if target.exists() and len(files) == 1 and not gone:
        (name,) = files
        _replace_files(target, files)
        sync((target / name).parent)
    else:
        _fill(temporary, target, files, kept=old - tops - gone)
        try:
            _swap(temporary, target)
        except OSError as error:
            if error.errno not in _NOT_BESIDE or not target.is_dir():
                raise
            # contents that come in pieces are spent by now, but they lie in the folder beside
            _write_inside(target, {name: file_pieces(temporary / name) for name in files}, stale)
        sync(target.parent)


def _write_inside(target: Path, files: Mapping[str, Content], stale: Callable[[str], bool] | None) -> None:
    """Where nothing may be written beside the folder: all files are written first, then take their names one by one."""
    with _locked(target / ".lock"):
        _replace_files(target, files)
        for name in {entry.name for entry in target.iterdir()} - {Path(name).parts[0] for name in files}:
            if stale is not None and stale(name):
                shutil.rmtree(target / name) if (target / name).is_dir() else (target / name).unlink()
        sync(target)


def _replace_files(target: Path, files: Mapping[str, Content]) -> None:
    _remove_litter(_temporary_files(target))
    written = {name: (target / name).with_name(f".{Path(name).name}.{os.getpid()}.tmp") for name in files}
    try:
        for name, content in files.items():
            written[name].parent.mkdir(exist_ok=True)
            _write(written[name], content)
        for name, temporary in written.items():
            os.replace(temporary, target / name)
    finally:
        for temporary in written.values():
            temporary.unlink(missing_ok=True)


def _fill(temporary: Path, target: Path, files: Mapping[str, Content], kept: set[str]) -> None:
    """Fill an empty folder with what the target is to hold, synced to the disk."""
    for name in kept:
        _link(target / name, temporary / name)
    for name, content in files.items():
        _write(temporary / name, content)
    if target.exists():
        temporary.chmod(target.stat().st_mode & 0o7777)
    for inner in {parent for name in files for parent in (temporary / name).relative_to(temporary).parents}:
        sync(temporary / inner)


def _link(source: Path, copy: Path) -> None:
    """The same file or tree under another path, without copying the bytes where the file system allows it."""
    if source.is_symlink():
        copy.symlink_to(source.readlink())
    elif source.is_dir():
        copy.mkdir()
        shutil.copystat(source, copy)
        for entry in source.iterdir():
            _link(entry, copy / entry.name)
    else:
        try:
            os.link(source, copy)
        except OSError:
            shutil.copy2(source, copy)


def _write(path: Path, content: Content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        for piece in (content,) if isinstance(content, bytes) else content:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _remove_litter(litter: Iterable[Path]) -> None:
    """Remove what writers that died left behind; the lock says that none is at work."""
    for path in litter:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


# -- a new folder replaces an old one: in one step where the system can, else in two that can be repaired -----------------


def _beside(target: Path) -> list[Path]:
    """The temporary folders that writers of this folder have beside it, and not those of a folder with a longer name."""
    name = re.compile(rf"\.{re.escape(target.name)}\.\d+\.[0-9a-f]{{8}}\.tmp({re.escape(_ASIDE)})?")
    try:
        return [path for path in target.parent.iterdir() if name.fullmatch(path.name)]
    except OSError:  # no such parent, or one that may not be listed
        return []


def _new_beside(target: Path) -> Path:
    """An empty folder beside another, to be filled and swapped with it."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir()
    return temporary


def _aside_of(target: Path) -> Path | None:
    """The old folder that lies aside, whole, if there is one."""
    return next((path for path in _beside(target) if path.name.endswith(_ASIDE)), None)


def _put_back(target: Path) -> None:
    """Give the old folder its name again, where a writer died between the two steps."""
    aside = None if target.exists() else _aside_of(target)
    if aside is not None:
        aside.rename(target)
        sync(target.parent)


def _swap(temporary: Path, target: Path) -> None:
    """Replace `target` by `temporary`; the old folder, if any, ends at `temporary`."""
    if not target.exists():
        temporary.rename(target)
        return
    inside = _working_directory_below(target)
    if not _exchange(temporary, target):
        aside = temporary.with_name(f"{temporary.name}{_ASIDE}")
        target.rename(aside)  # without an atomic exchange a reader may find no folder for a moment, never a torn one
        try:
            temporary.rename(target)
        except OSError:
            aside.rename(target)
            raise
        aside.rename(temporary)
    if inside is not None:
        os.chdir(target / inside)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one step; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)


def _working_directory_below(target: Path) -> Path | None:
    """The current directory relative to `target`, when it is inside: after a swap it would be the old folder."""
    with contextlib.suppress(OSError, ValueError):
        return Path.cwd().relative_to(target)
    return None


def sync(folder: Path) -> None:
    """Wait until the names in a folder are safe on the disk."""
    if sys.platform == "win32":  # opens no folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
