"""The loss that evaluation computes from the results of `infer` equals that of the class's own forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import checkpoints
import numpy as np
import pytest
from backends import Backend

from roberta.common.training.data.collation import Collator
from roberta.common.training.data.masking import Masker, Masking, MaskingVocabulary
from roberta.common.training.data.tasks import HEADS, Task
from roberta.common.training.evaluation import BATCH_SCORES, IGNORED, Evaluation

SIZE, LENGTHS = 61, (16, 9, 4)  # size of the vocabulary; 16 is a bucket


def features(task: Task) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    rows = [rng.integers(4, SIZE, length).tolist() for length in LENGTHS]
    if task == "text-classification":
        return [{"input_ids": row, "labels": number} for number, row in enumerate(rows)]
    if task == "token-classification":
        return [{"input_ids": row, "labels": [IGNORED, *rng.integers(0, 5, len(row) - 1).tolist()]} for row in rows]
    if task == "question-answering":  # without padding, whose logits a forward pass counts
        return [{"input_ids": rows[0], "start_positions": start, "end_positions": start + 2} for start in (0, 5)]
    if task == "multiple-choice":
        return [{"input_ids": rows, "labels": 1}, {"input_ids": rows[::-1], "labels": 2}]
    return [{"input_ids": row} for row in rows]


def evaluation(task: Task, some: list[dict[str, Any]]) -> Evaluation:
    words = MaskingVocabulary(SIZE, 60, (0, 1, 2, 60), (0, 1, 2, 3), np.ones(SIZE, bool))
    masker = Masker(words, Masking(rate=0.4)) if task == "mlm" else None
    made = object.__new__(Evaluation)  # the libraries for metrics are not needed
    for name, value in {
        "task": task, "features": some, "collate": Collator(task, 28, 1, masker), "seed": 5, "questions": None,
        "_lengths": np.array([16] * len(some)),
    }.items():  # fmt: skip
        object.__setattr__(made, name, value)
    return made


def own_loss(backend: Backend, model: Any, task: Task, inputs: dict[str, np.ndarray]) -> float:
    """The loss of the forward pass, where the labels cover all tokens."""
    if task == "mlm":
        is_target = inputs["labels"] != IGNORED
        labels = np.full(inputs["input_ids"].shape, IGNORED)
        labels.reshape(-1)[inputs["positions"][is_target]] = inputs["labels"][is_target]
        inputs = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"], "labels": labels}
    return float(backend.run(model, inputs)["loss"])


@pytest.mark.parametrize("task", get_args(Task))
def test_the_loss_is_that_of_the_forward_pass(backend: Backend, task: Task, tmp_path: Path) -> None:
    model = backend.load(HEADS[task], checkpoints.make(tmp_path, HEADS[task]))
    ((_, collated),) = evaluation(task, features(task)).batches(model.config)
    part = BATCH_SCORES[task](model, collated)
    assert part.targets == collated.count
    assert part.loss / part.targets == pytest.approx(own_loss(backend, model, task, dict(collated.inputs)), rel=1e-10)
