"""Disturb saves and check what is left: `python tests/faults.py kills|syscalls|torn|permissions|training [--framework pt]`.

pytest does not collect this file; `tests/conversion/test_faults.py` runs a little of each part.

kills: a child that saves repeatedly is killed at a random moment. syscalls: at every system call of one save that
changes something, the disk is full, the call fails or is interrupted, or the child is killed (Linux, with strace). torn:
two writers and one reader of one folder. permissions: the umask, and a read-only disk. training: whole trainings are
killed and resumed, and must end like an undisturbed one (`training_faults.py`).

Each part prints a table; the exit status is 1 if anything but the complete old or new version was found.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import syscall_faults
import training_faults
from saves import KINDS, VERSIONS, Kind, Save, contents, found, import_framework, litter, make_sources, saver

from roberta import CheckpointError
from roberta.common.checkpoint.loading import open_pretrained
from roberta.common.storage.hub import HubOptions
from roberta.conversion import convert

USES_THREADS = ("tf", "flax")  # a process that has used them must not be forked
FORK = multiprocessing.get_context("fork")
HUB = HubOptions(revision="main", subfolder="", cache_dir=None, force_download=False, local_files_only=True, token=None)


@contextlib.contextmanager
def child(run: Callable[[Connection], None]) -> Iterator[tuple[multiprocessing.process.BaseProcess, Connection]]:
    """A forked process that runs a function, and the pipe to it; killed at the end."""
    ours, theirs = FORK.Pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # jax warns about every fork, but it has not been used here
        process = FORK.Process(target=run, args=(theirs,), daemon=True)
        process.start()
    theirs.close()
    try:
        yield process, ours
    finally:
        process.kill()
        process.join()
        ours.close()


def references(kind: Kind, folder: Path, make: Callable[[], Save]) -> dict[int, dict[str, bytes]]:
    """The files of both versions as undisturbed saves write them, in a separate process."""

    def run(pipe: Connection) -> None:
        save = make()
        for version in VERSIONS:
            save(folder / str(version), version)
        pipe.send("done")

    with child(run) as (_, pipe):
        pipe.recv()
    return {version: contents(folder / str(version)) for version in VERSIONS}


def maker(kind: Kind, sources: dict[int, Path]) -> Callable[[], Save]:
    """Return a function that gives a forked child its save; created before the fork if the framework allows that."""
    import_framework(kind.framework)
    if kind.framework in USES_THREADS:
        return lambda: saver(kind, sources)
    save = saver(kind, sources)
    return lambda: save


# -- kills -----------------------------------------------------------------------------------------------------------


def kill_once(kind: Kind, target: Path, make: Callable[[], Save], whole: dict, rng: random.Random) -> Iterator[str]:
    """Describe for the table what was found after this kill, and after the save that follows the last kill."""

    def run(pipe: Connection) -> None:
        save = make()
        start = time.perf_counter()
        save(target, 1)
        pipe.send(time.perf_counter() - start)
        pipe.recv()
        for version in cycle((2, 1)):
            save(target, version)

    with child(run) as (process, pipe):
        seconds = pipe.recv()
        yield "next save" if found(kind, target, whole) == 1 else "next save failed"
        if litter(target):
            yield "litter stayed"
        pipe.send("go")
        time.sleep(rng.uniform(0.0, 3 * seconds))
        process.kill()
        process.join()
        if litter(target):
            yield "amid a save"
        result = found(kind, target, whole)
        yield f"version {result}" if result in VERSIONS else str(result)


def kills(kind: Kind, count: int, folder: Path, rng: random.Random) -> Counter[str]:
    """Kill saves of one kind at `count` random moments."""
    make = maker(kind, make_sources(folder / "sources"))
    whole = references(kind, folder / "whole", make)
    counts: Counter[str] = Counter(kills=0)
    for _ in range(count):
        counts["kills"] += 1
        counts.update(kill_once(kind, folder / "target", make, whole, rng))
    return counts


def good_kills(counts: Counter[str]) -> bool:
    """Whether each kill left the old or the new version, and each next save worked and left nothing else."""
    known = {"kills", "next save", "amid a save", "version 1", "version 2"}
    is_whole = counts["version 1"] + counts["version 2"] == counts["next save"] == counts["kills"]
    return is_whole and set(counts) <= known


# -- torn reads ------------------------------------------------------------------------------------------------------


def torn(kind: Kind, seconds: float, folder: Path, reader: str) -> Counter[str]:
    """Let two writers save one folder without a pause, and read it here.

    Args:
        reader: "open" reads config and weights like from_pretrained; "convert" converts to safetensors.
    """
    sources = make_sources(folder / "sources")
    make = maker(kind, sources)
    target = folder / "target"
    make()(target, 1)

    def write(pipe: Connection) -> None:
        save = make()
        for done, version in enumerate(cycle(VERSIONS)):
            save(target, version)
            pipe.send(done)

    counts: Counter[str] = Counter(good=0, failed=0, torn=0)
    with child(write) as (_, one), child(write) as (_, other):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            counts[_read(target, folder / "read", reader)] += 1
            for pipe, name in ((one, "saves of one"), (other, "saves of other")):
                while pipe.poll():
                    counts[name] = pipe.recv() + 1
    return counts


def _read(target: Path, copy: Path, reader: str) -> str:
    from saves import versions_read

    try:
        if reader == "convert":
            convert(target, copy, to="safetensors", overwrite=True, progress=False)
            seen = versions_read(copy)
        else:
            opened = open_pretrained(
                target, "ForMaskedLM", config=None, overrides={}, hub=HUB, formats=None, variant=None, has_pooler=None,
                ignore_mismatched_sizes=False,
            )  # fmt: skip
            tensors = [tensor.load() for tensor in opened.match.found.values()]
            seen = {float(number) for array in tensors for number in (array.min(), array.max())}
            seen.add(opened.config.initializer_range)
    except CheckpointError:
        return "failed"
    return "good" if len(seen) == 1 else "torn"


# -- system calls ----------------------------------------------------------------------------------------------------


def syscalls(kind: Kind, folder: Path) -> Counter[str]:
    """Inject every kind of fault at every call of one save of version 2 over version 1."""
    save = maker(kind, make_sources(folder / "sources"))()
    whole = references(kind, folder / "whole", lambda: save)
    place = folder / "place"
    place.mkdir()
    target, log = place / "target", folder / "trace"
    save(target, 1)
    _, lines = syscall_faults.traced(lambda: save(target, 2), log)
    calls = list(syscall_faults.points(lines, place))
    counts: Counter[str] = Counter(calls=len(calls))
    for point in calls:
        for fault in syscall_faults.FAULTS:
            save(target, 1)
            code = syscall_faults.injected(lambda: save(target, 2), log, point, fault, place)
            counts["faults"] += 1
            verdict = _verdict(code, found(kind, target, whole))
            counts[f"missed {fault} at {point}" if verdict == "missed" else verdict] += 1
            with child(lambda pipe: (save(target, 2), pipe.send("done"))[1]) as (_, pipe):
                pipe.recv()
            if found(kind, target, whole) != 2 or litter(target):
                counts[f"bad after the next save: {litter(target)} at {point}, {fault}"] += 1
    return counts


def _verdict(code: int | None, result: int | str) -> str:
    """Describe for the table how a save ended (exit code; None if the fault hit nothing), and what is there."""
    if result not in VERSIONS:
        return str(result)
    if code is None:
        return "missed"
    ends = {0: "success", 1: "error", -9: "killed"}
    if code == 0 and result == 1:
        return "silent loss"
    return f"{ends.get(code, f'ended with {code}')}, {'old' if result == 1 else 'new'}"


def good_syscalls(counts: Counter[str]) -> bool:
    """Whether each fault hit, and ended in an error, a kill or a recovery, never in success without the new version."""
    known = {"calls", "faults", "success, new", "error, old", "error, new", "killed, old", "killed, new"}
    return set(counts) <= known and counts["calls"] > 0


# -- permissions -----------------------------------------------------------------------------------------------------


def umask(kind: Kind, folder: Path) -> Counter[str]:
    """Whether all files of a save have the mode that the umask 027 allows."""
    old = os.umask(0o027)
    try:
        maker(kind, make_sources(folder / "sources"))()(folder / "target", 1)
    finally:
        os.umask(old)
    made = [folder / "target", *(folder / "target").rglob("*")]
    return Counter(f"{'folder' if path.is_dir() else 'file'} {path.stat().st_mode & 0o777:o}" for path in made)


READ_ONLY = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from saves import KINDS, saver
kind = next(kind for kind in KINDS[sys.argv[2]] if kind.name == sys.argv[3])
sources = {version: Path(sys.argv[4], str(version)) for version in (1, 2)}
saver(kind, sources)(Path(sys.argv[5]), 2)
"""
MOUNT = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" || exit 77; shift; exec "$@"'


