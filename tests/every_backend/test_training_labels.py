"""A training with labels other than the model's, in each framework: only the classifier is newly initialised."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import Backend
from training_cases import LENGTH, make

from roberta import RobertaConfig, Training
from roberta.common.checkpoint.checkpoint import save_checkpoint
from roberta.common.formats import safetensors_file
from roberta.common.parameters import parameters
from roberta.common.training.initial_weights import initial_value
from roberta.common.training.recipes import Recipe

OWN = {0: "CONTRADICTION", 1: "NEUTRAL"}
LAST = "classifier.out_proj.weight"


class StoppedError(Exception):
    """Raised instead of the updates."""


@pytest.fixture
def case(tmp_path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Arguments of a training from a classifier with as many labels as the data, but other names; and its weights."""
    arguments = make(tmp_path, "text-classification", id2label=OWN)
    config = RobertaConfig.from_pretrained(arguments["model"])
    table = parameters(config, "ForSequenceClassification")
    weights = {name: initial_value(parameter, config, 9) for name, parameter in table.items()}
    sources = {name: (array.shape, "float64", lambda array=array: array) for name, array in weights.items()}
    save_checkpoint(tmp_path / "weights", {"config.json": config.to_json_string()}, sources)
    shutil.copy(tmp_path / "weights" / "model.safetensors", arguments["model"])
    recipe = Recipe(1e-3, 4, updates=2)
    more = {"dtype": "float64", "max_length": LENGTH, "seed": 5, "recipe": recipe, "output": tmp_path / "run"}
    return arguments | more, weights


def test_a_classifier_for_other_names_is_new_and_the_encoder_is_the_models(
    backend: Backend, case: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    arguments, weights = case
    seen: dict[str, Any] = {}

    def train(model: Any, run: Any, **settings: Any) -> None:
        seen.update(weights=backend.parameters(model), names=model.config.id2label)
        raise StoppedError

    monkeypatch.setattr(f"roberta.{backend.name}.training.train", train)
    with pytest.raises(StoppedError):
        Training(**arguments, framework=backend.name).run()
    assert seen["names"] == {0: "no", 1: "yes"}
    assert "in place of the model's 'CONTRADICTION', 'NEUTRAL'; the classifier is new" in capsys.readouterr().err
    same = {name for name, array in weights.items() if np.array_equal(np.asarray(seen["weights"][name]), array)}
    assert set(weights) - same == {LAST}  # its bias is 0 both times
    config = RobertaConfig.from_pretrained(arguments["model"])
    wanted = initial_value(parameters(config, "ForSequenceClassification")[LAST], config, 5)
    np.testing.assert_array_equal(np.asarray(seen["weights"][LAST]), wanted)


def test_a_training_that_goes_on_keeps_the_classifier_it_has_begun(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, _ = case
    Training(**arguments, framework="pt", save_every=1).run()
    shutil.rmtree(arguments["output"] / "checkpoints" / "step-000002")
    saved = safetensors_file.read_safetensors(
        arguments["output"] / "checkpoints" / "step-000001" / "model.safetensors"
    )[LAST].load()
    seen: list[np.ndarray] = []

    def train(model: Any, run: Any, **settings: Any) -> None:
        seen.append(model.classifier.out_proj.weight.detach().numpy().copy())
        raise StoppedError

    monkeypatch.setattr("roberta.pt.training.train", train)
    with pytest.raises(StoppedError):
        Training(**arguments, framework="pt", save_every=1, resume=True).run()
    np.testing.assert_array_equal(seen[0], saved)
