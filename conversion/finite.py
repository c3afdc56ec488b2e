"""Values that are nan or infinite: found while tensors are copied, at next to no cost, and named."""

from __future__ import annotations

import numpy as np

from roberta.common.safetensors_file import StoredTensor

_CHUNK = 1 << 16  # values that are looked at together, and stay in the cache
_EXPONENT = {"float16": 0x7C00, "bfloat16": 0x7F80}  # all ones in what is not finite
SHOWN = 5  # tensors that are named


class Watch:
    """Tensors that were seen to hold values that are not finite, each by its name and what it holds."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def look(self, name: str, array: np.ndarray) -> None:
        """Look at one tensor."""
        what = not_finite(array)
        if what is not None:
            self.found[name] = what

    def notes(self) -> list[str]:
        """A note that names them; none where all is finite."""
        return [f"not finite, and copied so: {listed(self.found)}"] if self.found else []


def not_finite(array: np.ndarray) -> str | None:
    """What an array holds that is no number, such as "nan in 3 of 12 values"; None where all are finite."""
    flat = array.ravel(order="K")  # no copy of a matrix that is turned
    if all(_is_finite(flat[at : at + _CHUNK]) for at in range(0, flat.size, _CHUNK)):
        return None
    wide = flat.astype(np.float64)
    kinds = {"nan": int(np.isnan(wide).sum()), "infinity": int(np.isinf(wide).sum())}
    return ", ".join(f"{kind} in {count} of {flat.size} values" for kind, count in kinds.items() if count)


def listed(found: dict[str, str]) -> str:
    """Tensors on a line, such as "lm_head.bias (nan in 1 of 99 values)"."""
    named = [f"{name} ({what})" for name, what in list(found.items())[:SHOWN]]
    return ", ".join(named) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")


def of_tensors(tensors: dict[str, StoredTensor]) -> dict[str, str]:
    """The stored tensors that hold what is no number."""
    watch = Watch()
    for name, tensor in tensors.items():
        watch.look(name, tensor.load())
    return watch.found


def _is_finite(part: np.ndarray) -> bool:
    """Whether all values of a part are finite: their sum is, unless it overflows, when each is looked at."""
    mask = _EXPONENT.get(part.dtype.name)
    if mask is not None:
        return bool(((part.view(np.uint16) & mask) != mask).all())
    if part.dtype.kind != "f":
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        total = part.sum()
    return bool(np.isfinite(total) or np.isfinite(part).all())
