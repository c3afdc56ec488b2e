"""Small facts that all rooms share: types of arrays, ints, ids in range, other names, positions, and what is ignored."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = dict[str, np.ndarray]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]

IGNORED = -100  # a label that is not a target: neither loss nor metric counts it; PyTorch's and transformers' choice


def is_int(value: object, least: int | None = None) -> bool:
    """Whether a value is an int and not a bool, and at least `least` where that is given."""
    return isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least)


def is_number(value: object) -> bool:
    """Whether a value is an int or a float, and not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def another_name(path: str) -> Any:
    """A property that is another name of an attribute, such as "dtype", or of an attribute's, "config.num_labels"."""
    owner, _, name = path.rpartition(".")

    def holder(self: object) -> Any:
        return getattr(self, owner) if owner else self

    def assign(self: object, value: object) -> None:
        setattr(holder(self), name, value)

    return property(lambda self: getattr(holder(self), name), assign, doc=f"Another name of `{path}`.")


def positions_of(input_ids: Ints, pad_token_id: int) -> Ints:
    """As `position_ids` of the backends' layers: tokens are numbered from `pad_token_id + 1`, padding keeps its id."""
    is_token = (input_ids != pad_token_id).astype(np.int64)
    positions: Ints = is_token.cumsum(axis=1) * is_token + pad_token_id
    return positions


def check_ids(name: str, values: Ints, limit: int, way_out: str) -> None:
    """Raise `ValueError` unless all `values` are from 0 to `limit - 1`, as the models do."""
    if not values.size:
        return
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= limit:
        raise ValueError(f"{name} holds {low if low < 0 else high}, allowed are 0 to {limit - 1}; {way_out}")
