"""The same weights, batches and recipe in float64 give the same losses in the three frameworks."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import pytest
import updates
from backends import Backend, backend

from roberta.common.training.recipes import learning_rate

RECIPE = replace(updates.RECIPE, warmup=0.1, decays_all=False, clip_norm=1.0)
UPDATES = 200
BATCHES = 5  # they come repeatedly, so that the losses fall
ROWS, SIZE = 6, 3


@pytest.fixture(params=["tf", "flax"], ids="in_{}".format)
def other(request: pytest.FixtureRequest) -> Backend:
    return backend(request.param)


@functools.cache
def folder(case: str, root: Path) -> Path:
    return updates.folder_of(root, case)


@functools.cache
def curve(framework: Backend, case: str, root: Path) -> list[float]:
    """The losses of all updates of one case."""
    config = updates.config_of(case)
    batches = [updates.micro_batches(case, updates.inputs(case, config, ROWS, seed), SIZE) for seed in range(BATCHES)]
    trainer = updates.trainer(framework, case, folder(case, root), RECIPE)
    return [
        trainer.update(batches[number % BATCHES], learning_rate(number, RECIPE, UPDATES), number)
        for number in range(1, UPDATES + 1)
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("curves")


@pytest.mark.parametrize("case", updates.CASES)
def test_the_losses_of_a_training_are_those_of_pytorch(case: str, other: Backend, root: Path) -> None:
    wanted = curve(backend("pt"), case, root)
    assert sum(wanted[-BATCHES:]) < 0.8 * sum(wanted[:BATCHES]), "what does not learn shows no difference"
    assert curve(other, case, root) == pytest.approx(wanted, rel=1e-8)
