"""What happens between updates, with a numpy trainer: the log, checkpoints, signals, a full disk, a loss of nan."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_standin import Model, Trainer, files, log, make_run, train

from roberta import CheckpointError
from roberta.common.training import checkpoints as module
from roberta.common.training.checkpoints import Checkpoints, differences
from roberta.common.training.run import Interrupted, RunPlan


def losses(model: Model) -> dict[str, float]:
    return {"loss": float(np.abs(model.weights - 2).mean())}


def stopped_after(number: int, how: Any) -> Any:
    """An `evaluate` that calls a function after some evaluations."""

    def evaluate(model: Model) -> dict[str, float]:
        evaluate.calls += 1  # type: ignore[attr-defined]
        if evaluate.calls == number:  # type: ignore[attr-defined]
            how()
        return losses(model)

    evaluate.calls = 0  # type: ignore[attr-defined]
    return evaluate


def test_every_update_has_a_line_and_every_evaluation_one_of_its_own(tmp_path: Path) -> None:
    train(make_run(tmp_path, evaluate=losses))
    entries = log(tmp_path)
    assert [entry["update"] for entry in entries if "loss" in entry] == list(range(1, 21))
    assert [entry["update"] for entry in entries if "evaluation" in entry] == [5, 10, 15, 20]
    assert entries[1]["epoch"] == 0.8
    assert [entry["learning_rate"] for entry in entries[:2]] == [0.025, 0.05]  # warm-up of 2 updates
    assert all("seconds" not in entry for entry in entries)


def test_the_newest_checkpoints_and_the_best_are_kept(tmp_path: Path) -> None:
    values = iter([3.0, 1.0, 2.0, 4.0])
    run = make_run(tmp_path, evaluate=lambda model: {"loss": next(values)}, keep=2)
    train(run)
    assert run.checkpoints.updates() == [10, 18, 20]
    assert run.best == (10, 1.0)


def test_an_evaluation_whose_loss_is_nan_is_never_the_best(tmp_path: Path) -> None:
    """The argmax of nan logits is the first class, which does have an accuracy."""
    values = iter([(0.9, 0.5), (float("nan"), 0.8), (0.7, 0.6), (0.7, 0.4)])
    plan = RunPlan(6, 5, ("accuracy", True))
    run = make_run(
        tmp_path, evaluate=lambda model: dict(zip(("loss", "accuracy"), next(values), strict=True)), plan=plan
    )
    train(run)
    assert run.best == (15, 0.6)


@pytest.mark.parametrize("stop", [1, 6, 7, 13, 20])
def test_a_training_that_was_killed_goes_on_to_the_same_bytes(tmp_path: Path, stop: int) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(make_run(whole, evaluate=losses))
    run = make_run(killed, evaluate=losses)
    trainer = Trainer(Model(), run.settings, None)
    for number, micro_batches in enumerate(run.batches.updates(0, stop), 1):
        run.finished(number, trainer.update(micro_batches, run.learning_rate(number), number), trainer)
    run.journal.close()
    with (killed / "metrics.jsonl").open("ab") as file:
        file.write(b'{"update": ')  # a line that was being written
    train(make_run(killed, evaluate=losses, saved=run.checkpoints.newest()))
    assert files(killed) == files(whole)
    assert [entry["update"] for entry in log(killed, "timing.jsonl")] == list(range(1, 21))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_update_saves_and_goes_on_to_the_same_bytes(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(make_run(whole, evaluate=losses))
    before = signal.getsignal(number)
    run = make_run(stopped, evaluate=stopped_after(2, lambda: os.kill(os.getpid(), number)))
    with pytest.raises(Interrupted, match="step-000010 is written; resume from it with --resume") as caught:
        train(run)
    assert caught.value.status == status
    assert signal.getsignal(number) is before
    assert run.checkpoints.updates()[-1] == 10
    train(make_run(stopped, evaluate=losses, saved=run.checkpoints.newest()))
    assert {name: content for name, content in files(stopped).items() if "trainer" not in name} == {
        name: content for name, content in files(whole).items() if "trainer" not in name
    }


def test_signals_are_the_callers_again_behind_a_training(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    train(make_run(tmp_path, updates=2))
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_loss_that_is_not_finite_saves_the_state_before_it_and_says_what_to_try(tmp_path: Path) -> None:
    train(make_run(tmp_path / "short", updates=8))
    with pytest.raises(
        ValueError, match=r"update 9 has a loss of nan; the weights that gave it are in .*step-000008"
    ) as error:
        train(make_run(tmp_path / "bad"), bad=9)
    assert "learning_rate" in str(error.value)
    saved = Checkpoints(tmp_path / "bad").newest()
    assert saved is not None
    assert saved.position.update == saved.state.step == 8


def test_a_loss_that_is_not_finite_costs_no_older_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path, evaluate=None, keep=1)  # saves every 6 updates
    with pytest.raises(ValueError, match=r"step-000010, older ones beside it in step-000006\."):
        train(run, bad=11)
    assert run.checkpoints.updates() == [6, 10]


def test_a_full_disk_at_a_save_keeps_the_older_checkpoints_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = module.write_folder

    def full(folder: Path, *arguments: Any, **options: Any) -> None:
        if "000012" in str(folder):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(folder, *arguments, **options)

    monkeypatch.setattr(module, "write_folder", full)
    with pytest.raises(CheckpointError, match=r"step-000012 could not be written.*No space left.*step-000010 is kept"):
        train(make_run(tmp_path, evaluate=losses))
    assert Checkpoints(tmp_path).updates() == [6, 10]


def test_the_model_of_a_checkpoint_is_given_without_what_only_a_training_needs(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    train(run)
    run.checkpoints.publish(18)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {
        "config.json", "model.safetensors", "vocab.json", "metrics.jsonl", "timing.jsonl",
    }  # fmt: skip
    assert (tmp_path / "model.safetensors").read_bytes() == (
        tmp_path / "checkpoints/step-000018/model.safetensors"
    ).read_bytes()
    assert len(run.checkpoints.updates()) == 2


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    train(run)
    file = run.checkpoints.path(20) / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.warns(UserWarning, match="step-000020.*cut short.*trying an older checkpoint"):
        saved = run.checkpoints.newest()
    assert saved is not None
    assert saved.position.update == 18


def test_a_log_shorter_than_at_the_checkpoint_is_an_error(tmp_path: Path) -> None:
    train(make_run(tmp_path))
    (tmp_path / "metrics.jsonl").write_bytes(b"")
    with pytest.raises(
        CheckpointError, match=r"metrics\.jsonl has 0 bytes, and had \d+ when the checkpoint was written"
    ):
        make_run(tmp_path, saved=Checkpoints(tmp_path).newest())


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    train(run)
    litter = [".step-000007.12.0a0b0c0d.tmp", ".step-000003.removed.tmp", ".step-000009.lock"]
    for name in litter[:2]:
        (run.checkpoints.folder / name).mkdir()
    (run.checkpoints.folder / litter[2]).touch()
    (run.checkpoints.folder / ".notes").touch()
    run.checkpoints.remove_litter()
    assert sorted(path.name for path in run.checkpoints.folder.iterdir()) == [".notes", "step-000018", "step-000020"]


def test_differences_name_each_setting_with_both_values() -> None:
    then = {"task": "mlm", "recipe": {"power": 1.0, "betas": [0.9, 0.98]}, "files": {"a.txt": "1f"}}
    now = {"task": "mlm", "recipe": {"power": 2.0, "betas": (0.9, 0.98)}, "files": {"b.txt": "2e"}}
    assert sorted(differences(then, now)) == [
        "files.a.txt: 1f then, not there now",
        "files.b.txt: not there then, 2e now",
        "recipe.power: 1.0 then, 2.0 now",
    ]
