"""What can be trained, and the class that each task trains."""

from __future__ import annotations

from typing import Literal

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
