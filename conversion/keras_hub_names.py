"""KerasHub's paths of RoBERTa's weights beside the canonical names: one table, read in both directions.

Source: presets saved by KerasHub 0.32 on Keras 3.15, listed with h5py. A path ends in `vars/0` (weight) or `vars/1`
(bias); layers are counted as `transformer_encoder`, `transformer_encoder_1`, ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# How values lie there: as in the table; transposed; transposed, with heads and columns of a head as two axes, the
# second of these where they come in ("in": query, key, value) or go out ("out").
Shape = Literal["same", "dense", "heads_in", "heads_out"]

# model.weights.h5: path -> module of the table, and how its weight lies.
EMBEDDINGS: tuple[tuple[str, str, Shape], ...] = (
    ("layers/token_and_position_embedding/token_embedding", "embeddings.word_embeddings", "same"),
    ("layers/token_and_position_embedding/position_embedding", "embeddings.position_embeddings", "same"),
)
NORM: tuple[tuple[str, str, Shape], ...] = (("layers/layer_normalization", "embeddings.LayerNorm", "same"),)
LAYER: tuple[tuple[str, str, Shape], ...] = (
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
TASKS: dict[str, tuple[tuple[str, str, Shape], ...]] = {
    "ForMaskedLM": (
        ("layers/masked_lm_head/_intermediate_dense", "lm_head.dense", "dense"),
        ("layers/masked_lm_head/_intermediate_layer_norm", "lm_head.layer_norm", "same"),
    ),
    "ForSequenceClassification": (
        ("layers/dense", "classifier.dense", "dense"),
        ("layers/dense_1", "classifier.out_proj", "dense"),
    ),
}
LM_BIAS = ("layers/masked_lm_head/vars/0", "lm_head.bias")  # a variable of the head's own


@dataclass(frozen=True)
class Row:
    """One variable: its path in the h5 file, the canonical name without `roberta.`, and how its values lie."""

    path: str
    name: str
    shape: Shape


def backbone(num_layers: int) -> list[Row]:
    """The rows of model.weights.h5."""
    rows = [Row(f"{path}/vars/0", f"{module}.weight", shape) for path, module, shape in EMBEDDINGS]
    rows += _both(NORM, "", "")
    for index in range(num_layers):
        layer = "layers/transformer_encoder" + (f"_{index}" if index else "")
        rows += _both(LAYER, f"{layer}/", f"encoder.layer.{index}.")
    return rows


def task(head: str) -> list[Row]:
    """The rows of task.weights.h5; none for a class that KerasHub has not."""
    rows = _both(TASKS.get(head, ()), "", "")
    return [*rows, Row(*LM_BIAS, "same")] if head == "ForMaskedLM" else rows


def _both(modules: tuple[tuple[str, str, Shape], ...], above: str, prefix: str) -> list[Row]:
    rows = []
    for path, module, shape in modules:
        rows.append(Row(f"{above}{path}/vars/0", f"{prefix}{module}.weight", shape))
        is_split = shape == "heads_in"  # the bias of what goes out of the heads is a plain vector
        rows.append(Row(f"{above}{path}/vars/1", f"{prefix}{module}.bias", "heads_in" if is_split else "same"))
    return rows
