"""The layers of RoBERTa, from token ids to hidden states, and the heads' own blocks.

Attribute names are those of the checkpoint (`self.self`, `self.LayerNorm`), so the variables have the
canonical names (see `weights`). Every layer makes its variables in its constructor; `training` reaches the
dropouts by Keras' own propagation. Shapes: batch, seq (the tokens of this call), key (the cached tokens and
these), head, hidden. `dtype` is a Keras dtype or policy.

Values are checked before a kernel runs: in eager mode with a `ValueError`; in a `tf.function` with an
assertion of the same text when it runs. XLA (`jit_compile=True`) drops assertions: an id, type or position
outside its table makes its sequence nan there, and a label outside makes the loss nan.
"""

import math
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import tensorflow as tf
from tensorflow import Tensor

from roberta.common import padding_warning
from roberta.common.config import RobertaConfig
from roberta.common.length_errors import distance_error, mask_error, way_out_of_length
from roberta.tf.cache import Cache, LayerCache, extend
from roberta.tf.weights import keras

DType = str | tf.DType | keras.DTypePolicy | None

draws_parameters: ContextVar[bool] = ContextVar("draws_parameters", default=True)


def _gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + tf.math.erf(x / math.sqrt(2)))  # tf.nn.gelu rounds the root to float32


