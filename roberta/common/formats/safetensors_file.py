"""One `.safetensors` file: what is in it, checked before anything is allocated, and how to write one piece by piece.

Layout: 8 bytes, the header's length (little endian); the header, JSON of name -> dtype, shape, byte range; the data.
Source: the format's README in the safetensors repository.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from roberta.common.formats.file_order import contiguous
from roberta.common.storage.folders import CheckpointError
from roberta.common.storage.held_files import HeldFile

MAX_HEADER = 16 * 2**20  # bytes; roberta-large needs 50 kB
MAX_TENSORS = 20_000
ALIGNMENT = 64  # bytes; a line of the cache, which torch and numpy align memory to as well

# Name in the file -> name in numpy; `ml_dtypes` registers bfloat16.
DTYPE_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
_CODES = {name: code for code, name in DTYPE_NAMES.items()}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: what it is, and `load()` to read it.

    Attributes:
        dtype: numpy's name.
        stay: where the bytes of the file are the values: the values where they are, on a private map of the whole file.
            They may be changed, and the file stays as it is; their memory is the kernel's until they are.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: Path
    load: Callable[[], np.ndarray]
    stay: Callable[[], np.ndarray] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # another process does not have the file open: it gets the values
        values = partial(np.asarray, np.array(self.load()))
        return type(self), (self.name, self.shape, self.dtype, self.file, values)


# What is to be written: shape, dtype (numpy's name), and how to get the values when their turn comes.
Source = tuple[tuple[int, ...], str, Callable[[], np.ndarray]]


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The dtype of numpy or ml_dtypes of that name."""
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def size_of(source: Source) -> int:
    """The number of bytes of a tensor that is to be written."""
    return prod(source[0]) * numpy_dtype(source[1]).itemsize


def bytes_of(source: Source) -> memoryview:
    """The values of a tensor that is to be written, row after row."""
    shape, dtype, load = source
    array = contiguous(load())  # the data of a transposed view lies in another order
    assert array.shape == shape or (not shape and array.size == 1), (array.shape, shape)
    assert array.dtype == numpy_dtype(dtype), (array.dtype, dtype)
    return array.reshape(-1).view(np.uint8).data


def check_count(path: Path, tensors: Sized) -> None:
    """Raise `CheckpointError` when a file lists more tensors than any model has."""
    if len(tensors) > MAX_TENSORS:
        raise CheckpointError(f"{path} lists {len(tensors)} tensors; {MAX_TENSORS} are the most that is read")


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file by name; nothing but the header is read now.

    Raises:
        CheckpointError: names the file, and what in it contradicts itself or the file's size.
    """
    held = HeldFile(path)
    entries, start = _header(held)
    size = held.stat().st_size - start
    check_count(path, entries)
    spans = {name: _span(path, name, entry) for name, entry in entries.items()}
    end = 0
    for name, (begin, stop) in sorted(spans.items(), key=lambda item: item[1]):
        if begin != end:
            raise CheckpointError(f"{path} is damaged: tensor {name!r} begins at byte {begin}, not at {end}")
        end = stop
    if end != size:
        state = "cut short" if size < end else "damaged"
        raise CheckpointError(f"{path} is {state}: its header lists {end} bytes of tensors, the file holds {size}")
    return {
        name: _stored(held, name, tuple(entry["shape"]), DTYPE_NAMES[entry["dtype"]], start + spans[name][0])
        for name, entry in entries.items()
    }


def safetensors_pieces(tensors: Mapping[str, Source]) -> Iterator[bytes | memoryview]:
    """The bytes of a file with these tensors, one tensor at a time."""
    # what fills whole lines of the cache first, then wide types: on a map of the file every tensor lies as in memory of
    # its own, where matrix libraries round alike
    order = sorted(
        tensors,
        key=lambda name: (size_of(tensors[name]) % ALIGNMENT > 0, -numpy_dtype(tensors[name][1]).itemsize, name),
    )
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers 5 refuses a file without it
    offset = 0
    for name in order:
        shape, dtype, _ = tensors[name]
        stop = offset + size_of(tensors[name])
        header[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [offset, stop]}
        offset = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    yield struct.pack("<Q", len(text)) + text
    for name in order:
        yield bytes_of(tensors[name])


def _stored(held: HeldFile, name: str, shape: tuple[int, ...], dtype: str, start: int) -> StoredTensor:
    place = (start, shape, numpy_dtype(dtype))
    return StoredTensor(name, shape, dtype, held.path, partial(held.array, *place), partial(_stay, held, *place))


def _stay(held: HeldFile, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    return held.private[start : start + prod(shape) * dtype.itemsize].view(dtype).reshape(shape)


def _header(path: HeldFile) -> tuple[dict[str, Any], int]:
    """The entries of the tensors, and where the data starts."""
    with path.open() as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if length > MAX_HEADER:
            raise CheckpointError(f"{path} claims a header of {length} bytes; {MAX_HEADER} are the most that is read")
        text = file.read(length)
    if len(prefix) < 8 or len(text) < length or not text.startswith(b"{"):
        raise CheckpointError(f"{path} is not a safetensors file, or is cut short inside its header")
    try:
        header = json.loads(text, object_pairs_hook=_no_repeats)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} has a damaged header: {error}") from None
    if not isinstance(header.pop("__metadata__", {}), dict):
        raise CheckpointError(f"{path} has a damaged header: __metadata__ is not an object")
    return header, 8 + length


def _no_repeats(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise ValueError(f"{name!r} is there twice")
        result[name] = value
    return result


def _span(path: Path, name: str, entry: Mapping[str, Any]) -> tuple[int, int]:
    """Where a tensor's bytes begin and end, counted from the start of the data."""
    try:
        code, shape, (begin, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, stop]
        whole = all(type(number) is int and 0 <= number < 2**48 for number in numbers)
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise CheckpointError(f"{path} has a damaged header: the entry of {name!r} is {str(entry)[:200]}")
    if not isinstance(code, str) or code not in DTYPE_NAMES:
        raise CheckpointError(f"{path}: tensor {name!r} has dtype {code!r:.40}; known are {', '.join(DTYPE_NAMES)}")
    if stop - begin != prod(shape) * numpy_dtype(DTYPE_NAMES[code]).itemsize:
        raise CheckpointError(f"{path} is damaged: tensor {name!r}, {code} of {shape}, has {stop - begin} bytes")
    return begin, stop
