"""Embeddings: the hidden states of a text, or one vector of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from roberta.common.pipelines.arrays import rectangle
from roberta.common.pipelines.base import WINDOW_CHARACTERS, Row, TextPipeline
from roberta.common.pipelines.inputs import Item, TextOptions, take_text_options

_WHOLE_CHARACTERS = 2**15  # about 8,000 tokens, 25 MB of hidden states of roberta-base, eight times that as lists
Pooling = Literal["mean", "cls", "pooler", "none"]


@dataclass(frozen=True)
class EmbedOptions(TextOptions):
    """How hidden states become a vector.

    Args:
        pooling: "mean" over the tokens, `<s>` and `</s>` included; "cls", the first token; "pooler", the model's own
            layer over it; "none", every token, as nested lists.
        normalize: divide each vector by its length.
        tokenize_kwargs: another way to give truncation and max_length.
    """

    pooling: Pooling = "none"
    normalize: bool = False
    tokenize_kwargs: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooling not in get_args(Pooling):
            raise ValueError(f"pooling={self.pooling!r} must be one of {', '.join(get_args(Pooling))}")
        take_text_options(self, "tokenize_kwargs")


@dataclass(frozen=True)
class SentenceOptions(EmbedOptions):
    """The same, with the mean as the default pooling."""

    pooling: Pooling = "mean"


class Embed(TextPipeline[EmbedOptions]):
    """Texts in, vectors out.

    The result of a text is an array, (hidden,), float32 or the model's dtype; without pooling, as in transformers, a
    nested list of one vector for each token, (1, tokens, hidden).
    """

    task = "feature-extraction"
    head = "Model"

    def rows(self, items: Sequence[Item], options: EmbedOptions) -> list[list[Row]]:
        """One row for each text."""
        encoded = self.encode([item.value for item in items], options=options)
        for item, row in zip(items, encoded, strict=True):
            self.check_length(len(row.ids), item)
        return [[row] for row in encoded]

    def memory(self, rows: Sequence[Row], options: EmbedOptions) -> tuple[np.ndarray, int, bool]:
        """The hidden states of the tokens that the pooling needs."""
        is_whole = options.pooling in ("mean", "none")
        units = np.array([len(row.ids) if is_whole else 1 for row in rows])
        return units, 8 * self.model.config.hidden_size, is_whole

    def window_characters(self, options: EmbedOptions) -> int:
        """Fewer if the vectors of all tokens, a few kilobytes each, are the result."""
        return WINDOW_CHARACTERS if options.pooling != "none" else _WHOLE_CHARACTERS

    def run(self, rows: Sequence[Row], options: EmbedOptions) -> Iterable[Any]:
        """The vector of each row, or all its hidden states."""
        _, mask = rectangle([row.ids for row in rows], 0)
        if options.pooling in ("cls", "pooler"):
            where = np.zeros(mask.shape, bool)
            where[:, 0] = True
            vectors = self.first(self.infer(rows, where), options)
        else:
            states = self.infer(rows)["last_hidden_state"]
            if options.pooling == "none":
                kept = (_normalized(row) if options.normalize else row for row in states)
                return [states_[: len(row.ids)] for states_, row in zip(kept, rows, strict=True)]
            shares = (mask / mask.sum(axis=1, keepdims=True)).astype(states.dtype)
            vectors = np.einsum("rs,rsh->rh", shares, states)
        return _normalized(vectors) if options.normalize else vectors

    def first(self, output: Mapping[str, np.ndarray], options: EmbedOptions) -> np.ndarray:
        """The vector of the first token, after the pooler if that is the pooling."""
        if options.pooling == "cls":
            return output["last_hidden_state"]
        if "pooler_output" not in output:
            raise ValueError(
                'this model has no pooler; make the pipeline with pooling="pooler", or use "cls" or "mean"'
            )
        return output["pooler_output"]

    def result(self, item: Item, rows: Sequence[Row], values: Sequence[Any], options: EmbedOptions) -> Any:
        """An array, or nested lists without pooling."""
        return [values[0].tolist()] if options.pooling == "none" else values[0]


class EmbedSentences(Embed):
    """The same, with one vector for each text by default."""

    task = "embeddings"


def _normalized(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1; a vector of zeros stays unchanged."""
    sizes = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(sizes == 0, 1, sizes))
