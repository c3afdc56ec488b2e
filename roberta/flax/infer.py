"""The fast forward pass: real tokens only, packed into few sizes, so that JAX compiles few programs.

Rows stand one after another in packs of `SIZES` tokens, and attention looks at tiles of `BLOCK` by `BLOCK` tokens that
hold tokens of one row; which ones, the program reads when it runs. So one program for each size takes rows of every
length. A large pack's layers are two programs each, so that the last one computes what follows attention only where
its result is used; a small pack's are one. Weights are arguments of the programs. What is small (embeddings, heads of a
few labels) is numpy, which compiles nothing. The numbers are those of `forward`, to rounding.
"""

import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from roberta.common.inference import dispatch, unpadding
from roberta.common.inference.batching import packs
from roberta.common.inference.dispatch import FastModels
from roberta.common.inference.heads import head_results
from roberta.common.inference.unpadding import Tokens
from roberta.common.values import Arrays
from roberta.flax.layers import ACTIVATION_FUNCTIONS
from roberta.flax.parts import Parts, alteration
from roberta.flax.weights import Params, to_numpy

if TYPE_CHECKING:
    from roberta.flax.pretrained import FlaxRobertaPreTrainedModel

# Tokens that go through a program together. Reading the weights takes as long as computing 32 tokens, and more than
# 1,024 gain nothing: what they need leaves the CPU's cache.
SMALL = (32, 96)
LARGE = (320, 1024)
SIZES = SMALL + LARGE
BLOCK = 32
HIDDEN_BY_MASK = -1e30  # exp gives 0, and no score pushes it over the edge

Weights = dict[str, Any]
Projection = tuple[Array, Array]  # kernel (inputs, outputs), bias


# -- compiled: one program for each size ------------------------------------------------------------------------------


def project(hidden: Array, projection: Projection) -> Array:
    """(tokens, inputs) -> (tokens, outputs): the product in the kernel's dtype, the sum in that of `hidden`."""
    kernel, bias = projection
    return jax.lax.dot(hidden.astype(kernel.dtype), kernel, preferred_element_type=hidden.dtype) + bias


def normalise(hidden: Array, scale_and_bias: tuple[Array, Array], eps: float) -> Array:
    """The layer norm of each token."""
    scale, bias = scale_and_bias
    centred = hidden - hidden.mean(axis=-1, keepdims=True)
    variance = jnp.square(centred).mean(axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + eps) * scale + bias