def read_only(kind: Kind, folder: Path) -> Counter[str]:
    """The result of a save over an old version on a read-only disk; mounted here if we have the permission."""
    sources, place = make_sources(folder / "sources"), folder / "place"
    save = maker(kind, sources)()
    whole = references(kind, folder / "whole", lambda: save)
    place.mkdir()
    save(place / "target", 1)
    python = [sys.executable, "-P", "-c", READ_ONLY, str(Path(__file__).parent), kind.framework, kind.name]
    command = ["unshare", "--mount", "sh", "-c", MOUNT, "sh", str(place), *python, str(folder / "sources")]
    ended = subprocess.run([*command, str(place / "target")], capture_output=True, text=True, check=False)
    if ended.returncode == 77 or ended.stderr.startswith("unshare"):
        return Counter({f"skipped: {ended.stderr.strip()[-80:]}": 1})
    last = (ended.stderr.strip().splitlines() or ["no error"])[-1].partition(": '")[0]
    return Counter({last: 1, _verdict(ended.returncode, found(kind, place / "target", whole)): 1})


# -- the table -------------------------------------------------------------------------------------------------------


def report(title: str, kind: Kind, counts: Counter[str], is_good: bool) -> None:
    """One row: the fault, the save, and how many times each result occurred."""
    listed = ", ".join(f"{name} {number}" for name, number in counts.items())
    print(f"{'good' if is_good else 'BAD ':4}  {title:10} {kind.framework:8} {kind.name:22} {listed}", flush=True)


