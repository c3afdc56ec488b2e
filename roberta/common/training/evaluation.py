"""The evaluation of a model on validation data, the same in every framework: logits from `infer`, then numpy in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from roberta.common.config import RobertaConfig
from roberta.common.inference.batching import groups
from roberta.common.libraries import library
from roberta.common.pipelines.answer import Answer, AnswerOptions, FoundSpans
from roberta.common.pipelines.arrays import labels_of_outputs
from roberta.common.pipelines.base import RESULT_BYTES, Model, Row
from roberta.common.pipelines.inputs import Item
from roberta.common.tokenizer.base import TokenizerBase
from roberta.common.training import metrics
from roberta.common.training.data.batches import Collated, Draw, Feature, longest_row
from roberta.common.training.data.fields import Question
from roberta.common.training.data.tasks import Task
from roberta.common.training.metrics import Metrics, entity_scheme
from roberta.common.values import IGNORED

_LONGEST_ANSWER = 30  # tokens, as in the official baselines of SQuAD
_BATCH_TOKENS = 4096  # of the features that are padded together; `infer` divides them further
_VOCABULARY_TOKENS = {"mlm": 0.25, "clm": 1.0}  # at most this share of the tokens needs logits

_LIBRARIES = {"text-classification": ("sklearn.metrics", "scipy.stats")}


class BatchScore(NamedTuple):
    """The results of one batch: the sum of the losses over its targets, and predictions and labels."""

    loss: float
    targets: int
    predicted: Any = ()
    labels: Any = ()


@dataclass(frozen=True)
class Questions:
    """The validation data of question answering as it was read, and the tokenizer that encoded it."""

    items: Sequence[Question]
    tokenizer: TokenizerBase

    def pipeline(self, model: Model) -> Answer:
        """The pipeline that finds answers in logits, as `roberta answer` does."""
        has_none = any(not item.answers for item in self.items)
        options = AnswerOptions(max_answer_len=_LONGEST_ANSWER, handle_impossible_answer=has_none, align_to_words=False)
        return Answer(model, self.tokenizer, options, progress=False)

    def metrics(self, pipeline: Answer, windows: Sequence[Feature], found: Mapping[int, FoundSpans]) -> Metrics:
        """SQuAD's metrics of the best answers in the windows of each question."""
        of_item: dict[int, list[int]] = {}
        for index, feature in enumerate(windows):
            of_item.setdefault(feature["example"], []).append(index)
        texts = []
        for number, item in enumerate(self.items):
            rows = [Row((), windows[index]["window"]) for index in of_item[number]]
            values = [found[index] for index in of_item[number]]
            given = Item({"question": item.question, "context": item.context}, number)
            texts.append(pipeline.result(given, rows, values, pipeline.options)["answer"])
        return metrics.answers(texts, [[answer.text for answer in item.answers] for item in self.items])


@dataclass(frozen=True)
class Evaluation:
    """Calling it with a model gives the model's metrics, "loss" among them.

    Masked tokens are chosen only by the seed and the index of a feature, so they are the same at every evaluation.

    Attributes:
        features, collate: as in `Batches`.
        questions: for question answering.

    Raises:
        ModuleNotFoundError: the metrics of the task need a library that is not installed.
    """

    task: Task
    features: Sequence[Feature]
    collate: Callable[[Sequence[Feature], Sequence[Draw]], Collated]
    seed: int = 0
    questions: Questions | None = None
    _lengths: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not len(self.features):
            raise ValueError("there is nothing to evaluate: the validation data has no examples")
        for module in _LIBRARIES.get(self.task, ()):  # now, not after hours of training
            library(module)
        object.__setattr__(self, "_lengths", np.array([longest_row(feature) for feature in self.features]))

    def __call__(self, model: Model) -> Metrics:
        """The metrics of a model of any framework."""
        parts, found = [], {}
        pipeline = None if self.questions is None else self.questions.pipeline(model)
        for group, collated in self.batches(model.config):
            part = BATCH_SCORES[self.task](model, collated)
            if pipeline is not None:  # keep only the best spans, not all logits
                for index, (start, end) in zip(group, part.predicted, strict=True):
                    found[index] = pipeline.found(self.features[index]["window"], start, end, pipeline.options)
                part = part._replace(predicted=())
            parts.append(part)
        count = sum(part.targets for part in parts)
        if not count:
            raise ValueError(f"the validation data of {len(self.features)} examples has no target: nothing to evaluate")
        loss = sum(part.loss for part in parts) / count
        if self.questions is not None and pipeline is not None:
            return {"loss": loss, **self.questions.metrics(pipeline, self.features, found)}
        if self.task in ("mlm", "clm"):
            return {"loss": loss, **metrics.perplexity(loss)}
        return {"loss": loss, **_summary(self.task, parts, model.config)}

    def batches(self, config: RobertaConfig) -> Iterator[tuple[list[int], Collated]]:
        """All features, as indices and as arrays, longest first; no more at once than their logits have room for."""
        budget = _BATCH_TOKENS
        if self.task in _VOCABULARY_TOKENS:
            logits = RESULT_BYTES // (8 * config.vocab_size)
            budget = min(budget, max(int(logits / _VOCABULARY_TOKENS[self.task]), 1))
        for group in groups(self._lengths, budget, padded=True):
            places = [int(index) for index in group]
            draws = [(self.seed, 0, index) for index in places]
            yield places, self.collate([self.features[index] for index in places], draws)


