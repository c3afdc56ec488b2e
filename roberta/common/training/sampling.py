"""Part of the training data: the first examples only, or some of them held out to evaluate on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from roberta.common.training.data.fields import Example

AnyExample = TypeVar("AnyExample", bound=Example)
_SPLIT = 1  # beside the seed, so that no order of an epoch is the same


def divided(examples: Sequence[AnyExample], share: float, seed: int) -> tuple[list[AnyExample], list[AnyExample]]:
    """Examples to train on and to evaluate on, each in the order of the data; the seed alone decides which are which.

    Args:
        share: of the examples, to evaluate on; rounded to a whole number of them.

    Raises:
        ValueError: that would leave nothing to train or to evaluate on.
    """
    count = round(len(examples) * share)
    if not 0 < count < len(examples):
        what = "train" if count else "evaluate"
        raise ValueError(
            f"validation_split={share!r} of {len(examples)} examples leaves nothing to {what} on; give another share, or "
            "validation data of its own"
        )
    chosen = np.random.default_rng((seed, _SPLIT, len(examples))).permutation(len(examples))[:count]
    is_held_out = np.zeros(len(examples), bool)
    is_held_out[chosen] = True
    kept = [example for example, is_out in zip(examples, is_held_out, strict=True) if not is_out]
    return kept, [example for example, is_out in zip(examples, is_held_out, strict=True) if is_out]


def check_sampling(max_train_samples: int | None, validation_split: float | None, has_validation: bool) -> None:
    """Raise `ValueError` for a number of samples or a share out of range, or two kinds of validation data."""
    most = max_train_samples
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise ValueError(f"max_train_samples={most!r} must be an int of at least 1; omit it to train on all")
    share = validation_split
    if share is None:
        return
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise ValueError(f"validation_split={share!r} must be a share above 0 and below 1, such as 0.1")
    if has_validation:
        raise ValueError(
            f"validation_split={share!r} takes validation data from the training data; omit it or validation"
        )
