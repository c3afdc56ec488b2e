"""Zero-shot classification: which labels fit a text, asked of a model that knows whether one text entails another."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from roberta.common.pipelines.arrays import labels_of_outputs, softmax
from roberta.common.pipelines.base import WINDOW_CHARACTERS, Pipeline, Row
from roberta.common.pipelines.inputs import InputError, Item, TextOptions, fields_of, shown, text_of

_Labels = tuple[str, ...]
_HYPOTHESIS_CHARACTERS = 32  # of a sentence around a label, about


@dataclass(frozen=True)
class ZeroShotOptions(TextOptions):
    """How labels are found.

    Args:
        candidate_labels: a list of labels, or a text with commas between them; a list of lists has the labels of each
            text of a list or a stream.
        hypothesis_template: the sentence that a text may entail, with {} where the label goes.
        multi_label: score each label alone, entailment against contradiction; otherwise the scores of a text's labels
            are probabilities.
        multi_class: the older name of `multi_label`.
        truncation: cut texts that are too long, the default; the hypothesis stays whole.
    """

    candidate_labels: str | Iterable[str] | Iterable[Iterable[str]] | None = None
    hypothesis_template: str = "This example is {}."
    multi_label: bool = False
    multi_class: bool | None = None
    truncation: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.candidate_labels is not None:
            object.__setattr__(self, "candidate_labels", _candidates(self.candidate_labels))
        _check_template(self.hypothesis_template)
        if self.multi_class is not None:
            warnings.warn("multi_class is the older name of multi_label; pass multi_label", FutureWarning, stacklevel=5)
            object.__setattr__(self, "multi_label", self.multi_class)
            object.__setattr__(self, "multi_class", None)
        if not isinstance(self.multi_label, bool):
            raise ValueError(f"multi_label={self.multi_label!r} must be True or False")

    @property
    def shared(self) -> _Labels:
        """The labels of every text; none if each text has its own, or none were given."""
        labels: Any = self.candidate_labels or ()
        return () if self.each else labels

    @property
    def each(self) -> tuple[_Labels, ...]:
        """The labels of each text, if they were given so."""
        labels: Any = self.candidate_labels or ()
        return labels if labels and isinstance(labels[0], tuple) else ()


def _candidates(value: object) -> _Labels | tuple[_Labels, ...]:
    """The labels of all texts, or of each."""
    if not _is_list(value):
        return _labels_of(value, "candidate_labels")
    listed = _listed(value)
    if listed and all(map(_is_list, listed)):
        return tuple(_labels_of(one, f"candidate_labels[{number}]") for number, one in enumerate(listed))
    return _labels_of(listed, "candidate_labels")


def _is_list(value: object) -> bool:
    """Whether a value has labels in an order, such as a list or an array."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping | Set)


def _listed(value: Any) -> list[Any]:
    return value.tolist() if isinstance(value, np.ndarray) else list(value)


def _labels_of(value: object, name: str) -> _Labels:
    """The labels of a text, at least one, each of them a text that is not blank."""
    if isinstance(value, str):
        found = [part.strip() for part in text_of(value, name).split(",") if part.strip()]
    elif _is_list(value):
        found = _listed(value)
    else:
        raise ValueError(
            f"{name} is {shown(value)} ({type(value).__name__}), neither a list of labels nor a text with commas between "
            "them"
        )
    if not found:
        raise ValueError(f"{name} is empty; name at least one label")
    for number, label in enumerate(found):
        if not text_of(label, f"{name}[{number}]").strip():
            raise ValueError(f"{name}[{number}] is {label!r}; a label must not be blank: remove it, or write one")
    return tuple(found)


def _check_template(template: str) -> None:
    """Raise `ValueError` unless a label can be put into a template."""
    text_of(template, "hypothesis_template")
    try:
        takes_label = template.format("a") != template.format("b")
    except (LookupError, ValueError, AttributeError):  # a second place, a name, a lone brace
        takes_label = False
    if not takes_label:
        raise ValueError(
            f'hypothesis_template={template!r} must have {{}} where the label goes, once, as in "This example is {{}}."; '
            "write other braces twice"
        )


class _Labelled(NamedTuple):
    """A text, and its own labels; None for those of all texts."""

    text: str
    labels: _Labels | None


