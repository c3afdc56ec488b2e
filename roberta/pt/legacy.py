"""`pytorch_model.bin`: read without running what a pickle may hold, and write.

A pickle is a program. Before torch's restricted loader sees it, its opcodes are listed (not run), and any name but
those that a plain dictionary of tensors needs is refused.
"""

import io
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from roberta.common.files import CheckpointError
from roberta.common.safetensors_file import MAX_HEADER, MAX_TENSORS, Source, StoredTensor
from roberta.pt.weights import to_numpy, to_tensor

FORMAT = "pt"
_STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the old form
_ALLOWED = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(f"torch {name}Storage" for name in _STORAGES),
}


def read(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file by name, mapped from the disk where the file is torch's zip form.

    Raises:
        CheckpointError: names the file, and what it holds beside tensors.
    """
    is_zip = zipfile.is_zipfile(path)
    try:
        _check_zip(path) if is_zip else _check_old(path)
        # FutureWarning-free in both forms; the old form (torch < 1.6) cannot be mapped
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except CheckpointError:
        raise
    except Exception as error:  # torch and zipfile raise a dozen types for a damaged file
        raise CheckpointError(f"{path} cannot be read: {str(error).splitlines()[0][:200]}") from None
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, not a dictionary of tensors by name")
    if len(state) > MAX_TENSORS:
        raise CheckpointError(f"{path} lists {len(state)} tensors; {MAX_TENSORS} are the most that is read")
    return {name: _stored(path, name, tensor) for name, tensor in state.items()}


def canonical_name(native: str) -> tuple[str, bool]:
    """The canonical name, which is the file's own, and whether the tensor is stored transposed: never."""
    return native, False


def native_name(name: str) -> str:
    """The name in the file."""
    return name


def single(tensors: Mapping[str, Source]) -> Iterator[bytes]:
    """The bytes of a file with all tensors of a model."""
    buffer = io.BytesIO()
    state = {}
    for name, (_, dtype, load) in tensors.items():
        state[name] = to_tensor(load(), getattr(torch, dtype)).contiguous()
    torch.save(state, buffer)
    yield buffer.getbuffer()


shard = single  # a shard is laid out as a whole file is


def _stored(path: Path, name: str, tensor: Any) -> StoredTensor:
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
        raise CheckpointError(f"{path}: {name} is a {type(tensor).__name__}; only dense tensors are read")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():  # strides of 0 or that overlap
        raise CheckpointError(f"{path}: {name} of {list(tensor.shape)} claims more values than the file holds")
    dtype = str(tensor.dtype).removeprefix("torch.")
    return StoredTensor(
        name, tuple(tensor.shape), dtype, path, lambda: to_numpy(tensor).copy()
    )  # the map must not outlive it


def _check_zip(path: Path) -> None:
    """Look at every name in the pickle, and at sizes that are more than the file's."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > path.stat().st_size or len(entries) > MAX_TENSORS:
            raise CheckpointError(f"{path} unpacks to more than its own size; it is not opened")
        pickles = [entry for entry in entries if entry.filename.endswith(".pkl")]
        if not pickles or any(entry.file_size > MAX_HEADER for entry in pickles):
            raise CheckpointError(f"{path} is not a file of torch.save")
        for entry in pickles:
            _check_names(path, io.BytesIO(archive.read(entry)))


def _check_old(path: Path) -> None:
    """The form before torch 1.6: five pickles in a row (magic, version, system, content, keys), then the data."""
    with open(path, "rb") as file:
        for _ in range(5):
            _check_names(path, file)


def _check_names(path: Path, stream: IO[bytes]) -> None:
    """Read one pickle without running it; refuse names that are not in `_ALLOWED`, and sizes above the file's."""
    size = path.stat().st_size
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4", "REDUCE_EX"):
                raise CheckpointError(f"{path} has a pickle that torch.save does not write; it is not opened")
            if opcode.name == "GLOBAL" and argument not in _ALLOWED:
                raise CheckpointError(
                    f"{path} would call {str(argument).replace(' ', '.')}, which tensors do not need; it is not opened"
                )
            if opcode.name in ("BININT", "LONG1", "LONG4") and argument > size and argument != _MAGIC:
                raise CheckpointError(f"{path} claims a size of {argument}, more than the file has; it is not opened")
    except ValueError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is not a file of torch.save: {error}") from None
