"""How the cross entropy of a training is changed: label smoothing, and a weight for each class.

Both are those of `torch.nn.CrossEntropyLoss`, in all three frameworks: of K classes with weights w, a target y costs

    (1 - smoothing) * w[y] * -log p[y]  +  smoothing / K * sum over c of w[c] * -log p[c]

and the sum over all targets is divided by the sum of their w[y]: over the whole batch, not over each micro-batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from roberta.common.training.data.batches import Feature
from roberta.common.training.data.labels import Labels
from roberta.common.training.data.tasks import Task
from roberta.common.values import IGNORED

ClassWeights = Sequence[float] | Mapping[str, float] | str
_SMOOTHED: tuple[Task, ...] = ("mlm", "clm", "text-classification", "token-classification", "multiple-choice")
_WEIGHTED: tuple[Task, ...] = ("text-classification", "token-classification")
_SHOWN = 10  # labels that an error lists


@dataclass(frozen=True)
class LossOptions:
    """Changes to a cross entropy.

    Attributes:
        label_smoothing: the share of each target that is spread over all classes.
        class_weights: of each class, by its number; None for 1.
    """

    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing is changed."""
        return not self.label_smoothing and self.class_weights is None

    def check_task(self, task: Task) -> None:
        """Raise `ValueError` for a task whose loss they cannot change."""
        for name, value, tasks in (
            ("label_smoothing", self.label_smoothing or None, _SMOOTHED),
            ("class_weights", self.class_weights, _WEIGHTED),
        ):
            if value is not None and task not in tasks:
                raise ValueError(f"{name}={value!r} is for {', '.join(tasks)}; omit it for {task}")

    def check_problem(self, problem: str) -> None:
        """Raise `ValueError` unless each row has one class of several."""
        if not self.is_plain and problem != "single_label_classification":
            name = "label_smoothing" if self.class_weights is None else "class_weights"
            raise ValueError(
                f"{name}={getattr(self, name)!r} is for rows that have one class each; omit it for problem={problem!r}"
            )

    def check_classes(self, classes: int) -> None:
        """Raise `ValueError` for another number of classes than there are weights."""
        if self.class_weights is not None and len(self.class_weights) != classes:
            raise ValueError(
                f"class_weights={list(self.class_weights)} are {len(self.class_weights)} numbers, and the model has "
                f"{classes} labels; give one for each, in the order of their numbers"
            )


PLAIN_LOSS = LossOptions()


def class_weights_of(given: ClassWeights, labels: Labels, features: Sequence[Feature]) -> tuple[float, ...]:
    """The weight of each label, by its number.

    Args:
        given: a weight for each name; or numbers in the order of the labels' numbers; or "balanced", which gives each
            label rows / (labels * its rows), as scikit-learn does, so that all labels count the same.
        features: of the training.

    Raises:
        ValueError: rows do not have one label each; names or their number are not those of the labels; or a weight is
            not above 0.
    """
    check_class_weights(given)
    LossOptions(class_weights=()).check_problem(labels.problem)
    names = ", ".join(labels.names[:_SHOWN]) + ", ..." * (len(labels.names) > _SHOWN)
    if isinstance(given, str):
        return _balanced(labels, features)
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in labels.names]
        lacking = [name for name in labels.names if name not in given]
        if unknown or lacking:
            wrong = f"{unknown[0]!r} is not a label" if unknown else f"{lacking[0]!r} has no weight"
            raise ValueError(f"class_weights={dict(given)}: {wrong}; give one for each of the labels: {names}")
        given = [given[name] for name in labels.names]
    if len(given) != len(labels.names):
        raise ValueError(
            f"class_weights={list(given)} are {len(given)} numbers, and there are {len(labels.names)} labels; give one "
            f"for each, in this order: {names}"
        )
    for name, value in zip(labels.names, given, strict=True):
        is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not is_number or not 0 < value < math.inf:
            raise ValueError(
                f"class_weights: {name!r} has {value!r}, and must have a finite number above 0; to leave its rows out of "
                "the training, remove them from the data"
            )
    return tuple(map(float, given))


def check_class_weights(given: object) -> None:
    """Raise `ValueError` for what cannot be weights of any labels."""
    are_numbers = isinstance(given, Mapping | Sequence) or (isinstance(given, np.ndarray) and given.ndim == 1)
    if given != "balanced" if isinstance(given, str) else not are_numbers:
        raise ValueError(
            f"class_weights={given!r} must be 'balanced', or a weight for each label: by its name, or a list of numbers in "
            "the order of the labels"
        )


def _balanced(labels: Labels, features: Sequence[Feature]) -> tuple[float, ...]:
    """The weights that make all labels count the same."""
    all_ = np.concatenate([np.atleast_1d(np.asarray(feature["labels"])) for feature in features])
    counts = np.bincount(all_[all_ != IGNORED], minlength=len(labels.names))
    missing = [name for name, count in zip(labels.names, counts, strict=True) if not count]
    if missing:
        raise ValueError(
            f"class_weights='balanced': no row of the training data has the label {missing[0]!r}; give a weight for each "
            "label instead"
        )
    return tuple(float(counts.sum() / (len(counts) * count)) for count in counts)


def parsed_class_weights(words: Sequence[str]) -> ClassWeights:
    """The words of the command line: "balanced", or NAME=WEIGHT for each label, or numbers in the labels' order.

    Raises:
        ValueError: they are neither.
    """
    if list(words) == ["balanced"]:
        return "balanced"
    try:
        if all("=" in word for word in words):
            pairs = [word.rpartition("=") for word in words]
            return {name: float(value) for name, _, value in pairs}
        return [float(word) for word in words]
    except ValueError:
        raise ValueError(
            f"class_weights={list(words)} must be balanced, or NAME=WEIGHT for each label, or a number for each"
        ) from None
