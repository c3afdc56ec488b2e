"""Training in TensorFlow only: Keras' `fit` with callbacks, an AdamW for Keras, several devices.

Run as a program, this file is a process with two logical devices: `test_training_tf.py FOLDER`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
keras = pytest.importorskip("keras", reason="keras is not installed")

import updates  # noqa: E402
from backends import assert_close, backend  # noqa: E402

from roberta.common.training.data.tasks import HEADS  # noqa: E402
from roberta.common.training.optimizer_state import load_training_state  # noqa: E402

CASES = ("mlm", "numbers")
TESTS = Path(__file__).parents[1]
UPDATES, ROWS, SIZE = 3, 5, 2  # micro-batches of 2, 2 and 1 rows: the second device has no row of the last
DROPOUT = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}


def run_of(case: str, sharding: Any = "none", **changed: Any) -> updates.ShortRun:
    chosen = updates.settings(case, sharding=sharding, **changed)
    if case == "mlm" and not changed:
        chosen = updates.with_options(chosen)
    listed = updates.Listed(case, updates.config_of(case), ROWS, SIZE, chosen.class_weights)
    return updates.ShortRun(chosen, listed, UPDATES)


def trained(folder: Path, case: str, run: updates.ShortRun, **options: Any) -> Any:
    from roberta.tf.training import train

    dtype = "float32" if run.settings.dtype == "bfloat16" else run.settings.dtype
    return train(backend("tf").load(HEADS[run.settings.task], folder, dtype=dtype), run, **options)


def serve(folder: Path) -> None:
    """Train every case on two devices."""
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    for case in CASES:
        run = run_of(case, "data")
        run.folder = folder / f"{case}-data"
        trained(folder / case, case, run)
        (run.folder / "losses.json").write_text(json.dumps(run.losses))


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the result of every case on two devices."""
    folder = tmp_path_factory.mktemp("devices")
    for case in CASES:
        updates.folder_of(folder, case)
    paths = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, __file__, str(folder)], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_devices_train_as_one_does(two_devices: Path, case: str) -> None:
    run = run_of(case)
    alone = trained(two_devices / case, case, run)
    folder = two_devices / f"{case}-data"
    assert json.loads((folder / "losses.json").read_text()) == pytest.approx(run.losses, rel=1e-10)
    found, wanted = load_training_state(folder), alone.state()
    assert found.step == wanted.step == UPDATES
    assert found.weights.keys() == wanted.weights.keys() == (set(wanted.parameters) if case == "mlm" else set())
    for name, weights in wanted.weights.items():
        assert_close(np.asarray(found.weights[name]), weights, 1e-9, name)
    for name, moment in wanted.moments.items():
        scale = max(np.abs(np.asarray(one)).max() for one in wanted.moments.values())
        assert np.abs(np.asarray(found.moments[name]) - moment).max() < 1e-10 * scale, name


def stepped(optimizer: Any, start: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """A variable after one optimizer step for each gradient."""
    variable = keras.Variable(start, dtype="float64")
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient)], [variable])
    return np.asarray(variable)


def test_adamw_is_that_of_pytorch_where_gradients_are_as_small_as_epsilon() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from roberta.tf.adamw import AdamW

    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(4, 3)), rng.normal(scale=1e-6, size=(5, 4, 3))
    rate = float(np.float32(0.01))  # Keras keeps the rate in float32
    tensor = torch.nn.Parameter(torch.tensor(start))
    peer = torch.optim.AdamW([tensor], lr=rate, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1)
    for gradient in gradients:
        tensor.grad = torch.tensor(gradient)
        peer.step()
    wanted = tensor.detach().numpy()
    settings = {"learning_rate": rate, "beta_1": 0.9, "beta_2": 0.98, "epsilon": 1e-6, "weight_decay": 0.1}
    assert_close(stepped(AdamW(**settings), start, gradients), wanted, 1e-12)
    assert np.abs(stepped(keras.optimizers.AdamW(**settings), start, gradients) - wanted).max() > 1e-3


