"""The labels of a training: which there are, what number each has, and what the model is to learn of an example."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from roberta.common.config import RobertaConfig
from roberta.common.training.examples import LabelledText, LabelledWords

Problem = Literal["single_label_classification", "multi_label_classification", "regression"]
SHOWN = 20  # labels that an error lists


@dataclass(frozen=True)
class Labels:
    """The labels of a training.

    Attributes:
        problem: what `config.problem_type` says: one label of several, any number of them, or a number.
        names: the name of each label, by its number; of regression that of the number.
    """

    problem: Problem
    names: tuple[str, ...]

    @property
    def id2label(self) -> dict[int, str]:
        """As the model's config has them."""
        return dict(enumerate(self.names))

    @cached_property
    def label2id(self) -> dict[str, int]:
        """The number of each label."""
        return {name: number for number, name in enumerate(self.names)}

    def id_of(self, label: str, where: str) -> int:
        """The number of a label: of its name, or, where names are no numbers, a number that stands for itself.

        Raises:
            ValueError: there is no such label.
        """
        number = self.label2id.get(label)
        if number is not None:
            return number
        if label.isdecimal() and int(label) < len(self.names) and not any(map(is_number, self.names)):
            return int(label)
        known = ", ".join(map(repr, self.names[:SHOWN])) + (", ..." if len(self.names) > SHOWN else "")
        raise ValueError(
            f"{where} has the label {label!r}, which the model does not know; it knows {known}. Correct it, or give "
            "the labels (labels=[...]) or training data that has all of them"
        )

    def target(self, label: str | tuple[str, ...], where: str) -> int | float | list[float]:
        """What the model learns of a text: the number of a label, 1.0 or 0.0 for each label, or a number.

        Raises:
            ValueError: a label is unknown, is there twice, or is no number where one is wanted.
        """
        if self.problem == "regression":
            return _number(label, where)
        if self.problem == "single_label_classification":
            if not isinstance(label, str):
                raise ValueError(f"{where} has a list of labels, where each text has one; say problem=, or give one")
            return self.id_of(label, where)
        ids = [self.id_of(one, where) for one in several(label)]
        if len(set(ids)) < len(ids):
            raise ValueError(f"{where} has a label twice: {list(label)}; list the names of the labels that hold, once")
        return [float(number in ids) for number in range(len(self.names))]


def several(label: str | tuple[str, ...]) -> list[str]:
    """The labels of an example that has any number; in a table commas divide them."""
    return [one.strip() for one in label.split(",") if one.strip()] if isinstance(label, str) else list(label)


def find_labels(
    examples: Iterable[LabelledText | LabelledWords],
    config: RobertaConfig,
    *,
    problem: Problem | None = None,
    labels: Sequence[str] | None = None,
) -> Labels:
    """The labels of a training: the model's own if it has named ones, else those of the data, sorted.

    Labels that are whole numbers are sorted as numbers.

    Args:
        examples: the training data.
        config: of the model. Names like LABEL_0 are none.
        problem: None to tell it: a list of labels says "multi_label_classification"; labels that are all numbers say
            "regression" if the model has one label or one of them has a fraction.
        labels: their names in the order of their numbers, where the data does not have all of them. A model that has
            exactly these keeps its own order.

    Raises:
        ValueError: a label of the data is not among those of the model or of `labels`; there is one label only.
    """
    if problem is not None and problem not in get_args(Problem):
        raise ValueError(f"problem={problem!r} is unknown; it must be one of {', '.join(get_args(Problem))}")
    if labels is not None and len(set(labels)) < len(labels):
        raise ValueError(f"labels={list(labels)} has a name twice; give each once")
    examples = list(examples)
    first = _first_places(examples)
    own = tuple(config.id2label[number] for number in range(config.num_labels))
    is_own = own != tuple(f"LABEL_{number}" for number in range(len(own)))
    if examples and isinstance(examples[0], LabelledWords):
        if problem not in (None, "single_label_classification"):
            raise ValueError(f"problem={problem!r} is for texts; each word has one label of several: leave it out")
        problem = "single_label_classification"
    chosen = problem or (config.problem_type if is_own else None) or _problem(first, config.num_labels)
    if chosen == "regression":
        if labels is not None and len(labels) != 1:
            raise ValueError(f"labels={list(labels)}: regression learns one number; give one name, or none")
        return Labels("regression", tuple(labels or (own if len(own) == 1 else ("LABEL_0",))))
    singles = {one: place for label, place in first.items() for one in _singles(label, chosen)}
    if labels is not None:
        own, is_own = (own if is_own and set(own) == set(labels) else tuple(labels)), True
    names = own if is_own else tuple(sorted(singles, key=_order))
    result = Labels(_as_problem(chosen), names)
    for one, place in singles.items():
        result.id_of(one, place)
    if len(names) < 2 and chosen == "single_label_classification":
        raise ValueError(
            f"every example has the label {names[0]!r}: there is nothing to tell apart; give data with others"
            + (", or problem='regression' if it is a number" if is_number(names[0]) else "")
        )
    return result


def _first_places(examples: Iterable[LabelledText | LabelledWords]) -> dict[str | tuple[str, ...], str]:
    """Each label, or list of them, and where it is first."""
    first: dict[str | tuple[str, ...], str] = {}
    for example in examples:
        for label in example.labels if isinstance(example, LabelledWords) else (example.label,):
            first.setdefault(label, example.where)
    return first


def _problem(first: Iterable[str | tuple[str, ...]], num_labels: int) -> Problem:
    """What the labels of the data are."""
    if any(not isinstance(label, str) for label in first):
        return "multi_label_classification"
    numbers = [label for label in first if isinstance(label, str) and is_number(label)]
    if len(numbers) == len(list(first)) and (num_labels == 1 or not all(map(_is_whole, numbers))):
        return "regression"
    return "single_label_classification"


def _singles(label: str | tuple[str, ...], problem: str) -> list[str]:
    return several(label) if problem == "multi_label_classification" or not isinstance(label, str) else [label]


def _as_problem(problem: str) -> Problem:
    return "multi_label_classification" if problem == "multi_label_classification" else "single_label_classification"


def is_number(label: str) -> bool:
    """Whether a label is a finite number."""
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False


def _is_whole(label: str) -> bool:
    return label.removeprefix("-").isdecimal()


def _order(label: str) -> tuple[int, int, str]:
    """Whole numbers first, as numbers; then names."""
    return (0, int(label), "") if _is_whole(label) else (1, 0, label)


def _number(label: str | tuple[str, ...], where: str) -> float:
    if isinstance(label, str) and is_number(label):
        return float(label)
    raise ValueError(f"{where} has the label {label!r}; regression learns finite numbers: correct it, or say problem=")
