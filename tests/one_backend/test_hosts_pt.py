"""PyTorch with torchrun: two "hosts" of two processes each on loopback, kills, restarts, signals, disagreements.

Run as a program under torchrun, this file is one of several processes: `test_hosts_pt.py FOLDER WHAT`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import sharded_runs as short  # noqa: E402
import training_cases  # noqa: E402
import updates  # noqa: E402
from backends import assert_close, backend  # noqa: E402
from child_processes import child_environment  # noqa: E402

from roberta import Training  # noqa: E402
from roberta.common.training.checkpoints import Checkpoints  # noqa: E402
from roberta.common.training.data.tasks import HEADS  # noqa: E402
from roberta.common.training.optimizer_state import load_training_state  # noqa: E402

pytestmark = pytest.mark.slow
HOST_CASES = ("tokens", "mlm")
MARK = "ROBERTA_TEST_OF_HOSTS"
SECONDS = 150  # in which all processes have ended, also on a busy machine
LENGTH = 60  # updates of the trainings that are killed
OPTIONS = {
    "framework": "pt", "dtype": "float64", "dropout": 0, "updates": LENGTH, "batch-size": 4, "micro-batch-size": 2,
    "save-every": 10, "evaluate-every": LENGTH, "warmup": 1, "sharding": "full",
}  # fmt: skip


class Hosts:
    """The agents of torchrun on two hosts, of which each has two processes."""

    def __init__(self, program: Sequence[str], *, hosts: int = 2, restarts: int = 0) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.mark = f"{os.getpid()}-{port}"
        # else processes that are started again find the addresses of those before in the store of the agents
        environment = child_environment(**{MARK: self.mark}, TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
        command = [
            sys.executable, "-m", "torch.distributed.run", "--nnodes", str(hosts), "--nproc-per-node", "2",
            "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "test",
            "--max-restarts", str(restarts), *program,
        ]  # fmt: skip
        self.agents = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for _ in range(hosts)
        ]

    def process_of(self, rank: int) -> int:
        """The process of a rank."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"{MARK}={self.mark}".encode() in words and f"RANK={rank}".encode() in words:
                return int(folder.name)
        raise LookupError(f"no process has rank {rank}")

    def end(self, seconds: float = SECONDS) -> list[tuple[int, str]]:
        """Exit status and output of each agent; all must end within some seconds."""
        results = []
        until = time.monotonic() + seconds
        try:
            for agent in self.agents:
                output, _ = agent.communicate(timeout=max(until - time.monotonic(), 1))
                results.append((agent.returncode, output))
        finally:
            for agent in self.agents:
                if agent.poll() is None:
                    agent.kill()
        return results


def until(condition: Callable[[], object], hosts: Hosts) -> None:
    """Wait for something that the processes do."""
    end = time.monotonic() + SECONDS
    while not condition():
        ended = [agent.poll() for agent in hosts.agents]
        assert not any(ended), hosts.end()[0][1][-3000:]
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)


