"""What an evaluation measures: plain functions of predictions and labels, all larger for the better but the loss.

Entity F1 is seqeval's and the others are scikit-learn's and scipy's, imported when they are used (the extra
[train]). SQuAD's two are here, as their only home is a script.
"""

from __future__ import annotations

import importlib
import math
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from types import ModuleType

import numpy as np

Metrics = dict[str, float]

_NAMES = {"sklearn": "scikit-learn"}  # module -> what it is installed as, where that is another name
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def library(module: str) -> ModuleType:
    """A module such as "sklearn.metrics".

    Raises:
        ModuleNotFoundError: it is not installed; names the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name != top and error.name != module:  # what that library itself lacks
            raise
        raise ModuleNotFoundError(
            f"these metrics need {_NAMES.get(top, top)}, which is not installed; pip install 'roberta[train]'",
            name=error.name,
        ) from error


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> Metrics:
    """The share of predictions that are the label."""
    return {"accuracy": float(np.mean(np.asarray(predicted) == np.asarray(labels)))}


def classification(predicted: np.ndarray, labels: np.ndarray, classes: int) -> Metrics:
    """Accuracy, F1 and Matthews' correlation of classes 0, 1, ..., (rows,) each.

    F1 is that of class 1 where there are two, as GLUE has it, and the mean over the classes where there are more.
    """
    sklearn = library("sklearn.metrics")
    average = {"average": "binary"} if classes == 2 else {"average": "macro", "labels": list(range(classes))}
    return {
        **accuracy(predicted, labels),
        "f1": float(sklearn.f1_score(labels, predicted, zero_division=0, **average)),
        "mcc": float(sklearn.matthews_corrcoef(labels, predicted)),
    }


def multi_label(predicted: np.ndarray, labels: np.ndarray) -> Metrics:
    """Accuracy, of rows in which every label is right, and F1 over all rows and labels; (rows, labels), 0 or 1."""
    sklearn = library("sklearn.metrics")
    return {
        "accuracy": float(sklearn.accuracy_score(labels, predicted)),
        "f1": float(sklearn.f1_score(labels, predicted, average="micro", zero_division=0)),
        "f1_macro": float(sklearn.f1_score(labels, predicted, average="macro", zero_division=0)),
    }


def correlations(predicted: np.ndarray, labels: np.ndarray) -> Metrics:
    """Pearson's and Spearman's correlation, (rows,) each; nan where all predictions, or all labels, are equal."""
    if len(labels) < 2 or np.ptp(predicted) == 0 or np.ptp(labels) == 0:
        return {"pearson": math.nan, "spearman": math.nan}
    stats = library("scipy.stats")
    return {
        "pearson": float(stats.pearsonr(predicted, labels).statistic),
        "spearman": float(stats.spearmanr(predicted, labels).statistic),
    }


def entities(predicted: Sequence[Sequence[str]], labels: Sequence[Sequence[str]]) -> Metrics:
    """Precision, recall and F1 of whole entities, as CoNLL counts them, and the accuracy of words.

    Args:
        predicted, labels: of each sentence the tag of each word, such as "B-location" or "O".
    """
    seqeval = library("seqeval.metrics")
    truth, found = [list(row) for row in labels], [list(row) for row in predicted]
    return {
        "precision": float(seqeval.precision_score(truth, found, zero_division=0)),
        "recall": float(seqeval.recall_score(truth, found, zero_division=0)),
        "f1": float(seqeval.f1_score(truth, found, zero_division=0)),
        "accuracy": float(seqeval.accuracy_score(truth, found)),
    }


def answers(predicted: Sequence[str], accepted: Sequence[Sequence[str]]) -> Metrics:
    """SQuAD's exact match and F1, as shares of 1; an empty text is no answer.

    Args:
        accepted: of each question all texts that are right; none where there is no answer.

    Source: the official evaluation script of SQuAD 2.0, which scores 1.1 as its own does.
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
    """F1 of the words that two answers share; of an empty one, whether both are."""
    found, wanted = normalised(answer).split(), normalised(right).split()
    if not found or not wanted:
        return float(found == wanted)
    shared = sum((Counter(found) & Counter(wanted)).values())
    return 2 * shared / (len(found) + len(wanted))


def perplexity(loss: float) -> Metrics:
    """e to the power of the loss; infinite where that is beyond a float."""
    return {"perplexity": math.exp(loss) if loss < math.log(np.finfo(np.float64).max) else math.inf}


def show(metrics: Mapping[str, float]) -> str:
    """Metrics on a line, such as "loss 0.3214, accuracy 0.8123"."""
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
