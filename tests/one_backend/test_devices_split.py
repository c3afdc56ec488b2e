"""TensorFlow and JAX with a CPU that is split into two devices: `device` says where a model is, computes and is trained."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from backends import NEEDS

TESTS = Path(__file__).parents[1]


QUICK = ("a_model_is_loaded_and_computes_there", "a_pipeline_is_where_it_is_asked_for", "the_default_is_said_once")
LONG = ("infer_and_generate_compute_there", "a_training_step_is_made_there")


def run_checks(framework: str, names: tuple[str, ...]) -> None:
    for module in NEEDS[framework]:
        pytest.importorskip(module)
    split = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    environment = {**os.environ, "XLA_FLAGS": split, "JAX_ENABLE_X64": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-W", "ignore", str(TESTS / "placement_checks.py"), framework, *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(done.stdout.split()) == sorted(names)


@pytest.mark.parametrize("framework", ["tf", "flax"], ids="in_{}".format)
def test_on_the_second_of_two_devices(framework: str) -> None:
    run_checks(framework, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["tf", "flax"], ids="in_{}".format)
def test_at_length_on_the_second_of_two_devices(framework: str) -> None:
    run_checks(framework, LONG)
