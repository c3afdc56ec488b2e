"""What a training leaves in the config of its model for the commands that use it: how texts were cut and words labelled.

It is in `task_specific_params`, a field that transformers has for settings of this kind, by the pipeline's task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from roberta.common.config import RobertaConfig

FIELD = "task_specific_params"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


# Setting -> what it may be. `max_tokens` is that of a row; transformers would take "max_length" for one of generation.
_KNOWN: dict[str, Callable[[Any], bool]] = {
    "truncation": lambda value: isinstance(value, bool),
    "max_tokens": _is_count,
    "aggregation_strategy": lambda value: value in ("none", "simple", "first", "average", "max"),
    "max_seq_len": _is_count,
    "doc_stride": lambda value: value == 0 or _is_count(value),
}


def with_settings(config: RobertaConfig, task: str, **settings: Any) -> dict[str, Any]:
    """The value of `task_specific_params` that keeps settings for a task, beside what it has for others."""
    before = getattr(config, FIELD, None)
    return {**(before if isinstance(before, Mapping) else {}), task: settings}


def settings_of(config: RobertaConfig, task: str) -> dict[str, Any]:
    """The settings that a config has for a task; what is none of them, or cannot be, is left out."""
    kept = getattr(config, FIELD, None)
    found = kept.get(task) if isinstance(kept, Mapping) else None
    items = found.items() if isinstance(found, Mapping) else ()
    return {name: value for name, value in items if name in _KNOWN and _KNOWN[name](value)}
