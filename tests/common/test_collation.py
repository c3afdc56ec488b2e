"""Features as arrays: padding, labels and positions, task by task."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

from roberta.common.training.data.batches import Collated
from roberta.common.training.data.collation import Collator
from roberta.common.training.data.masking import Masker, MaskingVocabulary
from roberta.common.training.data.tasks import Task

PAD, IGNORED = 1, -100
VOCABULARY = MaskingVocabulary(50, 49, (0, 1, 2, 3, 49), (0, 1, 2, 3), np.ones(50, bool))


def collate(task: Any, features: list[dict[str, Any]], max_length: int = 32) -> Collated:
    masker = Masker(VOCABULARY) if task == "mlm" else None
    return Collator(task, max_length, PAD, masker)(features, [(0, 0, index) for index in range(len(features))])


def row(length: int) -> list[int]:
    return [0, *range(4, 2 + length), 2]


def padded(values: list[int], seq: int, fill: int) -> list[int]:
    return values + [fill] * (seq - len(values))


def feature(task: Any, length: int) -> dict[str, Any]:
    labels = {
        "text-classification": 1,
        "token-classification": [IGNORED, *[3] * (length - 2), IGNORED],
        "multiple-choice": 1,
    }
    return {
        "input_ids": [row(length), row(3)] if task == "multiple-choice" else row(length),
        "labels": labels.get(task),
        "start_positions": 1,
        "end_positions": length - 2,
    }


@pytest.mark.parametrize("task", get_args(Task))
@pytest.mark.parametrize(("longest", "seq"), [(5, 16), (16, 16), (17, 24), (31, 32)])
def test_rows_are_filled_up_to_the_next_of_few_lengths(task: Task, longest: int, seq: int) -> None:
    inputs = collate(task, [feature(task, 4), feature(task, longest)]).inputs
    assert inputs["input_ids"].shape[-1] == inputs["attention_mask"].shape[-1] == seq
    counts = [[4, 3], [longest, 3]] if task == "multiple-choice" else [4, longest]
    assert inputs["attention_mask"].sum(axis=-1).tolist() == counts
    assert (inputs["input_ids"][inputs["attention_mask"] == 0] == PAD).all()
    assert {array.dtype for array in inputs.values()} == {np.dtype(np.int64)}


def test_mlm_labels_are_what_stood_at_the_positions() -> None:
    features = [{"input_ids": row(30)} for _ in range(40)]
    collated = collate("mlm", features)
    ids, positions, labels = (collated.inputs[name] for name in ("input_ids", "positions", "labels"))
    whole = np.array([padded(row(30), 32, PAD) for _ in features])
    restored = ids.copy().reshape(-1)
    restored[positions[: collated.count]] = labels[: collated.count]
    assert np.array_equal(restored.reshape(whole.shape), whole)
    assert len(set(positions[: collated.count].tolist())) == collated.count == (labels != IGNORED).sum()
    assert (positions[collated.count :] == 0).all()
    assert len(positions) == len(labels) == -(-collated.count // 64) * 64


def test_a_row_is_masked_alike_beside_others_and_alone() -> None:
    features = [{"input_ids": row(length)} for length in (30, 12, 5)]
    collator = Collator("mlm", 32, PAD, Masker(VOCABULARY))
    draws = [(3, 1, index) for index in range(3)]
    together = collator(features, draws).inputs["input_ids"]
    for place in range(3):
        alone = collator(features[place : place + 1], draws[place : place + 1]).inputs["input_ids"][0]
        length = len(features[place]["input_ids"])
        assert alone[:length].tolist() == together[place, :length].tolist()


def test_without_a_chosen_token_mlm_has_no_target() -> None:
    draw = next(d for d in range(100) if not len(Masker(VOCABULARY)(np.array([0, 2]), (0, 0, d))[1]))
    collated = Collator("mlm", 32, PAD, Masker(VOCABULARY))([{"input_ids": [0, 2]}], [(0, 0, draw)])
    assert collated.count == 0
    assert collated.inputs["labels"].tolist() == [IGNORED] * 64


def test_clm_labels_are_the_tokens_and_those_with_one_before_them_count() -> None:
    collated = collate("clm", [{"input_ids": row(4)}, {"input_ids": row(3)}])
    assert collated.inputs["labels"].tolist() == [padded([0, 4, 5, 2], 16, IGNORED), padded([0, 4, 2], 16, IGNORED)]
    assert collated.count == 3 + 2


@pytest.mark.parametrize(
    ("labels", "dtype", "count"),
    [
        ([2, 0, 1], "int64", 3),
        ([2, IGNORED, 1], "int64", 2),
        ([0.5, 2.0, -1.0], "float32", 3),
        ([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]], "float32", 3),
        ([[0, 1], [1, 1], [0, 0]], "float32", 3),
    ],
)
def test_labels_of_texts_have_the_type_of_their_problem(labels: list[Any], dtype: str, count: int) -> None:
    collated = collate("text-classification", [{"input_ids": row(4), "labels": label} for label in labels])
    assert collated.inputs["labels"].dtype == dtype
    assert collated.inputs["labels"].tolist() == labels
    assert collated.count == count


def test_labels_of_tokens_are_filled_up_with_what_is_no_target() -> None:
    collated = collate("token-classification", [feature("token-classification", 5)])
    assert collated.inputs["labels"].tolist() == [padded([IGNORED, 3, 3, 3], 16, IGNORED)]
    assert collated.count == 3


def test_spans_and_choices_count_by_row() -> None:
    spans = collate("question-answering", [feature("question-answering", n) for n in (5, 9)])
    assert (spans.inputs["start_positions"].tolist(), spans.inputs["end_positions"].tolist()) == ([1, 1], [3, 7])
    choices = collate("multiple-choice", [feature("multiple-choice", n) for n in (5, 9)])
    assert choices.inputs["input_ids"].tolist()[1] == [padded(row(9), 16, PAD), padded(row(3), 16, PAD)]
    assert choices.inputs["labels"].tolist() == [1, 1]
    assert spans.count == choices.count == 2


@pytest.mark.parametrize(
    ("task", "changed", "message"),
    [
        ("mlm", {"input_ids": row(33)}, "example 1 has 33 tokens; .* at most the 32 of max_length"),
        ("clm", {"input_ids": []}, "example 1 has 0 tokens; it must have at least 1"),
        ("token-classification", {"input_ids": row(5), "labels": [1]}, "example 1 has 1 labels for 5 tokens"),
        ("multiple-choice", {"input_ids": [row(3)], "labels": 0}, "example 1 has 1 choices, and example 0 has 2"),
        ("multiple-choice", {"input_ids": [row(3), row(40)], "labels": 0}, "example 1 has 40 tokens"),
    ],
)
def test_a_feature_that_cannot_be_collated_is_named(task: Task, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        collate(task, [feature(task, 5), changed])


def test_settings_that_do_not_fit_the_task_are_refused() -> None:
    with pytest.raises(ValueError, match="task='nsp' is unknown; it must be one of mlm, clm"):
        Collator("nsp", 32, PAD)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_length=0 holds no token"):
        Collator("clm", 0, PAD)
    with pytest.raises(ValueError, match="task='mlm': 'mlm' needs a masker"):
        Collator("mlm", 32, PAD)
    with pytest.raises(ValueError, match="task='clm': 'mlm' needs a masker, and no other"):
        Collator("clm", 32, PAD, Masker(VOCABULARY))
