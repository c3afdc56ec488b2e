"""What an evaluation measures: plain functions of predictions and labels, all larger for the better but the loss.

Most are scikit-learn's and scipy's, imported when they are used (the extra [train]). Those of entities are here, as
seqeval takes every label that begins with "O" for outside and cuts a letter off labels without marks; and SQuAD's two,
as their only home is a script. What cannot be measured is nan, which is never the best.
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

from roberta.common.pipelines.tag_schemes import Scheme, scheme_of

Metrics = dict[str, float]

FLAT = 1e-6  # of the largest value: eight steps of float32, in which models compute
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

    F1 is that of class 1 where there are two, as GLUE has it, and nan where no label is 1. Where there are more it is
    the mean over those that are there, as a label or as a prediction. The correlation is nan where all labels are equal.
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
    """Accuracy, of rows in which every label is right, and F1 over all rows and labels; (rows, labels), 0 or 1.

    The macro F1 is the mean over the labels that are there, in the truth or in the predictions. Where no row has any
    label, there is no F1: nan.
    """
    is_true, is_said = labels == 1, predicted == 1
    right = (is_true & is_said).sum(axis=0)  # for each label
    counted = is_true.sum(axis=0) + is_said.sum(axis=0)
    is_there = counted > 0
    micro = macro = math.nan
    if is_true.any():  # not by scikit-learn, which takes one column for two classes
        micro = float(2 * right.sum() / counted.sum())
        macro = float(np.mean(2 * right[is_there] / counted[is_there]))
    accuracy = float((is_true == is_said).all(axis=1).mean())
    return {"accuracy": accuracy, "f1": micro, "f1_macro": macro}


def correlations(predicted: np.ndarray, labels: np.ndarray) -> Metrics:
    """Pearson's and Spearman's correlation, (rows,) each.

    Nan where all labels are equal, where all predictions are, or differ by no more than float32 rounds, and where one
    is not finite.
    """
    is_finite = bool(np.isfinite(predicted).all())
    if not is_finite or np.ptp(predicted) <= FLAT * np.max(np.abs(predicted)) or np.ptp(labels) == 0:
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

    The accuracy alone where the labels name no entities. Without any entity to find, f1 and recall are nan.

    Args:
        predicted, labels: of each sentence the tag of each word, such as "B-location" or "O".
        scheme: how tags name entities; None to see it by those given.
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
