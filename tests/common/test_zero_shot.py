"""Zero-shot classification: labels, sentences and scores, against the model's forward pass on pairs of texts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import backend as get_backend
from pipeline_cases import FRANCE, LENGTH, LONG, RAILWAY, TEXTS, make_models
from standin import stand_in

from roberta import pipeline

TASK = "zero-shot-classification"
TOPICS = ["towns", "ships and the sea", "books"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    get_backend("pt")
    return make_models(tmp_path_factory.mktemp("models"), ("nli",))["nli"]


def make(folder: Path, names: list[str] | None = None, **options: Any) -> Any:
    """A pipeline on a stand-in, whose labels may have other names."""
    model = stand_in("ForSequenceClassification", folder)
    if names is not None:
        model.config.id2label = dict(enumerate(names))
    return pipeline(TASK, model, folder, **options)


def pairs(pipe: Any, text: str, labels: list[str], template: str = "This example is {}.") -> np.ndarray:
    """The logits of the model's forward pass on the tokenizer's own pairs, (labels, 3)."""
    import torch

    sentences = [template.replace("{}", label) for label in labels]
    batch = pipe.tokenizer(
        [text] * len(labels), sentences, truncation="only_first", max_length=LENGTH, padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        return pipe.model.model(**batch).logits.numpy()


def best_first(text: str, labels: list[str], scores: np.ndarray) -> dict[str, Any]:
    ranked = sorted(zip(scores.tolist(), labels, strict=True), reverse=True)
    return {
        "sequence": text,
        "labels": [label for _, label in ranked],
        "scores": [pytest.approx(score, rel=1e-9) for score, _ in ranked],
    }


def near(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results whose scores may differ by rounding, which depends on the rows that are beside a row."""
    return [{**result, "scores": pytest.approx(result["scores"], rel=1e-9)} for result in results]


def alone(logits: np.ndarray, contradiction: int, entailment: int) -> np.ndarray:
    return 1 / (1 + np.exp(logits[:, contradiction] - logits[:, entailment]))


def together(logits: np.ndarray, entailment: int) -> np.ndarray:
    return np.exp(logits[:, entailment]) / np.exp(logits[:, entailment]).sum()


# -- scores ------------------------------------------------------------------------------------------------------------

# Names of the labels -> the outputs of contradiction and entailment. Where a name for contradiction is missing they are
# those of transformers.
NAMES = {
    ("contradiction", "neutral", "entailment"): (0, 2),
    ("neutral", "Contradiction", "Entailment"): (1, 2),  # transformers takes "neutral" for the contradiction
    ("ENTAILMENT", "NEUTRAL", "CONTRADICTION"): (2, 0),
    ("entailment", "contradiction", "neutral"): (1, 0),  # and here too
    ("entails", "entails not", "unknown"): (2, 0),
    ("x", "entailed", "y"): (0, 1),
}


@pytest.mark.parametrize("names", NAMES, ids="-".join)
def test_entailment_and_contradiction_are_found_by_their_names(folder: Path, names: tuple[str, ...]) -> None:
    pipe, (contradiction, entailment) = make(folder, list(names)), NAMES[names]
    for text in (FRANCE, RAILWAY):
        logits = pairs(pipe, text, TOPICS)
        assert pipe(text, TOPICS) == best_first(text, TOPICS, together(logits, entailment))
        wanted = best_first(text, TOPICS, alone(logits, contradiction, entailment))
        assert pipe(text, TOPICS, multi_label=True) == wanted


def test_without_a_name_the_last_label_is_entailment_which_is_said_once(folder: Path) -> None:
    names = ["LABEL_0", "LABEL_1", "LABEL_2"]
    with pytest.warns(UserWarning, match="labels are 'LABEL_0', 'LABEL_1', 'LABEL_2', and none begins with 'entail'; the "
                                         "last one") as caught:  # fmt: skip
        pipe = make(folder, names)
    assert len(caught) == 1
    assert Path(caught[0].filename) == Path(__file__).parents[2] / "tests/common/test_zero_shot.py"
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = pipe([FRANCE, RAILWAY], TOPICS, multi_label=True)
    assert found == [best_first(text, TOPICS, alone(pairs(pipe, text, TOPICS), 0, 2)) for text in (FRANCE, RAILWAY)]