def _gelu_tanh(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + tf.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATION_FUNCTIONS = {
    "gelu": _gelu,  # erf, not tanh: fairseq trained with the exact GELU
    "gelu_python": _gelu,
    "gelu_10": lambda x: tf.clip_by_value(_gelu(x), -10, 10),
    **dict.fromkeys(("gelu_new", "gelu_accurate", "gelu_fast", "gelu_python_tanh", "gelu_pytorch_tanh"), _gelu_tanh),
    "quick_gelu": lambda x: x * tf.sigmoid(1.702 * x),
    "laplace": lambda x: 0.5 * (1 + tf.math.erf((x - 0.707107) / (0.282095 * math.sqrt(2)))),
    "leaky_relu": lambda x: tf.maximum(x, 0.01 * x),
    "linear": lambda x: x,
    "mish": lambda x: x * tf.tanh(tf.math.softplus(x)),
    "relu": tf.nn.relu,
    "relu2": lambda x: tf.square(tf.nn.relu(x)),
    "relu6": tf.nn.relu6,
    "sigmoid": tf.sigmoid,
    "silu": lambda x: x * tf.sigmoid(x),
    "swish": lambda x: x * tf.sigmoid(x),
    "tanh": tf.tanh,
}


def is_traced() -> bool:
    """Whether values are unknown now (tf.function, export), so that a check waits until the code runs."""
    return not tf.executing_eagerly()


def size(tensor: Tensor, axis: int) -> int | Tensor:
    """The length of an axis: a number where it is known, else (in a tf.function) a scalar tensor."""
    static = tensor.shape[axis]
    return tf.shape(tensor)[axis] if static is None else static


def check_when_run(values: Tensor, limit: int, before: str, after: str) -> Tensor:
    """`values` as int32, all from 0 to `limit - 1`; else an error: `before`, a wrong value, `after`."""
    if not is_traced():
        array = values.numpy()
        low, high = (array.min(), array.max()) if array.size else (0, 0)
        if low < 0 or high >= limit:
            raise ValueError(f"{before}{low if low < 0 else high}{after}")
        return tf.cast(values, tf.int32)
    low, high = tf.reduce_min(values), tf.reduce_max(values)
    is_right = (low >= 0) & (high < limit)
    with tf.control_dependencies([tf.debugging.Assert(is_right, [before, tf.where(low < 0, low, high), after])]):
        return tf.cast(tf.identity(values), tf.int32)


def check_range(name: str, values: Tensor, limit: int, way_out: str) -> Tensor:
    """`values` as int32; `ValueError` unless all are integers from 0 to `limit - 1` (see `check_when_run`)."""
    if not values.dtype.is_integer:
        raise ValueError(f"{name} is of type {values.dtype.name}; give integers")
    return check_when_run(values, limit, f"{name} holds ", f", allowed are 0 to {limit - 1}; {way_out}")


def warn_of_padding(input_ids: Tensor, config: RobertaConfig) -> None:
    """Warn, once per process, where the rows of ids (batch, seq) that come without a mask seem to be padded.

    Only their first and last tokens are looked at; of a decoder's the first, as none attends to what follows it.
    """
    if is_traced() or padding_warning.was_said():
        return
    ids = input_ids.numpy()
    ends = ids[:, :1] if config.is_decoder else ids[:, :: max(1, ids.shape[1] - 1)]
    if (ends == config.pad_token_id).any():
        padding_warning.say(config.pad_token_id)


def position_ids(input_ids: Tensor, pad_token_id: int, past_tokens: Tensor | int = 0) -> Tensor:
    """Number the tokens of each row from `pad_token_id + 1`; padding keeps `pad_token_id`.

    Args:
        input_ids: int, (batch, seq).
        past_tokens: tokens of the row that the cache holds already, (batch, 1) or one number.

    Returns:
        int, (batch, seq). Example, pad 1: [[0, 5, 2, 1]] -> [[2, 3, 4, 1]].

    Source: fairseq `make_positions`; the offset is why the table has 514 rows for 512 tokens.
    """
    is_token = tf.cast(input_ids != pad_token_id, tf.int32)
    return (tf.cumsum(is_token, axis=1) + past_tokens) * is_token + pad_token_id


def attention_bias(
    mask: Tensor | None, queries: int | Tensor, keys: int | Tensor, causal: bool, like: Tensor
) -> Tensor | None:
    """The term added to attention scores: 0 to attend, a very negative number not to; None: all attend to all.

    Args:
        mask: 1 to attend, 0 not to; (batch, key), (batch, seq, key) or (batch, 1 or head, seq, key). The last
            two say everything: no causal mask is added to them.
        like: floating, of the dtype wanted.

    Returns:
        float, broadcasts to (batch, head, seq, key). A token that may attend to nothing attends to all: fused kernels
        have a wrong gradient where every score is hugely negative.
    """
    if mask is not None:
        rank = mask.shape.rank
        if rank not in (2, 3, 4) or _differ(mask.shape[-1], keys) or (rank > 2 and _differ(mask.shape[-2], queries)):
            raise mask_error(tuple(mask.shape), queries, keys)
        causal = causal and rank == 2
        if rank < 4:  # by reshape: indexing with None breaks exporters
            mask = tf.reshape(mask, (size(mask, 0), 1, 1 if rank == 2 else queries, keys))
        mask = tf.cast(mask, like.dtype)
    if causal:
        key_index = tf.range(keys)
        seen = tf.cast(key_index <= tf.reshape(key_index[keys - queries :], (-1, 1)), like.dtype)  # (seq, key)
        mask = seen if mask is None else mask * seen
    if mask is None:
        return None
    has_key = tf.cast(tf.reduce_max(mask, axis=-1, keepdims=True) > 0, like.dtype)
    # half of the lowest number: scores cannot push it over
    return (1 - mask) * (like.dtype.min / 2) * has_key


def _differ(known: int | None, wanted: int | Tensor) -> bool:
    """Whether two lengths are known not to be the same."""
    return known is not None and isinstance(wanted, int) and known != wanted


@tf.custom_gradient
def lookup(table: Tensor, ids: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, None]]]:
    """Rows of a table, with a dense gradient.

    TensorFlow's own is sparse, with a row for each id, and Keras' optimizers square the occurrences of an id one by
    one: the second moment of Adam is wrong then.
    """
    rows = tf.shape(table)[0]

    def gradient(upstream: Tensor) -> tuple[Tensor, None]:
        return tf.math.unsorted_segment_sum(upstream, ids, rows), None

    return tf.gather(table, ids), gradient


class Embedding(keras.layers.Embedding):
    """A table of rows; the lookup gives the row `padding_id` no gradient (torch's `padding_idx`)."""

    padding_id: int | None = None

    def call(self, ids: Tensor) -> Tensor:
        """int, (batch, seq) -> (batch, seq, hidden)."""
        found = tf.cast(lookup(tf.convert_to_tensor(self.embeddings), ids), self.compute_dtype)
        if is_traced():  # XLA drops the check of the ids and takes the nearest row
            outside = tf.expand_dims((ids < 0) | (ids >= self.input_dim), -1)
            found = tf.where(outside, tf.cast(math.nan, found.dtype), found)
        if self.padding_id is None:
            return found
        return tf.where(tf.expand_dims(ids == self.padding_id, -1), tf.stop_gradient(found), found)


