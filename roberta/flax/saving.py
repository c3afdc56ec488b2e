"""Which leaves of a Flax model's parameters are saved, and what a folder cannot hold.

A leaf is written as it is, whatever library made the tree. Leaves of another kind, too many or too few are refused by
`roberta.common.checkpoint.saved_tensors`; this module finds what names do not tell.
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jax import Array

from roberta.common.checkpoint.saved_tensors import Wrong, changed_fields, checked_tensors
from roberta.common.formats import flax_msgpack
from roberta.common.formats.safetensors_file import Source
from roberta.common.parameters import Parameter, parameters
from roberta.flax.weights import from_native

if TYPE_CHECKING:
    from roberta.flax.pretrained import FlaxRobertaPreTrainedModel

_logger = logging.getLogger(__name__)
_Table = dict[str, Parameter]

_GATHER = (
    "gather it first: jax.experimental.multihost_utils.process_allgather(params, tiled=True), and give it as params="
)


def to_write(model: "FlaxRobertaPreTrainedModel", params: Mapping[str, Any] | None = None) -> dict[str, Source]:
    """The tensors that make the model, by canonical name.

    Args:
        params: instead of the model's own.

    Raises:
        ValueError: they do not make it (see `saving.checked`).
    """
    has_pooler = model.module.add_pooling_layer if model.head == "Model" else None
    table = parameters(model.config, model.head, has_pooler=has_pooler)
    paths = {flax_msgpack.native_name(name): name for name in table}
    leaves = {
        str(path): leaf for path, leaf in flatten_dict(model.params if params is None else params, sep="/").items()
    }
    wrong = [*changed_fields(model.config, [model.module.config]), *_other_module(model)]
    wrong += [line for path, leaf in leaves.items() if path in paths for line in _unreadable(path, leaf)]
    tensors = {
        paths[path]: _source(leaf, table[paths[path]].kind == "dense")
        for path, leaf in leaves.items()
        if path in paths and hasattr(leaf, "dtype")
    }
    extra = [path for path in leaves if path not in paths]
    if params is not None and not model._do_init and tensors:  # what such a model's from_pretrained returned
        table = _those_given(type(model).__name__, table, tensors)
    return checked_tensors(type(model).__name__, table, tensors, extra=extra, wrong=wrong)


def _those_given(class_name: str, table: _Table, tensors: Mapping[str, Source]) -> _Table:
    """The part of the table that the given params have; a warning names the rest."""
    missing = [name for name in table if name not in tensors]
    if missing:
        _logger.warning(
            "%s: saved without %s, which params lack; init_weights(rng, input_shape, params=params) fills them in",
            class_name,
            ", ".join(missing),
        )
    return {name: parameter for name, parameter in table.items() if name in tensors}


def _source(leaf: Array | np.ndarray, is_transposed: bool) -> Source:
    shape = tuple(leaf.shape[::-1] if is_transposed else leaf.shape)
    return shape, np.dtype(leaf.dtype).name, lambda: from_native(leaf, is_transposed)


def _unreadable(path: str, leaf: object) -> list[Wrong]:
    """Why the values of a leaf cannot be read."""
    if isinstance(leaf, np.ndarray):
        return []
    if not isinstance(leaf, jax.Array):
        way = "make a tree of arrays first: flax.linen.unbox(params)"
        return [(f"{path} is a {type(leaf).__name__}, not an array", way)]
    if leaf.is_deleted():
        way = "save the params that the compiled function returned"
        return [(f"{path} was given away to a compiled function (donate_argnums)", way)]
    if not leaf.is_fully_addressable:
        return [(f"{path} is split over processes", _GATHER)]
    return []


def _other_module(model: "FlaxRobertaPreTrainedModel") -> list[Wrong]:
    """A module that replaces the class's own, with computations of its own."""
    if type(model.module).__call__ is model.module_class.__call__:
        return []
    way = f"save from a {type(model).__name__} whose params have the same effect"
    return [(f"module is a {type(model.module).__name__} with a way of its own to compute", way)]
