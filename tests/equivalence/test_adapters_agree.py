"""What PEFT computes with an adapter, each framework computes from the same file, and the other way round."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import Arrays, Backend, assert_close, backend

peft = pytest.importorskip("peft", reason="peft is not installed; it is not a dependency")
torch = pytest.importorskip("torch", reason="torch is not installed")

HEAD = "ForSequenceClassification"
CONFIG = checkpoints.small_config(HEAD)
INPUTS = checkpoints.batch(HEAD, CONFIG)
# Name -> the arguments of PEFT's `LoraConfig`.
CASES: dict[str, dict[str, Any]] = {
    "list": {"target_modules": ["query", "value"]},
    "regular expression": {"target_modules": r".*layer\.1\..*(key|dense)", "lora_alpha": 5},
    "all-linear": {"target_modules": "all-linear", "task_type": "SEQ_CLS", "use_rslora": True},
    "patterns": {
        "target_modules": ["query", "intermediate.dense"], "rank_pattern": {"query": 3},
        "alpha_pattern": {r"layer\.0\..*query": 7},
    },
    "one layer": {"target_modules": ["query", "output.dense"], "layers_to_transform": [1]},
    "biases": {"target_modules": ["query"], "bias": "all"},
    "biases of targets": {"target_modules": ["query", "key"], "bias": "lora_only"},
    "bias of B": {"target_modules": ["query", "key"], "lora_bias": True},
    "embeddings": {"target_modules": ["word_embeddings", "position_embeddings", "value"]},
    "dora": {"target_modules": ["query", "output.dense", "word_embeddings"], "use_dora": True},
    "head": {"target_modules": ["query"], "modules_to_save": ["classifier"]},
    "fan in": {"target_modules": ["query", "intermediate.dense"], "fan_in_fan_out": True},
}  # fmt: skip

# PEFT warns of fan_in_fan_out, and of embeddings that it saves
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkpoints.make(tmp_path_factory.mktemp("peft") / "base", HEAD)
    return tmp_path_factory.getbasetemp() / "peft0"


@functools.cache
def made(case: str, root: Path) -> tuple[Path, Arrays]:
    """The folder that PEFT has saved, and what its model computes."""
    torch.manual_seed(1)
    model = backend("pt").load(HEAD, root / "base")
    tuned = peft.get_peft_model(model, peft.LoraConfig(r=2, init_lora_weights=False, **CASES[case])).double().eval()
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" not in name and parameter.requires_grad:  # heads and biases, as if they had been trained
                parameter.add_(torch.randn_like(parameter) * 0.3)
            if "magnitude" in name:
                parameter.mul_(1 + 0.3 * torch.rand_like(parameter))
    folder = root / case.replace(" ", "-")
    tuned.save_pretrained(folder)
    return folder, backend("pt").run(tuned, INPUTS)


@pytest.mark.parametrize("case", CASES)
def test_what_peft_saved_is_merged(case: str, backend: Backend, root: Path) -> None:
    folder, wanted = made(case, root)
    found = backend.run(backend.load(HEAD, root / "base", adapter=folder), INPUTS)
    assert_close(found["logits"], wanted["logits"], what=case)
    alone = backend.run(backend.load(HEAD, folder), INPUTS)
    assert np.array_equal(alone["logits"], found["logits"])


@pytest.mark.parametrize("case", CASES)
def test_what_was_loaded_and_saved_again_is_peft_s(case: str, backend: Backend, root: Path, tmp_path: Path) -> None:
    folder, wanted = made(case, root)
    model = backend.load(HEAD, root / "base")
    model.load_adapter(folder)
    assert_close(backend.run(model, INPUTS)["logits"], wanted["logits"], what=case)
    model.save_adapter(tmp_path)
    again = peft.PeftModel.from_pretrained(pytorch().load(HEAD, root / "base"), tmp_path).double().eval()
    assert_close(pytorch().run(again, INPUTS)["logits"], wanted["logits"], what=case)


def pytorch() -> Backend:
    return backend("pt")
