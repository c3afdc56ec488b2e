"""The updates of the weights, in each framework: what an update changes, what it leaves alone, and resuming."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import updates
from backends import Arrays, Backend, assert_close
from updates import CASES, RECIPE

from roberta.common.parameters import kind_of
from roberta.common.training.data.batches import MicroBatch

RATE = RECIPE.learning_rate


def trained(backend: Backend, case: str, folder: Path, batches: list[MicroBatch], recipe: Any = RECIPE) -> Arrays:
    """The weights after two updates."""
    trainer = updates.trainer(backend, case, folder, recipe)
    for number in (1, 2):
        trainer.update(batches, RATE, number)
    return updates.copied(backend.parameters(trainer.model))


def before(backend: Backend, case: str, folder: Path) -> Arrays:
    return updates.copied(backend.parameters(updates.trainer(backend, case, folder).model))


def assert_same(found: Arrays, wanted: Arrays, bound: float = 1e-10) -> None:
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert_close(found[name], wanted[name], bound, name)


@pytest.mark.parametrize("case", CASES)
def test_the_loss_of_one_batch_falls(backend: Backend, case: str, tmp_path: Path) -> None:
    batches = updates.micro_batches(case, updates.inputs(case, updates.config_of(case)))
    trainer = updates.trainer(backend, case, updates.folder_of(tmp_path, case))
    losses = [trainer.update(batches, 1e-2, number) for number in range(1, 16)]
    assert losses[-1] < 0.6 * losses[0], losses


@pytest.mark.parametrize("case", ["mlm", "clm", "tokens", "choices"])
def test_micro_batches_of_an_update_add_up_to_the_whole(backend: Backend, case: str, tmp_path: Path) -> None:
    arrays = updates.inputs(case, updates.config_of(case))
    folder = updates.folder_of(tmp_path, case)
    whole, parts = (
        trained(backend, case, folder, updates.micro_batches(case, arrays, size), replace(RECIPE, clip_norm=0.3))
        for size in (6, 2)
    )
    assert_same(parts, whole)


def test_the_loss_of_an_update_is_the_weighted_sum_of_its_micro_batches(backend: Backend, tmp_path: Path) -> None:
    batches = updates.micro_batches("mlm", updates.inputs("mlm", updates.config_of("mlm")), 2)
    folder = updates.folder_of(tmp_path, "mlm")
    single = [
        updates.trainer(backend, "mlm", folder).update([replace(batch, weight=1.0)], RATE, 1) for batch in batches
    ]
    wanted = sum(batch.weight * loss for batch, loss in zip(batches, single, strict=True))
    assert updates.trainer(backend, "mlm", folder).update(batches, RATE, 1) == pytest.approx(wanted, rel=1e-12)


def test_a_head_at_masked_tokens_alone_gives_the_loss_of_the_whole_head(backend: Backend, tmp_path: Path) -> None:
    arrays = updates.inputs("mlm", updates.config_of("mlm"))
    folder = updates.folder_of(tmp_path, "mlm")
    model = backend.load("ForMaskedLM", folder)
    wanted = backend.run(model, arrays)["loss"]
    found = updates.trainer(backend, "mlm", folder).update(updates.micro_batches("mlm", arrays), RATE, 1)
    assert found == pytest.approx(float(wanted), rel=1e-12)


def test_a_head_at_masked_tokens_alone_gives_the_gradients_of_the_whole_head(backend: Backend, tmp_path: Path) -> None:
    """AdamW's first moment after one update is (1 - beta1) times the gradient."""
    arrays = updates.inputs("mlm", updates.config_of("mlm"))
    folder = updates.folder_of(tmp_path, "mlm")
    wanted = backend.gradients(backend.load("ForMaskedLM", folder), arrays, lambda output: output.loss)
    trainer = updates.trainer(backend, "mlm", folder)
    trainer.update(updates.micro_batches("mlm", arrays), RATE, 1)
    moments = trainer.state().moments
    scale = max(np.abs(gradient).max() for gradient in wanted.values())
    for name, gradient in wanted.items():
        found = np.asarray(moments[f"exp_avg.{name}"]) / (1 - RECIPE.beta1)
        assert np.abs(found - gradient).max() < 1e-10 * scale, name


def test_an_update_is_that_of_decoupled_adamw(backend: Backend, tmp_path: Path) -> None:
    """Two updates by the formula, from the gradients of the model's own loss."""
    arrays = updates.inputs("tokens", updates.config_of("tokens"))
    folder = updates.folder_of(tmp_path, "tokens")
    first = before(backend, "tokens", folder)
    gradients = backend.gradients(backend.load("ForTokenClassification", folder), arrays, lambda output: output.loss)
    trainer = updates.trainer(backend, "tokens", folder)
    trainer.update(updates.micro_batches("tokens", arrays), RATE, 1)
    found = backend.parameters(trainer.model)
    scale = max(np.abs(gradient).max() for gradient in gradients.values())
    for name, gradient in gradients.items():
        step = gradient / (np.abs(gradient) + RECIPE.epsilon)  # both corrections of the bias are 1 / (1 - beta)
        wanted = first[name] * (1 - RATE * RECIPE.weight_decay) - RATE * step
        is_sure = np.abs(gradient) > 1e-10 * scale  # where the gradient is rounding, so is the step
        is_sure |= gradient == 0
        assert_close(np.where(is_sure, found[name], 0), np.where(is_sure, wanted, 0), 1e-8, name)


