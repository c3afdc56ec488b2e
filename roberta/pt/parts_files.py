"""The parts of a checkpoint in PyTorch: torch's distributed checkpoints (DCP), written in the background.

What each function is for, and the names of the tensors: `roberta.common.training.part_checkpoints`. DCP describes its
files in a pickle, `.metadata`. It is read as data, by a list of the names that DCP writes, and given to DCP as objects
made here; the tensors themselves DCP reads with `torch.load(weights_only=True)`, which runs no code either.
"""

import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import combinations
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint import metadata as description
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter, _StorageInfo

from roberta.common.formats.pickle_machine import Builder, Machine, Name, Record
from roberta.common.storage.folders import CheckpointError
from roberta.common.training.optimizer_state import TrainingState
from roberta.pt.sharding import Torchrun
from roberta.pt.weights import to_numpy

if TYPE_CHECKING:
    from roberta.pt.training import Trainer

_METADATA_FILE = ".metadata"
_MODULE = "torch.distributed.checkpoint.metadata"
_ITEM = "torch.distributed.checkpoint.filesystem _StorageInfo"
_DTYPES = {f"torch {name}": getattr(torch, name) for name in ("float64", "float32", "float16", "bfloat16")}
_CLASSES = (
    "Metadata",
    "TensorStorageMetadata",
    "TensorProperties",
    "ChunkStorageMetadata",
    "MetadataIndex",
    "StorageMeta",
)
# All names in such a pickle -> what makes their values; None is a record.
_NAMES: dict[str, Builder | None] = {
    **{f"{_MODULE} {name}": None for name in (*_CLASSES, "_MEM_FORMAT_ENCODING")},
    **dict.fromkeys((_ITEM, *_DTYPES)),
    "torch Size": tuple,
    "torch.serialization _get_layout": None,
    "collections OrderedDict": lambda pairs=(): dict(pairs),
    "pathlib PosixPath": None, "pathlib WindowsPath": None, "pathlib._local PosixPath": None,
    "pathlib._local WindowsPath": None,
}  # fmt: skip


class BackgroundSave:
    """The writing of this process's parts by DCP, in a thread."""

    def __init__(self, future: "Future[Any]") -> None:
        self._future = future

    def is_done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._future.done()

    def wait(self) -> None:
        """Return once the parts are safe on the disk; raises what prevented that."""
        self._future.result()


def outline(trainer: "Trainer") -> tuple[Mapping[str, str], TrainingState]:
    """The texts of the model's folder, and the state of the trainer without arrays."""
    return trainer.outline()


def begin_parts(trainer: "Trainer", folder: Path) -> BackgroundSave:
    """Copy what this process has of the tensors, and begin to write it."""
    group = trainer.processes.background if isinstance(trainer.processes, Torchrun) else None
    writer = FileSystemWriter(folder)
    future = state_dict_saver.async_save(trainer.part_tensors(), storage_writer=writer, process_group=group)
    assert isinstance(future, Future), "the writer copies before it returns"
    return BackgroundSave(future)


def restore_parts(trainer: "Trainer", folder: Path, state: TrainingState) -> None:
    """Give a new trainer the tensors in a folder that any number of processes wrote.

    Raises:
        CheckpointError: the folder is damaged, or of another trainer; lists what differs.
    """
    trainer.begin_at(state)
    tensors, reader = trainer.part_tensors(), SafeReader(folder)
    stored = reader.read_metadata().state_dict_metadata
    wrong = [f"missing: {name}" for name in tensors if name not in stored]
    wrong += [f"not of this training: {name}" for name in stored if name not in tensors]
    for name, tensor in tensors.items():
        found: Any = stored.get(name)
        if found is not None and (tuple(found.size), found.properties.dtype) != (tuple(tensor.shape), tensor.dtype):
            wrong.append(
                f"{name} is {found.properties.dtype} {list(found.size)}, not {tensor.dtype} {list(tensor.shape)}"
            )
    if wrong:
        raise CheckpointError(f"{folder} does not hold the state of this training:\n  " + "\n  ".join(wrong[:20]))
    _load(tensors, reader, alone=not dist.is_initialized())


