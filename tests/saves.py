"""Saves for the fault tests, in two versions that differ in every value, and checks of what is left afterwards.

In version 1, every tensor and the config's `initializer_range` are 1; in version 2, they are 2. Files are compared byte
by byte with those of an undisturbed save, and are then read.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np

from roberta.common.storage.folders import write_folder
from roberta.common.training.optimizer_state import Group, TrainingState, load_training_state, save_training_state
from roberta.conversion import convert
from roberta.conversion.formats import ALL, SourceOptions, read_model

VERSIONS = (1, 2)
SHARD = "50kB"
SIZES = {"vocab_size": 500, "hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4}
CLASSES = {"pt": "RobertaForMaskedLM", "tf": "TFRobertaForMaskedLM", "flax": "FlaxRobertaForMaskedLM"}
SHARDED = ("safetensors", "pt", "tf", "flax")

# Save a version into a folder.
Save = Callable[[Path, int], None]


@dataclass(frozen=True)
class Kind:
    """One way to save: the writer and its arguments.

    Attributes:
        framework: "files" (write_folder alone), "convert", or the framework whose save_pretrained it is.
    """

    framework: str
    name: str
    options: Mapping[str, Any]


def _of_framework(name: str) -> list[Kind]:
    return [
        Kind(name, f"{'safetensors' if is_safe else 'older format'}{', shards' if size == SHARD else ''}",
             {"safe_serialization": is_safe, "max_shard_size": size})
        for is_safe in (True, False) for size in ("5GB", SHARD)
    ]  # fmt: skip


KINDS: dict[str, list[Kind]] = {
    "files": [Kind("files", "one file", {"count": 1}), Kind("files", "three files", {"count": 3})],
    "convert": [
        *(Kind("convert", name, {"to": name}) for name in ALL),
        *(Kind("convert", f"{name}, shards", {"to": name, "max_shard_size": SHARD}) for name in SHARDED),
    ],
    **{name: _of_framework(name) for name in CLASSES},
}


def make_sources(folder: Path) -> dict[int, Path]:
    """Both versions as checkpoints with a training state and a text beside them."""
    for version in VERSIONS:
        config = checkpoints.small_config("ForMaskedLM", initializer_range=float(version), **SIZES)
        drawn = checkpoints.draw(config, "ForMaskedLM")
        tensors = {name: np.full_like(array, version) for name, array in drawn.items()}
        source = checkpoints.save(folder / str(version), config, tensors, "float32")
        write_folder(source, {"generation_config.json": f'{{"max_length": {version}}}\n'.encode()})
        moments = {f"{kind}.lm_head.bias": tensors["lm_head.bias"] for kind in ("exp_avg", "exp_avg_sq")}
        group = Group(1e-3, 0.9, 0.999, 1e-8, 0.0, ("lm_head.bias",))
        save_training_state(source, TrainingState(version, moments, (group,), str(source)))
    return {version: folder / str(version) for version in VERSIONS}


def import_framework(name: str) -> None:
    """Import what a save of a framework needs, without using it: a process that has used it must not fork."""
    if name in CLASSES:
        importlib.import_module(f"roberta.{name}.models")


def saver(kind: Kind, sources: Mapping[int, Path]) -> Save:
    """The function that saves; it loads the models of a framework."""
    if kind.framework == "files":
        names = ["a", "b", "c"][: kind.options["count"]]
        return lambda target, version: write_folder(target, dict.fromkeys(names, bytes([version]) * 30_000))
    if kind.framework == "convert":
        return lambda target, version: _convert(sources[version], target, kind)
    loaded = getattr(importlib.import_module("roberta"), CLASSES[kind.framework])
    models = {version: loaded.from_pretrained(source) for version, source in sources.items()}
    return lambda target, version: models[version].save_pretrained(target, **kind.options)


def _convert(source: Path, target: Path, kind: Kind) -> None:
    convert(source, target, overwrite=True, progress=False, **kind.options)


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder, by path, except those that a writer hides."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def litter(target: Path) -> list[str]:
    """Files that a killed writer has left beside a folder and in it."""
    inside = [path.name for path in target.iterdir() if path.name.startswith(".")] if target.is_dir() else []
    return [path.name for path in target.parent.iterdir() if path.name.startswith(f".{target.name}.")] + inside


def found(kind: Kind, target: Path, whole: Mapping[int, Mapping[str, bytes]]) -> int | str:
    """The version in a folder, if it is complete and readable; otherwise a description of what is there.

    Args:
        whole: version -> the files of an undisturbed save.
    """
    if not target.is_dir():
        return "lost"
    there = contents(target)
    version = next((version for version, files in whole.items() if files == there), None)
    if version is None:
        return f"mixed: {sorted(there)}"
    if kind.framework == "files":
        return version
    try:
        seen = versions_read(target)
    except Exception as error:  # whatever the error is, the folder cannot be read
        return f"unreadable: {type(error).__name__}: {error}"
    return version if seen == {version} else f"mixed: version {version} by its bytes, {seen} when read"


def versions_read(folder: Path) -> set[float]:
    """The versions of the tensors, the config and the training state that a folder has: one, when it is whole."""
    model = read_model(folder, None, SourceOptions())
    # what a format has no place for, such as fairseq's token types, is made when it is read
    numbers = {float(number) for tensor in model.tensors.values() for number in np.unique(tensor.load())}
    if model.format not in ("fairseq", "keras-hub"):  # these formats have no initializer_range
        numbers.add(model.config.initializer_range)
    if (folder / "optimizer.json").is_file():
        numbers.add(float(load_training_state(folder).step))
    return numbers
