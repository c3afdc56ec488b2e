"""Quantised layers in a `.keras` file: which they are, and how the file's model gets them back before its weights."""

from collections.abc import Mapping
from typing import Any

from roberta.tf.weights import keras


def policies(model: keras.Model) -> dict[str, Any]:
    """The dtype policy of each quantised layer, by its number among all layers; for `get_config`."""
    layers = enumerate(model._flatten_layers())
    return {
        str(number): keras.dtype_policies.serialize(layer.dtype_policy)
        for number, layer in layers
        if getattr(layer, "quantization_mode", None) is not None
    }


def quantise(model: keras.Model, wanted: Mapping[str, Any]) -> Any:
    """`model`, with the same layers quantised as in the model that `policies` was given."""
    layers = list(model._flatten_layers())
    for number, policy in wanted.items():
        layers[int(number)].dtype_policy = keras.dtype_policies.deserialize(
            policy
        )  # Keras quantises a built layer here
    return model
