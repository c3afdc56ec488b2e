"""One process that starts many trainings of a framework: it imports the framework once and forks for every request.

It does not use the framework itself, because a process that has used it must not fork. A forked training does the same
as a separate process: it is the command `roberta train`, from its arguments to its exit status. JAX finds its
compiled programs on the disk.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import NoReturn

PATIENCE = 600  # seconds that a training may take
# Modules that each child would import otherwise: PyTorch does so with its first optimizer.
LATE = {"pt": ("torch._dynamo",)}


class Trainings:
    """A process that forks trainings of one framework, one at a time; a context manager that ends them all on exit.

    Args:
        folder: for their output, and for the compiled programs of JAX.
    """

    def __init__(self, framework: str, folder: Path) -> None:
        self.errors = folder / "errors.txt"
        cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "programs"), "JAX_ENABLE_COMPILATION_CACHE": "true"}
        cache |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
        self._parent = subprocess.Popen(
            [sys.executable, "-P", __file__, framework, str(self.errors)], bufsize=0, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env=os.environ | cache,
        )  # fmt: skip
        self._training = 0
        self._code: int | None = None

    def __enter__(self) -> Trainings:
        return self

    def __exit__(self, *error: object) -> None:
        if self._training and not self.has_ended():
            self.kill()
        self._parent.communicate()  # the process ends with its input

    def start(self, words: list[str]) -> None:
        """Start `roberta` with these arguments."""
        assert self._parent.stdin is not None
        self._parent.stdin.write(json.dumps(words).encode() + b"\n")
        self._training, self._code = int(self._line()), None

    def has_ended(self, seconds: float = 0.0) -> bool:
        """Whether the training has ended, now or within some seconds."""
        if self._code is None and select.select([self._parent.stdout], [], [], seconds)[0]:
            self._code = int(self._line())
        return self._code is not None

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        os.kill(self._training, signal.SIGKILL)
        self.has_ended(PATIENCE)

    def failure(self) -> str:
        """Wait for its end; return the end of its output if it failed, otherwise nothing."""
        if not self.has_ended(PATIENCE):
            return "did not end"
        words = self.errors.read_text().strip().splitlines()[-1:]
        return "" if self._code == 0 else f"ended with {self._code}: {words}"

    def _line(self) -> str:
        assert self._parent.stdout is not None
        return self._parent.stdout.readline().decode()


def serve(framework: str, errors: str) -> None:
    """Fork a training for every line of standard input; print its process id, and its exit status when it has ended."""
    for module in ("models", "training"):
        importlib.import_module(f"roberta.{framework}.{module}")
    for module in ("cli", "common.commands.train"):
        importlib.import_module(f"roberta.{module}")
    for module in LATE.get(framework, ()):
        importlib.import_module(module)
    for line in sys.stdin:
        process = os.fork()
        if not process:
            be_training(json.loads(line), errors)
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


def be_training(words: list[str], errors: str) -> NoReturn:
    """Run the command `roberta` and end."""
    from roberta.cli import main

    nothing, log = os.open(os.devnull, os.O_RDWR), os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for old, new in ((nothing, 0), (nothing, 1), (log, 2)):
        os.dup2(old, new)
    code = 70
    try:
        code = main(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)  # an exception would otherwise continue into the parent's loop


if __name__ == "__main__":
    serve(*sys.argv[1:])