class ZeroShot(Pipeline[ZeroShotOptions]):
    """Texts, or dicts {"text", "candidate_labels"}, in; labels out, which the model was not trained for.

    The result of a text is {"sequence", "labels", "scores"}, best first. Each label makes a sentence, such as "This example
    is politics.", and its score is how certain the model is that the text entails it. The labels of a dict go before
    those of the call.

    Source of the method: Yin et al. 2019, "Benchmarking Zero-shot Text Classification".
    """

    task = "zero-shot-classification"
    head = "ForSequenceClassification"

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        labels = [label for _, label in sorted(self.model.config.id2label.items())]
        contradiction, entailment = _outcomes(labels)
        if contradiction == entailment and len(labels) > 1:
            raise ValueError(
                f"the model's labels are {', '.join(map(repr, labels))}: one means contradiction, and none begins with "
                "'entail'; name the label of entailment so in id2label of config.json"
            )
        if _first_like(labels, "entail") is None:
            warnings.warn(
                f"the model's labels are {', '.join(map(repr, labels))}, and none begins with 'entail'; the last one is "
                "taken for entailment. If it is not, the answers are meaningless: give a model that was trained for "
                "entailment (NLI), with the names of its labels in id2label of config.json",
                stacklevel=3,
            )

    def __call__(
        self, inputs: object = None, candidate_labels: object = None, *, sequences: object = None, **options: Any
    ) -> Any:
        """See `Pipeline.__call__`; `sequences` is another name of `inputs`, as in transformers."""
        if (inputs is None) == (sequences is None):
            raise ValueError("give inputs, or sequences, which are the same; one of them, not both")
        if candidate_labels is not None:
            options["candidate_labels"] = candidate_labels
        return super().__call__(sequences if inputs is None else inputs, **options)

    # -- inputs ----------------------------------------------------------------------------------------------------

    def of_list(self, inputs: Sequence[Any], options: ZeroShotOptions) -> list[Any]:
        """The result of each input of a list."""
        if options.each and len(options.each) != len(inputs):
            raise ValueError(
                f"candidate_labels has {len(options.each)} lists of labels for {len(inputs)} texts; give a list for each "
                "text, or one list for all"
            )
        if options.candidate_labels is None and self.on_error == "stop":  # before any work
            for item in [Item(self.checked(Item(value, number)), number) for number, value in enumerate(inputs)]:
                self.labels(item, options)
        return super().of_list(list(_with_labels(inputs, options.each)), options)

    def of_stream(self, inputs: Iterable[Any], options: ZeroShotOptions) -> Iterator[Any]:
        """The result of each input of a stream."""
        return super().of_stream(_with_labels(inputs, options.each), options)

    def checked(self, item: Item) -> _Labelled:
        """The text, which must not be empty, and its own labels."""
        value, name, labels = item.value, item.name, None
        if isinstance(value, Mapping):
            given = fields_of(value, name, {"text": True, "candidate_labels": False})
            value, name, labels = given["text"], f"{name}['text']", given.get("candidate_labels")
        if not text_of(value, name):
            raise ValueError(f"{name} is empty; give a text")
        is_said = labels is not None and not (isinstance(labels, str) and not labels.strip())  # a cell may be blank
        return _Labelled(value, _labels_of(labels, f"{item.name}['candidate_labels']") if is_said else None)

    def characters(self, item: Item) -> int:
        """Length of the text and a sentence, once for each of its own labels."""
        return (len(item.value.text) + _HYPOTHESIS_CHARACTERS) * max(len(item.value.labels or ()), 1)

    def window_characters(self, options: ZeroShotOptions) -> int:
        """Fewer with more labels, each of which makes a row of every text."""
        return WINDOW_CHARACTERS // max(len(options.shared), 1)

    # -- rows, scores, results -------------------------------------------------------------------------------------

    def rows(self, items: Sequence[Item], options: ZeroShotOptions) -> list[list[Row]]:
        """A row for each label: the text and the sentence with the label, as a pair.

        Texts and sentences are tokenised once each, and not once for each pair.
        """
        of_items = [self.labels(item, options) for item in items]
        template = options.hypothesis_template
        sentences = {label: template.format(label) for label in dict.fromkeys(itertools.chain(*of_items))}
        second = dict(zip(sentences, self.pieces_of(sentences.values()), strict=True))
        texts = self.pieces_of(item.value.text for item in items)
        return [
            [self.of_pair(item, ids, label, second[label], options) for label in labels]
            for item, ids, labels in zip(items, texts, of_items, strict=True)
        ]

    def labels(self, item: Item, options: ZeroShotOptions) -> _Labels:
        """The labels of an input: its own, or those of all."""
        labels: _Labels = item.value.labels or options.shared
        if not labels:
            why = (
                "candidate_labels is a list of lists, for a list of texts; give one list"
                if options.each
                else "give candidate_labels"
            )
            raise InputError(item, f"has no labels to choose from: {why}")
        return labels

    def pieces_of(self, texts: Iterable[str]) -> list[list[int]]:
        """The ids of each text, without special tokens."""
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def of_pair(self, item: Item, text: list[int], label: str, sentence: list[int], options: ZeroShotOptions) -> Row:
        """The row of a text and a label; a text that is too long is cut."""
        longest = self.limit if options.max_length is None else min(options.max_length, self.limit)
        room = longest - len(sentence) - self.tokenizer.layout(pair=True).size
        if len(text) > room:
            if not options.truncation:
                self.check_length(len(text) - room + longest, item)
            if room < 1:
                raise InputError(
                    item,
                    f"has no room beside the label {shown(label)}, whose sentence has {len(sentence)} of {longest} tokens; "
                    "shorten the label or hypothesis_template",
                )
            text = text[:room] if self.tokenizer.truncation_side == "right" else text[-room:]
        self.full += options.truncation and len(text) >= room
        return self.row_of(text, sentence, label)

    def memory(self, rows: Sequence[Row], options: ZeroShotOptions) -> tuple[np.ndarray, int, bool]:
        """The logits of each row."""
        return np.ones(len(rows), np.int64), 8 * self.model.config.num_labels, False

    def run(self, rows: Sequence[Row], options: ZeroShotOptions) -> np.ndarray:
        """The logits of contradiction and entailment, (rows, 2)."""
        logits = self.infer(rows)["logits"].astype(np.float64)
        return logits[:, _outcomes(labels_of_outputs(self.model.config, logits.shape[-1]))]

    def result(
        self, item: Item, rows: Sequence[Row], values: Sequence[np.ndarray], options: ZeroShotOptions
    ) -> dict[str, Any]:
        """The labels, best first."""
        logits = np.array(values)
        if options.multi_label or len(rows) == 1:
            if self.model.config.num_labels == 1:
                raise ValueError(
                    "the model gives one score, and a label alone needs two, of entailment and contradiction; give several "
                    "labels with multi_label=False, or another model"
                )
            scores = softmax(logits)[:, 1]
        else:
            scores = softmax(logits[:, 1])
        best = np.argsort(-scores, kind="stable").tolist()
        return {
            "sequence": item.value.text,
            "labels": [rows[index].note for index in best],
            "scores": scores[best].tolist(),
        }


