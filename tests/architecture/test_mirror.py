"""The three backends have the same files, with the same definitions in the same order."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "roberta"
MIRRORED = (
    "layers.py", "models.py", "losses.py", "cache.py", "generation.py", "weights.py", "pretrained.py", "legacy.py"
)  # fmt: skip
# Definitions that two backends share when the third has no use for them, with the reason.
ALLOWED: dict[tuple[str, str], set[str]] = {}
CALLS = {"forward": "call", "__call__": "call", "setup": "__init__"}


def outline(file: Path) -> list[str]:
    """The public definitions of a file, in order: `Class`, `Class.method`, `function`."""
    names = []
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            names.append(node.name)
        elif isinstance(node, ast.ClassDef):
            names.append(bare(node.name))
    return names


def bare(name: str) -> str:
    for prefix in ("TF", "Flax"):
        name = name.removeprefix(prefix) if name.startswith(f"{prefix}Roberta") else name
    return name


@pytest.mark.parametrize("family", ["tf", "flax"], ids="in_{}".format)
@pytest.mark.parametrize("name", MIRRORED)
def test_same_definitions_in_the_same_order(family: str, name: str) -> None:
    allowed = ALLOWED.get((family, name), set())
    wanted = [item for item in outline(PACKAGE / "pt" / name) if item not in allowed]
    found = [item for item in outline(PACKAGE / family / name) if item not in allowed]
    assert found == wanted


@pytest.mark.parametrize("family", ["pt", "tf", "flax"], ids="in_{}".format)
def test_a_backend_has_no_other_files(family: str) -> None:
    extra = {"__init__.py", "training.py"} | ({"h5_layout.py"} if family == "tf" else set())
    assert {file.name for file in (PACKAGE / family).glob("*.py")} - extra <= set(MIRRORED)