def words(folder: Path, output: str, *more: str, **changed: Any) -> list[str]:
    """`-m roberta train ...`, on the files in a folder."""
    given = ["--model", folder / "model", "--train", folder / "data.jsonl", "--validation", folder / "data.jsonl"]
    options = [word for name, value in (OPTIONS | changed).items() for word in (f"--{name}", value)]
    all_words = ["-m", "roberta", "train", "token-classification", *given, *options, "--output", folder / output, *more]
    return [str(word) for word in all_words]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and data."""
    folder = tmp_path_factory.mktemp("hosts")
    training_cases.make(folder, "token-classification", num_hidden_layers=2)
    return folder


@pytest.fixture(scope="module")
def data(files: Path) -> Path:
    """The same folder, and in "whole" the folder of a training that nothing disturbed."""
    ended = Hosts(words(files, "whole")).end()
    assert [status for status, _ in ended] == [0, 0], ended[0][1][-3000:]
    return files


def metrics(folder: Path) -> bytes:
    return (folder / "metrics.jsonl").read_bytes()


# -- programs of the processes ---------------------------------------------------------------------------------------------


def serve(folder: Path) -> None:
    """Train short cases in every way."""
    for sharding in short.SHARDINGS:
        for case in HOST_CASES:
            run = short.run_of(case, sharding)
            run.folder = folder / f"{case}-{sharding}"
            short.trained(folder, case, run)
            if run.losses:
                (run.folder / "losses.json").write_text(json.dumps(run.losses))


def disagree(folder: Path) -> None:
    """Begin trainings that differ in the second process, and keep the errors."""
    rank = torch.distributed.get_rank()
    first: dict[str, Any] = {
        "task": "token-classification", "model": folder / "model", "train": [folder / "data.jsonl"], "updates": 2,
        "batch_size": 4, "framework": "pt", "sharding": "data", "warmup": 1, "progress": False,
    }  # fmt: skip
    others: dict[str, dict[str, Any]] = {
        "data": {"train": [folder / "other.jsonl"]}, "seed": {"seed": 5}, "micro": {"micro_batch_size": 1},
        "parts": {"sharded_checkpoints": True}, "folder": {"output": folder / "elsewhere"},
    }  # fmt: skip
    for name, changed in others.items():
        given = {**first, "output": folder / f"out-{name}", **(changed if rank else {})}
        try:
            Training(**given).run()
            text = "no error"
        except ValueError as error:
            text = str(error)
        (folder / f"{name}-{rank}.txt").write_text(text)


# -- tests -----------------------------------------------------------------------------------------------------------------


def test_two_hosts_train_as_one_process_does(tmp_path: Path) -> None:
    for case in HOST_CASES:
        updates.folder_of(tmp_path, case, num_hidden_layers=2)
    ended = Hosts([__file__, str(tmp_path), "serve"]).end(2 * SECONDS)
    assert [status for status, _ in ended] == [0, 0], ended[0][1][-3000:]
    for case in HOST_CASES:
        alone = short.run_of(case)
        trainer = short.trained(tmp_path, case, alone)
        for sharding in short.SHARDINGS:
            folder = tmp_path / f"{case}-{sharding}"
            assert json.loads((folder / "losses.json").read_text()) == pytest.approx(alone.losses, rel=1e-10)
            model = backend("pt").load(HEADS[alone.settings.task], folder)
            for name, wanted in trainer.model.state_dict().items():
                assert_close(model.state_dict()[name].numpy(), wanted.numpy(), 1e-8, name)
            assert load_training_state(folder).step == short.UPDATES


@pytest.mark.parametrize("parts", [(), ("--sharded-checkpoints",)], ids=["whole", "in_parts"])
def test_a_kill_ends_all_and_the_resumed_training_has_the_same_log(parts: tuple[str, ...], data: Path) -> None:
    name = f"killed{len(parts)}"
    hosts = Hosts(words(data, name, *parts))
    until(lambda: Checkpoints(data / name).updates(), hosts)
    os.kill(hosts.process_of(3), signal.SIGKILL)
    assert all(status for status, _ in hosts.end())
    there = Checkpoints(data / name).newest()
    assert there is not None
    assert there.position.update < LENGTH
    assert (there.parts is not None) == bool(parts)
    ended = Hosts(words(data, name, *parts, "--resume")).end()
    assert [status for status, _ in ended] == [0, 0], ended[0][1][-3000:]
    assert metrics(data / name) == metrics(data / "whole")


def test_torchrun_restarts_a_training_that_resumes_by_itself(data: Path) -> None:
    """The documented command has --resume from the start, where there is nothing to resume."""
    hosts = Hosts(words(data, "restarted", "--sharded-checkpoints", "--resume"), restarts=1)
    until(lambda: Checkpoints(data / "restarted").updates(), hosts)
    os.kill(hosts.process_of(1), signal.SIGKILL)
    ended = hosts.end(2 * SECONDS)
    assert [status for status, _ in ended] == [0, 0], "\n".join(output[-3000:] for _, output in ended)
    assert metrics(data / "restarted") == metrics(data / "whole")


def test_a_signal_to_one_process_has_all_save_and_end(data: Path) -> None:
    hosts = Hosts(words(data, "signalled", "--sharded-checkpoints"))
    until(lambda: Checkpoints(data / "signalled").updates(), hosts)
    os.kill(hosts.process_of(2), signal.SIGTERM)
    ended = hosts.end()
    text = "\n".join(output for _, output in ended)
    assert text.count("roberta train: stopped by SIGTERM; ") == 4, text[-3000:]
    there = Checkpoints(data / "signalled").newest()
    assert there is not None
    assert f"step-{there.position.update:06} is written" in text


def test_four_processes_then_two_then_one(data: Path) -> None:
    """A checkpoint in parts is resumed by other numbers of processes; the loss is the same to rounding."""
    hosts = Hosts(words(data, "fewer", "--sharded-checkpoints"))
    until(lambda: Checkpoints(data / "fewer").updates(), hosts)
    os.kill(hosts.process_of(0), signal.SIGKILL)
    hosts.end()
    hosts = Hosts(words(data, "fewer", "--sharded-checkpoints", "--resume"), hosts=1)
    before = Checkpoints(data / "fewer").updates()
    until(lambda: Checkpoints(data / "fewer").updates() > before, hosts)
    os.kill(hosts.process_of(1), signal.SIGKILL)
    hosts.end()
    there = Checkpoints(data / "fewer").newest()
    assert there is not None
    assert there.parts == "pt"
    given = words(data, "fewer", "--resume", sharding="none")
    assert subprocess.run([sys.executable, *given], timeout=SECONDS).returncode == 0
    found, wanted = ([json.loads(line) for line in metrics(data / name).splitlines()] for name in ("fewer", "whole"))
    losses = [[line["loss"] for line in lines if "loss" in line] for lines in (found, wanted)]
    assert len(losses[0]) == LENGTH
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)


def test_flax_resumes_from_the_parts_of_pytorch(data: Path) -> None:
    backend("flax")
    hosts = Hosts(words(data, "crossed", "--sharded-checkpoints"), hosts=1)
    until(lambda: Checkpoints(data / "crossed").updates(), hosts)
    os.kill(hosts.process_of(1), signal.SIGKILL)
    hosts.end()
    there = Checkpoints(data / "crossed").newest()
    assert there is not None
    assert there.parts == "pt"
    given = words(data, "crossed", "--resume", sharding="none", framework="flax")
    assert subprocess.run([sys.executable, *given], timeout=2 * SECONDS).returncode == 0
    found, wanted = ([json.loads(line) for line in metrics(data / name).splitlines()] for name in ("crossed", "whole"))
    losses = [[line["loss"] for line in lines if "loss" in line] for lines in (found, wanted)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)


def test_processes_that_differ_are_told_so(files: Path) -> None:
    (files / "other.jsonl").write_text("".join(reversed((files / "data.jsonl").read_text().splitlines(True))))
    ended = Hosts([__file__, str(files), "disagree"], hosts=1).end()
    assert ended[0][0] == 0, ended[0][1][-3000:]
    named = {
        "data": "data.train", "seed": "seed: rank 1", "micro": "micro_batch_size: rank 1",
        "parts": "sharded_checkpoints: rank 1", "folder": "what is in output, which is",
    }  # fmt: skip
    for name, text in named.items():
        for rank in range(2):
            error = (files / f"{name}-{rank}.txt").read_text()
            assert "the 2 processes are not of one training" in error
            assert text.partition(".")[0] in error
            assert f"This is rank {rank} on" in error


def test_a_process_that_cannot_read_its_data_ends_all(files: Path) -> None:
    hosts = Hosts([__file__, str(files), "missing"], hosts=1)
    ((status, output),) = hosts.end(SECONDS)
    assert status != 0
    assert "missing.jsonl" in output


def run_without_data(folder: Path) -> None:
    """Train in the first process; the second one has no such file."""
    rank = int(os.environ["RANK"])
    given = words(folder, "missing")[3:]
    given[given.index(str(folder / "data.jsonl"))] = str(folder / ("missing.jsonl" if rank else "data.jsonl"))
    from roberta.cli import main

    sys.exit(main(["train", *given]))


if __name__ == "__main__":
    where = Path(sys.argv[1])
    if sys.argv[2] == "missing":
        run_without_data(where)
    torch.distributed.init_process_group("gloo")
    {"serve": serve, "disagree": disagree}[sys.argv[2]](where)
    torch.distributed.destroy_process_group()