def _with_labels(inputs: Iterable[Any], each: Sequence[_Labels]) -> Iterator[Any]:
    """The inputs, each with its own labels, if there are such lists."""
    if not each:
        yield from inputs
        return
    missing = object()
    for number, (value, labels) in enumerate(itertools.zip_longest(inputs, each, fillvalue=missing)):
        if value is missing or labels is missing:
            what = "texts" if value is missing else "lists of labels in candidate_labels"
            raise ValueError(f"there are {number} {what}, and more of the others; give a list of labels for each text")
        is_text = not isinstance(value, Mapping | ValueError)  # an error is a skipped input
        yield {"text": value, "candidate_labels": labels} if is_text else value


def _outcomes(labels: Sequence[str]) -> list[int]:
    """The outputs of contradiction and entailment, by the names of the labels.

    Without a name, the last one is entailment, and the first one contradiction; if the first one is entailment, the last
    one is contradiction.
    """
    entailment = _first_like(labels, "entail")
    entailment = len(labels) - 1 if entailment is None else entailment
    contradiction = _first_like(labels, "contradict")
    if contradiction is None:
        contradiction = len(labels) - 1 if entailment == 0 else 0
    return [contradiction, entailment]


def _first_like(labels: Sequence[str], start: str) -> int | None:
    """The first label that begins so, in upper or lower case."""
    return next((place for place, label in enumerate(labels) if str(label).strip().lower().startswith(start)), None)
