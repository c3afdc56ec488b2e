"""Weights of classes as people give them, and what cannot be meant."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import training_cases
from training_standin import log

from roberta import Training
from roberta.cli import main
from roberta.common.training.data.batches import Batches, rows_of_rank
from roberta.common.training.data.collation import Collator
from roberta.common.training.data.labels import Labels
from roberta.common.training.loss_options import class_weights_of, parsed_class_weights

LABELS = Labels("single_label_classification", ("ham", "spam", "other"))
ROWS: list[Any] = [{"labels": label} for label in (0, 0, 0, 1, 2, 2)]


def test_weights_are_given_by_name_in_order_or_balanced() -> None:
    assert class_weights_of({"spam": 2, "other": 0.5, "ham": 1}, LABELS, ROWS) == (1.0, 2.0, 0.5)
    assert class_weights_of([1, 2, 0.5], LABELS, ROWS) == (1.0, 2.0, 0.5)
    words = [{"labels": [0, -100, 0, 0]}, {"labels": [1, 2, 2, -100]}]
    assert class_weights_of("balanced", LABELS, words) == class_weights_of("balanced", LABELS, ROWS)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    utils = pytest.importorskip("sklearn.utils.class_weight", reason="scikit-learn is not installed")
    labels = np.array([row["labels"] for row in ROWS])
    wanted = utils.compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert class_weights_of("balanced", LABELS, ROWS) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            [1, 2],
            "class_weights=[1, 2] are 2 numbers, and there are 3 labels; give one for each, in this order: ham, spam",
        ),
        ({"ham": 1, "eggs": 2}, "'eggs' is not a label; give one for each of the labels: ham, spam, other"),
        ({"ham": 1, "spam": 2}, "'other' has no weight; give one for each of the labels: ham, spam, other"),
        ([1, 0, 1], "class_weights: 'spam' has 0, and must have a finite number above 0; to leave its rows out"),
        ([1, float("nan"), 1], "class_weights: 'spam' has nan, and must have a finite number above 0"),
        ("even", "class_weights='even' must be 'balanced', or a weight for each label"),
    ],
)
def test_weights_that_do_not_fit_the_labels_are_refused(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        class_weights_of(given, LABELS, ROWS)


def test_balanced_weights_need_a_row_of_each_label() -> None:
    with pytest.raises(ValueError, match="no row of the training data has the label 'other'; give a weight for each"):
        class_weights_of("balanced", LABELS, ROWS[:4])


def test_the_words_of_the_command_line() -> None:
    assert parsed_class_weights(["balanced"]) == "balanced"
    assert parsed_class_weights(["a=b=2", "c=1"]) == {"a=b": 2.0, "c": 1.0}
    assert parsed_class_weights(["1", "2.5"]) == [1.0, 2.5]
    with pytest.raises(ValueError, match=r"class_weights=\['a=1', '2'\] must be balanced, or NAME=WEIGHT for each"):
        parsed_class_weights(["a=1", "2"])


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("question-answering", ["--label-smoothing", "0.1"], "--label-smoothing 0.1 is for mlm, clm, text-classification"),
        ("multiple-choice", ["--class-weights", "1", "2"], "is for text-classification, token-classification; omit it"),
        ("text-classification", ["--class-weights", "no=1"], "'yes' has no weight; give one for each of the labels"),
        ("text-classification", ["--label-smoothing", "1"], "--label-smoothing 1.0 must be a number of at least 0 and"),
        ("text-classification", ["--label-smoothing", "0.1", "--problem", "multi_label_classification"],
         "--label-smoothing 0.1 is for rows that have one class each; omit it for --problem multi_label"),
    ],
)  # fmt: skip
def test_the_command_refuses_what_a_loss_does_not_have(
    task: Any, options: list[str], message: str, tmp_path: Path, capsys: Any
) -> None:
    given = training_cases.make(tmp_path, task)
    words = [*training_cases.flags(given), "--framework", "pt", "--output", str(tmp_path / "run"), "--updates", "1"]
    assert main(["train", *words, "--warmup", "0", *options]) == 1
    assert message in capsys.readouterr().err


def test_class_weights_and_smoothing_reach_the_loss_of_a_training(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    given = training_cases.make(tmp_path, "text-classification") | {"framework": "pt", "updates": 1, "warmup": 0}
    losses = []
    for number, options in enumerate(({}, {"class_weights": {"no": 1, "yes": 9}}, {"label_smoothing": 0.5})):
        Training(**given, **options, output=tmp_path / str(number)).run()
        losses.append(log(tmp_path / str(number))[0]["loss"])
    assert len({round(loss, 4) for loss in losses}) == 3
    with pytest.raises(ValueError, match=r"class_weights: not there then, \[1.0, 9.0\] now"):
        Training(**given, class_weights=[1, 9], output=tmp_path / "0", resume=True).run()
    with pytest.raises(ValueError, match=r"recipe.label_smoothing: 0.5 then, not there now"):
        Training(**given, output=tmp_path / "2", resume=True).run()


def test_weights_of_classes_divide_a_batch_over_micro_batches_and_ranks() -> None:
    weights = (1.0, 2.0, 4.0)
    features: Any = [{"input_ids": [5, 6, 7], "labels": label} for label in (0, 1, 2, 1)]
    collate = Collator("text-classification", 8, 1, class_weights=weights)
    parts = Batches(features, collate, batch_size=4, micro_batch_size=2).update(1)
    for part in parts:
        assert part.weight == sum(weights[label] for label in part.inputs["labels"]) / 9
    inputs = collate(features, [(0, 0, index) for index in range(4)]).inputs
    shares = [rows_of_rank(inputs, "text-classification", rank, 2, weights)[1] for rank in range(2)]
    assert shares == [5 / 9, 4 / 9]