def test_a_token_that_occurs_twice_has_one_gradient_in_fit(tmp_path: Path) -> None:
    """The second moment is the square of the sum; with a sparse gradient it would be a sum of squares."""
    from roberta.tf.optimizers import read_optimizer

    case = "classes"
    folder = updates.folder_of(tmp_path, case)
    arrays = updates.inputs(case, updates.config_of(case))
    arrays["input_ids"][:, 1:4] = 7
    gradients = backend("tf").gradients(
        backend("tf").load("ForSequenceClassification", folder), arrays, lambda o: o.loss
    )
    model = backend("tf").load("ForSequenceClassification", folder)
    model.compile(optimizer=keras.optimizers.AdamW(beta_2=0.98))
    model.fit(arrays, batch_size=len(arrays["labels"]), shuffle=False, verbose=0)
    name = "roberta.embeddings.word_embeddings.weight"
    found = read_optimizer(model.optimizer, model).moments[f"exp_avg_sq.{name}"] / (1 - 0.98)
    assert_close(found, gradients[name] ** 2, 1e-10)


class Seen(keras.callbacks.Callback):
    """Records the calls that Keras makes to its callbacks."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.epochs: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.losses.append(logs["loss"])

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(logs["loss"])


def test_callbacks_of_keras_see_every_update_and_the_model(tmp_path: Path) -> None:
    seen, run = Seen(), run_of("tokens")
    file = tmp_path / "last.keras"
    checkpoint = keras.callbacks.ModelCheckpoint(str(file), save_freq=1)
    trainer = trained(updates.folder_of(tmp_path, "tokens"), "tokens", run, callbacks=[seen, checkpoint])
    assert seen.losses == run.losses
    assert len(run.losses) == UPDATES
    assert seen.epochs == [run.losses[-1]]
    assert seen.model is trainer.model
    again = keras.saving.load_model(file, compile=False)
    found, wanted = backend("tf").parameters(again), backend("tf").parameters(trainer.model)
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


class Calls(keras.callbacks.Callback):
    """Records which methods are called, in order; sets the first epoch, as BackupAndRestore does after a restart."""

    def __init__(self, first_epoch: int | None = None, stops_at: int | None = None) -> None:
        super().__init__()
        self.first_epoch, self.stops_at = first_epoch, stops_at
        self.calls: list[str] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.calls.append("train begins")
        self.model._initial_epoch = self.first_epoch

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.calls.append(f"epoch {epoch} begins")

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.calls.append(f"batch {batch} begins")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.calls.append(f"batch {batch} ends: {'loss' in logs}")
        self.model.stop_training = batch == self.stops_at

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.calls.append(f"epoch {epoch} ends: {'loss' in logs}")

    def on_train_end(self, logs: Any = None) -> None:
        self.calls.append(f"train ends: {'loss' in (logs or {})}")


@pytest.mark.parametrize(("first_epoch", "stops_at"), [(None, None), (None, 1), (1, None)])
def test_callbacks_are_called_as_the_fit_of_keras_calls_them(
    first_epoch: int | None, stops_at: int | None, tmp_path: Path
) -> None:
    theirs, ours = (Calls(first_epoch, stops_at) for _ in range(2))
    line = keras.Sequential([keras.layers.Dense(1)])
    line.compile(loss="mse")
    line.fit(np.ones((UPDATES, 2)), np.ones((UPDATES, 1)), batch_size=1, verbose=0, callbacks=[theirs])
    trained(updates.folder_of(tmp_path, "tokens"), "tokens", run_of("tokens"), callbacks=[ours])
    assert ours.calls == theirs.calls


def test_the_model_can_be_fitted_on_other_data_afterwards(tmp_path: Path) -> None:
    run = run_of("tokens")
    model = trained(updates.folder_of(tmp_path, "tokens"), "tokens", run).model
    model.compile(optimizer=keras.optimizers.SGD(1e-3))
    history = model.fit(updates.inputs("tokens", updates.config_of("tokens")), batch_size=6, verbose=0)
    assert np.isfinite(history.history["loss"][0])


def test_a_callback_that_fails_ends_the_training_with_its_error(tmp_path: Path) -> None:
    run = run_of("tokens")
    run.fails_at = 2
    with pytest.raises(ValueError, match="update 2 fails"):
        trained(updates.folder_of(tmp_path, "tokens"), "tokens", run)
    assert len(run.losses) == 2


def test_one_compiled_function_takes_micro_batches_of_every_shape(tmp_path: Path) -> None:
    trainer = updates.trainer(backend("tf"), "mlm", updates.folder_of(tmp_path, "mlm"))
    arrays = updates.inputs("mlm", updates.config_of("mlm"))
    short = {name: array[:4, :9] for name, array in arrays.items()}
    for number, some in enumerate((arrays, short), 1):
        trainer.update(updates.micro_batches("mlm", some), 1e-3, number)
    traced = [one.experimental_get_tracing_count() for one in trainer._gradients.compiled.values()]
    assert traced == [1]


def test_an_id_outside_the_vocabulary_is_an_error_that_names_the_update(tmp_path: Path) -> None:
    trainer = updates.trainer(backend("tf"), "mlm", updates.folder_of(tmp_path, "mlm"))
    arrays = updates.inputs("mlm", updates.config_of("mlm"))
    arrays["input_ids"][0, 2] = 5000
    with pytest.raises(ValueError, match=r"update 3: .*input_ids holds.*5000.*is the tokenizer this model's"):
        trainer.update(updates.micro_batches("mlm", arrays), 1e-3, 3)


def test_bfloat16_computes_low_and_keeps_weights_and_loss_in_float32(tmp_path: Path) -> None:
    folder = updates.folder_of(tmp_path, "mlm")
    batches = updates.micro_batches("mlm", updates.inputs("mlm", updates.config_of("mlm")))
    low, full = (updates.trainer(backend("tf"), "mlm", folder, dtype=dtype) for dtype in ("bfloat16", "float32"))
    found, wanted = (trainer.update(batches, 1e-3, 1) for trainer in (low, full))
    assert found != wanted
    assert found == pytest.approx(wanted, rel=0.02)
    assert {variable.dtype for variable in low.model.variables if "seed" not in variable.path} == {"float32"}
    assert low.model.compute_dtype == "bfloat16"


def test_a_copy_keeps_what_is_frozen(tmp_path: Path) -> None:
    from roberta.tf.training import Trainer

    model = backend("tf").load("ForMaskedLM", updates.folder_of(tmp_path, "mlm"))
    model.roberta.embeddings.word_embeddings.embeddings.trainable = False
    recipe = replace(updates.RECIPE, dropout=0.1)
    trainer = Trainer(model, updates.settings("mlm", recipe))
    assert trainer.model is not model
    name = "roberta.embeddings.word_embeddings.weight"
    trainer.update(updates.micro_batches("mlm", updates.inputs("mlm", updates.config_of("mlm"))), 1e-3, 1)
    found, wanted = (backend("tf").parameters(one) for one in (trainer.model, model))
    np.testing.assert_array_equal(found[name], wanted[name])
    assert np.abs(found["lm_head.bias"] - wanted["lm_head.bias"]).max() > 0
    assert name not in trainer.state().parameters


@pytest.mark.parametrize(
    ("sharding", "words"),
    [("full", "which tf.distribute does not do"), ("data", "is over several devices, and TensorFlow has")],
)
def test_sharding_that_cannot_be_is_refused(tmp_path: Path, sharding: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        updates.trainer(backend("tf"), "mlm", updates.folder_of(tmp_path, "mlm"), sharding=sharding)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