def read_parts(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of a folder, whole, in one process.

    Raises:
        CheckpointError: it is damaged.
    """
    reader = SafeReader(folder)
    stored: Any = reader.read_metadata().state_dict_metadata
    claimed = sum(prod(one.size) * one.properties.dtype.itemsize for one in stored.values())
    there = sum(path.stat().st_size for path in folder.iterdir())
    if claimed > there:  # before memory is taken for it
        raise CheckpointError(f"{folder} is damaged: its tensors have {claimed} bytes, and its files {there}")
    tensors = {name: torch.empty(tuple(one.size), dtype=one.properties.dtype) for name, one in stored.items()}
    _load(tensors, reader, alone=True)
    return {name: to_numpy(tensor) for name, tensor in tensors.items()}


class SafeReader(FileSystemReader):
    """DCP's own reader, which does not run the pickle that describes the files."""

    def read_metadata(self, *args: Any, **others: Any) -> description.Metadata:
        """What the files hold, and where.

        Raises:
            CheckpointError: the description is damaged, or has a name that DCP does not write.
        """
        path = Path(self.path) / _METADATA_FILE
        try:
            with path.open("rb") as file:
                found = Machine(path, _NAMES).run(file)
            made = _metadata(found)
        except FileNotFoundError as error:
            raise CheckpointError(f"{path} does not exist: the checkpoint is not whole") from error
        except CheckpointError:
            raise
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise CheckpointError(f"{path} is damaged: {str(error)[:200]}") from error
        made.storage_meta = description.StorageMeta(load_id=self.load_id)
        return made


def _load(tensors: dict[str, Tensor], reader: FileSystemReader, *, alone: bool) -> None:
    """Fill tensors in place, each process its own part."""
    try:
        with _quiet(), torch.no_grad():
            state_dict_loader.load(tensors, storage_reader=reader, no_dist=alone)
    except CheckpointError:
        raise
    except CheckpointException as error:  # of any process; its own text has all of their traces
        causes = ", ".join(f"rank {rank}: {cause}" for rank, (cause, _) in error.failures.items())
        raise CheckpointError(f"{reader.path} cannot be read: {causes[:500]}") from error
    except Exception as error:
        raise CheckpointError(f"{reader.path} cannot be read: {str(error)[:500]}") from error


def _metadata(found: object) -> description.Metadata:
    """DCP's description of a checkpoint, of the records in its pickle."""
    state = _state(found, "Metadata")
    tensors: dict[str, Any] = {str(name): _tensor(one) for name, one in state["state_dict_metadata"].items()}
    places = {_index(index): _place(one) for index, one in state["storage_data"].items()}
    return description.Metadata(tensors, storage_data=places, version=str(state.get("version")))


def _tensor(found: object) -> description.TensorStorageMetadata:
    state = _state(found, "TensorStorageMetadata")
    dtype = _state(state["properties"], "TensorProperties")[0]
    if not isinstance(dtype, Name) or dtype.text not in _DTYPES:
        raise ValueError("a tensor is of no dtype of weights")
    states = [_state(chunk, "ChunkStorageMetadata") for chunk in state["chunks"]]
    chunks = [description.ChunkStorageMetadata(_size(one["offsets"]), _size(one["sizes"])) for one in states]
    size = _size(state["size"])
    are_inside = all(
        len(one.offsets) == len(one.sizes) == len(size)
        and all(start + length <= whole for start, length, whole in zip(one.offsets, one.sizes, size, strict=True))
        for one in chunks
    )
    overlap = any(_overlap(*pair) for pair in combinations(chunks, 2))
    if (
        not are_inside or overlap or sum(prod(one.sizes) for one in chunks) != prod(size)
    ):  # else memory would stay as it was
        raise ValueError("the parts of a tensor are not all of it")
    return description.TensorStorageMetadata(description.TensorProperties(dtype=_DTYPES[dtype.text]), size, chunks)


def _overlap(one: description.ChunkStorageMetadata, other: description.ChunkStorageMetadata) -> bool:
    """Whether two parts of a tensor have an element in common."""
    begins = map(max, one.offsets, other.offsets)
    ends = (min(start + size, begin + length) for start, size, begin, length in
            zip(one.offsets, one.sizes, other.offsets, other.sizes, strict=True))  # fmt: skip
    return all(begin < end for begin, end in zip(begins, ends, strict=True))


def _index(found: object) -> description.MetadataIndex:
    state = _state(found, "MetadataIndex")
    offset = state.get("offset")
    return description.MetadataIndex(str(state["fqn"]), None if offset is None else _size(offset))


def _place(found: object) -> _StorageInfo:
    """Where a tensor lies: only in a file of the folder itself."""
    if not isinstance(found, Record) or found.name != _ITEM:
        raise TypeError("a place is not one")
    state = found.state
    name, numbers = state["relative_path"], (state["offset"], state["length"])
    is_own = isinstance(name, str) and Path(name).name == name and name.endswith(".distcp")
    if not is_own or state.get("transform_descriptors"):
        raise ValueError(f"{name!r} is not a file of this folder")
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(f"{numbers!r} is not a place in a file")
    return _StorageInfo(name, *numbers)


def _size(found: object) -> torch.Size:
    if not isinstance(found, tuple) or not all(type(number) is int and 0 <= number < 2**48 for number in found):
        raise ValueError("a shape is not of sizes")
    return torch.Size(found)


def _state(found: object, name: str) -> Any:
    """The attributes of a record of DCP's class of that name."""
    if not isinstance(found, Record) or found.name != f"{_MODULE} {name}":
        raise TypeError(f"what should be {name} is not")
    return found.state


@contextmanager
def _quiet() -> Iterator[None]:
    """Without DCP's warning that one process works alone, which is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield
