"""The losses of the heads: scalars, means over what counts, the same in the three frameworks.

A label of -100 is left out. Where nothing is left the mean is nan, as in transformers, and a sum
divided by a given number is 0.
"""

import tensorflow as tf
from tensorflow import Tensor

from roberta.common.config import RobertaConfig
from roberta.common.config_rules import problem_type
from roberta.common.training.loss_options import PLAIN_LOSS, LossOptions
from roberta.common.values import IGNORED
from roberta.tf.layers import check_when_run, size


def token_loss(
    logits: Tensor, labels: Tensor, count: int | Tensor | None = None, options: LossOptions = PLAIN_LOSS
) -> Tensor:
    """Mean cross entropy over the labels that are not -100.

    Args:
        logits: (..., classes).
        labels: int, of the shape of `logits` without its last axis.
        count: divide the sum by this instead of by the number of labels that count.
        options: label smoothing, and weights of the classes.
    """
    if not labels.shape.is_compatible_with(logits.shape[:-1]) or not labels.dtype.is_integer:
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} and type {labels.dtype.name} do not fit logits of shape "
            f"{tuple(logits.shape)}: give integers of shape {tuple(logits.shape[:-1])}"
        )
    return cross_entropy(logits, check_labels("labels", labels, size(logits, -1)), IGNORED, count, options)


def next_token_loss(
    logits: Tensor, labels: Tensor, num_items_in_batch: int | Tensor | None = None, options: LossOptions = PLAIN_LOSS
) -> Tensor:
    """Cross entropy of the logits at t against the label at t + 1, in float32 or wider.

    Args:
        logits: (batch, seq, vocab); labels: int, (batch, seq), not shifted.
        num_items_in_batch: divide the sum by this instead of by the number of labels that count.
        options: label smoothing.
    """
    labels = whole(labels)
    shifted = tf.concat((labels[:, 1:], tf.fill(tf.shape(labels[:, :1]), tf.cast(IGNORED, labels.dtype))), axis=1)
    return token_loss(widened(logits), shifted, num_items_in_batch, options)


def classification_loss(
    logits: Tensor, labels: Tensor, config: RobertaConfig, options: LossOptions = PLAIN_LOSS
) -> Tensor:
    """Loss of a sequence classifier: squared error, cross entropy, or one logistic loss a label.

    `config.problem_type` decides; when it is None, one label means regression, integer labels one class each,
    and float labels several. The config is not changed.

    Args:
        logits: (batch, num_labels).
        labels: float, (batch,) or (batch, num_labels); or int, (batch,); or float of 0 and 1,
            (batch, num_labels).
        options: label smoothing and class weights, for one class of several.
    """
    problem = problem_type(config, logits.shape[-1], has_floats=labels.dtype.is_floating)
    options.check_problem(problem)
    if problem == "single_label_classification":
        is_column = labels.shape.rank == 2 and labels.shape[1] == 1
        return token_loss(logits, tf.reshape(labels, (-1,)) if is_column else labels, options=options)
    if logits.shape[-1] == 1:
        labels = tf.reshape(labels, (-1, 1)) if labels.shape.rank == 1 else labels
    if not labels.shape.is_compatible_with(logits.shape):
        raise ValueError(f"labels of shape {tuple(labels.shape)} do not fit {problem} of {tuple(logits.shape)} logits")
    wide = widened(logits)
    labels = tf.cast(labels, wide.dtype)
    one = tf.math.squared_difference if problem == "regression" else tf.nn.sigmoid_cross_entropy_with_logits
    return tf.cast(tf.reduce_mean(one(labels, wide)), logits.dtype)


def span_loss(start_logits: Tensor, end_logits: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Mean of the cross entropies of start and end; positions behind the end are left out, negative are 0.

    Args:
        start_logits, end_logits: (batch, seq); start, end: int, (batch,) or (batch, 1).
    """
    seq = tf.shape(start_logits, out_type=tf.int64)[1]

    def one(logits: Tensor, positions: Tensor) -> Tensor:
        return cross_entropy(logits, tf.clip_by_value(tf.cast(tf.reshape(positions, (-1,)), tf.int64), 0, seq), seq)

    return (one(start_logits, start) + one(end_logits, end)) / 2


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    ignored: int | Tensor,
    count: int | Tensor | None = None,
    options: LossOptions = PLAIN_LOSS,
) -> Tensor:
    """Mean over the labels that are not `ignored`, or their sum divided by `count`, in the dtype of the logits.

    Under XLA labels outside make nan.
    """
    counts = labels != ignored
    chosen = tf.where(counts, labels, 0)
    if not options.is_plain:
        return tf.cast(changed_cross_entropy(widened(logits), chosen, counts, count, options), logits.dtype)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(chosen, widened(logits))
    total = tf.reduce_sum(tf.where(counts, losses, 0))
    number = tf.math.count_nonzero(counts, dtype=losses.dtype) if count is None else tf.cast(count, losses.dtype)
    return tf.cast(total / number, logits.dtype)


def changed_cross_entropy(
    logits: Tensor, labels: Tensor, counts: Tensor, count: int | Tensor | None, options: LossOptions
) -> Tensor:
    """The mean, or a sum divided by `count`, with label smoothing and class weights: see `loss_options`.

    Args:
        labels: 0 where they do not count.
        counts: whether a label counts, of the shape of the labels.
    """
    costs = -tf.nn.log_softmax(logits)  # (..., classes)
    given, classes = options.class_weights, tf.shape(logits)[-1]
    weights = tf.ones((classes,), logits.dtype) if given is None else tf.constant(given, logits.dtype)
    of_labels = tf.where(counts, tf.gather(weights, labels), 0)
    own = tf.where(counts, tf.gather(costs, labels, batch_dims=labels.shape.rank) * of_labels, 0)
    spread = tf.where(counts, tf.reduce_mean(costs * weights, axis=-1), 0)
    total = tf.reduce_sum((1 - options.label_smoothing) * own + options.label_smoothing * spread)
    return total / (tf.reduce_sum(of_labels) if count is None else tf.cast(count, logits.dtype))


def check_labels(name: str, labels: Tensor, classes: int | Tensor) -> Tensor:
    """`labels` as int32; `ValueError` for one that is neither a class nor -100 (see `layers.check_when_run`)."""
    labels = whole(labels)
    last = classes - 1 if isinstance(classes, int) else "the last class"  # whose number a graph may not know
    after = f"; allowed are 0 to {last}, and {IGNORED} for what does not count"
    classes = classes if isinstance(classes, int) else tf.cast(classes, labels.dtype)
    checked = check_when_run(
        tf.where(labels == IGNORED, tf.zeros_like(labels), labels), classes, f"{name} holds ", after
    )
    return tf.where(labels == IGNORED, IGNORED, checked)


def whole(labels: Tensor) -> Tensor:
    """`labels` as int64, where no other number is -100, as 156 is in uint8; floats stay as they are."""
    return tf.cast(labels, tf.int64) if labels.dtype.is_integer else labels


def widened(logits: Tensor) -> Tensor:
    """`logits` in float32 or wider: sums over many tokens overflow float16."""
    return logits if logits.dtype == tf.float64 else tf.cast(logits, tf.float32)
