"""An HDF5 file, read without libhdf5 in this process: another one lists where the tensors lie, and they are mapped."""

import json
import os
import signal
import subprocess
import sys
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from roberta.common.formats import h5_layout
from roberta.common.formats.safetensors_file import StoredTensor, numpy_dtype
from roberta.common.storage.folders import CheckpointError
from roberta.common.storage.held_files import HeldFile

_SECONDS = 60  # on the clock, to list a file, where the disk does not answer; what loops ends itself far earlier
# Exit code of a reader that says nothing -> what is wrong with the file.
_ENDINGS = {-signal.SIGPROF: "listing its tensors does not come to an end"} if hasattr(signal, "SIGPROF") else {}


def list_h5(path: Path) -> dict[str, Any]:
    """What `h5_layout` prints of a file, from a process of its own; `CheckpointError` when that ends badly."""
    command = [sys.executable, "-P", h5_layout.__file__, str(path)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, env=environment, check=False)
    except subprocess.TimeoutExpired:
        raise CheckpointError(f"{path} cannot be read: listing it took more than {_SECONDS} s") from None
    if child.returncode:
        lines = child.stderr.strip().splitlines()[-1:] or [_ENDINGS.get(child.returncode, "the reader crashed on it")]
        raise CheckpointError(f"{path} cannot be read: {lines[0]}")
    found: dict[str, Any] = json.loads(child.stdout)
    return found


def open_h5(path: Path) -> tuple[HeldFile, dict[str, Any]]:
    """A file, held open, and what `h5_layout` prints of it; `CheckpointError` when it cannot be listed."""
    held = HeldFile(path)
    found = list_h5(path)
    held.check_name()  # the other process has opened it by its path
    return held, found


def stored_in_h5(path: HeldFile, name: str, entry: dict[str, Any]) -> StoredTensor:
    """A tensor where `list_h5` found it, mapped from the disk when it is loaded."""
    shape, dtype, offset = tuple(entry["shape"]), numpy_dtype(entry["dtype"]), entry["offset"]
    is_number = dtype.kind in "fiub" or dtype.name == "bfloat16"
    if not is_number or offset + prod(shape) * dtype.itemsize > path.stat().st_size:
        raise CheckpointError(f"{path} is damaged: {name}, {dtype} of {list(shape)}, does not lie in the file")

    def load() -> np.ndarray:
        return path.array(offset, shape, dtype).astype(dtype.newbyteorder("="), copy=False)

    return StoredTensor(name, shape, dtype.newbyteorder("=").name, path.path, load)
