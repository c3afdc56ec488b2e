"""Features that only TensorFlow has: a keras.Model with fit, saving, graphs, XLA and dtype policies."""

from __future__ import annotations

from pathlib import Path

import checkpoints
import numpy as np
import pytest
from backends import assert_close, backend

tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
keras = pytest.importorskip("keras", reason="keras is not installed")
TF = backend("tf")
from roberta.tf import infer as fast  # noqa: E402
from roberta.tf import weights  # noqa: E402

CONFIG = checkpoints.small_config("ForSequenceClassification")
OPTIONS = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return checkpoints.make(tmp_path / "model", "ForSequenceClassification")


def inputs() -> dict[str, np.ndarray]:
    return checkpoints.batch("ForSequenceClassification", CONFIG)


def test_arguments_as_one_dict_or_tuple(folder: Path) -> None:
    model = TF.load("ForSequenceClassification", folder)
    given = inputs()
    wanted = model(**given).logits
    assert np.array_equal(model(given).logits, wanted)
    assert np.array_equal(model(tuple(given.values())).logits, wanted)
    assert model({**given, "output_attentions": True}).attentions[0].shape == (3, 3, 11, 11)
    with pytest.raises(ValueError, match="not_an_argument"):
        model({**given, "not_an_argument": 1})


def test_fit_with_the_inner_loss_and_with_an_outer_one(folder: Path) -> None:
    labels = np.array([0, 3, 4])
    losses = []
    for outer in (False, True):
        model = TF.load("ForSequenceClassification", folder, **OPTIONS)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True) if outer else None
        model.compile(optimizer=keras.optimizers.SGD(0.05), loss=loss)
        given = inputs() if outer else inputs() | {"labels": labels}
        history = model.fit(given, labels if outer else None, epochs=3, batch_size=3, verbose=0, shuffle=False)
        losses.append(history.history["loss"])
        assert losses[-1][-1] < losses[-1][0]
    assert np.allclose(losses[0], losses[1], rtol=1e-6)


@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
def test_a_compiled_decoder_keeps_the_count_of_its_cache(tmp_path: Path, compiled: bool) -> None:
    """Row 0 has padding between tokens, without a mask; the cache leaves one graph and enters another."""
    model = TF.load("ForCausalLM", checkpoints.make(tmp_path, "ForCausalLM"))
    ids = tf.constant([[0, 1, 5, 7, 8], [0, 5, 1, 1, 9]])

    @tf.function(jit_compile=compiled)
    def step(ids: tf.Tensor, past: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        output = model(ids, past_key_values=past, use_cache=True)
        return output.logits, output.past_key_values

    past = step(ids[:, :3])[1]
    assert type(past).__name__ == "Cache"
    assert_close(step(ids[:, 3:], past)[0].numpy(), model(ids).logits[:, 3:].numpy())


def test_predict_keeps_the_cache_whole(tmp_path: Path) -> None:
    model = TF.load("ForCausalLM", checkpoints.make(tmp_path, "ForCausalLM"))
    ids = np.array([[0, 1, 5], [0, 5, 6], [0, 7, 1]])
    past = model.predict(ids, batch_size=2, verbose=0)["past_key_values"]
    assert past[0][0].shape == (3, 3, 3, 8)
    assert past.tokens.tolist() == [[2], [3], [2]]


def test_predict_gives_numpy_in_the_shape_of_the_output(folder: Path) -> None:
    model = TF.load("ForSequenceClassification", folder)
    found = model.predict(inputs(), batch_size=2, verbose=0)
    assert_close(np.asarray(found["logits"]), np.asarray(model(**inputs()).logits))


def test_a_keras_file_and_a_weights_file(folder: Path, tmp_path: Path) -> None:
    model = TF.load("ForSequenceClassification", folder)
    wanted = np.asarray(model(**inputs()).logits)
    model.save(tmp_path / "model.keras")
    assert_close(np.asarray(keras.models.load_model(tmp_path / "model.keras")(**inputs()).logits), wanted)
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = TF.load("ForSequenceClassification", checkpoints.make(tmp_path / "x", "ForSequenceClassification", seed=7))
    fresh.load_weights(tmp_path / "model.weights.h5")
    assert_close(np.asarray(fresh(**inputs()).logits), wanted)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_graph_computes_the_same_and_refuses_wrong_ids(folder: Path, jit_compile: bool) -> None:
    model = TF.load("ForSequenceClassification", folder)
    given = {name: tf.constant(value) for name, value in inputs().items()}
    graph = tf.function(lambda **x: model(**x).logits, jit_compile=jit_compile)
    assert_close(np.asarray(graph(**given)), np.asarray(model(**given).logits))
    wrong = given | {"input_ids": given["input_ids"] + 100}
    if jit_compile:  # XLA drops assertions: the row is nan, and never another row's value
        assert np.isnan(np.asarray(graph(**wrong))).any()
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match="input_ids"):
            graph(**wrong)


