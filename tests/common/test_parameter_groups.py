"""Which parameters are frozen, and with which rate the others are trained: groups computed by hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import training_cases
from checkpoints import small_config

from roberta import Training
from roberta.cli import main
from roberta.common.formats.safetensors_file import read_safetensors
from roberta.common.parameters import parameters
from roberta.common.training.parameter_groups import check_frozen, frozen_parameters, groups_of
from roberta.common.training.recipes import Recipe

NAMES = list(parameters(small_config("ForMaskedLM", num_hidden_layers=3), "ForMaskedLM"))
EMBEDDINGS = [name for name in NAMES if name.startswith("roberta.embeddings.")]
HEAD = [name for name in NAMES if name.startswith("lm_head.")]


def of_layers(*numbers: int) -> list[str]:
    return [name for name in NAMES for number in numbers if f".layer.{number}." in name]


@pytest.mark.parametrize(
    ("freeze", "wanted"),
    [
        ("embeddings", EMBEDDINGS),
        (2, of_layers(0, 1)),
        ("2", of_layers(0, 1)),
        (["embeddings", 1], [*EMBEDDINGS, *of_layers(0)]),
        ("encoder", [*EMBEDDINGS, *of_layers(0, 1, 2)]),
        ("encoder.layer.1", of_layers(1)),
        ("lm_head.dense", ["lm_head.dense.weight", "lm_head.dense.bias"]),
        (["roberta.embeddings.LayerNorm.bias"], ["roberta.embeddings.LayerNorm.bias"]),
    ],
)
def test_what_is_frozen_is_said_by_part_number_or_name(freeze: Any, wanted: list[str]) -> None:
    assert frozen_parameters(freeze, NAMES, 3) == tuple(name for name in NAMES if name in wanted)


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        ("embedding", "freeze='embedding' is of no parameter of this model; give 'embeddings', a number of layers"),
        ("encoder.layer.7", "freeze='encoder.layer.7' is of no parameter"),
        (4, "freeze=4 must be a number of layers from 1 to 3"),
        ("0", "freeze='0' must be a number of layers from 1 to 3"),
        (True, "freeze=True must be a number of layers"),
        (["encoder", "lm_head"], "freeze=['encoder', 'lm_head'] leaves nothing to train; freeze less"),
    ],
)
def test_what_cannot_be_frozen_is_refused(freeze: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        frozen_parameters(freeze, NAMES, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"freeze": []}, "freeze=[] freezes nothing; name what is frozen, or omit it"),
        ({"freeze": 1.5}, "freeze=1.5 must be 'embeddings', a number of layers"),
        ({"freeze": ["encoder", None]}, "freeze=['encoder', None] must be"),
        ({"class_weights": 1.5}, "class_weights=1.5 must be 'balanced', or a weight for each label"),
        ({"class_weights": "even"}, "class_weights='even' must be 'balanced'"),
        ({"max_length": "48"}, "max_length='48' must be a number of tokens of at least 1"),
        ({"save_every": 0}, "save_every=0 must be a number of updates of at least 1"),
        ({"keep": True}, "keep=True must be a number of checkpoints"),
        ({"workers": 1.5}, "workers=1.5 must be a number of processes of at least 0"),
    ],
)
def test_options_of_the_wrong_kind_are_refused_before_the_data_is_read(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Training(task="text-classification", model="none", train="none", output="none", **given)


def test_names_that_a_model_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match=r"frozen='a\.b' is not a parameter of the model"):
        check_frozen(("a.b",), NAMES)
    with pytest.raises(ValueError, match="frozen has all parameters of the model; freeze less"):
        check_frozen(NAMES, NAMES)


def test_the_rate_decays_from_the_head_down() -> None:
    recipe = Recipe(1e-3, 8, layer_decay=0.5, weight_decay=0.1, decays_all=False)
    found = {name: group for group in groups_of(NAMES, recipe, 3, 8.0) for name in group.parameters}
    assert found.keys() == set(NAMES)
    for names, rate in ((HEAD, 8.0), (of_layers(2), 4.0), (of_layers(1), 2.0), (of_layers(0), 1.0), (EMBEDDINGS, 0.5)):
        assert {found[name].learning_rate for name in names} == {rate}
    for name in NAMES:
        is_spared = name.endswith("bias") or "norm" in name.lower()
        assert found[name].weight_decay == (0.0 if is_spared else 0.1), name
    assert len(groups_of(NAMES, recipe, 3, 1.0)) == 10


@pytest.mark.parametrize(
    ("decay", "message"), [(0.0, "layer_decay=0 must be above 0"), (1.5, "layer_decay=1.5 must be at most 1")]
)
def test_a_decay_of_layers_out_of_range_is_named(decay: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(1e-3, 8, layer_decay=decay)


def test_a_training_leaves_what_is_frozen_and_a_resumed_one_must_freeze_the_same(tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    given = training_cases.make(tmp_path, "multiple-choice")
    words = [*training_cases.flags(given), "--framework", "pt", "--output", str(tmp_path / "run"), "--updates", "2"]
    words += ["--warmup", "0", "--schedule", "constant", "--gradient-checkpointing"]
    assert main(["train", *words, "--freeze", "embeddings", "1", "--save-every", "1"]) == 0
    first, last = (
        {name: tensor.load() for name, tensor in read_safetensors(folder / "model.safetensors").items()}
        for folder in (tmp_path / "run" / "checkpoints" / "step-000001", tmp_path / "run")
    )
    for name, value in first.items():
        is_frozen = "embeddings" in name or ".layer.0." in name
        assert np.array_equal(value, last[name]) == is_frozen, name
    capsys.readouterr()
    assert main(["train", *words, "--resume"]) == 1
    assert "frozen: [" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"freeze='encoder': lora='r=2' trains only the adapter and the head"):
        Training(**given, output=tmp_path / "other", lora="r=2", freeze="encoder")
