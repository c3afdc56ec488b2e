"""The key/value cache of decoder mode: a collection `cache` of fixed size, in the tree of the modules.

Each self-attention has `cached_key` and `cached_value`, (batch, max_length, head, head size), and `cache_index`, int
(), the number of tokens that are in, padding included. Beside the encoder stands `cached_tokens`, int (batch, 1): the
tokens of each row that take a position, as one pass over all of them would count. A cache is never changed in place:
each call returns a new one. Cross-attention caches nothing, its keys and values come from the encoder's states each time.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax.core import unfreeze
from jax import Array
from jax.tree_util import KeyPath
from jax.typing import DTypeLike

from roberta.common.config import RobertaConfig

LAYER_KEYS = ("cached_key", "cached_value", "cache_index")
TOKENS = "cached_tokens"

LayerCache = dict[str, Array]
Cache = dict[str, Any]


def empty(config: RobertaConfig, batch_size: int, max_length: int, dtype: DTypeLike) -> Cache:
    """A cache of zeros for the encoder, with room for `max_length` tokens a row."""

    def layer(index: int) -> LayerCache:
        shape = (batch_size, max_length, config.heads_kept(index), config.head_size)
        return dict(
            zip(
                LAYER_KEYS,
                (jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros((), jnp.int32)),
                strict=True,
            )
        )

    layers = {str(index): {"attention": {"self": layer(index)}} for index in range(config.num_hidden_layers)}
    return {"encoder": {"layer": layers}, TOKENS: jnp.zeros((batch_size, 1), jnp.int32)}


def as_cache(past_key_values: Mapping[str, Any] | None) -> Cache | None:
    """A cache from what callers hand in: what `init_cache` or an earlier call returned, frozen or not."""
    if past_key_values is None or (isinstance(past_key_values, Mapping) and not past_key_values):
        return None
    if not isinstance(past_key_values, Mapping):
        raise ValueError(
            f"past_key_values is a {type(past_key_values).__name__}; give what init_cache(batch_size, max_length) "
            "or an earlier call returned"
        )
    return unfreeze(past_key_values)


def first_layer(cache: Cache) -> LayerCache:
    """One layer's entry, of the encoder's own tree or of a head's."""
    return cache.get("roberta", cache)["encoder"]["layer"]["0"]["attention"]["self"]


def length(cache: Cache | None) -> Array | int:
    """Number of tokens in the cache, padding included."""
    return 0 if cache is None else first_layer(cache)["cache_index"]


def max_length(cache: Cache) -> int:
    """Number of tokens that the cache has room for."""
    return first_layer(cache)["cached_key"].shape[1]


def past_tokens(cache: Cache | None, attention_mask: Array | None) -> Array | int:
    """Number of tokens of each row in the cache that took a position, (batch, 1): from which positions continue.

    A cache that does not know has those that a 2-D mask over cached and new tokens shows; without one, all.
    """
    if cache is not None and TOKENS in cache:
        return cache[TOKENS]
    if cache is None or attention_mask is None or attention_mask.ndim != 2:
        return length(cache)
    is_past = jnp.arange(attention_mask.shape[1]) < length(cache)
    return (attention_mask.astype(jnp.int32) * is_past).sum(axis=1, keepdims=True)


def count_tokens(input_ids: Array | None, inputs_embeds: Array | None, pad_token_id: int) -> Array:
    """Number of tokens of each row that take a position, (batch, 1); of embeddings, all."""
    is_token = jnp.ones(inputs_embeds.shape[:2]) if input_ids is None else input_ids != pad_token_id
    return is_token.astype(jnp.int32).sum(axis=1, keepdims=True, dtype=jnp.int32)


def extend(past: LayerCache, key: Array, value: Array) -> LayerCache:
    """The layer's cache with the keys and values of the new tokens, (batch, seq, head, head size), behind the old."""
    start = past["cache_index"]
    return {
        "cached_key": jax.lax.dynamic_update_slice_in_dim(past["cached_key"], key, start, axis=1),
        "cached_value": jax.lax.dynamic_update_slice_in_dim(past["cached_value"], value, start, axis=1),
        "cache_index": start + key.shape[1],
    }


def widen(attention_mask: Array | None, cache: Cache | None) -> Array | None:
    """A mask over the tokens so far as one over all that the cache has room for."""
    if cache is None or attention_mask is None:
        return attention_mask
    missing = max_length(cache) - attention_mask.shape[-1]
    if missing < 0:
        raise ValueError(
            f"attention mask of shape {attention_mask.shape} is longer than the {max_length(cache)} tokens that the "
            "cache has room for; make it longer with init_cache(batch_size, max_length)"
        )
    return jnp.pad(attention_mask, [(0, 0)] * (attention_mask.ndim - 1) + [(0, missing)])


def with_room(cache: Cache, size: int) -> Cache:
    """The cache with room for at least `size` tokens a row."""
    missing = size - max_length(cache)

    def changed(keys: KeyPath, part: Array) -> Array:
        if missing <= 0 or keys[-1].key not in ("cached_key", "cached_value"):
            return part
        return jnp.pad(part, ((0, 0), (0, missing), (0, 0), (0, 0)))

    return jax.tree_util.tree_map_with_path(changed, cache)


def reorder(cache: Cache, rows: Array) -> Cache:
    """The cache with its batch rows taken from `rows`, int (new batch,): beams that continue other beams."""
    return jax.tree.map(lambda part: part[rows] if part.ndim else part, cache)


def cut(cache: Cache | None, size: int, tokens: Array) -> Cache | None:
    """The cache's first `size` tokens of each row, of which `tokens`, int (batch, 1), take a position.

    What is behind them stays where it is, unseen, until new tokens take its place.
    """
    if cache is None:
        return None

    def changed(keys: KeyPath, part: Array) -> Array:
        name = keys[-1].key
        if name == "cache_index":
            return jnp.asarray(size, part.dtype)
        return tokens.astype(part.dtype) if name == TOKENS else part

    return jax.tree_util.tree_map_with_path(changed, cache)
