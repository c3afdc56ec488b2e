"""The key/value cache of decoder mode: one tuple a layer, of plain tensors, and how many tokens it counts.

A layer's entry is (key, value), or (key, value, cross key, cross value) with cross-attention; each is
(batch, head, key, head size). A cache is never changed in place: each call returns a new one.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.utils import _pytree

from roberta.common.generation.tuple_cache import TupleCache

LayerCache = tuple[Tensor, ...]
PastKeyValues = Iterable[Iterable[Tensor | None]] | None  # what callers hand in, see `as_cache`


class Cache(TupleCache):
    """The layers' entries, and from which positions continue: see `TupleCache`."""

    tokens: Tensor | None

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Number of tokens in the cache, padding included; the name that transformers has for it."""
        return self[layer_idx][0].shape[2]


_pytree.register_pytree_node(
    Cache,
    lambda cache: ([*cache, cache.tokens], None),
    lambda parts, _: Cache(list(parts)[:-1], list(parts)[-1]),
    serialized_type_name="roberta.Cache",
)


as_cache = Cache.of


def length(cache: Cache | None) -> int:
    """Number of tokens in the cache, padding included."""
    return 0 if cache is None else cache[0][0].shape[2]


def check_position(cache_position: Tensor, past: int, seq: int) -> None:
    """Raise `ValueError` unless places of new tokens, int (seq,), are those behind `past` cached ones.

    Values are not looked at in traced code.
    """
    if cache_position.shape != (seq,):
        raise ValueError(f"cache_position of shape {tuple(cache_position.shape)} does not fit {seq} tokens; omit it")
    is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]
    if is_traced or cache_position.is_meta:
        return
    if cache_position.tolist() != list(range(past, past + seq)):
        raise ValueError(
            f"cache_position={cache_position.tolist()} does not follow the {past} tokens in the cache; omit it, or give "
            "position_ids to place tokens elsewhere"
        )


def past_tokens(cache: Cache | None, attention_mask: Tensor | None) -> Tensor | int:
    """Number of tokens of each row in the cache that took a position, (batch, 1): from which positions continue.

    A cache that does not know has those that a 2-D mask over cached and new tokens shows; without one, all.
    """
    if cache is not None and cache.tokens is not None:
        return cache.tokens
    if cache is None or attention_mask is None or attention_mask.dim() != 2:
        return length(cache)
    return attention_mask[:, : length(cache)].long().sum(dim=1, keepdim=True)


def count_tokens(input_ids: Tensor | None, inputs_embeds: Tensor | None, pad_token_id: int) -> Tensor:
    """Number of tokens of each row that take a position, (batch, 1); of embeddings, all."""
    if input_ids is None:
        assert inputs_embeds is not None
        batch, seq, _ = inputs_embeds.shape
        return torch.full((batch, 1), seq, device=inputs_embeds.device)
    return (input_ids != pad_token_id).sum(dim=1, keepdim=True)


def extend(past: LayerCache | None, key: Tensor, value: Tensor) -> LayerCache:
    """Keys and values of the cached tokens followed by those of the new ones."""
    if past is None:
        return key, value
    return torch.cat((past[0], key), dim=2), torch.cat((past[1], value), dim=2)


def reorder(cache: Cache, rows: Tensor) -> Cache:
    """The cache with its batch rows taken from `rows`, int (new batch,): beams that continue other beams."""
    layers = (tuple(part.index_select(0, rows) for part in layer) for layer in cache)
    return Cache(layers, None if cache.tokens is None else cache.tokens.index_select(0, rows))
