"""Every schedule against transformers' `get_scheduler`, whose first update is our update 0.

Run as a program, this file is the peer: `python test_schedules_oracle.py` in an environment with transformers 4.57
prints the rates of each case as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

UPDATES, RATE = 50, 3e-4
# Name -> transformers' name and its arguments, and what our recipe says.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "linear": ("linear", {}, {"schedule": "linear"}),
    "cosine": ("cosine", {}, {"schedule": "cosine"}),
    "cosine to a rate": ("cosine_with_min_lr", {"min_lr": 1e-5}, {"schedule": "cosine", "end_learning_rate": 1e-5}),
    "constant": ("constant_with_warmup", {}, {"schedule": "constant"}),
    "inverse square root": ("inverse_sqrt", {}, {"schedule": "inverse_sqrt"}),
    "polynomial": (
        "polynomial",
        {"power": 2.5, "lr_end": 1e-5},
        {"schedule": "polynomial", "power": 2.5, "end_learning_rate": 1e-5},
    ),
}
WARMUPS = (0, 1, 7)


@pytest.fixture(scope="module")
def rates() -> dict[str, list[float]]:
    """The rates of transformers, by case and warm-up."""
    import peers

    command = [sys.executable, __file__]
    done = subprocess.run(command, env=peers.environment(4), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("warmup", WARMUPS)
@pytest.mark.parametrize("case", CASES)
def test_the_rates_of_a_schedule_are_those_of_transformers(
    case: str, warmup: int, rates: dict[str, list[float]]
) -> None:
    from roberta.common.training.recipes import Recipe, learning_rate

    recipe = Recipe(RATE, 8, warmup=warmup, **CASES[case][2])
    found = [learning_rate(number, recipe, UPDATES) for number in range(1, UPDATES + 1)]
    assert found == pytest.approx(rates[f"{case} {warmup}"][1:], rel=1e-12, abs=1e-18)


def run_peer() -> None:
    """Print the rate before each update, and after the last."""
    import torch
    from transformers import get_scheduler

    found = {}
    for case, (name, options, _) in CASES.items():
        for warmup in WARMUPS:
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
            total = None if name in ("constant_with_warmup", "inverse_sqrt") else UPDATES
            scheduler = get_scheduler(name, optimizer, warmup, total, scheduler_specific_kwargs=options)
            listed = []
            for _ in range(UPDATES + 1):
                listed.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                scheduler.step()
            found[f"{case} {warmup}"] = listed
    print(json.dumps(found))


if __name__ == "__main__":
    run_peer()
