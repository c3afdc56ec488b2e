"""Files of `torch.save`, read and written without torch: tensors stay on the disk until they are asked for.

Two forms. Since torch 1.6: a zip, not compressed, of `data.pkl` (the pickle) and `data/KEY` (the values of one
storage). Before: five pickles in a row (magic number, version, system, content, keys), then for each key the number
of values (8 bytes) and the values. In both, a tensor is a name, a storage, an offset, a shape and strides.
Source: both forms as torch writes them, seen with `pickletools.dis`.
"""

from __future__ import annotations

import io
import reprlib
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from roberta.common.formats.pickle_machine import Builder, Machine, Name, Record, keyed
from roberta.common.formats.safetensors_file import MAX_HEADER, MAX_TENSORS, StoredTensor, numpy_dtype
from roberta.common.storage.folders import CheckpointError
from roberta.common.storage.held_files import HeldFile

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the old form

# Class of a storage -> numpy's name of its dtype, one row each; used both ways.
STORAGES = {
    "torch FloatStorage": "float32",
    "torch DoubleStorage": "float64",
    "torch HalfStorage": "float16",
    "torch BFloat16Storage": "bfloat16",
    "torch LongStorage": "int64",
    "torch IntStorage": "int32",
    "torch ShortStorage": "int16",
    "torch CharStorage": "int8",
    "torch ByteStorage": "uint8",
    "torch BoolStorage": "bool",
}


@dataclass(eq=False)
class _Storage:
    """Values that tensors share; where they begin in the file is known once the keys are read."""

    key: str
    dtype: str
    size: int
    start: int = -1

    @property
    def bytes(self) -> int:
        return self.size * numpy_dtype(self.dtype).itemsize


def read_torch_zip(path: Path, *, records: tuple[str, ...] = (), keeps_unknown: bool = False) -> Any:
    """What `torch.save` was given: dictionaries, lists, texts, numbers; `StoredTensor`s for tensors.

    Args:
        records: further names that may occur, as "module attribute"; each becomes a `Record`.
        keeps_unknown: make `Record`s of all other names too, but those that start programs, instead of an error: of a
            training's checkpoint, with its optimizer, callbacks and hyperparameters. None of them is called or imported.

    Raises:
        CheckpointError: names the file, and what in it is not data.
    """
    held = HeldFile(path)
    with held.open() as file:
        is_zip = zipfile.is_zipfile(file)
    return (_read_zip if is_zip else _read_old)(held, records, keeps_unknown)


def _machine(path: HeldFile, storages: dict[str, _Storage], records: tuple[str, ...], keeps_unknown: bool) -> Machine:
    """A machine whose only values with names are tensors, ordered dictionaries and records."""
    limit = path.stat().st_size

    # a persistent id: the values of a storage
    def storage(identity: tuple[Any, ...]) -> _Storage | Record:
        word, kind, key, _, size, *view = identity
        if keeps_unknown and isinstance(kind, Name) and kind.text not in STORAGES:
            return Record(kind.text)  # of bytes, complex or quantised numbers: no tensor of it is read
        if word != "storage" or not isinstance(kind, Name) or kind.text not in STORAGES or any(view):
            raise ValueError(f"{reprlib.repr(identity)} is not a storage")
        if not isinstance(key, str | int) or type(size) is not int:
            raise ValueError(f"a storage has the key {reprlib.repr(key)} and the size {reprlib.repr(size)}")
        found = _Storage(str(key), STORAGES[kind.text], size)
        if not 0 <= found.bytes <= limit:
            raise CheckpointError(f"{path} claims a storage of {size} values, more than the file has; it is not opened")
        known = storages.setdefault(found.key, found)
        if (known.dtype, known.size) != (found.dtype, found.size):
            raise CheckpointError(f"{path} is damaged: storage {found.key[:40]} has two sizes or types")
        return known

    # a call: a part of a storage, with a shape
    def tensor(
        values: object,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        _requires_grad: object = None,
        _hooks: object = None,
        bits: object = None,
    ) -> StoredTensor | Record:
        if isinstance(values, Record):
            return values
        found = _tensor(path, values, offset, shape, strides)
        return _negated(found) if _is_negative(path, found, bits) else found

    builders: dict[str, Builder | None] = {
        "collections OrderedDict": lambda pairs=(): keyed(pairs),
        "torch._utils _rebuild_tensor_v2": tensor,
        "torch._utils _rebuild_tensor": tensor,
        "torch._utils _rebuild_parameter": lambda data, *_: data,
        "torch._utils _rebuild_parameter_with_state": lambda data, *_: data,
        "torch Size": tuple,
        **dict.fromkeys((*STORAGES, *records)),
    }
    return Machine(path.path, builders, storage, keeps_unknown=keeps_unknown)


