"""Training in Flax only: compiled programs, donated memory, a mesh of devices, a TrainState by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import updates
from backends import Arrays, assert_close, backend

from roberta.common.training.data.batches import MicroBatch
from roberta.common.training.recipes import Recipe, Settings

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

RECIPE = Recipe(learning_rate=1e-2, batch_size=4, dropout=0.0, clip_norm=1.0)
LAYERS = {"num_hidden_layers": 1}  # compilation takes most of the time of these tests


def micro_batch(seed: int, rows: int = 3, seq: int = 12, weight: float = 1.0) -> MicroBatch:
    """Random ids, of which seven are masked; the last row has padding."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(5, 61, (rows, seq))
    ids[-1, seq // 2 :] = 1
    positions, labels = np.zeros(64, np.int64), np.full(64, -100)
    positions[:7], labels[:7] = rng.permutation(seq)[:7], rng.integers(5, 61, 7)
    inputs = {"input_ids": ids, "attention_mask": (ids != 1).astype(np.int64), "positions": positions, "labels": labels}
    return MicroBatch(inputs, weight)


def trainer(folder: Path, dtype: Any = "float64", recipe: Recipe = RECIPE, **options: Any) -> Any:
    from roberta.flax.training import Trainer

    made = checkpoints.make(folder, "ForMaskedLM", **LAYERS)
    model = backend("flax").load("ForMaskedLM", made, dtype="float64" if dtype == "float64" else "float32")
    return Trainer(model, Settings("mlm", recipe, 10, dtype=dtype, **options))


def test_a_training_compiles_a_program_for_each_shape_and_two_more(compiled: list[str], tmp_path: Path) -> None:
    made = trainer(tmp_path)
    compiled.clear()
    for number in range(1, 5):
        parts = [micro_batch(number, 3, weight=0.5), micro_batch(-number % 7, 2, weight=0.5)]
        made.update(parts[: 1 + number % 2], 1e-3 / number, number)
    assert len(compiled) == 2 + 2


def test_the_callers_arrays_outlive_an_update(tmp_path: Path) -> None:
    from roberta.flax.training import Trainer

    model = backend("flax").load("ForMaskedLM", checkpoints.make(tmp_path, "ForMaskedLM", **LAYERS))
    given = model.params
    before = jax.tree.map(np.array, given)
    Trainer(model, Settings("mlm", RECIPE, 10, dtype="float64")).update([micro_batch(0)], 1e-2, 1)
    jax.tree.map(np.testing.assert_array_equal, given, before)


def test_infer_and_saving_see_the_weights_of_each_update(tmp_path: Path) -> None:
    made = trainer(tmp_path / "first")
    inputs = {name: micro_batch(9).inputs[name] for name in ("input_ids", "attention_mask")}
    for number in (1, 2):
        made.update([micro_batch(number)], 1e-2, number)
        made.model.save_pretrained(tmp_path / "saved")
        loaded = backend("flax").load("ForMaskedLM", tmp_path / "saved")
        wanted = np.where(inputs["attention_mask"][..., None] > 0, np.asarray(loaded(**inputs).logits), 0)
        assert_close(made.model.infer(inputs)["logits"], wanted, 1e-10)


def test_the_memory_of_the_weights_is_used_again(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    old = made.train_state
    made.update([micro_batch(1)], 1e-2, 1)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((old.params, old.opt_state)))


def test_a_gradient_that_is_not_finite_changes_nothing_and_is_said(tmp_path: Path) -> None:
    """The gradients are set by hand: a finite loss hardly ever has such gradients."""
    made = trainer(tmp_path, "float32")
    made._gradients = lambda *arguments: (jax.numpy.float32(1.5), jax.tree.map(infinite, made.train_state.params))
    before = jax.tree.map(np.array, made.model.params)
    assert not np.isfinite(made.update([micro_batch(1)], 1e-2, 1))
    jax.tree.map(np.testing.assert_array_equal, made.model.params, before)
    assert made.state().step == 0


def infinite(leaf: Any) -> Any:
    return jax.numpy.full_like(leaf, np.inf)


def test_bfloat16_computes_in_it_and_keeps_weights_in_float32(tmp_path: Path) -> None:
    low, high = (trainer(tmp_path / dtype, dtype) for dtype in ("bfloat16", "float32"))
    losses = [made.update([micro_batch(1)], 1e-2, 1) for made in (low, high)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(low.model.params)} == {"float32"}


def test_float64_that_is_switched_off_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer(tmp_path, "float32")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(ValueError, match="float64 is switched off in JAX"):
            type(made)(made.model, Settings("mlm", RECIPE, 10, dtype="float64"))
    finally:
        jax.config.update("jax_enable_x64", before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_ids": np.full((3, 12), 61)}, "input_ids holds 61, allowed are 0 to 60"),
        ({"labels": np.full(64, 99)}, "labels holds 99; allowed are 0 to 60"),
        (
            {"input_ids": np.full((3, 29), 5), "attention_mask": np.ones((3, 29), int)},
            "this model takes 28 tokens: truncate the examples",
        ),
    ],
    ids=["id", "label", "length"],
)
def test_inputs_that_are_not_of_the_model_are_named(change: Arrays, message: str, tmp_path: Path) -> None:
    batch = micro_batch(0)
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path).update([MicroBatch({**batch.inputs, **change}, 1.0)], 1e-2, 1)


