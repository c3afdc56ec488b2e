"""Damage for `fuzz_files`: to bytes, and to the parts of a format (JSON and msgpack values, pickle instructions).

Everything is drawn from one `random.Random`, so that a seed reproduces a file.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import pickletools
import random
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

NUMBERS = [0, 1, 2, 7, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**48, 2**63 - 1, 2**64 - 1]
CODES = ["<B", "<H", "<I", "<Q", ">B", ">H", ">I", ">Q"]
TOKENS = [
    b"-1", b"0", b"1", b"1.5", b"1e400", b"NaN", b"-Infinity", b"null", b"true", b"{}", b"[]", b'""', b'"x"', b"[1]",
    b"[[1,2]]", b'{"a":1}', b"[" * 3000, b'{"a":' * 3000, b"9" * 30, b"9" * 5000, b"4294967296", b"999999999",
    b"18446744073709551616", b'"../secret"', b'"/etc/passwd"', b'"a\\u0000b"', b'"\\ud800"', b'"\xff"', b",", b":", b"",
    b'"absolute"', b'"relative_key"', b'"gelu"', b'"F16"', b'"BF16"', b"2147483648", b"1000000", b'{"content":""}',
]  # fmt: skip
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|[\[\]{},:]')


def place(rng: random.Random, size: int) -> int:
    """A place in a file, more often near its ends, which describe the rest."""
    near = min(size, rng.choice([32, 512, 4096]))
    return rng.choice([rng.randrange(near), size - 1 - rng.randrange(near), rng.randrange(size)])


def flip(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice([1, 1, 2, 8, 40])):
        data[place(rng, len(data))] ^= 1 << rng.randrange(8)


def set_byte(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice([1, 1, 2, 8])):
        data[place(rng, len(data))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])


def cut(rng: random.Random, data: bytearray) -> None:
    at = place(rng, len(data))
    del data[at : rng.choice([len(data), at + rng.randint(1, 64)])]


def splice(rng: random.Random, data: bytearray) -> None:
    """Copy a piece of the file to another place, overwriting or inserting."""
    start, at, size = place(rng, len(data)), place(rng, len(data)), rng.choice([1, 4, 16, 64, 400])
    piece = data[start : start + size]
    data[at : at + rng.choice([0, len(piece)])] = piece


def repeat(rng: random.Random, data: bytearray) -> None:
    start, size = place(rng, len(data)), rng.choice([1, 4, 16, 64])
    data[start:start] = data[start : start + size] * rng.choice([1, 2, 10, 500])


def length(rng: random.Random, data: bytearray) -> None:
    """Overwrite some bytes with a number, like a length field."""
    at, code = place(rng, len(data)), rng.choice(CODES)
    number = rng.choice([*NUMBERS, len(data), len(data) + 1, len(data) - at])
    size = struct.calcsize(code)
    data[at : at + size] = struct.pack(code, number % 2 ** (8 * size))


def token(rng: random.Random, data: bytearray) -> None:
    """Replace a token of JSON, or of what looks like JSON, by another, or add a digit to it."""
    found = list(TOKEN.finditer(data))
    for _ in range(rng.choice([1, 1, 1, 2, 3]) if found else 0):
        old, other = rng.choice(found), rng.choice(found)
        new = rng.choice([rng.choice(TOKENS), rng.choice(TOKENS), other[0], old[0] + b"0", old[0] + b"," + other[0]])
        data[old.start() : old.end()] = new


DAMAGES: list[Callable[[random.Random, bytearray], None]] = [flip, set_byte, cut, splice, repeat, length, token]


def damaged(rng: random.Random, content: bytes, *, is_text: bool) -> bytes:
    """Damage the bytes in one to three ways."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if data:
            rng.choice([*DAMAGES, *((token,) * 7 if is_text else ())])(rng, data)
    return bytes(data)


def plain(rng: random.Random, content: bytes) -> bytes:
    return damaged(rng, content, is_text=False)


# -- JSON ------------------------------------------------------------------------------------------------------

STRANGE: list[Any] = [
    None, True, False, 0, -1, 1, 1.5, 2**31 - 1, 2**31, 2**63, 10**30, 1e300, float("nan"), float("inf"), "", "x", "\ud800",
    "a\0b", "../secret", "/etc/passwd", "<mask>", "x" * 5000, [], [[]], [1, 2], {}, {"a": 1}, {"": None}, "absolute",
    "relative_key", "gelu", "float16", "bfloat16", "F16", "BF16", "I32", {"content": ""}, [None] * 300,
]  # fmt: skip


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every container and key (or index) in a tree of dictionaries and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield tree, key
        yield from places(value)


def strange(rng: random.Random, old: Any, found: list[tuple[Any, Any]]) -> Any:
    """Another value in place of one in a tree: a similar one, one from elsewhere in the tree, or an unexpected one."""
    if type(old) is int and rng.random() < 0.5:
        return rng.choice([old + 1, old - 1, -old, old * 2, old * 2**32, float(old), str(old), bool(old)])
    if isinstance(old, str) and rng.random() < 0.3:
        return rng.choice([old + "x", old[:-1], old.upper(), [old], old + "\0"])
    other, key = rng.choice(found)
    # copied: a tree must not contain itself or change the table
    return copy.deepcopy(rng.choice([rng.choice(STRANGE), rng.choice(STRANGE), other[key], [old], {"a": old}]))


