"""TensorFlow and JAX with a CPU that is split into two devices: `device` says where a model is, computes and is trained."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from backends import NEEDS

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("framework", ["tf", "flax"], ids="in_{}".format)
def test_on_the_second_of_two_devices(framework: str) -> None:
    for module in NEEDS[framework]:
        pytest.importorskip(module)
    split = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    environment = {**os.environ, "XLA_FLAGS": split, "JAX_ENABLE_X64": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-W", "ignore", str(TESTS / "placement_checks.py"), framework]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(done.stdout.split()) == 5