def _tensor(
    path: HeldFile, storage: object, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> StoredTensor:
    """A tensor that lies wholly in its storage, and is not larger than it."""
    numbers = (offset, *shape, *strides)
    are_sizes = all(type(number) is int and 0 <= number < 2**48 for number in numbers)
    if not isinstance(storage, _Storage) or not len(shape) == len(strides) <= 8 or not are_sizes:
        raise ValueError(f"a tensor of {reprlib.repr(shape)} with strides {reprlib.repr(strides)} is not valid")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    count = prod(shape)
    if count > storage.size or (count and last >= storage.size):
        raise CheckpointError(f"{path}: a tensor of {list(shape)} claims more values than the file holds")

    def load() -> np.ndarray:
        dtype = numpy_dtype(storage.dtype)
        if not count:
            return np.zeros(shape, dtype)
        values = path.array(storage.start, (storage.size,), dtype)
        return np.lib.stride_tricks.as_strided(
            values[offset:], shape, [stride * dtype.itemsize for stride in strides], writeable=False
        )

    return StoredTensor("", tuple(shape), storage.dtype, path.path, load)


def _is_negative(path: HeldFile, tensor: StoredTensor, bits: object) -> bool:
    """Whether the values are to be negated: of the imaginary part of a conjugate, torch stores the other sign and a bit.

    Args:
        bits: what torch writes behind a tensor's hooks, {"neg": True, "conj": True}; nothing for nearly all tensors.
            The conjugate of a real number is itself, and complex tensors are not read.
    """
    if not bits:
        return False
    known = isinstance(bits, dict) and all(key in ("neg", "conj") for key in bits)
    is_signed = tensor.dtype not in ("bool", "uint8")
    if not isinstance(bits, dict) or not known or not is_signed or not all(value is True for value in bits.values()):
        raise CheckpointError(
            f"{path} has a tensor marked {reprlib.repr(bits)}, which is not known; save tensor.clone() instead of it"
        )
    return bool(bits.get("neg"))


def _negated(tensor: StoredTensor) -> StoredTensor:
    return replace(tensor, load=lambda: np.negative(tensor.load()))


def _read_zip(path: HeldFile, records: tuple[str, ...], keeps_unknown: bool) -> Any:
    storages: dict[str, _Storage] = {}
    try:
        with path.open() as file, zipfile.ZipFile(file) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            root = _check_entries(path, entries)
            content = archive.read(f"{root}data.pkl")
            if entries.get(f"{root}byteorder") and archive.read(f"{root}byteorder").strip() != b"little":
                raise CheckpointError(f"{path} was written on a big-endian machine; save it again on another")
    except (
        zipfile.BadZipFile,
        EOFError,
        NotImplementedError,
        RuntimeError,
        struct.error,
        OSError,
        ValueError,
    ) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} cannot be read: {str(error)[:200]}") from None
    value = _machine(path, storages, records, keeps_unknown).run(io.BytesIO(content))
    for storage in storages.values():
        entry = entries.get(f"{root}data/{storage.key}")
        if entry is None or entry.compress_type != zipfile.ZIP_STORED or entry.file_size != storage.bytes:
            held = "nothing" if entry is None else f"{entry.file_size} bytes"
            raise CheckpointError(
                f"{path} cannot be read: storage {storage.key[:40]} needs {storage.bytes} bytes and is {held}"
            )
        storage.start = _start(path, entry)
    return value


def _check_entries(path: HeldFile, entries: Mapping[str, zipfile.ZipInfo]) -> str:
    """The folder inside a zip that is of torch; refuses one that unpacks to more than its own size."""
    size = path.stat().st_size
    if sum(entry.file_size for entry in entries.values()) > size or len(entries) > MAX_TENSORS:
        raise CheckpointError(f"{path} unpacks to more than its own size; it is not opened")
    pickles = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1 or entries[pickles[0]].file_size > MAX_HEADER:
        raise CheckpointError(f"{path} is not a file of torch.save")
    return pickles[0].removesuffix("data.pkl")


def _start(path: HeldFile, entry: zipfile.ZipInfo) -> int:
    """Where the values of a zip's entry begin: behind its own header, which has a name and extra bytes."""
    with path.open() as file:
        file.seek(entry.header_offset)
        header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\3\4":
        raise CheckpointError(f"{path} is damaged: {entry.filename[:40]} does not begin where the list says")
    name, extra = struct.unpack("<HH", header[26:30])
    start: int = entry.header_offset + 30 + name + extra
    if start + entry.file_size > path.stat().st_size:
        raise CheckpointError(f"{path} is cut short: {entry.filename[:40]} does not lie in the file")
    return start


def _read_old(path: HeldFile, records: tuple[str, ...], keeps_unknown: bool) -> Any:
    storages: dict[str, _Storage] = {}
    plain = Machine(path.path, {})
    with path.open() as file:
        if file.read(2) != b"\x80\x02":
            raise CheckpointError(f"{path} is not a file of torch.save")
        file.seek(0)
        pickles = io.BytesIO(file.read(MAX_HEADER))  # what asks for more than there is gets no memory for it
        magic = _machine(path, storages, records, keeps_unknown).run(pickles)
        if magic != MAGIC:
            raise CheckpointError(
                f"{path} is not a file of torch.save; torch.save writes its weights with what they need"
            )
        plain.run(pickles), plain.run(pickles)  # version and system
        value = _machine(path, storages, records, keeps_unknown).run(pickles)
        keys = plain.run(pickles)
        _place(path, storages, keys, pickles.tell())
    return value


def _place(path: HeldFile, storages: Mapping[str, _Storage], keys: object, start: int) -> None:
    """Where the storages of the old form begin."""
    size = path.stat().st_size
    is_list = isinstance(keys, list) and all(isinstance(key, str | int) for key in keys)
    if not isinstance(keys, list) or not is_list or sorted(map(str, keys)) != sorted(storages):
        raise CheckpointError(f"{path} is damaged: the storages listed are not those that tensors use")
    with path.open() as file:
        for storage in (storages[str(key)] for key in keys):
            file.seek(start)
            count = int.from_bytes(file.read(8), "little")
            storage.start = start + 8
            start = storage.start + storage.bytes
            if count != storage.size or start > size:
                raise CheckpointError(f"{path} is cut short or damaged: storage {storage.key[:40]} does not lie in it")
