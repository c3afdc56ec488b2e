"""Whether a model is exactly what this library builds, and still what it was: what `infer` needs to know.

The fast pass reads weights and calls no layer. So it is right only where every layer is of the very class that is
expected there, runs its own code, and has nothing beside it: no adapter, no quantised weights, no other dtype.
"""

import sys
from collections.abc import Iterator
from operator import is_
from types import FunctionType
from typing import Any

from roberta.common.config import RobertaConfig
from roberta.common.family_classes import roberta_class
from roberta.common.parameters import Head
from roberta.tf.layers import (
    ACTIVATION_FUNCTIONS,
    Attention,
    ClassificationHead,
    Embedding,
    Embeddings,
    Encoder,
    Intermediate,
    Layer,
    LMHead,
    Pooler,
    ResidualOutput,
    SelfAttention,
)
from roberta.tf.weights import keras

LayerClass = type[keras.layers.Layer]
Kinds = dict[str, LayerClass]
Dense, Norm, Dropout = keras.layers.Dense, keras.layers.LayerNormalization, keras.layers.Dropout

# Class -> the layers in it, by attribute.
CHILDREN: dict[LayerClass, Kinds] = {
    Embeddings: {
        "word_embeddings": Embedding, "position_embeddings": Embedding, "token_type_embeddings": Embedding,
        "LayerNorm": Norm, "dropout": Dropout,
    },
    SelfAttention: {
        "query": Dense, "key": Dense, "value": Dense, "dropout": Dropout, "distance_embedding": Embedding,
    },
    ResidualOutput: {"dense": Dense, "LayerNorm": Norm, "dropout": Dropout},
    Attention: {"self": SelfAttention, "residual_output": ResidualOutput},
    Intermediate: {"dense": Dense},
    Layer: {
        "attention": Attention, "crossattention": Attention, "intermediate": Intermediate,
        "residual_output": ResidualOutput,
    },
    Encoder: {},
    Pooler: {"dense": Dense},
    LMHead: {"dense": Dense, "layer_norm": Norm, "decoder": Dense},
    ClassificationHead: {"dense": Dense, "dropout": Dropout, "out_proj": Dense},
    Dense: {}, Norm: {}, Embedding: {}, Dropout: {},
}  # fmt: skip
# Head -> the modules beside the encoder.
BESIDE: dict[Head, Kinds] = {
    "ForCausalLM": {"lm_head": LMHead},
    "ForMaskedLM": {"lm_head": LMHead},
    "ForSequenceClassification": {"classifier": ClassificationHead},
    "ForMultipleChoice": {"dropout": Dropout, "classifier": Dense},
    "ForTokenClassification": {"dropout": Dropout, "classifier": Dense},
    "ForQuestionAnswering": {"qa_outputs": Dense},
}
ENCODER: Kinds = {"embeddings": Embeddings, "encoder": Encoder, "pooler": Pooler}
OPTIONAL = ("crossattention", "decoder", "distance_embedding", "pooler")  # None where there is none
WRAPPED = ("build", "quantize")  # Keras puts its own around them into every layer


def code_of(kinds: set[LayerClass]) -> dict[tuple[LayerClass, str], Any]:
    """What classes run, by class and name: all functions of our classes, and `call` of Keras'."""
    found = {(keras.layers.Layer, "__call__"): keras.layers.Layer.__call__}
    for kind in kinds:
        is_ours = kind.__module__.startswith(__package__)
        names = [name for name, value in vars(kind).items() if isinstance(value, FunctionType)] if is_ours else []
        found |= {(kind, name): getattr(kind, name) for name in names or ["call"]}
    return found


CODE = code_of(set(CHILDREN))  # at import: what is there before a caller can patch a class


def alteration(model: keras.Model) -> str:
    """Say what in a model is not this library's own, or keeps its weights from being read; "" if nothing does."""
    from roberta.tf import models  # which imports this module, by way of `infer`

    kinds = (getattr(models, f"TFRoberta{model.head}"), models.TFRobertaModel)
    if (roberta_class(type(model)), roberta_class(type(model.base_model))) != kinds:
        return f"{type(model).__name__} is a class of its own"
    for (kind, name), function in (code_of(set(kinds)) | CODE).items():
        if getattr(kind, name) is not function or _is_foreign(function, kind):
            return f"{kind.__name__}.{name} was replaced"
    for name, layer, kind in walk(model):
        reason = _alteration(layer, kind, model) if layer is not None else ""
        if layer is None and name.rpartition(".")[2] not in OPTIONAL:
            reason = "is missing"
        if reason:
            return f"{name or 'the model'} {reason}"
    head = getattr(model, "lm_head", None)
    if head is not None and (head.decoder is None) != model.config.tie_word_embeddings:
        return "the config was changed: tie_word_embeddings does not fit the LM head"
    return ""


