"""PyTorch on a simulated accelerator: no tensor of the CPU meets one of the device, and the numbers are the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
TESTS = Path(__file__).parents[1]
QUICK = (
    "an_operation_on_two_devices_fails", "every_head_gives_outputs_losses_and_gradients",
    "inputs_may_be_embeddings_and_without_a_mask", "a_cache_goes_on_from_embeddings",
    "a_model_is_loaded_where_it_is_asked_for", "an_error_lists_what_there_is", "dropout_leaves_the_callers_generators",
    "processes_of_torchrun_take_a_device_each", "bfloat16_is_autocast_on_the_device", "packed_tokens_are_on_the_device",
)  # fmt: skip
LONG = (
    "labels_and_masks_may_be_on_the_cpu", "generation_gives_the_same_ids",
    "infer_gives_the_same", "pipelines_run_on_the_accelerator_and_say_so_once",
    "an_update_of_each_task_gives_the_same_weights_and_state", "a_training_with_an_adapter_gives_the_same_files",
    "what_is_saved_is_the_same", "loaded_adapters_are_computed_on_the_device", "verify_compares_on_the_device",
)  # fmt: skip


def checked(names: tuple[str, ...]) -> dict[str, str]:
    """Checks of `device_checks.py`, in a process that has the simulated device: "" or what went wrong, by name."""
    command = [sys.executable, "-W", "ignore", str(TESTS / "device_checks.py"), *names]
    done = subprocess.run(command, env={**os.environ}, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr[-3000:]
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def quick() -> dict[str, str]:
    return checked(QUICK)


@pytest.fixture(scope="module")
def long() -> dict[str, str]:
    return checked(LONG)


@pytest.mark.parametrize("name", QUICK)
def test_on_a_simulated_device(quick: dict[str, str], name: str) -> None:
    assert not quick[name], quick[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_at_length_on_a_simulated_device(long: dict[str, str], name: str) -> None:
    assert not long[name], long[name]


def test_no_check_is_left_out() -> None:
    text = (TESTS / "device_checks.py").read_text(encoding="utf-8")
    assert {line[4:].split("(")[0] for line in text.split("@check\n")[1:]} == {*QUICK, *LONG}
