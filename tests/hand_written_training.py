"""A training loop as one would write it by hand in PyTorch, whose options ours are compared with: torch's own parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from backends import Arrays, backend

from roberta.common.training.data.tasks import HEADS
from roberta.common.training.recipes import Recipe

# Part of a name -> how many times the decay of layers is taken, in a model of two layers.
DEPTHS = ((".embeddings.", 3), (".layer.0.", 2), (".layer.1.", 1), ("classifier", 0))


@dataclass
class HandWritten:
    """What a training by hand gives: the loss of each update, and the weights after it."""

    losses: list[float] = field(default_factory=list)
    weights: list[Arrays] = field(default_factory=list)
    averages: list[Arrays] = field(default_factory=list)


def trained_by_hand(
    folder: Any, updates: Sequence[Mapping[str, np.ndarray]], rates: Sequence[float], recipe: Recipe, options: Any
) -> HandWritten:
    """Train a token classifier in float64 on whole batches.

    Args:
        options: what `Settings` would be given.
    """
    import torch

    model = backend("pt").load(HEADS["token-classification"], folder).train()
    weights = options.get("class_weights")
    loss_of = torch.nn.CrossEntropyLoss(
        None if weights is None else torch.tensor(weights, dtype=torch.float64), label_smoothing=recipe.label_smoothing
    )
    frozen = options.get("frozen", ())
    groups = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
        groups.append(
            {"params": [parameter], "scale": recipe.layer_decay ** next(n for part, n in DEPTHS if part in name)}
        )
    optimizer = torch.optim.AdamW(
        groups, recipe.learning_rate, (recipe.beta1, recipe.beta2), recipe.epsilon, recipe.weight_decay
    )
    result = HandWritten()
    decay = recipe.ema_decay or 0.5
    average = (
        torch.optim.swa_utils.AveragedModel(  # torch's own, but for the weights at the start (optax.ema debiases too)
            model, avg_fn=lambda old, new, count: old + (1 - decay) / (1 - decay ** (float(count) + 1)) * (new - old)
        )
    )
    for arrays, rate in zip(updates, rates, strict=True):
        given = {name: torch.from_numpy(array) for name, array in arrays.items()}
        labels = given.pop("labels")
        optimizer.zero_grad()
        loss = loss_of(model(**given).logits.flatten(0, 1), labels.flatten())
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        optimizer.step()
        average.update_parameters(model)
        result.averages.append({name: np.array(one.detach()) for name, one in average.module.named_parameters()})
        result.losses.append(loss.item())
        result.weights.append({name: np.array(value.detach()) for name, value in model.named_parameters()})
    return result
