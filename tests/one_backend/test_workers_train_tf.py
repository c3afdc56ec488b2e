"""`roberta train` in two processes of TensorFlow: who writes, and what is left where one of them is stopped or killed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorflow", reason="tensorflow is not installed")
pytest.importorskip("keras", reason="keras is not installed")

import training_cases
from worker_processes import Started

pytestmark = pytest.mark.slow

UPDATES = 24
SETTINGS = [
    "--framework", "tf", "--dtype", "float64", "--updates", str(UPDATES), "--batch-size", "4", "--micro-batch-size", "2",
    "--warmup", "5", "--learning-rate", "1e-3", "--save-every", "4", "--evaluate-every", "8", "--no-tensorboard",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model and data."""
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def arguments(folder: Path) -> dict[str, Any]:
    return training_cases.make(folder, "mlm", num_hidden_layers=1) | {"max_length": 16}


def words(arguments: dict[str, Any], output: Path, *more: str) -> list[str]:
    """A training, as words behind `python`."""
    return ["-m", "roberta", "train", *training_cases.flags(arguments), "--output", str(output), *SETTINGS, *more]


def started(arguments: dict[str, Any], output: Path, *more: str) -> Started:
    """The training in two processes."""
    return Started([words(arguments, output, "--sharding", "data", *more)] * 2, output.parent, output.name)


def log(output: Path) -> bytes:
    file = output / "metrics.jsonl"
    return file.read_bytes() if file.exists() else b""


def wait(training: Started, there: Callable[[], bool]) -> None:
    """Wait until a condition holds; a process that ends before is an error."""
    end = time.monotonic() + 240
    while not there():
        assert all(one.poll() is None for one in training.processes), training.said(0) + training.said(1)
        assert time.monotonic() < end, "the training hangs"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(arguments: dict[str, Any], folder: Path) -> Path:
    """What two processes write, with dropout, where nobody stops them."""
    training = started(arguments, folder / "whole", "--dropout", "0.1")
    assert training.statuses() == [0, 0], training.said(0) + training.said(1)
    return folder / "whole"


def test_the_first_process_alone_writes_what_one_process_writes(arguments: dict[str, Any], folder: Path) -> None:
    training = started(arguments, folder / "several", "--dropout", "0")
    alone = Started([words(arguments, folder / "alone", "--dropout", "0")], folder, "alone")
    assert training.statuses() == [0, 0], training.said(0) + training.said(1)
    assert alone.statuses() == [0], alone.said(0)
    found, wanted = ([json.loads(line) for line in log(folder / name).splitlines()] for name in ("several", "alone"))
    assert len(found) == len(wanted) == UPDATES + UPDATES // 8
    for one, other in zip(found, wanted, strict=True):
        assert one.keys() == other.keys()
        values = (one.get("evaluation", one), other.get("evaluation", other))
        assert values[0] == pytest.approx(values[1], rel=1e-9)
    files = [
        sorted(str(path.relative_to(folder / name)) for path in (folder / name).rglob("*"))
        for name in ("several", "alone")
    ]
    assert files[0] == files[1]
    assert "has the model after update" in training.said(0)
    assert "train: " not in training.said(1), "only the first one says what was read"


def check_that_it_resumes(arguments: dict[str, Any], output: Path, whole: Path) -> None:
    """A training that was stopped ends as one that was not."""
    again = started(arguments, output, "--dropout", "0.1", "--resume")
    assert again.statuses() == [0, 0], again.said(0) + again.said(1)
    assert log(output) == log(whole)
    assert (output / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.parametrize("rank", [0, 1])
def test_where_one_is_killed_the_other_ends_and_both_resume(
    rank: int, arguments: dict[str, Any], folder: Path, whole: Path
) -> None:
    output = folder / f"killed-{rank}"
    training = started(arguments, output, "--dropout", "0.1")
    wait(training, lambda: log(output).count(b'"loss"') >= 10)
    training.processes[rank].kill()
    killed = time.monotonic()
    statuses = training.statuses(120)
    assert time.monotonic() - killed < 60
    assert statuses[rank] == -signal.SIGKILL
    assert statuses[1 - rank] == 1
    assert "another one of the 2 processes of this training has ended" in training.said(1 - rank)
    check_that_it_resumes(arguments, output, whole)


@pytest.mark.parametrize("rank", [0, 1])
def test_where_one_is_told_to_stop_all_stop_after_a_checkpoint(
    rank: int, arguments: dict[str, Any], folder: Path, whole: Path
) -> None:
    output = folder / f"stopped-{rank}"
    training = started(arguments, output, "--dropout", "0.1")
    wait(training, lambda: log(output).count(b'"loss"') >= 9)
    os.kill(training.processes[rank].pid, signal.SIGTERM)
    assert training.statuses(120) == [143, 143], training.said(0) + training.said(1)
    assert "is written; resume from it with --resume" in training.said(0)
    last = max(int(path.name[-6:]) for path in (output / "checkpoints").iterdir())
    assert last == json.loads(log(output).splitlines()[-1])["update"] < UPDATES
    check_that_it_resumes(arguments, output, whole)


def test_other_data_or_another_seed_in_one_of_them_is_an_error_in_both(arguments: dict[str, Any], folder: Path) -> None:
    other = folder / "other.txt"
    other.write_text((folder / "data.txt").read_text().replace("ship", "boat"))
    for name, last, words_of_error in (
        ("data", words(arguments | {"train": [other]}, folder / "other-data"), "data: rank 1"),
        ("seed", words(arguments, folder / "other-seed", "--seed", "5"), "seed: rank 1"),
    ):
        first = words(arguments, folder / f"other-{name}")
        training = Started([[*one, "--sharding", "data"] for one in (first, last)], folder, f"other-{name}")
        assert training.statuses(120) == [1, 1]
        for rank in range(2):
            assert "roberta train: the 2 processes are not of one training" in training.said(rank)
            assert words_of_error in training.said(rank)
