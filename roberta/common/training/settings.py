"""What one training is told, beside its data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from roberta.common.training.data.tasks import Task
from roberta.common.training.recipes import Recipe


@dataclass(frozen=True)
class Settings:
    """One training, as far as a backend has to know it.

    Attributes:
        recipe: the optimization.
        updates: of the weights, in all.
        seed: of data order, masks and dropout, each by (seed, number of the update): nothing random is kept.
        dtype: "float32" or "float64" for all; "bfloat16" computes in it where that is safe and keeps weights,
            optimizer and loss in float32 (autocast in PyTorch, "mixed_bfloat16" in Keras, `dtype` in Flax).
        compile: in PyTorch, `torch.compile`; Keras and Flax compile always.
        sharding: over the processes or devices there are: "none" uses one, "data" gives each a part of every
            micro-batch, "full" splits weights and optimizer too (FSDP2 in PyTorch, a mesh in Flax).
    """

    task: Task
    recipe: Recipe
    updates: int
    seed: int = 0
    dtype: Literal["float32", "float64", "bfloat16"] = "float32"
    compile: bool = False
    sharding: Literal["none", "data", "full"] = "none"
