"""Multiple choice: which of several continuations goes with a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roberta.common.pipelines.arrays import softmax
from roberta.common.pipelines.base import Pipeline, Row
from roberta.common.pipelines.inputs import Item, TextOptions, fields_of, require_count, text_of
from roberta.common.values import Arrays


@dataclass(frozen=True)
class ChooseOptions(TextOptions):
    """top_k: choices in the result, None for all; with 1, the result is not in a list."""

    top_k: int | None = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("top_k", self.top_k)


class Choose(Pipeline[ChooseOptions]):
    """Dicts {"prompt", "choices"} in, choices out.

    The result is {"score", "index", "choice"}, or where `top_k` is not 1 a list of them, best first; the scores of
    the choices of a prompt are probabilities, and `index` counts them from 0. transformers has no such pipeline.
    """

    task = "multiple-choice"
    head = "ForMultipleChoice"

    def __call__(
        self, inputs: object = None, *, prompt: str | None = None, choices: Sequence[str] | None = None, **options: Any
    ) -> Any:
        """See `Pipeline.__call__`; `prompt` and `choices` are another way to give one input."""
        if inputs is None:
            if prompt is None or choices is None:
                raise ValueError("give inputs, or prompt and choices")
            inputs = {"prompt": prompt, "choices": choices}
        elif prompt is not None or choices is not None:
            raise ValueError("give inputs, or prompt and choices, not both")
        return super().__call__(inputs, **options)

    def checked(self, item: Item) -> dict[str, Any]:
        """The prompt and its choices, at least one."""
        given = fields_of(item.value, item.name, {"prompt": True, "choices": True})
        text_of(given["prompt"], f"{item.name}['prompt']")
        choices = given["choices"]
        if not isinstance(choices, list | tuple) or not choices:
            raise ValueError(f"{item.name}['choices'] must be a non-empty list of texts")
        for number, choice in enumerate(choices):
            text_of(choice, f"{item.name}['choices'][{number}]")
        return given

    def characters(self, item: Item) -> int:
        """Length of the prompt, once for each choice, and of the choices."""
        return sum(len(item.value["prompt"]) + len(choice) for choice in item.value["choices"])

    def rows(self, items: Sequence[Item], options: ChooseOptions) -> list[list[Row]]:
        """A row for each choice: the prompt and the choice, as a pair."""
        pairs = [(item.value["prompt"], choice) for item in items for choice in item.value["choices"]]
        prompts, choices = (list(texts) for texts in zip(*pairs, strict=True))
        encoded = iter(self.encode(prompts, choices, options=options))
        rows = []
        for item in items:
            rows.append([next(encoded) for _ in item.value["choices"]])
            self.check_length(max(len(row.ids) for row in rows[-1]), item)
        return rows

    def memory(self, rows: Sequence[Row], options: ChooseOptions) -> tuple[np.ndarray, int, bool]:
        """One logit for each row."""
        return np.ones(len(rows), np.int64), 8, False

    def infer(self, rows: Sequence[Row], where: np.ndarray | None = None) -> Arrays:
        """The logit of each row, as a question with one choice, so that no choice is padded to another's length."""
        batch = {name: array[:, None] for name, array in self.batch(rows).items()}
        return self.outputs(batch, where)

    def run(self, rows: Sequence[Row], options: ChooseOptions) -> np.ndarray:
        """The logits, (rows,)."""
        return self.infer(rows)["logits"][:, 0].astype(np.float64)

    def result(self, item: Item, rows: Sequence[Row], values: Sequence[Any], options: ChooseOptions) -> Any:
        """The best choices."""
        scores = softmax(np.array(values))
        best = np.argsort(-scores, kind="stable")[: options.top_k].tolist()
        choices: Sequence[str] = item.value["choices"]
        found = [{"score": float(scores[index]), "index": index, "choice": choices[index]} for index in best]
        return found[0] if options.top_k == 1 else found
