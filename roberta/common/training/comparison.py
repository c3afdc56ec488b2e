"""By which metric the evaluations of a training are compared: what each task measures, the task's own choice first."""

from __future__ import annotations

from roberta.common.config import RobertaConfig
from roberta.common.pipelines.tag_schemes import Scheme, scheme_of
from roberta.common.training.data.tasks import Task

LESS_IS_BETTER = ("loss", "perplexity")

# Task, or kind of its labels -> what is measured.
MEASURED: dict[str, tuple[str, ...]] = {
    "mlm": ("loss", "perplexity"),
    "clm": ("loss", "perplexity"),
    "text-classification": ("accuracy", "f1", "mcc", "loss"),
    "multi_label_classification": ("accuracy", "f1", "f1_macro", "loss"),
    "regression": ("pearson", "spearman", "loss"),
    "token-classification": ("f1", "precision", "recall", "accuracy", "loss"),
    "words": ("accuracy", "loss"),  # token classification whose labels name no entities
    "question-answering": ("f1", "exact", "loss"),  # no_answer is best where nothing is answered
    "multiple-choice": ("accuracy", "loss"),
}


def measured(task: Task, config: RobertaConfig) -> tuple[str, ...]:
    """The metrics of a task, that which decides first."""
    if task == "text-classification" and config.problem_type in MEASURED:
        return MEASURED[str(config.problem_type)]
    if task == "token-classification" and entity_scheme(config).kind == "none":
        return MEASURED["words"]
    return MEASURED[task]


def compared(task: Task, config: RobertaConfig, metric: str | None = None) -> tuple[str, bool]:
    """The metric that models are compared by, and whether more of it is better.

    Args:
        metric: the one wanted; None for the task's.

    Raises:
        ValueError: the task does not measure it.
    """
    names = measured(task, config)
    if metric is not None and metric not in names:
        raise ValueError(f"metric={metric!r} is not measured here; it must be one of {', '.join(names)}")
    name = names[0] if metric is None else metric
    return name, name not in LESS_IS_BETTER


def entity_scheme(config: RobertaConfig) -> Scheme:
    """How the labels of a model for token classification name entities."""
    return scheme_of(config.id2label[number] for number in range(config.num_labels))
