"""The minimum for a conversion: map the bytes of a safetensors file, transpose where the format does, write one file.

    python floor.py SOURCE TARGET straight|turned fsync|none

The only thing it takes from names is which matrices are embeddings, and it checks nothing. Only numpy is imported.
"""

import json
import os
import sys

import numpy as np


def copy(source: str, target: str, is_turned: bool, is_synced: bool) -> None:
    """Write the values of `source`: dense matrices transposed if `is_turned`, on the disk on return if `is_synced`."""
    with open(source, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    with open(target, "wb", buffering=0) as out:
        for name, entry in header.items():
            start = 8 + length + entry["data_offsets"][0]
            array = np.memmap(source, np.float32, "r", start, tuple(entry["shape"]))
            is_dense = array.ndim == 2 and "embeddings" not in name
            out.write(np.ascontiguousarray(array.T) if is_turned and is_dense else array)
        if is_synced:
            os.fsync(out.fileno())


if __name__ == "__main__":
    copy(sys.argv[1], sys.argv[2], sys.argv[3] == "turned", sys.argv[4] == "fsync")
