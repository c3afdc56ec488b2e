"""A KerasHub preset of RoBERTa, a folder: config.json, model.weights.h5, and for a task task.json, task.weights.h5.

KerasHub counts positions from 0 (its table lacks RoBERTa's first two rows) and has no token types; what it has no
place for goes into files of our own beside it, which KerasHub does not open: `roberta_config.json`,
`roberta_rest.safetensors` and `roberta_tokenizer.json`. Neither Keras nor KerasHub is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from roberta.common.checkpoint.checkpoint import legacy
from roberta.common.config import CONFIG_FILE, RobertaConfig, read_json
from roberta.common.config_protocol import checked_config
from roberta.common.formats import safetensors_file
from roberta.common.formats.safetensors_file import StoredTensor
from roberta.common.model_types import head_of_class
from roberta.common.parameters import Head
from roberta.common.storage.folders import CheckpointError
from roberta.conversion.keras_hub import names
from roberta.conversion.keras_hub.names import Variable
from roberta.conversion.model import EPSILON, POSITIONS, TYPES, SourceModel, checked_model, unfold_types

MODEL, TASK = "model.weights.h5", "task.weights.h5"
OWN_CONFIG, OWN_REST, OWN_TOKENIZER = "roberta_config.json", "roberta_rest.safetensors", "roberta_tokenizer.json"
ASSETS = {"vocab.json": "assets/tokenizer/vocabulary.json", "merges.txt": "assets/tokenizer/merges.txt"}
PRESET_FILES = (
    MODEL, TASK, "task.json", "metadata.json", "preprocessor.json", OWN_CONFIG, OWN_REST, OWN_TOKENIZER, "assets",
)  # fmt: skip
FIRST = "embeddings.position_embeddings.first_rows"  # in the rest: the rows that KerasHub's table lacks

# Field of KerasHub's backbone -> field of RobertaConfig, both ways.
BACKBONE_FIELDS = {
    "vocabulary_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "dropout": "hidden_dropout_prob",
}
TASK_CLASSES = {"ForMaskedLM": "RobertaMaskedLM", "ForSequenceClassification": "RobertaTextClassifier"}


def is_preset(folder: Path) -> bool:
    """Whether a folder is a preset of KerasHub's RoBERTa."""
    if not (folder / MODEL).is_file() or not (folder / CONFIG_FILE).is_file():
        return False
    return read_json(folder / CONFIG_FILE).get("class_name") == "RobertaBackbone"


def read_preset(folder: Path, *, head: Head | None, files: Mapping[str, bytes]) -> SourceModel:
    """The model of a preset.

    Args:
        head: the head to keep; None for the preset's own.
        files: the texts of the folder; Keras' own tokenizer.json is replaced by RoBERTa's.

    Raises:
        CheckpointError: it is not a preset of RoBERTa, or a variable is missing, unknown or has the wrong shape.
    """
    if not is_preset(folder):
        raise CheckpointError(f"{folder} is not a preset of KerasHub's RoBERTa: it needs {CONFIG_FILE} and {MODEL}")
    task = _object(folder / "task.json") if (folder / "task.json").is_file() else {}
    kind = {name: head_ for head_, name in TASK_CLASSES.items()}.get(task.get("class_name", ""), "Model")
    config = _config(folder, task)
    has_head = any(head_of_class(name) != "Model" for name in config.architectures or ())
    prefix = "" if kind == "Model" and not has_head else "roberta."
    stored = _stored(folder / MODEL, names.backbone(config.num_hidden_layers), config, prefix)
    if kind != "Model":
        stored |= _stored(folder / TASK, names.task(kind), config, "")
    rest = safetensors_file.read_safetensors(folder / OWN_REST) if (folder / OWN_REST).is_file() else {}
    positions = _with_first(config, stored.pop(f"{prefix}{POSITIONS}"), rest.get(FIRST))
    unfolded, notes = unfold_types(prefix, config, positions, rest)
    others = {name: tensor for name, tensor in rest.items() if name not in (FIRST, POSITIONS, TYPES)}
    tensors = {**stored, **unfolded, **others}
    return checked_model(config, tensors, folder, "keras-hub", head=head, files=_texts(folder, files), notes=notes)


