"""Run as a script: print where the tensors of an HDF5 file lie, as JSON.

libhdf5 crashes and hangs on damaged files, so only this process opens the file, under limits; the caller maps the
bytes itself. Links out of the file, compressed and scattered data are refused.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any

import h5py
from h5py import h5d, h5g, h5l, h5o

MEMORY = 256 * 2**20  # bytes beyond what numpy and libhdf5 take to start; 20,000 tensors take 130 MB
MAX_DATASETS = 40_000
_PATIENCE = 0.5  # seconds of processor time until the first tensor, and from one to the next; a good file takes 1 ms


def locate_tensors(path: str, progress: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Whether tensors are grouped by Keras layer, and path -> shape, dtype and first byte of every dataset.

    Args:
        progress: is called after each dataset.
    """
    found: dict[str, Any] = {}
    with h5py.File(path, "r") as file:
        for where, data in _datasets(file.id, "", seen=set(), depth=0):
            found[where] = _entry(where, data)
            progress()
            if len(found) > MAX_DATASETS:
                raise ValueError(f"the file has over {MAX_DATASETS} datasets")
        names = file.attrs.get("layer_names", file.attrs.get("layer_names0", ()))
    # a whole file lists its layers, a shard its variables
    return {"is_grouped": any(":" not in str(name) for name in names), "tensors": found}


def _datasets(group: h5g.GroupID, prefix: str, seen: set[int], depth: int) -> Iterator[tuple[str, h5d.DatasetID]]:
    place = h5o.get_info(group).addr
    if depth > 32 or place in seen:
        raise ValueError("the file is nested too deeply, or a group of it is in two places")
    seen.add(place)
    for name in group:
        where = f"{prefix}{name.decode()}"
        if group.links.get_info(name).type != h5l.TYPE_HARD:
            raise ValueError(f"{where} is a link out of its place; links are not followed")
        item = h5o.open(group, name)
        if isinstance(item, h5g.GroupID):
            yield from _datasets(item, f"{where}/", seen, depth + 1)
        elif isinstance(item, h5d.DatasetID):
            yield where, item


def _entry(where: str, data: h5d.DatasetID) -> dict[str, Any]:
    plan = data.get_create_plist()
    if plan.get_layout() not in (h5d.CONTIGUOUS, h5d.COMPACT) or plan.get_external_count():
        raise ValueError(f"{where} is compressed, or its values lie in another file; save the model again, plainly")
    shape, dtype, offset = data.shape, data.dtype.str, data.get_offset()
    if offset is None and (shape is None or 0 not in shape):
        raise ValueError(f"{where} has no values in the file")
    if offset is not None and data.get_storage_size() != prod(shape) * data.dtype.itemsize:
        raise ValueError(f"{where} is damaged: {dtype} of {list(shape)} has {data.get_storage_size()} bytes")
    if dtype == "|V2" and h5py.Dataset(data).attrs.get("dtype") == "bfloat16":  # as Keras stores it
        dtype = "bfloat16"
    return {"shape": shape, "dtype": dtype, "offset": offset or 0}


def watch() -> None:
    """End this process `_PATIENCE` seconds of processor time from now; called again, from then.

    Time on the processor, not on the clock: a slow disk or a busy machine does not use it up, a loop does.
    """
    with contextlib.suppress(ImportError, AttributeError):  # not on Windows
        import signal

        signal.setitimer(signal.ITIMER_PROF, _PATIENCE)  # SIGPROF, which nobody handles, also ends a loop in libhdf5


def limit_memory() -> None:
    """Let this process take `MEMORY` more than it has."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # not on Windows and macOS
        import resource

        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))


def locate_within_limits(path: str) -> tuple[int, str]:
    """The exit code, and what is printed: the layout, or the first line of what is wrong."""
    limit_memory()
    watch()
    try:
        return 0, json.dumps(locate_tensors(path, watch))
    except Exception as error:
        return 1, (str(error).splitlines() or [type(error).__name__])[0][:200]


if __name__ == "__main__":
    code, text = locate_within_limits(sys.argv[1])
    print(text, file=sys.stderr if code else sys.stdout)
    sys.exit(code)
