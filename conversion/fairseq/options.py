"""fairseq's hyperparameters, `args` or `cfg`, and the fields of RobertaConfig.

Source: the options of fairseq's RoBERTa; its four special symbols come first: <s> 0, <pad> 1, </s> 2, <unk> 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from roberta.common.config import RobertaConfig
from roberta.common.formats.pickle_machine import Record
from roberta.common.storage.folders import CheckpointError

PAD = 1
_MAX_VALUES = 100_000

# fairseq's option -> field of the config, both ways.
_FIELDS = {
    "encoder_attention_heads": "num_attention_heads",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "pooler_dropout": "classifier_dropout",
}

# fairseq's activation -> our name; the first row of each of our names is what is written.
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_accurate": "gelu_new",  # the tanh formula, whatever the name says
    "gelu_fast": "gelu_new",
    "relu": "relu",
    "tanh": "tanh",
    "linear": "linear",
}

# Options that change what the model computes and have no field in RobertaConfig -> the values that are accepted.
_REFUSED = {
    "pooler_activation_fn": ("tanh",),
    "encoder_learned_pos": (True,),
    "no_token_positional_embeddings": (False,),
    "no_scale_embedding": (True,),
}

_CONTAINERS = ("omegaconf.dictconfig DictConfig", "omegaconf.listconfig ListConfig")
_NODES = tuple(
    f"omegaconf.nodes {kind}Node" for kind in ("Any", "Boolean", "Bytes", "Enum", "Float", "Integer", "Path", "String")
)
# Every name but those of tensors that a checkpoint of fairseq may hold; each is read as data.
RECORDS = (
    "argparse Namespace",
    "collections defaultdict",
    "omegaconf.base Metadata",
    "omegaconf.base ContainerMetadata",
    "typing Any",
    *_CONTAINERS,
    *_NODES,
    *(f"builtins {name}" for name in ("dict", "list", "int", "float", "str", "bool", "tuple")),
    *(f"__builtin__ {name}" for name in ("dict", "list", "int", "float", "str", "bool", "tuple")),
    "_codecs encode",
    "numpy dtype",
    "numpy.core.multiarray scalar",
    "numpy._core.multiarray scalar",
    *(f"fairseq.meters {name}Meter" for name in ("Average", "Stopwatch", "Time")),
    *(f"fairseq.logging.meters {name}Meter" for name in ("Average", "Stopwatch", "Time")),
    "fairseq.logging.meters MetersDict",
)


def _plain(value: object, depth: int = 0, left: Iterator[int] | None = None) -> Any:
    """Namespaces and OmegaConf's containers as dictionaries, lists and values.

    Args:
        left: yields once for each value that may still come.

    Raises:
        ValueError: it is nested more than 16 levels deep or has more than 100,000 values. No configuration does, but
            a few bytes of a pickle can put one value in many places.
    """
    left = iter(range(_MAX_VALUES)) if left is None else left
    if depth > 16 or next(left, None) is None:
        raise ValueError(f"the configuration is nested more than 16 levels deep or has over {_MAX_VALUES} values")
    if isinstance(value, Record):
        state = value.state if isinstance(value.state, dict) else {}
        if value.name in _NODES:
            return _plain(state.get("_val"), depth + 1, left)
        if value.name in _CONTAINERS:
            return _plain(state.get("_content"), depth + 1, left)
        return {name: _plain(item, depth + 1, left) for name, item in state.items()}
    if isinstance(value, dict):
        return {name: _plain(item, depth + 1, left) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1, left) for item in value]
    return value


def options(path: Path, state: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The options of a checkpoint by name, and the form they have: "args" or "cfg".

    Raises:
        CheckpointError: it has neither.
    """
    for form in ("cfg", "args"):
        if state.get(form) is not None:
            try:
                found = _plain(state[form])
            except ValueError as error:
                raise CheckpointError(f"{path}: {error}") from None
            if isinstance(found, dict):
                tasks = {f"task.{k}": v for k, v in _part(found, "task").items()}
                tasks |= {f"criterion.{k}": v for k, v in _part(found, "criterion").items()}
                return ({**tasks, **_part(found, "model")} if form == "cfg" else found), form
    raise CheckpointError(
        f"{path} has neither args nor cfg with its hyperparameters; it is not a checkpoint of fairseq"
    )


def _part(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = found.get(name)
    return part if isinstance(part, dict) else {}


def config_fields(path: Path, found: Mapping[str, Any], form: str) -> dict[str, Any]:
    """Fields of RobertaConfig that the options give; sizes come from the tensors.

    Raises:
        CheckpointError: the number of heads is missing, or an option has no field in RobertaConfig.
    """
    for name, allowed in _REFUSED.items():
        if name in found and found[name] is not None and found[name] not in allowed:
            raise CheckpointError(f"{path}: {form} has {name}={found[name]!r}, which is not supported")
    fields = {field: found[name] for name, field in _FIELDS.items() if found.get(name) is not None}
    if "num_attention_heads" not in fields:
        raise CheckpointError(f"{path}: {form} has no encoder_attention_heads, and no tensor shows their number")
    activation = found.get("activation_fn", "gelu")
    if activation not in _ACTIVATIONS:
        raise CheckpointError(
            f"{path}: {form} has activation_fn={activation!r}; known are {', '.join(map(repr, _ACTIVATIONS))}"
        )
    fields["hidden_act"] = _ACTIVATIONS[activation]
    fields["tie_word_embeddings"] = not found.get("untie_weights_roberta", False)
    return fields


def is_ranking(found: Mapping[str, Any]) -> bool:
    """Whether a head with one output ranks choices, as in multiple choice, rather than being a regression."""
    names = (found.get(name) for name in ("task", "criterion", "task._name", "criterion._name"))
    return "sentence_ranking" in names


def written_options(config: RobertaConfig, form: str, criterion: str) -> dict[str, Any]:
    """`args` and `cfg` of a new file: everything fairseq needs to build the model."""
    names = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}
    model = {
        "encoder_layers": config.num_hidden_layers,
        "encoder_embed_dim": config.hidden_size,
        "encoder_ffn_embed_dim": config.intermediate_size,
        "encoder_attention_heads": config.num_attention_heads,
        "activation_fn": names[config.hidden_act],
        "pooler_activation_fn": "tanh",
        "dropout": config.hidden_dropout_prob,
        "attention_dropout": config.attention_probs_dropout_prob,
        "activation_dropout": 0.0,
        "pooler_dropout": config.head_dropout,
        "max_positions": config.max_length_tokens,
        "tokens_per_sample": config.max_length_tokens,
        "encoder_learned_pos": True,
        "untie_weights_roberta": not config.tie_word_embeddings,
        "num_classes": config.num_labels,
    }
    if form == "args":
        values = {**model, "arch": "roberta", "task": "masked_lm", "criterion": criterion, "data": ""}
        return {"args": Record("argparse Namespace", (), values)}
    task = {"_name": "masked_lm", "data": "", "tokens_per_sample": config.max_length_tokens}
    parts = {"_name": None, "model": {"_name": "roberta", **model}, "task": task, "criterion": {"_name": criterion}}
    return {"args": None, "cfg": parts}


# What the config of a model must have to be written for fairseq, beside `model.RULES`.
FAIRSEQ_RULES: dict[str, tuple[object, ...]] = {
    "hidden_act": tuple(dict.fromkeys(_ACTIVATIONS.values())),
    "pad_token_id": (PAD,),
}
