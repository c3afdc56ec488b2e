"""Write a KerasHub preset of RoBERTa."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from roberta.common.checkpoint.checkpoint import legacy
from roberta.common.config import CONFIG_FILE, RobertaConfig
from roberta.common.formats import safetensors_file
from roberta.common.formats.file_order import contiguous
from roberta.common.formats.safetensors_file import Source
from roberta.common.storage.folders import CheckpointError, Content
from roberta.conversion.keras_hub import (
    ASSETS,
    EPSILON,
    FIELDS,
    FIRST,
    MODEL,
    OWN_CONFIG,
    OWN_REST,
    OWN_TOKENIZER,
    TASK,
    TASK_CLASSES,
    rows_of,
)  # fmt: skip
from roberta.conversion.keras_hub_names import Row
from roberta.conversion.model import POSITIONS, TYPES, Model, causal_notes, fold_types, refuse, sources

RULES: dict[str, tuple[object, ...]] = {
    "layer_norm_eps": (EPSILON,),
    "hidden_act": ("gelu",),
    "position_embedding_type": ("absolute",),
    "add_cross_attention": (False,),
    "pruned_heads": ({},),
    "tie_word_embeddings": (True,),
}
_MODULES = {
    "RobertaBackbone": "keras_hub.src.models.roberta.roberta_backbone",
    "RobertaMaskedLM": "keras_hub.src.models.roberta.roberta_masked_lm",
    "RobertaTextClassifier": "keras_hub.src.models.roberta.roberta_text_classifier",
    "RobertaTokenizer": "keras_hub.src.models.roberta.roberta_tokenizer",
}


def contents(model: Model) -> tuple[dict[str, Content], list[str]]:
    """The files of a preset by name, and notes.

    Raises:
        CheckpointError: the config has what KerasHub would compute otherwise, or tensors of several dtypes.
    """
    refuse("keras-hub", model.config, RULES)
    dtypes = {tensor.dtype for tensor in model.tensors.values()}
    if len(dtypes) > 1:
        raise CheckpointError(f"{model.source} has tensors of {', '.join(sorted(dtypes))}; choose one with --dtype")
    dtype = dtypes.pop()
    weights, rest, notes = _weights(model)
    backbone = _serialized("RobertaBackbone", _backbone(model.config, dtype))
    files: dict[str, Content] = {CONFIG_FILE: _json(backbone), "metadata.json": _json(_metadata(model))}
    files |= {file: _h5(datasets) for file, datasets in weights.items() if datasets}
    if model.head in TASK_CLASSES:
        files["task.json"] = _json(_task(model, backbone))
    files[OWN_CONFIG] = model.config.to_json_string().encode()
    files[OWN_REST] = safetensors_file.safetensors_pieces(rest)
    return {**files, **_texts(model)}, [*notes, *causal_notes("keras-hub", model.config)]


def _weights(model: Model) -> tuple[dict[str, dict[str, Source]], dict[str, Source], list[str]]:
    """What goes into which h5 file, what KerasHub has no place for, and notes."""
    positions, rest, notes = fold_types(model)
    tensors = {**sources(model.tensors), f"{model.prefix}{POSITIONS}": positions}
    first = model.config.pad_token_id + 1
    weights: dict[str, dict[str, Source]] = {MODEL: {}, TASK: {}}
    for row, file in rows_of(model):
        source = tensors.pop(row.name if file == TASK else f"{model.prefix}{row.name}")
        weights[file][row.path] = (
            _rows(source, first, None) if row.name == POSITIONS else _turned(source, row, model.config)
        )
    tensors.pop(f"{model.prefix}{TYPES}")
    notes += [f"kept beside KerasHub's weights: {name}" for name in tensors]
    return weights, {FIRST: _rows(positions, 0, first), **rest, **tensors}, notes


def _rows(source: Source, start: int, stop: int | None) -> Source:
    shape, dtype, load = source
    count = len(range(*slice(start, stop).indices(shape[0])))
    return (count, *shape[1:]), dtype, lambda: load()[start:stop]


def _turned(source: Source, row: Row, config: RobertaConfig) -> Source:
    """A tensor as KerasHub stores it: dense weights (in, out), heads as an axis of their own."""
    shape, dtype, load = source
    is_turned = row.shape != "same" and len(shape) == 2
    wanted = shape[::-1] if is_turned else shape
    heads = (config.num_attention_heads, config.head_size)
    if row.shape == "heads_in":
        wanted = (*wanted[:-1], *heads)
    elif row.shape == "heads_out":
        wanted = (*heads, *wanted[1:])

    def turned() -> np.ndarray:
        return contiguous(load().T if is_turned else load()).reshape(wanted)

    return wanted, dtype, turned


def _h5(datasets: dict[str, Source]) -> Content:
    legacy("tf")  # names the extra where h5py is missing
    from roberta.common.formats import h5_writer

    def finish(file: Any) -> None:
        for path, (_, dtype, _) in datasets.items():
            if dtype == "bfloat16":
                file[path].attrs["dtype"] = "bfloat16"

    finisher: Callable[[Any], None] = finish
    return h5_writer.h5_pieces(datasets, finisher)


def _backbone(config: RobertaConfig, dtype: str) -> dict[str, Any]:
    policy = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": dtype}, "registered_name": None}
    fields = {theirs: getattr(config, ours) for theirs, ours in FIELDS.items()}
    longest = config.max_length_tokens
    return {"name": "roberta_backbone", "trainable": True, "dtype": policy, **fields, "max_sequence_length": longest}


def _task(model: Model, backbone: dict[str, Any]) -> dict[str, Any]:
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


def _metadata(model: Model) -> dict[str, Any]:
    return {"keras_version": "3.15.0", "keras_hub_version": "0.32.0", "tasks": ["MaskedLM", "TextClassifier"]}


def _texts(model: Model) -> dict[str, Content]:
    """The tokenizer's files where a preset has them."""
    places = {**ASSETS, "tokenizer.json": OWN_TOKENIZER}
    files: dict[str, Content] = {places.get(name, name): content for name, content in model.files.items()}
    if set(ASSETS) <= set(model.files):
        settings = {"name": "roberta_tokenizer", "trainable": True, "config_file": "tokenizer.json"}
        files["tokenizer.json"] = _json(_serialized("RobertaTokenizer", {**settings, "add_prefix_space": False}))
        merges = model.files["merges.txt"].decode().splitlines(keepends=True)
        files[ASSETS["merges.txt"]] = "".join(line for line in merges if not line.startswith("#version")).encode()
    return files


def _serialized(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """An object as Keras writes it to JSON."""
    return {"module": _MODULES[name], "class_name": name, "config": config, "registered_name": f"keras_hub>{name}"}


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=4) + "\n").encode()
