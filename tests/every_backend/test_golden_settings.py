"""Settings from real configs: recorded outputs of transformers 4.57 in float64, in every framework."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from backends import Backend
from conftest import SHARED
from family import Recorded

import roberta

MODELS = SHARED / "golden" / "family" / "models"
NAMES = sorted(folder.name for folder in MODELS.iterdir()) if MODELS.is_dir() else []
DTYPES = ("cfg-f16-weights", "cfg-bf16-weights", "cfg-torch-dtype", "cfg-both-dtypes")


def load(backend: Backend, recorded: Recorded, file_format: str, dtype: str | None = "float64") -> Any:
    """The model in the class it was recorded with, which says so if the folder is another family's."""
    kind = getattr(roberta, recorded.info["classes"][backend.name])
    is_others = kind.config_class.model_type != recorded.info["model_type"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "id2label .* contradict", UserWarning)
        with pytest.warns(UserWarning, match="this config is of model_type") if is_others else nullcontext():
            return kind.from_pretrained(recorded.folder / file_format, dtype=dtype)


@pytest.mark.parametrize("name", NAMES)
def test_every_case_of_every_setting(backend: Backend, name: str) -> None:
    recorded = Recorded(MODELS / name)
    first, *others = recorded.info["formats"]
    try:
        model = load(backend, recorded, first)
    except ValueError:
        if not recorded.may_be_refused:
            raise
        return
    assert not recorded.must_be_refused
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
