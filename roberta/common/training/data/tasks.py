"""What can be trained, and the class that each task trains."""

from __future__ import annotations

from typing import Any, Literal

from roberta.common.parameters import Head

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


def check_task(model: Any, task: Task) -> None:
    """Raise `ValueError` where a task trains another class than the model's."""
    if model.head != HEADS[task]:
        raise ValueError(
            f"task {task!r} trains {model.class_prefix}Roberta{HEADS[task]}, and the model is a "
            f"{type(model).__name__}; load it with the class of the task"
        )
