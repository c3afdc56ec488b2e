"""A training in numpy: a small model and its AdamW, with the interface that a run uses in a framework."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roberta import Training
from roberta.common.formats import safetensors_file
from roberta.common.training.callbacks import Callbacks
from roberta.common.training.checkpoints import Checkpoints, Saved
from roberta.common.training.data.batches import Batches, Collated, MicroBatch
from roberta.common.training.journal import Journal
from roberta.common.training.optimizer_state import Group, TrainingState
from roberta.common.training.recipes import Recipe, Settings
from roberta.common.training.run import Interrupted, Run, RunPlan

SIZE = 5
RECIPE = Recipe(learning_rate=0.05, batch_size=4, warmup=2)


class Model:
    """One vector."""

    def __init__(self, weights: np.ndarray | None = None) -> None:
        self.weights = np.zeros(SIZE) if weights is None else weights

    def to_save(self) -> tuple[dict[str, str], Mapping[str, Any]]:
        return {"config.json": "{}"}, {"weights": (self.weights.shape, "float64", lambda: self.weights)}

    def release_infer(self) -> None:
        """Do nothing: there is nothing to free."""


class Trainer:
    """Adam on the distance to the mean token of a batch, with noise drawn, like dropout, by (seed, number)."""

    def __init__(self, model: Model, settings: Settings, resumed: TrainingState | None, bad: int = 0) -> None:
        self.model, self.settings, self.bad = model, settings, bad
        moments = {} if resumed is None else resumed.moments
        self.step = 0 if resumed is None else resumed.step
        self.average = np.array(moments.get("exp_avg.weights", np.zeros(SIZE)))
        self.square = np.array(moments.get("exp_avg_sq.weights", np.zeros(SIZE)))

    def update(self, micro_batches: Sequence[MicroBatch], learning_rate: float, number: int) -> float:
        noise = np.random.default_rng((self.settings.seed, number)).normal(1, 0.1, SIZE)
        target = sum(part.weight * part.inputs["input_ids"].mean() for part in micro_batches)
        gradient = (self.model.weights - target / 10) * noise
        loss = float(np.square(gradient).mean())
        if number == self.bad:
            return float("nan")
        self.step += 1
        self.average = 0.9 * self.average + 0.1 * gradient
        self.square = 0.98 * self.square + 0.02 * gradient**2
        self.model.weights = self.model.weights - learning_rate * self.average / (np.sqrt(self.square) + 1e-6)
        return loss

    def state(self) -> TrainingState:
        moments = {"exp_avg.weights": self.average, "exp_avg_sq.weights": self.square}
        groups = (Group(0.05, 0.9, 0.98, 1e-6, 0.1, ("weights",)),)
        return TrainingState(self.step, moments, groups, "the optimizer in numpy")

    def pairs(self) -> dict[str, Any]:
        """There is no adapter."""
        return {}


def collate(features: Any, draws: Any) -> Collated:
    ids = np.array([feature["input_ids"] for feature in features])
    return Collated({"input_ids": ids, "attention_mask": np.ones_like(ids)}, len(features))


def make_run(
    output: Path, *, updates: int = 20, save_every: int = 6, evaluate_every: int = 5, saved: Saved | None = None,
    keep: int = 2, plan: RunPlan | None = None, callbacks: Sequence[Any] = (), **options: Any,
) -> Run:  # fmt: skip
    """A run in a folder, from the start or from a checkpoint."""
    features = [{"input_ids": np.random.default_rng(index).integers(0, 50, 6)} for index in range(10)]
    settings = Settings("mlm", RECIPE, updates=updates, seed=1)
    start, size = (0, 0) if saved is None else (saved.position.update, saved.position.metrics_bytes)
    return Run(
        settings,
        Batches(features, collate, batch_size=RECIPE.batch_size, micro_batch_size=3, seed=1),
        Checkpoints(output, keep=keep, texts={"vocab.json": b"{}"}),
        Journal(
            output,
            metrics_bytes=size,
            start=start,
            stop=updates,
            tensorboard=False,
            progress=False,
            callbacks=Callbacks(callbacks),
        ),
        plan or RunPlan(save_every, evaluate_every),
        agreement={"task": "mlm"},
        saved=saved,
        **options,
    )


def train(run: Run, *, bad: int = 0) -> Trainer:
    """Make the updates, as a backend's `train` does."""
    trainer = Trainer(Model(weights_of(run)), run.settings, run.resumed, bad)
    with run:
        for number, micro_batches in enumerate(run.batches.updates(run.start, run.stop), run.start + 1):
            run.finished(number, trainer.update(micro_batches, run.learning_rate(number), number), trainer)
            if run.is_stopped:
                break
    return trainer


def weights_of(run: Run) -> np.ndarray | None:
    """The weights of the checkpoint from which a run resumes."""
    if run.resumed is None:
        return None
    file = run.checkpoints.path(run.start) / "model.safetensors"
    return np.array(safetensors_file.read_safetensors(file)["weights"].load())


def files(output: Path) -> dict[str, bytes]:
    """Everything that must have the same bytes however often a training was stopped."""
    names = ("metrics.jsonl", *(f"{folder.relative_to(output)}/{name}"
             for folder in sorted(output.glob("checkpoints/step-*"))
             for name in ("model.safetensors", "optimizer.safetensors", "optimizer.json", "trainer.json")))  # fmt: skip
    return {name: (output / name).read_bytes() for name in names}


def log(output: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / name).read_text().splitlines()]


def stopped_at(number: int, training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, and send the process a signal to end while an update is logged."""
    original = Journal.update

    def update(self: Journal, at: int, *values: Any) -> None:
        original(self, at, *values)
        if at == number:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "update", update)
        with pytest.raises(Interrupted):
            training.run()
