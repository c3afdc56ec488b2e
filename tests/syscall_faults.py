"""One save under strace: the system calls by which it changes something, and a fault at each of them.

The saver is a forked child to which strace is attached when everything is ready, so only calls of the save count.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

# Calls that create, change, name or remove a file, or report whether it is safe on the disk.
CALLS = (
    "openat", "creat", "write", "writev", "pwrite64", "pwritev", "sendfile", "copy_file_range", "fallocate",
    "ftruncate", "truncate", "fsync", "fdatasync", "sync_file_range", "msync", "close", "flock", "rename", "renameat",
    "renameat2", "link", "linkat", "symlink", "symlinkat", "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "chmod",
    "fchmod", "fchmodat", "utimensat",
)  # fmt: skip
FAULTS = {"KILL": "signal=KILL", "ENOSPC": "error=ENOSPC", "EIO": "error=EIO", "EINTR": "error=EINTR"}
LINE = re.compile(r"(\d+) +(\w+)\((.*)")
FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Point:
    """The `number`-th call of that name, counted from 1."""

    call: str
    number: int


def lacking() -> str | None:
    """Why tracing is not possible here; None if it is."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed (Linux only)"
    tried = subprocess.run([strace, "-e", "trace=none", "true"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"strace has no permission to trace here: {tried.stderr.strip()[-200:]}"


def traced(save: Callable[[], None], log: Path, *options: str) -> tuple[int, list[str]]:
    """The exit code of a child that saves under strace (0 saved, 1 an error was raised, -9 killed), and the trace."""
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=_save, args=(save, theirs), daemon=True)
    process.start()
    ours.recv()  # calls at the start of a process are not part of the save
    command = ["strace", "-f", "-y", "-p", str(process.pid), "-o", str(log), "-e", f"trace={','.join(CALLS)}"]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        first = strace.stderr.readline()
        assert "attached" in first, first
        ours.send("go")
        process.join()
    ours.close()
    theirs.close()
    return int(process.exitcode or 0), log.read_text(errors="replace").splitlines()


def _save(save: Callable[[], None], pipe: Connection) -> None:
    gc.disable()  # files that it would close are not part of the save
    pipe.send("ready")
    pipe.recv()
    try:
        save()
    except OSError:
        os._exit(1)  # at once: calls at the end of an interpreter are not part of the save
    except BaseException:
        os._exit(2)
    os._exit(0)


def points(lines: list[str], folder: Path) -> Iterator[Point]:
    """The calls of a trace that concern a folder."""
    counts: Counter[str] = Counter()
    for line in lines:
        found = LINE.match(line)
        if found is None:
            continue
        _, call, rest = found.groups()
        counts[call] += 1
        is_reading = call == "openat" and "O_WRONLY" not in rest and "O_RDWR" not in rest and "O_CREAT" not in rest
        if str(folder) in rest and (not is_reading or "O_DIRECTORY" in rest or call == "close"):
            yield Point(call, counts[call])


def injected(save: Callable[[], None], log: Path, point: Point, fault: str, folder: Path) -> int | None:
    """The exit code of a save with a fault at one call; None when the fault did not hit a call on the folder."""
    code, lines = traced(save, log, "-e", f"inject={point.call}:{FAULTS[fault]}:when={point.number}")
    if fault == "KILL":
        return code if code == -9 else None
    return code if any("(INJECTED)" in line and str(folder) in line for line in lines) else None
