"""The three frameworks by their short names: what each needs, and how its classes are called."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

# Name of the framework -> prefix of its classes, and the modules it needs.
FRAMEWORKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pt": ("", ("torch",)),
    "tf": ("TF", ("tensorflow", "keras")),
    "flax": ("Flax", ("jax", "flax")),
}


def installed() -> list[str]:
    """The frameworks that can be imported, in the order of `FRAMEWORKS`."""
    return [name for name, (_, modules) in FRAMEWORKS.items() if all(map(importlib.util.find_spec, modules))]


def one_framework(framework: str | None, there: Sequence[str]) -> str:
    """The framework asked for, or the first of those that are there.

    Raises:
        ValueError: an unknown name. ModuleNotFoundError: it, or every one, is not installed; names the extras.
    """
    if framework is not None and framework not in FRAMEWORKS:
        raise ValueError(f"framework={framework!r} must be one of {', '.join(FRAMEWORKS)}, or None for what is there")
    if framework is not None and framework in there:
        return framework
    if framework is None and there:
        return there[0]
    extras = " or ".join(f"pip install 'roberta[{name}]'" for name in ([framework] if framework else FRAMEWORKS))
    raise ModuleNotFoundError(f"{framework or 'a framework'} is not installed; {extras}", name=framework)


def class_of(framework: str, head: str) -> Any:
    """A public class, such as ("tf", "ForMaskedLM") -> `roberta.TFRobertaForMaskedLM`; imports its framework."""
    return getattr(importlib.import_module("roberta"), f"{FRAMEWORKS[framework][0]}Roberta{head}")
