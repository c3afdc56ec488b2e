"""The fast forward pass: only real tokens go through the layers, and the last one only where its result is used.

Rows of one length share a call of attention, so nothing is padded and no mask is needed. Two or three small programs
with dynamic shapes are traced once for each kind of model, whatever the batches; every layer of every model of that
kind runs through them, with its weights as arguments. XLA is not used: it would compile for each new shape, and its
matrix products are slower on a CPU than TensorFlow's own. The numbers are those of `call`, to rounding.
"""

import functools
from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from roberta.common.inference import dispatch, unpadding
from roberta.common.inference.dispatch import FastModels
from roberta.common.inference.heads import head_results
from roberta.common.inference.unpadding import Tokens
from roberta.common.values import Arrays
from roberta.tf.devices import on_device_of
from roberta.tf.layers import ACTIVATION_FUNCTIONS, Layer
from roberta.tf.losses import widened
from roberta.tf.parts import Parts, alteration
from roberta.tf.weights import keras, native


class Dense(NamedTuple):
    """A projection: kernel (inputs, outputs), bias (outputs,)."""

    kernel: Tensor
    bias: Tensor


class Norm(NamedTuple):
    """A layer norm: gamma and beta, (hidden,)."""

    gamma: Tensor
    beta: Tensor


class FastLayer(NamedTuple):
    """The weights of one layer, in the dtype that is computed in."""

    query: Dense
    key: Dense
    value: Dense
    out: Dense
    attention_norm: Norm
    up: Dense
    down: Dense
    output_norm: Norm


# -- what the programs compute ---------------------------------------------------------------------------------------


def linear(hidden: Tensor, dense: Dense) -> Tensor:
    """(tokens, inputs) -> (tokens, outputs); of two dimensions, which has the faster kernel, fused with the bias."""
    return tf.nn.bias_add(tf.matmul(hidden, dense.kernel), dense.bias)


def normalise(hidden: Tensor, norm: Norm, eps: float) -> Tensor:
    """The layer norm of (tokens, hidden); numbers of 16 bits are widened for it, as Keras does."""
    wide = widened(hidden)
    mean = tf.reduce_mean(wide, axis=-1, keepdims=True)
    centred = wide - mean
    variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
    gamma, beta = tf.cast(norm.gamma, wide.dtype), tf.cast(norm.beta, wide.dtype)
    return tf.cast(centred * tf.math.rsqrt(variance + eps) * gamma + beta, hidden.dtype)


def attend(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, head_size: int, causal: bool) -> Tensor:
    """Each row's tokens among themselves: (tokens, head * head size), as are the arguments.

    Args:
        lengths: int32, (groups, 2): rows, and tokens of each, in the order of the tokens.
    """
    count = tf.shape(lengths)[0]
    width = tf.shape(query)[1]

    def group(index: Tensor, start: Tensor, done: tf.TensorArray) -> tuple[Tensor, Tensor, tf.TensorArray]:
        rows, length = lengths[index, 0], lengths[index, 1]
        stop = start + rows * length
        heads = (
            tf.transpose(tf.reshape(part[start:stop], (rows, length, -1, head_size)), (0, 2, 1, 3))
            for part in (query, key, value)
        )  # (row, head, token, head size) each
        context = tf.transpose(_context(*heads, causal), (0, 2, 1, 3))
        return index + 1, stop, done.write(index, tf.reshape(context, (rows * length, width)))

    done = tf.TensorArray(query.dtype, count, infer_shape=False, element_shape=(None, query.shape[1]))
    *_, done = tf.while_loop(lambda index, *_: index < count, group, (0, 0, done))
    return done.concat()


