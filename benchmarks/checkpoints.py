"""Random checkpoints of the published sizes, written one tensor at a time, without a framework.

    python -m benchmarks.checkpoints base|large HEAD FOLDER

Weights are those of a new model: N(0, 0.02), norms 1, biases and token types 0. Under reduced precision they behave like
trained weights. A model with larger random weights does not: it is chaotic, and even fp32 engines differ by 0.5.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np

from roberta import RobertaConfig
from roberta.common.checkpoint.checkpoint import save_checkpoint
from roberta.common.parameters import Head, Parameter, parameters

SIZES = {"base": RobertaConfig.base, "large": RobertaConfig.large}


def make(folder: Path, size: str, head: Head) -> None:
    """Write a checkpoint of "base" or "large" size in float32, the same bytes every time."""
    config = SIZES[size](architectures=[f"Roberta{head}"])
    table = parameters(config, head).values()
    tensors = {p.name: (p.shape, "float32", partial(draw, p, number)) for number, p in enumerate(table)}
    save_checkpoint(folder, {"config.json": config.to_json_string()}, tensors)


def draw(parameter: Parameter, seed: int) -> np.ndarray:
    """The values of one parameter."""
    if parameter.kind in ("dense", "embedding") and "token_type" not in parameter.name:
        return np.random.default_rng(seed).standard_normal(parameter.shape, np.float32) * np.float32(0.02)
    return np.full(parameter.shape, parameter.kind == "norm", np.float32)


if __name__ == "__main__":
    make(Path(sys.argv[3]), sys.argv[1], sys.argv[2])  # type: ignore[arg-type]
