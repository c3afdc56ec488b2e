"""Training files that are too large to be kept in memory are prepared as a token store, in the folder of the training."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from roberta.common.tokenizer.base import TokenizerBase
from roberta.common.training.data.tasks import Task
from roberta.common.training.data.token_store import TokenStore, is_store
from roberta.common.training.datasets import DataSettings, reading_options
from roberta.common.training.fingerprints import paths_of
from roberta.common.training.preparation import prepare_store

STORE_FOLDER = "corpus"  # in the folder of a training
_SHARE = 4  # of the memory: texts as tokens of Python take about four times their size


def stored_if_large(
    train: Any, task: Task, settings: DataSettings, tokenizer: TokenizerBase, output: Path, progress: bool | None
) -> Any:
    """A token store of training files that are larger than a quarter of the memory; other data as it is.

    Raises:
        ValueError: a share of such files is to be held out.
    """
    paths = paths_of(train)
    if task not in ("mlm", "clm") or not paths or any(map(is_store, paths)):
        return train
    size, memory = sum(path.stat().st_size for path in paths if path.is_file()), memory_bytes()
    if size <= memory / _SHARE:
        return train
    said = f"files of {size / 1e9:.1f} GB are more than a quarter of the memory ({memory / 1e9:.1f} GB)"
    if settings.validation_split is not None:
        raise ValueError(
            f"validation_split={settings.validation_split!r} needs all documents of train in memory, and its {said}; omit "
            "it, and give validation files, which may be parts of these that you take out"
        )
    folder = output / STORE_FOLDER
    if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun starts, one says it; all others wait for it
        tqdm.write(
            f"train: {said}: they are prepared as a token store, once, in {folder}",
            file=sys.stderr,
        )
    store: TokenStore = prepare_store(paths, tokenizer, folder, reading_options(settings, task), progress=progress)
    return store


def memory_bytes(root: Path = Path("/")) -> int:
    """The memory that this process may use: that of the machine, or of its container.

    Args:
        root: of the file system with the limits.
    """
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return sys.maxsize
    limits = [root / "sys/fs/cgroup" / name for name in ("memory.max", "memory/memory.limit_in_bytes")]
    said = [path.read_text().strip() for path in limits if path.is_file()]
    return min([there, *(int(limit) for limit in said if limit.isdecimal())])
