"""What an evaluation measures: plain functions of predictions and labels, and by which of them models are compared.

Most are scikit-learn's and scipy's, imported when they are used (the extra [train]). Those of entities are our own,
because seqeval takes every label that begins with "O" for outside and cuts a letter off labels without marks; so are
SQuAD's two, which exist only as a script. What cannot be measured is nan, which is never the best.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from roberta.common.config import RobertaConfig
from roberta.common.libraries import library
from roberta.common.pipelines.tag_schemes import Scheme, scheme_of
from roberta.common.training.data.tasks import Task

Metrics = dict[str, float]

_FLAT = 1e-6  # of the largest value: eight steps of float32, in which models compute
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> Metrics:
    """The share of predictions that equal the label."""
    return {"accuracy": float(np.mean(np.asarray(predicted) == np.asarray(labels)))}


def classification(predicted: np.ndarray, labels: np.ndarray, classes: int) -> Metrics:
    """Accuracy, F1 and Matthews' correlation of classes 0, 1, ..., (rows,) each.

    With two classes F1 is that of class 1, as in GLUE, and nan if no label is 1. With more it is the mean over the
    classes that occur, as a label or as a prediction. The correlation is nan if all labels are equal.
    """
    sklearn = library("sklearn.metrics")
    if classes == 2:
        f1 = sklearn.f1_score(labels, predicted, zero_division=0) if np.any(labels == 1) else math.nan
    else:
        f1 = sklearn.f1_score(labels, predicted, average="macro", zero_division=0)
    is_one = np.ptp(labels) == 0
    return {
        **accuracy(predicted, labels),
        "f1": float(f1),
        "mcc": math.nan if is_one else float(sklearn.matthews_corrcoef(labels, predicted)),
    }


def multi_label(predicted: np.ndarray, labels: np.ndarray) -> Metrics:
    """Accuracy of whole rows, and F1 over all rows and labels; (rows, labels), 0 or 1.

    The macro F1 is the mean over the labels that occur, in the truth or in the predictions. If no row has any label, F1
    is nan.
    """
    is_true, is_said = labels == 1, predicted == 1
    right = (is_true & is_said).sum(axis=0)  # for each label
    counted = is_true.sum(axis=0) + is_said.sum(axis=0)
    occurs = counted > 0
    micro = macro = math.nan
    if is_true.any():  # scikit-learn would take one column for two classes
        micro = float(2 * right.sum() / counted.sum())
        macro = float(np.mean(2 * right[occurs] / counted[occurs]))
    accuracy = float((is_true == is_said).all(axis=1).mean())
    return {"accuracy": accuracy, "f1": micro, "f1_macro": macro}


def correlations(predicted: np.ndarray, labels: np.ndarray) -> Metrics:
    """Pearson's and Spearman's correlation, (rows,) each.

    They are nan if all labels are equal, if all predictions are equal or differ only by float32 rounding, and if a
    prediction is not finite.
    """
    is_finite = bool(np.isfinite(predicted).all())
    if not is_finite or np.ptp(predicted) <= _FLAT * np.max(np.abs(predicted)) or np.ptp(labels) == 0:
        return {"pearson": math.nan, "spearman": math.nan}
    stats = library("scipy.stats")
    return {
        "pearson": float(stats.pearsonr(predicted, labels).statistic),
        "spearman": float(stats.spearmanr(predicted, labels).statistic),
    }


def entities(
    predicted: Sequence[Sequence[str]], labels: Sequence[Sequence[str]], scheme: Scheme | None = None
) -> Metrics:
    """F1, precision and recall of whole entities, as CoNLL counts them, and the accuracy of words.

    Only the accuracy, if the labels name no entities. Without any entity to find, f1 and recall are nan.

    Args:
        predicted, labels: the tag of each word of each sentence, such as "B-location" or "O".
        scheme: how tags name entities; None to tell it by those given.
    """
    words = [label for row in labels for label in row]
    guesses = [label for row in predicted for label in row]
    if scheme is None:
        scheme = scheme_of([*words, *guesses])
    result = {"accuracy": float(np.mean([one == other for one, other in zip(guesses, words, strict=True)]))}
    if scheme.kind == "none":
        return result
    wanted, found, right = 0, 0, 0
    for guess, truth in zip(predicted, labels, strict=True):
        here, there = set(scheme.spans(guess)), set(scheme.spans(truth))
        wanted, found, right = wanted + len(there), found + len(here), right + len(here & there)
    return {
        "f1": 2 * right / (found + wanted) if wanted else math.nan,
        "precision": right / found if found else 0.0,
        "recall": right / wanted if wanted else math.nan,
        **result,
    }


def answers(predicted: Sequence[str], accepted: Sequence[Sequence[str]]) -> Metrics:
    """SQuAD's exact match and F1, as shares of 1; an empty text means no answer.

    Args:
        accepted: all correct texts of each question; none where it has no answer.

    Source: the official evaluation script of SQuAD 2.0, which scores 1.1 like that of 1.1.
    """
    pairs = list(zip(predicted, [list(texts) or [""] for texts in accepted], strict=True))
    result = {
        "exact": float(np.mean([max(normalised(text) == normalised(one) for one in right) for text, right in pairs])),
        "f1": float(np.mean([max(overlap(text, one) for one in right) for text, right in pairs])),
    }
    without = [normalised(text) == "" for text, right in pairs if right == [""]]
    return result | ({"no_answer": float(np.mean(without))} if without else {})


def normalised(answer: str) -> str:
    """An answer in lower case, without punctuation, articles and repeated white space."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def overlap(answer: str, right: str) -> float:
    """F1 of the words that two answers share; if one is empty, whether both are."""
    found, wanted = normalised(answer).split(), normalised(right).split()
    if not found or not wanted:
        return float(found == wanted)
    shared = sum((Counter(found) & Counter(wanted)).values())
    return 2 * shared / (len(found) + len(wanted))


