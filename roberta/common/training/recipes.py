"""How weights are updated: optimizer, schedule and batch, as RoBERTa was trained, in one table.

Sources: "paper" is Liu et al. 2019, tables 9 (pretraining) and 10 (fine-tuning); "fairseq" is the configuration of a
task in fairseq's examples/roberta. Where the two differ, both are here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Literal, get_args

from roberta.common.training.data.tasks import Task, check_task
from roberta.common.training.lora import LoraStart
from roberta.common.training.loss_options import LossOptions

Schedule = Literal["polynomial", "linear", "cosine", "constant", "inverse_sqrt"]
_INVERSE_SQRT_UPDATES = 10_000  # in place of a warm-up, where there is none; as transformers has it


@dataclass(frozen=True)
class Recipe:
    """The optimization of one training: AdamW with decoupled decay, warm-up, and a schedule of its rate.

    Attributes:
        learning_rate: the peak, at the end of the warm-up.
        batch_size: sequences of one update.
        updates: of the weights, in all; None for as many as `epochs` needs.
        epochs: passes over the data, if `updates` is None.
        warmup: updates from a rate of 0 to the peak, in a straight line; below 1 a share of all updates.
        schedule: of the rate after the warm-up: "polynomial", of `power`; "linear", which is that of power 1; "cosine",
            half a wave; "constant"; or "inverse_sqrt", the peak times the root of warm-up / updates made.
        power: of a polynomial schedule; 1 is a straight line, 0 no decay: the last update has the full rate too.
        end_learning_rate: at the last update, where the schedule reaches an end: not if `power` is 0.
        beta1, beta2, epsilon: of Adam; epsilon is added to the root of the corrected second moment.
        weight_decay: multiplied by the learning rate and taken off the weights.
        decays_all: whether norms and biases decay too.
        clip_norm: the largest norm of all gradients together; 0 for no limit.
        dropout: of hidden states and attention; None for the model's config.
        label_smoothing: the share of each target that is spread over all classes; see `loss_options`.
        layer_decay: the rate of a layer is that of the one above it times this; below the lowest are the embeddings, above
            the highest pooler and head, which have the whole rate.
        ema_decay: of averages of the weights, which are evaluated and saved instead of them; None for no averages. After
            update t the average is the sum of (1 - decay) * decay^(t - i) * weights after update i, divided by
            1 - decay^t, so that the weights at the start have no part in it.
        source: where the numbers come from.

    Raises:
        ValueError: a number is out of range; the error names it.
    """

    learning_rate: float
    batch_size: int
    updates: int | None = None
    epochs: float | None = None
    warmup: float = 0.06
    schedule: Schedule = "polynomial"
    power: float = 1.0
    end_learning_rate: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-6
    weight_decay: float = 0.1
    decays_all: bool = True
    clip_norm: float = 0.0
    dropout: float | None = None
    label_smoothing: float = 0.0
    layer_decay: float = 1.0
    ema_decay: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        for name, (is_whole, least, below, may_be_none) in _RANGES.items():
            _check(name, getattr(self, name), is_whole=is_whole, least=least, below=below, may_be_none=may_be_none)
        for name in ("learning_rate", "epsilon", "epochs", "layer_decay", "ema_decay"):
            if getattr(self, name) == 0:
                raise ValueError(f"recipe: {name}=0 must be above 0")
        if self.layer_decay > 1:
            raise ValueError(
                f"recipe: layer_decay={self.layer_decay!r} must be at most 1, at which all layers have one rate"
            )
        if self.end_learning_rate > self.learning_rate:
            raise ValueError(
                f"recipe: end_learning_rate={self.end_learning_rate!r} must be at most learning_rate="
                f"{self.learning_rate!r}, from which it decays"
            )
        self._check_schedule()
        if self.updates is not None and self.epochs is not None:
            raise ValueError(
                f"recipe: updates={self.updates!r} and epochs={self.epochs!r} both say how long to train; "
                "set the other one to None"
            )

    def _check_schedule(self) -> None:
        """Raise `ValueError` for an unknown schedule, or a number that it does not use."""
        if self.schedule not in get_args(Schedule):
            raise ValueError(f"recipe: schedule={self.schedule!r} must be one of {', '.join(get_args(Schedule))}")
        if self.power != 1 and self.schedule != "polynomial":
            raise ValueError(
                f"recipe: power={self.power!r} is for schedule='polynomial'; omit it for schedule={self.schedule!r}"
            )
        if self.end_learning_rate and self.schedule in ("constant", "inverse_sqrt"):
            raise ValueError(
                f"recipe: end_learning_rate={self.end_learning_rate!r} is for a schedule with an end; omit it for "
                f"schedule={self.schedule!r}"
            )


@dataclass(frozen=True)
class Settings:
    """What a backend needs to know of one training.

    Attributes:
        recipe: the optimization.
        updates: of the weights, in all.
        seed: of data order, masks and dropout, each by (seed, number of the update), so no random state is kept.
        dtype: "float32" or "float64" for everything; "bfloat16" computes in it where that is safe, and keeps weights,
            optimizer and loss in float32 (autocast in PyTorch, "mixed_bfloat16" in Keras, `dtype` in Flax); "float16"
            does the same in it, and scales the loss (see `loss_scale`).
        compile: `torch.compile` in PyTorch; Keras and Flax always compile.
        sharding: over processes or devices: "none" uses one, "data" gives each a part of every micro-batch, "full"
            also splits weights and optimizer (FSDP2 in PyTorch, a mesh in Flax).
        lora: the adapter that is trained, with the head, instead of all weights; None for all.
        class_weights: of each label, by its number; None for 1.
        frozen: canonical names of parameters that are not trained.
        gradient_checkpointing: keep only each layer's input for the backward pass, and compute the rest again.

    Raises:
        ValueError: an adapter's weights are to be split, or the task's loss has no classes to smooth or to weight.
    """

    task: Task
    recipe: Recipe
    updates: int
    seed: int = 0
    dtype: Literal["float32", "float64", "bfloat16", "float16"] = "float32"
    compile: bool = False
    sharding: Literal["none", "data", "full"] = "none"
    lora: LoraStart | None = None
    class_weights: tuple[float, ...] | None = None
    frozen: tuple[str, ...] = ()
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.lora is not None and self.sharding == "full":
            raise ValueError('sharding="full" splits weights, which lora does not train; use sharding="data" or "none"')
        if self.lora is not None and self.frozen:
            raise ValueError(
                "lora trains only the adapter and the head, and all other weights are frozen already; omit freeze"
            )
        self.loss_options.check_task(self.task)

    @cached_property
    def loss_options(self) -> LossOptions:
        """How the task's cross entropy is changed."""
        return LossOptions(self.recipe.label_smoothing, self.class_weights)


