"""The losses of the heads: scalars, means over what counts, the same in the three frameworks.

A label of -100 is left out. Where nothing is left the mean is nan, as in transformers, and a sum
divided by a given number is 0.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from roberta.common.config import RobertaConfig
from roberta.common.config_rules import problem_type
from roberta.common.training.loss_options import PLAIN_LOSS, LossOptions
from roberta.common.values import IGNORED
from roberta.pt.layers import has_values


def token_loss(
    logits: Tensor, labels: Tensor, count: int | Tensor | None = None, options: LossOptions = PLAIN_LOSS
) -> Tensor:
    """Mean cross entropy over the labels that are not -100.

    Args:
        logits: (..., classes).
        labels: int, of the shape of `logits` without its last axis; on any device.
        count: divide the sum by this instead of by the number of labels that count.
        options: label smoothing, and weights of the classes.
    """
    if labels.shape != logits.shape[:-1] or labels.is_floating_point():
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} and type {labels.dtype} do not fit logits of shape "
            f"{tuple(logits.shape)}: give integers of shape {tuple(logits.shape[:-1])}"
        )
    labels = whole(labels).to(logits.device)
    check_labels("labels", labels, logits.shape[-1])
    return cross_entropy(logits.flatten(0, -2), labels.flatten(), IGNORED, count, options)


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
    shifted = torch.cat((labels[:, 1:], torch.full_like(labels[:, :1], IGNORED)), dim=1)
    return token_loss(logits.to(torch.promote_types(logits.dtype, torch.float32)), shifted, num_items_in_batch, options)


def classification_loss(
    logits: Tensor, labels: Tensor, config: RobertaConfig, options: LossOptions = PLAIN_LOSS
) -> Tensor:
    """Loss of a sequence classifier: squared error, cross entropy, or one logistic loss a label.

    `config.problem_type` decides; when it is None, one label means regression, integer labels one class each, and
    float labels several. The config is not changed.

    Args:
        logits: (batch, num_labels).
        labels: float, (batch,) or (batch, num_labels); or int, (batch,); or float of 0 and 1, (batch, num_labels).
        options: label smoothing and class weights, for one class of several.
    """
    problem = problem_type(config, logits.shape[-1], has_floats=labels.is_floating_point())
    options.check_problem(problem)
    if problem == "single_label_classification":
        return token_loss(logits, labels.flatten() if labels.shape[1:] == (1,) else labels, options=options)
    if logits.shape[-1] == 1:
        labels = labels.reshape(-1, 1) if labels.dim() == 1 else labels
    if labels.shape != logits.shape:
        raise ValueError(f"labels of shape {tuple(labels.shape)} do not fit {problem} of {tuple(logits.shape)} logits")
    wide = widened(logits)
    one = F.mse_loss if problem == "regression" else F.binary_cross_entropy_with_logits
    return narrowed(one(wide, labels.to(wide)), logits)


def span_loss(start_logits: Tensor, end_logits: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Mean of the cross entropies of start and end; positions after the sequence are left out, negative ones are 0.

    Args:
        start_logits, end_logits: (batch, seq); start, end: int, (batch,) or (batch, 1).
    """
    seq = start_logits.shape[1]

    def one(logits: Tensor, positions: Tensor) -> Tensor:
        return cross_entropy(logits, positions.to(logits.device).reshape(-1).long().clamp(0, seq), seq)

    return (one(start_logits, start) + one(end_logits, end)) / 2


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    ignored: int,
    count: int | Tensor | None = None,
    options: LossOptions = PLAIN_LOSS,
) -> Tensor:
    """Mean over the labels that are not `ignored`, or their sum divided by `count`, in the dtype of the logits."""
    reduction, wide = "mean" if count is None else "sum", widened(logits)
    weights = None if options.class_weights is None else wide.new_tensor(options.class_weights)
    loss = F.cross_entropy(
        wide, labels, weights, ignore_index=ignored, reduction=reduction, label_smoothing=options.label_smoothing
    )
    return narrowed(loss if count is None else loss / count, logits)


def check_labels(name: str, labels: Tensor, classes: int) -> None:
    """Raise `ValueError` for a label that is neither a class nor -100; in traced code the kernel's own check stays."""
    if not has_values(labels):
        return
    wrong = labels[(labels != IGNORED) & ((labels < 0) | (labels >= classes))]
    if wrong.numel():
        raise ValueError(
            f"{name} holds {int(wrong[0])}; allowed are 0 to {classes - 1}, and {IGNORED} for what does not count"
        )


def whole(labels: Tensor) -> Tensor:
    """`labels` as int64, where no other number is -100, as 156 is in uint8; floats stay as they are."""
    return labels if labels.is_floating_point() else labels.long()


def widened(logits: Tensor) -> Tensor:
    """`logits`, float16 as float32: sums over many tokens overflow it."""
    return logits.float() if logits.dtype == torch.float16 else logits


def narrowed(loss: Tensor, logits: Tensor) -> Tensor:
    """`loss` in the dtype of `logits` that were `widened`; under autocast losses are float32, whatever the logits."""
    device = logits.device.type
    is_autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return loss if logits.dtype != torch.float16 or is_autocast else loss.to(logits.dtype)
