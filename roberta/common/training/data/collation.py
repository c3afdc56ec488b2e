"""Features of a task -> the arrays that its model reads: padded, with labels, and masked where that is the task."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roberta.common.inference.batching import buckets
from roberta.common.training.data.batches import Collated, Draw, Feature
from roberta.common.training.data.masking import Masker
from roberta.common.training.data.tasks import HEADS, Task
from roberta.common.values import IGNORED

POSITIONS_MULTIPLE = 64  # so that XLA compiles few programs for the many numbers of masked tokens


@dataclass(frozen=True)
class Collator:
    """Makes arrays of some features of a task.

    Rows are padded on the right to one of few lengths (`batching.buckets`). Every array is int64 but the labels of
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

    Raises:
        ValueError: the task is unknown; a masker is missing, or of no use.
    """

    task: Task
    max_length: int
    pad_token_id: int
    masker: Masker | None = None

    def __post_init__(self) -> None:
        if self.task not in HEADS:
            raise ValueError(f"task={self.task!r} is unknown; it must be one of {', '.join(HEADS)}")
        if self.max_length < 1:
            raise ValueError(f"max_length={self.max_length!r} holds no token; it must be at least 1")
        if (self.task == "mlm") != (self.masker is not None):
            raise ValueError(f"task={self.task!r}: a masker is for 'mlm', which needs one, and for no other task")

    def __call__(self, features: Sequence[Feature], draws: Sequence[Draw]) -> Collated:
        """The arrays of the features.

        Args:
            draws: (seed, epoch, index) of each feature, for what is drawn for it. Errors name the index.

        Raises:
            ValueError: a feature has no tokens or too many, or its labels do not fit them.
        """
        return _COLLATE[self.task](self, features, draws)

    def pad(self, rows: Sequence[Any], draws: Sequence[Draw]) -> dict[str, np.ndarray]:
        """input_ids and attention_mask, int64, (rows, seq), of rows of ids."""
        for row, (_, _, index) in zip(rows, draws, strict=True):
            if not 0 < len(row) <= self.max_length:
                raise ValueError(
                    f"example {index} has {len(row)} tokens; it must have at least 1, and at most the {self.max_length} "
                    "of max_length: drop or truncate it"
                )
        ids, is_token = self.rectangle(rows, self.pad_token_id)
        return {"input_ids": ids, "attention_mask": is_token.astype(np.int64)}

    def rectangle(self, rows: Sequence[Any], fill: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows as int64, (rows, seq), and where they are not filled up, bool; seq is a bucket."""
        counts = np.array([len(row) for row in rows])
        seq = next(length for length in _lengths(self.max_length) if length >= counts.max())
        is_token = np.arange(seq) < counts[:, None]
        result = np.full(is_token.shape, fill, np.int64)
        result[is_token] = np.concatenate([np.asarray(row, np.int64) for row in rows])
        return result, is_token


@functools.cache
def _lengths(longest: int) -> tuple[int, ...]:
    return buckets(longest)


def _mlm(collator: Collator, features: Sequence[Feature], draws: Sequence[Draw]) -> Collated:
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
    return Collated({**inputs, "positions": positions, "labels": labels}, len(found))


def _clm(collator: Collator, features: Sequence[Feature], draws: Sequence[Draw]) -> Collated:
    inputs = collator.pad([feature["input_ids"] for feature in features], draws)
    labels = np.where(inputs["attention_mask"] != 0, inputs["input_ids"], IGNORED)
    return Collated({**inputs, "labels": labels}, int((labels[:, 1:] != IGNORED).sum()))


def _text_classification(collator: Collator, features: Sequence[Feature], draws: Sequence[Draw]) -> Collated:
    inputs = collator.pad([feature["input_ids"] for feature in features], draws)
    labels = np.array([feature["labels"] for feature in features])
    if labels.ndim == 2 or labels.dtype.kind == "f":  # several labels at once, or regression
        return Collated({**inputs, "labels": labels.astype(np.float32)}, len(labels))
    return Collated({**inputs, "labels": labels.astype(np.int64)}, int((labels != IGNORED).sum()))


def _token_classification(collator: Collator, features: Sequence[Feature], draws: Sequence[Draw]) -> Collated:
    for feature, (_, _, index) in zip(features, draws, strict=True):
        if len(feature["labels"]) != len(feature["input_ids"]):
            raise ValueError(
                f"example {index} has {len(feature['labels'])} labels for {len(feature['input_ids'])} tokens; each "
                f"token needs one, {IGNORED} where it has none"
            )
    inputs = collator.pad([feature["input_ids"] for feature in features], draws)
    labels, _ = collator.rectangle([feature["labels"] for feature in features], IGNORED)
    return Collated({**inputs, "labels": labels}, int((labels != IGNORED).sum()))


def _question_answering(collator: Collator, features: Sequence[Feature], draws: Sequence[Draw]) -> Collated:
    inputs = collator.pad([feature["input_ids"] for feature in features], draws)
    spans = {name: np.array([f[name] for f in features], np.int64) for name in ("start_positions", "end_positions")}
    return Collated({**inputs, **spans}, len(features))


def _multiple_choice(collator: Collator, features: Sequence[Feature], draws: Sequence[Draw]) -> Collated:
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
    labels = np.array([feature["labels"] for feature in features], np.int64)
    return Collated({**folded, "labels": labels}, int((labels != IGNORED).sum()))


_COLLATE: dict[Task, Callable[[Collator, Sequence[Feature], Sequence[Draw]], Collated]] = {
    "mlm": _mlm,
    "clm": _clm,
    "text-classification": _text_classification,
    "token-classification": _token_classification,
    "question-answering": _question_answering,
    "multiple-choice": _multiple_choice,
}
