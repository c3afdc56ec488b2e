"""How Flax's tree differs from the table: the leaf names, and dense weights are stored transposed.

A canonical name is a path in the tree once its leaf is renamed: `roberta.encoder.layer.0.output.dense.weight` is
`params["roberta"]["encoder"]["layer"]["0"]["output"]["dense"]["kernel"]`, (in, out). The names are in `flax_msgpack`, which
reads files without JAX. A tied LM head has no decoder.
"""

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array, Device
from jax.typing import DTypeLike

from roberta.common.formats import flax_msgpack
from roberta.common.parameters import kind_of

Params = dict[str, Any]


def to_numpy(array: Array) -> np.ndarray:
    """The values as numpy, bfloat16 through `ml_dtypes`; no copy for an array on the CPU."""
    return np.asarray(array)


def to_array(array: np.ndarray, dtype: DTypeLike) -> Array:
    """A JAX array of its own memory with the values of `array`."""
    return jnp.array(
        array, dtype=checked_dtype(dtype), copy=True
    )  # asarray may keep the memory, which may be a mapped file


def checked_dtype(dtype: DTypeLike) -> jnp.dtype:
    """The dtype; `ValueError` for float64 while JAX has it switched off and would silently take float32."""
    if jnp.dtype(dtype) == jnp.float64 and not jax.config.jax_enable_x64:
        raise ValueError(
            "float64 is switched off in JAX; set jax.config.update('jax_enable_x64', True), or the environment "
            "variable JAX_ENABLE_X64=1, before any array is made"
        )
    return jnp.dtype(dtype)


def kept(stored: str, computed: DTypeLike) -> jnp.dtype:
    """The dtype of a parameter that is stored in one dtype, of a model that computes in another.

    The file's, so that what was saved in float16 is loaded in it and training in bfloat16 keeps float32 parameters;
    float64 when the model computes in it, as its gradients need it, and only then, as JAX has it switched off.
    """
    if jnp.dtype(computed) == jnp.float64:
        return checked_dtype(computed)
    return jnp.dtype("float32" if stored == "float64" else stored)


def native(params: Mapping[str, Any]) -> dict[str, tuple[Array, bool]]:
    """Every parameter of a tree by its canonical name, and whether it is stored transposed."""
    result = {}
    for path, leaf in flatten_dict(params, sep="/").items():
        name, is_transposed = flax_msgpack.canonical_name(path)
        result[name] = (leaf, is_transposed)
    return result


def to_native(tensors: Iterable[tuple[str, np.ndarray, DTypeLike]], device: Device | None = None) -> Params:
    """The tree of canonical names, arrays and the dtypes they get, taken one at a time; on a device, where one is given."""
    leaves = {}
    for name, array, dtype in tensors:
        values = array.T if kind_of(name) == "dense" else array
        with nullcontext() if device is None else jax.default_device(device):
            leaf = to_array(values, dtype)
        leaves[flax_msgpack.native_name(name)] = leaf if device is None else jax.device_put(leaf, device)
    return unflatten_dict(leaves, sep="/")


def from_native(leaf: Array, is_transposed: bool) -> np.ndarray:
    """One parameter of `native` as the table has it."""
    return np.ascontiguousarray(to_numpy(leaf).T) if is_transposed else to_numpy(leaf)
