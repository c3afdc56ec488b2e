"""fairseq's names of RoBERTa's tensors and the canonical ones: one table, read in both directions.

Source: the state dictionaries of fairseq's RoBERTa from 2019 to 2023, and a checkpoint of 2020.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

# Module of fairseq, after `encoder.` or `decoder.` -> module of the table; both have `weight` and `bias`.
MODULES = (
    ("sentence_encoder.embed_tokens", "roberta.embeddings.word_embeddings"),
    ("sentence_encoder.embed_positions", "roberta.embeddings.position_embeddings"),
    ("sentence_encoder.layernorm_embedding", "roberta.embeddings.LayerNorm"),
    ("sentence_encoder.layers.{}.self_attn.q_proj", "roberta.encoder.layer.{}.attention.self.query"),
    ("sentence_encoder.layers.{}.self_attn.k_proj", "roberta.encoder.layer.{}.attention.self.key"),
    ("sentence_encoder.layers.{}.self_attn.v_proj", "roberta.encoder.layer.{}.attention.self.value"),
    ("sentence_encoder.layers.{}.self_attn.out_proj", "roberta.encoder.layer.{}.attention.output.dense"),
    ("sentence_encoder.layers.{}.self_attn_layer_norm", "roberta.encoder.layer.{}.attention.output.LayerNorm"),
    ("sentence_encoder.layers.{}.fc1", "roberta.encoder.layer.{}.intermediate.dense"),
    ("sentence_encoder.layers.{}.fc2", "roberta.encoder.layer.{}.output.dense"),
    ("sentence_encoder.layers.{}.final_layer_norm", "roberta.encoder.layer.{}.output.LayerNorm"),
    ("lm_head.dense", "lm_head.dense"),
    ("lm_head.layer_norm", "lm_head.layer_norm"),
)

# The two tensors that belong to the LM head itself, not to a module in it.
LM_HEAD = (
    ("lm_head.weight", "lm_head.decoder.weight"),
    ("lm_head.bias", "lm_head.bias"),
)

# A classification head's module -> the table's, by the class it becomes.
CLASSIFIERS = {
    "ForSequenceClassification": (("dense", "classifier.dense"), ("out_proj", "classifier.out_proj")),
    "ForMultipleChoice": (("dense", "roberta.pooler.dense"), ("out_proj", "classifier")),  # the ranking head
}

# Current name -> name of older releases: 2020 and before; 2019.
_OLDER = {
    "sentence_encoder.layernorm_embedding.": "sentence_encoder.emb_layer_norm.",
    ".self_attn_layer_norm.": ".layer_norms.0.",
    ".final_layer_norm.": ".layer_norms.1.",
}

# Query, key and value of the files of 2019: one tensor, in this order.
FUSED = ("q_proj", "k_proj", "v_proj")

VERSION = "sentence_encoder.version"  # a constant, 3, of the class that fairseq's encoder is built on

# Not part of RoBERTa, or a constant: left out. data2vec adds the second and third.
DROPPED = (VERSION, "regression_head", "_ema", "sentence_encoder.embed_positions._float_tensor")


@dataclass(frozen=True)
class Spelling:
    """Which of the spellings a file has; kept in config.json as `fairseq`, so that it can be written the same way.

    Attributes:
        outer: the module around the encoder: "decoder" until May 2020.
        has_old_norm: `emb_layer_norm`, until February 2021.
        has_numbered_norms: `layer_norms.0` and `.1` inside a layer.
        is_fused: `in_proj_weight`, until October 2019.
        has_version: the file has the constant `VERSION`.
        form: where the hyperparameters are: `args`, or since 2020 `cfg`.
        head: the name of the classification head.
    """

    outer: Literal["encoder", "decoder"] = "encoder"
    has_old_norm: bool = False
    has_numbered_norms: bool = False
    is_fused: bool = False
    has_version: bool = True
    form: Literal["args", "cfg"] = "cfg"
    head: str = "sentence_classification_head"

    @classmethod
    def from_config(cls, fields: object) -> Spelling:
        """The spelling that config.json holds as `fairseq`, or the default.

        Raises:
            ValueError: another program's field of that name.
        """
        known = {name: type(value) for name, value in asdict(cls()).items()}
        if not isinstance(fields, dict) or any(type(value) is not known.get(name) for name, value in fields.items()):
            raise ValueError(
                f"the config's field fairseq is {str(fields)[:200]}; remove it, or give {', '.join(known)}"
            )
        found = cls(**fields)
        if found.outer not in ("encoder", "decoder") or found.form not in ("args", "cfg") or "." in found.head:
            raise ValueError(f"the config's field fairseq is {str(fields)[:200]}, which describes no file of fairseq")
        return found

    def as_dict(self) -> dict[str, Any]:
        """The fields that differ from the default, and `form`."""
        default = asdict(Spelling())
        return {name: value for name, value in asdict(self).items() if name == "form" or value != default[name]}


def modern(name: str) -> str:
    """fairseq's newest name of a tensor, without `encoder.` or `decoder.`."""
    bare = re.sub(r"^(encoder|decoder)\.", "", name)
    for new, old in _OLDER.items():
        bare = bare.replace(old, new)
    return bare


def spelled_name(name: str, spelling: Spelling) -> str:
    """A name of `modern` in a file of that spelling."""
    used = (spelling.has_old_norm, spelling.has_numbered_norms, spelling.has_numbered_norms)
    for is_old, (new, old) in zip(used, _OLDER.items(), strict=True):
        name = name.replace(new, old) if is_old else name
    return f"{spelling.outer}.{name}"


def to_canonical(name: str) -> str | None:
    """The table's name of a tensor with fairseq's newest name; None for one that the table lacks."""
    return _FORWARD.translate(name)


def to_fairseq(name: str) -> str | None:
    """fairseq's newest name of a tensor of the table; None for one that fairseq lacks."""
    return _BACKWARD.translate(name)


class _Direction:
    """The table in one direction."""

    def __init__(self, column: int) -> None:
        self.modules = {row[column]: row[1 - column] for row in MODULES}
        self.tensors = {row[column]: row[1 - column] for row in LM_HEAD}

    def translate(self, name: str) -> str | None:
        if name in self.tensors:
            return self.tensors[name]
        module, _, leaf = name.rpartition(".")
        number = re.search(r"(?<=\.layers\.)\d+|(?<=\.layer\.)\d+", module)
        index = number[0] if number else ""
        key = module.replace(f".{index}.", ".{}.", 1) if number else module
        found = self.modules.get(key)
        return None if found is None or leaf not in ("weight", "bias") else f"{found.format(index)}.{leaf}"


_FORWARD, _BACKWARD = _Direction(0), _Direction(1)
