"""Entities in every tagging scheme, against cases made by hand, and against seqeval where it reads a scheme correctly."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import training_cases
from checkpoints import small_config

from roberta.common.pipelines.tag_schemes import scheme_of
from roberta.common.training import metrics
from roberta.common.training.checkpoints import Checkpoints
from roberta.common.training.metrics import compared
from roberta.common.training.session import Training

# Labels of a model, a row, and the entities of the row: type, first word, and the word after the last.
CASES: dict[str, tuple[str, str, str, list[tuple[str, int, int]]]] = {
    "BIO": ("O B-X I-X B-Y I-Y", "B-X I-X B-X O I-Y", "BIO", [("X", 0, 2), ("X", 2, 3), ("Y", 4, 5)]),
    # The first sentence of CoNLL-2003's own files is like this: B- only between two neighbours of the same type.
    "IOB1": ("O I-X B-X I-Y", "I-X I-X B-X O I-Y I-X", "BIO", [("X", 0, 2), ("X", 2, 3), ("Y", 4, 5), ("X", 5, 6)]),
    "BIOES": (
        "O B-X I-X E-X S-X S-Y", "B-X E-X B-X I-X E-X S-X S-Y", "BIOES",
        [("X", 0, 2), ("X", 2, 5), ("X", 5, 6), ("Y", 6, 7)],
    ),
    "BILOU": ("O B-X I-X L-X U-X", "B-X L-X U-X U-X O", "BIOES", [("X", 0, 2), ("X", 2, 3), ("X", 3, 4)]),
    "one word an entity": ("O S-X S-Y", "S-X S-X S-Y O", "BIOES", [("X", 0, 1), ("X", 1, 2), ("Y", 2, 3)]),
    "IO": ("O I-X I-Y", "I-X I-X I-Y O", "IO", [("X", 0, 2), ("Y", 2, 3)]),
    "plain": ("O ORG OTHER", "ORG ORG OTHER O OTHER", "plain", [("ORG", 0, 2), ("OTHER", 2, 3), ("OTHER", 4, 5)]),
    "plain with a hyphen": ("O E-MAIL S-BAHN PER", "E-MAIL E-MAIL S-BAHN", "plain", [("E-MAIL", 0, 2), ("S-BAHN", 2, 3)]),
    "a type without mark": ("O B-X I-X MISC", "MISC MISC B-X", "BIO", [("MISC", 0, 2), ("X", 2, 3)]),
    "a type with a hyphen": ("O B-X-1 I-X-1 B-X-2", "B-X-1 I-X-1 B-X-2", "BIO", [("X-1", 0, 2), ("X-2", 2, 3)]),
    "underlined": ("O B_X I_X", "B_X I_X B_X", "BIO", [("X", 0, 2), ("X", 2, 3)]),
    "chunks without O": ("B-NP I-NP B-VP", "B-NP I-NP B-NP B-VP", "BIO", [("NP", 0, 2), ("NP", 2, 3), ("VP", 3, 4)]),
    "marks alone": ("O B I", "B I B O I", "BIO", [("", 0, 2), ("", 2, 3), ("", 4, 5)]),
    "segments of words": ("B M E S", "B E S B M E", "BIOES", [("", 0, 2), ("", 2, 3), ("", 3, 6)]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_entities_are_those_of_the_scheme_that_the_labels_are_of(name: str) -> None:
    labels, row, kind, wanted = CASES[name]
    scheme = scheme_of(labels.split())
    assert scheme.kind == kind
    assert scheme.spans(row.split()) == wanted


@pytest.mark.parametrize("labels", ["NOUN VERB OTHER", "0 1 2", "M W", "E-MAIL S-BAHN"])
def test_labels_without_o_and_marks_name_no_entities(labels: str) -> None:
    scheme = scheme_of(labels.split())
    assert scheme.kind == "none"
    found = metrics.entities([labels.split()], [labels.split()[::-1]])
    assert set(found) == {"accuracy"}


@pytest.mark.parametrize(("marks", "longest"), [("BI", 5), ("BIES", 3)])
def test_every_row_whole_or_broken_is_read_as_by_seqeval(marks: str, longest: int) -> None:
    oracle = pytest.importorskip("seqeval.metrics.sequence_labeling", reason="seqeval is not installed")
    labels = ["O", *(f"{mark}-{kind}" for mark in marks for kind in "XY")]
    scheme = scheme_of(labels)
    for length in range(1, longest + 1):
        for row in itertools.product(labels, repeat=length):
            found = {(kind, start, stop - 1) for kind, start, stop in scheme.spans(row)}
            assert found == set(oracle.get_entities(list(row))), row


def test_an_entity_counts_only_whole_and_with_its_type() -> None:
    labels = [["B-person", "I-person", "O", "B-location"], ["B-group", "O"]]
    predicted = [["B-person", "O", "O", "B-location"], ["B-person", "O"]]
    found = metrics.entities(predicted, labels)
    assert found["precision"] == found["recall"] == found["f1"] == pytest.approx(1 / 3)
    assert found["accuracy"] == pytest.approx(4 / 6)


def test_plain_labels_that_are_all_right_have_an_f1_of_one() -> None:
    rows = [["ORG", "O", "OTHER"], ["O", "O"]]
    assert metrics.entities(rows, rows) == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "accuracy": 1.0}
    missed = metrics.entities([["O", "O", "OTHER"], ["O", "O"]], rows)
    assert (missed["precision"], missed["recall"]) == (1.0, 0.5)


def test_one_missed_and_one_invented_entity() -> None:
    found = metrics.entities([["O", "LOC", "LOC"]], [["ORG", "O", "O"]])
    assert found == {"f1": 0.0, "precision": 0.0, "recall": 0.0, "accuracy": 0.0}


def test_without_an_entity_to_find_f1_is_nan_and_never_the_best() -> None:
    none = [["O", "O"]]
    for predicted in (none, [["B-X", "O"]]):
        found = metrics.entities(predicted, none, scheme_of(["O", "B-X"]))
        assert math.isnan(found["f1"])
        assert math.isnan(found["recall"])


# -- which metric decides ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("labels", "metric"), [("O ORG", "f1"), ("O B-X I-X", "f1"), ("NOUN VERB", "accuracy")])
def test_models_are_compared_by_what_the_labels_are(labels: str, metric: str) -> None:
    config = small_config("ForTokenClassification", num_labels=None, id2label=dict(enumerate(labels.split())))
    assert compared("token-classification", config) == (metric, True)
    assert compared("token-classification", config, "loss") == ("loss", False)


def test_a_metric_that_is_not_measured_is_refused_before_the_training() -> None:
    config = small_config("ForTokenClassification", num_labels=None, id2label={0: "NOUN", 1: "VERB"})
    with pytest.raises(ValueError, match="metric='f1' is not measured here; it must be one of accuracy, loss"):
        compared("token-classification", config, "f1")
    with pytest.raises(ValueError, match="metric='f1' needs validation data to evaluate; omit it"):
        Training(task="token-classification", model="m", train=["a.conll"], output="out", metric="f1")


def test_a_training_says_what_it_takes_the_tags_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = training_cases.make(tmp_path, "token-classification")
    training = Training(**arguments, output=tmp_path / "out", tensorboard=False)
    data = training._data()
    run = training._run(data, Checkpoints(tmp_path / "out"), {}, None, is_first=True, framework="pt")
    assert run.journal is not None
    run.journal.close()
    assert "tags: BIO of NAME; B- begins an entity. Evaluations are compared by f1" in capsys.readouterr().err
