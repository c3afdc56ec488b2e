"""A whole training in each framework, stopped and resumed: in the same framework to the bit, in others to rounding."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import training_cases
from backends import Backend
from backends import backend as get_backend
from training_standin import log, stopped_at

from roberta import Training
from roberta.common.formats import safetensors_file
from roberta.common.training.recipes import Recipe

RECIPE = Recipe(2e-3, 4, updates=5, warmup=2, clip_norm=1.0, dropout=0.1)
# the weights that are trained are in the checkpoints beside their averages
AVERAGED = replace(RECIPE, ema_decay=0.6, layer_decay=0.8, label_smoothing=0.1, schedule="cosine")
ONE_SHAPE = {"max_length": 16, "validation": None}  # all rows are in one bucket: XLA compiles one program
FRAMEWORKS = ("pt", "tf", "flax")


def result(output: Path) -> dict[str, bytes]:
    names = ("model.safetensors", "metrics.jsonl", "checkpoints/step-000005/optimizer.safetensors",
             "checkpoints/step-000005/trained.safetensors", "checkpoints/step-000005/optimizer.json")  # fmt: skip
    return {name: (output / name).read_bytes() for name in names}


def test_a_training_that_was_stopped_ends_with_the_same_bytes(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = training_cases.make(tmp_path, "mlm") | ONE_SHAPE
    arguments |= {"framework": backend.name, "recipe": AVERAGED, "micro_batch_size": 2, "seed": 7}
    arguments |= {"freeze": ["embeddings.LayerNorm", 1], "gradient_checkpointing": True}
    Training(**arguments, output=tmp_path / "whole").run()
    stopped_at(3, Training(**arguments, output=tmp_path / "stopped"), monkeypatch)
    Training(**arguments, output=tmp_path / "stopped", resume=True).run()
    assert result(tmp_path / "stopped") == result(tmp_path / "whole")
    losses = [entry["loss"] for entry in log(tmp_path / "whole") if "loss" in entry]
    assert len(set(losses)) == 5
    trained = safetensors_file.read_safetensors(
        tmp_path / "whole" / "checkpoints" / "step-000005" / "trained.safetensors"
    )
    averages = weights(tmp_path / "whole")
    assert len(trained) < len(averages), "what is frozen is not averaged"
    assert not any(np.array_equal(tensor.load(), averages[name]) for name, tensor in trained.items())
    assert not (tmp_path / "whole" / "trained.safetensors").exists()


def weights(output: Path) -> dict[str, np.ndarray]:
    return {
        name: tensor.load() for name, tensor in safetensors_file.read_safetensors(output / "model.safetensors").items()
    }


@pytest.fixture(scope="module")
def in_float64(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Arguments of a training without dropout, whose results are the same in all frameworks except for rounding."""
    arguments = training_cases.make(tmp_path_factory.mktemp("data"), "text-classification")
    return arguments | ONE_SHAPE | {"dtype": "float64", "recipe": replace(RECIPE, dropout=0.0)}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, in_float64: dict[str, Any]) -> Callable[[str], Path]:
    """Framework -> the folder of an undisturbed training, made once."""

    @functools.cache
    def made(framework: str) -> Path:
        output = tmp_path_factory.mktemp("whole") / framework
        Training(**in_float64, framework=framework, output=output).run()
        return output

    return made


@pytest.mark.parametrize(("first", "second"), list(permutations(FRAMEWORKS, 2)), ids="{}".format)
def test_another_framework_goes_on_to_the_same_weights(
    first: str,
    second: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_float64: dict[str, Any],
    uninterrupted: Callable[[str], Path],
) -> None:
    get_backend(first), get_backend(second)
    stopped_at(3, Training(**in_float64, framework=first, output=tmp_path), monkeypatch)
    Training(**in_float64, framework=second, output=tmp_path, resume=True).run()
    wanted = weights(uninterrupted(second))
    for name, found in weights(tmp_path).items():
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, wanted[name], rtol=0, atol=1e-10, err_msg=name)
