"""What callbacks are told of a training, and when evaluations that do not get better end it; with a numpy trainer."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import training_cases
from training_standin import Model, Trainer, files, log, make_run, train

from roberta import Training
from roberta.common.training.callbacks import Callbacks, TrainingRecord
from roberta.common.training.checkpoints import Checkpoints
from roberta.common.training.run import RunPlan

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()


def values(*losses: float) -> Callable[[Model], dict[str, float]]:
    """An `evaluate` that finds these losses, one after another."""
    found = iter(losses)
    return lambda model: {"loss": next(found)}


class Listener:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.evaluations: list[TrainingRecord] = []
        self.ends: list[TrainingRecord] = []

    def on_evaluation(self, record: TrainingRecord) -> None:
        self.evaluations.append(record)

    def on_end(self, record: TrainingRecord) -> None:
        self.ends.append(record)


def test_callbacks_are_told_of_the_log_evaluations_checkpoints_and_the_end(tmp_path: Path) -> None:
    told: list[TrainingRecord] = []
    listener = Listener()
    train(make_run(tmp_path, evaluate=values(3, 1, 2, 4), callbacks=[told.append, listener]))
    assert [(record.kind, record.update) for record in told if record.update > 17] == [
        ("log", 18), ("save", 18), ("log", 19), ("log", 20), ("evaluation", 20), ("save", 20), ("end", 20),
    ]  # fmt: skip
    losses = {record.update: record.values["loss"] for record in told if record.kind == "log"}
    assert losses == {entry["update"]: entry["loss"] for entry in log(tmp_path) if "loss" in entry}
    assert {"learning_rate", "seconds", "tokens", "tokens_per_second"} < told[0].values.keys()
    assert [(record.update, dict(record.values)) for record in listener.evaluations] == [
        (5, {"loss": 3}), (10, {"loss": 1}), (15, {"loss": 2}), (20, {"loss": 4})
    ]  # fmt: skip
    (end,) = listener.ends
    assert (end.status, dict(end.values), end.path) == ("finished", {"best": 1, "best_update": 10}, tmp_path)
    saves = [record.path for record in told if record.kind == "save"]
    assert saves[-1] == tmp_path / "checkpoints" / "step-000020"


def test_the_end_is_told_of_a_training_that_fails_too(tmp_path: Path) -> None:
    listener = Listener()
    with pytest.raises(ValueError, match="update 9 has a loss of nan"):
        train(make_run(tmp_path, callbacks=[listener]), bad=9)
    assert [(record.status, record.update) for record in listener.ends] == [("failed", 8)]


def test_what_cannot_be_told_is_refused() -> None:
    with pytest.raises(ValueError, match="callbacks: 3 must be a function of a record, or an object with one of"):
        Callbacks([3])
    with pytest.raises(ValueError, match=r"Listener'> must be a function of a record"):
        Callbacks([Listener])
    with pytest.raises(ValueError, match=r"callbacks=<function .* must be a list; give \[<function"):
        Callbacks(values)  # type: ignore[arg-type]


@pytest.mark.parametrize(("module", "name"), [("wandb", "track"), ("mlflow", "Track")])
def test_the_trackers_of_the_page_are_told(
    module: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of docs/training.md, with a tracker that notes its calls."""
    calls: list[tuple[str, Any, Any]] = []

    def noted(call: str) -> Callable[..., Any]:
        return lambda *given, **named: calls.append((call, given, named)) or fake

    methods = ("init", "log", "finish", "log_metrics", "log_artifacts", "end_run")
    fake = SimpleNamespace(**{method: noted(method) for method in methods})
    monkeypatch.setitem(sys.modules, module, fake)  # type: ignore[arg-type]
    block = next(one for one in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if f"import {module}" in one)
    names: dict[str, Any] = {}
    exec(block, names)
    callback = names[name] if name == "track" else names[name]()
    train(make_run(tmp_path, updates=6, evaluate=values(3, 2), callbacks=[callback]))
    logged = [(given[0], named["step"]) for call, given, named in calls if call in ("log", "log_metrics")]
    assert [step for _, step in logged] == [1, 2, 3, 4, 5, 5, 6, 6]
    assert logged[-1][0] == {"evaluation/loss": 2}
    assert calls[-1][0] in ("finish", "end_run")


def test_evaluations_that_do_not_get_better_end_a_training(tmp_path: Path) -> None:
    listener = Listener()
    plan = RunPlan(6, 5, patience=2)
    run = make_run(tmp_path, updates=40, evaluate=values(3, 1, 1, float("nan"), 0), plan=plan, callbacks=[listener])
    train(run)
    assert (run.last, run.best, run.chosen()) == (20, (10, 1), 20)
    assert listener.ends[0].status == "stopped early"
    assert run.checkpoints.updates()[-1] == 20
    run.checkpoints.publish(run.chosen())
    best = make_run(
        tmp_path / "best", updates=40, evaluate=values(3, 1, 1, 2), plan=RunPlan(6, 5, ("loss", False), True, 2)
    )
    train(best)
    assert best.chosen() == 10


@pytest.mark.parametrize("stop", [12, 17, 20])
def test_a_resumed_training_stops_where_it_would_have_stopped(tmp_path: Path, stop: int) -> None:
    plan, found = RunPlan(6, 5, patience=2), (3.0, 1.0, 1.0, 2.0, 0.0)
    train(make_run(tmp_path / "whole", updates=40, evaluate=values(*found), plan=plan))
    run = make_run(tmp_path / "killed", updates=40, evaluate=values(*found), plan=plan)
    trainer = Trainer(Model(), run.settings, None)
    for number, micro_batches in enumerate(run.batches.updates(0, stop), 1):
        run.finished(number, trainer.update(micro_batches, run.learning_rate(number), number), trainer)
    run.journal.close()
    saved = run.checkpoints.newest()
    again = make_run(
        tmp_path / "killed", updates=40, evaluate=values(*found[saved.position.update // 5 :]), plan=plan, saved=saved
    )
    assert again.is_stopped == (stop == 20)
    if again.is_stopped:
        again.journal.close()
    else:
        train(again)
    assert again.last == 20
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_a_checkpoint_of_an_older_version_has_waited_for_nothing(tmp_path: Path) -> None:
    train(make_run(tmp_path, evaluate=values(1, 2, 3, 4)))
    file = tmp_path / "checkpoints" / "step-000020" / "trainer.json"
    assert '"waited": 3' in file.read_text()
    file.write_text(file.read_text().replace(',\n  "waited": 3', ""))
    saved = Checkpoints(tmp_path).newest()
    assert saved is not None
    assert (saved.position.update, saved.position.waited) == (20, 0)


def test_early_stopping_needs_evaluations_and_a_number_of_them(tmp_path: Path) -> None:
    given = training_cases.make(tmp_path, "mlm") | {"output": tmp_path / "run"}
    for wrong in (0, True, 1.5):
        with pytest.raises(ValueError, match=r"early_stopping=.* must be a number of evaluations of at least 1"):
            Training(**given, early_stopping=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="early_stopping=2 needs validation data to evaluate; omit it"):
        Training(**given | {"validation": None}, early_stopping=2)
    with pytest.raises(ValueError, match=r"metric='accuracy' is not measured here; it must be one of loss, perplexity"):
        Training(**given, early_stopping=2, metric="accuracy", framework="pt").run()
