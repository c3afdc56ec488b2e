"""How data becomes features: what a training may say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from roberta.common.training.data.features import Lengths
from roberta.common.training.data.fields import NAMES, check_columns
from roberta.common.training.data.labels import Problem
from roberta.common.training.data.tasks import Task

# Task -> what of `DataSettings` means something for it, beside what does for all.
OF_TASK: dict[Task, tuple[str, ...]] = {
    "mlm": ("packing", "masking", "masking_rate", "whole_words", "text_column"),
    "clm": ("packing", "text_column"),
    "text-classification": ("truncation", "problem", "labels", "keep_labels", "text_column", "label_column"),
    "token-classification": ("truncation", "labels", "keep_labels", "text_column", "label_column"),
    "question-answering": ("stride",),
    "multiple-choice": ("truncation", "label_column"),
}
_NOT_AGREED = ("problem", "labels", "keep_labels", "text_column", "label_column")  # seen in the config, or in "columns"


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """How data becomes features; None for the usual. `Training` says what each is."""

    max_length: int | None = None
    format: Literal["txt", "tsv", "csv", "jsonl", "json", "conll"] | None = None
    header: bool | None = None
    text_column: str | None = None
    label_column: str | None = None
    columns: Mapping[str, str] | None = None
    skip_unusable: bool = False
    truncation: bool | None = None
    masking: Literal["exact", "bernoulli"] | None = None
    masking_rate: float | None = None
    whole_words: bool | None = None
    packing: str | None = None
    stride: int | None = None
    problem: Problem | None = None
    labels: Sequence[str] | None = None
    keep_labels: bool = False

    def check(self, task: Task) -> None:
        """Refuse what means nothing for a task, instead of training without it."""
        everyone = {name for names in OF_TASK.values() for name in names}
        for name in sorted(everyone - set(OF_TASK[task])):
            if getattr(self, name) is not None and getattr(self, name) is not False:
                tasks = ", ".join(one for one, names in OF_TASK.items() if name in names)
                hint = ""
                if name == "text_column":
                    hint = f", or give columns={{{next(iter(NAMES[task]))!r}: {getattr(self, name)!r}}}"
                raise ValueError(f"{name}={getattr(self, name)!r} is for {tasks}; leave it out for {task}{hint}")

    def roles(self, task: Task) -> dict[str, str]:
        """Role -> column, of all that is said about columns.

        Raises:
            ValueError: one role has two columns, or the task has no such role.
        """
        is_words = task == "token-classification"
        short = {
            "words" if is_words else "text": self.text_column,
            "labels" if is_words else "label": self.label_column,
        }
        found = dict(self.columns or {})
        for role, column in short.items():
            if column is not None and found.setdefault(role, column) != column:
                raise ValueError(f"columns={dict(self.columns or {})} says another column than {column!r} for {role}")
        check_columns(task, found)
        return found


def agreement(task: Task, settings: DataSettings, lengths: Lengths) -> dict[str, Any]:
    """What features follow from; what was not said is left out where older checkpoints do not have it."""
    found = {name: getattr(settings, name) for name in OF_TASK[task] if name not in _NOT_AGREED}
    said = {"columns": settings.roles(task), "header": settings.header, "skip_unusable": settings.skip_unusable}
    more = {name: value for name, value in said.items() if value not in (None, False, {})}
    return {"max_length": lengths.max_length, **found, **more}
