"""Checkpoints: find the weights of a folder, read them by canonical name, match them with a model, and save them.

`model.safetensors` is the format of all three families. The older file of each framework has a module of its own in
`roberta.common.formats`, which is imported when a file needs it. No code in a file is ever run.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from roberta.common.adapters.lora_adapter import LoraAdapter
from roberta.common.checkpoint import older_names
from roberta.common.checkpoint.name_rules import misfit_lines
from roberta.common.checkpoint.wrappers import unwrapped
from roberta.common.dtype_names import FLOAT_DTYPES
from roberta.common.formats import safetensors_file
from roberta.common.formats.safetensors_file import Source, StoredTensor, size_of
from roberta.common.parameters import HEAD_PARTS, Parameter
from roberta.common.storage.folders import CheckpointError, Content, NoFitError, write_folder
from roberta.common.storage.held_files import read_one_save
from roberta.common.storage.names import (
    ADAPTER_CONFIG_FILE,
    FORMATS,
    WEIGHT_SUFFIXES,
    find_weights,
    read_index,
    weight_files,
)

_FORMAT_MODULES = {"pt": "torch_bin", "tf": "tf_h5", "flax": "flax_msgpack"}
_EXTRAS = {"h5py": "legacy", "msgpack": "legacy"}


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a checkpoint, by PyTorch's names and in PyTorch's shapes, spelled as the file spells them.

    Attributes:
        remarks: where in the file they were found, for the user.
    """

    source: Path
    tensors: Mapping[str, StoredTensor]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoadReport:
    """Which tensors of a model were not in its checkpoint, and the other way round.

    Attributes:
        missing: parameters that are not in the checkpoint; they are newly initialised.
        unexpected: tensors that this class does not use (another head's).
        mismatched: (name, shape in the file, shape in the model) of what is newly initialised because shapes differ.
        notes: names that were spelled in another way.
        unused: tensors outside of the prefix that the others have; they are among the unexpected ones.
        remarks: where in the file the tensors are, and what was removed from their names.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    notes: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def message(self, class_name: str) -> str:
        """A few lines for the user; empty when everything was found."""
        lines = []
        if self.missing:
            lines.append(f"{class_name}: new, as the checkpoint does not have them: {', '.join(self.missing)}")
        lines += [
            f"{class_name}: new, as the shapes did not match: {name} is {list(stored)} in the checkpoint and "
            f"{list(wanted)} in the model"
            for name, stored, wanted in self.mismatched
        ]
        if lines:
            lines.append("Train the model before you use it for predictions.")
        return "\n".join([*lines, *(f"{class_name}: {note}" for note in self.notes if "differ" in note)])


@dataclass(frozen=True)
class Match:
    """A stored tensor for each parameter of a model but those in `report`."""

    found: Mapping[str, StoredTensor]
    report: LoadReport


# -- finding and reading ------------------------------------------------------------------------------------------


def open_checkpoint(
    path: str | Path, *, variant: str | None = None, formats: tuple[str, ...] | None = None
) -> Checkpoint:
    """The checkpoint in a folder, or the one that a weights file or an index is; all its files are of one save.

    Args:
        variant: the mark in `model.fp16.safetensors`.
        formats: the formats to look for, best first; by default all of `FORMATS`.

    Raises:
        CheckpointError: it is missing or damaged; the message names the file and the way out.
    """
    return read_one_save(Path(path), lambda: open_once(Path(path), variant=variant, formats=formats))


def open_once(file: Path, *, variant: str | None = None, formats: tuple[str, ...] | None = None) -> Checkpoint:
    """As `open_checkpoint`, for a caller that reads other files too and ensures that all are of one save."""
    if file.is_dir():
        names = {entry.name for entry in os.scandir(file) if entry.is_file()}
        file = file / find_weights(file, names, formats, variant)
    elif not file.is_file():
        raise CheckpointError(f"{file} does not exist")
    remarks: list[str] = []
    tensors = _read_index(file) if file.suffix == ".json" else _read_file(file, remarks)
    return Checkpoint(file, tensors, tuple(remarks))


def _read_file(file: Path, remarks: list[str]) -> dict[str, StoredTensor]:
    """The tensors of one file.

    Args:
        remarks: gets what a user should know of where they lie in it.
    """
    format_ = WEIGHT_SUFFIXES.get(file.suffix)
    if format_ is None:
        raise CheckpointError(
            f"{file} is not of a known format; the suffix must be one of {', '.join(WEIGHT_SUFFIXES)}"
        )
    reader = None if format_ == "safetensors" else legacy(format_)
    tensors = safetensors_file.read_safetensors(file) if reader is None else reader.read_tensors(file, remarks)
    if not tensors:
        raise CheckpointError(f"{file} holds no tensors; save the model again")
    flavour = _flavour(tensors) if reader is None else format_
    return tensors if flavour is None else _to_canonical(tensors, legacy(flavour))


def _flavour(tensors: Mapping[str, StoredTensor]) -> str | None:
    """Whose names a safetensors file has: "tf", "flax", or None for the canonical ones."""
    if any("/" in name and name.endswith(":0") for name in tensors):
        return "tf"
    if any(name.endswith((".kernel", ".embedding", ".scale")) for name in tensors):
        return "flax"
    return None


def _to_canonical(tensors: Mapping[str, StoredTensor], reader: ModuleType) -> dict[str, StoredTensor]:
    """Tensors under PyTorch's names and in its shapes."""
    result: dict[str, StoredTensor] = {}
    for native, tensor in tensors.items():
        name, transposed = reader.canonical_name(native)
        if name in result:
            raise CheckpointError(f"{tensor.file} has {name} twice, once as {native}")
        result[name] = _turned(tensor, name) if transposed else dataclasses.replace(tensor, name=name)
    return result


