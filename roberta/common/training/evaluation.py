"""What a model makes of validation data, the same in every framework: logits from `infer`, all else numpy in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from roberta.common.config import RobertaConfig
from roberta.common.inference.batching import groups
from roberta.common.pipelines.answer import Answer, AnswerOptions, Found
from roberta.common.pipelines.arrays import check_labels
from roberta.common.pipelines.base import RESULT_BYTES, Row
from roberta.common.pipelines.inputs import Item
from roberta.common.tokenizer.base import TokenizerBase
from roberta.common.training import metrics
from roberta.common.training.comparison import entity_scheme
from roberta.common.training.data.batches import Collated, Draw, Feature, length
from roberta.common.training.data.examples import Question
from roberta.common.training.data.tasks import Task
from roberta.common.training.metrics import Metrics
from roberta.common.values import IGNORED

LONGEST_ANSWER = 30  # tokens, as the official baselines of SQuAD have it
BATCH_TOKENS = 4096  # of the features that are padded together; `infer` cuts them further
VOCABULARY_TOKENS = {"mlm": 0.25, "clm": 1.0}  # the share of tokens, at most, that logits are asked for

_LIBRARIES = {"text-classification": ("sklearn.metrics", "scipy.stats")}


class Part(NamedTuple):
    """What a model makes of some features: the sum of the losses of some targets, and what is compared, aligned."""

    loss: float
    targets: int
    predicted: Any = ()
    labels: Any = ()


@dataclass(frozen=True)
class Questions:
    """The validation data of question answering as it was read, and the tokenizer that made features of it."""

    items: Sequence[Question]
    tokenizer: TokenizerBase

    def pipeline(self, model: Any) -> Answer:
        """What finds answers in logits, as `roberta answer` does."""
        has_none = any(not item.answers for item in self.items)
        options = AnswerOptions(
            max_answer_len=LONGEST_ANSWER, handle_impossible_answer=has_none, align_to_words=False
        )  # fmt: skip
        return Answer(model, self.tokenizer, options, progress=False)

    def metrics(self, pipeline: Answer, windows: Sequence[Feature], found: Mapping[int, Found]) -> Metrics:
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
    """A function of a model that gives its metrics, "loss" among them.

    Masked tokens are chosen by the seed and the place of a feature alone: they are the same at every evaluation.

    Attributes:
        features, collate: as in `Batches`.
        questions: of question answering.

    Raises:
        ModuleNotFoundError: the metrics of the task need a library that is not there.
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
            metrics.library(module)
        object.__setattr__(self, "_lengths", np.array([length(feature) for feature in self.features]))

    def __call__(self, model: Any) -> Metrics:
        """The metrics of a model of any framework."""
        parts, found = [], {}
        pipeline = None if self.questions is None else self.questions.pipeline(model)
        for group, collated in self.batches(model.config):
            part = PARTS[self.task](model, collated)
            if pipeline is not None:  # the best spans alone are kept, not all logits
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
        return {"loss": loss, **summary(self.task, parts, model.config)}

    def batches(self, config: RobertaConfig) -> Iterator[tuple[list[int], Collated]]:
        """All features by their places, and as arrays, longest first; no more at once than logits have room for."""
        budget = BATCH_TOKENS
        if self.task in VOCABULARY_TOKENS:
            logits = RESULT_BYTES // (8 * config.vocab_size)
            budget = min(budget, max(int(logits / VOCABULARY_TOKENS[self.task]), 1))
        for group in groups(self._lengths, budget, padded=True):
            places = [int(index) for index in group]
            draws = [(self.seed, 0, index) for index in places]
            yield places, self.collate([self.features[index] for index in places], draws)


