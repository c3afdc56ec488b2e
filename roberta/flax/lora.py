"""The trained weights of a LoRA adapter in Flax, beside the tree whose weights they change."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from roberta.common.formats.flax_msgpack import native_name
from roberta.common.training.lora import LoraStart, factor_names
from roberta.flax.weights import Params, from_native, native, to_native


class LoraWeights:
    """A and B of every target and the model's own head, as a tree: all that is trained.

    Args:
        params: the base's weights, in the dtype of the training.

    Attributes:
        trained: the tree at the first update.
        frozen: all other weights, by path, those of the targets among them.
    """

    def __init__(self, params: Params, start: LoraStart) -> None:
        leaves = flatten_dict(params, sep="/")
        self._start = start
        self._whole = [native_name(name) for name in start.whole]
        self._targets = [
            (native_name(name), *map(native_name, factor_names(name)), start.scale(name)) for name in start.pairs
        ]
        kind = next(iter(leaves.values())).dtype
        factors = to_native(
            (own, value, kind)
            for name, pair in start.pairs.items()
            for own, value in zip(factor_names(name), pair, strict=True)
        )
        whole = {path: leaves.pop(path) for path in self._whole}
        self.trained: Params = unflatten_dict({**flatten_dict(factors, sep="/"), **whole}, sep="/")
        self.frozen: dict[str, Array] = leaves
        self._changed = jax.jit(self.changed)

    def changed(self, frozen: Mapping[str, Array], trained: Params) -> dict[str, Array]:
        """W + scale * B A by path; kernels are (inputs, outputs), and so are A and B turned."""
        factors = flatten_dict(trained, sep="/")
        return {
            path: frozen[path] + scale * jnp.matmul(factors[a], factors[b], precision="highest")
            for path, a, b, scale in self._targets
        }

    def whole(self, frozen: Mapping[str, Array], trained: Params) -> Params:
        """The tree of the model."""
        return self._joined(frozen, trained, self.changed(frozen, trained))

    def whole_now(self, trained: Params) -> Params:
        """The tree of the model, of which only what the adapter changes is new."""
        return self._joined(self.frozen, trained, self._changed(self.frozen, trained))

    def _joined(self, frozen: Mapping[str, Array], trained: Params, changed: Mapping[str, Array]) -> Params:
        leaves: dict[str, Any] = flatten_dict(trained, sep="/")
        whole = {path: leaves[path] for path in self._whole}
        joined: Params = unflatten_dict({**frozen, **changed, **whole}, sep="/")
        return joined

    def pairs(self, trained: Params) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """A and B of every target."""
        table = native(trained)
        found = {name: [from_native(*table[own]) for own in factor_names(name)] for name in self._start.pairs}
        return {name: (a, b) for name, (a, b) in found.items()}
