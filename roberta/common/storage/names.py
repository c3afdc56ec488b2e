"""The names of weights files: by format, variant and shard. No import of anything else, as the hub needs them too."""

from __future__ import annotations

import re

# Format -> stem and suffix of its weights file, best first.
FORMATS = {
    "safetensors": ("model", ".safetensors"),
    "pt": ("pytorch_model", ".bin"),
    "tf": ("tf_model", ".h5"),
    "flax": ("flax_model", ".msgpack"),
}


def weight_files(format_: str, variant: str | None = None) -> tuple[str, str]:
    """The names of the single file and of the index of a format: model.safetensors, model.safetensors.index.json."""
    stem, suffix = FORMATS[format_]
    mark = "" if variant is None else f".{variant}"
    return f"{stem}{mark}{suffix}", f"{stem}{suffix}.index{mark}.json"


def is_plain_name(name: str) -> bool:
    """Whether a name is of a file in the same folder, and not a path."""
    is_short = len(name.encode("utf-8", "replace")) <= 255  # what file systems take
    return is_short and name not in ("", ".", "..") and not re.search(r"[/\\\0:]", name)
