"""Whose names a file has that are not RoBERTa's, and what reads them: for the error of a checkpoint that does not fit."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from roberta.common.formats.safetensors_file import StoredTensor

_SHOWN = 4  # names of each side in an error

# A pattern in names -> whose they are, and the way out; the first that is found counts.
_RULES = (
    (r"\.?lora_[AB]\.|lora_embedding|modules_to_save|base_layer\.",
     "these look like an adapter's names (peft): merge it into its base, model.merge_and_unload(), and save that"),
    (r"sentence_encoder\.",
     "these look like fairseq's names: roberta convert FILE FOLDER --to safetensors reads them, from a model.pt as "
     "fairseq saved it, with its args or cfg"),
    (r"_flat_param|flat_param_\d",
     "these look like the flattened parts of FSDP: save with StateDictType.FULL_STATE_DICT, on rank 0"),
    (r"token_and_position_embedding|transformer_layer_\d+[./]_?self_attention",
     "these look like KerasHub's names: roberta convert FOLDER OTHER --to safetensors reads a preset's folder"),
    (r"(^|[./])vars[./]\d", "these look like the names of Keras 3 (.weights.h5): load them into the model with Keras' "
     "load_weights, then save_pretrained"),
    (r"_packed_params|qweight|\.SCB$|zero_point|weight_scale|quant_state",
     "these look like quantised weights: save the model before it is quantised"),
    (r"parametrizations\.", "these are parametrised weights: torch.nn.utils.parametrize.remove_parametrizations, then "
     "save again"),
    (r"exp_avg|(^|\.)(mu|nu)\.", "these look like the moments of an optimizer, not the weights of a model"),
    (r"^(distilbert\.)?transformer\.layer\.\d", "these look like DistilBERT's names, which is another architecture"),
    (r"rel_embeddings|query_proj\.", "these look like DeBERTa's names, which is another architecture"),
    (r"encoder\.block\.\d", "these look like T5's names, which is another architecture"),
    (r"(^|\.)h\.\d+\.(attn|mlp)\.", "these look like GPT-2's names, which is another architecture"),
    (r"layers\.\d+\.(self_attn|attn|mlp)\.", "these look like another architecture's names, with layers of its own"),
)  # fmt: skip


def misfit_lines(
    source: Path, stored: Mapping[str, StoredTensor], tensors: Collection[str], table: Collection[str]
) -> list[str]:
    """What to say before the list of all that is wrong, where less than half of the model is in a file.

    Args:
        stored: by the names in the file. tensors: by the names that these were read as.
        table: the names that were looked for.
    """
    if 2 * sum(0 in tensor.shape for tensor in stored.values()) > len(stored):
        return [
            "its tensors are empty, as in the files of DeepSpeed's ZeRO stage 3: zero_to_fp32.py, beside them, puts the "
            "parts together"
        ]
    found = sum(name in tensors for name in table)
    if not table or 2 * found >= len(table):
        return []
    rules = (text for pattern, text in _RULES if any(re.search(pattern, name) for name in stored))
    rule = next(rules, None)
    return [
        f"{found} of the {len(table)} names that were looked for are in the file",
        f"in the file: {_few(stored)}",
        f"looked for: {_few([name for name in table if name not in tensors])}",
        *([rule] if rule else []),
    ]


def _few(names: Collection[str]) -> str:
    shown = ", ".join(name[:80] for name in list(names)[:_SHOWN])
    return f"{shown}, and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
