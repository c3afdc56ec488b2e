"""The rooms of `roberta/common`: what imports what, and how large each room is (docs/architecture.md)."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "roberta"
COMMON = PACKAGE / "common"
TOP = "(top)"
# From the bottom up: a room imports itself and the rooms before it.
FLOORS = (
    "facts", "storage", TOP, "formats", "vocabulary", "tokenizer", "generation", "adapters", "checkpoint", "inference",
    "pipelines", "training/data", "training", "commands",
)  # fmt: skip
# Modules at the top level of `common` that import none of the others.
FACTS = {
    "devices",
    "dtype_names",
    "finite",
    "frameworks",
    "keywords",
    "libraries",
    "model_types",
    "outputs",
    "padding_warning",
    "values",
}
ROOT = PACKAGE.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PLACES = re.findall(r"^\d\. `(\S+\.py)` `(\w+)`", PAGE, flags=re.MULTILINE)
WALKS = re.findall(r"^### (.+?)\n(.*?)(?=^##)", PAGE, flags=re.MULTILINE | re.DOTALL)
FILES = sorted(COMMON.glob("**/*.py"))
# Modules that import others by a name in a string, and what they import.
BY_NAME = {
    "roberta/__init__.py": "the modules of its public names",
    "roberta/common/__init__.py": "modules that moved",
    "roberta/common/frameworks.py": "a framework, a backend",
    "roberta/common/checkpoint/checkpoint.py": "roberta.common.formats, which may need h5py or msgpack",
    "roberta/common/auto_classes.py": "transformers",
    "roberta/common/libraries.py": "scikit-learn, scipy, matplotlib, tensorboardX, pyarrow, ray",
    "roberta/pt/adapters.py": "peft",
}


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)


def room(file: Path) -> str:
    """The room that a file of `common` is in."""
    inside = file.relative_to(COMMON).parts[:-1]
    if not inside:
        return "facts" if file.stem in FACTS else TOP
    return "/".join(inside)


ROOMS = {module_of(file): room(file) for file in FILES}


def imported(file: Path) -> Iterator[str]:
    """The modules of `common` that a file imports, at module level or inside a function."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in ROOMS)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found = next((each for each in (name, node.module, f"{node.module}.__init__") if each in ROOMS), None)
                if found is not None:
                    yield found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(COMMON)))
def test_imports_run_downhill(file: Path) -> None:
    floor = FLOORS.index(room(file))
    uphill = {name for name in imported(file) if FLOORS.index(ROOMS[name]) > floor}
    assert not uphill, f"{room(file)} imports {uphill}"


def test_no_room_has_more_than_a_fifth_of_the_lines() -> None:
    sizes: Counter[str] = Counter()
    for file in FILES:
        sizes[room(file)] += len(file.read_text().splitlines())
    name, lines = sizes.most_common(1)[0]
    assert set(sizes) == set(FLOORS)
    assert lines <= sizes.total() / 5, f"{name} has {lines} of {sizes.total()} lines"


def calls_of(file: Path, function: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and function in (
            getattr(node.func, "attr", None),
            getattr(node.func, "id", None),
        ):
            yield node


def test_modules_are_imported_by_name_in_known_places() -> None:
    conversion = PACKAGE.parent / "conversion"
    files = [*PACKAGE.glob("**/*.py"), *conversion.glob("**/*.py")]
    found = {
        file.relative_to(PACKAGE.parent).as_posix()
        for file in files
        if "conversion" not in file.relative_to(PACKAGE.parent).parts[1:]
        and any(next(calls_of(file, name), None) for name in ("import_module", "__import__"))
    }
    assert found == set(BY_NAME)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(COMMON)))
def test_only_frameworks_names_a_backend_in_a_string(file: Path) -> None:
    """Also in an f-string: `import_module(f"roberta.{framework}...")`."""
    if module_of(file) == "roberta.common.frameworks":
        return
    for call in calls_of(file, "import_module"):
        argument = call.args[0]
        start = argument.values[0] if isinstance(argument, ast.JoinedStr) else argument
        text = start.value if isinstance(start, ast.Constant) else ""
        assert not str(text).startswith("roberta.") or str(text).startswith("roberta.common."), ast.unparse(call)


@pytest.mark.parametrize(("file", "name"), PLACES)
def test_a_place_of_a_walk_exists(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_there_are_four_walks_of_at_most_eight_places() -> None:
    steps = [len(re.findall(r"^\d+\. ", text, flags=re.MULTILINE)) for _, text in WALKS]
    assert len(steps) == 4
    assert max(steps) <= 8
    assert sum(steps) == len(PLACES)


def test_every_file_that_the_page_names_exists() -> None:
    for name in re.findall(r"`((?:roberta|conversion|tests)/[\w/]*(?:\.py)?)`", PAGE):
        assert (ROOT / name).exists(), name


def test_the_picture_shows_the_rooms_from_the_top_down() -> None:
    picture = PAGE.split("```text")[1].split("```")[0].split("no framework ===")[1]
    shown = [match.rstrip("/") for match in re.findall(r"^ (\(?[\w/]+\)?)", picture, flags=re.MULTILINE)]
    assert shown == list(reversed(FLOORS))
