"""KerasHub's paths of RoBERTa's weights beside the canonical names: one table, read in both directions.

Source: presets saved by KerasHub 0.32 on Keras 3.15, listed with h5py. A path ends in `vars/0` (weight) or `vars/1`
(bias); layers are counted as `transformer_encoder`, `transformer_encoder_1`, ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# How values are stored: as in the table; transposed; transposed, with the heads and the columns of a head as two axes,
# on the side of the output ("heads_in": query, key, value) or of the input ("heads_out").
Placement = Literal["same", "dense", "heads_in", "heads_out"]

# model.weights.h5: path -> module of the table, and how its weight is stored.
_EMBEDDINGS: tuple[tuple[str, str, Placement], ...] = (
    ("layers/token_and_position_embedding/token_embedding", "embeddings.word_embeddings", "same"),
    ("layers/token_and_position_embedding/position_embedding", "embeddings.position_embeddings", "same"),
)
_NORM: tuple[tuple[str, str, Placement], ...] = (("layers/layer_normalization", "embeddings.LayerNorm", "same"),)
_LAYER: tuple[tuple[str, str, Placement], ...] = (
    ("_self_attention_layer/query_dense", "attention.self.query", "heads_in"),
    ("_self_attention_layer/key_dense", "attention.self.key", "heads_in"),
    ("_self_attention_layer/value_dense", "attention.self.value", "heads_in"),
    ("_self_attention_layer/output_dense", "attention.output.dense", "heads_out"),
    ("_self_attention_layer_norm", "attention.output.LayerNorm", "same"),
    ("_feedforward_intermediate_dense", "intermediate.dense", "dense"),
    ("_feedforward_output_dense", "output.dense", "dense"),
    ("_feedforward_layer_norm", "output.LayerNorm", "same"),
)

# task.weights.h5, by the class of the model.
_TASKS: dict[str, tuple[tuple[str, str, Placement], ...]] = {
    "ForMaskedLM": (
        ("layers/masked_lm_head/_intermediate_dense", "lm_head.dense", "dense"),
        ("layers/masked_lm_head/_intermediate_layer_norm", "lm_head.layer_norm", "same"),
    ),
    "ForSequenceClassification": (
        ("layers/dense", "classifier.dense", "dense"),
        ("layers/dense_1", "classifier.out_proj", "dense"),
    ),
}
_LM_BIAS = ("layers/masked_lm_head/vars/0", "lm_head.bias")  # a variable of the head itself


@dataclass(frozen=True)
class Variable:
    """One variable: its path in the h5 file, the canonical name without `roberta.`, and how its values are stored."""

    path: str
    name: str
    placement: Placement


def backbone(num_layers: int) -> list[Variable]:
    """The rows of model.weights.h5."""
    rows = [Variable(f"{path}/vars/0", f"{module}.weight", placement) for path, module, placement in _EMBEDDINGS]
    rows += _both(_NORM, "", "")
    for index in range(num_layers):
        layer = "layers/transformer_encoder" + (f"_{index}" if index else "")
        rows += _both(_LAYER, f"{layer}/", f"encoder.layer.{index}.")
    return rows


def task(head: str) -> list[Variable]:
    """The rows of task.weights.h5; none for a class that KerasHub lacks."""
    rows = _both(_TASKS.get(head, ()), "", "")
    return [*rows, Variable(*_LM_BIAS, "same")] if head == "ForMaskedLM" else rows


def _both(modules: tuple[tuple[str, str, Placement], ...], above: str, prefix: str) -> list[Variable]:
    rows = []
    for path, module, placement in modules:
        rows.append(Variable(f"{above}{path}/vars/0", f"{prefix}{module}.weight", placement))
        is_split = placement == "heads_in"  # the bias after the heads is a plain vector
        rows.append(Variable(f"{above}{path}/vars/1", f"{prefix}{module}.bias", "heads_in" if is_split else "same"))
    return rows
