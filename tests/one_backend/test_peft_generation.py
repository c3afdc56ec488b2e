"""`generate` of a model wrapped by peft equals a loop over the wrapped model's own call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from checkpoints import small_config

peft = pytest.importorskip("peft", reason="peft is not installed; it is not a dependency")

# peft's own warnings: soft prompts take no position_ids, and a model has no name on the hub
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

KINDS: dict[str, dict[str, Any]] = {
    "LoraConfig": {"target_modules": ["query", "value"], "init_lora_weights": False},
    "PrefixTuningConfig": {"num_virtual_tokens": 4},
    "PromptTuningConfig": {"num_virtual_tokens": 4},
}


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_wrapped_model_generates_what_its_own_call_says(kind: str, use_cache: bool) -> None:
    import torch

    from roberta import RobertaForCausalLM

    torch.manual_seed(0)
    model = RobertaForCausalLM(small_config("ForCausalLM", initializer_range=1.0)).double().eval()
    settings = {"max_new_tokens": 5, "eos_token_id": None, "use_cache": use_cache}
    ids = torch.from_numpy(np.random.default_rng(0).integers(3, 61, (2, 6)))
    plain = model.generate(ids, **settings)
    wrapped = peft.get_peft_model(model, getattr(peft, kind)(task_type="CAUSAL_LM", **KINDS[kind])).double().eval()
    row = ids
    with torch.no_grad():
        for _ in range(5):
            logits = wrapped(input_ids=row, attention_mask=torch.ones_like(row)).logits
            row = torch.cat((row, logits[:, -1].argmax(dim=-1, keepdim=True)), dim=1)
    found = wrapped.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings)
    assert found.tolist() == row.tolist()
    assert found.tolist() != plain.tolist()
