"""Checkpoints for tests, with large random values, so that a forgotten, swapped or transposed tensor shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from roberta import RobertaConfig
from roberta.common.checkpoint.checkpoint import save_checkpoint
from roberta.common.formats.safetensors_file import numpy_dtype
from roberta.common.parameters import Head, parameters

HEADS: tuple[Head, ...] = (
    "Model",
    "ForCausalLM",
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForMultipleChoice",
    "ForTokenClassification",
    "ForQuestionAnswering",
)


def small_config(head: Head = "Model", **overrides: Any) -> RobertaConfig:
    """A config in which no two sizes are equal."""
    values = {
        "vocab_size": 61,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 40,
        "max_position_embeddings": 30,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-5,
        "num_labels": 2 if head == "ForQuestionAnswering" else 5,
        "is_decoder": head == "ForCausalLM",
        "architectures": [f"Roberta{head}"],
        **overrides,
    }
    return RobertaConfig(**values)


def draw(config: RobertaConfig, head: Head, seed: int = 0, **options: Any) -> dict[str, np.ndarray]:
    """Tensors by canonical name, float64: norm weights from N(1, 0.3), all others from N(0, 0.3)."""
    rng = np.random.default_rng(seed)
    return {
        p.name: rng.normal(1.0 if p.kind == "norm" else 0.0, 0.3, p.shape)
        for p in parameters(config, head, **options).values()
    }


def save(
    folder: Path,
    config: RobertaConfig,
    tensors: dict[str, np.ndarray],
    dtype: str = "float64",
    **options: Any,
) -> Path:
    """Write a checkpoint without any framework."""
    sources = {
        name: (array.shape, dtype, lambda array=array: array.astype(numpy_dtype(dtype)))
        for name, array in tensors.items()
    }
    save_checkpoint(folder, {"config.json": config.to_json_string()}, sources, **options)
    return folder


def make(folder: Path, head: Head, seed: int = 0, dtype: str = "float64", **overrides: Any) -> Path:
    """A checkpoint of one head with large random values."""
    config = small_config(head, **overrides)
    return save(folder, config, draw(config, head, seed), dtype)


def batch(head: Head, config: RobertaConfig, seed: int = 1, padding: str = "right") -> dict[str, np.ndarray]:
    """A ragged batch for a head: ids, mask, token types."""
    rng = np.random.default_rng(seed)
    rows, seq = 3, 11
    ids = rng.integers(3, config.vocab_size, (rows, seq))
    lengths = np.array([[seq], [7], [4]])
    position = np.arange(seq)
    mask = position < lengths if padding == "right" else position >= seq - lengths
    ids = np.where(mask, ids, config.pad_token_id)
    types = rng.integers(0, config.type_vocab_size, (rows, seq))
    inputs = {"input_ids": ids, "attention_mask": mask.astype(np.int64), "token_type_ids": types}
    if head == "ForMultipleChoice":  # one example of three choices
        inputs = {name: value[None] for name, value in inputs.items()}
    return inputs


def labels(head: Head, config: RobertaConfig, inputs: dict[str, np.ndarray], seed: int = 2) -> dict[str, np.ndarray]:
    """Labels for `batch`; padding does not count in the loss."""
    rng = np.random.default_rng(seed)
    mask = inputs["attention_mask"]
    rows, seq = mask.shape[0], mask.shape[-1]
    match head:
        case "ForMaskedLM" | "ForCausalLM":
            return {"labels": np.where(mask > 0, rng.integers(0, config.vocab_size, mask.shape), -100)}
        case "ForTokenClassification":
            return {"labels": np.where(mask > 0, rng.integers(0, config.num_labels, mask.shape), -100)}
        case "ForSequenceClassification":
            return {"labels": rng.integers(0, config.num_labels, rows)}
        case "ForMultipleChoice":
            return {"labels": np.array([1])}
        case "ForQuestionAnswering":
            return {
                "start_positions": rng.integers(0, 3, rows),
                "end_positions": rng.integers(1, seq + 3, rows),
            }
    return {}
