"""Settings as configs have them: recorded outputs of transformers 4.57 in float64, in every framework."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from backends import Backend
from conftest import SHARED
from family import Recorded

MODELS = SHARED / "golden" / "family" / "models"
NAMES = sorted(folder.name for folder in MODELS.iterdir()) if MODELS.is_dir() else []


def load(backend: Backend, recorded: Recorded, file_format: str, dtype: str | None = "float64") -> Any:
    """The model in the Roberta class of its head; what is said of its file is not at issue here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "this config is of model_type", UserWarning)
        warnings.filterwarnings("ignore", "id2label .* contradict", UserWarning)
        return backend.load(recorded.info["head"], recorded.folder / file_format, dtype)


@pytest.mark.parametrize("name", NAMES)
def test_every_case_of_every_setting(backend: Backend, name: str) -> None:
    recorded = Recorded(MODELS / name)
    try:
        model = load(backend, recorded, recorded.info["formats"][0])
    except ValueError:
        if not recorded.may_be_refused:
            raise
        return
    assert not recorded.must_be_refused
    if recorded.is_roberta:  # other families have other defaults
        recorded.check_config(model.config)
    for case in recorded.info["cases"]:
        recorded.check(backend, model, case)
