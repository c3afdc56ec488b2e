"""The fuzzer finds no faults in the readers, and finds those that are planted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from fuzz_formats import FORMATS
from fuzz_tokenizer_formats import OF_FAMILY

NEEDED = ("torch", "h5py", "msgpack")
pytestmark = pytest.mark.skipif(not all(map(find_spec, NEEDED)), reason=f"not all of {', '.join(NEEDED)} are installed")

REFUSING = """
from roberta.common.formats import safetensors_file
from roberta.common.storage.folders import CheckpointError
header = safetensors_file._header
def reader(path):
    try:
        return header(path)
    except CheckpointError as error:
        if "claims" not in str(error):  # of some files, as each that hangs takes seconds
            raise
        {fault}
safetensors_file._header = reader
"""
# The fuzzer's name for a fault of a reader -> the format that has it, and the code that plants it.
PLANTED = {
    "wrong success": (
        "flax",
        """
from roberta.conversion import model
match = model.match
def lenient(table, checkpoint, **options):
    return match({name: row for name, row in table.items() if name in checkpoint.tensors}, checkpoint, **options)
model.match = lenient
""",
    ),
    "ZeroDivisionError": ("safetensors", REFUSING.format(fault="1 / 0")),
    "names no file": ("safetensors", REFUSING.format(fault="raise CheckpointError('damaged') from None")),
    "MemoryError": ("safetensors", REFUSING.format(fault="bytes(2**40)")),
    "memory": ("safetensors", REFUSING.format(fault="b'x' * 2**29; raise")),
    "signal 11": ("safetensors", REFUSING.format(fault="import ctypes; ctypes.string_at(0)")),
    "hang": ("safetensors", REFUSING.format(fault="[None for _ in iter(int, 1)]")),
}


def fuzz(*arguments: str, planted: str = "") -> subprocess.CompletedProcess[str]:
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n{planted}\n"
    command = [sys.executable, "-P", "-c", f"{script}import fuzz_files; fuzz_files.main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))


@pytest.mark.parametrize("name", FORMATS)
def test_five_thousand_damaged_files_are_refused_or_read_right(name: str) -> None:
    ended = fuzz("--formats", name, "--count", "5000")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " 5,000 files" in ended.stdout


@pytest.mark.parametrize("name", sorted({*FORMATS} - {*OF_FAMILY}))
def test_five_hundred_damaged_files_are_refused_or_read_right(name: str) -> None:
    ended = fuzz("--formats", name, "--count", "500", "--seed", "1")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " 500 files" in ended.stdout


def test_damaged_files_of_every_kind_of_tokenizer_are_refused_or_work() -> None:
    ended = fuzz("--formats", *OF_FAMILY, "--count", "40", "--seed", "2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count(" 40 files") == len(OF_FAMILY)


@pytest.mark.parametrize("outcome", PLANTED)
def test_a_fault_that_is_planted_in_a_reader_is_found_and_repeats(outcome: str) -> None:
    name, planted = PLANTED[outcome]
    found = fuzz("--formats", name, "--count", "60", planted=planted)
    assert found.returncode == 1, found.stdout + found.stderr
    again = re.search(rf"^{outcome.upper()} (--formats.*)$", found.stdout, re.MULTILINE)
    assert again, found.stdout
    assert f" 1 {outcome}" in fuzz(*again[1].split(), planted=planted).stdout


def test_a_seed_gives_the_same_files_again(tmp_path: Path) -> None:
    for seed in ("0", "0", "1"):
        fuzz(
            "--formats",
            "config",
            "--count",
            "1",
            "--seed",
            seed,
            "--keep",
            str(tmp_path / f"{len(list(tmp_path.iterdir()))}"),
        )
    files = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    assert files[0] == files[1]
    assert files[0] != files[2]
