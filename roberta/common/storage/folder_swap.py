"""A new folder in the place of an old one: in one step where the system can, else in two that can be mended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import secrets
import sys
from pathlib import Path

_RENAME_EXCHANGE = 2  # linux/fs.h
_AT_FDCWD = -100  # fcntl.h
_ASIDE = ".old.tmp"  # ends the name of the old folder while the new one takes its place in two steps


def beside(target: Path) -> list[Path]:
    """What writers of this folder, and of no other whose name begins alike, have beside it."""
    name = re.compile(rf"\.{re.escape(target.name)}\.\d+\.[0-9a-f]{{8}}\.tmp({re.escape(_ASIDE)})?")
    try:
        return [path for path in target.parent.iterdir() if name.fullmatch(path.name)]
    except OSError:  # no such parent, or one that may not be listed
        return []


def new_beside(target: Path) -> Path:
    """An empty folder beside another, to be filled and swapped with it."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir()
    return temporary


def aside_of(target: Path) -> Path | None:
    """The old folder that lies aside, whole, if there is one."""
    return next((path for path in beside(target) if path.name.endswith(_ASIDE)), None)


def put_back(target: Path) -> None:
    """Give the old folder its name again, where a writer died between the two steps."""
    aside = None if target.exists() else aside_of(target)
    if aside is not None:
        aside.rename(target)
        sync(target.parent)


def swap(temporary: Path, target: Path) -> None:
    """Put `temporary` in the place of `target`; the old folder, if any, ends at `temporary`."""
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