@pytest.mark.parametrize("several", [False, True])
def test_a_label_alone_is_entailment_against_contradiction(folder: Path, several: bool) -> None:
    pipe = make(folder)
    wanted = best_first(FRANCE, ["towns"], alone(pairs(pipe, FRANCE, ["towns"]), 0, 2))
    assert pipe(FRANCE, "towns", multi_label=several) == wanted


def test_a_model_with_one_score_cannot_judge_a_label_alone(tmp_path: Path) -> None:
    get_backend("pt")
    model = make_models(tmp_path, ("number",))["number"]
    with pytest.warns(UserWarning, match="'LABEL_0', and none begins"):
        pipe = make(model)
    assert sum(pipe(FRANCE, TOPICS)["scores"]) == pytest.approx(1)
    for call in ({"candidate_labels": TOPICS, "multi_label": True}, {"candidate_labels": "towns"}):
        with pytest.raises(ValueError, match="gives one score, and a label alone needs two"):
            pipe(FRANCE, **call)


def test_names_that_do_not_fit_the_model_are_shown(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"the model gives 3 scores, but config\.id2label names"):
        make(folder, ["contradiction", "entailment"])(FRANCE, TOPICS)


def test_the_sentence_is_the_template_with_the_label(folder: Path) -> None:
    pipe = make(folder, hypothesis_template="The text is about {}!")
    wanted = best_first(FRANCE, TOPICS, together(pairs(pipe, FRANCE, TOPICS, "The text is about {}!"), 2))
    assert pipe(FRANCE, TOPICS) == wanted
    assert pipe(sequences=FRANCE, candidate_labels=TOPICS) == wanted
    assert pipe(FRANCE, TOPICS, hypothesis_template="{} it is.") != wanted


def test_an_older_name_is_taken_with_a_warning(folder: Path) -> None:
    pipe = make(folder)
    with pytest.warns(FutureWarning, match="multi_class is the older name of multi_label"):
        found = pipe(FRANCE, TOPICS, multi_class=True)
    assert found == pipe(FRANCE, TOPICS, multi_label=True)


# -- labels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [tuple(TOPICS), np.array(TOPICS), iter(TOPICS), " towns,ships and the sea ,,books"])
def test_labels_may_be_spelled_in_several_ways(folder: Path, labels: Any) -> None:
    pipe = make(folder)
    assert pipe(FRANCE, labels) == pipe(FRANCE, TOPICS)


def test_each_text_may_have_its_own_labels(folder: Path) -> None:
    pipe, texts, each = make(folder), TEXTS[:3], [TOPICS, ["towns", "a, b"], ["books"]]
    wanted = near([pipe(text, labels) for text, labels in zip(texts, each, strict=True)])
    assert [len(result["labels"]) for result in wanted] == [3, 2, 1]
    assert pipe(texts, each) == wanted
    assert pipe(texts, iter(map(tuple, each))) == wanted
    assert list(pipe(iter(texts), each)) == wanted
    assert make(folder, candidate_labels=each)(texts) == wanted
    inputs = [{"text": text, "candidate_labels": labels} for text, labels in zip(texts, each, strict=True)]
    assert pipe(inputs) == wanted
    assert pipe(inputs[0]) == wanted[0]


