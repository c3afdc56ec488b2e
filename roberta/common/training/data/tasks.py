"""What can be trained, the class that each task trains, and what its model remembers of how it was trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from roberta.common.config import RobertaConfig
from roberta.common.model_types import class_name
from roberta.common.parameters import Head
from roberta.common.values import is_int

Task = Literal[
    "mlm", "clm", "text-classification", "token-classification", "question-answering", "multiple-choice"
]  # fmt: skip

HEADS: dict[Task, Head] = {
    "mlm": "ForMaskedLM",
    "clm": "ForCausalLM",
    "text-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
    "multiple-choice": "ForMultipleChoice",
}

_FIELD = "task_specific_params"  # where transformers too keeps settings, by the pipeline's task


def check_task(task: str) -> None:
    """Raise `ValueError` for a task that is not in `HEADS`."""
    if task not in HEADS:
        raise ValueError(f"task={task!r} is unknown; it must be one of {', '.join(HEADS)}")


# Setting -> what it may be. `max_tokens` is of a row: transformers would take "max_length" as a setting of generation.
_KNOWN: dict[str, Callable[[object], bool]] = {
    "truncation": lambda value: isinstance(value, bool),
    "max_tokens": partial(is_int, least=1),
    "aggregation_strategy": lambda value: value in ("none", "simple", "first", "average", "max"),
    "max_seq_len": partial(is_int, least=1),
    "doc_stride": partial(is_int, least=0),
}


def with_task_settings(config: RobertaConfig, task: str, **settings: object) -> dict[str, object]:
    """The value of `task_specific_params` with these settings for a task, and the old ones for the others."""
    before = getattr(config, _FIELD, None)
    return {**(before if isinstance(before, Mapping) else {}), task: settings}


def task_settings(config: RobertaConfig, task: str) -> dict[str, Any]:
    """The settings that a config has for a task: how texts were cut, how words were labelled. Unknown ones are left out."""
    kept = getattr(config, _FIELD, None)
    found = kept.get(task) if isinstance(kept, Mapping) else None
    items = found.items() if isinstance(found, Mapping) else ()
    return {name: value for name, value in items if name in _KNOWN and _KNOWN[name](value)}


def check_model_class(model: Any, task: Task) -> None:
    """Raise `ValueError` where a task does not train the model's class."""
    if model.head != HEADS[task]:
        wanted = class_name(model.config.model_type, HEADS[task], model.class_prefix)
        raise ValueError(
            f"task {task!r} trains {wanted}, and the model is a {type(model).__name__}; load it with the class of the task"
        )
