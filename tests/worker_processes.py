"""Processes of one training in TensorFlow, for tests: each has its own TF_CONFIG, and all talk over the loopback."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from child_processes import child_environment, free_ports


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
        self.logs = [folder / f"{name}-{index}.log" for index in range(len(commands))]
        self.processes = []
        for index, words in enumerate(commands):
            cluster = {"TF_CONFIG": tf_config(ports, index)} if len(commands) > 1 else {}
            own = child_environment(TF_CPP_MIN_LOG_LEVEL="3", **cluster)
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
