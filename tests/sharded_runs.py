"""Short trainings that one process or several make."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import updates
from backends import backend

from roberta.common.training.data.tasks import HEADS

CASES = ("mlm", "tokens", "numbers", "choices")
OPTIONED = ("tokens", "mlm")  # with all options that change the weights
SHARDINGS = ("data", "full")
UPDATES, ROWS, SIZE = 3, 5, 2  # micro-batches of 2, 2 and 1 rows: the second process has no row of the last


def run_of(case: str, sharding: Any = "none", size: int = SIZE, **changed: Any) -> updates.ShortRun:
    chosen = updates.settings(case, sharding=sharding, **changed)
    if case in OPTIONED:
        chosen = updates.with_options(chosen)
    listed = updates.Listed(case, updates.config_of(case), ROWS, size, chosen.class_weights)
    return updates.ShortRun(chosen, listed, UPDATES)


def trained(folder: Path, case: str, run: updates.ShortRun, framework: str = "pt", **options: Any) -> Any:
    model = backend(framework).load(HEADS[run.settings.task], folder / case, dtype="float64")
    return importlib.import_module(f"roberta.{framework}.training").train(model, run, **options)
