"""Values that are nan or infinite: found while tensors are copied, at next to no cost, and named."""

from __future__ import annotations

import numpy as np

from roberta.common.finite import listed as listed
from roberta.common.finite import not_finite as not_finite
from roberta.common.formats.safetensors_file import StoredTensor


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


def of_tensors(tensors: dict[str, StoredTensor]) -> dict[str, str]:
    """The stored tensors that hold what is no number."""
    watch = Watch()
    for name, tensor in tensors.items():
        watch.look(name, tensor.load())
    return watch.found
