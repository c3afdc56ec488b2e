"""Keywords that scripts written for transformers pass: those without effect here, those refused, and unknown ones."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping
from typing import Any

_logger = logging.getLogger(__name__)

# Accepted and dropped: whatever their value, the result here is the same.
NO_EFFECT = frozenset({
    # weights are mapped and read one at a time
    "low_cpu_mem_usage", "_fast_init", "offload_folder", "offload_state_dict", "offload_buffers", "max_memory",
    "trust_remote_code", "code_revision", "weights_only",  # no code of a repository is run, and no pickle
    "resume_download", "proxies", "mirror",  # the hub's client resumes, and reads HTTPS_PROXY and HF_ENDPOINT
    "use_fast", "from_slow", "legacy", "verbose",  # the class says which tokenizer it is
    "adapter_kwargs", "adapter_name", "use_kernels",
    "_from_auto", "_from_pipeline", "_commit_hash",
})  # fmt: skip

# Arguments for saving weights: accepted and dropped where a config or a tokenizer is saved.
OF_WEIGHTS = frozenset({"safe_serialization", "max_shard_size", "variant"})

# Keywords that would change the result and are not supported, with what to do instead; None and False are accepted.
REFUSED = {
    "quantization_config": 'load the model as it is, and quantise it afterwards, or use infer(dtype="int8")',
    "load_in_8bit": 'load the model as it is and use infer(dtype="int8")',
    "load_in_4bit": 'load the model as it is and use infer(dtype="int8")',
    "gguf_file": "convert the file to safetensors with the tool that wrote it",
    "tp_plan": "load the model as it is; docs/training.md shows how a model is sharded",
    "tp_size": "load the model as it is; docs/training.md shows how a model is sharded",
    "device_mesh": "load the model as it is; docs/training.md shows how a model is sharded",
    "distributed_config": "load the model as it is; docs/training.md shows how a model is sharded",
    "use_flash_attention_2": 'omit it; attn_implementation="sdpa" takes the fastest kernel that PyTorch has',
    "key_mapping": "rename the tensors in the file, or give state_dict=",
}

# Fields of configs of transformers 4 and 5, and of programs around them, that RoBERTa's config does not have.
OF_OTHERS = frozenset({
    "_num_labels", "output_past", "gradient_checkpointing", "auto_map", "quantization_config", "adapters", "vocab_file",
    "xla_device", "is_cross_attention", "decoder", "encoder", "text_config", "vision_config", "rope_scaling",
    "rope_theta", "rope_parameters", "attention_dropout", "hidden_dropout", "classifier_bias", "classifier_activation",
    "classifier_pooling", "embedding_size", "hidden_activation", "norm_eps", "n_layers", "n_heads", "num_key_value_heads",
    "unk_token_id", "mask_token_id", "cls_token_id", "language", "score_function", "output_router_logits",
    "keys_to_ignore_at_inference", "sentence_transformers", "transformers_version", "transformers_weights",
    "transformers.js_config", "ignore_keys_at_rope_validation", "no_bias", "use_return_dict", "layer_types",
})  # fmt: skip


def meaningful(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments without those of `NO_EFFECT`; `use_auth_token` under its newer name, `token`.

    Raises:
        ValueError: one of `REFUSED` that asks for something; names it and what to do instead.
    """
    result = {name: value for name, value in arguments.items() if name not in NO_EFFECT}
    for name, way_out in REFUSED.items():
        value = result.pop(name, None)
        if value is not None and value is not False:
            raise ValueError(f"{name}={value!r} is not supported; {way_out}")
    if result.get("device_map") in (None, "auto", "cpu"):
        result.pop("device_map", None)  # PyTorch's class takes others; TensorFlow and JAX place what they make
    old_token = result.pop("use_auth_token", None)
    if old_token is not None and result.get("token") is None:
        result["token"] = old_token
    return result


def suggestion(name: str, known: Iterable[str]) -> str:
    """` (did you mean "x"?)` for the nearest of `known`, or nothing."""
    nearest = difflib.get_close_matches(name, list(known), n=1)
    return f' (did you mean "{nearest[0]}"?)' if nearest else ""


def warn_of_unknown(
    owner: str, names: Iterable[str], known: Iterable[str], consequence: str = "it is kept as it is"
) -> None:
    """Log a warning for each keyword that neither transformers nor this library knows, and what becomes of it."""
    known = list(known)
    for name in names:
        _logger.warning("%s does not know %r%s; %s", owner, name, suggestion(name, known), consequence)
