"""`roberta train --framework flax` in two processes that stand for two hosts: files, signals, kills, wrong starts."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import training_cases

pytest.importorskip("jax", reason="jax is not installed")

from child_processes import child_environment, free_ports
from jax_processes import environment_of

pytestmark = pytest.mark.slow

UPDATES = 8
SETTINGS = [
    "--framework", "flax", "--updates", str(UPDATES), "--batch-size", "4", "--micro-batch-size", "2", "--warmup", "2",
    "--save-every", "2", "--evaluate-every", "4", "--dtype", "float64", "--dropout", "0", "--no-tensorboard", "--resume",
]  # fmt: skip
# A process that the caller has connected, so that it hears of another one's end within ten seconds.
CONNECTED = """
import os, sys, jax
jax.distributed.initialize(
    os.environ["JAX_COORDINATOR_ADDRESS"], 2, int(os.environ["JAX_PROCESS_ID"]), heartbeat_timeout_seconds=10
)
from roberta.cli import main
sys.exit(main(sys.argv[1:]))
"""
PROGRAM = ["-m", "roberta"]


class Pair:
    """Two processes of a training."""

    def __init__(self, words: Sequence[Sequence[str]], program: Sequence[str] = PROGRAM, devices: int = 4) -> None:
        (port,) = free_ports()
        self.children = [
            subprocess.Popen(
                [sys.executable, *program, *words[rank]], env=environment_of(rank, port, devices), text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            for rank in range(2)
        ]  # fmt: skip

    def wait(self, seconds: float = 300) -> list[tuple[int, str]]:
        """The status and the messages of each."""
        try:
            errors = [child.communicate(timeout=seconds)[1] for child in self.children]
        finally:
            for child in self.children:
                child.kill()
        return [(child.returncode, error) for child, error in zip(self.children, errors, strict=True)]

    def wait_until(self, there: Callable[[], bool]) -> None:
        """Return once a condition holds, while both run."""
        end = time.monotonic() + 200
        while not there():
            assert all(child.poll() is None for child in self.children), self.wait(60)
            assert time.monotonic() < end, "a training hangs"
            time.sleep(0.01)


def lines(output: Path) -> list[dict[str, Any]]:
    """The complete lines of a log."""
    log = output / "metrics.jsonl"
    content = log.read_text() if log.exists() else ""
    return [json.loads(line) for line in content[: content.rfind("\n") + 1].splitlines()]


def reached(output: Path, update: int) -> Callable[[], bool]:
    return lambda: any(line["update"] >= update for line in lines(output))


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """The words of a training by its output; others override them."""
    given = training_cases.make(tmp_path_factory.mktemp("data"), "text-classification", num_hidden_layers=1)
    start = ["train", *training_cases.flags(given | {"max_length": 16}), *SETTINGS]
    return lambda output, *more: [*start, "--output", str(output), *more]


@pytest.fixture(scope="module")
def undisturbed(command: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training in two processes, of which the second says nothing."""
    folder = tmp_path_factory.mktemp("undisturbed")
    found = Pair([command(folder, "--sharding", "data")] * 2).wait()
    assert [status for status, _ in found] == [0, 0], found
    assert "update 8" in found[0][1]
    assert found[1][1] == ""
    return folder


def test_a_process_with_another_output_folder_is_refused(command: Callable[..., list[str]], tmp_path: Path) -> None:
    """All resume from one folder; what only one of them sees, the others could not."""
    (tmp_path / "second").mkdir()
    found = Pair([command(tmp_path / name, "--sharding", "data") for name in ("first", "second")]).wait()
    assert all(status == 1 for status, _ in found), found
    assert all("what is in output, which is" in error and "rank 1" in error for _, error in found), found
    assert not list((tmp_path / "second").iterdir())


