"""A file of `torch.save`, written piece by piece and without torch: the zip form, one tensor in memory at a time."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from roberta.common.formats.pickle_machine import Record
from roberta.common.formats.safetensors_file import Source, bytes_of, size_of
from roberta.common.formats.torch_zip import STORAGES

_CLASSES = {dtype: name for name, dtype in STORAGES.items()}
_ALIGNMENT = 64  # bytes; torch's own
_DATE = (1980, 1, 1, 0, 0, 0)  # the same bytes for the same tensors
_PIECE = 2**24


class _Sink:
    """Takes what zipfile writes, until it is fetched; cannot seek, so sizes follow the data."""

    def __init__(self) -> None:
        self.pieces: list[bytes | memoryview] = []
        self.position = 0

    def write(self, data: bytes | memoryview) -> int:
        self.pieces.append(data)
        self.position += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing to do."""

    def fetch(self) -> list[bytes | memoryview]:
        pieces, self.pieces = self.pieces, []
        return pieces


def torch_zip_pieces(value: object, root: str = "archive") -> Iterator[bytes | memoryview]:
    """The bytes of a file that holds `value`.

    Args:
        value: dictionaries, lists, tuples, texts, numbers, None, `Record`s, and tensors as `Tensor`s.
        root: the folder inside the zip.
    """
    tensors: list[Source] = []
    content = b"\x80\x02" + b"".join(_pickled(value, tensors)) + b"."
    sink = _Sink()
    target: Any = sink  # typeshed asks for a file that seeks; zipfile does not
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        yield from _entry(archive, sink, f"{root}/data.pkl", len(content), iter([content]))
        yield from _entry(archive, sink, f"{root}/byteorder", 6, iter([b"little"]))
        for key, source in enumerate(tensors):
            yield from _entry(archive, sink, f"{root}/data/{key}", size_of(source), _values(source))
        yield from _entry(archive, sink, f"{root}/version", 2, iter([b"3\n"]))
    yield from sink.fetch()


class Tensor:
    """A tensor to be written; its values are asked for when their turn comes."""

    def __init__(self, source: Source) -> None:
        self.source = source


def state_dict(tensors: Mapping[str, Source]) -> dict[str, Tensor]:
    """Tensors by name, as a model's weights are saved."""
    return {name: Tensor(source) for name, source in tensors.items()}


def _values(source: Source) -> Iterator[memoryview]:
    data = bytes_of(source)
    for start in range(0, len(data), _PIECE):
        yield data[start : start + _PIECE]


def _entry(
    archive: zipfile.ZipFile, sink: _Sink, name: str, size: int, content: Iterator[bytes | memoryview]
) -> Iterator[bytes | memoryview]:
    """One entry, its data at a multiple of 64 bytes as torch has it."""
    info = zipfile.ZipInfo(name, _DATE)
    is_large = size >= 2**31
    header = sink.position + 30 + len(name) + (20 if is_large else 0)  # 20: the sizes in 8 bytes each
    padding = -(header + 4) % _ALIGNMENT
    info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    with archive.open(info, "w", force_zip64=is_large) as entry:
        for piece in content:
            entry.write(piece)
            yield from sink.fetch()
    yield from sink.fetch()


def _pickled(value: object, tensors: list[Source]) -> Iterator[bytes]:
    """Protocol 2 of a value, without its frame; `tensors` takes the tensors in the order of their keys."""
    if isinstance(value, Tensor):
        yield from _tensor(value.source, tensors)
    elif isinstance(value, Record):
        yield f"c{value.name.replace(' ', chr(10))}\n)".encode() + b"\x81"
        yield from _pickled(value.state, tensors)
        yield b"b"
    elif isinstance(value, dict):
        yield b"}("
        for key, item in value.items():
            yield from _pickled(key, tensors)
            yield from _pickled(item, tensors)
        yield b"u"
    elif isinstance(value, list | tuple):
        yield b"](" if isinstance(value, list) else b"("
        for item in value:
            yield from _pickled(item, tensors)
        yield b"e" if isinstance(value, list) else b"t"
    else:
        yield _scalar(value)


def _scalar(value: object) -> bytes:
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        width = (value.bit_length() + 8) // 8
        return b"\x8a" + bytes([width]) + value.to_bytes(width, "little", signed=True)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        text = value.encode()
        return b"X" + struct.pack("<I", len(text)) + text
    raise TypeError(f"a {type(value).__name__} is not written; only plain data and tensors are")


def _tensor(source: Source, tensors: list[Source]) -> Iterator[bytes]:
    """A call of torch's function for tensors, on a storage of its own, or on that of the same source before."""
    shape, dtype, _ = source
    key = next((index for index, other in enumerate(tensors) if other is source), len(tensors))
    strides = tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))
    storage = _CLASSES[dtype].replace(" ", "\n")
    yield b"ctorch._utils\n_rebuild_tensor_v2\n(("
    yield _scalar("storage") + f"c{storage}\n".encode() + _scalar(str(key)) + _scalar("cpu")
    yield _scalar(prod(shape)) + b"tQ" + _scalar(0)
    tensors.extend([source] if key == len(tensors) else [])
    yield from _pickled(shape, tensors)
    yield from _pickled(strides, tensors)
    yield b"\x89ccollections\nOrderedDict\n)RtR"