def blank(shape: tuple[int, ...], dtype: DType = None) -> Tensor:
    """Zeros; where the values come from a file, what the memory holds, which takes no time, and no memory yet."""
    return tf.raw_ops.Empty(shape=shape, dtype=dtype, init=draws_parameters.get())


def embedding(rows: int, width: int, dtype: DType, padding_id: int | None = None) -> Embedding:
    """A table of zeros; `initialise` of the model draws it."""
    layer = Embedding(rows, width, embeddings_initializer=blank, dtype=dtype, name="embedding")
    layer.padding_id = padding_id
    layer.build()
    return layer


def dense(inputs: int, outputs: int, dtype: DType, use_bias: bool = True) -> keras.layers.Dense:
    """A projection of zeros; `initialise` of the model draws it."""
    layer = keras.layers.Dense(outputs, use_bias=use_bias, kernel_initializer=blank, dtype=dtype, name="dense")
    layer.build((None, inputs))
    return layer


def norm(config: RobertaConfig, dtype: DType) -> keras.layers.LayerNormalization:
    """A layer norm over the hidden size."""
    layer = keras.layers.LayerNormalization(epsilon=config.layer_norm_eps, dtype=dtype, name="norm")
    layer.build((None, config.hidden_size))
    return layer


def dropout(rate: float, dtype: DType) -> keras.layers.Dropout:
    """Dropout whose generator has a name, as Keras' own has none to give."""
    layer = keras.layers.Dropout(0.0, dtype=dtype, name="dropout")
    layer.rate = rate
    if rate:
        layer._tracker.unlock()
        layer.seed_generator = keras.random.SeedGenerator(name="seed_generator")
        layer._tracker.lock()
    return layer


class _Block(keras.layers.Layer):
    """A layer that its constructor builds: Keras has nothing left to build in the first call.

    Layers of a kind have one name, as TensorFlow keeps 35 kB for every name that a variable ever had.
    """

    def __init__(self, config: RobertaConfig, dtype: DType) -> None:
        super().__init__(dtype=dtype, name=type(self).__name__)
        self.config = config
        self.built = True


class Embeddings(_Block):
    """Sum of word, token type and, unless distances stand for them, position embeddings, normalised."""

    def __init__(self, config: RobertaConfig, dtype: DType = None) -> None:
        super().__init__(config, dtype)
        policy, hidden, pad = self.dtype_policy, config.hidden_size, config.pad_token_id
        self.word_embeddings = embedding(config.vocab_size, hidden, policy, pad)
        self.position_embeddings = embedding(config.max_position_embeddings, hidden, policy, pad)
        self.token_type_embeddings = embedding(config.type_vocab_size, hidden, policy)
        self.LayerNorm = norm(config, policy)
        self.dropout = dropout(config.hidden_dropout_prob, policy)

    def call(
        self,
        input_ids: Tensor | None,
        token_type_ids: Tensor | None,
        positions: Tensor | None,
        inputs_embeds: Tensor | None,
        past_tokens: Tensor | int,
    ) -> Tensor:
        """(batch, seq, hidden), from ids or with `inputs_embeds` (batch, seq, hidden) for the word part."""
        config = self.config
        if inputs_embeds is None:
            rows = self.word_embeddings.input_dim
            input_ids = check_range("input_ids", input_ids, rows, "is the tokenizer this model's?")
            if positions is None:
                positions = position_ids(input_ids, config.pad_token_id, past_tokens)
            inputs_embeds = self.word_embeddings(input_ids)
        if positions is None:  # no ids, so nothing is known to be padding
            steps = tf.reshape(tf.range(size(inputs_embeds, 1)), (1, -1))
            positions = steps + past_tokens + config.pad_token_id + 1
        if token_type_ids is None:
            token_type_ids = tf.zeros_like(inputs_embeds[:, :, 0], tf.int32)
        way_out = "most RoBERTa models know type 0 only"
        token_type_ids = check_range("token_type_ids", token_type_ids, config.type_vocab_size, way_out)
        hidden = inputs_embeds + self.token_type_embeddings(token_type_ids)
        if not config.has_distances:
            limit = config.max_position_embeddings
            positions = check_range("position_ids", positions, limit, way_out_of_length(config))
            hidden = hidden + self.position_embeddings(positions)
        return self.dropout(self.LayerNorm(hidden))


