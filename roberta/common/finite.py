"""Finding values that are nan or infinite, at next to no cost, and naming them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_CHUNK = 1 << 16  # values that are looked at together, and stay in the cache
_EXPONENT = {"float16": 0x7C00, "bfloat16": 0x7F80}  # all ones in what is not finite
_SHOWN = 5  # tensors that are named


def not_finite(array: np.ndarray) -> str | None:
    """A count of the values that are not finite, such as "nan in 3 of 12 values"; None where all are finite."""
    flat = array.ravel(order="K")  # without copying a transposed matrix
    if all(_is_finite(flat[at : at + _CHUNK]) for at in range(0, flat.size, _CHUNK)):
        return None
    wide = flat.astype(np.float64)
    kinds = {"nan": int(np.isnan(wide).sum()), "infinity": int(np.isinf(wide).sum())}
    return ", ".join(f"{kind} in {count} of {flat.size} values" for kind, count in kinds.items() if count)


def listed(found: Mapping[str, str]) -> str:
    """Tensors on a line, such as "lm_head.bias (nan in 1 of 99 values)"."""
    named = [f"{name} ({what})" for name, what in list(found.items())[:_SHOWN]]
    return ", ".join(named) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")


def are_finite(array: np.ndarray) -> bool:
    """Whether all values of an array are finite numbers."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum()) or np.isfinite(array).all())


def _is_finite(part: np.ndarray) -> bool:
    """Whether all values of a part are finite; each is tested only where their sum is not finite."""
    mask = _EXPONENT.get(part.dtype.name)
    if mask is not None:
        return bool(((part.view(np.uint16) & mask) != mask).all())
    if part.dtype.kind != "f":
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        total = part.sum()
    return bool(np.isfinite(total) or np.isfinite(part).all())