_LATER_FIELDS = ("schedule", "label_smoothing", "layer_decay", "ema_decay")  # which older checkpoints do not have
# Field -> whether it is a whole number, its least value, the value it must stay below, whether it may be None.
_RANGES: dict[str, tuple[bool, float, float, bool]] = {
    "learning_rate": (False, 0, math.inf, False),
    "batch_size": (True, 1, math.inf, False),
    "updates": (True, 1, math.inf, True),
    "epochs": (False, 0, math.inf, True),
    "warmup": (False, 0, math.inf, False),
    "power": (False, 0, math.inf, False),
    "end_learning_rate": (False, 0, math.inf, False),
    "beta1": (False, 0, 1, False),
    "beta2": (False, 0, 1, False),
    "epsilon": (False, 0, math.inf, False),
    "weight_decay": (False, 0, math.inf, False),
    "clip_norm": (False, 0, math.inf, False),
    "dropout": (False, 0, 1, True),
    "label_smoothing": (False, 0, 1, False),
    "layer_decay": (False, 0, math.inf, False),
    "ema_decay": (False, 0, 1, True),
}


def _check(name: str, value: object, *, is_whole: bool, least: float, below: float, may_be_none: bool) -> None:
    if value is None and may_be_none:
        return
    kind = int if is_whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value < below:
        rule = f"{'an int' if is_whole else 'a number'} of at least {least}"
        limit = f" and below {below}" if math.isfinite(below) else ", and finite"
        raise ValueError(f"recipe: {name}={value!r} must be {rule}{limit}{', or None' if may_be_none else ''}")


