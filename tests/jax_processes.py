"""Two JAX processes on this host, as a cluster would start them."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path


def environment_of(rank: int, port: int, devices: int) -> dict[str, str]:
    """The environment of one of two processes, with so many devices."""
    paths = [str(Path(__file__).parent), *(path for path in sys.path if path)]
    return {
        **os.environ,
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(rank),
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}",
        "JAX_ENABLE_X64": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths),
    }  # fmt: skip


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
