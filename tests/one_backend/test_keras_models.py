"""A user's own Keras models around one of our models: saved, loaded in another process, cloned, and on two devices.

Run as a program, this file is that other process, with two logical devices: `test_keras_models.py FOLDER`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
keras = pytest.importorskip("keras", reason="keras is not installed")

from backends import assert_close, backend  # noqa: E402

TF = backend("tf")
TESTS = Path(__file__).parents[1]
IDS = np.array([[0, 5, 6, 2], [0, 7, 2, 8]])  # no padding, which would cause a warning in a process that gets only ids
BOTH = {"input_ids": IDS, "attention_mask": np.array([[1, 1, 1, 1], [1, 1, 1, 0]])}
LABELS = np.array([3, 1])
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def core(head: str) -> Any:
    """One of our models, with one layer."""
    return TF.classes(head)(checkpoints.small_config(head, num_hidden_layers=1, initializer_range=0.3, **STILL))


@keras.saving.register_keras_serializable(package="tests")
class First(keras.layers.Layer):
    """The part of an output that the user's own layer uses: the pooled state, or the logits."""

    def call(self, output: Any) -> Any:
        return output.get("pooler_output", output.get("logits"))


@keras.saving.register_keras_serializable(package="tests")
class Own(keras.Model):
    """A subclassed model that passes its one argument on."""

    def __init__(self, head: str, **options: Any) -> None:
        super().__init__(**options)
        self.head, self.core, self.first, self.top = head, core(head), First(), keras.layers.Dense(4)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.top(self.first(self.core(inputs, training=training)))

    def get_config(self) -> dict[str, Any]:
        return {"head": self.head, "name": self.name}


@keras.saving.register_keras_serializable(package="tests")
class OwnByName(Own):
    """A subclassed model with its own arguments; Keras builds it with the first one only."""

    def call(self, input_ids: Any, attention_mask: Any = None, training: bool = False) -> Any:
        return super().call({"input_ids": input_ids, "attention_mask": attention_mask}, training)


def functional(head: str, dtype: str, is_dict: bool) -> Any:
    given = {name: keras.Input((None,), dtype=dtype, name=name) for name in (BOTH if is_dict else ["input_ids"])}
    inputs = given if is_dict else given["input_ids"]
    return keras.Model(inputs, keras.layers.Dense(4)(First()(core(head)(inputs))))


def sequential(head: str, has_input: bool) -> Any:
    layers = [core(head), First(), keras.layers.Dense(4)]
    return keras.Sequential([keras.Input((None,), dtype="int32"), *layers] if has_input else layers)


CASES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "functional-dict": (lambda: functional("Model", "int32", True), lambda model: model(BOTH)),
    "functional-ids-head": (
        lambda: functional("ForSequenceClassification", "int64", False),
        lambda model: model(IDS),
    ),
    "subclassed-dict": (lambda: Own("Model"), lambda model: model(BOTH)),
    "subclassed-ids-head": (lambda: Own("ForMaskedLM"), lambda model: model(IDS)),
    "subclassed-by-name": (lambda: OwnByName("Model"), lambda model: model(**BOTH)),
    "sequential": (lambda: sequential("Model", False), lambda model: model(IDS)),
    "sequential-dict-head": (lambda: sequential("ForSequenceClassification", False), lambda model: model(BOTH)),
    "sequential-input": (lambda: sequential("Model", True), lambda model: model(IDS)),
}


def fitted(folder: Path, scope: Any) -> dict[str, np.ndarray]:
    """The parameters after two updates of `fit` with a compiled loss and a metric."""
    with scope:
        model = TF.load("ForSequenceClassification", folder)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float64")
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss, metrics=["accuracy"])
    model.fit(BOTH, LABELS, batch_size=2, epochs=2, shuffle=False, verbose=0)
    return TF.parameters(model)


