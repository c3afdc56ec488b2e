"""Updates of the weights for tests: arrays as collation makes them, split into micro-batches, and their trainer."""

from __future__ import annotations

import dataclasses
import importlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import checkpoints
import numpy as np
from backends import Arrays, Backend

from roberta import RobertaConfig
from roberta.common.training.data.batches import MicroBatch
from roberta.common.training.data.tasks import HEADS, Task
from roberta.common.training.optimizer_state import save_training_state
from roberta.common.training.recipes import Recipe, Settings

SEQ = 12
MASK = 3
# One layer: other tests cover several layers, and compiling them takes most of the time of these tests.
SMALL = {"num_hidden_layers": 1, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
# A case is a task, and the fields of the config that decide the kind of its labels.
CASES: dict[str, tuple[Task, dict[str, Any]]] = {
    "mlm": ("mlm", {}),
    "clm": ("clm", {}),
    "classes": ("text-classification", {"problem_type": "single_label_classification"}),
    "several labels": ("text-classification", {"problem_type": "multi_label_classification"}),
    "numbers": ("text-classification", {"problem_type": "regression", "num_labels": 1}),
    "tokens": ("token-classification", {}),
    "answers": ("question-answering", {}),
    "choices": ("multiple-choice", {}),
}
RATE_OF_TESTS = 2e-3
RECIPE = Recipe(learning_rate=RATE_OF_TESTS, batch_size=6, weight_decay=0.1)


def inputs(case: str, config: RobertaConfig, rows: int = 6, seed: int = 0) -> Arrays:
    """Ragged rows with labels; those of "mlm" still have shape (rows, seq), with -100 where nothing was masked."""
    task = CASES[case][0]
    rng = np.random.default_rng(seed)
    shape = (rows, 3, SEQ) if task == "multiple-choice" else (rows, SEQ)
    lengths = rng.integers(4, SEQ + 1, shape[:-1])
    lengths.flat[0] = SEQ
    mask = np.arange(SEQ) < lengths[..., None]
    ids = np.where(mask, rng.integers(4, config.vocab_size, shape), config.pad_token_id)
    found = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
    if task == "question-answering":
        start = rng.integers(0, 2, rows)
        return found | {"start_positions": start, "end_positions": start + rng.integers(0, 3, rows)}
    return found | {"labels": labels(case, config, ids, mask, rng)}


def labels(case: str, config: RobertaConfig, ids: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rows = len(ids)
    match case:
        case "mlm":
            is_masked = mask & (rng.random(ids.shape) < 0.3)
            is_masked[:, 1] = True
            original = np.where(is_masked, ids, -100)
            ids[is_masked] = MASK
            return original
        case "clm":
            return np.where(mask, ids, -100)
        case "classes":
            return rng.integers(0, config.num_labels, rows)
        case "several labels":
            return rng.integers(0, 2, (rows, config.num_labels)).astype(np.float32)
        case "numbers":
            return rng.normal(size=rows).astype(np.float32)
        case "tokens":
            return np.where(mask, rng.integers(0, config.num_labels, ids.shape), -100)
    return rng.integers(0, ids.shape[1], rows)


def count(case: str, arrays: Arrays) -> int:
    """Targets of some rows."""
    given = arrays.get("labels")
    if case == "clm":
        return int((given[:, 1:] != -100).sum())
    return int((given != -100).sum()) if case in ("mlm", "tokens") else len(arrays["input_ids"])


def gathered(arrays: Arrays) -> Arrays:
    """The rows of "mlm" with the positions of their masked tokens, padded to 64."""
    places = np.flatnonzero(arrays["labels"] != -100)
    padding = -len(places) % 64
    originals = arrays["labels"].reshape(-1)[places]
    return arrays | {
        "positions": np.pad(places, (0, padding)),
        "labels": np.pad(originals, (0, padding), constant_values=-100),
    }


def micro_batches(case: str, arrays: Arrays, size: int | None = None, class_weights: Any = None) -> list[MicroBatch]:
    """Rows in their order, `size` at a time; with class weights of a loss, each target counts as many times."""
    rows = len(arrays["input_ids"])
    size = size or rows
    parts = [{name: array[start : start + size] for name, array in arrays.items()} for start in range(0, rows, size)]
    counts = [count(case, some) for some in parts]
    if class_weights is not None:
        counts = [sum(class_weights[label] for label in some["labels"].flatten() if label >= 0) for some in parts]
    weights = [one / sum(counts) for one in counts]
    return [
        MicroBatch(gathered(some) if case == "mlm" else some, weight)
        for some, weight in zip(parts, weights, strict=True)
    ]


def config_of(case: str, **overrides: Any) -> RobertaConfig:
    return checkpoints.small_config(HEADS[CASES[case][0]], **{**SMALL, **CASES[case][1], **overrides})


def folder_of(folder: Any, case: str, **overrides: Any) -> Any:
    """A checkpoint with large random weights."""
    head = HEADS[CASES[case][0]]
    return checkpoints.make(folder / f"{case}".replace(" ", "-"), head, **{**SMALL, **CASES[case][1], **overrides})


# What each framework's tests of sharding train "tokens" and "mlm" with: options that change weights, all together.
FROZEN = ("roberta.embeddings.LayerNorm.weight", "roberta.encoder.layer.0.attention.self.query.weight")
CLASS_WEIGHTS = (0.5, 3.0, 1.0, 2.0, 0.1)


def with_options(chosen: Settings) -> Settings:
    """Settings with label smoothing, rates by layer, averages, frozen weights and recomputed layers; for "tokens" class
    weights too."""
    recipe = dataclasses.replace(chosen.recipe, label_smoothing=0.2, layer_decay=0.5, ema_decay=0.8)
    weights = CLASS_WEIGHTS if chosen.task == "token-classification" else None
    return dataclasses.replace(chosen, recipe=recipe, class_weights=weights, frozen=FROZEN, gradient_checkpointing=True)


def settings(case: str, recipe: Recipe = RECIPE, **changed: Any) -> Settings:
    return dataclasses.replace(Settings(CASES[case][0], recipe, updates=100, dtype="float64"), **changed)


def trainer(
    backend: Backend, case: str, folder: Any, recipe: Recipe = RECIPE, resumed: Any = None, **changed: Any
) -> Any:
    """A new trainer of a new model from a folder."""
    module = importlib.import_module(f"roberta.{backend.name}.training")
    chosen = settings(case, recipe, **changed)
    model = backend.load(HEADS[chosen.task], folder, dtype="float64" if chosen.dtype == "float64" else "float32")
    return module.Trainer(model, chosen, resumed)


def copied(arrays: Arrays) -> Arrays:
    """Values that later updates do not change."""
    return {name: np.array(array) for name, array in arrays.items()}


class Listed:
    """Micro-batches of each update, as `Batches` gives them."""

    def __init__(self, case: str, config: RobertaConfig, rows: int, size: int, class_weights: Any = None) -> None:
        self.case, self.config, self.rows, self.size = case, config, rows, size
        self.class_weights, self.micro_batch_size = class_weights, size

    def update(self, number: int) -> list[MicroBatch]:
        arrays = inputs(self.case, self.config, self.rows, seed=number)
        return micro_batches(self.case, arrays, self.size, self.class_weights)

    def updates(self, start: int, stop: int) -> Iterator[list[MicroBatch]]:
        """The micro-batches of some updates."""
        return (self.update(number) for number in range(start + 1, stop + 1))


class ShortRun:
    """A `Run` that keeps the losses, saves model and state after its last update, and can fail in one update."""

    def __init__(self, chosen: Settings, batches: Any, stop: int, *, start: int = 0, resumed: Any = None) -> None:
        self.settings, self.batches, self.start, self.stop, self.resumed = chosen, batches, start, stop, resumed
        self.losses: list[float] = []
        self.folder: Any = None
        self.fails_at = 0
        self.agreement: dict[str, Any] = {}
        self.signal: int | None = None
        self.first_weights: int | None = None

    parts = None  # checkpoints are whole
    checkpoints = SimpleNamespace(output=Path(tempfile.gettempdir()))  # a folder that all processes see

    def restore(self, trainer: Any) -> None:
        """Do nothing: a short run resumes from `resumed`."""

    stops_at = 0  # updates, as when evaluations do not get better; 0 for never

    @property
    def is_stopped(self) -> bool:
        """Whether the training ends here."""
        return 0 < self.stops_at == len(self.losses)

    def learning_rate(self, number: int) -> float:
        return RATE_OF_TESTS / number

    def finished(self, number: int, loss: float, trainer: Any) -> None:
        assert isinstance(number, int), f"update {number!r}: a run counts with the number"
        self.losses.append(loss)
        if number == self.fails_at:
            raise ValueError(f"update {number} fails")
        if number == self.stop and self.folder is not None:
            trainer.model.save_pretrained(self.folder)
            save_training_state(self.folder, trainer.state())
