"""The labels of a training: which there are, what number each has, and what the model is to learn of an example."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

from roberta.common.config import RobertaConfig
from roberta.common.training.data import multi_hot
from roberta.common.training.data.examples import LabelledText, LabelledWords

Problem = Literal["single_label_classification", "multi_label_classification", "regression"]
SHOWN = 20  # labels that an error lists
FEW = 20  # rows that may well have a label each
KEPT = "names and numbers are the model's own, and so is the classifier, if it has one"
_WHOLE = re.compile(r"-?[0-9]+\.0")  # as JSON and pandas have a whole number among others
NOT_LABELLED = "-1"  # in public data sets


@dataclass(frozen=True)
class Labels:
    """The labels of a training.

    Attributes:
        problem: what `config.problem_type` says: one label of several, any number of them, or a number.
        names: the name of each label, by its number; of regression that of the number.
        takes_numbers: whether the data may have the number of a label in the place of its name.
        is_new_head: whether the classifier of the model has other labels, and is made anew.
        remark: where the names are from, and what that means for the classifier.
        places: the name that each place of a list of 0 and 1 is about; () for lists of the labels that hold.
        numbering: the names in the order of the numbers that the data has, where that is not the order of `names`.
    """

    problem: Problem
    names: tuple[str, ...]
    takes_numbers: bool = False
    is_new_head: bool = False
    remark: str = ""
    places: tuple[str, ...] = ()
    numbering: tuple[str, ...] = ()

    @property
    def id2label(self) -> dict[int, str]:
        """As the model's config has them."""
        return dict(enumerate(self.names))

    @cached_property
    def label2id(self) -> dict[str, int]:
        """The number of each label."""
        return {name: number for number, name in enumerate(self.names)}

    def id_of(self, label: str, where: str) -> int:
        """The number of a label: of its name, or, where that is allowed, a number that stands for itself.

        Raises:
            ValueError: there is no such label.
        """
        number = self.label2id.get(label)
        if number is not None:
            return number
        if _WHOLE.fullmatch(label):
            return self.id_of(plain(label, ()), where)
        if self.takes_numbers and label.isdecimal() and int(label) < len(self.names):
            return self.label2id[self.numbering[int(label)]] if self.numbering else int(label)
        if label == NOT_LABELLED and all(map(_is_whole, self.names)):
            raise ValueError(
                f"{where} has the label '-1', with which public data sets mark rows without a label; remove the row, or "
                f"if it is a label like others, give labels={['-1', *self.names[:SHOWN]]}"
            )
        raise ValueError(
            f"{where} has the label {label!r}, which is none of the labels of this training: "
            f"{listed(self.names)}. Correct it, or give training data that has all labels, or their names as labels="
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
        if self.places:
            held = multi_hot.target(several(label), self.places, where)
            return [held[name] for name in self.names]
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
    keep_labels: bool = False,
    are_columns_said: bool = False,
    skips: bool = False,
) -> Labels:
    """The labels of a training: those of the data, sorted, or in the model's order if it has the same names.

    Labels that are whole numbers are sorted as numbers.

    Args:
        examples: the training data.
        config: of the model. Names like LABEL_0 are none.
        problem: None to tell it: a list of labels says "multi_label_classification"; labels that are all numbers say
            "regression" if the model has one label or one of them has a fraction.
        labels: their names in the order of their numbers, where the data does not have all of them, or has numbers. A
            model that has exactly these keeps its own order.
        keep_labels: the labels are the model's; numbers are its ids.
        are_columns_said: the column of labels is the caller's choice, so that it is one, however odd it looks.
        skips: leave a label out that cannot be used, as its examples will be.

    Raises:
        ValueError: a label of the data is not among those asked for; there is one label only; or it cannot be told
            what the labels are.
    """
    _check(config, problem, labels, keep_labels)
    examples = list(examples)
    first = _first_places(examples)
    own = own_names(config)
    if examples and isinstance(examples[0], LabelledWords):
        if problem not in (None, "single_label_classification"):
            raise ValueError(f"problem={problem!r} is for texts; each word has one label of several: leave it out")
        chosen: Problem = "single_label_classification"
    else:
        chosen = problem or _problem(first, config, own)
        if problem is None and not labels and not keep_labels:
            check_plausible(first, len(examples), chosen, config, are_columns_said=are_columns_said)
    if chosen == "regression":
        return _regression(config, own, labels)
    lists = {tuple(several(label)): place for label, place in first.items() if _is_list(label)}
    size = multi_hot.width(lists) if chosen == "multi_label_classification" and len(lists) == len(first) else 0
    if size > 1 or (size == 1 and len(labels or own) < 2):  # one 0 or 1 in each may be a number of several labels
        return _multi_hot(size, lists, config, own, labels, keep_labels)
    exact = set(labels or own)
    singles: dict[str, str] = {}
    for label, place in first.items():
        for one in _singles(label, chosen):
            singles.setdefault(plain(one, exact), place)
    if labels is None and not keep_labels:
        _check_kinds(singles)
    result = _named(chosen, singles, config, own, labels, keep_labels)
    for one, place in singles.items() if not skips else ():
        result.id_of(one, place)
    if len(result.names) < 2 and chosen == "single_label_classification":
        raise _one_label(result.names[0])
    return result