def close(found: Any, wanted: Any) -> None:
    """Raise unless two logs have the same numbers, to rounding."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            assert one[name] == pytest.approx(value, rel=1e-9)


def test_the_log_of_two_processes_is_that_of_one(
    command: Callable[..., list[str]], undisturbed: Path, tmp_path: Path
) -> None:
    paths = child_environment(JAX_ENABLE_X64="1")
    subprocess.run([sys.executable, *PROGRAM, *command(tmp_path / "alone")], env=paths, check=True, capture_output=True)
    wanted = lines(tmp_path / "alone")
    assert len(wanted) == UPDATES + 2
    close(lines(undisturbed), wanted)
    found = Pair([command(tmp_path / "full", "--sharding", "full")] * 2).wait()
    assert [status for status, _ in found] == [0, 0], found
    close(lines(tmp_path / "full"), wanted)


@pytest.mark.parametrize("killed", [0, 1], ids=["the first", "the second"])
def test_a_process_that_is_killed_ends_the_other_and_both_resume(
    killed: int, command: Callable[..., list[str]], undisturbed: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    words = [command(output, "--sharding", "data")] * 2
    pair = Pair(words, ["-c", CONNECTED])
    pair.wait_until(reached(output, 3))
    pair.children[killed].kill()
    start = time.monotonic()
    statuses = [status for status, _ in pair.wait()]
    assert time.monotonic() - start < 60
    assert statuses[killed] == -signal.SIGKILL
    assert statuses[1 - killed] != 0
    assert not (output / "model.safetensors").exists()
    found = Pair(words).wait()
    assert [status for status, _ in found] == [0, 0], found
    assert (output / "metrics.jsonl").read_bytes() == (undisturbed / "metrics.jsonl").read_bytes()


def test_a_signal_to_one_process_saves_and_ends_both(
    command: Callable[..., list[str]], undisturbed: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    words = [command(output, "--sharding", "full", "--save-every", "8")] * 2
    pair = Pair(words)
    pair.wait_until(reached(output, 1))
    pair.children[1].terminate()
    (first, message), (second, _) = pair.wait()
    assert first == 128 + signal.SIGTERM
    assert second != 0
    update = lines(output)[-1]["update"]
    assert f"stopped by SIGTERM; {output}/checkpoints/step-{update:06} is written" in message
    assert 1 <= update < UPDATES
    found = Pair(words).wait()
    assert [status for status, _ in found] == [0, 0], found
    close(lines(output), lines(undisturbed))


@pytest.fixture(scope="module")
def in_parts(command: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that was killed in both processes after update 4, whose checkpoint is in parts."""
    output = tmp_path_factory.mktemp("parts") / "run"
    pair = Pair([command(output, "--sharding", "full", "--sharded-checkpoints")] * 2)
    pair.wait_until((output / "checkpoints" / "step-000004" / "parts.json").exists)
    kill(pair)
    return output


def kill(pair: Pair) -> None:
    for child in pair.children:
        child.kill()
    pair.wait()


@pytest.mark.parametrize("framework", ["flax", "pt"])
def test_parts_of_two_processes_are_resumed_by_one_of_any_framework(
    framework: str, command: Callable[..., list[str]], undisturbed: Path, in_parts: Path, tmp_path: Path
) -> None:
    shutil.copytree(in_parts, tmp_path / "run")
    paths = child_environment(JAX_ENABLE_X64="1")
    words = command(tmp_path / "run", "--framework", framework)
    done = subprocess.run([sys.executable, *PROGRAM, *words], env=paths, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    close(lines(tmp_path / "run"), lines(undisturbed))
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_a_save_that_is_killed_does_not_count(
    command: Callable[..., list[str]], undisturbed: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    words = [command(output, "--sharding", "full", "--sharded-checkpoints", "--best")] * 2
    pair = Pair(words)
    pair.wait_until(lambda: any(output.glob("checkpoints/.step-*.parts.tmp/parts*")))
    kill(pair)
    assert any(output.glob("checkpoints/.step-*.parts.tmp"))
    for there in output.glob("checkpoints/step-*"):
        assert (there / "parts.json").exists()
    found = Pair(words).wait()
    assert [status for status, _ in found] == [0, 0], found
    close(lines(output), lines(undisturbed))
    assert not list(output.rglob("*.tmp"))
    assert (output / "model.safetensors").exists()  # that of the best evaluation, after update 4: from its parts


def test_processes_of_different_trainings_say_what_differs(command: Callable[..., list[str]], tmp_path: Path) -> None:
    words = command(tmp_path / "run", "--sharding", "data")
    other = tmp_path / "data.jsonl"
    data = Path(words[words.index("--train") + 1])
    other.write_text(data.read_text().replace("book", "sea"))
    for name, more in (("seed", ["--seed", "5"]), ("data", ["--train", str(other)])):
        for status, message in Pair([words, [*words, *more]]).wait():
            assert status == 1
            assert "the 2 processes are not of one training. What differs from the first one's:" in message
            assert f"\n  {name}: rank 1\n" in message