def _turned(tensor: StoredTensor, name: str) -> StoredTensor:
    load = tensor.load
    return StoredTensor(name, tensor.shape[::-1], tensor.dtype, tensor.file, lambda: load().T)


def legacy(format_: str) -> ModuleType:
    """The module that knows a framework's older format; `CheckpointError` names the extra for a package it lacks."""
    try:
        return importlib.import_module(f"roberta.common.formats.{_FORMAT_MODULES[format_]}")
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(error.name or "")
        if extra is None:
            raise
        raise CheckpointError(
            f"{''.join(FORMATS[format_])} needs {error.name}, which is not installed; pip install 'roberta[{extra}]'"
        ) from error


def _read_index(index: Path) -> dict[str, StoredTensor]:
    """The tensors of all shards that an index names."""
    listed = Counter(read_index(index).values())
    result: dict[str, StoredTensor] = {}
    for shard in sorted(listed):
        file = index.parent / shard
        if not file.is_file():
            raise CheckpointError(f"{index} names {shard}, which is not in {index.parent}; fetch the missing shard")
        for name, tensor in _read_file(file, []).items():
            if name in result:
                raise CheckpointError(f"{name} is in both {result[name].file} and {file}")
            result[name] = tensor
    held = Counter(tensor.file.name for tensor in result.values())
    for shard, count in listed.items():
        if held[shard] < count:
            raise CheckpointError(f"{index} lists {count} tensors in {shard}, which holds {held[shard]}")
    return result


# -- matching -----------------------------------------------------------------------------------------------------


