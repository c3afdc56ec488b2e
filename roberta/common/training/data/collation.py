"""Features of a task -> the arrays that its model reads: padded, with labels, and masked if the task is "mlm"."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from roberta.common.inference.batching import buckets
from roberta.common.pipelines.arrays import rectangle
from roberta.common.training.data.batches import Collated, Draw, Feature, count_targets
from roberta.common.training.data.masking import Masker
from roberta.common.training.data.tasks import Task, check_task
from roberta.common.values import IGNORED

POSITIONS_MULTIPLE = 64  # so that XLA compiles few programs for the many numbers of masked tokens
_Inputs = dict[str, np.ndarray]
_buckets = functools.cache(buckets)


@dataclass(frozen=True)
class Collator:
    """Makes arrays of some features of a task.

    Rows are padded on the right to one of few lengths (`batching.buckets`). Every array is int64 except the labels of
    regression, float32 (rows,), and of several labels at once, float32 (rows, labels).

    Beside input_ids and attention_mask, (rows, seq), the inputs are:

    - mlm: positions (n,), places of the chosen tokens in the flattened (rows * seq), and labels (n,), what they were;
      n is padded to a multiple of 64 with position 0 and label -100.
    - clm: labels (rows, seq), the ids, -100 at padding; the model shifts them.
    - text-classification: labels (rows,) or (rows, labels).
    - token-classification: labels (rows, seq), -100 where there is none.
    - question-answering: start_positions and end_positions (rows,).
    - multiple-choice: labels (rows,); input_ids and attention_mask are (rows, choices, seq).

    Attributes:
        max_length: tokens of a row, at most: as many as the model has positions for.
        pad_token_id: fills input_ids.
        masker: for "mlm".
        class_weights: how many times a target of each class counts; None for once.

    Raises:
        ValueError: the task is unknown, "mlm" has no masker, or another task has one.
    """

    task: Task
    max_length: int
    pad_token_id: int
    masker: Masker | None = None
    class_weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        check_task(self.task)
        if self.max_length < 1:
            raise ValueError(f"max_length={self.max_length!r} holds no token; it must be at least 1")
        if (self.task == "mlm") != (self.masker is not None):
            raise ValueError(f"task={self.task!r}: 'mlm' needs a masker, and no other task takes one")

    def __call__(self, features: Sequence[Feature], draws: Sequence[Draw]) -> Collated:
        """The arrays of the features.

        Args:
            draws: (seed, epoch, index) of each feature, for what is drawn for it. Errors name the index.

        Raises:
            ValueError: a feature has no tokens or too many, or its labels do not fit them.
        """
        inputs = _COLLATE[self.task](self, features, draws)
        return Collated(inputs, count_targets(inputs, self.task, self.class_weights))

    def pad(self, rows: Sequence[Sequence[int] | np.ndarray], draws: Sequence[Draw]) -> dict[str, np.ndarray]:
        """input_ids and attention_mask, int64, (rows, seq), of rows of ids."""
        for row, (_, _, index) in zip(rows, draws, strict=True):
            if not 0 < len(row) <= self.max_length:
                raise ValueError(
                    f"example {index} has {len(row)} tokens; it must have at least 1, and at most the {self.max_length} "
                    "of max_length: remove or truncate it"
                )
        ids, mask = self.rectangle(rows, self.pad_token_id)
        return {"input_ids": ids, "attention_mask": mask}

    def rectangle(self, rows: Sequence[Sequence[int] | np.ndarray], fill: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows and their mask, int64, (rows, seq), where seq is a bucket."""
        longest = max(map(len, rows))
        seq = next(size for size in _buckets(self.max_length) if size >= longest)
        return rectangle(rows, fill, width=seq)


def _padded(collator: Collator, features: Sequence[Feature], draws: Sequence[Draw]) -> _Inputs:
    return collator.pad([feature["input_ids"] for feature in features], draws)


def _mlm(collator: Collator, features: Sequence[Feature], draws: Sequence[Draw]) -> _Inputs:
    assert collator.masker is not None, "checked in the constructor"
    rows = [np.asarray(feature["input_ids"], np.int64) for feature in features]
    masked = [
        collator.masker(row, draw, feature.get("word_ids"))
        for row, draw, feature in zip(rows, draws, features, strict=True)
    ]
    inputs = collator.pad([row for row, _ in masked], draws)
    seq = inputs["input_ids"].shape[1]
    found = np.concatenate([number * seq + places for number, (_, places) in enumerate(masked)])
    size = max(1, -(-len(found) // POSITIONS_MULTIPLE)) * POSITIONS_MULTIPLE
    positions, labels = np.zeros(size, np.int64), np.full(size, IGNORED, np.int64)
    positions[: len(found)] = found
    labels[: len(found)] = np.concatenate([row[places] for row, (_, places) in zip(rows, masked, strict=True)])
    return {**inputs, "positions": positions, "labels": labels}


def _clm(collator: Collator, features: Sequence[Feature], draws: Sequence[Draw]) -> _Inputs:
    inputs = _padded(collator, features, draws)
    return {**inputs, "labels": np.where(inputs["attention_mask"] != 0, inputs["input_ids"], IGNORED)}


def _text_classification(collator: Collator, features: Sequence[Feature], draws: Sequence[Draw]) -> _Inputs:
    inputs = _padded(collator, features, draws)
    labels = np.array([feature["labels"] for feature in features])
    is_float = labels.ndim == 2 or labels.dtype.kind == "f"  # several labels at once, or regression
    return {**inputs, "labels": labels.astype(np.float32 if is_float else np.int64)}


def _token_classification(collator: Collator, features: Sequence[Feature], draws: Sequence[Draw]) -> _Inputs:
    for feature, (_, _, index) in zip(features, draws, strict=True):
        if len(feature["labels"]) != len(feature["input_ids"]):
            raise ValueError(
                f"example {index} has {len(feature['labels'])} labels for {len(feature['input_ids'])} tokens; each "
                f"token needs one, {IGNORED} where it has none"
            )
    inputs = _padded(collator, features, draws)
    labels, _ = collator.rectangle([feature["labels"] for feature in features], IGNORED)
    return {**inputs, "labels": labels}


def _question_answering(collator: Collator, features: Sequence[Feature], draws: Sequence[Draw]) -> _Inputs:
    inputs = _padded(collator, features, draws)
    for name in ("start_positions", "end_positions"):
        inputs[name] = np.array([feature[name] for feature in features], np.int64)
    return inputs


def _multiple_choice(collator: Collator, features: Sequence[Feature], draws: Sequence[Draw]) -> _Inputs:
    choices = len(features[0]["input_ids"])
    for feature, (_, _, index) in zip(features, draws, strict=True):
        if len(feature["input_ids"]) != choices:
            raise ValueError(
                f"example {index} has {len(feature['input_ids'])} choices, and example {draws[0][2]} has {choices}; all "
                "examples of a training need the same number"
            )
    rows = [row for feature in features for row in feature["input_ids"]]
    inputs = collator.pad(rows, [draw for draw in draws for _ in range(choices)])
    folded = {name: array.reshape(len(features), choices, -1) for name, array in inputs.items()}
    return {**folded, "labels": np.array([feature["labels"] for feature in features], np.int64)}


_COLLATE: dict[Task, Callable[[Collator, Sequence[Feature], Sequence[Draw]], _Inputs]] = {
    "mlm": _mlm,
    "clm": _clm,
    "text-classification": _text_classification,
    "token-classification": _token_classification,
    "question-answering": _question_answering,
    "multiple-choice": _multiple_choice,
}
