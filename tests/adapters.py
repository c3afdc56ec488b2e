"""LoRA adapters for tests, written by hand in PEFT's layout, and what they do to weights, computed by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

PREFIX = "base_model.model."
QUERY = "roberta.encoder.layer.0.attention.self.query"
DENSE = "roberta.encoder.layer.1.output.dense"
WORDS = "roberta.embeddings.word_embeddings"
OUT_PROJ = "classifier.out_proj"


def write(folder: Path, tensors: Mapping[str, np.ndarray], **config: Any) -> Path:
    """An adapter's two files; `config` beside what PEFT always writes. The targets are the modules that have tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), folder / "adapter_model.safetensors")
    targets = sorted({name.removeprefix(PREFIX).split(".lora_")[0] for name in tensors if ".lora_" in name})
    content = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": targets, **config}
    (folder / "adapter_config.json").write_text(json.dumps(content))
    return folder


def draw(shapes: Mapping[str, tuple[int, ...]], seed: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {f"{PREFIX}{name}": rng.normal(0.0, 0.3, shape) for name, shape in shapes.items()}


def pair(module: str, outputs: int, inputs: int, r: int = 2) -> dict[str, tuple[int, ...]]:
    return {f"{module}.lora_A.weight": (r, inputs), f"{module}.lora_B.weight": (outputs, r)}


def head(outputs: int, seed: int = 6) -> dict[str, np.ndarray]:
    """The head of a sequence classification, as `modules_to_save=["classifier"]` brings it."""
    shapes = {
        "dense.weight": (24, 24),
        "dense.bias": (24,),
        "out_proj.weight": (outputs, 24),
        "out_proj.bias": (outputs,),
    }
    return draw({f"classifier.{name}": shape for name, shape in shapes.items()}, seed)


def two_layers() -> dict[str, np.ndarray]:
    """Changes of a square and of another projection of `checkpoints.small_config`."""
    return draw({**pair(QUERY, 24, 24), **pair(DENSE, 24, 40)})


def change(tensors: Mapping[str, np.ndarray], module: str, scale: float) -> np.ndarray:
    """scale * B A."""
    a, b = (tensors[f"{PREFIX}{module}.lora_{part}.weight"] for part in "AB")
    return scale * (b @ a)
