"""The losses of the heads: scalars, means over what counts, the same in the three frameworks.

A label of -100 is left out. Where nothing is left the mean is nan, as in transformers.
"""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from roberta.common.config import RobertaConfig
from roberta.flax.layers import check

IGNORED = -100


def token_loss(logits: Array, labels: Array) -> Array:
    """Mean cross entropy over the labels that are not -100.

    Args:
        logits: (..., classes).
        labels: int, of the shape of `logits` without its last axis.
    """
    if labels.shape != logits.shape[:-1] or jnp.issubdtype(labels.dtype, jnp.floating):
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} and type {labels.dtype} do not fit logits of shape "
            f"{tuple(logits.shape)}: give integers of shape {tuple(logits.shape[:-1])}"
        )
    check_labels("labels", labels, logits.shape[-1])
    return cross_entropy(logits, labels, IGNORED)


def next_token_loss(logits: Array, labels: Array, num_items_in_batch: int | Array | None = None) -> Array:
    """Cross entropy of the logits at t against the label at t + 1, in float32 or wider.

    Args:
        logits: (batch, seq, vocab); labels: int, (batch, seq), not shifted.
        num_items_in_batch: divide the sum by this instead of by the number of labels that count.
    """
    shifted = jnp.concatenate((labels[:, 1:], jnp.full_like(labels[:, :1], IGNORED)), axis=1)
    loss = token_loss(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), shifted)
    if num_items_in_batch is None:
        return loss
    return loss * (shifted != IGNORED).sum() / num_items_in_batch


def classification_loss(logits: Array, labels: Array, config: RobertaConfig) -> Array:
    """Loss of a sequence classifier: squared error, cross entropy, or one logistic loss a label.

    `config.problem_type` decides; when it is None, one label means regression, integer labels one class each, and
    float labels several. The config is not changed.

    Args:
        logits: (batch, num_labels).
        labels: float, (batch,) or (batch, num_labels); or int, (batch,); or float of 0 and 1, (batch, num_labels).
    """
    problem = config.problem_type
    if problem is None:
        whole = not jnp.issubdtype(labels.dtype, jnp.floating)
        problem = "single_label_classification" if whole else "multi_label_classification"
        problem = "regression" if logits.shape[-1] == 1 else problem
    if problem == "single_label_classification":
        return token_loss(logits, labels.flatten() if labels.shape[1:] == (1,) else labels)
    if logits.shape[-1] == 1:
        labels = labels.reshape(-1, 1) if labels.ndim == 1 else labels
    if labels.shape != logits.shape:
        raise ValueError(f"labels of shape {tuple(labels.shape)} do not fit {problem} of {tuple(logits.shape)} logits")
    labels = labels.astype(logits.dtype)
    if problem == "regression":
        return jnp.square(logits - labels).mean()
    return -(labels * nn.log_sigmoid(logits) + (1 - labels) * nn.log_sigmoid(-logits)).mean()


def span_loss(start_logits: Array, end_logits: Array, start: Array, end: Array) -> Array:
    """Mean of the cross entropies of start and end; positions behind the sequence are left out, negative ones are 0.

    Args:
        start_logits, end_logits: (batch, seq); start, end: int, (batch,) or (batch, 1).
    """
    seq = start_logits.shape[1]

    def one(logits: Array, positions: Array) -> Array:
        return cross_entropy(logits, positions.reshape(-1).clip(0, seq), seq)

    return (one(start_logits, start) + one(end_logits, end)) / 2


def cross_entropy(logits: Array, labels: Array, ignored: int) -> Array:
    """Mean over the labels that are not `ignored`; a label outside the classes makes it nan (see `check_labels`)."""
    counts = labels != ignored
    chosen = jnp.where(counts, jnp.where(labels < 0, logits.shape[-1], labels), 0)
    scores = jnp.take_along_axis(nn.log_softmax(logits), chosen[..., None], axis=-1, mode="fill")[..., 0]
    return -jnp.where(counts, scores, 0).sum() / counts.sum()


def check_labels(name: str, labels: Array, classes: int) -> None:
    """Raise `ValueError` for a label that is neither a class nor -100."""
    if labels.size == 0:
        return
    wrong = (labels != IGNORED) & ((labels < 0) | (labels >= classes))
    check(
        wrong.any(),
        (labels.flatten()[wrong.argmax()],),
        lambda label: f"{name} holds {label}; allowed are 0 to {classes - 1}, and {IGNORED} for what does not count",
    )
