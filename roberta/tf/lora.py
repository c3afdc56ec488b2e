"""The trained weights of a LoRA adapter in TensorFlow, beside the model whose weights they change."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from roberta.common.training.lora import LoraStart, factor_names
from roberta.tf.weights import canonical_array, keras, native


class LoraWeights:
    """A and B of every target and the model's own head: all that is trained.

    The model's weights are W + scale * B A at any time. A and B are stored turned, as Keras' kernels are.

    Args:
        model: with the base's weights, in the dtype of the training.

    Attributes:
        named: what is trained, by canonical name, and whether it is stored transposed.
        sources: the model's weights whose gradients are needed: those of the targets, then the head's.
    """

    def __init__(self, model: keras.Model, start: LoraStart) -> None:
        table = native(model)
        self._start = start
        self._scales = [start.scale(name) for name in start.pairs]
        self._weights: list[Any] = [table[name][0].value for name in start.pairs]
        self._base = [tf.Variable(weight, trainable=False) for weight in self._weights]
        self.named: dict[str, tuple[keras.Variable, bool]] = {}
        for name, pair in start.pairs.items():
            for own, value in zip(factor_names(name), pair, strict=True):
                dtype = table[name][0].dtype
                self.named[own] = (keras.Variable(np.ascontiguousarray(value.T), dtype=dtype, name=own[-13:-7]), True)
        factors = [variable.value for variable, _ in self.named.values()]
        self._factors: list[tuple[Any, Any]] = list(zip(factors[::2], factors[1::2], strict=True))
        self.named |= {name: table[name] for name in start.whole}
        self.sources = [*self._weights, *(table[name][0].value for name in start.whole)]
        for weight, value in zip(self._weights, self._adapted(), strict=True):
            weight.assign(value)

    def gradients(self, of_sources: Sequence[Tensor]) -> list[Tensor]:
        """The gradients of what is trained, in the order of `named`, of those of `sources`."""
        found: list[Tensor] = []
        for gradient, scale, (a, b) in zip(of_sources, self._scales, self._factors, strict=False):
            found += [
                scale * tf.matmul(gradient, b, transpose_b=True),
                scale * tf.matmul(a, gradient, transpose_a=True),
            ]
        return [*found, *of_sources[len(self._factors) :]]

    def put_in(self) -> None:
        """Give the model's weights W + scale * B A, in compiled code that each device runs."""
        for weight, value in zip(self._weights, self._adapted(), strict=True):
            tf.raw_ops.AssignVariableOp(resource=weight.handle, value=value)

    def _adapted(self) -> list[Tensor]:
        """W + scale * B A of every target."""
        parts = zip(self._base, self._scales, self._factors, strict=True)
        return [base + scale * tf.matmul(a, b) for base, scale, (a, b) in parts]

    def pairs(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """A and B of every target."""
        found = {name: [canonical_array(*self.named[own]) for own in factor_names(name)] for name in self._start.pairs}
        return {name: (a, b) for name, (a, b) in found.items()}
