"""Processes of one training in TensorFlow, for tests: each has its own TF_CONFIG, and all talk over the loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

TESTS = Path(__file__).parent


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; taken together, so that they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def tf_config(ports: Sequence[int], index: int) -> str:
    """The value of TF_CONFIG for the worker of this index."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})


class Started:
    """Processes that run, and what they write.

    Args:
        commands: the words behind `python` of each; several of them are workers of one cluster.
        folder: where their output goes.
    """

    def __init__(self, commands: Sequence[Sequence[str]], folder: Path, name: str = "worker") -> None:
        ports = free_ports(len(commands))
        paths = os.pathsep.join([str(TESTS), *(path for path in sys.path if path)])
        self.logs = [folder / f"{name}-{index}.log" for index in range(len(commands))]
        self.processes = []
        for index, words in enumerate(commands):
            own = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
            own |= {"TF_CONFIG": tf_config(ports, index)} if len(commands) > 1 else {}
            with self.logs[index].open("wb") as log:
                self.processes.append(
                    subprocess.Popen([sys.executable, *words], env=own, stdout=log, stderr=subprocess.STDOUT)
                )

    def statuses(self, seconds: float = 300) -> list[int]:
        """The exit statuses of all, once they have ended; those that do not end in time are killed."""
        end = time.monotonic() + seconds
        try:
            return [one.wait(max(0.1, end - time.monotonic())) for one in self.processes]
        finally:
            for one in self.processes:
                one.kill()
                one.wait()

    def said(self, index: int) -> str:
        """What one of them has written."""
        return self.logs[index].read_text(errors="replace")
