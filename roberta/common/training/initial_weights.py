"""The weights that a training starts from: those of a checkpoint, or new ones, the same in all three frameworks."""

from __future__ import annotations

import os
import socket
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from shutil import rmtree

import numpy as np

from roberta.common.checkpoint.checkpoint import open_checkpoint, save_checkpoint
from roberta.common.checkpoint.loading import open_pretrained
from roberta.common.config import CONFIG_FILE, RobertaConfig
from roberta.common.config_protocol import checked_config
from roberta.common.formats.safetensors_file import Source, StoredTensor, numpy_dtype
from roberta.common.parameters import HEAD_PARTS, Head, Parameter, parameters
from roberta.common.storage.folders import CheckpointError
from roberta.common.storage.hub import local_checkpoint
from roberta.common.storage.names import other_weights
from roberta.common.training.part_checkpoints import parts_of


def is_config(model: str | Path) -> bool:
    """Whether a path has only a config, so that all weights are new."""
    path = Path(model)
    if path.is_dir():
        if parts_of(path) is not None:
            raise CheckpointError(
                f"{path} is a checkpoint in parts, which only the training that wrote it reads: resume that one, or give "
                "its last checkpoint, or its folder once it is over"
            )
        try:
            open_checkpoint(path)
        except CheckpointError:
            return (path / CONFIG_FILE).is_file() and not any(
                file.suffix in (".safetensors", ".bin", ".h5", ".msgpack") or other_weights([file.name])
                for file in path.iterdir()
            )
        return False
    return path.suffix == ".json" and not path.name.endswith(".index.json")


def open_config(model: str | Path) -> RobertaConfig:
    """The config of a model, which may be its file, a folder, a weights file beside it, or a name on the hub."""
    path = Path(model)
    if is_config(model) and path.is_file():
        return checked_config(path)[0]
    return checked_config(path.parent if path.is_file() else path if path.is_dir() else local_checkpoint(str(model)))[0]


def initial_value(parameter: Parameter, config: RobertaConfig, seed: int) -> np.ndarray:
    """Weights N(0, initializer_range), norms 1, biases 0, padding rows 0, in float64.

    What is drawn depends only on the seed and the parameter's name.
    """
    if parameter.kind not in ("dense", "embedding"):
        return np.full(parameter.shape, 1.0 if parameter.kind == "norm" else 0.0)
    generator = np.random.default_rng((seed, zlib.crc32(parameter.name.encode())))
    values = generator.normal(0.0, config.initializer_range, parameter.shape)
    if parameter.name.endswith(("word_embeddings.weight", "position_embeddings.weight")):
        values[config.pad_token_id] = 0.0
    return values


@contextmanager
def initial_weights(
    model: str | Path,
    head: Head,
    config: RobertaConfig,
    *,
    seed: int,
    dtype: str,
    beside: Path,
    is_new_head: bool = False,
    is_first: bool = True,
) -> Iterator[tuple[str | Path, list[str]]]:
    """A folder or name that `from_pretrained` can read inside the block, and the names of the weights that are new.

    Args:
        model: folder, weights file or name on the hub; or only a config, whose weights are all new.
        config: of the model to be trained, with its own labels.
        dtype: of new weights.
        beside: a folder that can be written: if a weight is new, it holds a checkpoint until the block ends.
        is_new_head: initialise what the model has for each label, because the labels have other names.
        is_first: of the processes that train together, which start together, each from its own folder.

    Raises:
        CheckpointError: the weights do not fit the config. A classifier for another number of labels is initialised.
    """
    table = parameters(config, head)
    found = {} if is_config(model) else _found(model, head, config)
    of_labels = _of_labels(head, config) if is_new_head else set()
    new = [name for name in table if name not in found or name in of_labels]
    if not new:
        yield model, []
        return
    own = os.environ.get("RANK", f"{socket.gethostname()}-{os.getpid()}")  # RANK is torchrun's
    place = beside / (".start.tmp" if is_first else f".start-{own}.tmp")
    rmtree(place, ignore_errors=True)
    tensors: dict[str, Source] = {
        name: (tensor.shape, tensor.dtype, tensor.load)
        for name, tensor in found.items()
        if name in table and name not in new
    }
    tensors |= {name: (table[name].shape, dtype, partial(_drawn, table[name], config, seed, dtype)) for name in new}
    try:
        save_checkpoint(place, {CONFIG_FILE: config.to_json_string()}, tensors)
        yield place, new
    finally:
        rmtree(place, ignore_errors=True)


def _of_labels(head: Head, config: RobertaConfig) -> set[str]:
    """The parameters with a part for each label: those that would be larger with one more label."""
    more = type(config).from_dict(config.to_dict(), num_labels=config.num_labels + 1)
    larger = parameters(more, head)
    return {name for name, parameter in parameters(config, head).items() if parameter.shape != larger[name].shape}


def _drawn(parameter: Parameter, config: RobertaConfig, seed: int, dtype: str) -> np.ndarray:
    return initial_value(parameter, config, seed).astype(numpy_dtype(dtype))


def _found(model: str | Path, head: Head, config: RobertaConfig) -> Mapping[str, StoredTensor]:
    """The tensors of a checkpoint that fit; only those of a head may have another shape."""
    opened = open_pretrained(model, head, config=config, ignore_mismatched_sizes=True)
    wrong = [
        f"{name} is {list(stored)} in the file and {list(wanted)} by the config"
        for name, stored, wanted in opened.report.mismatched
        if name.partition(".")[0] not in HEAD_PARTS or name.startswith("lm_head")
    ]
    if wrong:
        raise CheckpointError(f"{model} does not fit its config:\n  " + "\n  ".join(wrong))
    return opened.match.found