def perplexity(loss: float) -> Metrics:
    """e to the power of the loss; infinite if that overflows a float."""
    return {"perplexity": math.exp(loss) if loss < math.log(np.finfo(np.float64).max) else math.inf}


def show(metrics: Mapping[str, float]) -> str:
    """Metrics on a line, such as "loss 0.3214, accuracy 0.8123"."""
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())


# -- what each task measures, and by which metric evaluations are compared ---------------------------------------------

_LESS_IS_BETTER = ("loss", "perplexity")

# Task, or kind of its labels -> what is measured.
_MEASURED: dict[str, tuple[str, ...]] = {
    "mlm": ("loss", "perplexity"),
    "clm": ("loss", "perplexity"),
    "text-classification": ("accuracy", "f1", "mcc", "loss"),
    "multi_label_classification": ("accuracy", "f1", "f1_macro", "loss"),
    "regression": ("pearson", "spearman", "loss"),
    "token-classification": ("f1", "precision", "recall", "accuracy", "loss"),
    "words": ("accuracy", "loss"),  # token classification with labels that name no entities
    "question-answering": ("f1", "exact", "loss"),  # no_answer would be best if nothing were answered
    "multiple-choice": ("accuracy", "loss"),
}


def _measured(task: Task, config: RobertaConfig) -> tuple[str, ...]:
    """The metrics of a task; the first one decides."""
    if task == "text-classification" and config.problem_type in _MEASURED:
        return _MEASURED[str(config.problem_type)]
    if task == "token-classification" and entity_scheme(config).kind == "none":
        return _MEASURED["words"]
    return _MEASURED[task]


def compared(task: Task, config: RobertaConfig, metric: str | None = None) -> tuple[str, bool]:
    """The metric by which models are compared, and whether more of it is better.

    Args:
        metric: the name of one; None for the task's first.

    Raises:
        ValueError: the task does not measure it.
    """
    names = _measured(task, config)
    if metric is not None and metric not in names:
        raise ValueError(f"metric={metric!r} is not measured here; it must be one of {', '.join(names)}")
    name = names[0] if metric is None else metric
    return name, name not in _LESS_IS_BETTER


def entity_scheme(config: RobertaConfig) -> Scheme:
    """How the labels of a model for token classification name entities."""
    return scheme_of(config.id2label[number] for number in range(config.num_labels))