def test_a_train_state_by_hand_makes_the_trainers_update(tmp_path: Path) -> None:
    """The module in a user's own loop: flax's TrainState, optax.adamw, the whole head."""
    from flax.training.train_state import TrainState

    made = trainer(tmp_path, recipe=Recipe(1e-2, 4, dropout=0.0))
    batch, model = micro_batch(1), made.model
    ids = batch.inputs["input_ids"]
    labels = np.full(ids.size, -100)
    labels[batch.inputs["positions"][:7]] = batch.inputs["labels"][:7]
    inputs = {name: batch.inputs[name] for name in ("input_ids", "attention_mask")}
    optimizer = optax.adamw(1e-2, 0.9, 0.98, eps=1e-6, weight_decay=0.1)
    params = jax.tree.map(jax.numpy.copy, model.params)
    state = TrainState.create(apply_fn=model.module.apply, params=params, tx=optimizer)
    gradient = jax.value_and_grad(
        lambda params: state.apply_fn({"params": params}, **inputs, labels=labels.reshape(ids.shape)).loss
    )
    loss, gradients = jax.jit(gradient)(state.params)
    state = state.apply_gradients(grads=gradients)
    assert made.update([batch], 1e-2, 1) == pytest.approx(float(loss), rel=1e-12)
    # if a gradient is only rounding, Adam's update is its sign: such weights have no values to compare
    sure = jax.tree.map(lambda gradient: np.abs(gradient) > 1e-9, gradients)
    jax.tree.map(
        lambda found, wanted, is_sure: assert_close(np.where(is_sure, found, 0), np.where(is_sure, wanted, 0), 1e-9),
        made.model.params, state.params, sure,
    )  # fmt: skip


def losses_and_weights(folder: Path, sharding: str) -> dict[str, Any]:
    """Two updates of two micro-batches, three rows and two, which four devices do not divide."""
    given = {"class_weights": None, "frozen": updates.FROZEN, "gradient_checkpointing": True, "sharding": sharding}
    made = trainer(folder, recipe=updates.with_options(Settings("mlm", RECIPE, 10)).recipe, **given)
    parts = [micro_batch(1, 3, weight=0.75), micro_batch(2, 2, weight=0.25)]
    losses = [made.update(parts, 1e-2, number) for number in (1, 2)]
    sizes = {leaf.addressable_shards[0].data.size / leaf.size for leaf in jax.tree.leaves(made.train_state.params)}
    inputs = {name: parts[0].inputs[name] for name in ("input_ids", "attention_mask")}
    logits = made.model.infer(inputs)["logits"]
    state = made.state()
    weights = {name: array.tolist() for name, array in state.weights.items()}
    return {
        "losses": losses, "share": min(sizes), "logits": logits.tolist(), "step": state.step, "weights": weights
    }  # fmt: skip


def test_a_training_over_four_devices_is_that_of_one(tmp_path: Path) -> None:
    flags = {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_ENABLE_X64": "1",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path])
    command = [sys.executable, __file__, str(tmp_path)]
    child = subprocess.run(command, env={**os.environ, **flags, "PYTHONPATH": path}, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr[-2000:]
    found = json.loads(child.stdout.splitlines()[-1])
    assert [found[sharding]["share"] for sharding in ("none", "data", "full")] == [1, 1, 0.25]
    for sharding in ("data", "full"):
        assert found[sharding]["step"] == 2
        assert found[sharding]["losses"] == pytest.approx(found["none"]["losses"], rel=1e-12)
        assert found[sharding]["weights"].keys() == found["none"]["weights"].keys()
        for name, wanted in found["none"]["weights"].items():
            assert_close(np.array(found[sharding]["weights"][name]), np.array(wanted), 1e-9, name)
        assert_close(np.array(found[sharding]["logits"]), np.array(found["none"]["logits"]), 1e-9)


if __name__ == "__main__":
    print(json.dumps({name: losses_and_weights(Path(sys.argv[1], name), name) for name in ("none", "data", "full")}))