def serve(folder: Path) -> None:
    """Load every case, and train on two devices."""
    TF.classes("Model")  # Keras finds a class that has been imported
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
    found = {
        name: np.asarray(call(keras.models.load_model(folder / f"{name}.keras"))) for name, (_, call) in CASES.items()
    }
    np.savez(folder / "loaded.npz", **found)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    np.savez(folder / "fitted.npz", **fitted(folder / "model", strategy.scope()))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder whose models another process has loaded, and the models that were saved there."""
    folder = tmp_path_factory.mktemp("keras")
    checkpoints.make(folder / "model", "ForSequenceClassification", num_hidden_layers=1, **STILL)
    models = {name: make() for name, (make, _) in CASES.items()}
    for name, model in models.items():
        CASES[name][1](model)  # Keras makes the layers of some in their first call
        model.save(folder / f"{name}.keras")
    paths = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-W", "error::UserWarning", __file__, str(folder)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, models


@pytest.mark.parametrize("name", CASES)
def test_a_model_around_ours_is_the_same_in_another_process(saved: tuple[Path, dict[str, Any]], name: str) -> None:
    folder, models = saved
    assert np.array_equal(np.load(folder / "loaded.npz")[name], np.asarray(CASES[name][1](models[name])))


@pytest.mark.parametrize("name", ["functional-dict", "subclassed-dict", "sequential"])
def test_its_weights_alone_load_into_a_clone(saved: tuple[Path, dict[str, Any]], name: str, tmp_path: Path) -> None:
    model, call = saved[1][name], CASES[name][1]
    model.save_weights(tmp_path / "it.weights.h5")
    clone = keras.models.clone_model(model)
    call(clone)
    clone.load_weights(tmp_path / "it.weights.h5")
    assert np.array_equal(np.asarray(call(clone)), np.asarray(call(model)))
    lines: list[str] = []
    clone.summary(print_fn=lambda line, **_: lines.append(line))
    assert f"{model.count_params():,}" in "".join(lines)


def test_fit_with_a_compiled_loss_on_two_devices_is_that_of_one(saved: tuple[Path, dict[str, Any]]) -> None:
    folder = saved[0]
    found = np.load(folder / "fitted.npz")
    start = checkpoints.draw(TF.load("ForSequenceClassification", folder / "model").config, "ForSequenceClassification")
    for name, value in fitted(folder / "model", tf.distribute.get_strategy().scope()).items():
        assert_close(found[name], value, 1e-10, name)
    name = "classifier.out_proj.weight"
    assert np.abs(found[name] - start[name]).max() > 1e-3


def test_ids_that_are_floats_stay_an_error() -> None:
    model, floats = core("Model"), tf.constant(IDS, tf.float32)
    with pytest.raises(ValueError, match="input_ids is of type float32; give integers"):
        model(floats)
    with pytest.raises(ValueError, match="input_ids is of type float32; give integers"):
        tf.function(lambda ids: model(ids).last_hidden_state)(floats)
    with pytest.raises(ValueError, match="input_ids is of type float32; give integers"):
        sequential("Model", False)(floats)


def test_an_input_layer_of_floats_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match=r'input_ids is a placeholder of type float32.*dtype="int32"\)'):
        core("Model")(keras.Input((None,)))
    assert core("Model")(keras.Input((None,), dtype="int32")).last_hidden_state.shape == (None, None, 24)


@pytest.mark.parametrize("kind", ["np", "tf"])
def test_fit_and_predict_take_what_a_tokenizer_returns(kind: str) -> None:
    from roberta import BatchEncoding

    model = core("ForSequenceClassification")
    model.compile(optimizer="sgd")
    batch = BatchEncoding({**BOTH}, tensor_type=kind)
    model.fit(batch, np.array([0, 1]), batch_size=1, verbose=0)
    found, wanted = (model.predict(inputs, batch_size=1, verbose=0)["logits"] for inputs in (batch, BOTH))
    assert_close(found, wanted)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
