"""How Keras' variables differ from the table: the leaf names, and dense weights are stored transposed.

A canonical name is a path of attributes once its leaf is renamed:
`roberta.encoder.layer.0.output.dense.weight` is `model.roberta.encoder.layer[0].output.dense.kernel`,
(in, out). A tied LM head has no decoder. `variable.path` is not used: Keras puts counters in it.

Every module of this backend takes `keras` from here, so that it runs on TensorFlow whoever is imported first.
"""

import os
from typing import Any

import numpy as np
import tensorflow as tf

from roberta.common.formats.tf_h5 import TF_LEAVES
from roberta.common.parameters import kind_of, parameters

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # read when keras is imported for the first time

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"roberta.tf needs Keras on TensorFlow, and here it runs on {keras.backend.backend()}; set the "
        "environment variable KERAS_BACKEND=tensorflow before keras is imported"
    )


def to_numpy(variable: keras.Variable) -> np.ndarray:
    """The values as numpy, bfloat16 through `ml_dtypes`."""
    return tf.convert_to_tensor(variable).numpy()


def assign(variable: keras.Variable, array: np.ndarray, transposed: bool) -> None:
    """Give a variable the values of a canonical array, in the variable's dtype."""
    values = np.ascontiguousarray(array.T if transposed else array).astype(variable.dtype, copy=False)
    target = variable.value  # a plain tensor where a dtype policy casts it
    if isinstance(target, tf.Variable):
        target.assign(tf.constant(values))  # takes the tensor's memory over; Keras' own copies it once more
    else:
        variable.assign(values)


def canonical_array(variable: keras.Variable, transposed: bool) -> np.ndarray:
    """The values in the canonical shape."""
    return np.ascontiguousarray(to_numpy(variable).T) if transposed else to_numpy(variable)


def native(model: keras.Model) -> dict[str, tuple[keras.Variable, bool]]:
    """Every parameter of the table by its canonical name, and whether it is stored transposed."""
    has_pooler = model.base_model.pooler is not None
    table = parameters(model.config, model.head, has_pooler=has_pooler)
    return {name: (_variable(model, name), parameter.kind == "dense") for name, parameter in table.items()}


def replace(layer: keras.layers.Layer, attribute: str, values: np.ndarray) -> None:
    """Replace a variable of a layer by one of another shape."""
    old = getattr(layer, attribute)
    was_locked = layer._tracker.locked
    layer._tracker.unlock()  # Keras itself does so where it quantizes; variables cannot change their shape
    delattr(layer, attribute)
    setattr(layer, attribute, keras.Variable(values, dtype=old.dtype, trainable=old.trainable, name=old.name))
    if was_locked:
        layer._tracker.lock()


def _variable(model: keras.Model, name: str) -> keras.Variable:
    part: Any = model
    for step in name.split(".")[:-1]:
        part = part[int(step)] if step.isdigit() else getattr(part, step)
    return getattr(part, TF_LEAVES[kind_of(name)])