def match(
    table: Mapping[str, Parameter],
    checkpoint: Checkpoint,
    *,
    ignore_mismatched_sizes: bool = False,
    may_drop_layers: bool = False,
    may_be_partial: bool = False,
    is_reported: bool = False,
    adapter: LoraAdapter | None = None,
    adapted_dtype: str | None = None,
) -> Match:
    """Pair every parameter of a model with a tensor of a checkpoint.

    A head may be new, or another head's may be left over; the encoder must fit exactly.

    Args:
        ignore_mismatched_sizes: report what has another shape, and leave it new, instead of raising.
        may_drop_layers: tensors of more layers than the model has are left over, not wrong.
        may_be_partial: report whatever is missing or left over, of the encoder too, instead of raising; where nothing
            of the model is there, it is an error all the same.
        is_reported: the caller is given the report, so that missing and left over tensors are not errors.
        adapter: merged into the tensors, each when it is loaded.
        adapted_dtype: of what the adapter changes; None for the dtype of the checkpoint.

    Raises:
        NoFitError: one error that lists every tensor that is missing, left over or of the wrong shape.
        CheckpointError: the names have more than one prefix.
    """
    # the tensors of this model alone, by the names of the table
    has_prefix = any(name.startswith("roberta.") for name in table)
    inner = unwrapped(checkpoint.source, checkpoint.tensors, table)
    tensors, notes = older_names.canonical(inner.tensors, has_prefix=has_prefix)
    _tie(table, tensors, notes)
    # the adapter into the tensors, before they are compared with the table
    if adapter is not None:
        tensors = adapter.fitted(table).merged(tensors, adapted_dtype)
    # what does not pair off
    missing = [name for name in table if name not in tensors]
    unexpected = [name for name in tensors if name not in table]
    mismatched = [
        (name, tensors[name].shape, parameter.shape)
        for name, parameter in table.items()
        if name in tensors and tensors[name].shape != parameter.shape
    ]
    may_be_partial = is_reported or (may_be_partial and any(name in tensors for name in table))
    unpaired = [f"missing: {n} {list(table[n].shape)}" for n in missing if not _may_be_new(n, has_prefix)]
    unpaired += [f"not of this model: {name}" for name in unexpected if not _may_be_left(name, may_drop_layers)]
    wrong = [] if may_be_partial else list(unpaired)
    if not ignore_mismatched_sizes:
        wrong += [
            f"{name} is {list(stored)} in the file and {list(wanted)} by the config"
            + ("" if _is_encoder(name) else " (ignore_mismatched_sizes=True makes it new)")
            for name, stored, wanted in mismatched
        ]
    wrong += [f"{t.name} has dtype {t.dtype}" for n, t in tensors.items() if n in table and t.dtype not in FLOAT_DTYPES]
    if wrong:  # then all else that is not as it should be, too
        wrong += unpaired if may_be_partial else []
        heads = [name for name in missing if _may_be_new(name, has_prefix)]
        wrong += [f"missing, and would be new: {name} {list(table[name].shape)}" for name in heads]
        wrong += [f"left over: {name}" for name in unexpected if _may_be_left(name, may_drop_layers)]
        wrong = [*misfit_lines(checkpoint.source, checkpoint.tensors, tensors, table), *wrong]
        raise NoFitError(f"{checkpoint.source} does not fit the config:\n  " + "\n  ".join(wrong))
    new = {name for name, _, _ in mismatched}
    found = {name: tensors[name] for name in table if name in tensors and name not in new}
    left = (*unexpected, *inner.unused)
    remarks = (*checkpoint.remarks, *inner.remarks)
    return Match(found, LoadReport(tuple(missing), left, tuple(mismatched), tuple(notes), inner.unused, remarks))


def _tie(table: Mapping[str, Parameter], tensors: dict[str, StoredTensor], notes: list[str]) -> None:
    """Make one matrix of the word embedding and the LM head's, or two, as the table has one or two."""
    words, decoder = "roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight"
    if "lm_head.bias" not in table:
        return
    if decoder in table:
        if decoder not in tensors and words in tensors:
            notes.append(f"{decoder} is missing; the word embedding takes its place")
            tensors[decoder] = tensors[words]
    elif decoder in tensors:
        matrix = tensors.pop(decoder)
        if words not in tensors:
            notes.append(f"the word embedding is missing; {decoder} takes its place")
            tensors[words] = dataclasses.replace(matrix, name=words)
        elif not older_names.same(matrix, tensors[words]):
            notes.append(
                f"{decoder} and the word embedding differ; the word embedding was taken for both "
                "(tie_word_embeddings=False keeps both)"
            )


def _is_encoder(name: str) -> bool:
    return name.removeprefix("roberta.").partition(".")[0] not in HEAD_PARTS


def _may_be_new(name: str, has_prefix: bool) -> bool:
    if has_prefix and not name.startswith("roberta."):
        return True
    return not _is_encoder(name) or ".crossattention." in name  # an encoder that becomes a decoder


def _may_be_left(name: str, may_drop_layers: bool) -> bool:
    bare = name.removeprefix("roberta.")
    return bare.partition(".")[0] not in ("embeddings", "encoder") or (
        may_drop_layers and bare.startswith("encoder.layer.")
    )


# -- saving -------------------------------------------------------------------------------------------------------


