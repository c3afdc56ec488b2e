"""What identifies the data of a training: a resumed one must have the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from roberta.common.tokenizer.base import TokenizerBase
from roberta.common.training.data.batches import Feature


def fingerprint(name: str, source: Any, features: Sequence[Feature]) -> dict[str, str]:
    """Size and SHA-256 of each file, or of the features of data that is not a file, by a name such as "train 1"."""
    paths = paths_of(source)
    if paths is None:
        found = hashlib.sha256()
        for feature in features:
            for key in sorted(feature):
                if key not in ("window", "offsets"):  # they follow from the others
                    values = feature[key] if isinstance(feature[key], list) else [feature[key]]
                    found.update(b"".join(np.asarray(value).tobytes() for value in values))
        return {name: f"{len(features)} rows, sha256 {found.hexdigest()}"}
    result = {}
    for number, path in enumerate(paths, 1):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            result[f"{name} {number}"] = f"{path.stat().st_size} bytes, sha256 {digest}"
    return result


def tokenizer_hash(tokenizer: TokenizerBase) -> str:
    """SHA-256 of the files of a tokenizer."""
    found = hashlib.sha256()
    for name, content in sorted(tokenizer.files_to_save().items()):
        found.update(name.encode() + content)
    return found.hexdigest()


def paths_of(source: Any) -> list[Path] | None:
    """The files that a source names; None for data that is not files."""
    if isinstance(source, str | PathLike):
        return [Path(source)]
    is_files = isinstance(source, list | tuple) and all(isinstance(one, str | PathLike) for one in source)
    return [Path(one) for one in source] if is_files else None
