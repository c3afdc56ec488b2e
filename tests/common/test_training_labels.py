"""Labels of data and labels of a model: which of them count, when the classifier is kept, and when an option is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import make

from roberta import RobertaConfig
from roberta.common.formats import safetensors_file
from roberta.common.training.data.labels import Labels, find_labels
from roberta.common.training.data.readers import read_examples
from roberta.common.training.initial_weights import initial_weights

MNLI = RobertaConfig(id2label={0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"})


def labels_of(config: RobertaConfig, *labels: Any, **settings: Any) -> Labels:
    examples: Any = read_examples([{"text": "x", "label": label} for label in labels], "text-classification")
    return find_labels(examples, config, **settings)


def test_names_of_the_data_take_the_place_of_the_models_and_its_classifier_is_new() -> None:
    found = labels_of(MNLI, "spam", "ham")
    assert (found.names, found.is_new_head) == (("ham", "spam"), True)
    assert "in place of the model's 'CONTRADICTION', 'NEUTRAL', 'ENTAILMENT'; the classifier is new" in found.remark
    three = labels_of(MNLI, "a", "b", "c")  # of the same size
    assert (three.names, three.is_new_head) == (("a", "b", "c"), True)


def test_the_same_names_in_any_order_keep_the_models_ids_and_classifier() -> None:
    for names in (("NEUTRAL", "ENTAILMENT", "CONTRADICTION"), ("ENTAILMENT", "NEUTRAL")):
        found = labels_of(MNLI, *names)
        assert (found.names, found.is_new_head) == (tuple(MNLI.id2label.values()), False)
    asked = labels_of(MNLI, "NEUTRAL", "ENTAILMENT", labels=["ENTAILMENT", "NEUTRAL", "CONTRADICTION"])
    assert (asked.names, asked.is_new_head) == (tuple(MNLI.id2label.values()), False)


@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
def test_numbers_on_a_model_with_names_are_asked_about_and_both_answers_work(task: Any) -> None:
    rows = {
        "text-classification": [{"text": "x", "label": label} for label in (0, 1, 0)],
        "token-classification": [{"words": ["a", "b"], "labels": [0, 1]}],
    }[task]
    examples: Any = list(read_examples(rows, task))
    with pytest.raises(ValueError, match=r"numbers '0', '1', .*labels=\['name0', 'name1'\], or keep_labels=True"):
        find_labels(examples, MNLI)
    kept = find_labels(examples, MNLI, keep_labels=True)
    assert (kept.names, kept.is_new_head) == (tuple(MNLI.id2label.values()), False)
    assert kept.id_of("1", "") == 1
    named = find_labels(examples, MNLI, labels=["ham", "spam"])
    assert (named.names, named.is_new_head) == (("ham", "spam"), True)
    assert named.id_of("1", "") == 1
    with pytest.raises(ValueError, match="both say what the labels are"):
        find_labels(examples, MNLI, labels=["ham", "spam"], keep_labels=True)
    model = list(MNLI.id2label.values())
    turned = find_labels(examples, MNLI, labels=model[::-1])  # 0 is the caller's first label
    assert (list(turned.names), turned.is_new_head) == (model, False)
    assert [turned.id_of(number, "") for number in ("0", "1", "2")] == [2, 1, 0]


def test_numbers_do_not_stand_for_names_of_the_data() -> None:
    with pytest.raises(
        ValueError, match="has the label '0', which is not one of the labels of this training: 'ham', 'spam'"
    ):
        labels_of(MNLI, "spam", "ham").id_of("0", "dev.csv:1")


def test_a_model_without_names_keeps_its_classifier_for_numbers_alone() -> None:
    assert not labels_of(RobertaConfig(num_labels=2), 0, 1).is_new_head
    assert not labels_of(RobertaConfig(num_labels=2), "LABEL_1", "LABEL_0").is_new_head
    assert labels_of(RobertaConfig(num_labels=2), "ham", "spam").is_new_head
    assert labels_of(RobertaConfig(num_labels=2), 0, 1, 2).is_new_head


def test_numbers_on_a_model_that_was_trained_on_numbers_go_on() -> None:
    config = RobertaConfig(id2label={0: "0", 1: "1"})
    assert not labels_of(config, 1, 0).is_new_head
    assert labels_of(config, 1, 0, 2).names == ("0", "1", "2")


def test_the_problem_is_the_datas_where_the_models_does_not_fit() -> None:
    score = RobertaConfig(id2label={0: "score"}, problem_type="regression")
    assert labels_of(score, "spam", "ham").names == ("ham", "spam")
    assert (labels_of(score, 1.5, 2).names, labels_of(score, 1.5, 2).is_new_head) == (("score",), False)
    tags = RobertaConfig(id2label={0: "joy", 1: "love"}, problem_type="multi_label_classification")
    assert labels_of(tags, "joy,love", "love").problem == "multi_label_classification"
    assert labels_of(tags, "spam", "ham").problem == "single_label_classification"
    assert labels_of(MNLI, 1.5, 2.5).is_new_head


def test_the_mark_of_rows_without_a_label_is_no_class_unless_it_is_said_to_be() -> None:
    with pytest.raises(ValueError, match=r"item 3 has the label '-1', .*labels=\['-1', '0', '1'\]"):
        labels_of(RobertaConfig(), 0, 1, -1)
    assert labels_of(RobertaConfig(), 0, 1, -1, labels=["-1", "0", "1"]).id_of("0", "") == 1
    with pytest.raises(ValueError, match=r"every example has the label '-1'.*use a part that has labels"):
        labels_of(RobertaConfig(), -1, -1)


@pytest.mark.parametrize("missing", [float("nan"), float("inf"), -float("inf"), np.nan])
def test_a_number_that_is_not_finite_is_no_label(missing: float) -> None:
    with pytest.raises(ValueError, match=r"item 3: label is -?(nan|inf), as missing labels are"):
        labels_of(RobertaConfig(), "good", "bad", missing)
    with pytest.raises(ValueError, match=r"item 2: label is -?(nan|inf)"):
        labels_of(RobertaConfig(), ["good"], ["bad", missing])
    with pytest.raises(ValueError, match=r"item 1: labels is -?(nan|inf)"):
        list(read_examples([{"words": ["a", "b"], "labels": ["O", missing]}], "token-classification"))


def test_the_nan_of_a_json_file_is_no_label(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x", "label": 1}\n{"text": "x", "label": NaN}\n')  # as pandas writes it
    with pytest.raises(ValueError, match=r"a\.jsonl:2: label is nan"):
        list(read_examples(tmp_path / "a.jsonl", "text-classification"))


def test_a_whole_number_is_one_label_however_it_is_spelled() -> None:
    classes: dict[str, Any] = {"problem": "single_label_classification"}
    for labels in ((0, 1.0, 1), (1.0, 0, 1), (0.0, 1.0)):
        found = labels_of(RobertaConfig(), *labels, **classes)
        assert (found.names, found.id_of("1.0", ""), found.id_of("1", "")) == (("0", "1"), 1, 1)
    assert labels_of(MNLI, 0.0, 2.0, 1, keep_labels=True, **classes).id_of("2.0", "") == 2
    assert (
        labels_of(RobertaConfig(), "1.0", "2.0", labels=["2.0", "1.0"], **classes).id_of("1.0", "") == 1
    )  # versions, say
    words: Any = read_examples(
        [{"words": ["a", "b"], "labels": [1.0, 0]}, {"words": ["a"], "labels": [1]}], "token-classification"
    )
    assert find_labels(words, RobertaConfig()).names == ("0", "1")
    with pytest.raises(ValueError, match=r"whole numbers with a fraction of \.0; say whether they are classes"):
        labels_of(RobertaConfig(), 0, 1.0, 1)


def test_true_beside_a_number_is_asked_about() -> None:
    with pytest.raises(ValueError, match=r"has the label '0' and .*item 2 the label 'true'.* labels=\['0', 'true'\]"):
        labels_of(RobertaConfig(), 0, True)
    assert labels_of(RobertaConfig(), 0, True, labels=["0", "true"]).id_of("true", "") == 1
    assert labels_of(RobertaConfig(), False, True).names == ("false", "true")


TOXIC = RobertaConfig(id2label={0: "toxic", 1: "insult"}, problem_type="multi_label_classification")
HOT = [[[1, 0], [0, 1], [1, 1]], [[1.0, 0.0], [0.0, 1.0], [1, 1]], [[True, False], [False, True], [True, True]]]


@pytest.mark.parametrize("lists", HOT, ids=["int", "float", "bool"])
def test_a_list_of_0_and_1_says_for_each_label_whether_it_holds(lists: list[Any]) -> None:
    examples: Any = list(read_examples([{"text": "x", "labels": one} for one in lists], "text-classification"))
    wanted = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]  # as torch.nn.BCEWithLogitsLoss takes them
    for found in (labels_of(TOXIC, *lists), labels_of(RobertaConfig(), *lists, labels=["toxic", "insult"])):
        assert (found.problem, found.names) == ("multi_label_classification", ("toxic", "insult"))
        assert [found.target(one.label, "") for one in examples] == wanted
    turned = labels_of(TOXIC, *lists, labels=["insult", "toxic"])  # the model keeps its order
    assert turned.names == ("toxic", "insult")
    assert [turned.target(one.label, "") for one in examples] == [one[::-1] for one in wanted]
    for config in (RobertaConfig(), MNLI):
        with pytest.raises(ValueError, match=r"item 1 has .*labels=\['name0', 'name1'\] if .*; or list the names"):
            labels_of(config, *lists)
        assert labels_of(config, *lists, labels=["name0", "name1"]).target(("1", "0"), "") == [1.0, 0.0]


def test_a_list_of_0_and_1_that_does_not_fit_the_names_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has the labels \[1, 0, 0\], 3 of 0 and 1, and there are 2 names: 'toxic'"):
        labels_of(TOXIC, [1, 0, 0], [0, 0, 1])
    with pytest.raises(ValueError, match=r"a.jsonl:7 has the labels \[\]; the others are 2 numbers"):
        labels_of(TOXIC, [1, 0], []).target((), "a.jsonl:7")
    with pytest.raises(ValueError, match=r"item 1 has the labels \[1, 0\], and every other list"):
        labels_of(RobertaConfig(), "1,0", "0,1", problem="multi_label_classification")


def test_lists_of_the_numbers_of_labels_stay_what_they_are() -> None:
    assert labels_of(RobertaConfig(), [0], [1], [0, 1]).target(("1",), "") == [0.0, 1.0]
    with pytest.raises(ValueError, match=r"labels=\['name0'\]"):
        labels_of(RobertaConfig(), [0], [1])
    assert labels_of(RobertaConfig(), [0], [1], labels=["a", "b"]).target(("1",), "") == [0.0, 1.0]


@pytest.mark.parametrize("head", ["ForSequenceClassification", "ForTokenClassification"])
def test_a_new_classifier_of_the_same_size_has_new_weights_and_all_others_are_kept(tmp_path: Path, head: Any) -> None:
    folder = make(tmp_path / "model", head)
    config = RobertaConfig.from_pretrained(folder)
    before = safetensors_file.read_safetensors(folder / "model.safetensors")
    last = "classifier.out_proj" if head == "ForSequenceClassification" else "classifier"
    settings: dict[str, Any] = {"seed": 0, "dtype": "float64", "beside": tmp_path}
    with initial_weights(folder, head, config, **settings, is_new_head=True) as (place, new):
        assert new == [f"{last}.weight", f"{last}.bias"]
        found = safetensors_file.read_safetensors(Path(place) / "model.safetensors")
        for name, tensor in found.items():
            assert np.array_equal(tensor.load(), before[name].load()) == (name not in new), name
    with initial_weights(folder, head, config, **settings) as (place, new):
        assert (place, new) == (folder, [])
