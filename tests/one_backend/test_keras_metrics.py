"""Inputs of the losses and metrics of Keras' `compile`, for models with one layer and figures counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import backend

tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
keras = pytest.importorskip("keras", reason="keras is not installed")
TF = backend("tf")

SMALL = {"num_hidden_layers": 1, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
IDS = np.array([[0, 5, 7, 9, 2], [0, 8, 6, 4, 2]])
IS_LABEL = np.array([[False, True, True, False, False], [False, True, True, True, False]])
ROWS = np.array([[1.0], [3.0]])  # a weight for each row


def model_of(head: Any, folder: Path) -> Any:
    return TF.load(head, checkpoints.make(folder, head, **SMALL))


def cross_entropy(**options: Any) -> Any:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float64", **options)


def best(model: Any, **inputs: Any) -> np.ndarray:
    """The class that each token's logits prefer."""
    return np.asarray(model(**(inputs or {"input_ids": IDS})).logits).argmax(axis=-1)


def labelled(model: Any, wrong: int) -> np.ndarray:
    """The labels that the model prefers, except for `wrong` of them, and -100 where there is no label."""
    labels = np.where(IS_LABEL, best(model), -100)
    for row, token in [(0, 1), (1, 1)][:wrong]:
        labels[row, token] = (labels[row, token] + 1) % 3
    return labels


WAYS = {
    "in x": lambda model, labels: (None, {"input_ids": IDS, "labels": labels}, None),
    "as y": lambda model, labels: (None, IDS, labels),
    "as a dict": lambda model, labels: (None, IDS, {"labels": labels}),
    "a compiled loss": lambda model, labels: (cross_entropy(ignore_class=-100), IDS, labels),
    "by the output": lambda model, labels: ({"logits": cross_entropy(ignore_class=-100)}, IDS, {"logits": labels}),
    "a column": lambda model, labels: (cross_entropy(ignore_class=-100), IDS, labels[..., None]),
}


@pytest.mark.parametrize(
    ("head", "way"),
    [*(("ForTokenClassification", way) for way in WAYS), ("ForMaskedLM", "in x"), ("ForMaskedLM", "a compiled loss")],
)
def test_metrics_leave_out_what_has_no_label(head: Any, way: str, tmp_path: Path) -> None:
    model = model_of(head, tmp_path)
    for wrong, wanted in ((0, 1.0), (2, 3 / 5)):
        loss, x, y = WAYS[way](model, labelled(model, wrong))
        model.compile(loss=loss, metrics=["accuracy"], run_eagerly=True)
        found = model.evaluate(x, y, verbose=0, return_dict=True)
        assert found["accuracy"] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("weight", "wanted", "jit_compile"),
    [(ROWS, 7 / 11, False), (ROWS * (np.arange(5) + 1), 24 / 32, True)],
    ids=["rows-graph", "tokens-xla"],
)
def test_weights_count_in_weighted_metrics_alone(
    weight: np.ndarray, wanted: float, jit_compile: bool, tmp_path: Path
) -> None:
    """Rows weigh 2 * 1 + 3 * 3 = 11, of which 4 are wrong; tokens 2 + 3 + 6 + 9 + 12 = 32, of which 8 are."""
    model = model_of("ForTokenClassification", tmp_path)
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="weighed")
    model.compile(loss=cross_entropy(ignore_class=-100), metrics=["accuracy"], weighted_metrics=[accuracy],
                  jit_compile=jit_compile)  # fmt: skip
    found = model.evaluate(IDS, labelled(model, wrong=2), sample_weight=weight, verbose=0, return_dict=True)
    assert found["weighed"] == pytest.approx(wanted)
    assert found["accuracy"] == pytest.approx(3 / 5)


def test_a_metric_of_ones_own_sees_the_labels_that_count(tmp_path: Path) -> None:
    def masked(labels: Any, logits: Any) -> Any:
        counts = tf.cast(labels != -100, tf.float64)
        is_right = tf.cast(tf.argmax(logits, axis=-1, output_type=labels.dtype) == labels, tf.float64)
        return tf.reduce_sum(is_right * counts) / tf.reduce_sum(counts)

    model = model_of("ForTokenClassification", tmp_path)
    model.compile(metrics=[masked], run_eagerly=True)
    assert model.evaluate(IDS, labelled(model, wrong=2), verbose=0)[1] == pytest.approx(3 / 5)