def restructure(rng: random.Random, tree: Any) -> None:
    """Make one to three changes to a tree: another value, another key, one removed, one added."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        found = list(places(tree))
        if not found:
            return
        container, key = rng.choice(found)
        change = rng.choice(["value", "value", "value", "key", "drop", "add"])
        if change == "value":
            container[key] = strange(rng, container[key], found)
        elif isinstance(container, list):
            container[key : key + (change == "drop")] = [] if change == "drop" else [strange(rng, None, found)]
        elif change == "add":
            container[rng.choice(["", "x", "__metadata__", f"{key}x"])] = strange(rng, None, found)
        else:
            value = container.pop(key)
            if change == "key":
                container[rng.choice(["", f"{key}x", str(key)[:-1], str(key).upper()])] = value


def text(rng: random.Random, content: bytes) -> bytes:
    """Damage JSON: mostly still JSON, with other values; for a text that is not JSON, the bytes."""
    if rng.random() < 0.6:
        with contextlib.suppress(ValueError):
            tree = json.loads(content)
            restructure(rng, tree)
            return json.dumps(tree).encode()
    return damaged(rng, content, is_text=True)


def header(rng: random.Random, content: bytes) -> bytes:
    """Damage safetensors: half of the files get a header that is damaged inside its correct length."""
    if rng.random() < 0.5:
        return plain(rng, content)
    end = 8 + int.from_bytes(content[:8], "little")
    inner = text(rng, content[8:end])
    return struct.pack("<Q", len(inner)) + inner + content[end:]


# -- pickles -------------------------------------------------------------------------------------------------------

STEPS = [
    b"K\x01" + b"q\xffh\xff\x86" * 60, b"\x85" * 100_000, b"K\x01", b"}", b"]", b")", b"N", b"\x85", b"\x86", b"\x87", b"s",
    b"a", b"(", b"t", b"u", b"e", b"R", b"b", b"Q", b"\x81", b"0", b"2", b"h\x00", b"h\x01", b"q\x00", b".",
    b"X\xff\xff\xff\xff", b"\x8e\xff\xff\xff\xff\xff\xff\xff\x0f", b"\x8b\xff\xff\xff\x7f", b"\x8a\xff", b"I-1\n",
    b"L99999999999999999999L\n", b"cos\nsystem\n", b"ccollections\nOrderedDict\n", b"ctorch\nFloatStorage\n",
    b"ctorch\nSize\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"cargparse\nNamespace\n", b"J\xff\xff\xff\xff",
]  # fmt: skip


@lru_cache(maxsize=8)
def steps(content: bytes) -> list[int]:
    """The positions of the instructions in the pickles at the beginning of a file."""
    stream, found = io.BytesIO(content), []
    with contextlib.suppress(ValueError):
        while True:
            found += [position for _, _, position in pickletools.genops(stream)]
    return found


def program(rng: random.Random, content: bytes) -> bytes:
    """Damage a pickle: instructions are inserted, removed or moved, and sometimes bytes are damaged."""
    if rng.random() < 0.4:
        return plain(rng, content)
    starts, data = steps(content), bytearray(content)
    for place_ in sorted(rng.sample(range(len(starts) - 1), rng.choice([1, 1, 1, 2, 3])), reverse=True):
        start, stop = starts[place_], starts[place_ + 1]
        other = rng.randrange(len(starts) - 1)
        new = rng.choice([rng.choice(STEPS), rng.choice(STEPS), content[starts[other] : starts[other + 1]], b""])
        data[start : rng.choice([start, stop])] = new
    return bytes(data)


def zipped(rng: random.Random, content: bytes) -> bytes:
    """Damage torch files: mostly a damaged pickle in a zip whose checksums are correct."""
    if rng.random() < 0.4:
        return plain(rng, content)
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, program(rng, data) if name.endswith("data.pkl") else data)
    return buffer.getvalue()


# -- msgpack -------------------------------------------------------------------------------------------------------


def unpacked(code: int, data: bytes) -> Any:
    """An array of flax as a tree: its code, and the list of shape, dtype and bytes."""
    import msgpack

    return {"\0ext": code, "content": msgpack.unpackb(data)}


def repacked(tree: Any) -> Any:
    """Convert a tree for `msgpack.packb`, with the arrays as extensions again."""
    import msgpack

    if isinstance(tree, list):
        return [repacked(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if isinstance(tree.get("\0ext"), int) and 0 <= tree["\0ext"] < 128:
        return msgpack.ExtType(tree["\0ext"], msgpack.packb(repacked(tree.get("content"))))
    return {key: repacked(value) for key, value in tree.items()}


def packed(rng: random.Random, content: bytes) -> bytes:
    """Damage flax files: half of them are still a tree, with other values, keys and arrays."""
    import msgpack

    if rng.random() < 0.5:
        with contextlib.suppress(OverflowError, UnicodeEncodeError):
            tree = msgpack.unpackb(content, ext_hook=unpacked)
            restructure(rng, tree)
            return msgpack.packb(repacked(tree))
    return plain(rng, content)
