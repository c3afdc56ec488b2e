"""The names of weights files, by format, variant and shard, and the index that lists shards."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path

from roberta.common.storage.folders import CheckpointError

MAX_INDEX = 16 * 2**20  # bytes; the index of a model of 1000 layers has 2 MB

# Format -> stem and suffix of its weights file, best first.
FORMATS = {
    "safetensors": ("model", ".safetensors"),
    "pt": ("pytorch_model", ".bin"),
    "tf": ("tf_model", ".h5"),
    "flax": ("flax_model", ".msgpack"),
}
# Suffix of a weights file of any name -> its format.
WEIGHT_SUFFIXES = {
    ".safetensors": "safetensors", ".bin": "pt", ".pt": "pt", ".pth": "pt", ".ckpt": "pt", ".h5": "tf", ".hdf5": "tf",
    ".msgpack": "flax",
}  # fmt: skip

# Files with such suffixes that hold something else: the states of trainings, adapters, presets of KerasHub.
_NOT_WEIGHTS = re.compile(
    r"(training_args|optimizer|scheduler|scaler|sampler|rng_state|random_states|adapter_model|roberta_rest|opt_state|"
    r"pytorch_lora|openvino).*|.*(optim_states|\.weights)\.\w+"
)
ADAPTER_CONFIG_FILE = "adapter_config.json"  # PEFT's names of an adapter's files; the weights, best first
ADAPTER_WEIGHTS_FILES = ("adapter_model.safetensors", "adapter_model.bin")


def weight_files(format_: str, variant: str | None = None) -> tuple[str, str]:
    """The names of the single file and of the index of a format: model.safetensors, model.safetensors.index.json."""
    stem, suffix = FORMATS[format_]
    mark = "" if variant is None else f".{variant}"
    return f"{stem}{mark}{suffix}", f"{stem}{suffix}.index{mark}.json"


def weights_key(name: str) -> tuple[str, str] | None:
    """(suffix, variant) of a weights file, a shard or an index; None of any other file.

    Files of one key make one checkpoint: model.safetensors, model-00001-of-00002.safetensors and
    model.safetensors.index.json all have (".safetensors", "").
    """
    for stem, suffix in FORMATS.values():
        start, end = re.escape(stem), re.escape(suffix)
        for pattern in (
            rf"{start}(?:\.([\w.-]+?))?(?:-\d+-of-\d+)?{end}",
            rf"{start}{end}\.index(?:\.([\w.-]+))?\.json",
        ):
            found = re.fullmatch(pattern, name)
            if found:
                return suffix, found[1] or ""
    return None


def other_weights(there: Collection[str], formats: Collection[str] | None = None) -> list[str]:
    """The files that may be weights by their suffixes alone, such as last.ckpt.

    Args:
        there: names of files.
        formats: of `FORMATS`; None for all.
    """
    return sorted(
        name
        for name in there
        if WEIGHT_SUFFIXES.get(Path(name).suffix) in (formats or FORMATS)
        and weights_key(name) is None
        and not _NOT_WEIGHTS.fullmatch(name)
    )


def find_weights(place: object, there: Collection[str], formats: Collection[str] | None, variant: str | None) -> str:
    """The weights file or index among the files `there`: that of the first format that has one.

    A file of another name is taken if it is the only one that may be weights.

    Args:
        place: where the files are, for the error.
        formats: of `FORMATS`, best first; None for all.

    Raises:
        CheckpointError: none of them is there; the message lists the weights that are.
    """
    wanted = [name for format_ in formats or FORMATS for name in weight_files(format_, variant)]
    for name in wanted:
        if name in there:
            return name
    others = sorted(name for name in there if weights_key(name) is not None)
    unusual = other_weights(there, formats) if variant is None and not others else []
    if len(unusual) == 1:
        return unusual[0]
    if unusual:
        raise CheckpointError(
            f"{place} has none of {', '.join(wanted)}; of {', '.join(unusual)} any may be the weights: give the file"
        )
    has = f"{', '.join(others)}; check variant, use_safetensors and from_*" if others else "no weights"
    raise CheckpointError(f"{place} has none of {', '.join(wanted)}; it has {has}")


def read_index(index: Path, suffix: str = "") -> dict[str, str]:
    """Tensor -> shard, as an index says; shards are files beside it, never elsewhere.

    Args:
        suffix: the suffix that every shard must have.

    Raises:
        CheckpointError: it is not an index, or names a file that is not beside it.
    """
    if index.stat().st_size > MAX_INDEX:
        raise CheckpointError(f"{index} is too large for an index")
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards = set(places.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        shards = set()
    if not shards:
        raise CheckpointError(f'{index} is not an index of shards: it needs {{"weight_map": {{tensor: file}}}}')
    for shard in shards:
        if not isinstance(shard, str) or not _is_plain_name(shard) or not shard.endswith(suffix):
            kind = f"a {suffix} file" if suffix else "a file"
            raise CheckpointError(f"{index} names {shard!r}, which is not {kind} beside it; it is not opened")
    return dict(places)


def _is_plain_name(name: str) -> bool:
    """Whether a name is of a file in the same folder, and not a path."""
    is_short = len(name.encode("utf-8", "replace")) <= 255  # what file systems take
    return is_short and name not in ("", ".", "..") and not re.search(r"[/\\\0:]", name)
