"""The minimum for a first answer: import the framework, map the file, hand over the tensors, run one forward pass.

    python benchmarks/bare.py pt|tf|flax FOLDER

`benchmarks.first_answer` starts this script, which imports nothing from the project. It computes the encoder of
roberta-base size for one row without padding, written with the framework's own functions.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

IDS = np.arange(5, 21).reshape(1, 16)
HEADS, EPS = 12, 1e-5

Weights = Mapping[str, Any]


def layer(hidden: Any, weights: Weights, ops: Any) -> Any:
    """(tokens, hidden) -> (tokens, hidden)."""
    parts = [ops.dense(hidden, weights, f"attention.self.{name}") for name in ("query", "key", "value")]
    context = ops.attend(*parts)
    hidden = ops.norm(
        ops.dense(context, weights, "attention.output.dense") + hidden, weights, "attention.output.LayerNorm"
    )
    wide = ops.gelu(ops.dense(hidden, weights, "intermediate.dense"))
    return ops.norm(ops.dense(wide, weights, "output.dense") + hidden, weights, "output.LayerNorm")


def answer(weights: Weights, layers: int, ops: Any, run: Callable[..., Any]) -> Any:
    """Last hidden states of `IDS`: (tokens, hidden)."""
    ids = IDS[0]
    hidden = (
        ops.rows(weights["embeddings.word_embeddings.weight"], ids)
        + ops.rows(weights["embeddings.token_type_embeddings.weight"], np.zeros_like(ids))
        + ops.rows(weights["embeddings.position_embeddings.weight"], np.arange(2, 2 + len(ids)))
    )
    hidden = ops.norm(hidden, weights, "embeddings.LayerNorm")
    for index in range(layers):
        prefix = f"encoder.layer.{index}."
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        hidden = run(hidden, own)
    return hidden


def pytorch(folder: Path, layers: int) -> np.ndarray:
    """Answer in PyTorch; the tensors stay on the map."""
    import torch
    import torch.nn.functional as F
    from safetensors.torch import load_file

    class Ops:
        rows = staticmethod(lambda table, ids: F.embedding(torch.from_numpy(ids), table))
        gelu = staticmethod(F.gelu)
        dense = staticmethod(lambda x, w, name: F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"]))
        norm = staticmethod(
            lambda x, w, name: F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], EPS)
        )

        @staticmethod
        def attend(*parts: Any) -> Any:
            split = (part.view(len(part), HEADS, -1).transpose(0, 1).unsqueeze(0) for part in parts)
            return F.scaled_dot_product_attention(*split)[0].transpose(0, 1).flatten(1)

    with torch.inference_mode():
        weights = load_file(folder / "model.safetensors")
        return answer(weights, layers, Ops, lambda hidden, own: layer(hidden, own, Ops)).numpy()


def mapped(folder: Path, make: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    """Read the tensors of the file, and convert each with `make`."""
    with safe_open(folder / "model.safetensors", "np") as file:
        return {name: make(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 (not a mapping)


def tensorflow(folder: Path, layers: int) -> np.ndarray:
    """Answer in TensorFlow, eagerly."""
    import tensorflow as tf

    class Ops:
        rows = staticmethod(tf.gather)
        gelu = staticmethod(lambda x: tf.nn.gelu(x, approximate=False))
        dense = staticmethod(lambda x, w, name: tf.matmul(x, w[f"{name}.weight"], transpose_b=True) + w[f"{name}.bias"])

        @staticmethod
        def norm(x: Any, w: Weights, name: str) -> Any:
            mean, variance = tf.nn.moments(x, -1, keepdims=True)
            return tf.nn.batch_normalization(x, mean, variance, w[f"{name}.bias"], w[f"{name}.weight"], EPS)

        @staticmethod
        def attend(*parts: Any) -> Any:
            split = (tf.transpose(tf.reshape(part, (part.shape[0], HEADS, -1)), (1, 0, 2)) for part in parts)
            query, key, value = split
            scores = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) / query.shape[-1] ** 0.5)
            return tf.reshape(tf.transpose(tf.matmul(scores, value), (1, 0, 2)), parts[0].shape)

    weights = mapped(folder, tf.constant)
    return answer(weights, layers, Ops, lambda hidden, own: layer(hidden, own, Ops)).numpy()


def flax(folder: Path, layers: int) -> np.ndarray:
    """Answer in JAX, with one layer compiled."""
    import jax
    import jax.numpy as jnp

    class Ops:
        rows = staticmethod(lambda table, ids: table[ids])
        gelu = staticmethod(lambda x: jax.nn.gelu(x, approximate=False))
        dense = staticmethod(lambda x, w, name: x @ w[f"{name}.weight"].T + w[f"{name}.bias"])

        @staticmethod
        def norm(x: Any, w: Weights, name: str) -> Any:
            return jax.nn.standardize(x, epsilon=EPS) * w[f"{name}.weight"] + w[f"{name}.bias"]

        @staticmethod
        def attend(*parts: Any) -> Any:
            query, key, value = (part.reshape(1, len(part), HEADS, -1) for part in parts)
            return jax.nn.dot_product_attention(query, key, value).reshape(parts[0].shape)

    weights = mapped(folder, jnp.asarray)
    return np.asarray(answer(weights, layers, Ops, jax.jit(lambda hidden, own: layer(hidden, own, Ops))))


if __name__ == "__main__":
    run = {"pt": pytorch, "tf": tensorflow, "flax": flax}[sys.argv[1]]
    place = Path(sys.argv[2])
    result = run(place, json.loads((place / "config.json").read_text()).get("num_hidden_layers", 12))
    print(float(np.abs(result).sum()))