def _check(config: RobertaConfig, problem: Problem | None, labels: Sequence[str] | None, keep_labels: bool) -> None:
    if problem is not None and problem not in get_args(Problem):
        raise ValueError(f"problem={problem!r} is unknown; it must be one of {', '.join(get_args(Problem))}")
    if labels is not None and len(set(labels)) < len(labels):
        raise ValueError(f"labels={list(labels)} has a name twice; give each once")
    if labels is not None and keep_labels:
        raise ValueError(f"labels={list(labels)} and keep_labels=True both say what the labels are; leave one out")


def _one_label(name: str) -> ValueError:
    hint = (
        "; public data sets mark rows without a label so: take a part that has labels" if name == NOT_LABELLED else ""
    )
    more = ", or problem='regression' if it is a number" if is_number(name) else ""
    return ValueError(
        f"every example has the label {name!r}: there is nothing to tell apart{hint}; give data with others{more}"
    )


def own_names(config: RobertaConfig) -> tuple[str, ...]:
    """The names that a model has for its labels, by their number; () for none, which LABEL_0, LABEL_1, ... are."""
    own = tuple(str(config.id2label[number]) for number in range(config.num_labels))
    return () if own == tuple(f"LABEL_{number}" for number in range(len(own))) else own


def _regression(config: RobertaConfig, own: tuple[str, ...], labels: Sequence[str] | None) -> Labels:
    if labels is not None and len(labels) != 1:
        raise ValueError(f"labels={list(labels)}: regression learns one number; give one name, or none")
    names = tuple(labels or (own if len(own) == 1 else ("LABEL_0",)))
    is_new = config.num_labels != 1 or bool(own and own != names)
    remark = (
        f"a number; the model's labels were {listed(own)}, and its classifier is made anew" if is_new and own else ""
    )
    return Labels("regression", names, is_new_head=is_new, remark=remark or "a number")


def _multi_hot(
    size: int, lists: Mapping[tuple[str, ...], str], config: RobertaConfig, own: tuple[str, ...],
    labels: Sequence[str] | None, keep_labels: bool,
) -> Labels:  # fmt: skip
    """The names of labels that hold or not by the 0 and 1 at their place; the model's own where it has learnt such."""
    is_own = keep_labels or config.problem_type == "multi_label_classification"
    stored = tuple(str(config.id2label[number]) for number in range(config.num_labels))
    places = tuple(labels) if labels is not None else stored if keep_labels else own if is_own else ()
    multi_hot.check_names(size, places, lists)
    named = _named("multi_label_classification", dict.fromkeys(places, ""), config, own, labels, keep_labels)
    return replace(named, places=places)


def _named(
    chosen: Problem, singles: Mapping[str, str], config: RobertaConfig, own: tuple[str, ...],
    labels: Sequence[str] | None, keep_labels: bool,
) -> Labels:  # fmt: skip
    """The names of labels, and what that means for the model's classifier."""
    stored = tuple(str(config.id2label[number]) for number in range(config.num_labels))
    takes_numbers = (labels is not None or keep_labels) and not any(map(is_number, labels or own))
    if labels and not keep_labels and set(labels) == set(stored):  # in any order, which says what numbers mean
        return Labels(chosen, stored, takes_numbers, remark=KEPT, numbering=tuple(labels))
    if keep_labels or (labels is None and set(singles) <= set(stored)):
        return Labels(chosen, stored, takes_numbers, remark=KEPT)
    if own and labels is None and all(map(_is_whole, singles)) and not any(map(is_number, own)):
        raise ValueError(
            f"the labels of the data are the numbers {listed(sorted(singles, key=_order))}, and the model's labels are "
            f"{listed(own)}. Say what the numbers mean: their names in the order of the numbers, such as "
            f"labels={[f'name{number}' for number in range(_most(singles) + 1)]}, or keep_labels=True if they are the "
            "numbers of the model's own labels"
        )
    names = tuple(labels) if labels is not None else tuple(sorted(_usable(singles), key=_order))
    numbers = tuple(map(str, range(len(names))))
    is_new = len(names) != config.num_labels or bool(own) or names != numbers
    before = f" in place of the model's {listed(own)}" if own else ""
    remark = f"the names are {'those asked for' if labels is not None else 'those of the data'}{before}"
    return Labels(chosen, names, takes_numbers, is_new, remark + ("; the classifier is made anew" if is_new else ""))


