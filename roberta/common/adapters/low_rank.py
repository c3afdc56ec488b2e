"""Low-rank changes of weights: W + scale * left right, tensor by tensor, added in float64 and rounded once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from roberta.common.formats.safetensors_file import StoredTensor
from roberta.common.values import Floats

_BLOCK = 2**20  # values that are added at a time: an embedding in float64 would be twice the file


@dataclass(frozen=True)
class LowRank:
    """What an adapter does to one weight.

    Attributes:
        module: the name of the module, as its file has it.
        a, b: the file's two tensors: of a projection A (r, inputs) and B (outputs, r); of an embedding, whose roles
            are swapped, A (r, rows) and B (size, r).
        scale: what their product is multiplied by.
        is_embedding: whether the weight is an embedding's.
        magnitude: of DoRA, the lengths of the adapted weight's rows, (outputs,); of an embedding, of its columns, (size,).
    """

    module: str
    a: StoredTensor
    b: StoredTensor
    scale: float
    is_embedding: bool = False
    magnitude: StoredTensor | None = None

    @property
    def rank(self) -> int:
        """The number of rows of A."""
        return self.a.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the weight that it fits: (outputs, inputs), or (rows, size) of an embedding."""
        return (self.a.shape[1], self.b.shape[0]) if self.is_embedding else (self.b.shape[0], self.a.shape[1])

    def tensors(self) -> tuple[StoredTensor, ...]:
        """Its tensors."""
        return (self.a, self.b) if self.magnitude is None else (self.a, self.b, self.magnitude)

    def factors(self) -> tuple[Floats, Floats]:
        """left and right, in float64: their product has the weight's shape, and the scale in it."""
        a, b = (np.asarray(one.load(), np.float64) for one in (self.a, self.b))
        return (a.T, b.T * self.scale) if self.is_embedding else (b * self.scale, a)

    def added_to(self, weight: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """The adapted weight in `dtype`, of a weight that stays as it is."""
        left, right = self.factors()
        lengths = None if self.magnitude is None else np.asarray(self.magnitude.load(), np.float64).reshape(-1)
        if lengths is not None:
            wide = weight.astype(np.float64) + left @ right
            axis = 0 if self.is_embedding else 1
            wide *= np.expand_dims(lengths / np.sqrt(np.square(wide).sum(axis)), axis)
            return wide.astype(dtype)
        result = np.empty(weight.shape, dtype)
        rows = max(1, _BLOCK // weight.shape[1])
        for start in range(0, len(weight), rows):
            part = slice(start, start + rows)
            result[part] = weight[part].astype(np.float64) + left[part] @ right
        return result
