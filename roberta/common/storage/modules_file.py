"""`modules.json` of sentence-transformers: which folder holds the transformer, and what comes after it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from roberta.common.storage.folders import CheckpointError

MODULES_FILE = "modules.json"
# What the first part was called; until version 0.3 each architecture had a class.
_TRANSFORMERS = ("Transformer", "RoBERTa", "XLMRoBERTa", "CamemBERT")


@dataclass(frozen=True)
class Module:
    """A part of a model of sentence-transformers: its class, and its folder, "" for the model's own."""

    kind: str
    path: str


def read_modules(file: Path) -> tuple[Module, ...]:
    """The parts that a modules.json lists, in their order.

    Raises:
        CheckpointError: it is not such a list, or names a folder outside of the model's.
    """
    try:
        listed = json.loads(file.read_text(encoding="utf-8"))
        found = tuple(Module(str(part["type"]).rpartition(".")[2], str(part["path"]).strip("/")) for part in listed)
    except (ValueError, KeyError, TypeError, RecursionError):
        found = ()
    if not found:
        raise CheckpointError(f'{file} is not a list of parts, [{{"type": ..., "path": ...}}]; fix or remove it')
    for part in found:
        if len(PurePosixPath(part.path).parts) > 1 or part.path in (".", "..") or "\\" in part.path or ":" in part.path:
            raise CheckpointError(f"{file} names {part.path!r}, which is not a folder beside it; it is not opened")
    return found


def is_transformer(module: Module) -> bool:
    """Whether a part is the transformer."""
    return module.kind in _TRANSFORMERS


def transformer_folder(file: Path) -> str:
    """The folder of the transformer that a modules.json lists, "" for the one that the file is in.

    Raises:
        CheckpointError: the first part is not a transformer.
    """
    first = read_modules(file)[0]
    if not is_transformer(first):
        raise CheckpointError(f"{file}: its first part, {first.path}, is a {first.kind}, and not a Transformer")
    return first.path
