"""The averages of trained weights in Flax: what is evaluated and saved, where the recipe has a decay for them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from roberta.common.training.optimizer_state import TrainingState, check_trained_weights
from roberta.common.training.recipes import average_share
from roberta.flax.weights import Params, from_native, native, to_native


class AveragedWeights:
    """The averages of a tree of trained weights.

    Args:
        trained: the tree, where it belongs; the first averages are its own values.
        decay: of the averages.
        places: the sharding of each leaf; None for one device.

    Attributes:
        tree: the averages, whose arrays are given up by each update.
    """

    def __init__(self, trained: Params, decay: float, places: Any = None) -> None:
        self.decay = decay
        self.tree: Params = jax.tree.map(jnp.copy, trained)
        self._added = jax.jit(added, donate_argnums=0, out_shardings=places)

    def add(self, trained: Params, number: int) -> None:
        """Take in the weights after update `number`."""
        self.tree = self._added(self.tree, trained, np.float64(average_share(number, self.decay)))


def added(tree: Params, trained: Params, share: Array) -> Params:
    """The averages with a share of the weights as they are now."""
    result: Params = jax.tree.map(lambda old, new: old + (new - old) * share.astype(old.dtype), tree, trained)
    return result


def restored(state: TrainingState, averages: Params) -> Params:
    """The tree of the weights that were trained, beside that of their averages."""
    table = native(averages)
    shapes = {name: leaf.shape[::-1] if is_turned else leaf.shape for name, (leaf, is_turned) in table.items()}
    check_trained_weights(state, shapes)
    return to_native((name, state.weights[name], leaf.dtype) for name, (leaf, _) in table.items())


def trained_weights(trained: Params) -> Mapping[str, np.ndarray]:
    """The trained weights, by canonical name."""
    return {name: from_native(*pair) for name, pair in native(trained).items()}