class SelfAttention(_Block):
    """Multi-head attention of the tokens to themselves and the cache, or to an encoder's states."""

    def __init__(self, config: RobertaConfig, heads: int, has_distances: bool, dtype: DType = None) -> None:
        super().__init__(config, dtype)
        policy, width = self.dtype_policy, heads * config.head_size
        self.query, self.key, self.value = (dense(config.hidden_size, width, policy) for _ in range(3))
        self.distance_embedding = None
        if has_distances:
            self.distance_embedding = embedding(2 * config.max_position_embeddings - 1, config.head_size, policy)
        self.dropout = dropout(config.attention_probs_dropout_prob, policy)

    def call(
        self,
        hidden: Tensor,
        bias: Tensor | None,
        head_mask: Tensor | None,
        states: Tensor | None,
        past: LayerCache | None,
        need_weights: bool,
    ) -> tuple[Tensor, Tensor | None, LayerCache]:
        """Attend; the context comes before the output projection.

        Args:
            hidden: (batch, seq, hidden).
            bias: see `attention_bias`.
            head_mask: float, broadcasts to (batch, head, seq, key); multiplies the attention weights.
            states: the encoder's, (batch, key, hidden): cross-attention; None for self-attention.
            past: cached (key, value) of this attention.

        Returns:
            (batch, seq, head * head size); weights (batch, head, seq, key) after dropout and head mask, if
            needed; and the (key, value) to cache.
        """
        query = self.split(self.query(hidden))
        if states is not None and past is not None:
            key, value = past
        else:
            source = hidden if states is None else states
            key, value = extend(past, self.split(self.key(source)), self.split(self.value(source)))
        scores = tf.matmul(query, key, transpose_b=True)  # (batch, head, seq, key)
        if self.distance_embedding is not None:
            scores = scores + self.distance_scores(query, key)
        scores = scores / math.sqrt(self.config.head_size)
        weights = self.dropout(tf.nn.softmax(scores if bias is None else scores + bias))
        weights = weights if head_mask is None else weights * head_mask
        context = tf.transpose(tf.matmul(weights, value), (0, 2, 1, 3))  # (batch, seq, head, head size)
        context = tf.reshape(context, (size(context, 0), size(context, 1), self.query.units))
        return context, weights if need_weights else None, (key, value)

    def split(self, projected: Tensor) -> Tensor:
        """(batch, seq, head * head size) -> (batch, head, seq, head size)."""
        heads = self.query.units // self.config.head_size
        seq = projected.shape[1]  # -1 where it is unknown: an exporter's Reshape may infer one length
        shape = (size(projected, 0), -1 if seq is None else seq, heads, self.config.head_size)
        return tf.transpose(tf.reshape(projected, shape), (0, 2, 1, 3))

    def distance_scores(self, query: Tensor, key: Tensor) -> Tensor:
        """Scores of the signed distance between query and key token, (batch, head, seq, key).

        Source: Shaw et al. 2018 (relative_key), Huang et al. 2020, method 4 (relative_key_query).
        """
        limit = self.config.max_position_embeddings
        seq, keys = size(query, 2), size(key, 2)
        if isinstance(keys, int) and keys > limit:
            raise distance_error(keys, self.config)
        index = tf.range(keys)
        distance = tf.reshape(index[keys - seq :], (-1, 1)) - index  # (seq, key)
        table = self.distance_embedding(distance + limit - 1)  # (seq, key, head size)
        scores = tf.einsum("bhqd,qkd->bhqk", query, table)
        if self.config.position_embedding_type == "relative_key_query":
            scores = scores + tf.einsum("bhkd,qkd->bhqk", key, table)
        return scores


class ResidualOutput(_Block):
    """Projection, dropout, and the norm of the sum with the residual: how both sub-layers end (post-norm)."""

    def __init__(self, config: RobertaConfig, inputs: int, dtype: DType = None) -> None:
        super().__init__(config, dtype)
        self.dense = dense(inputs, config.hidden_size, self.dtype_policy)
        self.LayerNorm = norm(config, self.dtype_policy)
        self.dropout = dropout(config.hidden_dropout_prob, self.dtype_policy)

    def call(self, hidden: Tensor, residual: Tensor) -> Tensor:
        """`hidden`: (batch, seq, inputs); `residual` and the result: (batch, seq, hidden)."""
        return self.LayerNorm(self.dropout(self.dense(hidden)) + residual)


class _HasOutput(_Block):
    """A block with a part named `output`: Keras has a property of that name, and saves no layer under it."""

    residual_output: ResidualOutput

    @property
    def output(self) -> ResidualOutput:
        """The end of the sub-layer, by its name in the checkpoint."""
        return self.residual_output