def _config(folder: Path, task: Mapping[str, Any]) -> RobertaConfig:
    """The config beside a preset that we wrote, or one made from the backbone's."""
    if (folder / OWN_CONFIG).is_file():
        return checked_config(folder / OWN_CONFIG)[0]
    given = _object(folder / CONFIG_FILE).get("config")
    missing = [
        name for name in (*BACKBONE_FIELDS, "max_sequence_length") if not isinstance(given, dict) or name not in given
    ]
    if missing or not isinstance(given, dict):
        raise CheckpointError(f"{folder / CONFIG_FILE} has no {', '.join(missing)}; it is not a backbone of KerasHub")
    fields = {ours: given[theirs] for theirs, ours in BACKBONE_FIELDS.items()}
    labels = task.get("config", {}).get("num_classes")
    try:
        config = RobertaConfig(
            **fields, attention_probs_dropout_prob=given["dropout"], layer_norm_eps=EPSILON, type_vocab_size=1,
            max_position_embeddings=given["max_sequence_length"] + 2, num_labels=labels,
        )  # fmt: skip
        config.validate()
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE}: {error}") from None
    return config


def _object(file: Path) -> dict[str, Any]:
    found = read_json(file)
    if not isinstance(found.get("config", {}), dict):
        raise CheckpointError(f"{file} is damaged: its config is not an object")
    return found


def _stored(file: Path, rows: list[Variable], config: RobertaConfig, prefix: str) -> dict[str, StoredTensor]:
    """The variables of an h5 file by canonical name, in the shapes of the table."""
    if not file.is_file():
        raise CheckpointError(f"{file} does not exist; the preset is incomplete")
    legacy("tf")  # names the extra where h5py is missing
    from roberta.common.formats import h5_file

    held, found = h5_file.open_h5(file)
    entries = {where: entry for where, entry in found["tensors"].items() if "optimizer" not in where}
    paths = {row.path for row in rows}
    wrong = [f"missing: {path}" for path in sorted(paths - set(entries))]
    wrong += [f"not of this model: {path}" for path in sorted(set(entries) - paths) if not path.startswith("seed_")]
    if wrong:
        raise CheckpointError(f"{file} does not fit its config:\n  " + "\n  ".join(wrong[:40]))
    return {
        f"{prefix}{row.name}": _as_in_table(h5_file.stored_in_h5(held, row.path, entries[row.path]), row, prefix)
        for row in rows
    }


def _as_in_table(tensor: StoredTensor, row: Variable, prefix: str) -> StoredTensor:
    """A variable in the shape of the table: heads and their columns as one axis, dense weights as (out, in)."""
    shape = tensor.shape
    if len(shape) == 3:
        shape = (shape[0], shape[1] * shape[2]) if row.placement == "heads_in" else (shape[0] * shape[1], shape[2])
    elif len(shape) == 2 and row.name.endswith(".bias"):
        shape = (shape[0] * shape[1],)
    is_turned = row.placement != "same" and row.name.endswith(".weight")

    def load() -> np.ndarray:
        values = tensor.load().reshape(shape)
        return values.T if is_turned else values

    return replace(tensor, name=f"{prefix}{row.name}", shape=shape[::-1] if is_turned else shape, load=load, stay=None)


def _with_first(config: RobertaConfig, positions: StoredTensor, first: StoredTensor | None) -> StoredTensor:
    """The position table with the rows before the first token's, zero where they were not kept."""
    count = config.pad_token_id + 1
    if first is not None and (first.shape != (count, *positions.shape[1:]) or first.dtype != positions.dtype):
        raise CheckpointError(
            f"{first.file}: {FIRST} is {list(first.shape)} {first.dtype} and does not fit the positions"
        )

    def load() -> np.ndarray:
        values = positions.load()
        zeros = np.zeros((count, *values.shape[1:]), values.dtype)
        return np.concatenate((zeros if first is None else first.load(), values))

    return replace(positions, shape=(positions.shape[0] + count, *positions.shape[1:]), load=load, stay=None)


def _texts(folder: Path, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The tokenizer's files, those that a preset keeps elsewhere in their usual places."""
    found = {name: content for name, content in files.items() if name != "tokenizer.json"}
    for name, place in (*ASSETS.items(), ("tokenizer.json", OWN_TOKENIZER)):
        if (folder / place).is_file() and name not in found:
            found[name] = (folder / place).read_bytes()
    return found


def rows_of(model: SourceModel) -> Iterator[tuple[Variable, str]]:
    """Each row of a model's two files, and the file."""
    yield from ((row, MODEL) for row in names.backbone(model.config.num_hidden_layers))
    yield from ((row, TASK) for row in names.task(model.head))
