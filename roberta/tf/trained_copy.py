"""The model that a training in TensorFlow changes: the given one, or a copy with the dtype and dropout of the training."""

from typing import Any

from roberta.common.training.recipes import Settings
from roberta.tf.pretrained import no_initialisation
from roberta.tf.weights import assign, canonical_array, keras, native

POLICIES = {"float32": "float32", "float64": "float64", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def fitting(model: keras.Model, settings: Settings, is_copied: bool) -> Any:
    """A model with the dtype and the dropout of the settings: the given one, or a copy in the current strategy."""
    config, dropout = type(model.config).from_dict(model.config.to_dict()), settings.recipe.dropout
    if dropout is not None:
        config.update_checked({"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout})
    policy = POLICIES[settings.dtype]
    if not is_copied and model.dtype_policy.name == policy and config.to_dict() == model.config.to_dict():
        return model
    with no_initialisation():
        copy = type(model).from_config({**model.get_config(), "config": config.to_dict(), "dtype": policy})
    given = native(model)
    for name, (variable, is_turned) in native(copy).items():
        assign(variable, canonical_array(*given[name]), is_turned)
        variable.trainable = given[name][0].trainable
    if model.is_gradient_checkpointing:
        copy.gradient_checkpointing_enable()
    if model.can_generate():
        copy.generation_config = model.generation_config
    copy.device_name = None if is_copied else model.device_name
    return copy


def dropout_seeds(model: keras.Model) -> list[Any]:
    """The variables that Keras' dropouts draw from, in the order of the layers."""
    layers = model._flatten_layers(include_self=False)
    return [layer.seed_generator.state for layer in layers if isinstance(layer, keras.layers.Dropout) and layer.rate]
