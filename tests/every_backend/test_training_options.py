"""What training users expect, in each framework: every option changes what it promises, as a loop by hand does."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import updates
from backends import Backend, assert_close
from backends import backend as get_backend
from hand_written_training import trained_by_hand

from roberta import CheckpointError
from roberta.common.training.data.batches import MicroBatch
from roberta.common.training.loss_options import LossOptions
from roberta.common.training.loss_scale import LossScale
from roberta.common.training.optimizer_state import MOMENTS, load_training_state, save_training_state
from roberta.common.training.recipes import Recipe, average_share

RECIPE = Recipe(learning_rate=2e-3, batch_size=6, weight_decay=0.1)
RATES = (2e-3, 1e-3, 3e-3)
CLASS_WEIGHTS = (0.5, 3.0, 1.0, 2.0, 0.1)
FROZEN = (
    "roberta.embeddings.position_embeddings.weight",
    "roberta.embeddings.LayerNorm.weight",
    "roberta.encoder.layer.0.attention.self.query.weight",
    "roberta.encoder.layer.1.output.dense.bias",
    "classifier.weight",
)
# Name -> what the recipe, and what the settings are given.
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "label smoothing": ({"label_smoothing": 0.2}, {}),
    "class weights": ({}, {"class_weights": CLASS_WEIGHTS}),
    "layer decay": ({"layer_decay": 0.5, "decays_all": True}, {}),
    "frozen": ({}, {"frozen": FROZEN}),
    "gradient checkpointing": ({}, {"gradient_checkpointing": True}),
    "averages": ({"ema_decay": 0.8}, {}),
    "everything": (
        {"label_smoothing": 0.2, "layer_decay": 0.5, "ema_decay": 0.8},
        {"class_weights": CLASS_WEIGHTS, "frozen": FROZEN, "gradient_checkpointing": True},
    ),
}
ALWAYS = ("everything",)  # the others take long to compile in TensorFlow and Flax, and are for the slow lane


def cases() -> list[Any]:
    return [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.slow) for name in OPTIONS]


@pytest.mark.parametrize("name", cases())
def test_updates_with_an_option_are_those_of_a_loop_by_hand(backend: Backend, name: str, tmp_path: Path) -> None:
    """Micro-batches of 2 of 6 rows, so what is averaged over the whole batch shows."""
    pytest.importorskip("torch", reason="torch is not installed")
    of_recipe, options = OPTIONS[name]
    recipe = replace(RECIPE, **of_recipe)
    folder = updates.folder_of(tmp_path, "tokens", num_hidden_layers=2)
    batches = [updates.inputs("tokens", updates.config_of("tokens"), seed=seed) for seed in range(len(RATES))]
    wanted = trained_by_hand(folder, batches, RATES, recipe, options)
    trainer = updates.trainer(backend, "tokens", folder, recipe, **options)
    start = updates.copied(backend.parameters(trainer.model))
    for number, (arrays, rate) in enumerate(zip(batches, RATES, strict=True), 1):
        weights = options.get("class_weights")
        micro_batches = updates.micro_batches("tokens", arrays, 2, weights)
        assert trainer.update(micro_batches, rate, number) == pytest.approx(wanted.losses[number - 1], rel=1e-10)
        found = backend.parameters(trainer.model)
        expected = wanted.weights if recipe.ema_decay is None else wanted.averages
        for parameter, value in expected[number - 1].items():
            assert_close(found[parameter], value, 1e-9, parameter)
    state = trainer.state()
    assert state.weights.keys() == (set() if recipe.ema_decay is None else set(state.parameters))
    for parameter, value in state.weights.items():
        assert_close(value, wanted.weights[-1][parameter], 1e-9, parameter)
    for name in options.get("frozen", ()):
        np.testing.assert_array_equal(found[name], start[name])
        assert name not in trainer.state().parameters


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weights", [None, CLASS_WEIGHTS])
def test_a_loss_is_that_of_torch(backend: Backend, smoothing: float, weights: Any) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    losses = importlib.import_module(f"roberta.{backend.name}.losses")
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(4, 7, 5), scale=3), rng.integers(0, 5, (4, 7))
    labels[1, 2:] = -100
    weight = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    judge = torch.nn.CrossEntropyLoss(weight, label_smoothing=smoothing)
    wanted = float(judge(torch.tensor(logits).flatten(0, 1), torch.tensor(labels).flatten()))
    given = [backend.constant(array) for array in (logits, labels)]
    options = LossOptions(smoothing, weights)
    assert float(losses.token_loss(*given, options=options)) == pytest.approx(wanted, rel=1e-12)
    wanted = float(judge(torch.tensor(logits[:, :-1]).flatten(0, 1), torch.tensor(labels[:, 1:]).flatten()))
    found = losses.next_token_loss(*given, options=options)
    assert float(found) == pytest.approx(wanted, rel=1e-12)


def test_a_loss_without_classes_refuses_to_be_smoothed(backend: Backend, tmp_path: Path) -> None:
    trainer = updates.trainer(
        backend, "numbers", updates.folder_of(tmp_path, "numbers"), replace(RECIPE, label_smoothing=0.1)
    )
    arrays = updates.inputs("numbers", updates.config_of("numbers"))
    with pytest.raises(ValueError, match=r"label_smoothing=0.1 is for rows that have one class each.*'regression'"):
        trainer.update(updates.micro_batches("numbers", arrays), 1e-3, 1)


def test_weights_of_another_number_of_classes_are_refused(backend: Backend, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"class_weights=\[1.0, 2.0\] are 2 numbers, and the model has 5 labels"):
        updates.trainer(backend, "tokens", updates.folder_of(tmp_path, "tokens"), class_weights=(1.0, 2.0))


def layers_computed(backend: Backend, trainer: Any, batches: list[MicroBatch], monkeypatch: pytest.MonkeyPatch) -> int:
    """How often attention is computed in an update; in Flax, how many products its program has."""
    layers = importlib.import_module(f"roberta.{backend.name}.layers")
    if backend.name == "flax":
        inputs, draw = batches[0].inputs, np.zeros(2, np.uint32)
        program = trainer._gradients.lower(trainer.train_state.params, {}, inputs, draw, np.float64(1.0))
        return str(program.as_text()).count("stablehlo.dot_general")
    calls = []
    method = {"pt": "forward", "tf": "call"}[backend.name]
    original = getattr(layers.SelfAttention, method)
    monkeypatch.setattr(layers.SelfAttention, method, lambda *a, **k: (calls.append(1), original(*a, **k))[1])
    trainer.update(batches, 1e-3, 1)
    monkeypatch.setattr(layers.SelfAttention, method, original)
    return len(calls)


def test_gradient_checkpointing_computes_layers_again_with_the_same_dropout(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropout = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}
    folder = updates.folder_of(tmp_path, "tokens", **dropout)
    batches = updates.micro_batches("tokens", updates.inputs("tokens", updates.config_of("tokens")))
    counts, moments = [], []
    for is_checkpointing in (False, True):
        trainer = updates.trainer(backend, "tokens", folder, gradient_checkpointing=is_checkpointing)
        counts.append(layers_computed(backend, trainer, batches, monkeypatch))
        if backend.name == "flax":
            trainer.update(batches, 1e-3, 1)
        moments.append(updates.copied(dict(trainer.state().moments)))
    assert counts[1] > counts[0]
    for kind in MOMENTS:  # of all parameters together: the gradient of a key's bias is rounding alone
        names = [name for name in moments[0] if name.startswith(f"{kind}.")]
        largest = max(np.abs(moments[0][name]).max() for name in names)
        for name in names:
            assert np.abs(moments[1][name] - moments[0][name]).max() < 1e-10 * largest, name


def test_a_run_that_stops_early_makes_no_further_update(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = updates.ShortRun(updates.settings("tokens"), updates.Listed("tokens", updates.config_of("tokens"), 4, 4), 5)
    model = backend.load("ForTokenClassification", updates.folder_of(tmp_path, "tokens"))
    run.stops_at = 2
    training = importlib.import_module(f"roberta.{backend.name}.training")
    monkeypatch.setattr(training.Trainer, "update", lambda *arguments: 1.0)
    training.train(model, run)
    assert len(run.losses) == 2


def test_averages_are_those_of_optax() -> None:
    optax = pytest.importorskip("optax", reason="optax is not installed")
    rng, decay = np.random.default_rng(0), 0.9
    peer = optax.ema(decay, debias=True)
    state, average = peer.init(np.zeros(3, np.float32)), np.zeros(3)
    for number in range(1, 12):
        weights = rng.normal(size=3).astype(np.float32)
        wanted, state = peer.update(weights, state)
        average = average + average_share(number, decay) * (weights - average)
        np.testing.assert_allclose(average, wanted, rtol=1e-5)


def test_float16_scales_the_loss_so_that_gradients_neither_vanish_nor_overflow(
    backend: Backend, tmp_path: Path
) -> None:
    """A weight of a micro-batch multiplies the gradients: 1e-7 of them is 0 in float16, and 1e3 of them overflows."""
    folder = updates.folder_of(tmp_path, "tokens")
    (batch,) = updates.micro_batches("tokens", updates.inputs("tokens", updates.config_of("tokens")))
    name = "exp_avg.roberta.encoder.layer.0.output.dense.weight"
    full = updates.trainer(get_backend("pt"), "tokens", folder, dtype="float32")  # which compiles nothing
    low = updates.trainer(backend, "tokens", folder, dtype="float16")
    losses = [made.update([replace(batch, weight=1e-7)], 1e-3, 1) for made in (full, low)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    wanted, found = (np.array(made.state().moments[name]) for made in (full, low))
    assert 0 < 10 * np.abs(wanted).max() < 3e-8, "the least number of float16 is 6e-8"
    assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()
    assert low.state().loss_scale == (2.0**16, 1)
    assert np.isfinite(low.update([replace(batch, weight=1e3)], 1e-3, 2))
    state = low.state()
    assert state.loss_scale is not None
    assert state.loss_scale[0] < 2.0**16
    assert state.step == 2
    assert {array.dtype.name for array in backend.parameters(low.model).values()} == {"float32"}
    save_training_state(tmp_path / "state", state)
    assert load_training_state(tmp_path / "state").loss_scale == state.loss_scale
    again = updates.trainer(backend, "tokens", folder, dtype="float16", resumed=load_training_state(tmp_path / "state"))
    assert again.state().loss_scale == state.loss_scale


def test_a_loss_scale_is_halved_by_an_overflow_and_doubled_after_2000_updates() -> None:
    scale = LossScale(True)
    assert scale.overflows(1.0, np.inf)
    assert not scale.overflows(np.inf, np.inf), "a loss that is not finite is no matter of the scale"
    for _ in range(1999):
        scale.made()
    assert scale.state() == (2.0**15, 1999)
    scale.made()
    assert scale.state() == (2.0**16, 0)
    while scale.overflows(1.0, np.nan):
        pass
    assert scale.value == 1, "gradients that are not finite without a scale are an error of the training"
    assert LossScale(False).state() is None


def test_averages_and_the_weights_that_were_trained_belong_together(backend: Backend, tmp_path: Path) -> None:
    folder, averaged = updates.folder_of(tmp_path, "tokens"), replace(RECIPE, ema_decay=0.8)
    plain = updates.trainer(backend, "tokens", folder).state()
    with pytest.raises(CheckpointError, match=r"trained\.safetensors does not hold .*\n  missing: "):
        updates.trainer(backend, "tokens", folder, averaged, resumed=plain)
    beside = updates.trainer(backend, "tokens", folder, averaged).state()
    with pytest.raises(CheckpointError, match=r"not averaged in this training: "):
        updates.trainer(backend, "tokens", folder, resumed=beside)
