"""Metrics against figures worked out by hand, and where they are installed against the libraries themselves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from roberta.common import metrics


def test_f1_and_mcc_of_two_classes_are_those_of_the_confusion_matrix() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    labels, predicted = np.array([1, 1, 1, 0, 0, 0, 0, 1]), np.array([1, 1, 0, 0, 0, 1, 0, 0])
    found = metrics.classification(predicted, labels, 2)
    hits, misses, alarms, rest = 2, 2, 1, 3
    assert found["accuracy"] == 5 / 8
    assert found["f1"] == pytest.approx(2 * hits / (2 * hits + misses + alarms))
    root = math.sqrt((hits + alarms) * (hits + misses) * (rest + alarms) * (rest + misses))
    assert found["mcc"] == pytest.approx((hits * rest - alarms * misses) / root)


def test_f1_of_more_classes_counts_a_class_that_nobody_predicts() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    found = metrics.classification(np.array([0, 1, 0, 1]), np.array([0, 1, 0, 1]), 3)
    assert found["f1"] == pytest.approx(2 / 3)


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


def test_equal_predictions_have_no_correlation() -> None:
    assert math.isnan(metrics.correlations(np.ones(3), np.arange(3.0))["pearson"])


def test_an_entity_counts_only_whole_and_with_its_type() -> None:
    pytest.importorskip("seqeval", reason="seqeval is not installed")
    labels = [["B-person", "I-person", "O", "B-location"], ["B-group", "O"]]
    predicted = [["B-person", "O", "O", "B-location"], ["B-person", "O"]]
    found = metrics.entities(predicted, labels)
    assert found["precision"] == found["recall"] == found["f1"] == pytest.approx(1 / 3)
    assert found["accuracy"] == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    ("answer", "right", "f1"),
    [
        ("The Norman Conquest!", "norman  conquest", 1.0),
        ("in the year 1066", "1066", 2 / 4),  # "in year 1066": one word of three, and of one
        ("a cat and a dog", "dog and bird", 2 * 2 / (3 + 3)),
        ("", "1066", 0.0),
        ("the", "", 1.0),  # an article alone is nothing
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

    monkeypatch.setattr(metrics.importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match=r"need scikit-learn, which .* pip install 'roberta\[train\]'"):
        metrics.library("sklearn.metrics")
