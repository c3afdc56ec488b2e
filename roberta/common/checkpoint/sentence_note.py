"""The note that a save leaves out how sentence-transformers made vectors with the model."""

from __future__ import annotations

import sys
from pathlib import Path

from roberta.common.checkpoint.loading import say_once
from roberta.common.storage.folders import CheckpointError
from roberta.common.storage.hub import local_folder
from roberta.common.storage.modules_file import MODULES_FILE, transformer_folder


def note_lost_recipe(name_or_path: str, target: Path) -> None:
    """Say, once, that a save leaves out the pooling of the folder that the model came from.

    Args:
        name_or_path: where the model came from; "" for nowhere.
        target: the folder that was written; in a folder of sentence-transformers nothing is lost.
    """
    source = _source(name_or_path)
    if source is None or any((folder / MODULES_FILE).is_file() for folder in (target, target.absolute().parent)):
        return
    try:
        inside = transformer_folder(source / MODULES_FILE)
    except CheckpointError:
        return
    say_once(
        f"{name_or_path} says how vectors are made of texts ({MODULES_FILE}), and save_pretrained writes the transformer "
        f"alone: with {target}, the pipeline takes the mean over the tokens. To keep it, copy the whole folder {source} and "
        f"save into {inside or 'it'}{' of the copy' if inside else ''}, or give pooling= and normalize= to the pipeline"
    )


def _source(name_or_path: str) -> Path | None:
    """The local folder of a model of sentence-transformers; None for any other model."""
    if not name_or_path:
        return None
    try:
        folder = Path(name_or_path)
        if not folder.is_dir() and "huggingface_hub" in sys.modules:  # else nothing was fetched
            folder = local_folder(name_or_path, files=(MODULES_FILE,), in_transformer=False, local_files_only=True)
        return folder if (folder / MODULES_FILE).is_file() else None
    except (OSError, ValueError):  # not the name of a folder, or of anything that was fetched
        return None
