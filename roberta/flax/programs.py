"""The plain call in bounded memory: the first shapes run operation by operation, further ones through kept programs.

JAX compiles every operation again for every shape and forgets none: some 80 MB and seconds for each new length. So a
model runs `UNCOMPILED` shapes that way, which suits callers with one or two, and each further one through a program of
its own, of which the last `PROGRAMS` are kept. The numbers are the same, to rounding.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import jax
import numpy as np
from flax import linen as nn
from jax import Array

from roberta.flax.layers import are_sums_split, check_values
from roberta.flax.parts import Made, has_interceptors, is_own_module

if TYPE_CHECKING:
    from roberta.flax.pretrained import FlaxRobertaPreTrainedModel

UNCOMPILED = 2  # shapes of a model that run operation by operation
PROGRAMS = 8  # that are kept of a model

Inputs = Mapping[str, Array]
Variables = Mapping[str, Any]


@dataclass
class Kept:
    """Programs and arrays kept for a model.

    Attributes:
        made: what the programs were traced from.
        seen: the shapes that ran operation by operation.
        programs: the last ones used, by shapes.
    """

    made: Made
    seen: set[Hashable] = field(default_factory=set)
    programs: OrderedDict[Hashable, Callable[..., Any]] = field(default_factory=OrderedDict)


_KEPT: WeakKeyDictionary[Any, Kept] = WeakKeyDictionary()


def run_module(
    model: "FlaxRobertaPreTrainedModel",
    variables: Variables,
    inputs: Inputs,
    rngs: Variables,
    flags: Mapping[str, Any],
) -> tuple[Any, Any]:
    """The output of a model's module, and the cache it has written."""
    directly = partial(apply, model.module, flags)
    program = _program(model, variables, inputs, rngs, flags) if may_compile(model, variables, inputs, rngs) else None
    if program is None:
        return directly(variables, inputs, rngs)
    try:
        return jax.block_until_ready(program(variables, inputs, rngs))
    except jax.errors.JaxRuntimeError as error:
        if "ValueError" not in str(error):  # of a check of values: other failures, of memory say, stay what they are
            raise
        return directly(variables, inputs, rngs)  # which raises the `ValueError` itself


def apply(module: nn.Module, flags: Mapping[str, Any], variables: Variables, inputs: Inputs, rngs: Variables) -> Any:
    """`module.apply`; ids, positions and labels are always checked."""
    return module.apply(variables, **inputs, **flags, rngs=rngs, mutable=["cache"])


def may_compile(model: "FlaxRobertaPreTrainedModel", variables: Variables, inputs: Inputs, rngs: Variables) -> bool:
    """Whether a call is of our own module, without a cache, on values that are there and arrays.

    Steps with a cache have few shapes; in a caller's `jax.jit` or `jax.grad` there are no values.
    """
    if "cache" in variables or has_interceptors() or jax.config.jax_disable_jit or not is_own_module(model):
        return False
    leaves = jax.tree.leaves((variables, inputs, rngs))
    return all(isinstance(leaf, jax.Array | np.ndarray) and not isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def _program(
    model: "FlaxRobertaPreTrainedModel",
    variables: Variables,
    inputs: Inputs,
    rngs: Variables,
    flags: Mapping[str, Any],
) -> Callable[..., Any] | None:
    """The program for a call, made when there is none; None for one of the first shapes."""
    kept = _KEPT.get(model)
    if kept is None or not kept.made.is_current(model):
        kept = _KEPT[model] = Kept(Made(model))
    shapes = tuple((name, value.shape, value.dtype) for name, value in inputs.items())
    key = (shapes, tuple(flags.items()), bool(rngs), are_sums_split())
    if key in kept.seen or len(kept.seen) < UNCOMPILED:
        kept.seen.add(key)
        return None
    if key not in kept.programs:
        kept.programs[key] = jax.jit(partial(_traced, model.module, flags))
    kept.programs.move_to_end(key)
    while len(kept.programs) > PROGRAMS:
        kept.programs.popitem(last=False)
    return kept.programs[key]


def _traced(module: nn.Module, flags: Mapping[str, Any], variables: Variables, inputs: Inputs, rngs: Variables) -> Any:
    """`apply` with its checks, whatever the caller has set for code of his own."""
    with check_values(True):
        return apply(module, flags, variables, inputs, rngs)