def _is_foreign(function: FunctionType, kind: LayerClass) -> bool:
    """Whether a function that one of our classes runs was written in another file."""
    is_ours = kind.__module__.startswith(__package__)
    return is_ours and function.__code__.co_filename != sys.modules[kind.__module__].__file__


def walk(model: keras.Model) -> Iterator[tuple[str, keras.layers.Layer | None, LayerClass]]:
    """Every layer of a model, the model first: its name, itself or None, and the class that it should have."""
    base = model.base_model
    prefix = "" if base is model else f"{model.base_model_prefix}."
    yield "", model, type(model)
    if base is not model:
        yield prefix.rstrip("."), base, type(base)
    yield from _below(model, "", BESIDE.get(model.head, {}))
    yield from _below(base, prefix, ENCODER)
    layers: Kinds = {f"layer_{index}": Layer for index in range(model.config.num_hidden_layers)}
    yield from _below(base.encoder, f"{prefix}encoder.", layers)


def _below(
    owner: keras.layers.Layer, prefix: str, kinds: Kinds
) -> Iterator[tuple[str, keras.layers.Layer | None, LayerClass]]:
    for name, kind in kinds.items():
        layer = getattr(owner, name, None)
        yield f"{prefix}{name}", layer, kind
        if type(layer) is kind:
            yield from _below(layer, f"{prefix}{name}.", CHILDREN[kind])


def _alteration(layer: keras.layers.Layer, kind: LayerClass, model: keras.Model) -> str:
    """Say what in one layer is not as expected; "" if nothing is."""
    if type(layer) is not kind:
        return f"is a {type(layer).__module__}.{type(layer).__qualname__}"
    own, config = vars(layer), model.config
    methods = [
        name
        for name, value in own.items()
        if callable(value) and isinstance(getattr(kind, name, None), FunctionType) and name not in WRAPPED
    ]
    if methods:
        return f"has a {methods[0]} of its own"
    if own.get("config", config) is not config:
        return "has a config of its own"
    policies = {(part.compute_dtype, part.variable_dtype) for part in (layer, model)}
    if getattr(layer, "quantization_mode", None) is not None:
        return f"is quantised: model.quantize({layer.quantization_mode!r}) has changed its weights"
    if len(policies) > 1:
        return f"has the dtype policy {layer.dtype_policy.name!r}"
    return "has LoRA weights" if getattr(layer, "lora_enabled", False) else _other_settings(layer, config)


def _other_settings(layer: keras.layers.Layer, config: RobertaConfig) -> str:
    """Which setting of a layer is not the config's, or not what the fast pass computes."""
    if type(layer) is Intermediate and layer.activation is not ACTIVATION_FUNCTIONS[config.hidden_act]:
        return "has an activation of its own"
    if type(layer) is Dense and layer.activation is not keras.activations.linear:
        return "has an activation"
    if type(layer) is Norm and layer.epsilon != config.layer_norm_eps:
        return "has an epsilon of its own"
    if type(layer) is SelfAttention and config.position_embedding_type == "absolute":
        return "has distances" if layer.distance_embedding is not None else ""
    return ""


class Parts:
    """The layers of a model without `alteration` at one moment, with their attributes, to be looked at later.

    The model itself is not kept: what is kept for it must not keep it.
    """

    def __init__(self, model: keras.Model) -> None:
        layers = [layer for _, layer, _ in walk(model) if layer is not None]
        self.code = code_of({type(model), type(model.base_model)}) | CODE
        self.config, self.config_was = vars(model.config), dict(vars(model.config))
        self.kind, self.count = type(model), len(vars(model))
        self.children = {
            name: vars(model).get(name) for name in ("roberta", "config", *BESIDE.get(model.head, ENCODER))
        }
        self.policy = model.dtype_policy
        self.layers = [(layer, type(layer), vars(layer), tuple(vars(layer).values())) for layer in layers[1:]]

    def are_current(self, model: keras.Model) -> bool:
        """Whether nothing was replaced in the model or in a layer."""
        own = vars(model)
        return (
            type(model) is self.kind
            and len(own) == self.count
            and model.dtype_policy is self.policy
            and all(own.get(name) is part for name, part in self.children.items())
            and self.config == self.config_was
            and all(getattr(kind, name) is function for (kind, name), function in self.code.items())
            and all(_is_as_it_was(*layer) for layer in self.layers)
        )


def _is_as_it_was(layer: keras.layers.Layer, kind: LayerClass, own: dict[str, Any], values: tuple[Any, ...]) -> bool:
    """Whether a layer has its class, and each of its attributes its value."""
    return type(layer) is kind and len(own) == len(values) and all(map(is_, own.values(), values))