def test_norms_and_biases_can_be_left_undecayed(backend: Backend, tmp_path: Path) -> None:
    arrays = updates.inputs("mlm", updates.config_of("mlm"))
    folder = updates.folder_of(tmp_path, "mlm")
    batches = updates.micro_batches("mlm", arrays)
    strong = replace(RECIPE, weight_decay=10.0, decays_all=False)
    spared = trained(backend, "mlm", folder, batches, strong)
    free = trained(backend, "mlm", folder, batches, replace(RECIPE, weight_decay=0.0))
    start = before(backend, "mlm", folder)
    for name, array in spared.items():
        shrunk = np.abs(array).sum() < 0.99 * np.abs(start[name]).sum()
        if kind_of(name) in ("dense", "embedding"):
            assert shrunk, name
        else:  # at most two steps away from its value without decay: second gradients differ
            assert np.abs(array - free[name]).max() < 2.5 * RATE, name


def test_gradients_are_clipped_to_one_norm_together(backend: Backend, tmp_path: Path) -> None:
    arrays = updates.inputs("mlm", updates.config_of("mlm"))
    folder = updates.folder_of(tmp_path, "mlm")
    norms = []
    for clip in (0.0, 0.01):
        trainer = updates.trainer(backend, "mlm", folder, replace(RECIPE, clip_norm=clip))
        trainer.update(updates.micro_batches("mlm", arrays), RATE, 1)
        moments = [array for name, array in trainer.state().moments.items() if name.startswith("exp_avg.")]
        norms.append(np.sqrt(sum((np.asarray(array) ** 2).sum() for array in moments)) / (1 - RECIPE.beta1))
    assert norms[0] > 0.1
    assert norms[1] == pytest.approx(0.01, rel=1e-9)


def test_a_loss_that_is_not_finite_changes_nothing(backend: Backend, tmp_path: Path) -> None:
    folder = updates.folder_of(tmp_path, "numbers")
    arrays = updates.inputs("numbers", updates.config_of("numbers"))
    trainer = updates.trainer(backend, "numbers", folder)
    trainer.update(updates.micro_batches("numbers", arrays), RATE, 1)
    weights, state = updates.copied(backend.parameters(trainer.model)), trainer.state()
    moments = updates.copied(dict(state.moments))
    broken = {**arrays, "labels": np.where(np.arange(6) == 5, np.nan, arrays["labels"]).astype(np.float32)}
    assert not np.isfinite(trainer.update(updates.micro_batches("numbers", broken, 2), RATE, 2))
    assert trainer.state().step == state.step == 1
    for wanted, found in ((weights, backend.parameters(trainer.model)), (moments, trainer.state().moments)):
        for name in wanted:
            np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


def test_a_training_that_was_saved_goes_on_to_the_bit(backend: Backend, tmp_path: Path) -> None:
    from roberta.common.training.optimizer_state import load_training_state, save_training_state

    dropout = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}
    config = checkpoints.small_config("ForMaskedLM", **dropout)
    folder = updates.folder_of(tmp_path, "mlm", **dropout)
    batches = {n: updates.micro_batches("mlm", updates.inputs("mlm", config, seed=n), 3) for n in range(1, 5)}
    kept = updates.trainer(backend, "mlm", folder, dtype="float32")
    losses = [kept.update(batches[number], RATE, number) for number in (1, 2)]
    kept.model.save_pretrained(tmp_path / "saved")
    save_training_state(tmp_path / "saved", kept.state())
    losses = [kept.update(batches[number], RATE, number) for number in (3, 4)]
    state = load_training_state(tmp_path / "saved")
    again = updates.trainer(backend, "mlm", tmp_path / "saved", resumed=state, dtype="float32")
    assert [again.update(batches[number], RATE, number) for number in (3, 4)] == losses
    found, wanted = backend.parameters(again.model), backend.parameters(kept.model)
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


def test_dropout_follows_the_seed_and_the_number_of_the_update(backend: Backend, tmp_path: Path) -> None:
    dropout = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3}
    batches = updates.micro_batches("mlm", updates.inputs("mlm", updates.config_of("mlm")))
    folder = updates.folder_of(tmp_path, "mlm", **dropout)
    losses = [
        updates.trainer(backend, "mlm", folder, seed=seed).update(batches, RATE, number)
        for seed, number in ((0, 1), (0, 1), (0, 2), (1, 1))
    ]
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


def test_a_recipe_has_its_own_dropout(backend: Backend, tmp_path: Path) -> None:
    batches = updates.micro_batches("mlm", updates.inputs("mlm", updates.config_of("mlm")))
    folder = updates.folder_of(tmp_path, "mlm")
    wanted, found = (
        updates.trainer(backend, "mlm", folder, replace(RECIPE, dropout=dropout)).update(batches, RATE, 1)
        for dropout in (0.0, 0.4)
    )
    assert found != pytest.approx(wanted, rel=1e-6)


def test_a_model_of_another_task_is_refused(backend: Backend, tmp_path: Path) -> None:
    module = importlib.import_module(f"roberta.{backend.name}.training")
    model = backend.load("ForTokenClassification", updates.folder_of(tmp_path, "tokens"))
    with pytest.raises(ValueError, match=r"task 'mlm' trains .*ForMaskedLM, and the model is a"):
        module.Trainer(model, updates.settings("mlm"))
