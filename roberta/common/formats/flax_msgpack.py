"""`flax_model.msgpack` and the names of Flax's tree: read, checked before anything is copied, and write.

Only msgpack is needed, not JAX.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from roberta.common.formats import msgpack_file
from roberta.common.formats.file_order import contiguous
from roberta.common.formats.safetensors_file import Source, StoredTensor, check_count
from roberta.common.parameters import Kind, kind_of
from roberta.common.storage.folders import CheckpointError

FORMAT = "flax"
_CHUNKED = "__msgpack_chunked_array__"  # arrays of over 1 GiB come in several

# The leaf name of each kind, and back; a kernel is stored (in, out).
FLAX_LEAVES: dict[Kind, str] = {
    "embedding": "embedding",
    "dense": "kernel",
    "bias": "bias",
    "norm": "scale",
    "norm_bias": "bias",
}
_CANONICAL_LEAVES = {"embedding": "weight", "kernel": "weight", "scale": "weight"}


def read_tensors(path: Path, remarks: list[str]) -> dict[str, StoredTensor]:
    """The tensors of a file by their path in the tree, joined with dots.

    Args:
        remarks: gets a text on what lies beside the parameters (steps, moments, statistics of batches), which is not read.

    Raises:
        CheckpointError: names the file, and what in it is not a tree of arrays.
    """
    try:
        tree = msgpack_file.read_msgpack(path)
    except (ValueError, OSError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {str(error)[:200]}") from None
    beside: list[str] = []
    while isinstance(tree, dict) and "params" in tree:  # of a variable dictionary in a train state, twice
        beside += [key for key in tree if key != "params"]
        tree = tree["params"]
    if beside:
        remarks.append(f"the weights are those under params; not read: {', '.join(beside)}")
    if isinstance(tree, dict):
        tree = _joined(path, tree)
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path} holds a {type(tree).__name__}, not a tree of parameters")
    leaves = dict(flat(tree))
    check_count(path, leaves)
    return {name: _named(path, name, leaf) for name, leaf in leaves.items()}


def flat(tree: Mapping[str, Any], separator: str = ".") -> Iterator[tuple[str, Any]]:
    """The leaves of nested dictionaries, with the path of keys as their names."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            for name, leaf in flat(value, separator):
                yield f"{key}{separator}{name}", leaf
        else:
            yield str(key), value


def canonical_name(native: str) -> tuple[str, bool]:
    """The canonical name of a leaf, and whether it is stored transposed.

    Example: roberta.encoder.layer.0.output.dense.kernel -> roberta.encoder.layer.0.output.dense.weight, True.
    """
    module, _, leaf = native.replace("/", ".").rpartition(".")
    return f"{module}.{_CANONICAL_LEAVES.get(leaf, leaf)}", leaf == "kernel"


def native_name(name: str) -> str:
    """The path of a leaf, joined with slashes."""
    return f"{name.rpartition('.')[0]}.{FLAX_LEAVES[kind_of(name)]}".replace(".", "/")


def single(tensors: Mapping[str, Source]) -> Iterator[bytes | memoryview]:
    """The bytes of a file with all tensors of a model, one tensor in memory at a time."""
    tree: dict[str, Any] = {}
    for name, source in tensors.items():
        *path, leaf = native_name(name).split("/")
        branch = tree
        for key in path:
            branch = branch.setdefault(key, {})
        branch[leaf] = (kind_of(name) == "dense", source)
    yield from _packed(tree)


shard = single  # a shard is laid out as a whole file is


def _packed(tree: Mapping[str, Any]) -> Iterator[bytes | memoryview]:
    """msgpack of a tree, one array at a time."""
    packer = msgpack.Packer(use_bin_type=True)
    yield packer.pack_map_header(len(tree))
    for key, value in tree.items():
        yield packer.pack(key)
        if isinstance(value, dict):
            yield from _packed(value)
            continue
        is_turned, (_, _, load) = value
        array = contiguous(load().T if is_turned else load())
        yield from _packed_array(array) if array.nbytes <= 2**30 else _packed_chunks(packer, array)


def _packed_array(array: np.ndarray) -> Iterator[bytes | memoryview]:
    """An extension that holds shape, dtype and values; sizes are 4 bytes each."""
    content = b"\x93" + msgpack.packb(array.shape) + msgpack.packb(array.dtype.name)
    content += b"\xc6" + struct.pack(">I", array.nbytes)
    yield b"\xc9" + struct.pack(">Ib", len(content) + array.nbytes, msgpack_file.ARRAY) + content
    yield array.reshape(-1).view(np.uint8).data


def _packed_chunks(packer: msgpack.Packer, array: np.ndarray) -> Iterator[bytes | memoryview]:
    step = 2**30 // array.itemsize
    starts = range(0, array.size, step)
    yield packer.pack_map_header(3)
    yield packer.pack(_CHUNKED) + packer.pack(True)
    yield packer.pack("shape") + packer.pack({str(i): size for i, size in enumerate(array.shape)})
    yield packer.pack("chunks") + packer.pack_map_header(len(starts))
    for index, start in enumerate(starts):
        yield packer.pack(str(index))
        yield from _packed_array(array.reshape(-1)[start : start + step])


def _joined(path: Path, tree: object) -> object:
    """The tree, with arrays that are stored in chunks put together."""
    if not isinstance(tree, dict):
        return tree
    if _CHUNKED not in tree:
        return {key: _joined(path, value) for key, value in tree.items()}
    try:
        shape = tuple(tree["shape"][str(index)] for index in range(len(tree["shape"])))
        chunks = [tree["chunks"][str(index)] for index in range(len(tree["chunks"]))]
        kinds, size = {chunk.dtype for chunk in chunks}, sum(prod(chunk.shape) for chunk in chunks)
        whole = len(kinds) == 1 and all(type(number) is int and number >= 0 for number in shape) and prod(shape) == size
    except (AttributeError, KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise CheckpointError(f"{path} is damaged: the chunks of an array do not fit together")
    load = lambda: np.concatenate([chunk.load().reshape(-1) for chunk in chunks]).reshape(shape)  # noqa: E731
    return StoredTensor("", shape, kinds.pop(), path, load)


def _named(path: Path, name: str, leaf: object) -> StoredTensor:
    if not isinstance(leaf, StoredTensor):
        raise CheckpointError(f"{path}: {name} is a {type(leaf).__name__}, not an array")
    return replace(leaf, name=name)
