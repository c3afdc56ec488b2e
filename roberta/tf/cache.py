"""The key/value cache of decoder mode: one tuple a layer, of plain tensors, and how many tokens it counts.

A layer's entry is (key, value), or (key, value, cross key, cross value) with cross-attention; each is
(batch, head, key, head size). A cache is never changed in place: each call returns a new one.
"""

from collections.abc import Iterable
from typing import Any, Self

import optree
import tensorflow as tf
from tensorflow import Tensor

from roberta.common.generation.tuple_cache import TupleCache

LayerCache = tuple[Tensor, ...]
PastKeyValues = Iterable[Iterable[Tensor | None]] | None  # what callers hand in, see `as_cache`


class Cache(TupleCache):
    """The layers' entries, and from which positions continue: see `TupleCache`."""

    tokens: Tensor | None

    def __tf_flatten__(self) -> tuple[None, tuple[Any, ...]]:
        """For `tf.nest`, which would else make a new one of the entries alone."""
        return None, (tuple(self), self.tokens)

    @classmethod
    def __tf_unflatten__(cls, metadata: None, parts: tuple[Any, ...]) -> Self:
        return cls(*parts)

    def __tf_tracing_type__(self, context: object) -> object:
        """For the arguments of a `tf.function`, which takes a tuple of any kind for a plain one."""
        from tensorflow.core.function.trace_type import custom_nest_trace_type, trace_type_builder

        parts = (trace_type_builder.from_value(part, context) for part in self.__tf_flatten__()[1])
        return custom_nest_trace_type.CustomNestTraceType(type(self), None, tuple(parts))


optree.register_pytree_node(
    Cache,
    lambda cache: ((*cache, cache.tokens), None, None),
    lambda _, parts: Cache(parts[:-1], parts[-1]),
    namespace="keras",
)


as_cache = Cache.of


def length(cache: Cache | None) -> int | Tensor:
    """Number of tokens in the cache, padding included; a tensor where the shape is unknown (tf.function)."""
    if cache is None:
        return 0
    static = cache[0][0].shape[2]
    return tf.shape(cache[0][0])[2] if static is None else static


def past_tokens(cache: Cache | None, attention_mask: Tensor | None) -> Tensor | int:
    """Number of tokens of each row in the cache that took a position, (batch, 1): from which positions continue.

    A cache that does not know has those that a 2-D mask over cached and new tokens shows; without one, all.
    """
    if cache is not None and cache.tokens is not None:
        return cache.tokens
    if cache is None or attention_mask is None or attention_mask.shape.rank != 2:
        return length(cache)
    return tf.reduce_sum(tf.cast(attention_mask[:, : length(cache)], tf.int32), axis=1, keepdims=True)


def count_tokens(input_ids: Tensor | None, inputs_embeds: Tensor | None, pad_token_id: int) -> Tensor:
    """Number of tokens of each row that take a position, (batch, 1); of embeddings, all."""
    is_token = tf.ones_like(inputs_embeds[:, :, 0], tf.int32) if input_ids is None else input_ids != pad_token_id
    return tf.reduce_sum(tf.cast(is_token, tf.int32), axis=1, keepdims=True)


def extend(past: LayerCache | None, key: Tensor, value: Tensor) -> LayerCache:
    """Keys and values of the cached tokens followed by those of the new ones."""
    if past is None:
        return key, value
    return tf.concat((past[0], key), axis=2), tf.concat((past[1], value), axis=2)


def reorder(cache: Cache, rows: Tensor) -> Cache:
    """The cache with its batch rows taken from `rows`, int (new batch,): beams that continue others."""
    return tf.nest.map_structure(lambda part: None if part is None else tf.gather(part, rows), cache)
