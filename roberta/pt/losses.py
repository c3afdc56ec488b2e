"""The losses of the heads: scalars, means over what counts, the same in the three frameworks.

A label of -100 is left out. Where nothing is left the mean is nan, as in transformers.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from roberta.common.config import RobertaConfig
from roberta.pt.layers import is_traced

IGNORED = -100


def token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy over the labels that are not -100.

    Args:
        logits: (..., classes).
        labels: int, of the shape of `logits` without its last axis.
    """
    if labels.shape != logits.shape[:-1] or labels.is_floating_point():
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} and type {labels.dtype} do not fit logits of shape "
            f"{tuple(logits.shape)}: give integers of shape {tuple(logits.shape[:-1])}"
        )
    check_labels("labels", labels, logits.shape[-1])
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten().long(), ignore_index=IGNORED)


def next_token_loss(logits: Tensor, labels: Tensor, num_items_in_batch: int | Tensor | None = None) -> Tensor:
    """Cross entropy of the logits at t against the label at t + 1, in float32 or wider.

    Args:
        logits: (batch, seq, vocab); labels: int, (batch, seq), not shifted.
        num_items_in_batch: divide the sum by this instead of by the number of labels that count.
    """
    shifted = torch.cat((labels[:, 1:], torch.full_like(labels[:, :1], IGNORED)), dim=1)
    loss = token_loss(logits.to(torch.promote_types(logits.dtype, torch.float32)), shifted)
    if num_items_in_batch is None:
        return loss
    return loss * (shifted != IGNORED).sum() / num_items_in_batch


def classification_loss(logits: Tensor, labels: Tensor, config: RobertaConfig) -> Tensor:
    """Loss of a sequence classifier: squared error, cross entropy, or one logistic loss a label.

    `config.problem_type` decides; when it is None, one label means regression, integer labels one class each, and
    float labels several. The config is not changed.

    Args:
        logits: (batch, num_labels).
        labels: float, (batch,) or (batch, num_labels); or int, (batch,); or float of 0 and 1, (batch, num_labels).
    """
    problem = config.problem_type
    if problem is None:
        whole = not labels.is_floating_point()
        problem = "single_label_classification" if whole else "multi_label_classification"
        problem = "regression" if logits.shape[-1] == 1 else problem
    if problem == "single_label_classification":
        return token_loss(logits, labels.flatten() if labels.shape[1:] == (1,) else labels)
    if logits.shape[-1] == 1:
        labels = labels.reshape(-1, 1) if labels.dim() == 1 else labels
    if labels.shape != logits.shape:
        raise ValueError(f"labels of shape {tuple(labels.shape)} do not fit {problem} of {tuple(logits.shape)} logits")
    if problem == "regression":
        return F.mse_loss(logits, labels.to(logits.dtype))
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))


def span_loss(start_logits: Tensor, end_logits: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Mean of the cross entropies of start and end; positions behind the sequence are left out, negative ones are 0.

    Args:
        start_logits, end_logits: (batch, seq); start, end: int, (batch,) or (batch, 1).
    """
    seq = start_logits.shape[1]

    def one(logits: Tensor, positions: Tensor) -> Tensor:
        clamped = positions.reshape(-1).long().clamp(0, seq)
        return F.cross_entropy(logits, clamped, ignore_index=seq)

    return (one(start_logits, start) + one(end_logits, end)) / 2


def check_labels(name: str, labels: Tensor, classes: int) -> None:
    """Raise `ValueError` for a label that is neither a class nor -100; in traced code the kernel's own check stays."""
    if is_traced() or labels.is_meta:
        return
    wrong = labels[(labels != IGNORED) & ((labels < 0) | (labels >= classes))]
    if wrong.numel():
        raise ValueError(
            f"{name} holds {int(wrong[0])}; allowed are 0 to {classes - 1}, and {IGNORED} for what does not count"
        )