def test_mixed_precision() -> None:
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        model = TF.classes("ForSequenceClassification")(CONFIG)
        assert model(**inputs()).logits.dtype == tf.bfloat16
        assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    finally:
        keras.mixed_precision.set_dtype_policy("float32")


def test_gradient_checkpointing_changes_nothing(folder: Path) -> None:
    found = []
    for on in (False, True):
        model = TF.load("ForSequenceClassification", folder)
        if on:
            model.gradient_checkpointing_enable()
        given = inputs() | {"labels": np.array([0, 3, 4])}
        found.append(TF.gradients(model, given, lambda output: output.loss))
    for name, gradient in found[0].items():
        assert np.allclose(found[1][name], gradient, atol=1e-12), name


def test_dropout_is_on_in_training_only(folder: Path) -> None:
    model = TF.load("ForSequenceClassification", folder)
    still = np.asarray(model(**inputs()).logits)
    assert np.array_equal(model(**inputs()).logits, still)
    assert not np.array_equal(model(**inputs(), training=True).logits, still)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_a_loaded_model_has_every_value_of_the_file(dtype: str, folder: Path) -> None:
    model = TF.load("ForSequenceClassification", folder, dtype=dtype)
    tensors = checkpoints.draw(CONFIG, "ForSequenceClassification")
    for name, (variable, is_transposed) in weights.native(model).items():
        assert np.array_equal(weights.canonical_array(variable, is_transposed), tensors[name].astype(variable.dtype)), (
            name
        )


def test_every_batch_runs_the_same_three_programs(tmp_path: Path) -> None:
    model = TF.load("ForMaskedLM", checkpoints.make(tmp_path, "ForMaskedLM", num_hidden_layers=3, layer_norm_eps=3e-5))
    for rows, seq in ((1, 3), (4, 11), (7, 28)):
        ids = np.full((rows, seq), 7)
        model.infer({"input_ids": ids}, where=ids == 7)
    run = fast.programs_of("float64", 8, False, "gelu", 3e-5, True)
    assert [part.function.experimental_get_tracing_count() for part in (run.attention, run.rest, run.language)] == [
        1,
        1,
        1,
    ]


def test_weights_in_another_dtype_follow_a_training_step(tmp_path: Path) -> None:
    model = TF.load("Model", checkpoints.make(tmp_path, "Model", dtype="float32"), dtype="float32")
    given = checkpoints.batch("Model", model.config)
    before = model.infer(given, dtype="bfloat16")["last_hidden_state"]
    kernel = model.encoder.layer[0].output.dense.kernel
    kernel.assign_add(np.ones(kernel.shape, np.float32))
    after = model.infer(given, dtype="bfloat16")["last_hidden_state"]
    model.release_infer()
    assert not np.array_equal(after, before)
    assert np.array_equal(after, model.infer(given, dtype="bfloat16")["last_hidden_state"])


LABELS, WEIGHTS = np.array([0, 3, 4]), np.array([1.0, 0.0, 0.5])


def test_weights_count_in_a_loss_given_to_compile(folder: Path) -> None:
    model = TF.load("ForSequenceClassification", folder)
    model.compile(optimizer="sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float64"))
    logits = np.asarray(model(**inputs()).logits)
    losses = np.log(np.exp(logits).sum(axis=-1)) - logits[np.arange(3), LABELS]
    found = model.evaluate(inputs(), LABELS, sample_weight=WEIGHTS, verbose=0)
    assert found == pytest.approx((losses * WEIGHTS).mean(), rel=1e-6)


def test_weights_of_losses_that_are_not_there_are_refused(folder: Path) -> None:
    model = TF.load("ForSequenceClassification", folder)
    model.compile(optimizer="sgd", loss_weights=[2.0])
    with pytest.raises(ValueError, match="takes no loss_weights; omit them"):
        model.evaluate(inputs() | {"labels": LABELS}, verbose=0)


def test_a_model_brings_no_new_names_of_variables(folder: Path) -> None:
    """TensorFlow keeps 35 kB for each name that a variable ever had."""
    names = [
        {part.value._handle_name for part in TF.load("ForSequenceClassification", folder).variables} for _ in range(2)
    ]
    assert names[0] == names[1]
    assert len(names[0]) < 12
