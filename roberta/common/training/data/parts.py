"""A process's own rows of a micro-batch, and how much of the micro-batch's loss they are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from roberta.common.training.data.tasks import Task
from roberta.common.values import IGNORED


def targets(inputs: Mapping[str, np.ndarray], task: Task) -> int:
    """How many targets the loss of a micro-batch is the mean of: labels that are not -100, or rows."""
    if task == "clm":  # nothing predicts the first token of a row
        return int((inputs["labels"][:, 1:] != IGNORED).sum())
    if task in ("mlm", "token-classification"):
        return int((inputs["labels"] != IGNORED).sum())
    return len(inputs["attention_mask"])


def part(inputs: Mapping[str, np.ndarray], task: Task, rank: int, world: int) -> tuple[dict[str, np.ndarray], float]:
    """Every `world`-th row, from row `rank` on, and its share of the targets; the shares of all ranks add up to 1.

    A rank without a target takes part all the same, as the others wait for its gradients: it is given a share of 0,
    and one row with targets that are valid and mean nothing.

    Returns:
        inputs as `Collated` has them, and the share.
    """
    if world == 1:
        return dict(inputs), 1.0
    whole = targets(inputs, task)
    own = _rows(inputs, rank, world)
    count = targets(own, task)
    if count:
        return own, count / whole
    own = _rows(inputs, 0, len(inputs["attention_mask"]))
    if "positions" in own:
        own |= {"positions": np.zeros(1, np.int64), "labels": np.zeros(1, np.int64)}
    elif task in ("clm", "token-classification"):
        own["labels"] = np.zeros_like(own["labels"])
    return own, 0.0


def _rows(inputs: Mapping[str, np.ndarray], rank: int, world: int) -> dict[str, np.ndarray]:
    """The rows rank, rank + world, ...; places of masked tokens are counted in these rows."""
    if "positions" not in inputs:
        return {name: array[rank::world] for name, array in inputs.items()}
    row, column = np.divmod(inputs["positions"], inputs["attention_mask"].shape[-1])
    kept = (row % world == rank) & (inputs["labels"] != IGNORED)
    own = {name: array[rank::world] for name, array in inputs.items() if name not in ("positions", "labels")}
    places = row[kept] // world * inputs["attention_mask"].shape[-1] + column[kept]
    return {**own, "positions": places, "labels": inputs["labels"][kept]}
