"""The model's own losses with a weight for each row, or each token, of a batch."""

from collections.abc import Sequence

import numpy.typing as npt
import tensorflow as tf
from tensorflow import Tensor

from roberta.common.config import RobertaConfig
from roberta.common.config_rules import problem_type
from roberta.common.outputs import ModelOutput
from roberta.common.values import IGNORED
from roberta.tf.losses import classification_loss, span_loss, token_loss, whole, widened
from roberta.tf.weights import keras

_Weights = npt.ArrayLike | Tensor | Sequence[Tensor]


def own_loss(head: str, labels: Sequence[Tensor], logits: Tensor | Sequence[Tensor], config: RobertaConfig) -> Tensor:
    """The loss of a head, on logits that are aligned with their labels: those of a decoder are not shifted."""
    if head == "ForQuestionAnswering":
        return span_loss(*logits, *labels)
    if head == "ForSequenceClassification":
        return classification_loss(logits, labels[0], config)
    return token_loss(widened(logits) if head == "ForCausalLM" else logits, labels[0])


def weighed_loss(model: keras.Model, output: ModelOutput, labels: Sequence[Tensor], sample_weight: _Weights) -> Tensor:
    """The sum of each loss times its weight, over the number of losses: with weights of 1 the model's own loss.

    Args:
        sample_weight: (batch,) or (batch, 1), or of a token's loss (batch, seq); of a span one, or one for each end.
    """
    weights = [widened(tf.convert_to_tensor(weight)) for weight in tf.nest.flatten(sample_weight)]
    labels = [tf.convert_to_tensor(one) for one in labels]
    if model.head == "ForQuestionAnswering":
        ends = [_positions(output[name], one) for name, one in zip(("start_logits", "end_logits"), labels, strict=True)]
        weights = weights if len(weights) == 2 else weights * 2
        parts = [_mean(*end, weight) for end, weight in zip(ends, weights, strict=True)]
        return (parts[0] + parts[1]) / 2
    if model.head == "ForSequenceClassification":
        return _classification(widened(output["logits"]), labels[0], weights[0], model.config)
    logits, targets = widened(output["logits"]), whole(labels[0])
    weight = weights[0]
    if model.head == "ForCausalLM":
        logits, targets = logits[:, :-1], targets[:, 1:]
        weight = weight[:, 1:] if weight.shape.rank == 2 and weight.shape[1] != 1 else weight
    return _mean(*_entropies(logits, targets, targets != IGNORED), weight)


def _positions(logits: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """The losses (batch,) of one end of a span, and which count: those inside the sequence."""
    seq = tf.shape(logits, out_type=tf.int64)[1]
    targets = tf.maximum(tf.cast(tf.reshape(positions, (-1,)), tf.int64), 0)
    return _entropies(widened(logits), targets, targets < seq)


def _entropies(logits: Tensor, targets: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.where(counts, targets, 0), logits)
    return tf.where(counts, losses, 0), counts


def _classification(logits: Tensor, labels: Tensor, weight: Tensor, config: RobertaConfig) -> Tensor:
    """`losses.classification_loss` with a weight for each row."""
    problem = problem_type(config, logits.shape[-1], has_floats=labels.dtype.is_floating)
    if problem == "single_label_classification":
        targets = tf.reshape(whole(labels), (-1,))
        return _mean(*_entropies(logits, targets, targets != IGNORED), weight)
    labels = tf.cast(tf.reshape(labels, tf.shape(logits)), logits.dtype)
    one = tf.math.squared_difference if problem == "regression" else tf.nn.sigmoid_cross_entropy_with_logits
    rows = tf.reduce_mean(one(labels, logits), axis=-1)
    return _mean(rows, tf.ones_like(rows, tf.bool), weight)


def _mean(losses: Tensor, counts: Tensor, weight: Tensor) -> Tensor:
    """The weighed losses' sum over the number of those that count; (batch,) and (batch, 1) weigh rows."""
    if weight.shape.rank == 2 and weight.shape[1] == 1:
        weight = weight[:, 0]
    weight = tf.cast(weight, losses.dtype)
    if weight.shape.rank < losses.shape.rank:
        weight = tf.reshape(weight, (-1, *[1] * (losses.shape.rank - 1)))
    return tf.reduce_sum(losses * weight) / tf.math.count_nonzero(counts, dtype=losses.dtype)