def infer(model: Any, collated: Collated, where: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """The model's outputs, in float64; of the tokens `where` alone, in the order of rows."""
    inputs = {name: collated.inputs[name] for name in ("input_ids", "attention_mask")}
    outputs = model.infer(inputs, where=where)
    return {name: array.astype(np.float64) for name, array in outputs.items()}


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """-log p of each label, (n,), of logits (n, classes)."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(shifted, labels[:, None], axis=-1)[:, 0]
    result: np.ndarray = np.log(np.exp(shifted).sum(axis=-1)) - chosen
    return result


# -- what a model makes of a batch, by task ---------------------------------------------------------------------------


def _masked(model: Any, collated: Collated) -> Part:
    is_target = collated.inputs["labels"] != IGNORED
    places, labels = (collated.inputs[name][is_target] for name in ("positions", "labels"))
    order = np.argsort(places)
    where = np.zeros(collated.inputs["input_ids"].shape, bool)
    where.reshape(-1)[places] = True
    return _tokens(model, collated, where, labels[order])


def _next(model: Any, collated: Collated) -> Part:
    labels = collated.inputs["labels"]
    where = np.zeros(labels.shape, bool)
    where[:, :-1] = labels[:, 1:] != IGNORED
    return _tokens(model, collated, where, labels[:, 1:][where[:, :-1]])


def _tokens(model: Any, collated: Collated, where: np.ndarray, labels: np.ndarray) -> Part:
    if not len(labels):
        return Part(0.0, 0)
    losses = cross_entropy(infer(model, collated, where)["logits"], labels)
    return Part(float(losses.sum()), len(losses))


def _texts(model: Any, collated: Collated) -> Part:
    logits, labels = infer(model, collated)["logits"], collated.inputs["labels"]
    if labels.dtype.kind != "f":
        return Part(float(cross_entropy(logits, labels).sum()), len(labels), logits.argmax(axis=-1), labels)
    if model.config.problem_type == "multi_label_classification":
        # log(1 + e^x) - x y, the binary cross entropy of a logit
        losses = (np.logaddexp(0.0, logits) - logits * labels).mean(axis=-1)
        return Part(float(losses.sum()), len(labels), (logits > 0).astype(np.int64), labels.astype(np.int64))
    values = logits.reshape(labels.shape)
    return Part(float(np.square(values - labels).sum()), labels.size, values, labels)


def _words(model: Any, collated: Collated) -> Part:
    labels = collated.inputs["labels"]
    where = labels != IGNORED
    logits = infer(model, collated, where)["logits"]
    ends = np.cumsum(where.sum(axis=1))[:-1]
    predicted, right = logits.argmax(axis=-1), labels[where]
    losses = cross_entropy(logits, right)
    return Part(float(losses.sum()), len(losses), np.split(predicted, ends), np.split(right, ends))


def _spans(model: Any, collated: Collated) -> Part:
    """The mean of the losses of start and end, over the real tokens of each row."""
    outputs = infer(model, collated)
    is_padding = collated.inputs["attention_mask"] == 0
    start, end = (np.where(is_padding, -np.inf, outputs[f"{side}_logits"]) for side in ("start", "end"))
    losses = cross_entropy(start, collated.inputs["start_positions"])
    losses = losses + cross_entropy(end, collated.inputs["end_positions"])
    return Part(float(losses.sum() / 2), len(losses), list(zip(start, end, strict=True)))


def _choices(model: Any, collated: Collated) -> Part:
    logits, labels = infer(model, collated)["logits"], collated.inputs["labels"]
    return Part(float(cross_entropy(logits, labels).sum()), len(labels), logits.argmax(axis=-1), labels)


PARTS: dict[Task, Callable[[Any, Collated], Part]] = {
    "mlm": _masked,
    "clm": _next,
    "text-classification": _texts,
    "token-classification": _words,
    "question-answering": _spans,
    "multiple-choice": _choices,
}


# -- the metrics of all batches together ------------------------------------------------------------------------------


def summary(task: Task, parts: Sequence[Part], config: RobertaConfig) -> Metrics:
    """The metrics of what was predicted, beside the loss."""
    if task == "token-classification":
        names = np.array(check_labels(config, config.num_labels))
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