def runs(arguments: argparse.Namespace, kind: Kind, folder: Path) -> Iterator[tuple[str, Counter[str], bool]]:
    """The rows of one kind: title, counts, and whether the counts are as expected."""
    if arguments.what == "kills":
        share = -(-arguments.count // len(KINDS[kind.framework]))
        counts = kills(kind, share, folder, random.Random(arguments.seed))
        yield "kills", counts, good_kills(counts)
    elif arguments.what == "syscalls":
        counts = syscalls(kind, folder)
        yield "syscalls", counts, good_syscalls(counts)
    elif arguments.what == "torn":
        for reader in ("open", "convert"):
            if reader == "open" and kind.name in ("fairseq", "keras-hub"):  # from_pretrained reads neither of them
                continue
            shutil.rmtree(folder)
            folder.mkdir()
            counts = torn(kind, arguments.seconds, folder, reader)
            yield f"torn {reader}"[:12], counts, counts["good"] > 0 == counts["torn"]
    else:
        counts = umask(kind, folder)
        yield "umask 027", counts, set(counts) <= {"folder 750", "file 640"}
        shutil.rmtree(folder)
        folder.mkdir()
        counts = read_only(kind, folder)
        yield "read-only", counts, counts["ended with 1, old"] + counts["error, old"] == 1 or "skip" in str(counts)


def trainings(arguments: argparse.Namespace) -> int:
    """Print a row for each framework; return 1 if a killed training ended differently from an undisturbed one."""
    bad = 0
    for framework in (name for name in arguments.framework if name in ("pt", "tf", "flax")):
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            counts = training_faults.kills(framework, arguments.count, Path(folder), random.Random(arguments.seed))
        listed = ", ".join(f"{name} {number}" for name, number in counts.items())
        is_good = training_faults.good(counts)
        print(f"{'good' if is_good else 'BAD ':4}  {'training':10} {framework:8} {listed}", flush=True)
        bad += not is_good
    return min(bad, 1)


def main() -> int:
    """Run what the arguments request; return 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["kills", "syscalls", "torn", "permissions", "training"])
    parser.add_argument("--framework", nargs="+", choices=list(KINDS), default=["files", "convert", "pt"])
    parser.add_argument("--kind", help="only the kind of that name, such as 'safetensors, shards'")
    parser.add_argument("--count", type=int, default=200, help="kills per framework, spread over its kinds")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds of torn reads for each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.what == "syscalls" and syscall_faults.lacking() is not None:
        print(f"skipped: {syscall_faults.lacking()}")
        return 0
    if arguments.what == "training":
        return trainings(arguments)
    bad = 0
    for kind in (kind for name in arguments.framework for kind in KINDS[name]):
        if arguments.kind in (None, kind.name):
            with tempfile.TemporaryDirectory(prefix="faults-") as folder:
                for title, counts, is_good in runs(arguments, kind, Path(folder)):
                    report(title, kind, counts, is_good)
                    bad += not is_good
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
