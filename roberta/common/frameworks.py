"""The three frameworks by their short names: what each needs, what its classes are called, and how to import them.

The only module of `roberta.common` that imports a framework or one of our backends, by name and on request.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from roberta.common.model_types import class_name

if TYPE_CHECKING:
    import numpy as np

# Name of the framework -> prefix of its classes, and the modules it needs.
FRAMEWORKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pt": ("", ("torch",)),
    "tf": ("TF", ("tensorflow", "keras")),
    "flax": ("Flax", ("jax", "flax")),
}

# Value of return_tensors -> module, function that makes a tensor of an array, extra that brings it.
RETURN_TENSORS = {
    "pt": ("torch", "from_numpy", "pt"),
    "tf": ("tensorflow", "constant", "tf"),
    "jax": ("jax.numpy", "array", "flax"),
}


def installed() -> list[str]:
    """The frameworks that can be imported, in the order of `FRAMEWORKS`."""
    return [name for name, (_, modules) in FRAMEWORKS.items() if all(map(importlib.util.find_spec, modules))]


def one_framework(framework: str | None, there: Sequence[str]) -> str:
    """The framework asked for, or the first of those that are installed.

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


def class_of(framework: str, head: str, model_type: str) -> Any:
    """A public class, such as ("tf", "ForMaskedLM", "roberta") -> `roberta.TFRobertaForMaskedLM`; imports its framework."""
    return getattr(importlib.import_module("roberta"), class_name(model_type, head, FRAMEWORKS[framework][0]))


def backend_module(framework: str, name: str) -> Any:
    """A module of one of our backends, such as ("tf", "training") -> `roberta.tf.training`; imports its framework."""
    return importlib.import_module(f"roberta.{framework}.{name}")


def tensor_maker(tensor_type: str) -> Callable[[np.ndarray], Any]:
    """A function from an array to a framework's tensor, by the framework's short name.

    Raises:
        ValueError: another name.
        ModuleNotFoundError: the framework is not installed.
    """
    name = str(getattr(tensor_type, "value", tensor_type))
    if name == "np":
        return lambda array: array
    if name not in RETURN_TENSORS:
        raise ValueError(f"return_tensors={tensor_type!r} must be None, 'np', {', '.join(map(repr, RETURN_TENSORS))}")
    module, function, extra = RETURN_TENSORS[name]
    try:
        package = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"return_tensors={name!r} needs {module}, which is not installed; pip install 'roberta[{extra}]'",
            name=module,
        ) from error
    make = getattr(package, function)
    if name == "pt":
        return lambda array: make(array)
    return lambda array: make(array.astype("int32") if array.dtype == "int64" else array)
