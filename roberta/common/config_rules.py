"""The rules for a config's values: what a model can be built from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from roberta.common.values import is_int, is_number

if TYPE_CHECKING:
    from roberta.common.config import RobertaConfig

MAX_LAYERS = 1000  # more have more tensors than any file may list; a damaged file asks for thousands of millions

# Names that `hidden_act` may have in all three frameworks.
ACTIVATION_NAMES = (
    "gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh",
    "gelu_pytorch_tanh", "laplace", "leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2", "relu6",
    "sigmoid", "silu", "swish", "tanh",
)  # fmt: skip
POSITION_EMBEDDING_TYPES = ("absolute", "relative_key", "relative_key_query")
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
ATTENTIONS = ("sdpa", "eager")


def problem_type(config: RobertaConfig, outputs: int, *, has_floats: bool) -> str:
    """What a sequence classifier learns: `config.problem_type`, or what its outputs and the labels say where that is None.

    Args:
        outputs: numbers that the classifier has for a text.
        has_floats: whether labels are of a floating type.
    """
    if config.problem_type is not None:
        return config.problem_type
    if outputs == 1:
        return "regression"
    return "multi_label_classification" if has_floats else "single_label_classification"


def check_config(config: RobertaConfig) -> None:
    """Raise `ValueError` for the first field that no model can be built from; it names the field and the rule."""
    for name in (
        "vocab_size", "hidden_size", "num_attention_heads", "intermediate_size", "max_position_embeddings",
        "type_vocab_size",
    ):  # fmt: skip
        _require(is_int(getattr(config, name), 1), name, config, "must be a positive int")
    _require(
        is_int(config.num_hidden_layers) and 0 <= config.num_hidden_layers <= MAX_LAYERS,
        "num_hidden_layers", config, f"must be an int from 0 to {MAX_LAYERS}",
    )  # fmt: skip
    names = config.architectures
    _require(
        names is None or (isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)),
        "architectures", config, "must be None or a list of names of classes",
    )  # fmt: skip
    _check_sizes(config)
    _check_choices(config)
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"):
        value = getattr(config, name)
        allowed = (name == "classifier_dropout" and value is None) or (is_number(value) and 0 <= value <= 1)
        _require(allowed, name, config, "must be a probability from 0 to 1")
    _require(
        is_number(config.layer_norm_eps) and config.layer_norm_eps > 0,
        "layer_norm_eps", config, "must be a positive number",
    )  # fmt: skip
    _require(
        is_number(config.initializer_range) and config.initializer_range >= 0,
        "initializer_range", config, "must be a number of at least 0",
    )  # fmt: skip
    _check_pruned_heads(config)


def _check_sizes(config: RobertaConfig) -> None:
    """Sizes that have to fit each other."""
    if config.hidden_size % config.num_attention_heads:
        raise ValueError(
            f"hidden_size={config.hidden_size} is not a multiple of num_attention_heads="
            f"{config.num_attention_heads}; each head has hidden_size / num_attention_heads columns"
        )
    _require(
        is_int(config.pad_token_id) and 0 <= config.pad_token_id < config.vocab_size,
        "pad_token_id", config, f"must be an int from 0 to vocab_size - 1 = {config.vocab_size - 1}",
    )  # fmt: skip
    if config.max_position_embeddings <= config.pad_token_id + 1:
        raise ValueError(
            f"max_position_embeddings={config.max_position_embeddings} leaves no position for a token: positions "
            f"start at pad_token_id + 1 = {config.pad_token_id + 1}; RoBERTa has 514 of them for 512 tokens"
        )


def _check_choices(config: RobertaConfig) -> None:
    """Fields with a list of values, and switches that need each other."""
    _require(
        config.hidden_act in ACTIVATION_NAMES, "hidden_act", config, f"must be one of {', '.join(ACTIVATION_NAMES)}"
    )
    _require(
        config.position_embedding_type in POSITION_EMBEDDING_TYPES,
        "position_embedding_type", config, f"must be one of {', '.join(POSITION_EMBEDDING_TYPES)}",
    )  # fmt: skip
    _require(
        config.problem_type is None or config.problem_type in PROBLEM_TYPES,
        "problem_type", config, f"must be None or one of {', '.join(PROBLEM_TYPES)}",
    )  # fmt: skip
    if config.add_cross_attention and not config.is_decoder:
        raise ValueError("add_cross_attention=True needs is_decoder=True: only a decoder attends to an encoder")
    _require(
        config.attn_implementation in (None, *ATTENTIONS),
        "attn_implementation", config, 'must be "sdpa" or "eager"',
    )  # fmt: skip


def _check_pruned_heads(config: RobertaConfig) -> None:
    """Layers that are there, and one head or more left in each."""
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    rule = f"must be {{layer: [heads]}}, with layers from {-layers} to {layers - 1} and heads from 0 to {heads - 1}"
    _require(isinstance(config.pruned_heads, Mapping), "pruned_heads", config, rule)
    for layer, pruned in config.pruned_heads.items():
        if not is_int(layer) or not -layers <= layer < layers:
            raise ValueError(f"pruned_heads names layer {layer!r}, but num_hidden_layers={layers}")
        is_list = isinstance(pruned, list | tuple | set | range)
        _require(is_list and set(pruned) <= set(range(heads)), "pruned_heads", config, rule)
    for layer in range(layers):
        if not config.heads_kept(layer):
            raise ValueError(f"pruned_heads leaves layer {layer} none of its {heads} heads; one must stay")


def _require(holds: bool, name: str, config: RobertaConfig, rule: str) -> None:
    if not holds:
        raise ValueError(f"{name}={getattr(config, name)!r} {rule}")
