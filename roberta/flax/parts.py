"""Whether a model is exactly what this library builds, and still what it was: what `infer` needs to know.

The fast pass reads parameters and calls no module. So it is right only where the module is of the very class that is
expected, runs its own code, and the tree of parameters has what the table says and nothing beside it.
"""

import inspect
from collections.abc import Mapping
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen import module as linen
from flax.traverse_util import flatten_dict

from roberta.common.family_classes import roberta_class
from roberta.flax import layers

if TYPE_CHECKING:
    from roberta.flax.pretrained import FlaxRobertaPreTrainedModel


def code_of(module: ModuleType) -> dict[tuple[type[nn.Module], str], Any]:
    """What the linen classes of a Python module run, by class and name."""
    kinds = {kind for kind in vars(module).values() if inspect.isclass(kind) and issubclass(kind, nn.Module)}
    return {
        (kind, name): value
        for kind in kinds
        if kind.__module__.startswith(__package__)
        for name, value in vars(kind).items()
        if isinstance(value, FunctionType)
    }


CODE = code_of(layers)  # at import: what is there before a caller can patch a class


def has_interceptors() -> bool:
    """Whether `nn.intercept_methods` is on, which changes what modules compute."""
    return len(linen._global_interceptor_stack) > 0


def alteration(model: "FlaxRobertaPreTrainedModel", params: Mapping[str, Any]) -> str:
    """Say what in a model is not this library's own, or keeps its weights from being read; "" if nothing does."""
    from roberta.flax import models  # which imports this module, by way of `infer`

    module, kind = model.module, getattr(models, f"FlaxRoberta{model.head}")
    if roberta_class(type(model)) is not kind or type(module) is not kind.module_class:
        return f"{type(model).__name__} with the module {type(module).__name__} is a class of its own"
    if module.config is not model.config or jnp.dtype(module.dtype) != model.dtype:
        return "model.module has another config or dtype than the model"
    if has_interceptors():
        return "flax.linen.intercept_methods is on"
    for (kind, name), function in (code_of(models) | CODE).items():
        file = inspect.unwrap(function).__code__.co_filename
        is_own = file in (models.__file__, layers.__file__) or name.startswith("__")  # dataclasses write some
        if vars(kind).get(name) is not function or not is_own or (name == "__call__" and not _is_linens(function)):
            return f"{kind.__name__}.{name} was replaced"
    return _altered_params(model, params)


def _is_linens(function: FunctionType) -> bool:
    """Whether linen has wrapped a method, as it does when a class is made."""
    return hasattr(function, "method_handler_wrapped")


def _altered_params(model: "FlaxRobertaPreTrainedModel", params: Mapping[str, Any]) -> str:
    """Say what in a tree of parameters differs from the table; "" if nothing does."""
    found, wanted = flatten_dict(params, sep="/"), flatten_dict(model.params_shape_tree, sep="/")
    names = sorted(found.keys() ^ wanted.keys())
    if names:
        return f"params have more or less than the class: {', '.join(names[:3])}"
    for name, leaf in found.items():
        if not isinstance(leaf, jax.Array | np.ndarray) or not jnp.issubdtype(leaf.dtype, jnp.floating):
            return f"{name} is a {type(leaf).__name__}, not an array of floating numbers"
        if leaf.shape != wanted[name].shape:
            return f"{name} has the shape {leaf.shape}"
    return ""


def is_own_module(model: "FlaxRobertaPreTrainedModel") -> bool:
    """Whether a model's linen module is of one of this library's classes."""
    kind = type(model.module)
    return kind is model.module_class and kind.__module__.startswith(__package__)


class Made:
    """What a model's programs are traced from, at one moment, to be looked at later: module, settings and code."""

    def __init__(self, model: "FlaxRobertaPreTrainedModel") -> None:
        from roberta.flax import models

        self.code = code_of(models) | CODE
        self.module, self.dtype, self.kind = model.module, model.dtype, type(model)
        self.config, self.config_was = vars(model.config), dict(vars(model.config))

    def is_current(self, model: "FlaxRobertaPreTrainedModel") -> bool:
        """Whether nothing of it was replaced or changed."""
        return (
            type(model) is self.kind
            and model.module is self.module
            and model.dtype == self.dtype
            and vars(model.config) is self.config
            and self.config == self.config_was
            and all(vars(kind).get(name) is function for (kind, name), function in self.code.items())
        )


class Parts:
    """A model without `alteration` and its parameters at one moment, to be looked at later."""

    def __init__(self, model: "FlaxRobertaPreTrainedModel", params: Mapping[str, Any]) -> None:
        self.made = Made(model)
        self.leaves, self.structure = jax.tree.flatten(params)

    def are_current(self, model: "FlaxRobertaPreTrainedModel", params: Mapping[str, Any]) -> bool:
        """Whether nothing was replaced; arrays of numpy can change where they are, those of JAX cannot."""
        leaves, structure = jax.tree.flatten(params)
        return (
            self.made.is_current(model)
            and not has_interceptors()
            and structure == self.structure
            and all(new is old and isinstance(new, jax.Array) for new, old in zip(leaves, self.leaves, strict=True))
        )
