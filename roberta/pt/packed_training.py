"""Training without padding: the real tokens of a micro-batch lie end to end, from the embeddings to the loss.

Loss and gradients are those of the padded rows. Embeddings, layers and heads are the model's own modules, called with a
batch of one row; see `packed`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from roberta.common.config import RobertaConfig
from roberta.common.training.data.packed_rows import TokensOfRows, tokens_of_rows
from roberta.common.training.data.tasks import Task
from roberta.common.training.loss_options import LossOptions
from roberta.pt.devices import put
from roberta.pt.losses import classification_loss, span_loss, token_loss
from roberta.pt.packed import (
    MOST_BUCKETS,
    BucketedRows,
    PackedRows,
    VarlenRows,
    failed_trial,
    is_cpu,
    lay_out,
    varlen_obstacle,
)
from roberta.pt.parts import HOOKS
from roberta.pt.pretrained import RobertaPreTrainedModel

# On a CPU this much padding is what packing costs. An update was 2 to 3 times as fast with 70 % in 16 rows of 512 tokens,
# 1.2 times with 40 % in 16 of 64, and 0.8 times with 40 % in 8 of 32.
LEAST_PADDING, LEAST_SHARE = 256, 0.25


class PackedInputs(NamedTuple):
    """A micro-batch with its rows end to end.

    Attributes:
        ids, types, positions: int64, (1, tokens).
        rows: how they lie.
        asked, targets: as those of `TokensOfRows`.
    """

    ids: Tensor
    types: Tensor
    positions: Tensor
    rows: PackedRows
    asked: Tensor | None
    targets: dict[str, Tensor]


class Packer:
    """What packs the micro-batches of one training.

    Made when the model is as it is trained: hooks that come later send the padded rows through the model, as hooks would
    see other shapes.

    Args:
        low: the dtype that is computed in where that is safe; None for the model's own.
        compiles: the loss is compiled: tensors are of the same kinds in every batch, and their lengths dynamic.
        altered: what of the model is not this library's own; "" if nothing is (`parts.alteration`).

    Attributes:
        obstacle: why nothing is packed; "" where tokens are.
        varlen_obstacle: why attention pads rows in buckets; "" where PyTorch's kernel takes them as they lie.
    """

    def __init__(
        self, model: RobertaPreTrainedModel, task: Task, low: torch.dtype | None, *, compiles: bool, altered: str
    ) -> None:
        self.model, self.task, self.compiles = model, task, compiles
        config, device, dtype = model.config, model.device, low or model.dtype
        size, causal = config.head_size, config.is_decoder
        self.obstacle = altered or config_obstacle(config)
        if is_cpu(device):
            self.obstacle = self.obstacle or cpu_obstacle(model, low, compiles)
        self.obstacle = self.obstacle or failed_trial(device, dtype, size, causal, False)
        layers: Any = model.base_model.encoder.layer
        dropout = max((layer.attention.self.dropout.p for layer in layers), default=0.0)
        self.varlen_obstacle = self.obstacle or varlen_obstacle(device, dtype, size, causal=causal, dropout=dropout)
        self.hooks = number_of_hooks(model)

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> PackedInputs | None:
        """The inputs of a micro-batch, packed; None where the padded rows have to go through the model."""
        if self.obstacle or not is_worth_packing(inputs["attention_mask"], self.model.device):
            return None
        if number_of_hooks(self.model) != self.hooks:
            return None
        tokens = tokens_of_rows(inputs, self.task, self.model.config, keeps_ignored=self.compiles)
        return None if tokens is None else self._on_device(tokens)

    def _on_device(self, tokens: TokensOfRows) -> PackedInputs:
        device = self.model.device
        rows = lay_out(
            tokens.lengths, device, causal=self.model.config.is_decoder, is_varlen=not self.varlen_obstacle,
            attended=tokens.attended if (tokens.attended < tokens.lengths).any() else None,
            most_buckets=1 if self.compiles else MOST_BUCKETS,
        )  # fmt: skip
        ids, types, positions = (put(array[None], device) for array in (tokens.ids, tokens.types, tokens.positions))
        asked = None if tokens.asked is None else put(tokens.asked, device)
        targets = {name: put(np.ascontiguousarray(array), device) for name, array in tokens.targets.items()}
        packed = PackedInputs(ids, types, positions, rows, asked, targets)
        if self.compiles:
            mark_lengths(packed)
        return packed


def config_obstacle(config: RobertaConfig) -> str:
    """Say what in a config keeps tokens from being packed; "" if nothing does."""
    if config.attn_implementation == "eager":
        return "attn_implementation is eager"
    if config.output_attentions:
        return "output_attentions is set"
    return "chunk_size_feed_forward is set" if config.chunk_size_feed_forward else ""


def cpu_obstacle(model: RobertaPreTrainedModel, low: torch.dtype | None, compiles: bool) -> str:
    """Say what keeps tokens from being packed on a CPU; "" if nothing does."""
    if any(isinstance(module, nn.Dropout) and module.p for module in model.modules()):
        return "on a CPU, dropout draws what it always drew for a seed: for padded rows"
    if compiles or low is not None:
        return "on a CPU, compiled code and 16 bits were not measured without padding"
    return ""


def is_worth_packing(mask: np.ndarray, device: torch.device) -> bool:
    """Whether there is enough padding to be saved; on a CPU a little of it is as fast."""
    padding = mask.size - np.count_nonzero(mask)
    if not is_cpu(device):
        return bool(padding > 0)
    return bool(padding >= max(LEAST_PADDING, LEAST_SHARE * mask.size))


def number_of_hooks(model: RobertaPreTrainedModel) -> int:
    """How many hooks the modules of a model have."""
    return sum(len(own[hooks]) for own in map(vars, model.modules()) for hooks in HOOKS)


def mark_lengths(packed: PackedInputs) -> None:
    """Have one compiled program for all numbers of tokens, rows and targets."""
    rows, lengths = packed.rows, [(tensor, 1) for tensor in (packed.ids, packed.types, packed.positions)]
    if isinstance(rows, BucketedRows):
        for bucket in rows.buckets:
            lengths += [(bucket.is_key, 0), (bucket.is_key, 1)]
            lengths += [] if bucket.places is None else [(bucket.places, 0)]
    if isinstance(rows, VarlenRows):
        starts = (rows.query_starts, rows.key_starts, rows.keys)
        lengths += [(tensor, 0) for tensor in starts if tensor is not None]
    lengths += [(tensor, 0) for tensor in packed.targets.values()]
    if packed.asked is not None:
        lengths += [(packed.asked, axis) for axis in range(packed.asked.dim())]
    for tensor, axis in lengths:
        torch._dynamo.maybe_mark_dynamic(tensor, axis)


def packed_loss(model: RobertaPreTrainedModel, packed: PackedInputs, task: Task, options: LossOptions) -> Tensor:
    """The mean loss of a micro-batch over its targets, as `task_loss` has it of the padded rows."""
    base: Any = model.base_model
    hidden = base.embeddings(packed.ids, packed.types, packed.positions)
    no_masks = [None] * model.config.num_hidden_layers
    states = base.encoder(hidden, packed.rows, no_masks, None, None, None, False)[0][-1].squeeze(0)  # (tokens, hidden)
    logits = _logits(model, states, packed, task)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if task == "question-answering":
        start, end = logits.unbind(-1)  # (rows, seq) each
        return span_loss(start, end, packed.targets["start_positions"], packed.targets["end_positions"])
    labels = packed.targets["labels"]
    if task == "text-classification":
        return classification_loss(logits, labels, model.config, options)
    return token_loss(logits, labels, options=options)


def _logits(model: Any, states: Tensor, packed: PackedInputs, task: Task) -> Tensor:
    """What a model's head makes of the states of its tokens, (tokens, hidden), where it is asked for."""
    if task == "question-answering":
        assert packed.asked is not None
        return model.qa_outputs(states).index_select(0, packed.asked.flatten()).unflatten(0, packed.asked.shape)
    if packed.asked is not None:
        states = states.index_select(0, packed.asked)
    match task:
        case "mlm" | "clm":
            return model.lm_head(states)
        case "token-classification":
            return model.classifier(model.dropout(states))
        case "text-classification":
            return model.classifier(states.unsqueeze(1))  # which takes the first token of each row
    pooled = model.base_model.pooler(states.unsqueeze(1))
    return model.classifier(model.dropout(pooled)).reshape(len(packed.targets["labels"]), -1)
