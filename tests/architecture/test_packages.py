"""The packages that a wheel has."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_package_is_in_the_wheel() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {
        ".".join((name, *file.parent.relative_to(ROOT / folder).parts))
        for name, folder in (("roberta", "roberta"), ("roberta.conversion", "conversion"))
        for file in (ROOT / folder).rglob("__init__.py")
        if not (folder == "roberta" and "conversion" in file.parts[len(ROOT.parts) :])
    }
    assert there <= listed, sorted(there - listed)
