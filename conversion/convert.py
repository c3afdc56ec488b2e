"""Convert a checkpoint from any format to any other: tensors flow from one file to the other, one at a time."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from roberta.common.checkpoint.checkpoint import is_stale, legacy, refuse_beside_adapter, weight_contents
from roberta.common.config import CONFIG_FILE
from roberta.common.dtype_names import FLOAT_DTYPES
from roberta.common.finite import listed, not_finite
from roberta.common.formats.safetensors_file import StoredTensor, numpy_dtype
from roberta.common.model_types import class_name
from roberta.common.pipelines.sentence_recipe import PROMPTS_FILE, SETTINGS_FILES
from roberta.common.storage.folders import CheckpointError, Content, write_folder
from roberta.common.storage.held_files import HeldFile, read_one_save
from roberta.common.storage.modules_file import MODULES_FILE
from roberta.common.training.optimizer_state import STATE_FILES, TENSORS_FILE, TRAINED_FILE, load_training_state
from roberta.conversion import formats, probe
from roberta.conversion.fairseq import writer as fairseq_writer
from roberta.conversion.fairseq.dictionary import DICTIONARY_FILE, dictionary_of
from roberta.conversion.formats import CheckpointFormat, SourceOptions
from roberta.conversion.keras_hub import writer as keras_hub_writer
from roberta.conversion.keras_hub.reader import PRESET_FILES
from roberta.conversion.model import SourceModel, sources
from roberta.conversion.sentence_files import sentence_files

FAIRSEQ_FILE = "model.pt"


@dataclass(frozen=True)
class ConversionReport:
    """The source that was read and the files that were written.

    Attributes:
        source, source_format: the file read, and what it was.
        target, target_format: the folder written, and what it is now.
        head: class name without framework.
        tensors, bytes: their number, and their size in the target.
        dtype: of the tensors written.
        files: names of the files written.
        notes: what a user should know.
        replaced: names of the target's old files that were replaced or removed.
        model_type: of the config.
    """

    source: Path
    source_format: str
    target: Path
    target_format: CheckpointFormat
    head: str
    tensors: int
    bytes: int
    dtype: str
    files: tuple[str, ...]
    notes: tuple[str, ...]
    replaced: tuple[str, ...] = ()
    model_type: str = "roberta"

    def message(self) -> str:
        """The report in a few lines."""
        lines = [
            f"read     {self.source} ({self.source_format}, {class_name(self.model_type, self.head)})",
            f"wrote    {self.target} ({self.target_format}): {', '.join(self.files)}",
            f"tensors  {self.tensors}, {self.bytes:,} bytes, {self.dtype}",
        ]
        if self.replaced:
            lines.append(f"replaced {', '.join(self.replaced)}")
        return "\n".join([*lines, *(f"note     {note}" for note in self.notes)])


def convert(
    source: str | Path,
    target: str | Path,
    *,
    to: CheckpointFormat,
    from_: CheckpointFormat | None = None,
    dtype: str | None = None,
    max_shard_size: int | str = "5GB",
    head: str | None = None,
    dictionary: str | Path | None = None,
    encoder_json: str | Path | None = None,
    vocab_bpe: str | Path | None = None,
    sentencepiece: str | Path | None = None,
    num_attention_heads: int | None = None,
    adapter: str | Path | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> ConversionReport:
    """Write the model of `source` into the folder `target` in another format, all or nothing.

    Tensors keep their bits unless `dtype` differs. Config and tokenizer files are copied too, and so is the training
    state of a folder, unchanged.

    Args:
        source: a folder, a weights file, or a name on the hub.
        target: a folder, made when missing; files in it that have nothing to do with a model stay.
        to: the format to write.
        from_: the source's format; None to recognise it by its files.
        dtype: float32, float64, float16 or bfloat16; None keeps what the source has.
        max_shard_size: bytes, or a text such as "500MB"; of safetensors, pt, tf and flax.
        head: the head to keep, such as "ForMaskedLM"; of a fairseq file also a classification head's name.
        dictionary, encoder_json, vocab_bpe, sentencepiece: fairseq's dict.txt, the two files of GPT-2 that its numbers
            refer to, and the SentencePiece model that its pieces come from; by default the files beside the source.
        num_attention_heads: of a fairseq file whose hyperparameters are lost.
        adapter: folder or hub name of a LoRA adapter in PEFT's format, merged into the weights as they are written. An
            adapter in the source's folder is merged too, and a folder with one alone names its base.
        overwrite: replace a model in the target; its weights are removed, whatever their format.
        progress: show a bar; None on a terminal only.

    Raises:
        CheckpointError: the source cannot be read whole, the target format cannot hold it, or the target has a model
            and `overwrite` is not given; nothing is written.
        ValueError: an argument is invalid.
    """
    if to not in formats.ALL or from_ not in (None, *formats.ALL):
        raise ValueError(f"to={to!r}, from_={from_!r}: the formats are {', '.join(formats.ALL)}")
    if dtype is not None and dtype not in FLOAT_DTYPES:
        raise ValueError(f"dtype={dtype!r} is not one of {', '.join(FLOAT_DTYPES)}")
    options = SourceOptions(
        head, _path(dictionary), _path(encoder_json), _path(vocab_bpe), _path(sentencepiece), num_attention_heads,
        adapted_dtype=dtype,
    )  # fmt: skip
    path, options = formats.with_adapter(formats.local(source, from_), adapter, options)
    model, state = read_one_save(
        path,
        lambda: (
            formats.read_model(path, from_, options),
            _training_state(path) if options.adapter is None else {},  # of the weights before the merge
        ),
    )
    if (path if path.is_dir() else path.parent).resolve() == Path(target).resolve():
        raise CheckpointError(f"{target} is the source's own folder, whose weights would be lost; give another folder")
    # Nothing but headers has been read so far: tensors are read, cast and looked at while the files are written.
    wrong: dict[str, str] = {}
    with _bar(model, progress) as count:
        model = _prepared(model, to, dtype, count, wrong)
        contents, notes = _contents(model, to, max_shard_size, options)
        beside, more = sentence_files(source, to)
        contents |= beside
        notes += more
        contents |= state  # in the same save: new weights never lie beside an old state
        refuse_beside_adapter(target)
        replaced = _replaced(Path(target), contents, overwrite)
        write_folder(target, contents, stale=_is_stale)
    notes += [*_tokenizer_notes(model), *([f"not finite, and copied so: {listed(wrong)}"] if wrong else [])]
    dtypes = ", ".join(sorted({tensor.dtype for tensor in model.tensors.values()}))
    return ConversionReport(
        model.source, model.format, Path(target), to, model.head, len(model.tensors), _bytes(model), dtypes,
        tuple(contents), (*model.notes, *notes), replaced, model.config.model_type,
    )  # fmt: skip


def _contents(
    model: SourceModel, to: CheckpointFormat, max_shard_size: int | str, options: SourceOptions
) -> tuple[dict[str, Content], list[str]]:
    """The files of the target, and notes."""
    if to == "keras-hub":
        return keras_hub_writer.contents(model)
    files: dict[str, Content] = {CONFIG_FILE: model.config.to_json_string().encode(), **model.files}
    if to == "fairseq":
        files[FAIRSEQ_FILE], notes = fairseq_writer.fairseq_pieces(model)
        symbols, note = dictionary_of(model.files, model.config.vocab_size, options.encoder_json)
        files.pop(DICTIONARY_FILE, None)
        if symbols is not None:
            files[DICTIONARY_FILE] = symbols
        return files, [*notes, *([note] if note else [])]
    writer = None if to == "safetensors" else legacy(to)
    return {**files, **weight_contents(sources(model.tensors), max_shard_size=max_shard_size, legacy=writer)}, []


def _replaced(target: Path, contents: Mapping[str, Content], overwrite: bool) -> tuple[str, ...]:
    """The files of a target that the new ones replace, or that are removed because they belong to the old model."""
    tops = {Path(name).parts[0] for name in contents}
    there = {path.name for path in target.iterdir()} if target.is_dir() else set()
    names = tuple(sorted(name for name in there if name in tops or _is_stale(name)))
    if names and not overwrite:
        raise CheckpointError(
            f"{target} has {', '.join(names)}, which would be replaced, or removed as part of another model; give "
            "another folder, or --overwrite (overwrite=True)"
        )
    return names


def _tokenizer_notes(model: SourceModel) -> list[str]:
    """Why the tokenizer that was written cannot be trusted, or that there is none."""
    there = [name for name in formats.VOCABULARIES if name in model.files]
    if probe.is_there(model.files):
        problem = probe.problem(model.files, model.config.vocab_size)
        return [] if problem is None else [f"the tokenizer, copied as it is, does not fit this model: {problem}"]
    if there:
        return [f"copied as they are, and not tested: {', '.join(there)}"]
    return [] if any(note.startswith("no tokenizer") for note in model.notes) else ["no tokenizer: the source has none"]


def _is_stale(name: str) -> bool:
    """Whether an old file would be taken for the model beside the new ones."""
    return is_stale(name, None) or name in (
        *formats.TEXTS,
        *PRESET_FILES,
        *STATE_FILES,
        TRAINED_FILE,
        FAIRSEQ_FILE,
        MODULES_FILE,
        PROMPTS_FILE,
        *SETTINGS_FILES,
    )


def _training_state(path: Path) -> dict[str, Content]:
    """The files of the training state in a source folder, whose names and shapes are the same in every format."""
    if not (path / TENSORS_FILE).is_file():
        return {}
    load_training_state(path)  # raises for a damaged one before anything is written
    names = [name for name in (*STATE_FILES, TRAINED_FILE) if (path / name).is_file()]
    return {name: _pieces(HeldFile(path / name)) for name in names}


def _pieces(file: HeldFile) -> Iterator[bytes]:
    """The bytes of a file, 16 MB at a time."""
    with file.open() as stream:
        while piece := stream.read(2**24):
            yield piece


def _prepared(
    model: SourceModel, to: CheckpointFormat, dtype: str | None, count: Callable[[int], object], wrong: dict[str, str]
) -> SourceModel:
    """The model in the dtype wanted; each tensor is counted when it is read, and named in `wrong` if not finite."""
    if to == "tf" and dtype == "bfloat16":
        raise ValueError("dtype='bfloat16': tf_model.h5 cannot hold it; float32 holds the same values")
    notes = list(model.notes)
    wanted = {name: dtype or tensor.dtype for name, tensor in model.tensors.items()}
    if to == "tf" and "bfloat16" in wanted.values():
        wanted = {name: "float32" if kind == "bfloat16" else kind for name, kind in wanted.items()}
        notes.append("bfloat16 was written as float32, which holds every value exactly: HDF5 has no bfloat16")
    tensors = {name: _cast(tensor, wanted[name], count, wrong) for name, tensor in model.tensors.items()}
    kinds = {tensor.dtype for tensor in tensors.values()}
    model.config.dtype = kinds.pop() if len(kinds) == 1 else None
    return replace(model, tensors=tensors, notes=tuple(notes))


def _cast(tensor: StoredTensor, dtype: str, count: Callable[[int], object], wrong: dict[str, str]) -> StoredTensor:
    """A stored tensor in another dtype; finite values that the dtype cannot hold are an error."""

    def load() -> np.ndarray:
        array = tensor.load()
        count(array.nbytes)
        problem = not_finite(array)
        if problem is not None:
            wrong[tensor.name] = problem
        if dtype == tensor.dtype:
            return array
        with np.errstate(over="ignore"):
            result = array.astype(numpy_dtype(dtype))
        if not np.isfinite(result).all() and np.isfinite(array).all():
            raise CheckpointError(
                f"{tensor.file}: {tensor.name} has values up to {np.abs(array).max():.4g}, which {dtype} cannot hold; "
                "choose float32 or bfloat16"
            )
        return result

    return replace(tensor, dtype=dtype, load=load)


@contextlib.contextmanager
def _bar(model: SourceModel, progress: bool | None) -> Iterator[Callable[[int], object]]:
    """A function that counts bytes; with a bar on a terminal."""
    hidden = None if progress is None else not progress
    with tqdm(
        total=_bytes(model), unit="B", unit_scale=True, desc=model.class_name, disable=hidden, leave=False
    ) as bar:
        yield bar.update


def _path(file: str | Path | None) -> Path | None:
    return None if file is None else Path(file)


def _bytes(model: SourceModel) -> int:
    """The size of all tensors."""
    return sum(prod(tensor.shape) * numpy_dtype(tensor.dtype).itemsize for tensor in model.tensors.values())


def __getattr__(name: str) -> Any:
    """The name that `ConversionReport` had before, for one release."""
    if name != "Report":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"{__name__}.Report is now called ConversionReport", DeprecationWarning, stacklevel=2)
    return ConversionReport
