"""The options of a training: the fields of `Training`, and the recipe that follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from roberta.common.parameters import Head
from roberta.common.tokenizer.base import TokenizerBase
from roberta.common.training.callbacks import Callbacks
from roberta.common.training.data.tasks import HEADS, Task, check_task
from roberta.common.training.datasets import DataSettings
from roberta.common.training.lora import LoraOptions, lora_options
from roberta.common.training.loss_options import LossOptions, check_class_weights
from roberta.common.training.parameter_groups import check_freeze
from roberta.common.training.recipes import Recipe, Schedule, default_recipe, recipe_named, with_schedule
from roberta.common.training.sampling import check_sampling

_VALUES = {
    "dtype": ("float32", "float64", "bfloat16", "float16", "auto"),
    "sharding": ("none", "data", "full"),
}
_SWITCHES = ("best", "resume", "compile", "gradient_checkpointing")
_NUMBERS = {  # name -> its least value, and what it counts
    "max_length": (1, "tokens"), "stride": (0, "tokens"), "micro_batch_size": (1, "rows"), "keep": (1, "checkpoints"),
    "log_every": (1, "updates"), "save_every": (1, "updates"), "evaluate_every": (1, "updates"),
    "early_stopping": (1, "evaluations"), "workers": (0, "processes"),
}  # fmt: skip
_RECIPE_FIELDS = tuple(field.name for field in fields(Recipe) if field.name != "source")


@dataclass(frozen=True, kw_only=True)
class TrainingFields(DataSettings):
    """What a training is told: what is trained on what, how, and where it is written.

    Attributes:
        task: one of `tasks.Task`.
        model: folder, weights file or hub name; or only a config, for new weights.
        train, validation: files, or one object of the `datasets` library; for "mlm" and "clm" also a token store
            (`roberta.prepare`), or its folder.
        output: the folder of the training, which becomes a model folder.
        framework: "pt", "tf" or "flax"; None for the first that is installed.
        device: as in `roberta.pipeline`; None for an accelerator if there is one, in PyTorch under torchrun one each.
        tokenizer: folder, name, or one of our tokenizers; None for the model's.
        recipe: the optimization, or its name; None for the task's.
        learning_rate, batch_size, updates, epochs, warmup, schedule, power, end_learning_rate, beta1, beta2, epsilon,
            weight_decay, decays_all, clip_norm, dropout, label_smoothing, layer_decay, ema_decay: see `Recipe`; each
            overrides one value of the recipe, None leaves it. `updates` and `epochs` replace each other.
        seed: of new weights, order, masks and dropout.
        dtype: see `Settings`; "auto" is "bfloat16" where the device computes in it, else "float32".
        compile, sharding: see `Settings`.
        sharded_checkpoints: each process writes its own parts of the checkpoints before the last, in the background and
            in its framework's format (torch's distributed checkpoints, Orbax); see `part_checkpoints`.
        max_length: tokens of a row; None for what the model takes, and at most 384 for question answering.
        micro_batch_size: rows that go through the model at once; None for a whole batch.
        format: of the files; None to tell it by their names.
        header: whether the first line of a table names its columns; None to tell it by the names in it.
        text_column, label_column: where texts (or words) and labels are: the name of a column or field, or its number
            from 1 in a table without a header; None for the usual names.
        columns: the same for anything that an example has, by its role, such as {"text2": "answer"}; see
            `fields.FIELD_NAMES`.
        skip_unusable: leave out rows that cannot be used, and say how many, instead of an error for the first.
        truncation: False makes a text that is longer than a row an error; by default it is cut.
        masking, masking_rate, whole_words: how "mlm" hides tokens: "exact", 0.15, False; see
            `roberta.common.training.data.masking`.
        packing: how sentences become rows, for "mlm" and "clm": "full-sentences"; see
            `roberta.common.training.data.packing`.
        stride: tokens that two windows of a context share, for question answering: 128, or half a window.
        problem: what the labels of texts are; None to tell it by the labels.
        labels: their names in the order of their numbers, if the data does not have all of them, or has numbers.
        keep_labels: the labels are those of the model, and numbers in the data are its ids.
        max_train_samples: train on the first examples only, so many at most: texts, questions, and of "mlm" and "clm"
            packed rows.
        validation_split: a share of the training data that is held out to evaluate on: whole texts, questions and
            documents, chosen by the seed.
        class_weights: how much each label counts: by its name, or numbers in the order of the labels, or "balanced", so
            that all count the same; None for 1.
        save_every, evaluate_every: updates; None for an epoch, and 1000 at most.
        keep: how many checkpoints are kept, besides the best.
        log_every: updates for a line of `metrics.jsonl`.
        best: the result is the model of the best evaluation, not the last one.
        metric: by which evaluations are compared; None for the task's first.
        early_stopping: so many evaluations without a better one end the training; None for any number.
        callbacks: functions that are given a record of each line of the log, each evaluation and checkpoint, and the
            end, or objects with methods for them: see `callbacks.TrainingRecord`.
        resume: resume from the newest checkpoint in `output`; if there is none, begin.
        workers: processes that prepare batches, in PyTorch.
        lora: train a LoRA adapter and the head instead of all weights, such as "r=8,alpha=16,targets=query+value"; the
            result is an adapter in PEFT's format.
        freeze: what is not trained: "embeddings"; a number, for so many layers from the lowest; "encoder", for
            embeddings and all layers; or names of modules or parameters; several in a list.
        gradient_checkpointing: see `Settings`.
        tensorboard: write events; None writes them if tensorboardX is installed.
        progress: show a bar; None shows it on a terminal.
    """

    task: Task
    model: str | Path
    train: Sequence[str | Path] | Any
    output: str | Path
    validation: Sequence[str | Path] | Any = None
    framework: str | None = None
    device: str | int | Any = None
    tokenizer: str | Path | TokenizerBase | None = None
    recipe: Recipe | str | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    updates: int | None = None
    epochs: float | None = None
    warmup: float | None = None
    schedule: Schedule | None = None
    power: float | None = None
    end_learning_rate: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    epsilon: float | None = None
    weight_decay: float | None = None
    decays_all: bool | None = None
    clip_norm: float | None = None
    dropout: float | None = None
    label_smoothing: float | None = None
    layer_decay: float | None = None
    ema_decay: float | None = None
    seed: int = 0
    dtype: Literal["float32", "float64", "bfloat16", "float16", "auto"] = "float32"
    micro_batch_size: int | None = None
    save_every: int | None = None
    evaluate_every: int | None = None
    keep: int = 2
    log_every: int = 1
    best: bool = False
    metric: str | None = None
    early_stopping: int | None = None
    callbacks: Sequence[Any] = ()
    resume: bool = False
    compile: bool = False
    sharding: Literal["none", "data", "full"] = "none"
    sharded_checkpoints: bool = False
    lora: str | None = None
    freeze: str | int | Sequence[str | int] | None = None
    gradient_checkpointing: bool = False
    workers: int = 0
    tensorboard: bool | None = None
    progress: bool | None = None

    def __post_init__(self) -> None:
        check_task(self.task)
        self._check_values()
        check_sampling(self.max_train_samples, self.validation_split, self.validation is not None)
        has_validation = self.validation is not None or self.validation_split is not None
        for name in ("best", "metric", "evaluate_every", "early_stopping"):
            value = getattr(self, name)
            if value is not None and value is not False and not has_validation:
                raise ValueError(f"{name}={value!r} needs validation data to evaluate; omit it")
        if self.class_weights is not None:
            check_class_weights(self.class_weights)
        if self.freeze is not None:
            check_freeze(self.freeze)
        if self.lora is not None and self.freeze is not None:
            raise ValueError(
                f"freeze={self.freeze!r}: lora={self.lora!r} trains only the adapter and the head, and all other weights "
                "are frozen already; omit freeze"
            )
        if self.sharded_checkpoints and self.sharding == "none":
            raise ValueError(
                "sharded_checkpoints=True is for several processes, each of which writes its parts; omit it, or give "
                "sharding='data' or 'full' and start the processes with torchrun"
            )
        if self.sharded_checkpoints and self.lora is not None:
            raise ValueError(
                f"sharded_checkpoints=True: with lora={self.lora!r} a checkpoint holds the adapter and the head only, "
                "which are small; omit sharded_checkpoints"
            )
        Callbacks(self.callbacks)  # raises for what cannot be called
        LossOptions(self.chosen_recipe.label_smoothing).check_task(self.task)
        _ = self.chosen_recipe, self._lora_options  # raise for what is out of range

    def _check_values(self) -> None:
        """Raise `ValueError` for a value of the wrong kind, which some framework would take for another one."""
        for name, values in _VALUES.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {', '.join(values)}, as a text")
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}={getattr(self, name)!r} must be True or False")
        for name, (least, what) in _NUMBERS.items():
            value = getattr(self, name)
            is_number = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if value is not None and not (is_number and value >= least):
                raise ValueError(f"{name}={value!r} must be a number of {what} of at least {least}")

    @cached_property
    def head(self) -> Head:
        """The class that the task trains."""
        return HEADS[self.task]

    @cached_property
    def chosen_recipe(self) -> Recipe:
        """The named recipe, or the task's, with the numbers that override it."""
        if isinstance(self.recipe, Recipe):
            chosen = self.recipe
        else:
            chosen = default_recipe(self.task) if self.recipe is None else recipe_named(self.recipe)
        said = {name: getattr(self, name) for name in _RECIPE_FIELDS if getattr(self, name) is not None}
        if "updates" in said:
            said.setdefault("epochs", None)
        elif "epochs" in said:
            said["updates"] = None
        return replace(chosen, **with_schedule(chosen, said))

    @cached_property
    def _lora_options(self) -> LoraOptions | None:
        return None if self.lora is None else lora_options(self.lora)
