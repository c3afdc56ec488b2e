"""The updates of the weights in PyTorch: AdamW on the loss of a task, in one process or in several.

Nothing random is kept from one update to the next: dropout is seeded by the number of the update, so a training that
is resumed needs the weights, the optimizer and that number.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from roberta.common.training.data.batches import TARGETS, MicroBatch, rows_of_rank
from roberta.common.training.data.tasks import Task, check_model_class
from roberta.common.training.loss_options import PLAIN_LOSS, LossOptions
from roberta.common.training.loss_scale import LossScale
from roberta.common.training.optimizer_state import MOMENTS, TrainingState, check_trained_weights
from roberta.common.training.parameter_groups import check_frozen, groups_of
from roberta.common.training.part_checkpoints import TRAINED, WEIGHTS
from roberta.common.training.processes import between, check_same_training
from roberta.common.training.recipes import Recipe, Settings
from roberta.common.training.run import Run
from roberta.common.values import IGNORED
from roberta.pt import sharding
from roberta.pt.averaging import AveragedWeights
from roberta.pt.devices import forked_generators, put
from roberta.pt.lora import LoraWeights
from roberta.pt.losses import classification_loss, next_token_loss, span_loss, token_loss
from roberta.pt.optimizers import fill_optimizer, read_optimizer
from roberta.pt.packed_training import PackedInputs, Packer, packed_loss
from roberta.pt.parts import alteration
from roberta.pt.pretrained import RobertaPreTrainedModel
from roberta.pt.weights import gathered, native

LOW = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Trainer:
    """A model and its AdamW.

    The model is changed in place: its parameters take the dtype of the settings, its dropout that of the recipe; with an
    adapter only those that are trained keep `requires_grad`.

    Args:
        model: one of the public classes, that of `tasks.HEADS`.
        resumed: what the optimizer knew when the training stopped; None for a new one.

    Raises:
        ValueError: the model is of another task, or the settings want several processes and there is only one.
        CheckpointError: `resumed` is of another model.
    """

    def __init__(self, model: RobertaPreTrainedModel, settings: Settings, resumed: TrainingState | None = None) -> None:
        check_model_class(model, settings.task)
        self.settings = settings
        self.processes = sharding.join(settings.sharding, model.device)
        self.rank, self.world = self.processes.rank, self.processes.count
        self._model = model.to(torch.float64 if settings.dtype == "float64" else torch.float32)
        set_dropout(model, settings.recipe.dropout)
        settings.loss_options.check_classes(model.config.num_labels)
        self._scale = LossScale(settings.dtype == "float16", None if resumed is None else resumed.loss_scale)
        # what is computed, and which of the weights are trained
        loss = Loss(model, settings.task, LOW.get(settings.dtype), settings.loss_options)
        altered = alteration(model)
        self._adapter = None if settings.lora is None else LoraWeights(model, settings.lora)
        table = native(model)
        check_frozen(settings.frozen, table)
        for name in settings.frozen:
            table[name][0].requires_grad_(False)
        if settings.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        # how it is spread over processes, and what packs its inputs
        self._loss = sharding.spread(loss, settings.sharding, settings.compile)
        self._pack = Packer(model, settings.task, loss.low, compiles=settings.compile, altered=altered)
        # the optimizer and averages of what is trained
        self._trained: nn.Module = model if self._adapter is None else self._adapter
        self.optimizer = adamw(self._trained, settings.recipe, model.config.num_hidden_layers)
        self._gathered: RobertaPreTrainedModel | None = None
        decay = settings.recipe.ema_decay
        self._averages = None if decay is None else AveragedWeights(self._trained, decay)
        if resumed is not None:
            fill_optimizer(resumed, self.optimizer, self._trained)
            if self._averages is None:
                check_trained_weights(resumed, None)
            else:
                self._averages.restore(resumed)
                self._put_in()

    @property
    def model(self) -> RobertaPreTrainedModel:
        """The model with whole weights, or their averages; with sharding="full" a copy, which all processes ask for."""
        self._show(averages=True)
        if self.settings.sharding != "full":
            return self._model
        if self._gathered is None:
            self._gathered = sharding.whole_model(self._model)
        return self._gathered

    def update(self, micro_batches: Sequence[MicroBatch], learning_rate: float, number: int) -> float:
        """Make update `number`, and return the loss that the weights had before.

        Where loss or gradients are not finite, weights and optimizer stay as they were, and what is returned is not
        finite either.
        """
        self._gathered = None
        self._show(averages=False)
        self._model.train()
        loss, size = self._compute(micro_batches, number)
        while self._scale.overflows(loss, size):
            loss, size = self._compute(micro_batches, number)
        if math.isfinite(loss) and math.isfinite(size):
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate * group["scale"]
            self.optimizer.step()
            self._put_in()
            self._scale.made()
            if self._averages is not None:
                self._averages.add(number)
        self.optimizer.zero_grad()
        return loss if math.isfinite(size) else loss + size

    def _compute(self, micro_batches: Sequence[MicroBatch], number: int) -> tuple[float, float]:
        """The gradients of an update; its loss, and their norm."""
        self.optimizer.zero_grad()
        total = torch.zeros((), dtype=torch.float64, device="cpu")
        for index, micro_batch in enumerate(micro_batches):
            is_last = index == len(micro_batches) - 1
            with sharding.held_back(self._loss, not is_last), seeded(self._seed(number, index), self._model.device):
                total += self._backward(micro_batch)
        loss = sharding.total(total, self.world)
        if self._adapter is not None:
            self._adapter.take_gradients()
        return loss, self._clip()

    def state(self) -> TrainingState:
        """What the optimizer knows, whole; with sharding="full" all processes ask for it."""
        self._show(averages=True)
        state = read_optimizer(self.optimizer, self._trained)
        weights = {} if self._averages is None else self._averages.weights()
        return replace(state, weights=weights, loss_scale=self._scale.state())

    def pairs(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """A and B of the adapter that is trained, by weight; none without an adapter."""
        self._show(averages=True)
        return {} if self._adapter is None else self._adapter.pairs()

    def outline(self) -> tuple[Mapping[str, str], TrainingState]:
        """The texts of the model's folder, and the state without arrays; no other process is asked."""
        names = [name for name, (one, _) in native(self._trained).items() if one.requires_grad]
        first, layers = self.optimizer.param_groups[0], self._model.config.num_hidden_layers
        groups = groups_of(names, self.settings.recipe, layers, first["lr"] / first["scale"])
        steps = {int(state["step"]) for state in self.optimizer.state.values()}
        state = TrainingState(
            max(steps, default=0), {}, groups, "the PyTorch optimizer", loss_scale=self._scale.state()
        )
        return self._model.texts_to_save(str(self._model.dtype).removeprefix("torch.")), state

    def part_tensors(self) -> dict[str, Tensor]:
        """The tensors of a checkpoint in parts by name, each as this process has it; see `part_checkpoints`."""
        self._show(averages=True)
        found = {f"{WEIGHTS}.{name}": one.detach() for name, (one, _) in native(self._model).items()}
        for name, (parameter, _) in native(self._trained).items():
            if parameter.requires_grad:
                state = self.optimizer.state[parameter]
                for moment in MOMENTS:  # a parameter without a gradient so far has none
                    found[f"{moment}.{name}"] = state[moment] if moment in state else torch.zeros_like(parameter)
        kept = {} if self._averages is None else self._averages.kept()
        return found | {f"{TRAINED}.{name}": tensor for name, tensor in kept.items()}

    def begin_at(self, state: TrainingState) -> None:
        """Take step and scale of a state, and make room for its tensors in `part_tensors`."""
        self._scale = LossScale(self.settings.dtype == "float16", state.loss_scale)
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                own = {moment: torch.zeros_like(parameter) for moment in MOMENTS}
                step = torch.tensor(float(state.step), dtype=torch.float32, device=parameter.device)  # as it is fused
                self.optimizer.state[parameter] = {"step": step, **own}

    def _show(self, *, averages: bool) -> None:
        """Have the averages in the model, if there are any, or the weights that are trained."""
        if self._averages is not None and self._averages.show(averages):
            self._put_in()

    def _put_in(self) -> None:
        """Change the model's weights by the adapter, if there is one."""
        if self._adapter is not None:
            self._adapter.put_in()

    def _backward(self, micro_batch: MicroBatch) -> Tensor:
        """Add the gradients of a micro-batch; its part of the loss, of the rows of this process."""
        inputs, share = rows_of_rank(
            micro_batch.inputs, self.settings.task, self.rank, self.world, self.settings.class_weights
        )
        packed = self._pack(inputs)
        loss = self._loss(packed or tensors(inputs, self._model.device, keeps_padding=self.settings.compile))
        weight = micro_batch.weight * share
        scale = weight * self.world * self._scale.value  # processes' gradients are averaged, and must be added
        (loss * scale).backward()
        return loss.detach().cpu().double() * weight

    def _seed(self, number: int, index: int) -> int:
        """The seed of the dropout of a micro-batch."""
        key = (self.settings.seed, number, index, self.rank)
        return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])

    def _clip(self) -> float:
        """The norm of all gradients together, before they are scaled down to the recipe's."""
        gradients = [p.grad for p in self._trained.parameters() if p.grad is not None]
        if self._scale.value != 1:
            torch._foreach_mul_(gradients, 1 / self._scale.value)
        size = float(gathered(nn.utils.get_total_norm(gradients)))
        limit = self.settings.recipe.clip_norm
        if 0 < limit < size < math.inf:
            for gradient in gradients:
                gradient.mul_(limit / size)  # nothing is added to the norm, as PyTorch's own does: optax adds nothing
        return size


