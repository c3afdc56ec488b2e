"""Write a KerasHub preset of RoBERTa."""

from __future__ import annotations

from typing import Any

import numpy as np

from roberta.common.checkpoint.checkpoint import legacy
from roberta.common.config import CONFIG_FILE, RobertaConfig
from roberta.common.formats import safetensors_file
from roberta.common.formats.file_order import contiguous
from roberta.common.formats.safetensors_file import Source
from roberta.common.storage.folders import CheckpointError, Content
from roberta.conversion.keras_hub.names import Variable
from roberta.conversion.keras_hub.reader import (
    ASSETS,
    BACKBONE_FIELDS,
    FIRST,
    MODEL,
    OWN_CONFIG,
    OWN_REST,
    OWN_TOKENIZER,
    TASK,
    TASK_CLASSES,
    rows_of,
)  # fmt: skip
from roberta.conversion.model import (
    POSITIONS,
    TYPES,
    SourceModel,
    as_json,
    causal_notes,
    fold_types,
    refuse_config,
    sources,
)

_RULES: dict[str, tuple[object, ...]] = {
    "hidden_act": ("gelu",),
    "tie_word_embeddings": (True,),
}
_MODULES = {
    "RobertaBackbone": "keras_hub.src.models.roberta.roberta_backbone",
    "RobertaMaskedLM": "keras_hub.src.models.roberta.roberta_masked_lm",
    "RobertaTextClassifier": "keras_hub.src.models.roberta.roberta_text_classifier",
    "RobertaTokenizer": "keras_hub.src.models.roberta.roberta_tokenizer",
}
_METADATA = {"keras_version": "3.15.0", "keras_hub_version": "0.32.0", "tasks": ["MaskedLM", "TextClassifier"]}


def contents(model: SourceModel) -> tuple[dict[str, Content], list[str]]:
    """The files of a preset by name, and notes.

    Raises:
        CheckpointError: KerasHub would compute something else with this config, or the tensors have several dtypes.
    """
    refuse_config("keras-hub", model.config, _RULES)
    dtypes = {tensor.dtype for tensor in model.tensors.values()}
    if len(dtypes) > 1:
        raise CheckpointError(f"{model.source} has tensors of {', '.join(sorted(dtypes))}; choose one with --dtype")
    dtype = dtypes.pop()
    weights, rest, notes = _weights(model)
    backbone = _serialized("RobertaBackbone", _backbone(model.config, dtype))
    files: dict[str, Content] = {CONFIG_FILE: as_json(backbone, 4), "metadata.json": as_json(_METADATA, 4)}
    files |= {file: _h5(datasets) for file, datasets in weights.items() if datasets}
    if model.head in TASK_CLASSES:
        files["task.json"] = as_json(_task(model, backbone), 4)
    files[OWN_CONFIG] = model.config.to_json_string().encode()
    files[OWN_REST] = safetensors_file.safetensors_pieces(rest)
    return {**files, **_texts(model)}, [*notes, *causal_notes("keras-hub", model.config)]


def _weights(model: SourceModel) -> tuple[dict[str, dict[str, Source]], dict[str, Source], list[str]]:
    """The tensors of each h5 file, those that KerasHub has no place for, and notes."""
    positions, rest, notes = fold_types(model)
    tensors = {**sources(model.tensors), f"{model.prefix}{POSITIONS}": positions}
    first = model.config.pad_token_id + 1
    weights: dict[str, dict[str, Source]] = {MODEL: {}, TASK: {}}
    for row, file in rows_of(model):
        source = tensors.pop(row.name if file == TASK else f"{model.prefix}{row.name}")
        weights[file][row.path] = (
            _rows(source, first, None) if row.name == POSITIONS else _as_in_preset(source, row, model.config)
        )
    tensors.pop(f"{model.prefix}{TYPES}")
    notes += [f"kept beside KerasHub's weights: {name}" for name in tensors]
    return weights, {FIRST: _rows(positions, 0, first), **rest, **tensors}, notes


def _rows(source: Source, start: int, stop: int | None) -> Source:
    shape, dtype, load = source
    count = len(range(*slice(start, stop).indices(shape[0])))
    return (count, *shape[1:]), dtype, lambda: load()[start:stop]


def _as_in_preset(source: Source, row: Variable, config: RobertaConfig) -> Source:
    """A tensor as KerasHub stores it: dense weights (in, out), heads as an axis of their own."""
    shape, dtype, load = source
    is_turned = row.placement != "same" and len(shape) == 2
    wanted = shape[::-1] if is_turned else shape
    heads = (config.num_attention_heads, config.head_size)
    if row.placement == "heads_in":
        wanted = (*wanted[:-1], *heads)
    elif row.placement == "heads_out":
        wanted = (*heads, *wanted[1:])

    def turned() -> np.ndarray:
        return contiguous(load().T if is_turned else load()).reshape(wanted)

    return wanted, dtype, turned


def _h5(datasets: dict[str, Source]) -> Content:
    legacy("tf")  # names the extra where h5py is missing
    from roberta.common.formats import h5_writer

    def mark_bfloat16(file: Any) -> None:
        for path, (_, dtype, _) in datasets.items():
            if dtype == "bfloat16":
                file[path].attrs["dtype"] = "bfloat16"

    return h5_writer.h5_pieces(datasets, mark_bfloat16)


def _backbone(config: RobertaConfig, dtype: str) -> dict[str, Any]:
    policy = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": dtype}, "registered_name": None}
    fields = {theirs: getattr(config, ours) for theirs, ours in BACKBONE_FIELDS.items()}
    longest = config.max_length_tokens
    return {"name": "roberta_backbone", "trainable": True, "dtype": policy, **fields, "max_sequence_length": longest}


def _task(model: SourceModel, backbone: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {"backbone": backbone, "preprocessor": None}
    if model.head == "ForSequenceClassification":
        config |= {
            "name": "roberta_text_classifier",
            "num_classes": model.config.num_labels,
            "activation": "linear",
            "hidden_dim": model.config.hidden_size,
            "dropout": model.config.head_dropout,
        }
    else:
        config["name"] = "roberta_masked_lm"
    return _serialized(TASK_CLASSES[model.head], config)


def _texts(model: SourceModel) -> dict[str, Content]:
    """The tokenizer's files, each in its place in a preset."""
    places = {**ASSETS, "tokenizer.json": OWN_TOKENIZER}
    files: dict[str, Content] = {places.get(name, name): content for name, content in model.files.items()}
    if set(ASSETS) <= set(model.files):
        settings = {"name": "roberta_tokenizer", "trainable": True, "config_file": "tokenizer.json"}
        files["tokenizer.json"] = as_json(_serialized("RobertaTokenizer", {**settings, "add_prefix_space": False}), 4)
        merges = model.files["merges.txt"].decode().splitlines(keepends=True)
        files[ASSETS["merges.txt"]] = "".join(line for line in merges if not line.startswith("#version")).encode()
    return files


def _serialized(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """An object as Keras writes it to JSON."""
    return {"module": _MODULES[name], "class_name": name, "config": config, "registered_name": f"keras_hub>{name}"}
