"""What processes that tests start are given: the modules of the tests, and ports of this host."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

TESTS = Path(__file__).parent


def child_environment(**more: str) -> dict[str, str]:
    """The environment of a process that runs a file of the tests, or our command, with one thread."""
    paths = [str(TESTS), *(path for path in sys.path if path)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", **more}


def free_ports(count: int = 1) -> list[int]:
    """Ports that nobody listens on; taken together, so that they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