@partial(jax.jit, static_argnames=("head_size", "causal"))
def attend(
    weights: Weights, hidden: Array, row: Array, tiles: Array, count: Array, *, head_size: int, causal: bool
) -> Array:
    """(tokens, hidden) -> (tokens, head * head size), each row's tokens among themselves.

    The softmax of a token is made tile by tile: sums so far are scaled down when a tile has a larger score.

    Args:
        row: int, (tokens,): which row a token is of.
        tiles: int, (any, 2): blocks of queries and keys, of which the first `count` are looked at.

    Source: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax"; Dao et al. 2022.
    """
    kind = weights["project"][0].dtype
    projected = project(hidden, weights["project"]).reshape(len(hidden) // BLOCK, BLOCK, 3, -1, head_size)
    query, key, value = projected.transpose(2, 0, 3, 1, 4)  # (block, head, BLOCK, head size) each
    query, key, value = (query * head_size**-0.5).astype(kind), key.astype(kind), value.astype(kind)
    # which row each token is of, and its place in the pack, by block
    row = row.reshape(-1, BLOCK)
    place = jnp.arange(row.size).reshape(row.shape)
    product = partial(jnp.einsum, preferred_element_type=hidden.dtype)

    def step(index: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        context, highest, total = state
        at, to = tiles[index, 0], tiles[index, 1]
        is_seen = row[at][:, None] == row[to]
        if causal:
            is_seen &= place[at][:, None] >= place[to]
        scores = product("hqd,hkd->hqk", query[at], key[to])
        scores = jnp.where(is_seen, scores, HIDDEN_BY_MASK)
        new = jnp.maximum(highest[at], scores.max(axis=-1))
        scale = jnp.exp(highest[at] - new)
        exponentials = jnp.exp(scores - new[..., None])
        added = product("hqk,hkd->hqd", exponentials.astype(kind), value[to])
        return (
            context.at[at].set(context[at] * scale[..., None] + added),
            highest.at[at].set(new),
            total.at[at].set(total[at] * scale + exponentials.sum(axis=-1)),
        )

    # run over the tiles, and divide the sums of weighted values by those of weights
    nothing = jnp.zeros(query.shape, hidden.dtype)
    lowest = jnp.full(query.shape[:-1], HIDDEN_BY_MASK, hidden.dtype)
    context, _, total = jax.lax.fori_loop(0, count, step, (nothing, lowest, jnp.zeros_like(lowest)))
    context = context / jnp.where(total == 0, 1, total)[..., None]  # 0 in blocks of padding, which no tile has
    return context.transpose(0, 2, 1, 3).reshape(len(hidden), -1)


@partial(jax.jit, static_argnames=("activation", "eps"))
def finish(weights: Weights, context: Array, hidden: Array, *, activation: str, eps: float) -> Array:
    """What follows attention in a layer: (tokens, head * head size) and its input (tokens, hidden) -> its output."""
    hidden = normalise(project(context, weights["out"]) + hidden, weights["attention_norm"], eps)
    wide = ACTIVATION_FUNCTIONS[activation](project(hidden, weights["up"]))
    return normalise(project(wide, weights["down"]) + hidden, weights["output_norm"], eps)


@partial(jax.jit, static_argnames=("head_size", "causal", "activation", "eps"))
def layer(
    weights: Weights, hidden: Array, row: Array, tiles: Array, count: Array,
    *, head_size: int, causal: bool, activation: str, eps: float,
) -> Array:  # fmt: skip
    """`attend` and `finish` in one program."""
    context = attend(weights, hidden, row, tiles, count, head_size=head_size, causal=causal)
    return finish(weights, context, hidden, activation=activation, eps=eps)


@partial(jax.jit, static_argnames=("eps",))
def score(weights: Weights, hidden: Array, *, eps: float) -> Array:
    """The LM head: (tokens, hidden) -> (tokens, vocab)."""
    hidden = normalise(ACTIVATION_FUNCTIONS["gelu"](project(hidden, weights["dense"])), weights["norm"], eps)
    table, bias = weights["decoder"]  # (vocab, hidden)
    return jnp.einsum("th,vh->tv", hidden.astype(table.dtype), table, preferred_element_type=hidden.dtype) + bias


# -- which rows go together -------------------------------------------------------------------------------------------


def cut_packs(lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """The rows of each piece, as `unpadding.run_batch` asks: packs of the largest size, as many as the budget holds."""
    size = min(batch_tokens, SIZES[-1])
    found = packs(lengths, size)
    count = max(1, batch_tokens // size)
    return [np.concatenate(found[start : start + count]) for start in range(0, len(found), count)]


def plan(lengths: list[int], sizes: tuple[int, ...] = SIZES) -> list[tuple[int, int]]:
    """The packs of a piece: (rows, size) each, in the order of the rows.

    The last pack, which may be nearly empty, is taken apart into smaller ones where that takes less time. A row that is
    longer than every size gets a size of its own.
    """
    *smaller, size = sizes
    counts, room = [], 0
    for length in lengths:
        if length > room:
            counts.append(0)
            room = size
        counts[-1] += 1
        room -= length
    firsts = np.cumsum(counts) - counts
    found = [(count, -(-max(lengths[first], size) // size) * size) for count, first in zip(counts, firsts, strict=True)]
    last = lengths[firsts[-1] :]
    if smaller and max(last) <= smaller[-1]:
        parts = plan(last, tuple(smaller))
        if sum(part + SMALL[0] for _, part in parts) <= size + SMALL[0]:
            found[-1:] = parts
    return found


@dataclass(frozen=True)
class Pack:
    """Tokens `start` to `stop` of a piece, in a program of `size` tokens; the rest see the docstring of `attend`."""

    start: int
    stop: int
    size: int
    row: np.ndarray
    tiles: np.ndarray
    count: np.int32

    @classmethod
    def of(cls, lengths: list[int], start: int, size: int, causal: bool) -> "Pack":
        """The pack of rows of these lengths."""
        count = sum(lengths)
        row = np.full(size, -1, np.int32)
        row[:count] = np.repeat(np.arange(len(lengths)), lengths)
        ends = np.cumsum(lengths)
        found = []
        for at in range(-(-count // BLOCK)):
            first, last = row[at * BLOCK], row[min(count, (at + 1) * BLOCK) - 1]
            end = at + 1 if causal else -(-int(ends[last]) // BLOCK)
            found += [(at, to) for to in range(int(ends[first] - lengths[first]) // BLOCK, end)]
        tiles = np.zeros(((size // BLOCK) ** 2, 2), np.int32)
        tiles[: len(found)] = found
        return cls(start, start + count, size, row, tiles, np.int32(len(found)))


def packed(lengths: list[int], causal: bool) -> list[Pack]:
    """The packs of a piece."""
    found: list[Pack] = []
    start = first = 0
    for rows, size in plan(lengths):
        found.append(Pack.of(lengths[first : first + rows], start, size, causal))
        start, first = found[-1].stop, first + rows
    return found


def _padded(values: np.ndarray, size: int) -> np.ndarray:
    """`size` rows, those after the values 0."""
    if len(values) == size:
        return values
    return np.concatenate([values, np.zeros((size - len(values), *values.shape[1:]), values.dtype)])


def chunks(count: int, sizes: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(start, stop, size) of parts of `count` tokens: the largest size while it is full, then what fits the rest."""
    full = range(0, count // sizes[-1] * sizes[-1], sizes[-1])
    found = [(start, start + sizes[-1], sizes[-1]) for start in full]
    rest = count - len(full) * sizes[-1]
    return found + ([(count - rest, count, min(size for size in sizes if size >= rest))] if rest else [])


# -- a model ----------------------------------------------------------------------------------------------------------


class FastModel:
    """A model's parameters laid out for one dtype.

    Attributes:
        kind, wide: the dtypes of products, and of all else.
    """

    def __init__(self, model: "FlaxRobertaPreTrainedModel", params: Params, dtype: str) -> None:
        self.config = model.config
        self.kind = jnp.dtype(dtype)
        self.wide = np.dtype(np.float64 if dtype == "float64" else np.float32)
        self.device = next(iter(jnp.asarray(jax.tree.leaves(params)[0]).devices()))
        base = params if model.head == "Model" else params["roberta"]
        self.embeddings = jax.tree.map(to_numpy, base["embeddings"])
        layers = range(self.config.num_hidden_layers)
        heads = max((self.config.heads_kept(index) for index in layers), default=0)
        self.layers = [self.layer(base["encoder"]["layer"][str(index)], heads) for index in layers]
        self.head = head_results(model.head, HeadKernels(self, params), "pooler" in params)

    def put(self, array: Array | np.ndarray, dtype: DTypeLike) -> Array:
        """On the model's device in a dtype; what is there already stays as it is.

        The programs' own results are there: numpy in their place would be compiled for a second time.
        """
        if not isinstance(array, jax.Array) or array.dtype != dtype:
            array = to_numpy(array).astype(dtype)  # in numpy: JAX would compile a program for each shape
        return jax.device_put(array, self.device)

    def projection(self, params: Params) -> Projection:
        """Kernel and bias."""
        return self.put(params["kernel"], self.kind), self.put(params["bias"], self.wide)

    def norm(self, params: Params) -> tuple[Array, Array]:
        """Scale and bias."""
        return self.put(params["scale"], self.wide), self.put(params["bias"], self.wide)

    def layer(self, params: Params, heads: int) -> Weights:
        """One layer's arrays, query, key and value as one projection.

        Pruned heads are 0 while another layer has more: then all layers have one shape and one program.
        """
        attention, width = params["attention"], heads * self.config.head_size
        parts = [attention["self"][name] for name in ("query", "key", "value")]
        kernels = [_widened(part["kernel"], width, axis=1) for part in parts]
        project = {
            "kernel": np.concatenate(kernels, axis=1),
            "bias": np.concatenate([_widened(part["bias"], width, axis=0) for part in parts]),
        }
        out = attention["output"]["dense"]
        if out["kernel"].shape[0] < width:
            out = {**out, "kernel": _widened(out["kernel"], width, axis=0)}
        return {
            "project": self.projection(project),
            "out": self.projection(out),
            "attention_norm": self.norm(attention["output"]["LayerNorm"]),
            "up": self.projection(params["intermediate"]["dense"]),
            "down": self.projection(params["output"]["dense"]),
            "output_norm": self.norm(params["output"]["LayerNorm"]),
        }

    def __call__(self, tokens: Tokens) -> Arrays:
        """The results of one piece, as `unpadding.run_batch` asks for them."""
        return self.head(self.encode(tokens), tokens)

    def embed(self, tokens: Tokens) -> np.ndarray:
        """The embeddings of every token: (tokens, hidden)."""
        tables = self.embeddings
        hidden = tables["word_embeddings"]["embedding"][tokens.ids].astype(self.wide)
        hidden += tables["token_type_embeddings"]["embedding"][tokens.types]
        hidden += tables["position_embeddings"]["embedding"][tokens.positions]
        hidden -= hidden.mean(axis=-1, keepdims=True)
        hidden /= np.sqrt(np.square(hidden).mean(axis=-1, keepdims=True) + self.wide.type(self.config.layer_norm_eps))
        scale, bias = (tables["LayerNorm"][name].astype(self.wide) for name in ("scale", "bias"))
        return hidden * scale + bias

    def encode(self, tokens: Tokens) -> np.ndarray:
        """Last hidden states of `tokens.kept`: (kept, hidden)."""
        embedded, kept = self.embed(tokens), tokens.kept
        if not self.layers:
            return embedded[kept]
        result = np.empty((len(kept), embedded.shape[1]), self.wide)
        late: list[tuple[np.ndarray, np.ndarray, slice]] = []  # context and input of the last layer, and their places
        done: list[tuple[Array, np.ndarray, slice]] = []
        for pack in packed(tokens.lengths.tolist(), self.config.is_decoder):
            places = slice(*np.searchsorted(kept, (pack.start, pack.stop)))
            wanted = kept[places] - pack.start
            if not len(wanted):
                continue  # no other pack sees it
            hidden = self.put(_padded(embedded[pack.start : pack.stop], pack.size), self.wide)
            is_late = pack.size not in SMALL and len(wanted) < pack.stop - pack.start
            for weights in self.layers[:-1] if is_late else self.layers:
                hidden = self.run_layer(weights, hidden, pack)
            if is_late:
                context = self.attend(self.layers[-1], hidden, pack)
                late.append((to_numpy(context)[wanted], to_numpy(hidden)[wanted], places))
            else:
                done.append((hidden, wanted, places))
        for hidden, wanted, places in done:
            result[places] = to_numpy(hidden)[wanted]
        self.finish_late(late, result)
        return result

    def run_layer(self, weights: Weights, hidden: Array, pack: Pack) -> Array:
        """One layer: (size, hidden)."""
        config = self.config
        options: dict[str, Any] = {"activation": config.hidden_act, "eps": config.layer_norm_eps}
        if pack.size not in SMALL:
            return finish(weights, self.attend(weights, hidden, pack), hidden, **options)
        options |= {"head_size": config.head_size, "causal": config.is_decoder}
        return layer(weights, hidden, pack.row, pack.tiles, pack.count, **options)

    def attend(self, weights: Weights, hidden: Array, pack: Pack) -> Array:
        """Attention of one pack."""
        size, causal = self.config.head_size, self.config.is_decoder
        return attend(weights, hidden, pack.row, pack.tiles, pack.count, head_size=size, causal=causal)

    def finish_late(self, late: list[tuple[np.ndarray, np.ndarray, slice]], result: np.ndarray) -> None:
        """Put into `result` what the last layer makes of the tokens that something is made of."""
        if not late:
            return
        context, hidden = (np.concatenate([part[index] for part in late]) for index in (0, 1))
        places = np.concatenate([np.arange(part[2].start, part[2].stop) for part in late])
        options = {"activation": self.config.hidden_act, "eps": self.config.layer_norm_eps}
        for start, stop, size in chunks(len(places), LARGE):
            parts = (self.put(_padded(values[start:stop], size), self.wide) for values in (context, hidden))
            result[places[start:stop]] = to_numpy(finish(self.layers[-1], *parts, **options))[: stop - start]


def _widened(array: Array | np.ndarray, size: int, axis: int) -> np.ndarray:
    """An array with zeros at the end of an axis."""
    values = to_numpy(array)
    missing = size - values.shape[axis]
    return np.pad(values, [(0, missing if index == axis else 0) for index in range(values.ndim)]) if missing else values


class HeadKernels:
    """The parts of a model's head: the language head by programs, those of a few labels in numpy."""

    rows = staticmethod(operator.getitem)
    tanh = staticmethod(np.tanh)

    def __init__(self, fast: FastModel, params: Params) -> None:
        self.fast, self.params = fast, params

    def dense(self, path: str) -> Callable[[np.ndarray], np.ndarray]:
        """A projection by its path."""
        part = functools.reduce(operator.getitem, path.split("."), self.params)
        kernel, bias = (to_numpy(part[name]).astype(self.fast.wide) for name in ("kernel", "bias"))
        return lambda hidden: hidden @ kernel + bias

    def language(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """States and the places of tokens -> logits."""
        fast, head = self.fast, self.params["lm_head"]
        table = self.params["roberta"]["embeddings"]["word_embeddings"]["embedding"]
        if not fast.config.tie_word_embeddings:
            table = to_numpy(head["decoder"]["kernel"]).T
        weights = {
            "dense": fast.projection(head["dense"]),
            "norm": fast.norm(head["layer_norm"]),
            "decoder": (fast.put(table, fast.kind), fast.put(head["bias"], fast.wide)),
        }

        def logits(hidden: np.ndarray, asked: np.ndarray) -> np.ndarray:
            hidden = hidden[asked]
            result = np.empty((len(hidden), table.shape[0]), fast.wide)
            for start, stop, size in chunks(len(hidden), (SMALL[0], LARGE[0])):
                part = score(weights, _padded(hidden[start:stop], size), eps=fast.config.layer_norm_eps)
                result[start:stop] = to_numpy(part)[: stop - start]
            return result

        return logits


_models = FastModels(Parts, alteration)


def infer(  # noqa: D103 - described in PretrainedBase
    model: "FlaxRobertaPreTrainedModel",
    batch: Mapping[str, np.ndarray],
    *,
    where: np.ndarray | None = None,
    dtype: str | None = None,
    batch_tokens: int = 1024,
    params: Mapping[str, Any] | None = None,
) -> Arrays:
    own = jnp.dtype(model.dtype).name
    chosen = dispatch.chosen_dtype(dtype, own, ("float32", "bfloat16"))
    tree = model.params if params is None else params
    altered = _models.check(model, tree)
    return dispatch.run_fast_or_plain(
        model, batch,
        where=where, batch_tokens=batch_tokens, dtypes=(chosen, own), altered=altered,
        has_pooler=model.head != "Model" or bool(getattr(model.module, "add_pooling_layer", True)),
        fast=lambda: _models.laid_out(model, chosen, lambda: FastModel(model, tree, chosen)),
        plain=lambda piece: run_plain(model, tree, piece), cut=cut_packs,
    )  # fmt: skip


def release(model: "FlaxRobertaPreTrainedModel") -> None:
    """Free the memory that `infer` prepared; its next call makes it again."""
    _models.release(model)


def run_plain(model: "FlaxRobertaPreTrainedModel", params: Params, piece: Arrays) -> Arrays:
    """The forward pass, as numpy what `infer` returns of it."""
    found = unpadding.results(model(**piece, params=params, return_dict=True), model.head)
    results = {name: to_numpy(value) for name, value in found.items()}
    return {name: values.astype(np.float32) if values.itemsize == 2 else values for name, values in results.items()}