def test_the_labels_of_a_text_go_before_those_of_all(folder: Path) -> None:
    pipe = make(folder, candidate_labels=TOPICS)
    given = [{"text": FRANCE, "candidate_labels": "yes, no"}, FRANCE, {"text": FRANCE, "candidate_labels": " "}]
    assert pipe(given) == near([pipe(FRANCE, ["yes", "no"]), pipe(FRANCE), pipe(FRANCE)])


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (TEXTS[:3], [["a"], ["b"]], "candidate_labels has 2 lists of labels for 3 texts"),
        (FRANCE, [["a", "b"]], "the input has no labels to choose from: candidate_labels is a list of lists, for a list"),
        (FRANCE, None, "the input has no labels to choose from: give candidate_labels"),
        ([{"text": "a", "candidate_labels": ["b"]}, "c"], None, r"inputs\[1\] has no labels to choose from: give cand"),
        (FRANCE, [], "candidate_labels is empty; name at least one label"),
        (FRANCE, " ,", "candidate_labels is empty"),
        (FRANCE, ["a", " "], r"candidate_labels\[1\] is ' '; a label must not be blank"),
        (FRANCE, ["a", 5], r"candidate_labels\[1\] is 5 \(int\), not a str"),
        (FRANCE, ["a", ["b"]], r"candidate_labels\[1\] is \['b'\] \(list\), not a str"),
        (FRANCE, {"a", "b"}, r"candidate_labels is \{.*\} \(set\), neither a list of labels nor a text with commas"),
        (FRANCE, 5, r"candidate_labels is 5 \(int\), neither a list"),
        (TEXTS[:2], [["a"], []], r"candidate_labels\[1\] is empty"),
        ([FRANCE, {"text": "b", "candidate_labels": []}], ["a"], r"inputs\[1\]\['candidate_labels'\] is empty"),
        ([FRANCE, ""], ["a"], r"inputs\[1\] is empty; give a text"),
        ([FRANCE, {"text": ""}], ["a"], r"inputs\[1\]\['text'\] is empty"),
        ([FRANCE, {"text": "a", "labels": "b"}], ["a"], r"inputs\[1\] has the unknown field labels; the fields are text"),
        ([FRANCE, 5], [["a"], ["b"]], r"inputs\[1\]\['text'\] is 5 \(int\), not a str"),
    ],
)  # fmt: skip
def test_labels_and_texts_that_cannot_be_used_are_named(folder: Path, inputs: Any, labels: Any, message: str) -> None:
    pipe = make(folder)
    with pytest.raises(ValueError, match=message):
        pipe(inputs, labels)
    assert pipe.model.seen == []


def test_inputs_are_given_once(folder: Path) -> None:
    pipe = make(folder, candidate_labels=TOPICS)
    for call in ({}, {"inputs": FRANCE, "sequences": FRANCE}):
        with pytest.raises(ValueError, match="give inputs, or sequences"):
            pipe(**call)


@pytest.mark.parametrize(
    "template", ["", "no place", "{{}}", "{} {}", "{label}", "{", "{} }", "{0.nothing}", "{0.__class__}"]
)
def test_a_template_without_one_place_for_the_label_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"hypothesis_template=.* must have \{\} where the label goes"):
        pipeline(TASK, "no-such-folder", hypothesis_template=template)


@pytest.mark.parametrize("template", [None, 5])
def test_a_template_is_a_text(template: Any) -> None:
    with pytest.raises(ValueError, match=r"hypothesis_template is .*, not a str"):
        pipeline(TASK, "no-such-folder", hypothesis_template=template)


def test_several_labels_are_asked_for_with_true_or_false() -> None:
    with pytest.raises(ValueError, match="multi_label='yes' must be True or False"):
        pipeline(TASK, "no-such-folder", multi_label="yes")


def test_a_stream_with_too_few_lists_of_labels_or_too_many_gives_its_results_first(folder: Path) -> None:
    pipe = make(folder)
    for texts, each, message in (
        (TEXTS[:3], [TOPICS] * 2, "there are 2 lists of labels in candidate_labels, and more of the others"),
        (TEXTS[:2], [TOPICS] * 3, "there are 2 texts, and more of the others"),
    ):
        results = pipe(iter(texts), each)
        assert isinstance(results, Iterator)
        assert [next(results), next(results)] == near(pipe(texts[:2], TOPICS))
        with pytest.raises(ValueError, match=message):
            next(results)


def test_unusable_inputs_are_skipped_beside_labels_of_their_own(folder: Path) -> None:
    pipe = make(folder, on_error="skip")
    found = pipe([FRANCE, 5, ValueError("unread"), RAILWAY], [["a", "b"]] * 4)
    assert found[::3] == near([pipe(FRANCE, ["a", "b"]), pipe(RAILWAY, ["a", "b"])])
    assert list(map(str, found[1:3])) == ["inputs[1]['text'] is 5 (int), not a str", "unread"]


