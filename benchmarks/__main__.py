"""`python -m benchmarks` lists the benchmarks; `python -m benchmarks NAME ...` runs one with the arguments that follow."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

HELPERS = ("__main__", "worker", "trainers")  # started by benchmarks


def found() -> dict[str, str]:
    """Map the name of every module here with a `main` to the first line of its docstring."""
    result = {}
    for file in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        has_main = any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)
        if has_main and file.stem not in HELPERS:
            result[file.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return result


def main() -> None:
    """List the benchmarks, or run one."""
    name, there = (sys.argv[1] if len(sys.argv) > 1 else None), found()
    if name not in there:
        print("\n".join(f"{each:13s} {what}" for each, what in there.items()))
        sys.exit(None if name is None else f"there is no benchmark {name!r}; choose one of those above")
    sys.argv = [name, *sys.argv[2:]]
    runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
