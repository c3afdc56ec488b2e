"""Settings from real configs: recorded outputs of transformers 4.57 in float64, in every framework."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from backends import Backend
from conftest import SHARED
from family import Recorded

MODELS = SHARED / "golden" / "family" / "models"
NAMES = sorted(folder.name for folder in MODELS.iterdir()) if MODELS.is_dir() else []
DTYPES = ("cfg-f16-weights", "cfg-bf16-weights", "cfg-torch-dtype", "cfg-both-dtypes")


def load(backend: Backend, recorded: Recorded, file_format: str, dtype: str | None = "float64") -> Any:
    """The model in the Roberta class of its head; warnings about its file do not matter here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "this config is of model_type", UserWarning)
        warnings.filterwarnings("ignore", "id2label .* contradict", UserWarning)
        return backend.load(recorded.info["head"], recorded.folder / file_format, dtype)


@pytest.mark.parametrize("name", NAMES)
def test_every_case_of_every_setting(backend: Backend, name: str) -> None:
    recorded = Recorded(MODELS / name)
    if backend.name != "pt" and not recorded.is_roberta:
        pytest.skip("of another family: the same tensors, which PyTorch runs")
    first, *others = recorded.info["formats"]
    try:
        model = load(backend, recorded, first)
    except ValueError:
        if not recorded.may_be_refused:
            raise
        return
    assert not recorded.must_be_refused
    if recorded.is_roberta:  # other families have other defaults
        recorded.check_config(model.config)
    for case in recorded.info["cases"]:
        recorded.check(backend, model, case)
    wanted = backend.parameters(model)
    for other in others:
        found = backend.parameters(load(backend, recorded, other))
        assert all(np.array_equal(found[key], value) for key, value in wanted.items())


@pytest.mark.parametrize("name", DTYPES)
def test_what_a_file_says_of_its_dtype_is_for_auto_alone(backend: Backend, name: str) -> None:
    if name not in NAMES:
        pytest.skip("the reference outputs (golden) are not beside the project")
    recorded = Recorded(MODELS / name)
    model = load(backend, recorded, recorded.info["formats"][0], dtype=None)
    assert recorded.info["model_dtype"] in str(model.dtype)
