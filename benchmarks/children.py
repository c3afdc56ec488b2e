"""A side of a benchmark in its own process, which answers each line of JSON with a line of JSON."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any


class Child:
    """A process that prints one answer when it is ready, and one for each request.

    Args:
        command, environment: the command and the environment of the process.
        log: the file that receives its standard error.

    Attributes:
        started: its first answer.

    Raises:
        RuntimeError: if the process has ended; the message holds the end of its output. The methods raise it too.
    """

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log.open("w+")
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        self.started = self._answer()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request, and return the answer."""
        assert self.process.stdin is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.log.seek(0)
            raise RuntimeError(f"ended with {code}: {self.log.read()[-1500:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.log.close()
