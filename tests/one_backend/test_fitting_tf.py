"""Keras' loops with everything that a script for transformers passes to them, compared with figures made by hand."""

from __future__ import annotations

from collections import UserDict
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
WEIGHTS = np.array([1.0, 0.0, 0.5])
NAMES = ("labels", "start_positions", "end_positions")


def made(head: Any, folder: Path, **options: Any) -> tuple[Any, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A model, its inputs of three rows, and labels for them."""
    model = TF.load(head, checkpoints.make(folder, head, **SMALL, **options))
    inputs = checkpoints.batch(head, model.config)
    labels = checkpoints.labels(head, model.config, inputs)
    if model.config.num_labels == 1:
        labels = {"labels": np.array([0.5, -1.0, 2.0])}
    elif model.config.problem_type == "multi_label_classification":
        labels = {"labels": np.array([[1.0, 0, 1, 0, 0], [0, 0, 0, 0, 1], [1, 1, 1, 1, 0]])}
    return model, inputs, labels


def entropy(logits: Any, labels: np.ndarray) -> np.ndarray:
    """The cross entropy of each label that counts, 0 for the others."""
    logits = np.asarray(logits, np.float64)
    counts = (labels >= 0) & (labels < logits.shape[-1])
    chosen = np.take_along_axis(logits, np.where(counts, labels, 0)[..., None], -1)[..., 0]
    return np.where(counts, np.log(np.exp(logits).sum(-1)) - chosen, 0)


def weighed_by_hand(model: Any, inputs: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> float:
    """Each loss times the weight of its row, divided by the number of losses that count."""
    output = model(**inputs)
    if "start_positions" in labels:
        ends = [
            (entropy(output[name], one), one < output[name].shape[-1])
            for name, one in (("start_logits", labels["start_positions"]), ("end_logits", labels["end_positions"]))
        ]
        return float(np.mean([(losses * WEIGHTS).sum() / counts.sum() for losses, counts in ends]))
    logits, targets = np.asarray(output.logits), labels["labels"]
    if model.config.num_labels == 1:
        return float(((logits[:, 0] - targets) ** 2 * WEIGHTS).mean())
    if targets.dtype.kind == "f":
        losses = np.log1p(np.exp(logits)) - targets * logits
        return float((losses.mean(-1) * WEIGHTS).mean())
    if model.head == "ForCausalLM":
        logits, targets = logits[:, :-1], targets[:, 1:]
    losses = entropy(logits, targets)
    weights = WEIGHTS.reshape(-1, *[1] * (losses.ndim - 1))
    return float((losses * weights).sum() / (targets != -100).sum())


HEADS = {
    "classes": ("ForSequenceClassification", {}),
    "numbers": ("ForSequenceClassification", {"num_labels": 1}),
    "several labels": ("ForSequenceClassification", {"problem_type": "multi_label_classification"}),
    "tokens": ("ForTokenClassification", {}),
    "next tokens": ("ForCausalLM", {}),
    "spans": ("ForQuestionAnswering", {}),
}


@pytest.mark.parametrize("case", HEADS)
def test_sample_weights_count_in_the_models_own_loss(case: str, tmp_path: Path) -> None:
    head, options = HEADS[case]
    model, inputs, labels = made(head, tmp_path, **options)
    model.compile(run_eagerly=True)
    wanted = weighed_by_hand(model, inputs, labels)
    for x, y in (({**inputs, **labels}, None), (inputs, labels)):
        assert model.evaluate(x, y, sample_weight=WEIGHTS, verbose=0) == pytest.approx(wanted, rel=1e-6)
    own = float(model(**inputs, **labels).loss)
    assert model.evaluate(inputs, labels, sample_weight=np.ones(3), verbose=0) == pytest.approx(own, rel=1e-6)


WEIGHED = {
    "fit": lambda model, x, y: model.fit({**x, **y}, sample_weight=WEIGHTS, verbose=0).history["loss"][0],
    "validation": lambda model, x, y: model.fit(
        {**x, **y}, validation_data=({**x, **y}, None, WEIGHTS), verbose=0).history["val_loss"][0],
    "train_on_batch": lambda model, x, y: model.train_on_batch({**x, **y}, sample_weight=WEIGHTS),
    "test_on_batch": lambda model, x, y: model.test_on_batch(x, y, sample_weight=WEIGHTS),
    "a generator": lambda model, x, y: model.evaluate(
        (one for one in [({**x, **y}, None, WEIGHTS)]), steps=1, verbose=0),
    "a dataset": lambda model, x, y: model.evaluate(
        tf.data.Dataset.from_tensor_slices(({**x, **y}, WEIGHTS)).map(lambda x, w: (x, None, w)).batch(3), verbose=0),
    "classes": lambda model, x, y: model.fit(
        x, y["labels"], class_weight={int(label): weight for label, weight in zip(y["labels"], WEIGHTS, strict=True)},
        verbose=0).history["loss"][0],
}  # fmt: skip


@pytest.mark.parametrize("way", WEIGHED)
def test_sample_weights_arrive_by_every_way_in(way: str, tmp_path: Path) -> None:
    model, inputs, _ = made("ForSequenceClassification", tmp_path)
    labels = {"labels": np.array([0, 3, 4])}
    model.compile(optimizer=keras.optimizers.SGD(0.0), run_eagerly=True)
    wanted = weighed_by_hand(model, inputs, labels)
    assert WEIGHED[way](model, inputs, labels) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("head", ["ForTokenClassification", "ForQuestionAnswering"])
@pytest.mark.parametrize("loss", [None, "auto_with_warning", "given"])
def test_labels_do_the_same_among_the_inputs_and_beside_them(head: str, loss: str | None, tmp_path: Path) -> None:
    model, inputs, labels = made(head, tmp_path)
    if loss == "given":
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-100)
        labels = {name: np.minimum(value, 4) for name, value in labels.items()}
    model.compile(loss=loss, metrics=[keras.metrics.SparseCategoricalAccuracy(name="right")], run_eagerly=True)
    beside = tuple(labels.values()) if len(labels) > 1 else labels["labels"]
    found = [
        model.evaluate(x, y, verbose=0, return_dict=True)
        for x, y in ((inputs | labels, None), (inputs, labels), (inputs, beside), (UserDict(inputs | labels), None))
    ]
    assert found[0] == found[1] == found[2] == found[3]
    names = {"right"} if head == "ForTokenClassification" else {"start_logits_right", "end_logits_right"}
    assert names <= set(found[0])


def test_each_end_of_a_span_has_a_metric_of_its_own(tmp_path: Path) -> None:
    model, inputs, _ = made("ForQuestionAnswering", tmp_path)
    output = model(**inputs)
    start, end = (np.asarray(output[name]).argmax(-1) for name in ("start_logits", "end_logits"))
    end[0] = (end[0] + 1) % 11
    model.compile(metrics=["accuracy"], run_eagerly=True)
    found = model.evaluate(inputs, {"start_positions": start, "end_positions": end}, verbose=0, return_dict=True)
    assert found["start_logits_accuracy"] == 1
    assert found["end_logits_accuracy"] == pytest.approx(2 / 3)


def test_compile_forgets_an_earlier_one(tmp_path: Path) -> None:
    model, inputs, _ = made("ForSequenceClassification", tmp_path)
    labels = {"labels": np.array([0, 3, 4])}
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(), metrics=["accuracy"], run_eagerly=True)
    model.compile(run_eagerly=True)
    found = model.evaluate(inputs | labels, verbose=0, return_dict=True)
    assert found == {"loss": pytest.approx(float(model(**inputs, **labels).loss), rel=1e-6)}


def test_metrics_go_on_without_reset(tmp_path: Path) -> None:
    model, inputs, _ = made("ForSequenceClassification", tmp_path)
    best = np.asarray(model(**inputs).logits).argmax(-1)
    model.compile(metrics=["accuracy"], run_eagerly=True)
    assert model.test_on_batch(inputs, best)[1] == 1
    assert model.test_on_batch(inputs, (best + 1) % 5, reset_metrics=False)[1] == pytest.approx(1 / 2)
    assert model.test_on_batch(inputs, (best + 1) % 5)[1] == 0


def test_predict_takes_any_mapping_of_lists_and_gives_the_output(tmp_path: Path) -> None:
    model, inputs, _ = made("ForSequenceClassification", tmp_path)
    found = model.predict(UserDict({name: value.tolist() for name, value in inputs.items()}), verbose=0)
    assert np.allclose(found.logits, model(**inputs).logits, rtol=1e-10)


def test_a_subclass_with_a_call_of_its_own(tmp_path: Path) -> None:
    class Doubled(TF.classes("ForSequenceClassification")):  # type: ignore[misc]
        def call(self, inputs: Any, training: bool = False) -> Any:
            output = super().call(inputs, training=training)
            output.logits = 2 * output.logits
            return output

    model, inputs, _ = made("ForSequenceClassification", tmp_path)
    labels = {"labels": np.array([0, 3, 4])}
    own = Doubled.from_pretrained(tmp_path, dtype="float64")
    wanted = 2 * np.asarray(model(**inputs).logits)
    assert np.allclose(own(inputs).logits, wanted, rtol=1e-10)
    assert np.allclose(own.predict(inputs, verbose=0)["logits"], wanted, rtol=1e-10)
    own.compile(optimizer="sgd", run_eagerly=True)
    losses = own.fit(inputs | labels, epochs=2, verbose=0).history["loss"]
    assert losses[0] == pytest.approx(float(model(**inputs, **labels).loss), rel=1e-6)
    assert losses[1] < losses[0]


def test_the_own_loss_of_logits_that_stand_beside_their_labels(tmp_path: Path) -> None:
    model, inputs, labels = made("ForCausalLM", tmp_path)
    output = model(**inputs, **labels)
    found = model.hf_compute_loss(labels["labels"][:, 1:], output.logits[:, :-1])
    assert float(found) == pytest.approx(float(output.loss), rel=1e-12)
    model, inputs, labels = made("ForQuestionAnswering", tmp_path)
    output = model(**inputs, **labels)
    found = model.hf_compute_loss(labels, (output.start_logits, output.end_logits))
    assert float(found) == pytest.approx(float(output.loss), rel=1e-12)


def test_a_model_card_says_how_the_training_went(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    model, inputs, _ = made("ForSequenceClassification", tmp_path / "model")
    model.compile(optimizer=keras.optimizers.SGD(0.25), run_eagerly=True)
    losses = model.fit(inputs, np.array([0, 3, 4]), epochs=2, verbose=0).history["loss"]
    model.create_model_card(tmp_path / "card", "mine", license="mit", tags=["a: b"], finetuned_from="roberta-base")
    _, head, text = (tmp_path / "card" / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(head) == {"license": "mit", "tags": ["a: b"], "base_model": "roberta-base"}
    assert text.startswith("\n# mine\n")
    assert f"| 2 | {losses[1]:.4f} |" in text
    assert '"learning_rate": 0.25' in text
