"""Which variables of a Keras model are saved, and what a folder cannot hold.

Keras' own LoRA is written merged: the kernel of such a layer is what it computes with.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import tensorflow as tf
from tensorflow import Tensor

from roberta.common.checkpoint.saved_tensors import Wrong, changed_fields, checked_tensors, fields_changed
from roberta.common.config import RobertaConfig
from roberta.common.formats.safetensors_file import Source
from roberta.common.formats.tf_h5 import TF_LEAVES
from roberta.common.parameters import Kind, Parameter, parameters
from roberta.tf.layers import ACTIVATION_FUNCTIONS, Embedding, Intermediate
from roberta.tf.weights import canonical_array, keras

# Kind of a weight -> our layer with such a weight, and what it computes.
_PLAIN: dict[Kind, tuple[Any, Callable[[Any, Tensor], Tensor]]] = {
    "dense": (
        keras.layers.Dense,
        lambda layer, probe: probe @ layer.kernel + (0 if layer.bias is None else layer.bias),
    ),
    "embedding": (Embedding, lambda layer, probe: tf.gather(tf.convert_to_tensor(layer.embeddings), probe)),
    "norm": (keras.layers.LayerNormalization, lambda layer, probe: _normalised(layer, probe)),
}
_REPLACE = "put one of the original class in its place, whose weight has the same effect"


def to_write(model: keras.Model) -> dict[str, Source]:
    """The tensors that make the model, by canonical name.

    Raises:
        ValueError: they do not make it (see `saving.checked`).
    """
    has_pooler = model.base_model.pooler is not None
    table = parameters(model.config, model.head, has_pooler=has_pooler)
    owners = {name: _owner(model, name) for name in table}
    found = {name: getattr(owner, TF_LEAVES[table[name].kind], None) for name, owner in owners.items()}
    found = {name: value for name, value in found.items() if value is not None}
    wrong = [*changed_fields(model.config, _configs(model)), *_changed_settings(model)]
    wrong += _quantised(model) or _other_layers(owners, {name: table[name] for name in found})
    extra = [] if _quantised(model) else _extra(model, owners.values(), found)
    tensors = {name: _source(value, table[name].kind == "dense") for name, value in found.items()}
    return checked_tensors(type(model).__name__, table, tensors, extra=extra, wrong=wrong)


def _owner(model: keras.Model, name: str) -> keras.layers.Layer | None:
    """The layer with a parameter; None where no layer has that path."""
    part = model
    for step in name.split(".")[:-1]:
        try:
            part = part[int(step)] if step.isdigit() else getattr(part, step, None)
        except (IndexError, KeyError, TypeError):
            return None
    return part


def _source(variable: keras.Variable | Tensor, is_transposed: bool) -> Source:
    """A variable, or the tensor that a layer makes of several."""
    shape = tuple(variable.shape[::-1] if is_transposed else variable.shape)
    return shape, keras.backend.standardize_dtype(variable.dtype), lambda: canonical_array(variable, is_transposed)


def _extra(model: keras.Model, owners: Iterable[keras.layers.Layer | None], found: Mapping[str, Any]) -> list[str]:
    """The paths of variables that a folder has no place for."""
    known = {id(variable) for variable in found.values()}
    for layer in owners:
        if getattr(layer, "lora_enabled", False):
            known |= {id(variable) for variable in layer.variables}
    own = [one for layer in _layers(model) for one in layer._trainable_variables + layer._non_trainable_variables]
    return [variable.path for variable in own if id(variable) not in known]


def _layers(part: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """A layer and those that are its parts now: Keras goes on to list one that another has replaced."""
    yield part
    inner = (
        part.layers
        if isinstance(part, keras.Sequential)
        else [value for name, value in vars(part).items() if not name.startswith("_")]
    )
    for value in inner:
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, keras.layers.Layer):
                yield from _layers(one)


def _configs(model: keras.Model) -> Iterable[RobertaConfig]:
    return (layer.config for layer in _layers(model) if isinstance(getattr(layer, "config", None), type(model.config)))


def _quantised(model: keras.Model) -> list[Wrong]:
    """Layers that compute with quantised values."""
    modes = {getattr(layer, "quantization_mode", None) for layer in _layers(model)} - {None}
    way = "save the model before it is quantised, and quantise what is loaded"
    return [
        (f"Keras has quantised it by quantize({mode!r}), and a folder has no place for scales", way)
        for mode in sorted(modes)
    ]


def _changed_settings(model: keras.Model) -> list[Wrong]:
    """Settings of layers that the config does not say any more."""
    config, found = model.config, dict[str, Any]()
    lm_head = model.get_lm_head()
    if lm_head is not None and config.tie_word_embeddings != (lm_head.decoder is None):
        found["tie_word_embeddings"] = not config.tie_word_embeddings
    for layer in _layers(model):
        if isinstance(layer, Intermediate) and layer.activation is not ACTIVATION_FUNCTIONS[config.hidden_act]:
            names = [name for name, activation in ACTIVATION_FUNCTIONS.items() if activation is layer.activation]
            found["hidden_act"] = names[0] if names else layer.activation
        if isinstance(layer, keras.layers.LayerNormalization) and layer.epsilon != config.layer_norm_eps:
            found["layer_norm_eps"] = layer.epsilon
    return fields_changed(config, found)


def _other_layers(owners: Mapping[str, Any], table: Mapping[str, Parameter]) -> list[Wrong]:
    """Layers with the right parameters that compute something else with them."""
    return [
        (f"{name.rpartition('.')[0]} is a {type(owners[name]).__name__} with a way of its own to compute", _REPLACE)
        for name, parameter in table.items()
        if parameter.kind in _PLAIN and not _is_plain(owners[name], parameter)
    ]


def _is_plain(layer: keras.layers.Layer, parameter: Parameter) -> bool:
    """Whether a layer computes what ours would with these parameters; a layer of another class is tried."""
    own, compute = _PLAIN[parameter.kind]
    is_linear = getattr(layer, "activation", None) in (None, keras.activations.linear)
    if type(layer).call is own.call and "call" not in vars(layer) and is_linear:
        return not getattr(layer, "rms_scaling", False)
    try:
        width = parameter.shape[-1]
        probe = tf.reshape(tf.cast(tf.linspace(-1.0, 1.0, 2 * width), layer.compute_dtype), (2, width))
        probe = tf.range(2) % parameter.shape[0] if parameter.kind == "embedding" else probe
        found, wanted = (tf.cast(one, tf.float64) for one in (layer(probe), compute(layer, probe)))
        bound = 1e-3 * (1e-6 + tf.reduce_max(tf.abs(wanted)))
        return found.shape == wanted.shape and bool(tf.reduce_all(tf.abs(found - wanted) <= bound))
    except Exception:  # whatever it is, it is not one of our layers
        return False


def _normalised(layer: keras.layers.LayerNormalization, probe: Tensor) -> Tensor:
    mean, variance = tf.nn.moments(probe, axes=[-1], keepdims=True)
    return tf.nn.batch_normalization(probe, mean, variance, layer.beta, layer.gamma, layer.epsilon)