class Loss(nn.Module):
    """The loss of a task as a module, as what spreads a model over processes begins at a module's call."""

    def __init__(
        self, model: RobertaPreTrainedModel, task: Task, low: torch.dtype | None, options: LossOptions = PLAIN_LOSS
    ) -> None:
        super().__init__()
        self.model, self.task, self.low, self.options = model, task, low, options

    def forward(self, inputs: dict[str, Tensor] | PackedInputs) -> Tensor:
        """`task_loss`; in the `low` dtype, where PyTorch holds that to be safe."""
        device = (inputs.ids if isinstance(inputs, PackedInputs) else inputs["input_ids"]).device
        with torch.autocast(device.type, self.low, enabled=self.low is not None):
            if isinstance(inputs, PackedInputs):
                return packed_loss(self.model, inputs, self.task, self.options)
            return task_loss(self.model, inputs, self.task, self.options)


def train(model: RobertaPreTrainedModel, run: Run, *, workers: int = 0) -> Trainer:
    """Make the updates of a run; with several processes, the first alone is seen by `run.finished`.

    Args:
        workers: processes that prepare batches ahead; 0 prepares them between updates.
    """
    trainer = Trainer(model, run.settings, run.resumed)
    check_same_training(run, trainer.processes)
    run.restore(trainer)
    loader = DataLoader(Updates(run), batch_size=None, num_workers=workers, collate_fn=as_it_is)  # type: ignore[arg-type]
    for numbered in loader:
        loss = trainer.update(numbered.micro_batches, run.learning_rate(numbered.number), numbered.number)
        if between(trainer, run, partial(run.finished, numbered.number, loss)):
            break
    return trainer