def _most(singles: Iterable[str]) -> int:
    return max(min(max(map(int, singles)), SHOWN), 1)


def _usable(singles: Iterable[str]) -> list[str]:
    """The labels without -1, where it marks rows without a label: all others count from 0."""
    found = list(singles)
    others = [one for one in found if one != NOT_LABELLED]
    is_mark = len(others) > 1 and all(one.isdecimal() for one in others)
    return others if is_mark else found


def check_plausible(
    first: Mapping[str | tuple[str, ...], str], rows: int, chosen: Problem, config: RobertaConfig, *,
    are_columns_said: bool,
) -> None:  # fmt: skip
    """Refuse labels that are most likely none, where nobody said what they are.

    Raises:
        ValueError: nearly every row has a label of its own, or all numbers have a fraction of .0.
    """
    if chosen == "single_label_classification" and not are_columns_said and rows >= FEW and len(first) > rows / 2:
        shown = "\n".join(f"    {str(label)[:100]}" for label in list(first)[:3])
        raise ValueError(
            f"{rows} rows have {len(first)} labels, nearly every row one of its own; the first are\n{shown}\nSay which "
            "column has the labels, such as columns={'label': 'NAME'}; if these are they, "
            "problem='single_label_classification'"
        )
    if chosen == "regression" and config.num_labels != 1 and all(_is_rounded(label) for label in first):
        raise ValueError(
            f"the labels are {listed([str(label) for label in first])}: whole numbers with a fraction of .0; say whether "
            "they are classes, problem='single_label_classification', or amounts, problem='regression'"
        )


def _is_rounded(label: str | tuple[str, ...]) -> bool:
    return isinstance(label, str) and float(label).is_integer()


def listed(names: Sequence[str]) -> str:
    """Names in an error or a report, the first of many."""
    return ", ".join(map(repr, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")


def _first_places(examples: Iterable[LabelledText | LabelledWords]) -> dict[str | tuple[str, ...], str]:
    """Each label, or list of them, and where it is first."""
    first: dict[str | tuple[str, ...], str] = {}
    for example in examples:
        for label in example.labels if isinstance(example, LabelledWords) else (example.label,):
            first.setdefault(label, example.where)
    return first


def _problem(first: Collection[str | tuple[str, ...]], config: RobertaConfig, own: tuple[str, ...]) -> Problem:
    """What the labels of the data are; where they may be several things, what the model's own are."""
    if any(not isinstance(label, str) for label in first):
        return "multi_label_classification"
    labels = [label for label in first if isinstance(label, str)]
    is_known = {one for label in labels for one in several(label)} <= set(own)
    if own and config.problem_type == "multi_label_classification" and is_known:
        return "multi_label_classification"
    are_numbers = all(map(is_number, labels))
    is_amount = own and config.problem_type == "regression"
    if are_numbers and (config.num_labels == 1 or is_amount or not all(map(_is_whole, labels))):
        return "regression"
    return "single_label_classification"


def _is_list(label: str | tuple[str, ...]) -> bool:
    """Whether a label is a list, which in a table has commas."""
    return not isinstance(label, str) or "," in label


def _singles(label: str | tuple[str, ...], problem: str) -> list[str]:
    return several(label) if problem == "multi_label_classification" or not isinstance(label, str) else [label]


def is_number(label: str) -> bool:
    """Whether a label is a finite number."""
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False


def plain(label: str, names: Container[str]) -> str:
    """A label, or the whole number that it is with a fraction of .0, unless there is a name that is spelled so."""
    return label.removesuffix(".0") if _WHOLE.fullmatch(label) and label not in names else label


def _check_kinds(singles: Mapping[str, str]) -> None:
    """Refuse true and false beside numbers: true may be the same as 1."""
    truths = [one for one in singles if one in ("true", "false")]
    others = [one for one in singles if one not in truths]
    if truths and others and all(map(is_number, others)):
        raise ValueError(
            f"{singles[others[0]]} has the label {others[0]!r} and {singles[truths[0]]} the label {truths[0]!r}, which may "
            f"be the same; write all as numbers, or if they are different, give labels={[*others[:SHOWN], *truths]}"
        )


def _is_whole(label: str) -> bool:
    return label.removeprefix("-").isdecimal()


def _order(label: str) -> tuple[int, int, str]:
    """Whole numbers first, as numbers; then names."""
    return (0, int(label), "") if _is_whole(label) else (1, 0, label)


def _number(label: str | tuple[str, ...], where: str) -> float:
    if isinstance(label, str) and is_number(label):
        return float(label)
    raise ValueError(f"{where} has the label {label!r}; regression learns finite numbers: correct it, or say problem=")
