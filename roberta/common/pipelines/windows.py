"""Long texts in windows: tokens with their characters and words, and the windows over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from roberta.common.tokenizer.base import TokenizerBase
from roberta.common.tokenizer.encoding import Encoding


class Text(NamedTuple):
    """A text as tokens, special tokens left out.

    Attributes:
        ids: int64, (tokens,).
        offsets: int64, (tokens, 2): the first character of each token, and the one after its last.
        words: int64, (tokens,): the number of the word of each token.
        tokens: as the vocabulary has them.
    """

    ids: np.ndarray
    offsets: np.ndarray
    words: np.ndarray
    tokens: Sequence[str]


def tokenised(tokenizer: TokenizerBase, texts: Sequence[str]) -> list[Text]:
    """Texts as tokens, whole."""
    batch = tokenizer(list(texts), add_special_tokens=False, verbose=False)
    return [as_text(row) for row in batch.encodings or ()]


def tokenised_words(tokenizer: TokenizerBase, sentences: Sequence[Sequence[str]], gap: int) -> list[Text]:
    """Sentences of words as tokens; characters are those of the words with `gap` characters between them."""
    filled = [words for words in sentences if words]  # the tokenizer takes an empty list for no batch
    batch = tokenizer(filled, add_special_tokens=False, is_split_into_words=True, verbose=False) if filled else None
    rows = iter(batch.encodings or ()) if batch is not None else iter(())
    return [_shifted(as_text(next(rows)), words, gap) if words else as_text(_EMPTY) for words in sentences]


_EMPTY = Encoding([], [], [], [], [], [], [], [])


def _shifted(text: Text, words: Sequence[str], gap: int) -> Text:
    """The characters of the whole sentence in place of those of each word."""
    starts = np.cumsum([0, *(len(word) + gap for word in words)])
    return text._replace(offsets=text.offsets + starts[text.words][:, None])


def as_text(row: Any) -> Text:
    """One row of a tokenizer's encodings."""
    return Text(
        np.array(row.ids, np.int64),
        np.array(row.offsets, np.int64).reshape(-1, 2),
        np.array(row.word_ids, np.int64),
        row.tokens,
    )


def spans(tokens: int, room: int, stride: int) -> list[tuple[int, int]]:
    """Where the windows over some tokens start and stop: `room` tokens each, `stride` of them shared with the next.

    The last one ends with the text. Example: 10 tokens, room 6, stride 2 -> [(0, 6), (4, 10)].
    """
    starts = range(0, max(tokens - stride, 1), room - stride)
    return [(start, min(start + room, tokens)) for start in starts]
