"""A file of flax's `to_bytes`, read without copying its arrays: the tree is walked, and arrays are mapped.

Only what such a file holds is known: maps with texts as keys, arrays (extension 1 of shape, dtype, bytes), and the
truth values and numbers that say how an array of over 1 GiB was cut. Source: the msgpack specification.
"""

import mmap
import struct
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

from roberta.common.formats.safetensors_file import DTYPE_NAMES, MAX_TENSORS, StoredTensor, numpy_dtype
from roberta.common.storage.held_files import HeldFile

ARRAY = 1  # the extension type of an array
_SINGLE = (2, 3)  # of a complex number and of a numpy scalar, which no parameter is
MAX_DEPTH = 32  # levels of the tree; RoBERTa's has eight

# First byte -> how the length that follows is packed.
_MAPS = {0xDE: ">H", 0xDF: ">I"}
_TEXTS = {0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
_BYTES = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I"}
_EXTENSIONS = {0xC7: ">B", 0xC8: ">H", 0xC9: ">I"}
_FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_NUMBERS = {
    0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
    0xCA: ">f", 0xCB: ">d",
}  # fmt: skip
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def read_msgpack(path: Path) -> Any:
    """The tree in a file: dictionaries, and tensors without a name as leaves, mapped when they are loaded.

    Raises:
        ValueError: the file is cut short, has bytes behind its end, or holds what a tree of arrays does not.
    """
    held = HeldFile(path)
    with held.open() as file:
        if not file.seek(0, 2):
            raise ValueError("the file is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            walk = _Walk(held, data)
            tree = walk.value(0)
            if walk.place != len(data):
                raise ValueError(f"{len(data) - walk.place} bytes behind the end")
    return tree


class _Walk:
    def __init__(self, file: HeldFile, data: mmap.mmap) -> None:
        self.file = file
        self.data = data
        self.place = 0
        self.leaves = 0

    def take(self, size: int) -> bytes:
        """The next bytes."""
        if self.place + size > len(self.data):
            raise ValueError("the file is cut short")
        self.place += size
        return self.data[self.place - size : self.place]

    def number(self, code: str) -> Any:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def value(self, depth: int) -> Any:
        """What begins here."""
        first = self.take(1)[0]
        if first <= 0x7F or first >= 0xE0:
            return first if first <= 0x7F else first - 0x100
        if first <= 0x8F or first in _MAPS:
            return self.tree(first & 0x0F if first <= 0x8F else self.number(_MAPS[first]), depth)
        if 0xA0 <= first <= 0xBF or first in _TEXTS:
            return self.take(first & 0x1F if first <= 0xBF else self.number(_TEXTS[first])).decode()
        if first in _EXTENSIONS or first in _FIXED_EXTENSIONS:
            return self.array(_FIXED_EXTENSIONS.get(first) or self.number(_EXTENSIONS[first]))
        if first in _NUMBERS:
            return self.number(_NUMBERS[first])
        if first in _CONSTANTS:
            return _CONSTANTS[first]
        raise ValueError(f"byte {first:#x} at {self.place - 1} begins what a tree of arrays does not hold")

    def tree(self, count: int, depth: int) -> dict[str, Any]:
        """A map of texts to values."""
        if depth >= MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} levels deep; it is not a tree of parameters")
        result: dict[str, Any] = {}
        for _ in range(count):
            key = self.value(MAX_DEPTH)
            if not isinstance(key, str) or key in result:
                raise ValueError(f"the key {str(key)[:40]!r} is not a string, or is there twice")
            result[key] = self.value(depth + 1)
            self.leaves += 1
            if self.leaves > 2 * MAX_TENSORS:
                raise ValueError(f"lists more than {MAX_TENSORS} tensors, the most that is read")
        return result

    def array(self, length: int) -> StoredTensor | None:
        """An extension, which must be an array or a single number; its bytes are skipped, and a number is None."""
        kind = self.number(">b")
        end = self.place + length
        if kind in _SINGLE:
            self.take(length)
            return None
        if kind != ARRAY:
            raise ValueError(f"extension type {kind} is not an array")
        if end > len(self.data) or self.take(1) != b"\x93":
            raise ValueError("an array is cut short, or is not shape, dtype and bytes")
        shape, dtype = self.shape(), self.value(MAX_DEPTH)
        if dtype not in DTYPE_NAMES.values():
            raise ValueError(f"dtype {str(dtype)[:40]!r} is not one of {', '.join(DTYPE_NAMES.values())}")
        size = self.length(_BYTES)
        if prod(shape) * numpy_dtype(dtype).itemsize != size or self.place + size != end:
            raise ValueError(f"an array of {shape} {dtype} has {size} bytes")
        self.place = end
        load = partial(self.file.array, end - size, shape, numpy_dtype(dtype))
        return StoredTensor("", shape, dtype, self.file.path, load)

    def shape(self) -> tuple[int, ...]:
        first = self.take(1)[0]
        sizes = tuple(self.value(MAX_DEPTH) for _ in range(first & 0x0F)) if 0x90 <= first <= 0x9F else (-1,)
        if any(type(size) is not int or not 0 <= size < 2**48 for size in sizes):
            raise ValueError(f"shape {str(sizes)[:60]} is not a shape")
        return sizes

    def length(self, codes: dict[int, str]) -> int:
        first = self.take(1)[0]
        if first not in codes:
            raise ValueError(f"byte {first:#x} at {self.place - 1} does not begin the bytes of an array")
        size: int = self.number(codes[first])
        return size
