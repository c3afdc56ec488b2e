"""Feed damaged files to every reader: `python tests/fuzz_files.py --count 100000 [--formats pt tf] [--seed 0]`.

pytest does not collect this file; `conversion/test_fuzz.py` runs it. A small good model is written in each format and
damaged (`fuzz_damage`); then all of `convert` reads the rest (config, weights, the match with the table of parameters).
Each damaged file must end in a `CheckpointError` that names it, or must be read with the names, shapes and dtypes of the
good one. Anything else (another exception, a signal, over 2 s of processor time, over twice the file + 256 MB) is
printed with the command that repeats it, and the exit status is 1. Values are not compared: only a zip has checksums of
its values.

Files are read in forked children, many files per child; when a child dies, another continues with the next file. The
HDF5 reader starts a process itself; a forked process that lists many files replaces it, except for every 500th file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).parent))

import checkpoints
from fuzz_formats import FORMATS, SIZES, Format, make
from h5py import h5f

from roberta import CheckpointError
from roberta.common.formats import h5_file, h5_layout

SECONDS = 2.0  # seconds of processor time: on a busy machine wall time means nothing
CLOCK = 20.0  # seconds of wall time, for a reader that waits and does not work
SPARE = 256 * 2**20
BATCH = 500
REAL_PROCESS = 500  # one HDF5 file in so many is read by the real subprocess


# -- a child -------------------------------------------------------------------------------------------------


def status(name: str) -> int:
    """Bytes of a line of /proc/self/status, such as VmHWM."""
    found = re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


class Lister:
    """Stands in for `subprocess.run` of the script `h5_layout`: a forked child of the script lists file after file."""

    def __init__(self) -> None:
        self.child = 0
        self.requests: IO[str]
        self.answers: IO[str]

    def run(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        """The result that the script would have; its memory is checked."""
        if not self.child:
            self.start()
        path = os.path.realpath(command[-1])
        self.requests.write(f"{path}\n")
        self.requests.flush()
        line = self.answers.readline()
        if not line:
            return subprocess.CompletedProcess(command, self.stop(), "", "")
        code, text, grown, is_clean = json.loads(line)
        if not is_clean:
            self.stop()
        assert grown <= SPARE + 2 * Path(path).stat().st_size, f"the process for HDF5 took {grown >> 20} MB"
        return subprocess.CompletedProcess(command, code, "" if code else text, text if code else "")

    def start(self) -> None:
        inner_reading, writing = os.pipe()
        reading, inner_writing = os.pipe()
        self.child = os.fork()
        if not self.child:
            os.close(writing), os.close(reading)
            with contextlib.suppress(BaseException):
                answer(os.fdopen(inner_reading), inner_writing)
            os._exit(0)
        os.close(inner_reading), os.close(inner_writing)
        self.requests, self.answers = os.fdopen(writing, "w"), os.fdopen(reading)

    def stop(self) -> int:
        """The exit code of the child, which ends when it receives no more requests."""
        self.requests.close(), self.answers.close()
        child, self.child = self.child, 0
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def answer(requests: IO[str], answers: int) -> None:
    """List the requested files, and report for each whether libhdf5 has closed everything that it opened."""
    for line in requests:
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
        before = status("VmRSS")
        code, text = h5_layout.locate_within_limits(line.removesuffix("\n"))
        signal.setitimer(signal.ITIMER_PROF, 0)
        is_clean = not h5f.get_obj_count(h5f.OBJ_ALL, h5f.OBJ_FILE | h5f.OBJ_GROUP | h5f.OBJ_DATASET)
        os.write(answers, json.dumps([code, text, status("VmHWM") - before, is_clean]).encode() + b"\n")


def limit_time(processor: float, clock: float) -> None:
    """End this process with SIGPROF or SIGALRM after so many seconds from now; 0 turns that off."""
    signal.setitimer(signal.ITIMER_PROF, processor)
    signal.setitimer(signal.ITIMER_REAL, clock)


def judge(format_: Format, folder: Path) -> tuple[str, str]:
    """The outcome for a folder: "refused", "read", or another word and details."""
    try:
        found = format_.reader(folder)
    except CheckpointError as error:
        chain: BaseException | None = error
        while chain is not None:
            if isinstance(chain, MemoryError):
                return "MemoryError", str(error)[:300]
            chain = chain.__context__
        is_named = any(name in str(error) for name in (folder.name, *format_.files))
        return ("refused", "") if is_named else ("names no file", str(error)[:300])
    except BaseException as error:  # a panic of the tokenizers library is not an Exception
        return type(error).__name__, f"{str(error)[:200]} ({where(error)})"
    return ("read", "") if found == format_.wanted else ("wrong success", difference(found, format_.wanted))


def where(error: BaseException) -> str:
    """The last place in a traceback that is in this project."""
    trace, found = error.__traceback__, ""
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if {"roberta", "conversion"} & set(file.parts) and "site-packages" not in file.parts:
            found = f"{file.parent.name}/{file.name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def difference(found: Any, wanted: Any) -> str:
    return str(sorted(set(found.items()) ^ set(wanted.items()))[:6] if isinstance(found, dict) else found)[:300]


def mutant(format_: Format, seed: str) -> tuple[str, bytes]:
    """The name and the bytes of the damaged file of a seed."""
    rng = random.Random(seed)
    name = rng.choice(format_.files)
    return name, format_.damage(rng, format_.good[name])


def child(format_: Format, name: str, seed: int, numbers: range, out: int) -> None:
    """Read damaged files and write the outcome of each, one line per file."""
    limit = status("VmSize") + 2 * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))  # the process for HDF5 sets its own limit
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    run, lister, clear = subprocess.run, Lister(), Path("/proc/self/clear_refs")
    for number in numbers:
        victim, content = mutant(format_, f"{seed}:{name}:{number}")
        (format_.folder / victim).write_bytes(content)
        h5_file.subprocess.run = run if number % REAL_PROCESS == 0 else lister.run  # type: ignore[assignment]
        clear.write_text("5")  # resets VmHWM
        before, start = status("VmRSS"), time.process_time()
        limit_time(SECONDS, CLOCK)
        outcome, detail = judge(format_, format_.folder)
        limit_time(0, 0)
        seconds, grown = time.process_time() - start, status("VmHWM") - before
        if grown > 2 * len(content) + SPARE:
            outcome, detail = "memory", f"{grown >> 20} MB, then {outcome} {detail}"
        line = json.dumps([number, outcome, detail, seconds, grown])
        os.write(out, line.encode() + b"\n")
        (format_.folder / victim).write_bytes(format_.good[victim])


# -- the run -------------------------------------------------------------------------------------------------


def forked(format_: Format, name: str, seed: int, numbers: range) -> Iterator[tuple[int, str, str, float, int]]:
    """Outcomes of files, from one child after another; a signal counts for the file that was being read."""
    start = numbers.start
    while start < numbers.stop:
        reading, writing = os.pipe()
        process = os.fork()
        if not process:
            with contextlib.suppress(BaseException):
                os.close(reading)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # panics print to stderr
                child(format_, name, seed, range(start, numbers.stop), writing)
                os._exit(0)
            os._exit(1)
        os.close(writing)
        with open(reading) as lines:
            for line in lines:
                found = json.loads(line)
                start = found[0] + 1
                yield tuple(found)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if code:
            what = (
                "hang"
                if -code in (signal.SIGALRM, signal.SIGPROF)
                else f"signal {-code}"
                if code < 0
                else "the harness failed"
            )
            yield start, what, f"of {numbers}", SECONDS, 0
            start += 1
            for victim, content in format_.good.items():
                (format_.folder / victim).write_bytes(content)


def settled(format_: Format, name: str, seed: int, numbers: range) -> Iterator[tuple[int, str, str, float, int]]:
    """Like `forked`, but a file that hangs is tried again alone, because the machine may have been suspended."""
    for found in forked(format_, name, seed, numbers):
        if found[1] == "hang":
            yield next(forked(format_, name, seed, range(found[0], found[0] + 1)))
        else:
            yield found


def fuzz(format_: Format, name: str, arguments: argparse.Namespace) -> int:
    """Fuzz one format, print findings and counts, and return how many files broke a rule."""
    counts: Counter[str] = Counter()
    begin, slowest, largest = time.monotonic(), 0.0, 0
    numbers = range(arguments.first, arguments.first + arguments.count)
    for start in range(numbers.start, numbers.stop, BATCH):
        if time.monotonic() - begin > arguments.seconds:
            break
        batch = range(start, min(start + BATCH, numbers.stop))
        for number, outcome, detail, seconds, grown in settled(format_, name, arguments.seed, batch):
            counts[outcome] += 1
            slowest, largest = max(slowest, seconds), max(largest, grown)
            if outcome not in ("refused", "read") and counts[outcome] <= arguments.show:
                again = f"--formats {name} --seed {arguments.seed} --first {number} --count 1"
                print(f"{outcome.upper()} {again}\n    {detail}", flush=True)
    bad = sum(number for outcome, number in counts.items() if outcome not in ("refused", "read"))
    print(
        f"{name:13s} {counts.total():>8,} files: {counts['refused']:,} refused, {counts['read']:,} read, {bad} BAD; "
        f"slowest {slowest * 1000:.0f} ms, memory +{largest >> 20} MB, {time.monotonic() - begin:.0f} s",
        flush=True,
    )
    for outcome, number in counts.items():
        if outcome not in ("refused", "read"):
            print(f"{'':13s} {number:>8,} {outcome}")
    return bad


def main() -> None:
    """Fuzz the formats one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000, help="files per format")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="time limit per format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first file (--count 1 repeats it)")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--show", type=int, default=5, help="how many failures of each kind to print")
    parser.add_argument("--keep", type=Path, help="keep the first damaged file here")
    arguments = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    bad = 0
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # files in memory, where the system has that
    with tempfile.TemporaryDirectory(dir=memory) as root:
        source = checkpoints.make(Path(root) / "source", "ForMaskedLM", dtype="float32", **SIZES)
        for name in arguments.formats:
            try:
                format_ = make(name, Path(root), source)
            except ImportError as error:
                print(f"{name:13s} skipped: {error.name} is not installed")
                continue
            if arguments.keep:
                arguments.keep.write_bytes(mutant(format_, f"{arguments.seed}:{name}:{arguments.first}")[1])
            bad += fuzz(format_, name, arguments)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
