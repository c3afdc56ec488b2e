"""The averages of trained weights in TensorFlow: what is evaluated and saved, where the recipe has a decay for them."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from roberta.common.training.optimizer_state import TrainingState, check_trained_weights
from roberta.tf.optimizers import Named
from roberta.tf.weights import assign, canonical_array, to_numpy


class AveragedWeights:
    """Trained variables and their averages, of which one set is in the model, and the other is kept here.

    Args:
        trained: the variables that are trained, by canonical name, and whether each is stored transposed; their first
            averages are their own values.

    Attributes:
        is_shown: whether the averages are in the model.
    """

    def __init__(self, trained: Named) -> None:
        self.is_shown = False
        self._trained = trained
        self._kept = [tf.Variable(variable.value, trainable=False) for variable, _ in trained.values()]

    def restore(self, state: TrainingState) -> None:
        """Give the model the weights that were trained; those that it has are their averages."""
        shapes = {name: canonical_array(*pair).shape for name, pair in self._trained.items()}
        check_trained_weights(state, shapes)
        for name, (variable, is_turned) in self._trained.items():
            assign(variable, state.weights[name], is_turned)

    def add(self, share: Tensor) -> None:
        """Take in a share of the weights as they are now, in compiled code that each device runs."""
        for (variable, _), kept in zip(self._trained.values(), self._kept, strict=True):
            change = (variable.value - kept) * tf.cast(share, kept.dtype)
            tf.raw_ops.AssignAddVariableOp(resource=kept.handle, value=change)

    def show(self, is_shown: bool) -> bool:
        """Put the averages into the model, or the trained weights back; whether that changed anything."""
        if is_shown == self.is_shown:
            return False
        self.is_shown = is_shown
        for (variable, _), kept in zip(self._trained.values(), self._kept, strict=True):
            value = tf.identity(variable.value)
            variable.value.assign(tf.identity(kept))
            kept.assign(value)
        return True

    def weights(self) -> Mapping[str, np.ndarray]:
        """The trained weights, by canonical name, while the averages are in the model."""
        assert self.is_shown
        found = {}
        for (name, (_, is_turned)), kept in zip(self._trained.items(), self._kept, strict=True):
            array = to_numpy(kept)
            found[name] = np.ascontiguousarray(array.T) if is_turned else array
        return found
