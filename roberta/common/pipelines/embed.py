"""Embeddings: the hidden states of a text, or one vector of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from roberta.common.pipelines.arrays import rectangle
from roberta.common.pipelines.base import WINDOW_CHARACTERS, Row, TextPipeline
from roberta.common.pipelines.inputs import Item, TextOptions, take_text_options
from roberta.common.pipelines.sentence_recipe import SentenceRecipe, TokenPooling, pool

_WHOLE_CHARACTERS = 2**15  # about 8,000 tokens, 25 MB of hidden states of roberta-base, eight times that as lists
Pooling = TokenPooling | Literal["pooler", "none"]
_POOLINGS = (*get_args(TokenPooling), "pooler", "none")


@dataclass(frozen=True)
class EmbedOptions(TextOptions):
    """How hidden states become a vector.

    Args:
        pooling: "mean" over the tokens, `<s>` and `</s>` included; "cls", the first token; "pooler", the model's own
            layer over it; "max" over the tokens; "mean_sqrt_len_tokens", their sum divided by the root of their number;
            "weightedmean", in which later tokens count more; "lasttoken"; "none", every token, as nested lists. None
            for those of the recipe and its dense layers, or else the mean.
        normalize: divide each vector by its length; None for what the recipe does, or else not.
        tokenize_kwargs: another way to give truncation and max_length.
        recipe: that of a folder of sentence-transformers, whose vectors these are; None for none.
    """

    pooling: Pooling | None = "none"
    normalize: bool | None = None
    tokenize_kwargs: Mapping[str, Any] | None = None
    recipe: SentenceRecipe | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooling not in (None, *_POOLINGS):
            raise ValueError(f"pooling={self.pooling!r} must be one of {', '.join(_POOLINGS)}")
        if self.recipe is not None and not isinstance(self.recipe, SentenceRecipe):
            raise ValueError(f"recipe={type(self.recipe).__name__} must be one that a folder has, or None")
        take_text_options(self, "tokenize_kwargs")

    @property
    def poolings(self) -> tuple[Pooling, ...]:
        """What vectors are made of; several are put together."""
        if self.pooling is not None:
            return (self.pooling,)
        return ("mean",) if self.recipe is None else self.recipe.poolings

    @property
    def is_normalized(self) -> bool:
        """Whether vectors get the length 1."""
        return self.normalize or (self.normalize is None and self.recipe is not None and self.recipe.normalize)


@dataclass(frozen=True)
class SentenceOptions(EmbedOptions):
    """The same, with the pooling of the recipe, or the mean, as the default."""

    pooling: Pooling | None = None


class Embed(TextPipeline[EmbedOptions]):
    """Texts in, vectors out.

    The result of a text is an array, (hidden,), float32 or the model's dtype; without pooling, as in transformers, a
    nested list of one vector for each token, (1, tokens, hidden).
    """

    task = "feature-extraction"
    head = "Model"

    def rows(self, items: Sequence[Item], options: EmbedOptions) -> list[list[Row]]:
        """One row for each text."""
        recipe = options.recipe
        texts = [item.value if recipe is None else recipe.text(item.value) for item in items]
        encoded = self.encode(texts, options=options)
        for item, row in zip(items, encoded, strict=True):
            self.check_length(len(row.ids), item)
        return [[row] for row in encoded]

    def memory(self, rows: Sequence[Row], options: EmbedOptions) -> tuple[np.ndarray, int, bool]:
        """The hidden states of the tokens that the pooling needs."""
        is_whole = options.poolings not in (("cls",), ("pooler",))
        units = np.array([len(row.ids) if is_whole else 1 for row in rows])
        return units, 8 * self.model.config.hidden_size, is_whole

    def window_characters(self, options: EmbedOptions) -> int:
        """Fewer if the vectors of all tokens, a few kilobytes each, are the result."""
        return WINDOW_CHARACTERS if options.pooling != "none" else _WHOLE_CHARACTERS

    def run(self, rows: Sequence[Row], options: EmbedOptions) -> Iterable[Any]:
        """The vector of each row, or all its hidden states."""
        _, mask = rectangle([row.ids for row in rows], 0)
        kinds = options.poolings
        if kinds in (("cls",), ("pooler",)):
            where = np.zeros(mask.shape, bool)
            where[:, 0] = True
            vectors = self.first(self.infer(rows, where), kinds[0])
        else:
            states = self.infer(rows)["last_hidden_state"]
            if kinds == ("none",):
                kept = (_normalized(row) if options.is_normalized else row for row in states)
                return [states_[: len(row.ids)] for states_, row in zip(kept, rows, strict=True)]
            vectors = np.concatenate([pool(states, mask, kind) for kind in kinds], axis=1)  # type: ignore[arg-type]
        if options.pooling is None and options.recipe is not None:
            for layer in options.recipe.layers:
                vectors = layer(vectors)
        return _normalized(vectors) if options.is_normalized else vectors

    def first(self, output: Mapping[str, np.ndarray], pooling: Pooling) -> np.ndarray:
        """The vector of the first token, after the pooler if that is the pooling."""
        if pooling == "cls":
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
    """The same, with one vector for each text by default, as a folder of sentence-transformers makes it."""

    task = "embeddings"


def _normalized(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1; a vector of zeros stays unchanged."""
    sizes = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(sizes == 0, 1, sizes))
