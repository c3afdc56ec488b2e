"""What Keras hands over in place of values while it builds a model, without having any: float where values are whole.

A user's own model around one of the classes is built so when it is loaded from a `.keras` file, and any model in a
distribution strategy: Keras notes shapes, not types, and takes float32 for all of them.
"""

import tensorflow as tf

from roberta.common.config import RobertaConfig
from roberta.tf.weights import keras

WHOLE = ("input_ids", "token_type_ids", "position_ids", "labels", "start_positions", "end_positions")


class FloatInputError(ValueError, NotImplementedError):
    """A `keras.Input` of floats for whole numbers.

    `keras.Sequential` without an Input makes one of the layer's own dtype, and without a NotImplementedError would
    convert every id to that; with it, it applies its layers to what it is given.
    """


def symbol(name: str, value: object, config: RobertaConfig) -> object:
    """`value`, or int32 in its place where it is a placeholder that is float only because Keras knows no type.

    Values themselves stay as they are: floats among them are an error of the layer that takes them.

    Raises:
        FloatInputError: it is the float output of a layer, such as `keras.Input`, which values will go through.
    """
    if isinstance(value, keras.KerasTensor) and name != "labels" and value.dtype.startswith(("float", "bfloat")):
        if hasattr(value, "_keras_history"):
            raise FloatInputError(
                f"{name} is a placeholder of type {value.dtype}, and so would its values be; give integers: "
                f'keras.Input((None,), dtype="int32")'
            )
        return keras.KerasTensor(value.shape, "int32")
    if tf.is_tensor(value) and value.dtype.is_floating and is_building():
        return value if name == "labels" and _may_be_float(value, config) else tf.cast(value, tf.int32)
    return value


def is_building() -> bool:
    """Whether Keras is finding out shapes, in a graph that never runs."""
    if tf.executing_eagerly():
        return False
    scope = keras.SymbolicScope()
    with scope:
        return scope.original_scope is not None


def _may_be_float(labels: tf.Tensor, config: RobertaConfig) -> bool:
    """Whether labels can be what they seem: one number for each of several labels."""
    return labels.shape.rank == 2 and labels.shape[-1] == config.num_labels > 1
