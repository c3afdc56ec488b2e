"""What the losses and metrics of Keras' `compile` see of labels and logits."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow import Tensor

from roberta.common.values import IGNORED
from roberta.tf.layers import is_traced

Nested = Tensor | Sequence[Tensor | None] | Mapping[str, Tensor] | None  # what Keras hands over
Triple = tuple[Any, Any, Any]  # labels, logits, sample_weight


def on_logits(change: Callable[..., Triple], y: Nested, y_pred: Nested, sample_weight: Nested) -> Triple:
    """`change` of the labels, the logits and their weight, wherever they are in what Keras compares.

    Args:
        y_pred: the logits, whose labels are the one tensor in `y`; or a dict of outputs, with a dict `y`. Else, as
            for question answering, nothing is changed.
    """
    if isinstance(y_pred, Mapping):
        if "logits" not in y_pred:
            return y, y_pred, sample_weight
        weights = sample_weight if isinstance(sample_weight, Mapping) else dict.fromkeys(y_pred, sample_weight)
        labels, logits, weight = change(y["logits"], y_pred["logits"], weights.get("logits"))
        weights = None if sample_weight is None else {**weights, "logits": weight}
        return {**y, "logits": labels}, {**y_pred, "logits": logits}, weights
    leaves, weights = tf.nest.flatten(y), tf.nest.flatten(sample_weight)
    if isinstance(y_pred, tuple) or len(leaves) != 1 or leaves[0] is None or len(weights) != 1:
        return y, y_pred, sample_weight
    return change(tf.convert_to_tensor(leaves[0]), y_pred, weights[0])


def counted(labels: Tensor, logits: Tensor, sample_weight: Tensor | None) -> Triple:
    """Only what has a label other than -100, one after another: (n,), (n, classes), (n,).

    Metrics must not see the rest: Keras hands a weight to `weighted_metrics` alone.
    """
    classes = logits.shape[-1]
    is_column = labels.shape.rank == logits.shape.rank and labels.shape[-1] == 1
    counts = (labels[..., 0] if is_column else labels) != IGNORED
    if classes == 1 or counts.shape.rank != logits.shape.rank - 1:  # numbers, or a value for each class
        return labels, logits, sample_weight
    if sample_weight is not None:
        sample_weight = tf.boolean_mask(_broadcast(tf.convert_to_tensor(sample_weight), counts), counts)
    return tf.boolean_mask(labels, counts), tf.boolean_mask(logits, counts), sample_weight


def next_tokens(labels: Tensor, logits: Tensor, sample_weight: Tensor | None, input_ids: Tensor | None) -> Triple:
    """Labels from the second token, logits up to the last but one: what `losses.next_token_loss` compares.

    Args:
        labels: (batch, seq, ...), not shifted; of another shape they stay as they are, and so do the logits.

    Raises:
        ValueError: the labels are those of the next tokens already; InvalidArgumentError in compiled code.
    """
    if labels.shape.rank < 2 or not labels.shape[:2].is_compatible_with(logits.shape[:2]):
        return labels, logits, sample_weight
    if input_ids is not None and labels.shape.rank == 2 and input_ids.shape[1] == labels.shape[1]:
        labels = _not_shifted(labels, tf.cast(input_ids, labels.dtype))
    if sample_weight is not None and sample_weight.shape.rank > 1 and sample_weight.shape[1] != 1:
        sample_weight = sample_weight[:, 1:]
    return labels[:, 1:], logits[:, :-1], sample_weight


def _not_shifted(labels: Tensor, input_ids: Tensor) -> Tensor:
    """`labels`; an error where they are those of the next tokens, which would be shifted twice."""
    counts = labels != IGNORED
    is_next = tf.reduce_all((labels[:, :-1] == input_ids[:, 1:]) | ~counts[:, :-1])
    is_right = ~(is_next & tf.reduce_any((labels != input_ids) & counts))
    message = (
        "y is shifted already: each label is the next token of input_ids; give labels that are not shifted, such as "
        "input_ids themselves: the model compares the logits of a token with the label of the next"
    )
    if not is_traced():
        if not is_right:
            raise ValueError(message)
        return labels
    with tf.control_dependencies([tf.debugging.Assert(is_right, [message])]):
        return tf.identity(labels)


def _broadcast(sample_weight: Tensor, counts: Tensor) -> Tensor:
    """A weight for each label, from one for each label or each row."""
    while sample_weight.shape.rank < counts.shape.rank:
        sample_weight = sample_weight[..., None]
    if sample_weight.shape.rank > counts.shape.rank:  # a column
        sample_weight = sample_weight[..., 0]
    return tf.broadcast_to(sample_weight, tf.shape(counts))
