"""Convert a checkpoint from any format to any other: tensors flow from one file to the other, one at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, get_args

import numpy as np
from tqdm import tqdm

from roberta.common.checkpoint.checkpoint import is_stale, legacy, weight_contents
from roberta.common.config import CONFIG_FILE
from roberta.common.dtype_names import FLOAT_DTYPES
from roberta.common.formats.safetensors_file import StoredTensor, numpy_dtype
from roberta.common.storage.folders import CheckpointError, Content, write_folder
from roberta.common.storage.held_files import HeldFile, read_one_save
from roberta.common.training.optimizer_state import FILES, TENSORS_FILE, load_training_state
from roberta.conversion import dictionary, fairseq_writer, formats, keras_hub, keras_hub_writer, probe
from roberta.conversion.finite import Watch
from roberta.conversion.formats import Format, Options
from roberta.conversion.model import Model, sources

FAIRSEQ_FILE = "model.pt"


@dataclass(frozen=True)
class Report:
    """What was read and what was written.

    Attributes:
        source, source_format: the file read, and what it was.
        target, target_format: the folder written, and what it is now.
        head: class name without framework.
        tensors, bytes: how many, and how large they are in the target.
        dtype: of the tensors written.
        files: names written.
        notes: what a user should know.
        replaced: names of files that were in the target and are replaced or gone.
    """

    source: Path
    source_format: str
    target: Path
    target_format: Format
    head: str
    tensors: int
    bytes: int
    dtype: str
    files: tuple[str, ...]
    notes: tuple[str, ...]
    replaced: tuple[str, ...] = ()

    def message(self) -> str:
        """The report in a few lines."""
        lines = [
            f"read     {self.source} ({self.source_format}, Roberta{self.head})",
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
    to: Format,
    from_: Format | None = None,
    dtype: str | None = None,
    max_shard_size: int | str = "5GB",
    head: str | None = None,
    dictionary: str | Path | None = None,
    encoder_json: str | Path | None = None,
    vocab_bpe: str | Path | None = None,
    sentencepiece: str | Path | None = None,
    num_attention_heads: int | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> Report:
    """Write the model of `source` into the folder `target` in another format, all or nothing.

    Tensors keep their bits unless `dtype` is another. Config and tokenizer files travel along, and so does the training
    state of a folder, as it is.

    Args:
        source: a folder, a weights file, or a name on the hub.
        target: a folder, made when missing; files in it that have nothing to do with a model stay.
        to: the format to write.
        from_: the source's format; None to recognise it by what is there.
        dtype: float32, float64, float16 or bfloat16; None keeps what the source has.
        max_shard_size: bytes, or a text such as "500MB"; of safetensors, pt, tf and flax.
        head: the head to keep, such as "ForMaskedLM"; of a fairseq file also a classification head's name.
        dictionary, encoder_json, vocab_bpe, sentencepiece: fairseq's dict.txt, the two files of GPT-2 that its numbers
            are from, and the model of SentencePiece that its pieces are from; by default what is beside the source.
        num_attention_heads: of a fairseq file whose hyperparameters are lost.
        overwrite: replace a model in the target; its weights go, of whatever format.
        progress: show a bar; None on a terminal only.

    Raises:
        CheckpointError: the source cannot be read whole, the target format cannot hold it, or the target has a model
            and `overwrite` is not given; nothing is written.
        ValueError: an argument that cannot be.
    """
    if to not in get_args(Format) or (from_ is not None and from_ not in get_args(Format)):
        raise ValueError(f"to={to!r}, from_={from_!r}: the formats are {', '.join(get_args(Format))}")
    if dtype is not None and dtype not in FLOAT_DTYPES:
        raise ValueError(f"dtype={dtype!r} is not one of {', '.join(FLOAT_DTYPES)}")
    options = Options(
        head, _path(dictionary), _path(encoder_json), _path(vocab_bpe), _path(sentencepiece), num_attention_heads
    )
    path = formats.local(source, from_)
    model, state = read_one_save(path, lambda: (formats.read(path, from_, options), _training_state(path)))
    if (path if path.is_dir() else path.parent).resolve() == Path(target).resolve():
        raise CheckpointError(f"{target} is the source's own folder, whose weights would go; give another folder")
    watch = Watch()
    with _bar(model, progress) as count:
        model = _prepared(model, to, dtype, count, watch)
        contents, notes = _contents(model, to, max_shard_size, options)
        contents |= state  # in the same save: new weights never lie beside an old state
        replaced = _replaced(Path(target), contents, overwrite)
        write_folder(target, contents, stale=_is_stale)
    notes += [*_tokenizer_notes(model), *watch.notes()]
    kinds = sorted({tensor.dtype for tensor in model.tensors.values()})
    size = sum(prod(tensor.shape) * numpy_dtype(tensor.dtype).itemsize for tensor in model.tensors.values())
    return Report(
        model.source, model.format, Path(target), to, model.head, len(model.tensors), size, ", ".join(kinds),
        tuple(contents), (*model.notes, *notes), replaced,
    )  # fmt: skip


def _contents(
    model: Model, to: Format, max_shard_size: int | str, options: Options
) -> tuple[dict[str, Content], list[str]]:
    """The files of the target, and notes."""
    if to == "keras-hub":
        return keras_hub_writer.contents(model)
    files: dict[str, Content] = {CONFIG_FILE: model.config.to_json_string().encode(), **model.files}
    if to == "fairseq":
        files[FAIRSEQ_FILE], notes = fairseq_writer.pieces(model)
        listed, note = dictionary.dictionary(model.files, model.config.vocab_size, options.encoder_json)
        files.pop(dictionary.FILE, None)
        if listed is not None:
            files[dictionary.FILE] = listed
        return files, [*notes, *([note] if note else [])]
    writer = None if to == "safetensors" else legacy(to)
    return {**files, **weight_contents(sources(model.tensors), max_shard_size=max_shard_size, legacy=writer)}, []


def _replaced(target: Path, contents: Mapping[str, Content], overwrite: bool) -> tuple[str, ...]:
    """The files of a target that the new ones replace, or that go because they are of the old model."""
    tops = {Path(name).parts[0] for name in contents}
    there = {path.name for path in target.iterdir()} if target.is_dir() else set()
    names = tuple(sorted(name for name in there if name in tops or _is_stale(name)))
    if names and not overwrite:
        raise CheckpointError(
            f"{target} has {', '.join(names)}, which would be replaced, or go as they are of another model; give "
            "another folder, or --overwrite (overwrite=True)"
        )
    return names


def _tokenizer_notes(model: Model) -> list[str]:
    """Why the tokenizer that was written is not to be trusted, or that there is none."""
    there = [name for name in formats.VOCABULARIES if name in model.files]
    if probe.is_there(model.files):
        problem = probe.problem(model.files, model.config.vocab_size)
        return [] if problem is None else [f"the tokenizer, copied as it is, does not go with this model: {problem}"]
    if there:
        return [f"copied as they are, and not tried: {', '.join(there)}"]
    return [] if any(note.startswith("no tokenizer") for note in model.notes) else ["no tokenizer: the source has none"]


def _is_stale(name: str) -> bool:
    """Whether an old file would be taken for the model beside the new ones."""
    return is_stale(name, None) or name in (*formats.TEXTS, *keras_hub.FILES, *FILES, FAIRSEQ_FILE)


def _training_state(path: Path) -> dict[str, Content]:
    """The files of the training state in a source folder, whose names and shapes are the same in every format."""
    if not (path / TENSORS_FILE).is_file():
        return {}
    load_training_state(path)  # a damaged one is an error now
    return {name: _pieces(HeldFile(path / name)) for name in FILES}


def _pieces(file: HeldFile) -> Iterator[bytes]:
    """The bytes of a file, 16 MB at a time."""
    with file.open() as stream:
        while piece := stream.read(2**24):
            yield piece


def _prepared(model: Model, to: Format, dtype: str | None, count: Callable[[int], None], watch: Watch) -> Model:
    """The model in the dtype wanted, each tensor counted when it is read."""
    if to == "tf" and dtype == "bfloat16":
        raise ValueError("dtype='bfloat16': tf_model.h5 cannot hold it; float32 holds the same values")
    notes = list(model.notes)
    wanted = {name: dtype or tensor.dtype for name, tensor in model.tensors.items()}
    if to == "tf" and "bfloat16" in wanted.values():
        wanted = {name: "float32" if kind == "bfloat16" else kind for name, kind in wanted.items()}
        notes.append("bfloat16 was written as float32, which holds every value exactly: HDF5 has no bfloat16")
    tensors = {name: _cast(tensor, wanted[name], count, watch) for name, tensor in model.tensors.items()}
    kinds = {tensor.dtype for tensor in tensors.values()}
    model.config.dtype = kinds.pop() if len(kinds) == 1 else None
    return replace(model, tensors=tensors, notes=tuple(notes))


def _cast(tensor: StoredTensor, dtype: str, count: Callable[[int], None], watch: Watch) -> StoredTensor:
    """A stored tensor in another dtype; finite values that it cannot hold are an error."""

    def load() -> np.ndarray:
        array = tensor.load()
        count(array.nbytes)
        watch.look(tensor.name, array)
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
def _bar(model: Model, progress: bool | None) -> Any:
    """A function that counts bytes; with a bar on a terminal."""
    total = sum(prod(tensor.shape) * numpy_dtype(tensor.dtype).itemsize for tensor in model.tensors.values())
    hidden = None if progress is None else not progress
    with tqdm(total=total, unit="B", unit_scale=True, desc=f"Roberta{model.head}", disable=hidden, leave=False) as bar:
        yield bar.update


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)