def _infer(model: Model, collated: Collated, where: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """The model's outputs in float64; only for the tokens `where`, in the order of rows."""
    inputs = {name: collated.inputs[name] for name in ("input_ids", "attention_mask")}
    outputs = model.infer(inputs, where=where)
    return {name: array.astype(np.float64) for name, array in outputs.items()}


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """-log p of each label, (n,), of logits (n, classes)."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(shifted, labels[:, None], axis=-1)[:, 0]
    result: np.ndarray = np.log(np.exp(shifted).sum(axis=-1)) - chosen
    return result


# -- the results of a batch, by task ----------------------------------------------------------------------------------


def _masked(model: Model, collated: Collated) -> BatchScore:
    is_target = collated.inputs["labels"] != IGNORED
    places, labels = (collated.inputs[name][is_target] for name in ("positions", "labels"))
    order = np.argsort(places)
    where = np.zeros(collated.inputs["input_ids"].shape, bool)
    where.reshape(-1)[places] = True
    return _tokens(model, collated, where, labels[order])


def _next(model: Model, collated: Collated) -> BatchScore:
    labels = collated.inputs["labels"]
    where = np.zeros(labels.shape, bool)
    where[:, :-1] = labels[:, 1:] != IGNORED
    return _tokens(model, collated, where, labels[:, 1:][where[:, :-1]])


def _tokens(model: Model, collated: Collated, where: np.ndarray, labels: np.ndarray) -> BatchScore:
    if not len(labels):
        return BatchScore(0.0, 0)
    losses = _cross_entropy(_infer(model, collated, where)["logits"], labels)
    return BatchScore(float(losses.sum()), len(losses))


def _classes(model: Model, collated: Collated) -> BatchScore:
    logits, labels = _infer(model, collated)["logits"], collated.inputs["labels"]
    if labels.dtype.kind != "f":
        return BatchScore(float(_cross_entropy(logits, labels).sum()), len(labels), logits.argmax(axis=-1), labels)
    if model.config.problem_type == "multi_label_classification":
        # log(1 + e^x) - x y, the binary cross entropy of a logit
        losses = (np.logaddexp(0.0, logits) - logits * labels).mean(axis=-1)
        return BatchScore(float(losses.sum()), len(labels), (logits > 0).astype(np.int64), labels.astype(np.int64))
    values = logits.reshape(labels.shape)
    return BatchScore(float(np.square(values - labels).sum()), labels.size, values, labels)


def _words(model: Model, collated: Collated) -> BatchScore:
    labels = collated.inputs["labels"]
    where = labels != IGNORED
    logits = _infer(model, collated, where)["logits"]
    ends = np.cumsum(where.sum(axis=1))[:-1]
    predicted, right = logits.argmax(axis=-1), labels[where]
    losses = _cross_entropy(logits, right)
    return BatchScore(float(losses.sum()), len(losses), np.split(predicted, ends), np.split(right, ends))


def _spans(model: Model, collated: Collated) -> BatchScore:
    """The mean of the losses of start and end, each over the real tokens of its row."""
    outputs = _infer(model, collated)
    is_padding = collated.inputs["attention_mask"] == 0
    start, end = (np.where(is_padding, -np.inf, outputs[f"{side}_logits"]) for side in ("start", "end"))
    losses = _cross_entropy(start, collated.inputs["start_positions"])
    losses = losses + _cross_entropy(end, collated.inputs["end_positions"])
    return BatchScore(float(losses.sum() / 2), len(losses), list(zip(start, end, strict=True)))


BATCH_SCORES: dict[Task, Callable[[Any, Collated], BatchScore]] = {
    "mlm": _masked,
    "clm": _next,
    "text-classification": _classes,
    "token-classification": _words,
    "question-answering": _spans,
    "multiple-choice": _classes,
}


# -- the metrics of all batches together ------------------------------------------------------------------------------


def _summary(task: Task, parts: Sequence[BatchScore], config: RobertaConfig) -> Metrics:
    """The metrics of the predictions, without the loss."""
    if task == "token-classification":
        names = np.array(labels_of_outputs(config, config.num_labels))
        rows = [[[names[row].tolist() for row in side] for side in (part.predicted, part.labels)] for part in parts]
        found, wanted = ([row for sides in rows for row in sides[side]] for side in (0, 1))
        return metrics.entities(found, wanted, entity_scheme(config))
    predicted, labels = (np.concatenate([part[side] for part in parts]) for side in (2, 3))
    if task == "multiple-choice":
        return metrics.accuracy(predicted, labels)
    if config.problem_type == "multi_label_classification":
        return metrics.multi_label(predicted, labels)
    if labels.dtype.kind == "f":
        return metrics.correlations(predicted, labels)
    return metrics.classification(predicted, labels, config.num_labels)
