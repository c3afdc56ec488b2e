"""What a reader leans on: a name means one thing, a type is said where it is known, a long body tells its steps."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BACKENDS = ("pt", "tf", "flax")
# Modules that offer the same functions for the same purpose: each of these names is one meaning.
INTERFACES: dict[str, set[str]] = {
    "the older formats of weights": {
        "FORMAT",
        "read_tensors",
        "canonical_name",
        "native_name",
        "single",
        "shard",
    },
    "a function that transformers has in PyTorch and in Flax": {"create_position_ids_from_input_ids"},
}
LONG = 30
FILES = sorted(
    {
        file.resolve()
        for folder in ("roberta", "conversion")
        for file in (ROOT / folder).rglob("*.py")
        if file.is_relative_to(ROOT / folder)
    }
)
TREES = {file: ast.parse(file.read_text(encoding="utf-8")) for file in FILES}


def defined(tree: ast.Module) -> Iterator[str]:
    """The public names that a module defines; a name that it imports is another module's."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            continue
        yield from (name for name in names if not name.startswith("_"))


def home(file: Path) -> str:
    """The module of a file; the three backends' files of one name are one: `tests/architecture/test_mirror.py`."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return "/".join(("backend", *parts[2:]) if parts[1] in BACKENDS else parts)


def test_a_name_is_defined_in_one_place() -> None:
    homes: defaultdict[str, set[str]] = defaultdict(set)
    for file, tree in TREES.items():
        for name in defined(tree):
            homes[name].add(home(file))
    shared = set().union(*INTERFACES.values())
    several = {name: sorted(places) for name, places in homes.items() if len(places) > 1 and name not in shared}
    assert not several


def test_file_names_of_common_are_unique() -> None:
    counts = Counter(file.name for file in FILES if "common" in file.parts)
    several = {name for name, count in counts.items() if count > 1}
    assert several == {"__init__.py", "base.py", "config.py"}, "the base of a room, and its settings, may be called so"


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_few_arguments_are_typed_any() -> None:
    """A `*args` or `**kwargs` that is passed on can be nothing else, and is not counted."""
    arguments = [
        argument
        for tree in TREES.values()
        for function in functions(tree)
        for argument in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
        if argument.arg not in ("self", "cls")
    ]
    untold = [argument for argument in arguments if argument.annotation and ast.unparse(argument.annotation) == "Any"]
    assert len(untold) / len(arguments) <= 0.04


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_long_body_tells_its_steps(file: Path) -> None:
    """At least one comment for every fifteen lines of code, where a body has more than thirty."""
    lines = file.read_text(encoding="utf-8").splitlines()
    silent = []
    for function in functions(TREES[file]):
        body = function.body[1:] if ast.get_docstring(function) else function.body
        if not body:
            continue
        inside = lines[body[0].lineno - 1 : body[-1].end_lineno]
        code = [line for line in inside if line.strip() and not line.lstrip().startswith("#")]
        comments = sum("# " in line for line in inside)
        if len(code) > LONG and comments < len(code) // 15:
            silent.append(f"{function.name} ({len(code)} lines, {comments} comments)")
    assert not silent