def learning_rate(number: int, recipe: Recipe, updates: int) -> float:
    """The rate of update `number`, which counts from 1, of `updates` in all.

    Sources: fairseq's `PolynomialDecayLRSchedule`: its first update has learning_rate / warmup. The other schedules are
    those of transformers' `get_scheduler` one update earlier, as its first update has a rate of 0.
    """
    warmup = recipe.warmup * updates if recipe.warmup < 1 else recipe.warmup
    if number <= warmup:
        return recipe.learning_rate * number / max(warmup, 1)
    if recipe.schedule == "inverse_sqrt":
        scale = warmup if warmup >= 1 else _INVERSE_SQRT_UPDATES
        return recipe.learning_rate * math.sqrt(scale / (number - warmup + scale))
    # at the end rate, 0 in most recipes, a single update would learn nothing
    if updates == 1 or recipe.power == 0 or recipe.schedule == "constant":
        return recipe.learning_rate
    if number >= updates:
        return recipe.end_learning_rate
    left = math.pow(1 - (number - warmup) / (updates - warmup), recipe.power)
    if recipe.schedule == "cosine":
        left = (1 + math.cos(math.pi * (1 - left))) / 2  # the power is 1
    return (recipe.learning_rate - recipe.end_learning_rate) * left + recipe.end_learning_rate


def average_share(number: int, decay: float) -> float:
    """The share of the weights after update `number` in their average; see `Recipe.ema_decay`."""
    return float((1 - decay) / (1 - decay**number))


def agreed(recipe: Recipe) -> dict[str, Any]:
    """What a resumed training must share of a recipe; later fields only where they are not at their default."""
    later = {field.name: field.default for field in fields(Recipe) if field.name in _LATER_FIELDS}
    return {
        name: value
        for name, value in asdict(recipe).items()
        if name != "source" and not (name in later and value == later[name])
    }


