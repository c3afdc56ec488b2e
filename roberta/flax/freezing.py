"""The trained part of a tree of weights in Flax, beside the part that is frozen."""

from collections.abc import Iterable, Mapping

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from roberta.common.formats.flax_msgpack import native_name
from roberta.flax.weights import Params


class FrozenWeights:
    """A tree of which some leaves are not trained.

    Args:
        params: all weights, in the dtype of the training.
        names: canonical, of those that are frozen.

    Attributes:
        trained: the tree without the frozen leaves.
        frozen: the others, by path.
    """

    def __init__(self, params: Params, names: Iterable[str]) -> None:
        leaves = flatten_dict(params, sep="/")
        self.frozen: dict[str, Array] = {path: leaves.pop(path) for path in map(native_name, names)}
        self.trained: Params = unflatten_dict(leaves, sep="/")

    def whole(self, frozen: Mapping[str, Array], trained: Params) -> Params:
        """The tree of the model."""
        joined: Params = unflatten_dict({**flatten_dict(trained, sep="/"), **frozen}, sep="/")
        return joined

    def whole_now(self, trained: Params) -> Params:
        """The tree of the model, with the frozen leaves as they are here."""
        return self.whole(self.frozen, trained)

    def pairs(self, trained: Params) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """A and B of an adapter: none."""
        return {}