def _context(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
    """Attention of (row, head, token, head size) each, to all tokens or to those before."""
    scores = tf.matmul(query / query.shape[-1] ** 0.5, key, transpose_b=True)
    if causal:
        index = tf.range(tf.shape(scores)[-1])
        scores = tf.where(index <= tf.reshape(index, (-1, 1)), scores, scores.dtype.min)
    return tf.matmul(tf.nn.softmax(scores), value)


# -- programs --------------------------------------------------------------------------------------------------------


class Program:
    """A function of flat tensors with dynamic shapes, traced when it is first called.

    It is called through the graph's own operation: `tf.function` compares the types of all its arguments on every
    call, which takes longer than computing a few tokens does.
    """

    def __init__(self, function: Callable[..., Tensor], signature: tuple[Any, ...], dtype: str) -> None:
        self.function = tf.function(function, input_signature=signature)
        self.dtype = dtype

    @functools.cached_property
    def traced(self) -> Any:
        """The graph."""
        return self.function.get_concrete_function()

    def __call__(self, *flat: Tensor) -> Tensor:
        """The one result; the arguments are those of the function, one after another."""
        return tf.raw_ops.StatefulPartitionedCall(args=flat, Tout=[self.dtype], f=self.traced)[0]


class Programs:
    """The programs of every model with these settings.

    Attributes:
        attention: hidden (tokens, hidden), layer, lengths -> (tokens, head * head size).
        rest: that, hidden of the same tokens, layer -> (tokens, hidden).
        language: hidden, dense, norm, matrix (vocab, hidden) if tied else (hidden, vocab), bias -> (tokens, vocab).
    """

    def __init__(self, dtype: str, head_size: int, causal: bool, activation: str, eps: float, tied: bool) -> None:
        numbers, matrix = tf.TensorSpec((None,), dtype), tf.TensorSpec((None, None), dtype)
        dense, norm = Dense(matrix, numbers), Norm(numbers, numbers)
        layer = FastLayer(dense, dense, dense, dense, norm, dense, dense, norm)
        lengths = tf.TensorSpec((None, 2), tf.int32)

        def attention(hidden: Tensor, layer: FastLayer, lengths: Tensor) -> Tensor:
            parts = (linear(hidden, part) for part in (layer.query, layer.key, layer.value))
            return attend(*parts, lengths, head_size, causal)

        def rest(context: Tensor, hidden: Tensor, layer: FastLayer) -> Tensor:
            hidden = normalise(linear(context, layer.out) + hidden, layer.attention_norm, eps)
            wide = ACTIVATION_FUNCTIONS[activation](linear(hidden, layer.up))
            return normalise(linear(wide, layer.down) + hidden, layer.output_norm, eps)

        def language(hidden: Tensor, dense: Dense, norm: Norm, matrix: Tensor, bias: Tensor) -> Tensor:
            hidden = normalise(ACTIVATION_FUNCTIONS["gelu"](linear(hidden, dense)), norm, eps)
            return tf.nn.bias_add(tf.matmul(hidden, matrix, transpose_b=tied), bias)

        self.attention = Program(attention, (matrix, layer, lengths), dtype)
        self.rest = Program(rest, (matrix, matrix, layer), dtype)
        self.language = Program(language, (matrix, dense, norm, matrix, numbers), dtype)


programs_of = functools.cache(Programs)


# -- one model's weights ---------------------------------------------------------------------------------------------


def values(model: keras.Model) -> list[Tensor]:
    """Every parameter's value now."""
    return [value(variable) for variable, _ in native(model).values()]


def value(variable: keras.Variable) -> Tensor:
    """A variable's value now, read by the operation alone, which takes a third of the time that Keras does."""
    own = variable.value
    if isinstance(own, tf.distribute.DistributedValues):
        return tf.convert_to_tensor(variable)
    return tf.raw_ops.ReadVariableOp(resource=own.handle, dtype=own.dtype)


def cast(variable: keras.Variable | Tensor, dtype: str) -> Tensor:
    """A variable's value, or a tensor, in `dtype`; the same memory if that is its own."""
    own = variable if isinstance(variable, Tensor) else value(variable)
    return own if own.dtype == dtype else tf.cast(own, dtype)


def fast_dense(module: keras.layers.Dense, dtype: str) -> Dense:
    """The projection of a module."""
    return Dense(cast(module.kernel, dtype), cast(module.bias, dtype))


def fast_norm(module: keras.layers.LayerNormalization, dtype: str) -> Norm:
    """The norm of a module."""
    return Norm(cast(module.gamma, dtype), cast(module.beta, dtype))


def fast_layer(layer: Layer, dtype: str) -> FastLayer:
    """The weights of a layer, but for cross-attention, which `infer` has no states for."""
    attention = layer.attention
    return FastLayer(
        query=fast_dense(attention.self.query, dtype),
        key=fast_dense(attention.self.key, dtype),
        value=fast_dense(attention.self.value, dtype),
        out=fast_dense(attention.output.dense, dtype),
        attention_norm=fast_norm(attention.output.LayerNorm, dtype),
        up=fast_dense(layer.intermediate.dense, dtype),
        down=fast_dense(layer.output.dense, dtype),
        output_norm=fast_norm(layer.output.LayerNorm, dtype),
    )


class FastModel:
    """A model's weights as they are now, in one dtype: the variables' own memory where they have that dtype.

    Attributes:
        snapshot: where it is kept, the values it was made from; TensorFlow changes no memory that is held here, it
            takes other.
    """

    def __init__(self, model: keras.Model, dtype: str, *, is_kept: bool) -> None:
        base, config = model.base_model, model.config
        self.snapshot = values(model) if is_kept else []
        self.embeddings = base.embeddings
        self.dtype = dtype
        self.eps = config.layer_norm_eps
        self.embedding_norm = fast_norm(self.embeddings.LayerNorm, dtype)
        self.layers = [tf.nest.flatten(fast_layer(layer, dtype)) for layer in base.encoder.layer]
        self.programs = programs_of(
            dtype, config.head_size, config.is_decoder, config.hidden_act, self.eps, config.tie_word_embeddings
        )
        self.head = head_results(
            model.head, HeadKernels(model, self.programs, dtype), getattr(model, "pooler", None) is not None
        )

    def is_current(self, model: keras.Model) -> bool:
        """Whether the model's variables are still what they were."""
        return all(
            "CPU" in new.backing_device and np.asarray(old).ctypes.data == np.asarray(new).ctypes.data
            for old, new in zip(self.snapshot, values(model), strict=True)
        )

    def __call__(self, tokens: Tokens) -> Arrays:
        """The results of one piece, as `unpadding.run_batch` asks for them."""
        results = self.head(self.encode(tokens), tokens)
        return {name: np.asarray(widened(values)) for name, values in results.items()}

    def encode(self, tokens: Tokens) -> Tensor:
        """Last hidden states of `tokens.kept`: (kept, hidden)."""
        groups = [(len(list(same)), length) for length, same in groupby(tokens.lengths.tolist())]
        lengths = tf.constant(groups, tf.int32)
        hidden = self.embed(tokens)
        for layer in self.layers[:-1]:
            hidden = self.programs.rest(self.programs.attention(hidden, *layer, lengths), hidden, *layer)
        if not self.layers:
            return tf.gather(hidden, tokens.kept)
        last = self.layers[-1]
        context = self.programs.attention(hidden, *last, lengths)
        if len(tokens.kept) < len(tokens.ids):
            context, hidden = tf.gather(context, tokens.kept), tf.gather(hidden, tokens.kept)
        return self.programs.rest(context, hidden, *last)

    def embed(self, tokens: Tokens) -> Tensor:
        """The embeddings' sum, normalised: (tokens, hidden)."""
        tables = self.embeddings
        hidden = (
            tf.gather(tf.convert_to_tensor(tables.word_embeddings.embeddings), tokens.ids)
            + tf.gather(tf.convert_to_tensor(tables.token_type_embeddings.embeddings), tokens.types)
            + tf.gather(tf.convert_to_tensor(tables.position_embeddings.embeddings), tokens.positions)
        )
        return normalise(tf.cast(hidden, self.dtype), self.embedding_norm, self.eps)


class HeadKernels:
    """The parts of a model's head: the language head in the dtype of the layers, the small ones in the model's own."""

    rows = staticmethod(tf.gather)
    tanh = staticmethod(tf.tanh)

    def __init__(self, model: keras.Model, run: Programs, dtype: str) -> None:
        self.model, self.run, self.dtype = model, run, dtype

    def dense(self, path: str) -> Callable[[Tensor], Tensor]:
        """A projection by its path."""
        part = fast_dense(functools.reduce(getattr, path.split("."), self.model), self.model.compute_dtype)
        return lambda hidden: linear(tf.cast(hidden, part.kernel.dtype), part)

    def language(self) -> Callable[[Tensor, np.ndarray], Tensor]:
        """States and the places of tokens -> logits."""
        head, dtype = self.model.lm_head, self.dtype
        transform, layer_norm, bias = (
            fast_dense(head.dense, dtype),
            fast_norm(head.layer_norm, dtype),
            cast(head.bias, dtype),
        )
        matrix = cast(self.model.word_embedding if head.decoder is None else head.decoder.kernel, dtype)
        run = self.run.language
        return lambda hidden, asked: run(tf.gather(hidden, asked), *transform, *layer_norm, matrix, bias)


_models = FastModels(Parts, alteration)


def infer(  # noqa: D103 - described in PretrainedBase
    model: keras.Model,
    batch: Mapping[str, np.ndarray],
    *,
    where: np.ndarray | None = None,
    dtype: str | None = None,
    batch_tokens: int = 1024,
) -> Arrays:
    own = model.compute_dtype
    chosen = dispatch.chosen_dtype(dtype, own, ("float32", "bfloat16"))
    altered = _models.check(model)
    with on_device_of(model):
        return dispatch.run_fast_or_plain(
            model, batch,
            where=where, batch_tokens=batch_tokens, dtypes=(chosen, own), altered=altered,
            has_pooler=getattr(model, "pooler", model) is not None, fast=lambda: laid_out(model, chosen),
            plain=lambda piece: run_plain(model, piece),
        )  # fmt: skip


def laid_out(model: keras.Model, dtype: str) -> FastModel:
    """The model in `dtype`; in another than its variables' own it is kept, and made again when they have changed."""
    if dtype == model.variable_dtype:
        return FastModel(model, dtype, is_kept=False)
    made = _models.kept[model].made
    if dtype in made and not made[dtype].is_current(model):
        del made[dtype]
    return _models.laid_out(model, dtype, lambda: FastModel(model, dtype, is_kept=True))


def release(model: keras.Model) -> None:
    """Free the memory that `infer` prepared; its next call makes it again."""
    _models.release(model)


def run_plain(model: keras.Model, piece: Arrays) -> Arrays:
    """The forward pass without dropout, as numpy what `infer` returns of it."""
    found = unpadding.results(model(**piece, return_dict=True, training=False), model.head)
    return {name: np.asarray(widened(tf.convert_to_tensor(value))) for name, value in found.items()}
