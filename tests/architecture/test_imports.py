"""Which module may import which, and what an import loads besides."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from roberta.common import MOVED

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "roberta"
FRAMEWORKS = {"torch", "tensorflow", "keras", "jax", "flax", "optax"}
BACKENDS = {"pt", "tf", "flax"}
OWN = {"pt": {"torch"}, "tf": {"tensorflow", "keras"}, "flax": {"jax", "flax", "optax"}}


def imports(file: Path) -> Iterator[str]:
    """Every module a file imports, at module level or inside a function."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            yield node.module or ""


def files(folder: str) -> list[Path]:
    return sorted((PACKAGE / folder).glob("**/*.py"))


def test_a_wheel_has_every_package() -> None:
    """A checkout and an editable install find a folder that is not listed; a wheel lacks it."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = [file.parent for name in ("roberta", "conversion") for file in (ROOT / name).glob("**/__init__.py")]
    names = {".".join(folder.relative_to(ROOT).parts).replace("roberta.conversion", "conversion") for folder in folders}
    wanted = {name.replace("conversion", "roberta.conversion", 1) for name in names} | {"roberta.small"}
    assert sorted(listed) == sorted(wanted)


@pytest.mark.parametrize("file", files("common"), ids=lambda file: file.name)
def test_common_imports_neither_framework_nor_backend(file: Path) -> None:
    for module in imports(file):
        assert module.partition(".")[0] not in FRAMEWORKS, module
        assert not module.startswith("roberta.") or module.split(".")[1] == "common", module


@pytest.mark.parametrize(
    "file", [f for name in sorted(BACKENDS) for f in files(name)], ids=lambda f: f"{f.parent.name}/{f.name}"
)
def test_a_backend_imports_its_framework_and_common(file: Path) -> None:
    backend = file.parent.name
    for module in imports(file):
        assert module.partition(".")[0] not in FRAMEWORKS - OWN[backend], module
        if module.startswith("roberta."):
            assert module.split(".")[1] in ("common", backend), module


def test_only_the_command_imports_conversion() -> None:
    for file in PACKAGE.glob("**/*.py"):
        if file.name != "cli.py":
            assert not any(module.startswith("roberta.conversion") for module in imports(file)), file


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import roberta", set()),
        ("from roberta import RobertaConfig", set()),
        ("from roberta import pipeline", set()),
        ("from roberta import RobertaForMaskedLM", OWN["pt"]),
        ("from roberta import TFRobertaForMaskedLM", OWN["tf"] | {"jax"}),  # tensorflow itself imports jax
        ("from roberta import FlaxRobertaForMaskedLM", OWN["flax"]),
    ],
)
def test_an_import_brings_no_other_framework(statement: str, allowed: set[str]) -> None:
    code = f"{statement}; import sys; print(*sorted(name for name in sys.modules if '.' not in name))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    if "is not installed" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) & FRAMEWORKS <= allowed


def test_a_missing_framework_is_named_with_its_extra() -> None:
    code = "import sys; sys.modules['torch'] = None; from roberta import RobertaModel"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert "pip install 'roberta[pt]'" in done.stderr


@pytest.mark.parametrize("old", MOVED)
def test_a_module_that_moved_has_its_old_name_too(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {MOVED[old]}"):
        found = importlib.import_module(old)
    assert found is importlib.import_module(MOVED[old])
