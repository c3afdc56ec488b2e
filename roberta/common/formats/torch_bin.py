"""`pytorch_model.bin`: read without running what a pickle may hold, and write, one tensor in memory at a time.

Torch is not needed: `roberta.common.formats.torch_zip` reads the pickle as data, and maps the tensors from the disk.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from roberta.common.formats import torch_writer, torch_zip
from roberta.common.formats.safetensors_file import Source, StoredTensor, check_count
from roberta.common.storage.folders import CheckpointError

FORMAT = "pt"


def read_tensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file by name, mapped from the disk.

    Raises:
        CheckpointError: names the file, and what it holds beside tensors.
    """
    state = torch_zip.read_torch_zip(path)
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, not a dictionary of tensors by name")
    check_count(path, state)
    return {name: _named(path, name, tensor) for name, tensor in state.items()}


def canonical_name(native: str) -> tuple[str, bool]:
    """The canonical name, which is the file's own, and whether the tensor is stored transposed: never."""
    return native, False


def native_name(name: str) -> str:
    """The name in the file."""
    return name


def single(tensors: Mapping[str, Source]) -> Iterator[bytes | memoryview]:
    """The bytes of a file with all tensors of a model."""
    yield from torch_writer.torch_zip_pieces(torch_writer.state_dict(tensors))


shard = single  # a shard is laid out as a whole file is


def _named(path: Path, name: str, tensor: object) -> StoredTensor:
    if not isinstance(tensor, StoredTensor):
        raise CheckpointError(f"{path}: {name} is a {type(tensor).__name__}; only dense tensors are read")
    return replace(tensor, name=name)
