"""Metrics against figures computed by hand, and against the libraries themselves if they are installed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from roberta.common import libraries
from roberta.common.training import metrics


def test_f1_and_mcc_of_two_classes_are_those_of_the_confusion_matrix() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    labels, predicted = np.array([1, 1, 1, 0, 0, 0, 0, 1]), np.array([1, 1, 0, 0, 0, 1, 0, 0])
    found = metrics.classification(predicted, labels, 2)
    hits, misses, alarms, rest = 2, 2, 1, 3
    assert found["accuracy"] == 5 / 8
    assert found["f1"] == pytest.approx(2 * hits / (2 * hits + misses + alarms))
    root = math.sqrt((hits + alarms) * (hits + misses) * (rest + alarms) * (rest + misses))
    assert found["mcc"] == pytest.approx((hits * rest - alarms * misses) / root)


def test_f1_of_more_classes_is_that_of_scikit_learn_over_the_classes_that_are_there() -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    labels, predicted = np.array([0, 1, 0, 1]), np.array([0, 0, 0, 0])
    assert metrics.classification(labels, labels, 3)["f1"] == 1.0  # class 2 does not occur
    assert metrics.classification(predicted, labels, 3)["f1"] == pytest.approx((2 / 3 + 0) / 2)  # class 1 is missed
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels, predicted = rng.integers(0, 4, (2, 9))
        found = metrics.classification(predicted, labels, 6)["f1"]
        assert found == pytest.approx(sklearn.f1_score(labels, predicted, average="macro"))


def test_what_has_no_case_to_find_is_not_measured_rather_than_zero() -> None:
    """In a validation file without label 1 everything is right, but an F1 of 0 would say that nothing is."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    found = metrics.classification(np.zeros(4, int), np.zeros(4, int), 2)
    assert found["accuracy"] == 1.0
    assert math.isnan(found["f1"])
    assert math.isnan(found["mcc"])
    assert math.isnan(metrics.classification(np.ones(4, int), np.zeros(4, int), 2)["f1"])  # a wrong one is no better
    assert metrics.classification(np.zeros(3, int), np.array([0, 1, 1]), 2)["f1"] == 0.0


def test_a_label_of_several_that_is_nowhere_does_not_lower_the_mean() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    labels = np.array([[1, 0, 0], [0, 1, 0]])
    assert metrics.multi_label(labels, labels) == {"accuracy": 1.0, "f1": 1.0, "f1_macro": 1.0}
    found = metrics.multi_label(np.array([[1, 0, 1], [0, 0, 0]]), labels)  # a false alarm and a miss
    assert found["f1"] == pytest.approx(2 * 1 / (2 * 1 + 1 + 1))
    assert found["f1_macro"] == pytest.approx((1 + 0 + 0) / 3)
    assert math.isnan(metrics.multi_label(np.zeros((2, 3), int), np.zeros((2, 3), int))["f1"])


def test_several_labels_at_once_are_right_in_a_row_only_together() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    found = metrics.multi_label(np.array([[1, 0, 1], [0, 1, 0]]), np.array([[1, 0, 1], [1, 1, 0]]))
    assert found["accuracy"] == 0.5
    assert found["f1"] == pytest.approx(2 * 3 / (2 * 3 + 1))


def test_spearman_is_one_where_the_order_agrees_and_pearson_is_not() -> None:
    pytest.importorskip("scipy", reason="scipy is not installed")
    values = np.arange(6.0)
    found = metrics.correlations(np.exp(values), values)
    assert found["spearman"] == pytest.approx(1.0)
    assert found["pearson"] == pytest.approx(np.corrcoef(np.exp(values), values)[0, 1])


@pytest.mark.parametrize(
    "values", [np.ones(9), 2.7 + np.arange(9) % 3 * np.spacing(np.float32(2.7)), np.full(9, np.inf)]
)
def test_predictions_that_are_equal_but_for_rounding_have_no_correlation(values: np.ndarray) -> None:
    found = metrics.correlations(values, np.arange(9.0))
    assert math.isnan(found["pearson"])
    assert math.isnan(found["spearman"])


@pytest.mark.parametrize(
    ("answer", "right", "f1"),
    [
        ("The Norman Conquest!", "norman  conquest", 1.0),
        ("in the year 1066", "1066", 2 / 4),  # "in year 1066": one word of three, and of one
        ("a cat and a dog", "dog and bird", 2 * 2 / (3 + 3)),
        ("", "1066", 0.0),
        ("the", "", 1.0),  # an article alone counts as nothing
    ],
)
def test_answers_share_words_whatever_their_case_articles_and_punctuation(answer: str, right: str, f1: float) -> None:
    assert metrics.overlap(answer, right) == pytest.approx(f1)


def test_the_best_of_the_accepted_answers_counts_and_none_is_an_answer_too() -> None:
    found = metrics.answers(["1066", "", "Rome"], [["the year 1066", "1066"], [], []])
    assert found == {"exact": pytest.approx(2 / 3), "f1": pytest.approx(2 / 3), "no_answer": 0.5}


def test_perplexity_of_a_uniform_guess_is_the_size_of_the_vocabulary() -> None:
    assert metrics.perplexity(math.log(50265))["perplexity"] == pytest.approx(50265)
    assert metrics.perplexity(1e4)["perplexity"] == math.inf


def test_a_missing_library_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name, name=name)

    monkeypatch.setattr(libraries.importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match=r"need scikit-learn, which .* pip install 'roberta\[train\]'"):
        libraries.library("sklearn.metrics")


def test_one_label_that_holds_or_not_has_an_f1_of_its_own() -> None:
    found = metrics.multi_label(np.array([[1], [1], [0], [0]]), np.array([[1], [0], [1], [0]]))
    assert found == {"accuracy": 0.5, "f1": 0.5, "f1_macro": 0.5}
