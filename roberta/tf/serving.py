"""A model as TensorFlow serves it: one function of ids, mask and types, and a SavedModel of it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, ref

import tensorflow as tf
from tensorflow import Tensor

from roberta.common.config import RobertaConfig
from roberta.common.outputs import ModelOutput
from roberta.tf.weights import keras

Signatures = Callable[..., Any] | Mapping[str, Callable[..., Any]] | None
SERVED = ("input_ids", "attention_mask", "token_type_ids")
_FUNCTIONS: WeakKeyDictionary[keras.Model, Callable[..., Any]] = WeakKeyDictionary()


def signature(model: keras.Model, dtype: tf.DType = tf.int32) -> dict[str, tf.TensorSpec]:
    """What the served function takes: of any batch size and length."""
    shape = (None, None, None) if model.head == "ForMultipleChoice" else (None, None)
    return {name: tf.TensorSpec(shape, dtype, name) for name in SERVED}


def served(output: ModelOutput, config: RobertaConfig) -> ModelOutput:
    """An output of tensors alone: of what the config asks for, the layers' tensors as one, (layer, ...).

    Tensors that differ in shape, as those of a cache with cross-attention may, stay a tuple.
    """
    asked = {
        "hidden_states": config.output_hidden_states,
        "attentions": config.output_attentions,
        "cross_attentions": config.output_attentions,
        "past_key_values": config.use_cache,
    }
    return type(output)((name, _stacked(value)) for name, value in output.items() if asked.get(name, True))


def function(model: keras.Model) -> Callable[[dict[str, Tensor]], ModelOutput]:
    """The model's `eager_serving` as a `tf.function` of one dict, made once per model."""
    if model not in _FUNCTIONS:
        _FUNCTIONS[model] = _function(model, signature(model))
    return _FUNCTIONS[model]


def forget(model: keras.Model) -> None:
    """Make `function` trace again: the model has new variables."""
    _FUNCTIONS.pop(model, None)


def write_saved_model(model: keras.Model, folder: Path, signatures: Signatures = None) -> None:
    """A SavedModel; `signatures`: a function of the model's, or functions by name.

    By default "serving_default" takes int32, and "int64_serving" int64.
    """
    if signatures is None:
        signatures = {"serving_default": function(model), "int64_serving": _function(model, signature(model, tf.int64))}
    served_functions = signatures if isinstance(signatures, Mapping) else {"serving_default": signatures}
    module = tf.Module()
    module.model_variables = [variable.value for variable in model.variables]
    named = {name: _flat(one) for name, one in served_functions.items()}
    tf.saved_model.save(module, str(folder), signatures=named)


def _function(model: keras.Model, takes: Mapping[str, tf.TensorSpec]) -> Any:
    owner = ref(model)  # what is kept for a model must not keep it

    def serving(inputs: dict[str, Tensor]) -> ModelOutput:
        return owner().eager_serving(inputs)

    return tf.function(serving, input_signature=[dict(takes)])


def _flat(one: Callable[..., Any]) -> Any:
    """A concrete function of a `tf.function` whose output is a flat dict of tensors, which a signature needs."""
    if not hasattr(one, "input_signature") or one.input_signature is None:
        return one
    inner = one.python_function

    def serving(*arguments: Any) -> dict[str, Tensor]:
        return _tensors(inner(*arguments))

    return tf.function(serving, input_signature=one.input_signature)


def _tensors(output: object) -> Any:
    if not isinstance(output, ModelOutput):
        return output
    flat = {}
    for name, value in output.items():
        leaves = tf.nest.flatten(value)
        flat |= {name if len(leaves) == 1 else f"{name}_{index}": leaf for index, leaf in enumerate(leaves)}
    return flat


def _stacked(value: object) -> Any:
    """Tuples of tensors of one shape as a tensor; everything else as it is."""
    if not isinstance(value, tuple | list):
        return value
    parts = [_stacked(part) for part in value]
    if any(isinstance(part, tuple) or parts[0].shape.rank != part.shape.rank for part in parts):
        return tuple(parts)
    may_be_equal = all(parts[0].shape.is_compatible_with(part.shape) for part in parts)
    return tf.stack(parts) if may_be_equal else tuple(parts)
