"""The key/value cache of decoder mode: one tuple a layer, of plain tensors.

A layer's entry is (key, value), or (key, value, cross key, cross value) with cross-attention; each is
(batch, head, key, head size). A cache is never changed in place: each call returns a new one.
"""

from typing import Any

import tensorflow as tf
from tensorflow import Tensor

LayerCache = tuple[Tensor, ...]
Cache = tuple[LayerCache, ...]


def as_cache(past_key_values: Any) -> Cache | None:
    """A cache from what callers hand in: ours, transformers' cache objects, tuples with None inside."""
    if past_key_values is None:
        return None
    if hasattr(past_key_values, "to_legacy_cache"):  # transformers 4
        past_key_values = past_key_values.to_legacy_cache()
    layers = tuple(tuple(part for part in layer if part is not None) for layer in past_key_values)
    if not layers or not layers[0]:
        return None
    if any(len(layer) not in (2, 4) for layer in layers):
        raise ValueError(
            f"past_key_values has layers of {sorted({len(layer) for layer in layers})} tensors; each needs "
            "(key, value) or (key, value, cross key, cross value)"
        )
    return layers


def length(cache: Cache | None) -> int | Tensor:
    """Number of tokens in the cache, padding included; a tensor where the shape is unknown (tf.function)."""
    if cache is None:
        return 0
    static = cache[0][0].shape[2]
    return tf.shape(cache[0][0])[2] if static is None else static


def past_tokens(cache: Cache | None, attention_mask: Tensor | None) -> Tensor | int:
    """Number of real tokens of each row in the cache, (batch, 1): what positions go on from.

    Without a 2-D mask over cached and new tokens, no cached token is taken for padding.
    """
    if cache is None or attention_mask is None or attention_mask.shape.rank != 2:
        return length(cache)
    return tf.reduce_sum(tf.cast(attention_mask[:, : length(cache)], tf.int32), axis=1, keepdims=True)


def extend(past: LayerCache | None, key: Tensor, value: Tensor) -> LayerCache:
    """Keys and values of the cached tokens followed by those of the new ones."""
    if past is None:
        return key, value
    return tf.concat((past[0], key), axis=2), tf.concat((past[1], value), axis=2)


def reorder(cache: Cache, rows: Tensor) -> Cache:
    """The cache with its batch rows taken from `rows`, int (new batch,): beams that go on from others."""
    return tuple(tuple(tf.gather(part, rows) for part in layer) for layer in cache)