def save_checkpoint(
    folder: str | Path,
    texts: Mapping[str, str],
    tensors: Mapping[str, Source],
    *,
    max_shard_size: int | str = "5GB",
    variant: str | None = None,
    legacy: ModuleType | None = None,
) -> None:
    """Write texts and weights into a folder, all or nothing; older weights there go.

    Args:
        texts: file name -> content, such as config.json.
        tensors: by canonical name, in PyTorch's shapes.
        max_shard_size: bytes, or a text such as "500MB" (of 1000s); larger checkpoints are split.
        legacy: write the older file that this module knows, instead of safetensors.

    Raises:
        CheckpointError: the folder holds an adapter.
    """
    refuse_beside_adapter(folder)
    files: dict[str, Content] = {name: text.encode() for name, text in texts.items()}
    files |= weight_contents(tensors, max_shard_size=max_shard_size, variant=variant, legacy=legacy)
    write_folder(folder, files, stale=lambda name: is_stale(name, variant))


def weight_contents(
    tensors: Mapping[str, Source],
    *,
    max_shard_size: int | str = "5GB",
    variant: str | None = None,
    legacy: ModuleType | None = None,
) -> dict[str, Content]:
    """The weights files of a checkpoint by name, and the index where they are more than one.

    Args:
        tensors, max_shard_size, variant, legacy: as in `save_checkpoint`.
    """
    format_ = "safetensors" if legacy is None else legacy.FORMAT
    single, index = weight_files(format_, variant)
    shards = _split(tensors, size_in_bytes(max_shard_size))
    if len(shards) == 1:
        return {single: safetensors_file.safetensors_pieces(tensors) if legacy is None else legacy.single(tensors)}
    suffix = FORMATS[format_][1]
    stem = single.removesuffix(suffix)
    names = [f"{stem}-{i:05}-of-{len(shards):05}{suffix}" for i in range(1, len(shards) + 1)]
    write = safetensors_file.safetensors_pieces if legacy is None else legacy.shard
    files: dict[str, Content] = {name: write(shard) for name, shard in zip(names, shards, strict=True)}
    spelled = str if legacy is None else legacy.native_name
    places = {spelled(key): name for name, shard in zip(names, shards, strict=True) for key in shard}
    total = sum(size_of(source) for source in tensors.values())
    content = {"metadata": {"total_size": total}, "weight_map": places}
    files[index] = (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
    return files


def refuse_beside_adapter(folder: str | Path) -> None:
    """Raise for a folder that holds an adapter, which would be merged into whole weights beside it when they are read.

    Raises:
        CheckpointError: it does.
    """
    file = Path(folder) / ADAPTER_CONFIG_FILE
    if file.is_file():
        raise CheckpointError(
            f"{folder} holds an adapter, which would be merged into these weights again when they are loaded; save into "
            f"another folder, or remove {file} and its adapter_model file first"
        )


def is_stale(name: str, variant: str | None) -> bool:
    """Whether an old file would be read in place of, or beside, the new one; other variants stay."""
    for format_, (_, suffix) in FORMATS.items():
        single, index = weight_files(format_, variant)
        shard = rf"{re.escape(single.removesuffix(suffix))}-\d+-of-\d+{re.escape(suffix)}"
        if name in (single, index) or re.fullmatch(shard, name):
            return True
    return False


def _split(tensors: Mapping[str, Source], limit: int) -> list[dict[str, Source]]:
    """Tensors in groups of at most `limit` bytes, a larger tensor by itself."""
    shards: list[dict[str, Source]] = [{}]
    size = 0
    for name, source in tensors.items():
        if shards[-1] and size + size_of(source) > limit:
            shards.append({})
            size = 0
        shards[-1][name] = source
        size += size_of(source)
    return shards


def size_in_bytes(size: int | str) -> int:
    """Bytes of 500, "500", "500MB" (1000 * 1000) or "500MiB" (1024 * 1024).

    Raises:
        ValueError: for another text, or a size below 1.
    """
    found = re.fullmatch(r"(\d+)\s*([KMGT]?)(i?)B?", str(size).strip(), re.IGNORECASE)
    if found is None or int(found[1]) < 1:
        raise ValueError(f'max_shard_size={size!r} is not a size; give bytes or a text such as "500MB"')
    base = 1024 if found[3] else 1000
    power: int = base ** " KMGT".index(found[2].upper() or " ")
    return int(found[1]) * power