# -- length ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_long_text_is_cut_and_its_sentence_stays_whole(folder: Path, side: str) -> None:
    pipe = make(folder)
    pipe.tokenizer.truncation_side = side
    if side == "left":  # what the tokenizer leaves of the text
        ids = pipe.tokenizer(LONG, add_special_tokens=False)["input_ids"]
        room = LENGTH - len(pipe.tokenizer("", "This example is books.")["input_ids"])
        assert (
            pipe.rows([item(pipe, LONG)], pipe.options.updated({"candidate_labels": ["books"]}))[0][0].ids[1 : 1 + room]
            == (ids[-room:])
        )
    assert pipe(LONG, TOPICS) == best_first(LONG, TOPICS, together(pairs(pipe, LONG, TOPICS), 2))
    assert pipe.full >= 3


def item(pipe: Any, text: str) -> Any:
    from roberta.common.pipelines.inputs import Item

    return Item(pipe.checked(Item(text, None)), None)


def test_a_text_that_may_not_be_cut_or_has_no_room_is_named(folder: Path) -> None:
    pipe = make(folder)
    whole = len(pipe.tokenizer(LONG, "This example is books.")["input_ids"])
    with pytest.raises(
        ValueError, match=rf"inputs\[1\] has {whole} tokens, and the model takes {LENGTH}; truncation=True"
    ):
        pipe([FRANCE, LONG], ["books"], truncation=False)
    with pytest.raises(
        ValueError, match=r"inputs\[0\] has no room beside the label 'The capital.*, whose sentence has"
    ):
        pipe([FRANCE], ["books", LONG])
    assert pipe(LONG, ["books"], max_length=20) != pipe(LONG, ["books"])
    with pytest.raises(ValueError, match=r"max_length=9 has no effect without truncation=True"):
        pipe(FRANCE, TOPICS, max_length=9, truncation=False)


# -- speed -------------------------------------------------------------------------------------------------------------


def test_all_texts_and_labels_go_through_the_model_together(folder: Path) -> None:
    pipe = make(folder)
    pipe(TEXTS, TOPICS)
    assert [rows for rows, _ in pipe.model.seen] == [len(TEXTS) * len(TOPICS)]


def test_texts_and_sentences_are_tokenised_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, seen = make(folder), []
    tokenizer = type(pipe.tokenizer)
    call = tokenizer.__call__

    def spy(self: Any, texts: list[str], *args: Any, **options: Any) -> Any:
        seen.extend(texts)
        return call(self, texts, *args, **options)

    monkeypatch.setattr(tokenizer, "__call__", spy)
    pipe(TEXTS, [TOPICS] * len(TEXTS))
    assert sorted(seen) == sorted([*TEXTS, *(f"This example is {topic}." for topic in TOPICS)])


def test_many_labels_make_windows_of_fewer_texts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import roberta.common.pipelines.zero_shot as zero_shot

    monkeypatch.setattr(zero_shot, "WINDOW_CHARACTERS", 40_000)
    pipe, labels = make(folder), [f"label {number}" for number in range(40)]
    wanted = [pipe(text, labels) for text in TEXTS[:4]]
    for inputs, given in (
        (TEXTS[:4] * 10, labels),
        ([{"text": text, "candidate_labels": labels} for text in TEXTS[:4] * 10], None),
    ):
        pipe.model.seen.clear()
        found = pipe(inputs, given)
        assert [result["labels"] for result in found] == [result["labels"] for result in wanted * 10]
        assert math.ceil(1600 / 400) <= len(pipe.model.seen) <= 10
        assert max(rows for rows, _ in pipe.model.seen) <= 600


def test_labels_that_name_contradiction_alone_are_refused(folder: Path) -> None:
    """The last label would be taken for entailment, and every score would be exactly a half."""
    with pytest.raises(ValueError, match=r"'implication', 'neutral', 'contradiction': .*id2label"):
        make(folder, ["implication", "neutral", "contradiction"])
    pipe = make(folder, [" entailment", "neutral", "contradiction"])
    assert pipe(FRANCE, TOPICS) == best_first(FRANCE, TOPICS, together(pairs(pipe, FRANCE, TOPICS), 0))


def test_a_text_of_another_type_is_said_to_be_no_text(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"^inputs\[1\] is None \(NoneType\), not a str"):
        make(folder)([FRANCE, None], TOPICS)
