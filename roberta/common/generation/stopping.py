"""What ends a row: an end token, the length, the time, a text, and the caller's own criteria."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from roberta.common.values import Bools, Floats, Ints

if TYPE_CHECKING:
    from roberta.common.generation.config import GenerationConfig


class Decodes(Protocol):
    """A tokenizer, as far as `stop_strings` need one."""

    def decode(self, ids: list[int], /, *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> Any:
        """The text of a row."""


# (ids of the rows so far, scores of each step where they are kept) -> which rows end; one answer counts for all
Criterion = Callable[[Ints, Sequence[Floats] | None], Any]


@dataclass(frozen=True)
class Stopping:
    """All that ends a row.

    Attributes:
        eos: tokens that do.
        max_length: of a row, prompt included.
        own: the settings' and the caller's criteria.
    """

    eos: tuple[int, ...]
    max_length: int
    own: tuple[Criterion, ...] = ()

    def __call__(self, ids: Ints, scores: Sequence[Floats] | None = None) -> Bools:
        """Which rows, of ids (rows, length), end with their last token."""
        ends: Bools = np.isin(ids[:, -1], self.eos) | (ids.shape[1] >= self.max_length)
        for criterion in self.own:
            ends = ends | np.asarray(criterion(ids, scores), bool)
        return ends


def criteria_of(config: GenerationConfig, tokenizer: Decodes | None) -> list[Criterion]:
    """The criteria that settings ask for: `max_time` and `stop_strings`.

    Raises:
        ValueError: stop strings without a tokenizer.
    """
    criteria: list[Criterion] = []
    if config.max_time is not None:
        end = time.monotonic() + config.max_time
        criteria.append(lambda ids, scores: time.monotonic() >= end)
    if config.stop_strings:
        texts = [config.stop_strings] if isinstance(config.stop_strings, str) else list(config.stop_strings)
        if tokenizer is None:
            raise ValueError(f"stop_strings={texts!r} needs the tokenizer: generate(..., tokenizer=tokenizer)")
        criteria.append(_at_texts(texts, tokenizer))
    return criteria


def _at_texts(texts: Sequence[str], tokenizer: Decodes) -> Criterion:
    """Rows in whose text one of `texts` ends with the last token, or inside it."""
    longest = max(len(text.encode()) for text in texts)

    def text_of(tokens: Ints) -> str:
        decoded = tokenizer.decode(tokens.tolist(), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(decoded)

    def criterion(ids: Ints, scores: Sequence[Floats] | None) -> Bools:
        ends = []
        for row in ids[:, -longest - 1 :]:  # a token has at least one byte
            before, now = text_of(row[:-1]), text_of(row)
            start = [max(0, len(before.rstrip("\ufffd")) - len(text) + 1) for text in texts]
            ends.append(any(now.find(text, first) >= 0 for text, first in zip(texts, start, strict=True)))
        return np.array(ends)

    return criterion
