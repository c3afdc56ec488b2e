"""Two JAX processes on this host, as a cluster would start them."""

from __future__ import annotations

import os

from child_processes import child_environment


def environment_of(rank: int, port: int, devices: int) -> dict[str, str]:
    """The environment of one of two processes, with so many devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    return child_environment(
        JAX_COORDINATOR_ADDRESS=f"127.0.0.1:{port}", JAX_NUM_PROCESSES="2", JAX_PROCESS_ID=str(rank), XLA_FLAGS=flags,
        JAX_ENABLE_X64="1",
    )  # fmt: skip
