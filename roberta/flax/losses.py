"""The losses of the heads: scalars, means over what counts, the same in the three frameworks.

A label of -100 is left out. Where nothing is left the mean is nan, as in transformers, and a sum
divided by a given number is 0.
"""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from roberta.common.config import RobertaConfig
from roberta.common.config_rules import problem_type
from roberta.common.training.loss_options import PLAIN_LOSS, LossOptions
from roberta.common.values import IGNORED
from roberta.flax.layers import check_when_run


def token_loss(
    logits: Array, labels: Array, count: int | Array | None = None, options: LossOptions = PLAIN_LOSS
) -> Array:
    """Mean cross entropy over the labels that are not -100.

    Args:
        logits: (..., classes).
        labels: int, of the shape of `logits` without its last axis.
        count: divide the sum by this instead of by the number of labels that count.
        options: label smoothing, and weights of the classes.
    """
    if labels.shape != logits.shape[:-1] or jnp.issubdtype(labels.dtype, jnp.floating):
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} and type {labels.dtype} do not fit logits of shape "
            f"{tuple(logits.shape)}: give integers of shape {tuple(logits.shape[:-1])}"
        )
    labels = whole(labels)
    check_labels("labels", labels, logits.shape[-1])
    return cross_entropy(logits, labels, IGNORED, count, options)


def next_token_loss(
    logits: Array, labels: Array, num_items_in_batch: int | Array | None = None, options: LossOptions = PLAIN_LOSS
) -> Array:
    """Cross entropy of the logits at t against the label at t + 1, in float32 or wider.

    Args:
        logits: (batch, seq, vocab); labels: int, (batch, seq), not shifted.
        num_items_in_batch: divide the sum by this instead of by the number of labels that count.
        options: label smoothing.
    """
    labels = whole(labels)
    shifted = jnp.concatenate((labels[:, 1:], jnp.full_like(labels[:, :1], IGNORED)), axis=1)
    return token_loss(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), shifted, num_items_in_batch, options)


def classification_loss(
    logits: Array, labels: Array, config: RobertaConfig, options: LossOptions = PLAIN_LOSS
) -> Array:
    """Loss of a sequence classifier: squared error, cross entropy, or one logistic loss a label.

    `config.problem_type` decides; when it is None, one label means regression, integer labels one class each, and
    float labels several. The config is not changed.

    Args:
        logits: (batch, num_labels).
        labels: float, (batch,) or (batch, num_labels); or int, (batch,); or float of 0 and 1, (batch, num_labels).
        options: label smoothing and class weights, for one class of several.
    """
    problem = problem_type(config, logits.shape[-1], has_floats=jnp.issubdtype(labels.dtype, jnp.floating))
    options.check_problem(problem)
    if problem == "single_label_classification":
        return token_loss(logits, labels.flatten() if labels.shape[1:] == (1,) else labels, options=options)
    if logits.shape[-1] == 1:
        labels = labels.reshape(-1, 1) if labels.ndim == 1 else labels
    if labels.shape != logits.shape:
        raise ValueError(f"labels of shape {tuple(labels.shape)} do not fit {problem} of {tuple(logits.shape)} logits")
    wide = widened(logits)
    labels = labels.astype(wide.dtype)
    if problem == "regression":
        losses = jnp.square(wide - labels)
    else:
        losses = -(labels * nn.log_sigmoid(wide) + (1 - labels) * nn.log_sigmoid(-wide))
    return losses.mean().astype(logits.dtype)


def span_loss(start_logits: Array, end_logits: Array, start: Array, end: Array) -> Array:
    """Mean of the cross entropies of start and end; positions after the sequence are left out, negative ones are 0.

    Args:
        start_logits, end_logits: (batch, seq); start, end: int, (batch,) or (batch, 1).
    """
    seq = start_logits.shape[1]

    def one(logits: Array, positions: Array) -> Array:
        return cross_entropy(logits, whole(positions.reshape(-1)).clip(0, seq), seq)

    return (one(start_logits, start) + one(end_logits, end)) / 2


def cross_entropy(
    logits: Array,
    labels: Array,
    ignored: int,
    count: int | Array | None = None,
    options: LossOptions = PLAIN_LOSS,
) -> Array:
    """Mean over the labels that are not `ignored`, or their sum divided by `count`, in the dtype of the logits.

    A label outside the classes makes it nan (see `check_labels`).
    """
    counts = labels != ignored
    chosen = jnp.where(counts, jnp.where(labels < 0, logits.shape[-1], labels), 0)
    if not options.is_plain:
        return changed_cross_entropy(widened(logits), chosen, counts, count, options).astype(logits.dtype)
    scores = jnp.take_along_axis(nn.log_softmax(widened(logits)), chosen[..., None], axis=-1, mode="fill")[..., 0]
    total = -jnp.where(counts, scores, 0).sum()
    return (total / (counts.sum() if count is None else count)).astype(logits.dtype)


def changed_cross_entropy(
    logits: Array, labels: Array, counts: Array, count: int | Array | None, options: LossOptions
) -> Array:
    """The mean, or a sum divided by `count`, with label smoothing and class weights: see `loss_options`.

    Args:
        labels: 0 where they do not count.
        counts: whether a label counts, of the shape of the labels.
    """
    costs = -nn.log_softmax(logits)  # (..., classes)
    given = options.class_weights
    weights = jnp.ones(logits.shape[-1:], logits.dtype) if given is None else jnp.array(given, logits.dtype)
    of_labels = jnp.where(counts, weights[labels], 0)
    own = jnp.take_along_axis(costs, labels[..., None], axis=-1, mode="fill")[..., 0]
    own = jnp.where(counts, own * of_labels, 0)
    spread = jnp.where(counts, (costs * weights).mean(axis=-1), 0)
    total = ((1 - options.label_smoothing) * own + options.label_smoothing * spread).sum()
    return total / (of_labels.sum() if count is None else count)


def check_labels(name: str, labels: Array, classes: int) -> None:
    """Raise `ValueError` for a label that is neither a class nor -100."""
    if labels.size == 0:
        return
    labels = whole(labels)
    wrong = (labels != IGNORED) & ((labels < 0) | (labels >= classes))
    check_when_run(
        wrong.any(),
        (labels.flatten()[wrong.argmax()],),
        lambda label: f"{name} holds {label}; allowed are 0 to {classes - 1}, and {IGNORED} for what does not count",
    )


def whole(labels: Array) -> Array:
    """`labels` in JAX's widest int, where no other number is -100, as 156 is in uint8; floats stay as they are."""
    return labels if jnp.issubdtype(labels.dtype, jnp.floating) else labels.astype(int)


def widened(logits: Array) -> Array:
    """`logits`, float16 as float32: sums over many tokens overflow it."""
    return logits.astype(jnp.float32) if logits.dtype == jnp.float16 else logits