def test_a_row_without_a_label_is_left_out_of_the_accuracy_of_rows(tmp_path: Path) -> None:
    model = model_of("ForSequenceClassification", tmp_path)
    model.compile(metrics=["accuracy"], run_eagerly=True)
    labels = np.array([best(model)[0], -100])
    assert model.evaluate(IDS, labels, verbose=0)[1] == 1


def test_numbers_are_compared_whatever_they_are(tmp_path: Path) -> None:
    model = TF.load(
        "ForSequenceClassification", checkpoints.make(tmp_path, "ForSequenceClassification", num_labels=1, **SMALL)
    )
    model.compile(loss="mse", metrics=["mae"], run_eagerly=True)
    numbers = np.array([-100.0, 2.0])
    wanted = np.abs(np.asarray(model(IDS).logits)[:, 0] - numbers).mean()
    assert model.evaluate(IDS, numbers, verbose=0)[1] == pytest.approx(wanted, rel=1e-5)


def greedy(folder: Path) -> tuple[Any, np.ndarray]:
    """A decoder, and rows in which every token is the one that it prefers after the previous ones."""
    model = model_of("ForCausalLM", folder)
    ids = np.array([[0], [9]])
    for _ in range(4):
        ids = np.concatenate((ids, best(model, input_ids=ids)[:, -1:]), axis=1)
    return model, ids


@pytest.mark.parametrize("way", ["in x", "as y", "a compiled loss", "by the output"])
def test_a_decoder_is_compared_with_the_next_tokens(way: str, tmp_path: Path) -> None:
    """Row 0 is correct throughout; in row 1 the last two tokens have no label, and the first of the other two is wrong."""
    model, ids = greedy(tmp_path)
    labels = np.where([[True] * 5, [True, True, True, False, False]], ids, -100)
    labels[1, 1] = (labels[1, 1] + 1) % 10
    loss, x, y = WAYS[way](model, labels)
    x = {"input_ids": ids, **({"labels": labels} if y is None else {})}
    model.compile(loss=loss, metrics=["accuracy"], run_eagerly=True)
    found = model.evaluate(x, y, verbose=0, return_dict=True)
    assert found["accuracy"] == pytest.approx(5 / 6)
    own = float(model(input_ids=ids, labels=labels).loss)
    assert found["loss"] == pytest.approx(own, rel=1e-5)


def test_weights_of_tokens_go_with_the_labels_of_a_decoder(tmp_path: Path) -> None:
    model, ids = greedy(tmp_path)
    labels, weight = ids.copy(), np.array([[9.0, 1, 2, 3, 4], [9, 1, 2, 3, 5]])
    labels[1, 4] = (labels[1, 4] + 1) % 10
    model.compile(loss=cross_entropy(), weighted_metrics=["accuracy"], run_eagerly=True)
    logits = np.asarray(model(input_ids=ids).logits)[:, :-1]
    losses = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, labels[:, 1:, None], -1)[..., 0]
    found = model.evaluate(ids, labels, sample_weight=weight, verbose=0, return_dict=True)
    assert found["accuracy"] == pytest.approx(16 / 21)
    assert found["loss"] == pytest.approx((losses * weight[:, 1:]).mean(), rel=1e-5)


def test_labels_that_are_shifted_already_are_refused(tmp_path: Path) -> None:
    model = model_of("ForCausalLM", tmp_path)
    model.compile(optimizer="sgd", loss=cross_entropy(), run_eagerly=True)
    with pytest.raises(ValueError, match=r"y is shifted already.*such as input_ids"):
        model.fit(IDS[:, :-1], IDS[:, 1:], verbose=0)
    losses = model.fit(IDS, IDS, epochs=3, verbose=0).history["loss"]  # the way out
    assert losses[2] < losses[0]
    model.evaluate(np.full((2, 5), 7), np.full((2, 5), 7), verbose=0)  # one token alone does not show it


def test_labels_that_are_shifted_already_are_refused_in_a_graph(tmp_path: Path) -> None:
    model = model_of("ForCausalLM", tmp_path)
    model.compile(loss=cross_entropy())
    model.evaluate(IDS, IDS, verbose=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="y is shifted already"):
        model.evaluate(IDS, np.roll(IDS, -1, axis=1), verbose=0)
