"""Rows as rectangles, logits as probabilities, and the best of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from roberta.common.config import RobertaConfig
from roberta.common.pipelines.inputs import shown


def rectangle(
    rows: Sequence[Sequence[int] | np.ndarray], fill: int, *, left: bool = False, width: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask of rows, int64, (rows, `width` or the longest), padded with `fill` on the right or on the left."""
    sizes = np.array([len(row) for row in rows])
    longest = int(sizes.max(initial=0)) if width is None else width
    places = np.arange(longest)
    mask = places >= longest - sizes[:, None] if left else places < sizes[:, None]
    ids = np.full(mask.shape, fill, np.int64)
    ids[mask] = np.concatenate([np.asarray(row, np.int64) for row in rows])
    return ids, mask.astype(np.int64)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis, in the dtype of the logits."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: np.ndarray = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def top(scores: np.ndarray, count: int) -> np.ndarray:
    """The places of the highest scores of each row, best first, (rows, count)."""
    best = np.argpartition(scores, -count, axis=-1)[:, -count:]
    order = np.argsort(-np.take_along_axis(scores, best, axis=-1), axis=-1, kind="stable")
    return np.take_along_axis(best, order, axis=-1)


def labels_of_outputs(config: RobertaConfig, outputs: int) -> list[str]:
    """The labels in the order of the model's outputs.

    Raises:
        ValueError: the config does not have one label for each output.
    """
    if sorted(config.id2label) != list(range(outputs)):
        raise ValueError(
            f"the model gives {outputs} scores, but config.id2label names {shown(dict(config.id2label))}; "
            f"id2label needs one label for each of 0 to {outputs - 1}"
        )
    return [config.id2label[index] for index in range(outputs)]