def task_loss(
    model: RobertaPreTrainedModel, inputs: Mapping[str, Tensor], task: Task, options: LossOptions = PLAIN_LOSS
) -> Tensor:
    """The mean loss of a batch over its targets, in float32 or wider.

    Args:
        inputs: as `roberta.common.training.data.batches.Collated` has them. For "mlm" the head runs at "positions" only:
            the other 85 % of its products, most of a small model's work, would be multiplied by a gradient of 0.
        options: label smoothing and class weights.
    """
    given = {name: value for name, value in inputs.items() if name not in TARGETS}
    if task == "mlm":
        hidden = model.base_model(**given, return_dict=True).last_hidden_state
        lm_head: Any = model.lm_head
        chosen = hidden.flatten(0, 1).index_select(0, inputs["positions"])
        return token_loss(wide(lm_head(chosen)), inputs["labels"], options=options)
    outputs = model(**given, return_dict=True, **({"use_cache": False} if task == "clm" else {}))
    if task == "question-answering":
        start, end = wide(outputs.start_logits), wide(outputs.end_logits)
        return span_loss(start, end, inputs["start_positions"], inputs["end_positions"])
    logits, labels = wide(outputs.logits), inputs["labels"]
    if task == "clm":
        return next_token_loss(logits, labels, options=options)
    if task == "text-classification":
        return classification_loss(logits, labels, model.config, options)
    return token_loss(logits, labels, options=options)


