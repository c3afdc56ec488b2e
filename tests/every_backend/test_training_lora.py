"""A whole training of a LoRA adapter: its files, stopped and resumed to the same bytes, and loaded into its base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import adapters
import numpy as np
import pytest
import training_cases
from backends import Backend
from checkpoints import draw, save
from safetensors.numpy import load_file
from training_standin import stopped_at

from roberta import RobertaConfig, Training
from roberta.common.formats import safetensors_file
from roberta.common.training.recipes import Recipe

RECIPE = Recipe(2e-3, 4, updates=5, warmup=2, clip_norm=1.0, dropout=0.1)
# averages of A, B and the head; their rates by layer
AVERAGED = replace(RECIPE, ema_decay=0.6, layer_decay=0.8, label_smoothing=0.1)
ONE_SHAPE = {"max_length": 16, "validation": None}  # all rows are in one bucket: XLA compiles one program
QUERY = "roberta.encoder.layer.1.attention.self.query"
FILES = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "metrics.jsonl",
    "checkpoints/step-000005/optimizer.safetensors",
)

TRAINED = "checkpoints/step-000005/trained.safetensors"


def with_base(folder: Path) -> dict[str, Any]:
    """Arguments of a training on a base that is an encoder alone, so that the head is new."""
    arguments = training_cases.make(folder, "text-classification") | ONE_SHAPE
    config = RobertaConfig.from_pretrained(arguments["model"])
    save(arguments["model"], config, draw(config, "Model", has_pooler=False))
    return arguments | {"lora": "r=2,alpha=6,targets=query+output.dense", "dtype": "float64", "seed": 7}


@pytest.mark.parametrize("recipe", [RECIPE, pytest.param(AVERAGED, marks=pytest.mark.slow)], ids=["plain", "averaged"])
def test_an_adapter_that_was_stopped_ends_with_the_same_bytes_and_is_merged_into_its_base(
    backend: Backend, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = with_base(tmp_path) | {"framework": backend.name, "recipe": recipe, "micro_batch_size": 2}
    if recipe is AVERAGED:
        arguments |= {"class_weights": {"no": 1, "yes": 3}, "gradient_checkpointing": True}
    files = (*FILES, TRAINED) if recipe is AVERAGED else FILES
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    Training(**arguments, output=whole).run()
    stopped_at(3, Training(**arguments, output=stopped), monkeypatch)
    Training(**arguments, output=stopped, resume=True).run()
    assert {name: (stopped / name).read_bytes() for name in files} == {
        name: (whole / name).read_bytes() for name in files
    }
    assert (whole / TRAINED).exists() == (recipe is AVERAGED)
    # only A, B and the head are trained, and only they have a state
    base, tensors = load_file(tmp_path / "model" / "model.safetensors"), load_file(whole / "adapter_model.safetensors")
    assert all("lora_" in name or ".classifier." in name for name in tensors)
    assert not list(whole.rglob("model.safetensors"))
    moments = safetensors_file.read_safetensors(whole / FILES[-1])
    assert {name.removeprefix("exp_avg.") for name in moments if name.startswith("exp_avg.")} == {
        name.removeprefix(adapters.PREFIX) for name in tensors
    }
    assert not any((value == 0).all() for name, value in tensors.items() if "lora_B" in name)
    # the folder is a model: the base's weights with B A in them, alpha / r times
    model = backend.load("ForSequenceClassification", whole)
    names = {f"{QUERY}.weight", f"{QUERY}.bias", "classifier.dense.weight"}
    found = model.read_weights(names)
    bare = QUERY.removeprefix("roberta.")
    wanted = base[f"{bare}.weight"] + adapters.change(tensors, QUERY, 3.0)
    np.testing.assert_allclose(found[f"{QUERY}.weight"], wanted, rtol=0, atol=1e-12)
    assert np.array_equal(found[f"{QUERY}.bias"], base[f"{bare}.bias"])
    assert np.array_equal(found["classifier.dense.weight"], tensors[f"{adapters.PREFIX}classifier.dense.weight"])


def test_another_adapter_does_not_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    arguments = with_base(tmp_path) | {"framework": "pt", "recipe": RECIPE}
    stopped_at(1, Training(**arguments, output=tmp_path / "out"), monkeypatch)
    for lora, line in (
        ("r=3,alpha=6,targets=query+output.dense", "lora.r: 2 then, 3 now"),
        (None, "lora.r: 2 then, not"),
    ):
        with pytest.raises(ValueError, match=line):
            Training(**arguments | {"lora": lora}, output=tmp_path / "out", resume=True).run()


@pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT's own: a model has no name on the hub
def test_peft_loads_the_result_of_a_training(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed; it is not a dependency")
    import torch

    from roberta import RobertaForSequenceClassification

    arguments = with_base(tmp_path) | {"framework": "pt", "recipe": RECIPE}
    Training(**arguments, output=tmp_path / "out").run()
    ids = torch.arange(4, 24).reshape(2, 10)
    with torch.no_grad():
        merged = RobertaForSequenceClassification.from_pretrained(tmp_path / "out", dtype="float64")(ids).logits
        base = RobertaForSequenceClassification.from_pretrained(tmp_path / "model", dtype="float64", num_labels=2)
        wrapped = peft.PeftModel.from_pretrained(base, tmp_path / "out").double().eval()(input_ids=ids).logits
    np.testing.assert_allclose(merged.numpy(), wrapped.numpy(), rtol=0, atol=1e-10)
