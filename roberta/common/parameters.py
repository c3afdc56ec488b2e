"""The table of parameters: name, shape and kind of every tensor of every head, from the config alone.

Names are those of `model.safetensors` as PyTorch's classes write it (the canonical names); shapes are PyTorch's, so
a dense weight is (out, in). A backend differs only in the leaf name of each kind and in what is transposed
(`roberta.<backend>.weights`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal

from roberta.common.config import RobertaConfig

Kind = Literal["embedding", "dense", "bias", "norm", "norm_bias"]

# Class name without prefix -> the modules above the encoder.
Head = Literal[
    "Model",
    "ForCausalLM",
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForMultipleChoice",
    "ForTokenClassification",
    "ForQuestionAnswering",
]
HEADS_WITH_POOLER: tuple[Head, ...] = ("Model", "ForMultipleChoice")
LANGUAGE_MODELS: tuple[Head, ...] = ("ForCausalLM", "ForMaskedLM")

# A name that only a tensor of an encoder has, in two groups: the text before the encoder's own name, and that name.
ENCODER_NAME = re.compile(
    r"((?:.*\.)?)((?:embeddings\.(?:word_embeddings|position_embeddings|token_type_embeddings|LayerNorm)|encoder\.layer\.\d+)"
    r"\..+)"
)

# The parts of all heads, as first components of a canonical name: a file may hold any of them.
HEAD_PARTS = ("lm_head", "classifier", "qa_outputs", "pooler")


@dataclass(frozen=True)
class Parameter:
    """One tensor: canonical name, PyTorch's shape, and what it is."""

    name: str
    shape: tuple[int, ...]
    kind: Kind

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)


def parameters(config: RobertaConfig, head: Head, *, has_pooler: bool | None = None) -> dict[str, Parameter]:
    """Every tensor of one head by its canonical name, in the order of PyTorch's `state_dict`.

    A tied LM head has no `lm_head.decoder.weight` (it is the word embedding); `lm_head.decoder.bias` is always
    `lm_head.bias` and never listed.

    Args:
        head: class name without framework and `Roberta`, such as "ForMaskedLM".
        has_pooler: whether the encoder has a pooler; None means what the class has by default.
    """
    config.validate()
    if has_pooler is None:
        has_pooler = head in HEADS_WITH_POOLER
    prefix = "" if head == "Model" else "roberta."
    table = [
        *_embeddings(config, f"{prefix}embeddings."),
        *(p for i in range(config.num_hidden_layers) for p in _layer(config, i, f"{prefix}encoder.layer.{i}.")),
        *(_dense(f"{prefix}pooler.dense", config.hidden_size, config.hidden_size) if has_pooler else ()),
        *_head(config, head),
    ]
    return {parameter.name: parameter for parameter in table}


def kind_of(name: str) -> Kind:
    """The kind of a canonically named tensor, for tensors that are not in the table of the head at hand."""
    module, _, leaf = name.rpartition(".")
    owner = module.rpartition(".")[2]
    if owner in ("LayerNorm", "layer_norm"):
        return "norm" if leaf == "weight" else "norm_bias"
    if leaf == "bias":
        return "bias"
    return "embedding" if owner.endswith("_embeddings") or owner == "distance_embedding" else "dense"


def _embeddings(config: RobertaConfig, prefix: str) -> Iterator[Parameter]:
    for name, rows in (
        ("word_embeddings", config.vocab_size),
        ("position_embeddings", config.max_position_embeddings),
        ("token_type_embeddings", config.type_vocab_size),
    ):
        yield Parameter(f"{prefix}{name}.weight", (rows, config.hidden_size), "embedding")
    yield from _norm(f"{prefix}LayerNorm", config.hidden_size)


def _layer(config: RobertaConfig, index: int, prefix: str) -> Iterator[Parameter]:
    hidden, inner = config.hidden_size, config.intermediate_size
    yield from _attention(config, f"{prefix}attention.", config.heads_kept(index), config.has_distances)
    if config.add_cross_attention:  # which has no distances
        yield from _attention(config, f"{prefix}crossattention.", config.num_attention_heads, False)
    yield from _dense(f"{prefix}intermediate.dense", hidden, inner)
    yield from _dense(f"{prefix}output.dense", inner, hidden)
    yield from _norm(f"{prefix}output.LayerNorm", hidden)


def _attention(config: RobertaConfig, prefix: str, heads: int, has_distances: bool) -> Iterator[Parameter]:
    hidden, width = config.hidden_size, heads * config.head_size
    for name in ("query", "key", "value"):
        yield from _dense(f"{prefix}self.{name}", hidden, width)
    if has_distances:
        rows = 2 * config.max_position_embeddings - 1
        yield Parameter(f"{prefix}self.distance_embedding.weight", (rows, config.head_size), "embedding")
    yield from _dense(f"{prefix}output.dense", width, hidden)
    yield from _norm(f"{prefix}output.LayerNorm", hidden)


def _head(config: RobertaConfig, head: Head) -> Iterator[Parameter]:
    hidden = config.hidden_size
    match head:
        case "Model":
            pass
        case "ForCausalLM" | "ForMaskedLM":
            yield Parameter("lm_head.bias", (config.vocab_size,), "bias")
            yield from _dense("lm_head.dense", hidden, hidden)
            yield from _norm("lm_head.layer_norm", hidden)  # lower case, unlike every other norm
            if not config.tie_word_embeddings:
                yield Parameter("lm_head.decoder.weight", (config.vocab_size, hidden), "dense")
        case "ForSequenceClassification":
            yield from _dense("classifier.dense", hidden, hidden)
            yield from _dense("classifier.out_proj", hidden, config.num_labels)
        case "ForMultipleChoice":
            yield from _dense("classifier", hidden, 1)
        case "ForTokenClassification":
            yield from _dense("classifier", hidden, config.num_labels)
        case "ForQuestionAnswering":
            yield from _dense("qa_outputs", hidden, config.num_labels)


def _dense(name: str, inputs: int, outputs: int) -> tuple[Parameter, ...]:
    return (
        Parameter(f"{name}.weight", (outputs, inputs), "dense"),
        Parameter(f"{name}.bias", (outputs,), "bias"),
    )


def _norm(name: str, width: int) -> tuple[Parameter, ...]:
    return (Parameter(f"{name}.weight", (width,), "norm"), Parameter(f"{name}.bias", (width,), "norm_bias"))