class Numbered(NamedTuple):
    """An update's number and micro-batches."""

    number: int
    micro_batches: list[MicroBatch]


class Updates(Dataset[Numbered]):
    """The updates of a run that are still to be made, as what a DataLoader's workers read."""

    def __init__(self, run: Run) -> None:
        self.batches, self.start, self.stop = run.batches, run.start, run.stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> Numbered:
        number = self.start + 1 + index
        return Numbered(number, self.batches.update(number))


def as_it_is(update: Numbered) -> Numbered:
    """The update: arrays stay numpy until a process has chosen its rows."""
    return update


def adamw(model: nn.Module, recipe: Recipe, layers: int) -> torch.optim.AdamW:
    """The recipe's optimizer of a model, in one kernel for each parameter; the rate is set before every step.

    Each group has its "scale", by which the rate is multiplied.
    """
    names = [name for name, (parameter, _) in native(model).items() if parameter.requires_grad]
    own = dict(model.named_parameters())
    groups = groups_of(names, recipe, layers, 1.0)
    listed = [
        {
            "params": [own[name] for name in group.parameters], **group.arguments("pt"),
            "lr": recipe.learning_rate * group.learning_rate, "scale": group.learning_rate,
        }
        for group in groups
    ]  # fmt: skip
    return torch.optim.AdamW(listed, fused=True)


def set_dropout(model: RobertaPreTrainedModel, dropout: float | None) -> None:
    """Give hidden states and attention of a model another dropout; None leaves it.

    A head keeps its own, where the config has one.
    """
    if dropout is None:
        return
    model.config.update_checked({"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout})
    keeps_head = model.config.classifier_dropout is not None
    for part_of_model in (model.base_model,) if keeps_head else (model,):
        for module in part_of_model.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout


def tensors(inputs: Mapping[str, np.ndarray], device: torch.device, *, keeps_padding: bool) -> dict[str, Tensor]:
    """Inputs on the device, without the mask where it hides nothing: attention is faster so.

    Args:
        keeps_padding: of the places of masked tokens, so that compiled code sees few shapes.
    """
    arrays = dict(inputs)
    if "positions" in arrays and not keeps_padding:
        is_real = arrays["labels"] != IGNORED
        arrays |= {"positions": arrays["positions"][is_real], "labels": arrays["labels"][is_real]}
    if arrays["attention_mask"].all():
        del arrays["attention_mask"]
    return {name: put(np.ascontiguousarray(array), device) for name, array in arrays.items()}


def wide(logits: Tensor) -> Tensor:
    """In float32 or wider."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from the seed inside the block; afterwards the caller's generators are as they were."""
    with forked_generators(device):
        torch.manual_seed(seed)
        yield
