"""A report of what a training has read, before its first update: rows, labels, columns, what was cut, three examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from roberta.common.tokenizer.base import TokenizerBase
from roberta.common.training.data.batches import Feature
from roberta.common.training.data.features import Making
from roberta.common.training.data.labels import Labels
from roberta.common.training.data.records import Reading
from roberta.common.training.data.stored_rows import StoredRows
from roberta.common.training.data.tasks import Task
from roberta.common.values import IGNORED

REPORT_FILE = "data.json"
_EXAMPLES = 3
_LONGEST = 240  # characters of an example
_MOST_LABELS = 30  # that are listed


@dataclass
class Split:
    """The data for training, or for validation.

    Attributes:
        readings: what was read, file by file.
        making: what was cut, and what could not be used.
        rows: how many go through the model: one for each window of a question, and texts to be masked as packed.
        counts: label, or something else to count -> how many.
        examples: the first rows, as the model sees them.
        remarks: on which examples are used.
    """

    name: str
    readings: list[Reading] = field(default_factory=list)
    making: Making = field(default_factory=Making)
    rows: int = 0
    counts: Mapping[str, Any] = field(default_factory=dict)
    examples: Sequence[str] = ()
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """What a training has read.

    Attributes:
        max_length: tokens of a row.
        labels: of the classifications; None for other tasks.
    """

    parts: Sequence[Split]
    max_length: int
    labels: Labels | None

    def lines(self) -> list[str]:
        """The report for people, line by line."""
        found = [line for part in self.parts for line in _lines(part, self.max_length)]
        if self.labels is not None:
            names = [f"{number}: {name}" for number, name in enumerate(self.labels.names[:_MOST_LABELS])]
            more = ", ..." * (len(self.labels.names) > _MOST_LABELS)
            found.append(f"labels ({self.labels.problem}): {', '.join(names)}{more}; {self.labels.remark}")
        return found

    def as_json(self) -> dict[str, Any]:
        """The report for programs, as plain JSON."""
        parts = {part.name: _as_json(part) for part in self.parts}
        names = None if self.labels is None else list(self.labels.names)
        return {**parts, "max_length": self.max_length, "labels": names}


def _lines(part: Split, max_length: int) -> list[str]:
    lines = [f"{part.name}: {part.rows:,} rows of at most {max_length} tokens"]
    for reading in part.readings:
        header = {None: "", True: ", its first line a header", False: ", without a header"}[reading.is_header]
        columns = ", ".join(f"{role} = {name}" for role, name in reading.columns.items())
        lines.append(
            f"  {reading.name} ({reading.format}{header}): {reading.rows:,} examples{columns and '; '}{columns}"
        )
    lines += [f"  {remark}" for remark in part.remarks]
    if part.counts:
        shown = [f"{name} {_number(count)}" for name, count in list(part.counts.items())[:_MOST_LABELS]]
        lines.append(f"  {', '.join(shown)}{', ...' * (len(part.counts) > _MOST_LABELS)}")
    if part.making.cut:
        lines.append(f"  {part.making.cut:,} are longer than {max_length} tokens, and were cut")
    unusable = part.making.unusable
    if unusable.count:
        lines += [f"  {unusable.count:,} could not be used and were skipped, such as:",
                  *(f"    {reason}" for reason in unusable.first)]  # fmt: skip
    return [*lines, "  the first, as the model sees them:", *(f"    {example}" for example in part.examples)]


def _number(count: float) -> str:
    return f"{count:,}" if isinstance(count, int) else f"{count:.4g}"


def _as_json(part: Split) -> dict[str, Any]:
    files = [
        {"name": one.name, "format": one.format, "header": one.is_header, "columns": dict(one.columns),
         "examples": one.rows} for one in part.readings
    ]  # fmt: skip
    return {
        "rows": part.rows, "files": files, "counts": dict(part.counts), "cut": part.making.cut,
        "skipped": part.making.unusable.count, "reasons": part.making.unusable.first, "first": list(part.examples),
        **({"remarks": part.remarks} if part.remarks else {}),
    }  # fmt: skip


def counts_of(task: Task, features: Sequence[Feature], labels: Labels | None) -> dict[str, Any]:
    """How many rows have each label, or what else can be counted; from the features, so of what is trained."""
    if isinstance(features, StoredRows):
        return {"tokens": features.tokens}
    if task in ("mlm", "clm"):
        return {"tokens": sum(len(feature["input_ids"]) for feature in features)}
    if task == "question-answering":
        with_ = sum(feature["end_positions"] > 0 for feature in features)
        return {"rows with their answer": with_, "without": len(features) - with_}
    if task == "token-classification":
        assert labels is not None
        all_ = np.concatenate([feature["labels"] for feature in features])
        found = np.bincount(all_[all_ != IGNORED], minlength=len(labels.names))
        return dict(zip(labels.names, found.tolist(), strict=True))
    values = np.array([feature["labels"] for feature in features])
    if labels is not None and labels.problem == "regression":
        return {"lowest": float(values.min()), "mean": float(values.mean()), "highest": float(values.max())}
    if labels is not None and labels.problem == "multi_label_classification":
        several = {name: int(count) for name, count in zip(labels.names, values.sum(0), strict=True)}
        return {**several, "(none)": int((values.sum(1) == 0).sum())}
    numbers = np.bincount(values).tolist()
    if labels is None:  # choices
        return {f"choice {number}": count for number, count in enumerate(numbers)}
    numbers += [0] * (len(labels.names) - len(numbers))
    return dict(zip(labels.names, numbers, strict=True))


def examples_of(task: Task, features: Sequence[Feature], tokenizer: TokenizerBase, labels: Labels | None) -> list[str]:
    """The first rows as text, and what is to be learnt of them."""
    return [_example(task, feature, tokenizer, labels) for feature in features[:_EXAMPLES]]


def _example(task: Task, feature: Feature, tokenizer: TokenizerBase, labels: Labels | None) -> str:
    ids = feature["input_ids"]
    if task == "multiple-choice":
        rows = (f"{'*' * (number == feature['labels'])}{_text(row, tokenizer)}" for number, row in enumerate(ids))
        return " | ".join(rows)
    if task == "token-classification":
        assert labels is not None
        starts = np.flatnonzero(feature["labels"] != IGNORED)
        names = [f"/{labels.names[number]} " for number in feature["labels"][starts].tolist()]
        first, *words = [tokenizer.decode(part.tolist()).strip() for part in np.split(ids, starts)]
        return _short(first + " " + "".join(word + name for word, name in zip(words, names, strict=True)))
    if task == "question-answering":
        start, end = feature["start_positions"], feature["end_positions"]
        answer = repr(_text(ids[start : end + 1], tokenizer).strip()) if end else "no answer in it"
        return f"{_text(ids, tokenizer)} -> {answer}"
    return _text(ids, tokenizer) + (f" -> {_label(feature['labels'], labels)}" if labels is not None else "")


def _label(value: Any, labels: Labels) -> str:
    if labels.problem == "regression":
        return str(value)
    if labels.problem == "multi_label_classification":
        return ", ".join(name for name, holds in zip(labels.names, value, strict=True) if holds) or "(none)"
    return labels.names[int(value)]


def _text(ids: npt.ArrayLike, tokenizer: TokenizerBase) -> str:
    text: str = tokenizer.decode(np.asarray(ids).tolist(), clean_up_tokenization_spaces=False)
    return _short(text)


def _short(text: str) -> str:
    """A text on one line; the middle of a long one is left out."""
    text = text.replace("\n", "\\n").strip()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 3 :]}"
