"""Fixtures of all tests. `shared` data that is not part of the project is read when it is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from backends import Backend
from backends import backend as get_backend

SHARED = Path(os.environ.get("ROBERTA_SHARED", Path(__file__).parents[2] / "shared"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `backend` runs in each of the three."""
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", ["pt", "tf", "flax"], ids="in_{}".format, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Backend:
    return get_backend(request.param)


@pytest.fixture(scope="session")
def golden() -> Path:
    """Reference outputs of other systems; not part of the project."""
    folder = SHARED / "golden"
    if not folder.is_dir():
        pytest.skip("the reference outputs (golden) are not beside the project")
    return folder
