"""Other people's implementations, for tests that compare with them: fetched by `make oracle`, never dependencies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def overlay(version: int) -> Path:
    """A folder with that version of transformers and its dependencies, to put on a child's PYTHONPATH."""
    folder = Path(os.environ.get(f"ROBERTA_ORACLE{version}", ROOT / ".oracle" / f"transformers{version}"))
    if not folder.is_dir():
        pytest.skip(f"transformers {version} does not exist; `make oracle` fetches it")
    return folder


def environment(version: int) -> dict[str, str]:
    """The environment of a child that imports that version of transformers, with PyTorch only."""
    return {**os.environ, "PYTHONPATH": str(overlay(version)), "USE_TF": "0", "USE_FLAX": "0"}