class Attention(_HasOutput):
    """Attention with its output projection and norm."""

    def __init__(self, config: RobertaConfig, heads: int, has_distances: bool = False, dtype: DType = None) -> None:
        super().__init__(config, dtype)
        self.self = SelfAttention(config, heads, has_distances, self.dtype_policy)
        self.residual_output = ResidualOutput(config, heads * config.head_size, self.dtype_policy)

    def call(
        self,
        hidden: Tensor,
        bias: Tensor | None,
        head_mask: Tensor | None,
        states: Tensor | None,
        past: LayerCache | None,
        need_weights: bool,
    ) -> tuple[Tensor, Tensor | None, LayerCache]:
        """As `SelfAttention`, with (batch, seq, hidden) as the first result."""
        context, weights, present = self.self(hidden, bias, head_mask, states, past, need_weights=need_weights)
        return self.output(context, hidden), weights, present


class Intermediate(_Block):
    """The wide half of the feed-forward block."""

    def __init__(self, config: RobertaConfig, dtype: DType = None) -> None:
        super().__init__(config, dtype)
        self.dense = dense(config.hidden_size, config.intermediate_size, self.dtype_policy)
        self.activation = ACTIVATION_FUNCTIONS[config.hidden_act]

    def call(self, hidden: Tensor) -> Tensor:
        """(batch, seq, hidden) -> (batch, seq, intermediate)."""
        return self.activation(self.dense(hidden))


class Layer(_HasOutput):
    """Self-attention, cross-attention in a decoder that has it, and feed-forward."""

    def __init__(self, config: RobertaConfig, index: int, dtype: DType = None) -> None:
        super().__init__(config, dtype)
        policy = self.dtype_policy
        self.attention = Attention(config, config.heads_kept(index), config.has_distances, policy)
        self.crossattention = None
        if config.add_cross_attention:
            self.crossattention = Attention(config, config.num_attention_heads, dtype=policy)
        self.intermediate = Intermediate(config, policy)
        self.residual_output = ResidualOutput(config, config.intermediate_size, policy)

    def call(
        self,
        hidden: Tensor,
        bias: Tensor | None,
        head_mask: Tensor | None,
        states: Tensor | None,
        states_bias: Tensor | None,
        past: LayerCache | None,
        need_weights: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor | None, LayerCache]:
        """One layer: (batch, seq, hidden), attention weights, cross-attention weights, and what to cache.

        Args:
            states: the encoder's, for cross-attention; `states_bias` is their `attention_bias`.
        """
        hidden, weights, present = self.attention(
            hidden, bias, head_mask, None, None if past is None else past[:2], need_weights=need_weights
        )
        cross_weights = None
        if states is not None:
            cross_past = past[2:] if past is not None and len(past) == 4 else None
            hidden, cross_weights, cross_present = self.crossattention(
                hidden, states_bias, head_mask, states, cross_past, need_weights=need_weights
            )
            present = present + cross_present
        return self.feed_forward(hidden), weights, cross_weights, present

    def feed_forward(self, hidden: Tensor) -> Tensor:
        """(batch, seq, hidden), each token by itself."""
        return self.output(self.intermediate(hidden), hidden)


class Encoder(_Block):
    """The stack of layers."""

    def __init__(self, config: RobertaConfig, dtype: DType = None) -> None:
        super().__init__(config, dtype)
        for index in range(config.num_hidden_layers):  # attributes: tf.train.Checkpoint does not see Keras' lists
            setattr(self, f"layer_{index}", Layer(config, index, self.dtype_policy))
        self.gradient_checkpointing = False

    @property
    def layer(self) -> list[Layer]:
        """The layers, by their name in the checkpoint."""
        return [getattr(self, f"layer_{index}") for index in range(self.config.num_hidden_layers)]

    def __dir__(self) -> list[str]:
        """Attributes without `layer`: Keras would save each layer under two names."""
        return [name for name in super().__dir__() if name != "layer"]

    def call(
        self,
        hidden: Tensor,
        bias: Tensor | None,
        head_mask: list[Tensor | None],
        states: Tensor | None,
        states_bias: Tensor | None,
        cache: Cache | None,
        need_weights: bool,
        training: bool | None = None,
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], tuple[LayerCache, ...]]:
        """Run the layers.

        Args:
            head_mask: one for each layer.

        Returns:
            all hidden states, the input first; attention weights; cross-attention weights; what to cache of each layer.
        """
        hidden_states, attentions, cross_attentions, presents = [hidden], [], [], []
        for index, layer in enumerate(self.layer):
            past = None if cache is None else cache[index]
            run = _recomputed if self.gradient_checkpointing and training else Layer.__call__
            hidden, weights, cross_weights, present = run(
                layer, hidden, bias, head_mask[index], states, states_bias, past, need_weights=need_weights
            )
            hidden_states.append(hidden)
            attentions.append(weights)
            cross_attentions.append(cross_weights)
            presents.append(present)
        return hidden_states, attentions, cross_attentions, tuple(presents)


