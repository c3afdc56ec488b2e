"""An adapter that is trained from the same A and B has the same losses in the three frameworks, and in PEFT."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import updates
from backends import Backend, backend

from roberta.common.parameters import parameters
from roberta.common.training.data.tasks import HEADS
from roberta.common.training.lora import LoraOptions, LoraStart, new_adapter
from roberta.common.training.recipes import Recipe

RECIPE = replace(updates.RECIPE, decays_all=False, clip_norm=1.0, learning_rate=5e-3)
UPDATES, BATCHES = 15, 3
CASES = ("classes", "mlm", "choices")


def start(case: str) -> LoraStart:
    """An adapter of which B is not zero either."""
    head = HEADS[updates.CASES[case][0]]
    made = new_adapter(
        LoraOptions(2, 6.0, ("query", "output.dense")), parameters(updates.config_of(case), head), 3, "base"
    )
    rng = np.random.default_rng(4)
    return replace(made, pairs={name: (a, rng.normal(0.0, 0.3, b.shape)) for name, (a, b) in made.pairs.items()})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapters")


@functools.cache
def folder(case: str, root: Path) -> Path:
    return updates.folder_of(root, case)


@functools.cache
def losses(framework: Backend, case: str, root: Path, recipe: Recipe = RECIPE, size: int | None = 3) -> list[float]:
    config = updates.config_of(case)
    batches = [updates.micro_batches(case, updates.inputs(case, config, 6, seed), size) for seed in range(BATCHES)]
    trainer = updates.trainer(framework, case, folder(case, root), recipe, lora=start(case))
    return [
        trainer.update(batches[number % BATCHES], recipe.learning_rate / number, number)
        for number in range(1, UPDATES + 1)
    ]


@pytest.mark.parametrize("name", ["tf", "flax"])
@pytest.mark.parametrize("case", CASES)
def test_the_losses_of_an_adapter_are_those_of_pytorch(case: str, name: str, root: Path) -> None:
    other = backend(name)
    wanted = losses(backend("pt"), case, root)
    assert sum(wanted[-BATCHES:]) < 0.98 * sum(wanted[:BATCHES]), "what does not learn shows no difference"
    assert losses(other, case, root) == pytest.approx(wanted, rel=1e-8)


# PEFT's own warnings: a model has no name on the hub
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", ["classes", "mlm"])
def test_the_losses_of_an_adapter_are_those_of_peft(case: str, root: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed; it is not a dependency")
    pytorch = backend("pt")
    import torch

    recipe = replace(RECIPE, decays_all=True, clip_norm=0.0)
    begun, config = start(case), updates.config_of(case)
    model = pytorch.load(HEADS[updates.CASES[case][0]], folder(case, root))
    saved = list(begun.config.modules_to_save) or None
    lora = peft.LoraConfig(
        r=2, lora_alpha=6, target_modules=["query", "output.dense"], lora_dropout=0.0, modules_to_save=saved
    )
    wrapped = peft.get_peft_model(model, lora).double().train()
    names = dict(wrapped.named_parameters())
    with torch.no_grad():
        for name, pair in begun.pairs.items():
            for part, value in zip("AB", pair, strict=True):
                module = f"base_model.model.{name.removesuffix('.weight')}.lora_{part}.default.weight"
                names[module].copy_(torch.from_numpy(value))
    optimizer = torch.optim.AdamW(
        [parameter for parameter in wrapped.parameters() if parameter.requires_grad],
        betas=(recipe.beta1, recipe.beta2), eps=recipe.epsilon, weight_decay=recipe.weight_decay,
    )  # fmt: skip
    found = []
    for number in range(1, UPDATES + 1):
        arrays = updates.inputs(case, config, 6, number % BATCHES)
        optimizer.param_groups[0]["lr"] = recipe.learning_rate / number
        loss = wrapped(**{name: torch.from_numpy(array) for name, array in arrays.items()}).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(float(loss))
    assert losses(pytorch, case, root, recipe, None) == pytest.approx(found, rel=1e-8)
