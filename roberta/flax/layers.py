"""The layers of RoBERTa, from token ids to hidden states, and the heads' own blocks.

Attribute names are those of the checkpoint (`self.self`, `self.LayerNorm`), so the tree of parameters has the
canonical names (see `weights`). Shapes: batch, seq (the tokens of this call), key (the cached tokens and these, or
all the room of the cache), head, hidden. `dtype` is what is computed in; parameters may have another.

Values cannot be seen while JAX traces, so compiled code checks them when it runs: a callback raises the error that
eager code raises at once, as the cause of JAX's own. `check_values` leaves the callbacks out.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from roberta.common import padding_warning
from roberta.common.config import RobertaConfig
from roberta.common.length_errors import distance_error, mask_error, way_out_of_length
from roberta.flax.cache import LAYER_KEYS, LayerCache, extend


def _gelu_tanh(x: Array) -> Array:
    return nn.gelu(x, approximate=True)


def _gelu(x: Array) -> Array:
    return nn.gelu(x, approximate=False)


ACTIVATION_FUNCTIONS = {
    "gelu": _gelu,  # erf, not tanh: fairseq trained with the exact GELU
    "gelu_python": _gelu,
    "gelu_10": lambda x: _gelu(x).clip(-10, 10),
    **dict.fromkeys(("gelu_new", "gelu_accurate", "gelu_fast", "gelu_python_tanh", "gelu_pytorch_tanh"), _gelu_tanh),
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),
    "laplace": lambda x: 0.5 * (1 + jax.lax.erf((x - 0.707107) / (0.282095 * math.sqrt(2)))),
    "leaky_relu": nn.leaky_relu,
    "linear": lambda x: x,
    "mish": jax.nn.mish,
    "relu": nn.relu,
    "relu2": lambda x: jnp.square(nn.relu(x)),
    "relu6": nn.relu6,
    "sigmoid": nn.sigmoid,
    "silu": nn.silu,
    "swish": nn.silu,
    "tanh": nn.tanh,
}

_CHANCES = 2**16  # of a value to be dropped: what half a random word tells apart
_DEPTH = 512  # inputs that one sum of `product` runs over

_compiled_code_checks: ContextVar[bool] = ContextVar("compiled_code_checks", default=True)
_sums_are_split: ContextVar[bool] = ContextVar("sums_are_split", default=True)


@contextmanager
def check_values(on: bool) -> Iterator[None]:
    """Whether code that is traced inside this context checks ids, positions, labels and the room of the cache.

    The checks cost a fraction of a millisecond a call, and `jax.export` and the persistent compilation cache refuse
    code with callbacks. Without them an id, type or position outside its table makes the row nan, a label outside
    makes the loss nan, and writing behind the end of a cache is the caller's own business. Eager code always checks.
    """
    token = _compiled_code_checks.set(on)
    try:
        yield
    finally:
        _compiled_code_checks.reset(token)


@contextmanager
def split_sums(on: bool) -> Iterator[None]:
    """Whether code that is traced inside this context adds up long sums in parts (`product`).

    Training does not: the gradient of each part would be put together from padded pieces, which takes longer than what
    is gained is worth, as an update's noise is far above rounding.
    """
    token = _sums_are_split.set(on)
    try:
        yield
    finally:
        _sums_are_split.reset(token)


def are_sums_split() -> bool:
    """What `split_sums` says now."""
    return _sums_are_split.get()


def is_traced(*values: Array) -> bool:
    """Whether values are unknown now (jit, vmap, eval_shape), so that a check has to wait until the code runs."""
    return any(isinstance(value, jax.core.Tracer) for value in values)


def check_when_run(is_wrong: Array, values: tuple[Array, ...], message: Callable[..., str]) -> None:
    """Raise `ValueError(message(*values))` if `is_wrong`: now, or when the compiled code runs."""

    def complain(is_wrong: np.ndarray, *values: np.ndarray) -> None:
        if is_wrong:
            raise ValueError(message(*values))

    if not is_traced(is_wrong):
        complain(is_wrong, *values)
    elif _compiled_code_checks.get():  # the condition spares the good case the way to the host
        jax.lax.cond(is_wrong, lambda: jax.debug.callback(complain, is_wrong, *values), lambda: None)


def check_range(name: str, values: Array, limit: int, way_out: str) -> None:
    """Raise `ValueError` unless all `values` are integers from 0 to `limit - 1`."""
    if not jnp.issubdtype(values.dtype, jnp.integer):
        raise ValueError(f"{name} is of type {values.dtype}; give integers")
    if values.size == 0:
        return
    low, high = values.min(), values.max()
    check_when_run(
        (low < 0) | (high >= limit),
        (low, high),
        lambda low, high: f"{name} holds {low if low < 0 else high}, allowed are 0 to {limit - 1}; {way_out}",
    )


def warn_of_padding(input_ids: Array, config: RobertaConfig, past: Array | int) -> None:
    """Warn, once per process, where the rows of ids (batch, seq) that come without a mask seem to be padded.

    Only their first and last tokens are looked at; of a decoder's the first, as none attends to what follows it.

    Args:
        past: number of tokens in the cache; behind them rows go on, and have no beginning.
    """
    if padding_warning.was_said() or is_traced(input_ids, past) or past > 0:
        return
    ids = np.asarray(input_ids)
    ends = ids[:, :1] if config.is_decoder else ids[:, :: max(1, ids.shape[1] - 1)]
    if (ends == config.pad_token_id).any():
        padding_warning.say(config.pad_token_id)


def position_ids(input_ids: Array, pad_token_id: int, past_tokens: Array | int = 0) -> Array:
    """Number the tokens of each row from `pad_token_id + 1`; padding keeps `pad_token_id`.

    Args:
        input_ids: int, (batch, seq).
        past_tokens: tokens of the row that the cache holds already, (batch, 1) or one number.

    Returns:
        int, (batch, seq). Example, pad 1: [[0, 5, 2, 1]] -> [[2, 3, 4, 1]].

    Source: fairseq `make_positions`; the offset is why the table has 514 rows for 512 tokens.
    """
    is_token = (input_ids != pad_token_id).astype(jnp.int32)
    return (is_token.cumsum(axis=1) + past_tokens) * is_token + pad_token_id


def attention_bias(
    mask: Array | None, queries: int, keys: int, causal: bool, like: Array, past: Array | None = None
) -> Array | None:
    """The term added to attention scores: 0 to attend, a very negative number not to; None when all attend to all.

    Args:
        mask: 1 to attend, 0 not to; (batch, key), (batch, seq, key) or (batch, 1 or head, seq, key). The last two
            say everything: no causal mask is added to them.
        like: floating, of the dtype wanted.
        past: number of tokens in the cache that the keys come from; its room behind them is not attended to, but
            by tokens that may attend to nothing.

    Returns:
        float, broadcasts to (batch, head, seq, key). A token that may attend to nothing attends to all: fused kernels
        have a wrong gradient where every score is hugely negative.
    """
    if mask is not None:
        if mask.ndim not in (2, 3, 4) or mask.shape[-1] != keys or (mask.ndim > 2 and mask.shape[-2] != queries):
            raise mask_error(tuple(mask.shape), queries, keys)
        causal = causal and mask.ndim == 2
        if mask.ndim < 4:
            mask = mask.reshape(mask.shape[0], 1, 1 if mask.ndim == 2 else queries, keys)
        mask = mask.astype(like.dtype)
    if causal or past is not None:
        last_seen = jnp.arange(queries) if causal else jnp.full(queries, queries - 1)
        last_seen = last_seen.reshape(-1, 1) + (0 if past is None else past)
        seen = (jnp.arange(keys) <= last_seen).astype(like.dtype)  # (seq, key)
        mask = seen if mask is None else mask * seen
    if mask is None:
        return None
    has_key = mask.max(axis=-1, keepdims=True) > 0
    # half of the lowest number: scores cannot push it over
    return (1 - mask) * (jnp.finfo(like.dtype).min / 2) * has_key


class Embedding(nn.Embed):
    """A table of rows; the lookup gives the row `padding_id` no gradient (torch's `padding_idx`)."""

    padding_id: int | None = None

    def __call__(self, ids: Array) -> Array:
        """int, (batch, seq) -> (batch, seq, hidden); ids outside the table give nan, negative ones too."""
        rows = jnp.where(ids < 0, self.num_embeddings, ids)
        found = jnp.take(self.embedding, rows, axis=0, mode="fill").astype(self.dtype)
        if self.padding_id is None:
            return found
        return jnp.where((ids == self.padding_id)[..., None], jax.lax.stop_gradient(found), found)


def normal(config: RobertaConfig, padding_id: int | None = None) -> nn.initializers.Initializer:
    """What draws weights from N(0, initializer_range), with zeros in the row `padding_id`."""

    def draw(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        values = nn.initializers.normal(config.initializer_range)(key, shape, dtype)
        return values if padding_id is None else values.at[padding_id].set(0)

    return draw


def embedding(
    config: RobertaConfig, rows: int, size: int, dtype: DTypeLike, padding_id: int | None = None
) -> Embedding:
    """A table as the config draws it."""
    return Embedding(rows, size, dtype=dtype, embedding_init=normal(config, padding_id), padding_id=padding_id)


def product(hidden: Array, kernel: Array, dimension_numbers: object = None, precision: object = None) -> Array:
    """(..., inputs) times (inputs, outputs): what projections take for linen's `dot_general`.

    XLA's CPU kernel adds up all inputs in one float32 number, and so loses twice the digits that PyTorch's does;
    sums over `_DEPTH` inputs each, added up, lose about as many.
    """
    del dimension_numbers, precision  # a projection's are always the same
    inputs = kernel.shape[0]
    is_short = kernel.dtype != jnp.float32 or inputs <= _DEPTH
    if is_short or not _sums_are_split.get() or jax.default_backend() != "cpu":
        return hidden @ kernel
    starts = range(0, inputs, _DEPTH)
    return sum(hidden[..., start : start + _DEPTH] @ kernel[start : start + _DEPTH] for start in starts)


def dense(config: RobertaConfig, size: int, dtype: DTypeLike, use_bias: bool = True) -> nn.Dense:
    """A projection as the config draws it, its bias 0."""
    return nn.Dense(size, use_bias=use_bias, dtype=dtype, kernel_init=normal(config), dot_general=product)


def norm(config: RobertaConfig, dtype: DTypeLike) -> nn.LayerNorm:
    """A layer norm; the variance from the differences to the mean, as E[x²] - E[x]² loses digits."""
    return nn.LayerNorm(config.layer_norm_eps, dtype=dtype, use_fast_variance=False)


class Dropout(nn.Module):
    """Zeros in place of some values, the others larger by as much; the rate is that of linen's, to 1 in 65,536.

    Two values are drawn from each random word, where linen's takes a word for each: drawing takes a good part of a
    step on a CPU.
    """

    rate: float

    @nn.compact
    def __call__(self, values: Array, deterministic: bool = True) -> Array:
        """Any shape; `deterministic` returns the values as they are."""
        dropped = round(self.rate * _CHANCES)
        if deterministic or dropped == 0:
            return values
        if dropped == _CHANCES:
            return jnp.zeros_like(values)
        words = jax.random.bits(self.make_rng("dropout"), ((values.size + 1) // 2,), jnp.uint32)
        halves = jnp.stack((words & (_CHANCES - 1), words >> 16), axis=-1).reshape(-1)[: values.size]
        return jnp.where(halves.reshape(values.shape) >= dropped, values * (_CHANCES / (_CHANCES - dropped)), 0)


class _Block(nn.Module):
    """A module that is made from a config, and computes in `dtype`."""

    config: RobertaConfig
    dtype: DTypeLike = jnp.float32


class Embeddings(_Block):
    """Sum of word, token type and, unless distances stand for them, position embeddings, normalised."""

    def setup(self) -> None:
        config, hidden, pad = self.config, self.config.hidden_size, self.config.pad_token_id
        self.word_embeddings = embedding(config, config.vocab_size, hidden, self.dtype, pad)
        self.position_embeddings = embedding(config, config.max_position_embeddings, hidden, self.dtype, pad)
        self.token_type_embeddings = embedding(config, config.type_vocab_size, hidden, self.dtype)
        self.LayerNorm = norm(config, self.dtype)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def __call__(
        self,
        input_ids: Array | None,
        token_type_ids: Array | None,
        positions: Array | None,
        inputs_embeds: Array | None,
        past_tokens: Array | int,
        deterministic: bool = True,
    ) -> Array:
        """Embed ids, or take `inputs_embeds` (batch, seq, hidden) for the word part. Result: (batch, seq, hidden)."""
        config = self.config
        if inputs_embeds is None:
            check_range("input_ids", input_ids, config.vocab_size, "is the tokenizer this model's?")
            if positions is None:
                positions = position_ids(input_ids, config.pad_token_id, past_tokens)
            inputs_embeds = self.word_embeddings(input_ids)
        batch, seq, _ = inputs_embeds.shape
        if positions is None:  # no ids, so nothing is known to be padding
            positions = jnp.arange(seq).reshape(1, seq) + past_tokens + config.pad_token_id + 1
        if token_type_ids is None:
            token_type_ids = jnp.zeros((batch, seq), jnp.int32)
        check_range("token_type_ids", token_type_ids, config.type_vocab_size, "most RoBERTa models know type 0 only")
        hidden = inputs_embeds.astype(self.dtype) + self.token_type_embeddings(token_type_ids)
        if not config.has_distances or self.is_initializing():  # so that the parameters are made
            check_range("position_ids", positions, config.max_position_embeddings, way_out_of_length(config))
            hidden = hidden + self.position_embeddings(positions)
        return self.dropout(self.LayerNorm(hidden), deterministic)


class SelfAttention(nn.Module):
    """Multi-head attention of the tokens to themselves and the cache, or to an encoder's states."""

    config: RobertaConfig
    heads: int
    has_distances: bool
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        config, width = self.config, self.heads * self.config.head_size
        self.query, self.key, self.value = (dense(config, width, self.dtype) for _ in range(3))
        if self.has_distances:
            rows = 2 * config.max_position_embeddings - 1
            self.distance_embedding = embedding(config, rows, config.head_size, self.dtype)
        self.dropout = Dropout(config.attention_probs_dropout_prob)

    def __call__(
        self,
        hidden: Array,
        bias: Array | None,
        head_mask: Array | None,
        states: Array | None,
        need_weights: bool,
        deterministic: bool = True,
    ) -> tuple[Array, Array | None]:
        """Attend; the context comes before the output projection. Reads and writes the cache, if there is one.

        Args:
            hidden: (batch, seq, hidden).
            bias: see `attention_bias`.
            head_mask: float, broadcasts to (batch, head, seq, key); multiplies the attention weights.
            states: the encoder's, (batch, key, hidden): cross-attention; None for self-attention.

        Returns:
            (batch, seq, head * head size); weights (batch, head, seq, key) after dropout and head mask, if needed.
        """
        source = hidden if states is None else states
        query, key, value = (
            self.split(self.query(hidden)),
            self.split(self.key(source)),
            self.split(self.value(source)),
        )
        past = self.past() if states is None else None
        if past is not None:
            present = extend(past, key, value)
            key, value = present["cached_key"], present["cached_value"]
            if self.is_mutable_collection("cache"):
                for name, part in present.items():
                    self.put_variable("cache", name, part)
        if self.has_distances:
            start = 0 if past is None else past["cache_index"]
            distances = self.distance_scores(query, key, start) / math.sqrt(query.shape[-1])
            bias = distances if bias is None else distances + bias
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(query.shape[-1])  # (batch, head, seq, key)
        weights = self.dropout(nn.softmax(scores if bias is None else scores + bias), deterministic)
        weights = weights if head_mask is None else weights * head_mask
        context = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
        return context.reshape(*hidden.shape[:2], -1), weights if need_weights else None

    def past(self) -> LayerCache | None:
        """This attention's entry in the cache."""
        if not self.config.is_decoder or not self.has_variable("cache", LAYER_KEYS[0]):
            return None
        return {name: self.get_variable("cache", name) for name in LAYER_KEYS}

    def split(self, projected: Array) -> Array:
        """(batch, seq, head * head size) -> (batch, seq, head, head size)."""
        return projected.reshape(*projected.shape[:2], -1, self.config.head_size)

    def distance_scores(self, query: Array, key: Array, start: Array | int) -> Array:
        """Scores of the signed distance between query and key token, (batch, head, seq, key).

        Args:
            start: which key the first query's own is.

        Source: Shaw et al. 2018 (relative_key), Huang et al. 2020, method 4 (relative_key_query).
        """
        limit = self.config.max_position_embeddings
        if key.shape[1] > limit:
            raise distance_error(key.shape[1], self.config)
        distance = (jnp.arange(query.shape[1]) + start).reshape(-1, 1) - jnp.arange(key.shape[1])  # (seq, key)
        table = self.distance_embedding(distance + limit - 1)  # (seq, key, head size)
        scores = jnp.einsum("bqhd,qkd->bhqk", query, table)
        if self.config.position_embedding_type == "relative_key_query":
            scores = scores + jnp.einsum("bkhd,qkd->bhqk", key, table)
        return scores


class ResidualOutput(_Block):
    """Projection, dropout, and the norm of its sum with the residual: the end of both sub-layers (post-norm)."""

    def setup(self) -> None:
        self.dense = dense(self.config, self.config.hidden_size, self.dtype)
        self.LayerNorm = norm(self.config, self.dtype)
        self.dropout = Dropout(self.config.hidden_dropout_prob)

    def __call__(self, hidden: Array, residual: Array, deterministic: bool = True) -> Array:
        """`hidden`: (batch, seq, inputs); `residual` and the result: (batch, seq, hidden)."""
        return self.LayerNorm(self.dropout(self.dense(hidden), deterministic) + residual)


class Attention(nn.Module):
    """Attention with its output projection and norm."""

    config: RobertaConfig
    heads: int
    has_distances: bool = False
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        self.self = SelfAttention(self.config, self.heads, self.has_distances, self.dtype)
        self.output = ResidualOutput(self.config, self.dtype)

    def __call__(
        self,
        hidden: Array,
        bias: Array | None,
        head_mask: Array | None,
        states: Array | None,
        need_weights: bool,
        deterministic: bool = True,
    ) -> tuple[Array, Array | None]:
        """As `SelfAttention`, with (batch, seq, hidden) as the first result."""
        context, weights = self.self(hidden, bias, head_mask, states, need_weights, deterministic)
        return self.output(context, hidden, deterministic), weights


class Intermediate(_Block):
    """The wide half of the feed-forward block."""

    def setup(self) -> None:
        self.dense = dense(self.config, self.config.intermediate_size, self.dtype)
        self.activation = ACTIVATION_FUNCTIONS[self.config.hidden_act]

    def __call__(self, hidden: Array) -> Array:
        """(batch, seq, hidden) -> (batch, seq, intermediate)."""
        return self.activation(self.dense(hidden))


class Layer(nn.Module):
    """Self-attention, cross-attention in a decoder that has it, and feed-forward."""

    config: RobertaConfig
    index: int
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        config = self.config
        self.attention = Attention(config, config.heads_kept(self.index), config.has_distances, self.dtype)
        if config.add_cross_attention:
            self.crossattention = Attention(config, config.num_attention_heads, dtype=self.dtype)
        self.intermediate = Intermediate(config, self.dtype)
        self.output = ResidualOutput(config, self.dtype)

    def __call__(
        self,
        hidden: Array,
        bias: Array | None,
        head_mask: Array | None,
        states: Array | None,
        states_bias: Array | None,
        need_weights: bool,
        deterministic: bool = True,
    ) -> tuple[Array, Array | None, Array | None]:
        """One layer: (batch, seq, hidden), attention weights, and cross-attention weights.

        Args:
            states: the encoder's, for cross-attention; `states_bias` is their `attention_bias`.
        """
        hidden, weights = self.attention(hidden, bias, head_mask, None, need_weights, deterministic)
        cross_weights = None
        if states is None and self.config.add_cross_attention and self.is_initializing():
            states = hidden  # so that the parameters are made
        if states is not None:
            hidden, cross_weights = self.crossattention(
                hidden, states_bias, head_mask, states, need_weights, deterministic
            )
        chunk = self.config.chunk_size_feed_forward
        if chunk:
            parts = jnp.split(hidden, list(range(chunk, hidden.shape[1], chunk)), axis=1)
            parts = [self.feed_forward(part, deterministic) for part in parts]
            return jnp.concatenate(parts, axis=1), weights, cross_weights
        return self.feed_forward(hidden, deterministic), weights, cross_weights

    def feed_forward(self, hidden: Array, deterministic: bool) -> Array:
        """(batch, seq, hidden), each token by itself."""
        return self.output(self.intermediate(hidden), hidden, deterministic)


class Layers(_Block):
    """The layers by number: `layer/0` in the tree, where a list would make `layer_0`."""

    gradient_checkpointing: bool = False

    def setup(self) -> None:
        # static: need_weights and deterministic, counted from self
        layer = nn.remat(Layer, static_argnums=(6, 7)) if self.gradient_checkpointing else Layer
        indices = range(self.config.num_hidden_layers)
        self.layers = [layer(self.config, index, self.dtype, name=str(index)) for index in indices]

    def __call__(self, index: int, *arguments: Array | bool | None) -> tuple[Array, Array | None, Array | None]:
        """One layer."""
        return self.layers[index](*arguments)


class Encoder(_Block):
    """The stack of layers."""

    gradient_checkpointing: bool = False

    def setup(self) -> None:
        self.layer = Layers(self.config, self.dtype, self.gradient_checkpointing)

    def __call__(
        self,
        hidden: Array,
        bias: Array | None,
        head_mask: list[Array | None],
        states: Array | None,
        states_bias: Array | None,
        need_weights: bool,
        deterministic: bool = True,
    ) -> tuple[list[Array], list[Array | None], list[Array | None]]:
        """Run the layers.

        Args:
            head_mask: one for each layer.

        Returns:
            all hidden states, the input first; attention weights; cross-attention weights.
        """
        hidden_states, attentions, cross_attentions = [hidden], [], []
        for index in range(self.config.num_hidden_layers):
            hidden, weights, cross_weights = self.layer(
                index, hidden, bias, head_mask[index], states, states_bias, need_weights, deterministic
            )
            hidden_states.append(hidden)
            attentions.append(weights)
            cross_attentions.append(cross_weights)
        return hidden_states, attentions, cross_attentions


class Pooler(_Block):
    """The first token's state, projected and squashed."""

    def setup(self) -> None:
        self.dense = dense(self.config, self.config.hidden_size, self.dtype)

    def __call__(self, hidden: Array) -> Array:
        """(batch, seq, hidden) -> (batch, hidden)."""
        return nn.tanh(self.dense(hidden[:, 0]))


class LMHead(_Block):
    """Scores of every vocabulary entry; the matrix is the word embedding's unless the config unties it."""

    def setup(self) -> None:
        config = self.config
        self.dense = dense(config, config.hidden_size, self.dtype)
        self.layer_norm = norm(config, self.dtype)
        if not config.tie_word_embeddings:
            self.decoder = dense(config, config.vocab_size, self.dtype, use_bias=False)
        self.bias = self.param("bias", nn.initializers.zeros, (config.vocab_size,))

    def __call__(self, hidden: Array, word_embedding: Array) -> Array:
        """(batch, seq, hidden) -> (batch, seq, vocab); `word_embedding`: (vocab, hidden), used when tied."""
        hidden = self.layer_norm(_gelu(self.dense(hidden)))  # erf GELU, whatever hidden_act says
        tied = self.config.tie_word_embeddings
        scores = product(hidden, word_embedding.astype(self.dtype).T) if tied else self.decoder(hidden)
        return scores + self.bias.astype(self.dtype)


class ClassificationHead(_Block):
    """Labels from the first token's state, with a hidden layer."""

    def setup(self) -> None:
        self.dense = dense(self.config, self.config.hidden_size, self.dtype)
        self.dropout = Dropout(self.config.head_dropout)
        self.out_proj = dense(self.config, self.config.num_labels, self.dtype)

    def __call__(self, hidden: Array, deterministic: bool = True) -> Array:
        """(batch, seq, hidden) -> (batch, labels)."""
        first = self.dropout(hidden[:, 0], deterministic)
        return self.out_proj(self.dropout(nn.tanh(self.dense(first)), deterministic))
