"""Text classification: the labels of a text or a pair of texts, with their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from roberta.common.config import RobertaConfig
from roberta.common.pipelines.arrays import labels_of_outputs, softmax
from roberta.common.pipelines.base import Pipeline, Row
from roberta.common.pipelines.inputs import Item, TextOptions, fields_of, require_count, shown, text_of

_Function = Literal["softmax", "sigmoid", "none"]
_FUNCTIONS = ("softmax", "sigmoid", "none")


@dataclass(frozen=True)
class ClassifyOptions(TextOptions):
    """How texts are classified.

    Args:
        top_k: labels of a text, None for all; "best" is the best one, not in a list.
        function_to_apply: turns logits into scores; None for the one that fits the config.
    """

    top_k: int | Literal["best"] | None = "best"
    function_to_apply: _Function | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top_k != "best":
            require_count("top_k", self.top_k)
        if self.function_to_apply is not None and self.function_to_apply not in _FUNCTIONS:
            raise ValueError(f"function_to_apply={self.function_to_apply!r} must be one of {', '.join(_FUNCTIONS)}")


class Classify(Pipeline[ClassifyOptions]):
    """Texts, or dicts {"text", "text_pair"}, in; labels out.

    The result of a text is {"label", "score"}, of the best label; where `top_k` was given, a list of them, best
    first. As in transformers, the result of a single str is in one more list, unless the call has a `top_k`.
    """

    task = "text-classification"
    head = "ForSequenceClassification"

    def __call__(self, inputs: object, **options: Any) -> Any:
        """See `Pipeline.__call__`."""
        results = super().__call__(inputs, **options)
        return [results] if isinstance(inputs, str) and "top_k" not in options else results

    def checked(self, item: Item) -> tuple[str, ...]:
        """The text, or both texts of a pair."""
        if isinstance(item.value, str):
            return (text_of(item.value, item.name),)
        if not isinstance(item.value, Mapping):
            found = f"{shown(item.value)} ({type(item.value).__name__})"
            raise ValueError(f"{item.name} is {found}, neither a str nor a dict with text and text_pair")
        given = fields_of(item.value, item.name, {"text": True, "text_pair": False})
        if given.get("text_pair") is None:
            given.pop("text_pair", None)
        fields = [field for field in ("text", "text_pair") if field in given]  # whatever the order of the dictionary
        return tuple(text_of(given[field], f"{item.name}[{field!r}]") for field in fields)

    def characters(self, item: Item) -> int:
        """Total length of both texts, in characters."""
        return sum(map(len, item.value))

    def rows(self, items: Sequence[Item], options: ClassifyOptions) -> list[list[Row]]:
        """One row for each text or pair."""
        rows: list[list[Row]] = [[] for _ in items]
        for size in (1, 2):
            places = [place for place, item in enumerate(items) if len(item.value) == size]
            texts = [[items[place].value[part] for place in places] for part in range(size)]
            for place, row in zip(places, self.encode(*texts, options=options) if places else (), strict=True):
                self.check_length(len(row.ids), items[place])
                rows[place] = [row]
        return rows

    def memory(self, rows: Sequence[Row], options: ClassifyOptions) -> tuple[np.ndarray, int, bool]:
        """The logits of each row."""
        return np.ones(len(rows), np.int64), 8 * self.model.config.num_labels, False

    def run(self, rows: Sequence[Row], options: ClassifyOptions) -> np.ndarray:
        """The scores of each row, (rows, labels)."""
        logits = self.infer(rows)["logits"].astype(np.float64)
        labels_of_outputs(self.model.config, logits.shape[-1])
        function = options.function_to_apply or _usual_function(self.model.config)
        if function == "softmax":
            return softmax(logits)
        return 1 / (1 + np.exp(-logits)) if function == "sigmoid" else logits

    def result(self, item: Item, rows: Sequence[Row], values: Sequence[np.ndarray], options: ClassifyOptions) -> Any:
        """The best labels, as a list if `top_k` was given."""
        labels, scores = self.model.config.id2label, values[0]
        count = 1 if options.top_k == "best" else options.top_k
        best = np.argsort(-scores, kind="stable")[:count]
        found = [{"label": labels[int(index)], "score": float(scores[index])} for index in best]
        return found[0] if options.top_k == "best" else found


def _usual_function(config: RobertaConfig) -> _Function:
    """The function that fits the problem the model was trained for."""
    if config.problem_type == "regression":
        return "none"
    if config.problem_type == "multi_label_classification" or config.num_labels == 1:
        return "sigmoid"
    return "softmax"
