"""Run as a script: print where the tensors of an HDF5 file lie, as JSON.

libhdf5 crashes and hangs on damaged files, so only this process opens the file, under limits; the caller maps the
bytes itself. Links out of the file, compressed and scattered data are refused.
"""

import contextlib
import json
import sys
from typing import Any

import h5py

MEMORY = 4 * 2**30  # bytes of address space, most of it numpy's and libhdf5's own


def layout(path: str) -> dict[str, Any]:
    """Whether tensors are grouped by Keras layer, and path -> shape, dtype and first byte of every dataset."""
    found: dict[str, Any] = {}
    with h5py.File(path, "r") as file:
        _walk(file, "", found, depth=0)
        names = file.attrs.get("layer_names", file.attrs.get("layer_names0", ()))
    # a whole file lists its layers, a shard its variables
    return {"is_grouped": any(":" not in str(name) for name in names), "tensors": found}


def _walk(group: h5py.Group, prefix: str, found: dict[str, Any], depth: int) -> None:
    if depth > 32 or len(found) > 40_000:
        raise ValueError("the file is nested too deeply or has too many datasets")
    for name in group:
        where = f"{prefix}{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{where} is a link out of its place; links are not followed")
        item = group[name]
        if isinstance(item, h5py.Group):
            _walk(item, f"{where}/", found, depth + 1)
        elif isinstance(item, h5py.Dataset):
            found[where] = _entry(where, item)


def _entry(where: str, data: h5py.Dataset) -> dict[str, Any]:
    if data.is_virtual or data.external or data.chunks:
        raise ValueError(f"{where} is compressed, or its values lie in another file; save the model again, plainly")
    offset = data.id.get_offset()
    if offset is None and data.size:
        raise ValueError(f"{where} has no values in the file")
    is_bfloat16 = data.dtype.str == "|V2" and data.attrs.get("dtype") == "bfloat16"  # as Keras stores it
    return {"shape": data.shape, "dtype": "bfloat16" if is_bfloat16 else data.dtype.str, "offset": offset or 0}


if __name__ == "__main__":
    with contextlib.suppress(ImportError):  # not on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        print(json.dumps(layout(sys.argv[1])))
    except Exception as error:
        sys.exit(str(error).splitlines()[0][:200])