def _recomputed(layer: Layer, *arguments: Any, need_weights: bool) -> Any:
    """`layer(*arguments)` in training, computed again in the backward pass, with the same dropout."""
    given = {index: argument for index, argument in enumerate(arguments) if argument is not None}
    seeds = [variable for variable in layer.variables if all(variable is not weight for weight in layer.weights)]
    drawn = [(seed, tf.identity(seed.value)) for seed in seeds]
    for seed in seeds:
        seed.assign_add([0, 1])  # as each dropout would

    def run(*tensors: Tensor) -> list[Tensor]:
        values = tf.nest.pack_sequence_as(given, tensors)
        with keras.StatelessScope(drawn):
            outputs = layer(
                *(values.get(index) for index in range(len(arguments))),
                need_weights=need_weights,
                training=True,
            )
        return [tensor for tensor in tf.nest.flatten(outputs) if tensor is not None]

    hidden, *rest = tf.recompute_grad(run)(*tf.nest.flatten(given))
    has_cross = arguments[3] is not None  # the encoder's states
    weights = rest.pop(0) if need_weights else None
    cross_weights = rest.pop(0) if need_weights and has_cross else None
    return hidden, weights, cross_weights, tuple(rest)


class Pooler(_Block):
    """The first token's state, projected and squashed."""

    def __init__(self, config: RobertaConfig, dtype: DType = None) -> None:
        super().__init__(config, dtype)
        self.dense = dense(config.hidden_size, config.hidden_size, self.dtype_policy)

    def call(self, hidden: Tensor) -> Tensor:
        """(batch, seq, hidden) -> (batch, hidden)."""
        return tf.tanh(self.dense(hidden[:, 0]))


class LMHead(_Block):
    """Scores of every vocabulary entry; the matrix is the word embedding's unless the config unties it."""

    def __init__(self, config: RobertaConfig, dtype: DType = None) -> None:
        super().__init__(config, dtype)
        self.dense = dense(config.hidden_size, config.hidden_size, self.dtype_policy)
        self.layer_norm = norm(config, self.dtype_policy)
        self.decoder = None
        if not config.tie_word_embeddings:
            self.decoder = dense(config.hidden_size, config.vocab_size, self.dtype_policy, use_bias=False)
        self.bias = self.add_weight(name="bias", shape=(config.vocab_size,), initializer=blank)

    def call(self, hidden: Tensor, word_embedding: Tensor) -> Tensor:
        """(batch, seq, hidden) -> (batch, seq, vocab); `word_embedding`: (vocab, hidden), used when tied."""
        hidden = self.layer_norm(_gelu(self.dense(hidden)))  # erf GELU, whatever hidden_act says
        if self.decoder is not None:
            return self.decoder(hidden) + self.bias
        rows = tf.matmul(tf.reshape(hidden, (-1, self.config.hidden_size)), word_embedding, transpose_b=True)
        return tf.reshape(rows, (size(hidden, 0), size(hidden, 1), self.bias.shape[0])) + self.bias


class ClassificationHead(_Block):
    """Labels from the first token's state, with a hidden layer."""

    def __init__(self, config: RobertaConfig, dtype: DType = None) -> None:
        super().__init__(config, dtype)
        self.dense = dense(config.hidden_size, config.hidden_size, self.dtype_policy)
        self.dropout = dropout(config.head_dropout, self.dtype_policy)
        self.out_proj = dense(config.hidden_size, config.num_labels, self.dtype_policy)

    def call(self, hidden: Tensor) -> Tensor:
        """(batch, seq, hidden) -> (batch, labels)."""
        first = self.dropout(hidden[:, 0])
        return self.out_proj(self.dropout(tf.tanh(self.dense(first))))
