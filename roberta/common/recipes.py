"""How weights are updated: optimizer, schedule and batch, as RoBERTa was trained, in one table."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """The optimization of one training: AdamW with decoupled decay, warm-up, and polynomial decay of its rate.

    Attributes:
        learning_rate: the largest, at the end of the warm-up.
        batch_size: sequences of one update.
        updates: of the weights, in all; None for as many as `epochs` has.
        epochs: passes over the data, where `updates` is None.
        warmup: updates from a rate of 0 to the largest; below 1 a share of all updates.
        power: of the decay; 1 is a straight line.
        end_learning_rate: at the last update.
        beta1, beta2, epsilon: of Adam; epsilon is added to the root of the corrected second moment.
        weight_decay: times the learning rate, taken off the weights.
        decays_all: whether norms and biases decay too.
        clip_norm: the largest norm of all gradients together; 0 for any.
        dropout: of hidden states and attention; None for what the model's config says.
        source: where the numbers are from.
    """

    learning_rate: float
    batch_size: int
    updates: int | None = None
    epochs: float | None = None
    warmup: float = 0.06
    power: float = 1.0
    end_learning_rate: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-6
    weight_decay: float = 0.1
    decays_all: bool = True
    clip_norm: float = 0.0
    dropout: float | None = None
    source: str = ""


def learning_rate(number: int, recipe: Recipe, updates: int) -> float:
    """The rate of update `number`, which counts from 1, of `updates` in all.

    Source: fairseq's polynomial decay, CONTRACT 7.3: its first update has learning_rate / warmup.
    """
    warmup = recipe.warmup * updates if recipe.warmup < 1 else recipe.warmup
    if number <= warmup:
        return recipe.learning_rate * number / max(warmup, 1)
    if number >= updates:
        return recipe.end_learning_rate
    left = math.pow(1 - (number - warmup) / (updates - warmup), recipe.power)
    return (recipe.learning_rate - recipe.end_learning_rate) * left + recipe.end_learning_rate
