"""The lowest versions of the dependencies: only in pyproject.toml, each with a reason, and installed by `make floors`."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import floors
import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = (ROOT / "pyproject.toml").read_text()


def test_every_floor_of_a_user_has_its_reason_beside_it() -> None:
    listed = [line for line in PROJECT.splitlines() if re.match(r'(  |pt = \[)"[\w.-]+>=', line)]
    assert len(listed) > 20
    assert [line for line in listed if "# " not in line and '"pytest' not in line] == []


def test_make_floors_installs_what_pyproject_says() -> None:
    project = tomllib.loads(PROJECT)["project"]
    wanted = {*project["dependencies"]}
    for extra in floors.EXTRAS:
        wanted |= {*project["optional-dependencies"][extra]}
    pins = {pin.replace("==", ">=") for pin in floors.pins()}
    kept = {requirement for requirement in wanted - pins if requirement.partition(">=")[0] in floors.KEPT}
    assert pins | kept == wanted
    assert set(floors.KEPT) <= {"torch", "tensorflow"}
    assert "floors: $(READY)\n\t$(BIN)/python tests/floors.py\n" in (ROOT / "Makefile").read_text()


def test_the_tests_of_make_floors_are_there() -> None:
    assert [name for name in floors.TESTS if not (ROOT / name).is_file()] == []


def test_what_is_installed_is_no_lower() -> None:
    for name, lowest in floors.floors().items():
        try:
            assert Version(metadata.version(name)) >= Version(lowest), name
        except metadata.PackageNotFoundError:
            pytest.skip(f"{name} is not installed")


def test_a_requirement_that_is_no_floor_is_named() -> None:
    content = {"project": {"dependencies": ["numpy"], "optional-dependencies": {extra: [] for extra in floors.EXTRAS}}}
    with pytest.raises(ValueError, match=r"'numpy' in pyproject\.toml is not a floor such as numpy>=2\.0"):
        floors.floors(content)
    content["project"]["dependencies"] = ["numpy>=2.0", "numpy>=2.1"]
    with pytest.raises(ValueError, match=r"two floors for numpy, 2\.0 and 2\.1"):
        floors.floors(content)