def with_schedule(recipe: Recipe, said: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers that override a recipe; another schedule also takes back the shape of the recipe's own.

    Raises:
        ValueError: a power is said, and the schedule has none.
    """
    schedule = said.get("schedule", recipe.schedule)
    if "power" in said and schedule != "polynomial":
        raise ValueError(
            f"recipe: power={said['power']!r} is for schedule='polynomial'; omit it for schedule={schedule!r}"
        )
    if schedule == recipe.schedule:
        return dict(said)
    return {"power": 1.0, "end_learning_rate": 0.0, **said}


def check_warmup(recipe: Recipe, updates: int) -> None:
    """Raise `ValueError` if the warm-up is longer than the training, which would then never reach its learning rate."""
    if recipe.warmup > max(updates, 1):
        given = int(recipe.warmup) if recipe.warmup == int(recipe.warmup) else recipe.warmup
        raise ValueError(
            f"recipe: warmup={given!r} is more than the {updates} updates of this training, which would end "
            f"before its rate is learning_rate={recipe.learning_rate!r}; give warmup=0.06 for a share of the updates, "
            f"or a number up to {updates}"
        )


def total_updates(recipe: Recipe, examples: int) -> int:
    """How many updates a recipe makes with so many examples; the last one may begin another epoch to be full.

    Raises:
        ValueError: the recipe says neither updates nor epochs, or there are no examples.
    """
    if examples < 1:
        raise ValueError("there is nothing to train on: the data has no examples")
    if recipe.updates is not None:
        return recipe.updates
    if recipe.epochs is None:
        raise ValueError("recipe: updates=None and epochs=None; one of them must say how long to train")
    return max(1, math.ceil(recipe.epochs * examples / recipe.batch_size))


def _pretraining(rate: float, batch: int, updates: int, warmup: int, source: str) -> Recipe:
    return Recipe(rate, batch, updates=updates, warmup=warmup, weight_decay=0.01, dropout=0.1, source=source)


def _fairseq(rate: float, batch: int, updates: int, warmup: int, decay: float, example: str) -> Recipe:
    source = f"fairseq examples/roberta, {example}"
    return Recipe(rate, batch, updates=updates, warmup=warmup, weight_decay=decay, dropout=0.1, source=source)


def _paper(rate: float, batch: int, epochs: float, decay: float, column: str) -> Recipe:
    return Recipe(rate, batch, epochs=epochs, weight_decay=decay, source=f"paper, table 10, {column}")


RECIPES: dict[str, Recipe] = {
    #                            rate, batch, updates, warm-up
    "roberta-base": _pretraining(6e-4, 8192, 500_000, 24_000, "paper, table 9, base; its 8k is taken as 8192"),
    "roberta-large": _pretraining(4e-4, 8192, 500_000, 30_000, "paper, table 9, large; its 8k is taken as 8192"),
    "fairseq-base": _pretraining(5e-4, 2048, 125_000, 10_000, "fairseq examples/roberta, base.yaml"),
    #                 rate, batch, updates, warm-up, weight decay
    "mnli": _fairseq(1e-5, 32, 123_873, 7_432, 0.1, "mnli.yaml"),
    "qnli": _fairseq(1e-5, 32, 33_112, 1_986, 0.1, "qnli.yaml"),
    "qqp": _fairseq(1e-5, 32, 113_272, 28_318, 0.1, "qqp.yaml: a quarter is warm-up"),
    "rte": _fairseq(2e-5, 16, 2_036, 122, 0.1, "rte.yaml"),
    "sst-2": _fairseq(1e-5, 32, 20_935, 1_256, 0.1, "sst_2.yaml"),
    "mrpc": _fairseq(1e-5, 16, 2_296, 137, 0.1, "mrpc.yaml"),
    "cola": _fairseq(1e-5, 16, 5_336, 320, 0.1, "cola.yaml"),
    "sts-b": _fairseq(2e-5, 16, 3_598, 214, 0.1, "sts_b.yaml: regression"),
    "commonsense-qa": _fairseq(1e-5, 16, 3_000, 150, 0.01, "commonsense_qa"),
    "winogrande": _fairseq(1e-5, 32, 23_750, 2_375, 0.01, "wsc, WinoGrande"),
    "wsc": _fairseq(2e-5, 64, 2_000, 250, 0.01, "wsc: 16 on each of 4 GPUs"),
    "imdb": _fairseq(1e-5, 32, 7_812, 469, 0.1, "README.custom_classification"),
    #              rate, batch, epochs, weight decay
    "squad": _paper(1.5e-5, 48, 2, 0.01, "SQuAD"),
    "race": _paper(1e-5, 16, 4, 0.1, "RACE"),
    "race-fairseq": Recipe(
        1e-5, 16, epochs=5, warmup=0, power=0, end_learning_rate=1e-5, weight_decay=0.01, dropout=0.1,
        source="fairseq examples/roberta, README.race: a fixed rate",
    ),
    "glue": _paper(2e-5, 32, 10, 0.1, "GLUE: of its grids {1e-5, 2e-5, 3e-5} and {16, 32}, one point"),
    # Not the paper's: it has no such training.
    "continued": Recipe(
        1e-4, 256, epochs=3, weight_decay=0.01,
        source="rate and weight decay that fairseq's README.pretraining has for batches of 256; epochs are ours",
    ),
    "tagging": Recipe(
        2e-5, 16, epochs=10,
        source="the paper has no token classification: a point of its GLUE grids",
    ),
}  # fmt: skip

_DEFAULTS: dict[Task, str] = {
    "mlm": "continued",
    "clm": "continued",
    "text-classification": "glue",
    "token-classification": "tagging",
    "question-answering": "squad",
    "multiple-choice": "race",
}


def recipe_named(name: str) -> Recipe:
    """The recipe of that name; `ValueError`, with a list of the names, if there is none."""
    if name not in RECIPES:
        raise ValueError(f"recipe {name!r} is unknown; it must be one of {', '.join(RECIPES)}")
    return RECIPES[name]


def default_recipe(task: Task) -> Recipe:
    """The recipe that `roberta train` uses for a task unless another is named; `ValueError` for an unknown task."""
    check_task(task)
    return RECIPES[_DEFAULTS[task]]
