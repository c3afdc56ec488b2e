"""Long texts: tokens with their characters and words, and windows over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from roberta.common.tokenizer.base import TokenizerBase
from roberta.common.tokenizer.encoding import Encoding


class Text(NamedTuple):
    """A text as tokens, without special tokens.

    Attributes:
        ids: int64, (tokens,).
        offsets: int64, (tokens, 2): the first character of each token, and the one after its last.
        words: int64, (tokens,): the number of the word of each token.
        tokens: in the vocabulary's spelling.
    """

    ids: np.ndarray
    offsets: np.ndarray
    words: np.ndarray
    tokens: Sequence[str]


class TextWindow(NamedTuple):
    """Tokens `start` to `stop` of a text, which begin at place `place` of their row."""

    text: Text
    start: int
    stop: int
    place: int

    @property
    def offsets(self) -> np.ndarray:
        """The characters of the tokens, as in `Text`."""
        return self.text.offsets[self.start : self.stop]

    @property
    def words(self) -> np.ndarray:
        """The words of the tokens, as in `Text`."""
        return self.text.words[self.start : self.stop]

    @property
    def tokens(self) -> Sequence[str]:
        """The tokens themselves."""
        return self.text.tokens[self.start : self.stop]


def tokenised(tokenizer: TokenizerBase, texts: Sequence[str]) -> list[Text]:
    """Whole texts as tokens."""
    batch = tokenizer(list(texts), add_special_tokens=False, verbose=False)
    return [_spelled(_as_text(row), whole, tokenizer) for row, whole in zip(batch.encodings or (), texts, strict=True)]


def _spelled(text: Text, whole: str, tokenizer: TokenizerBase) -> Text:
    """The same text, with characters instead of each unknown token, and the mark of one that the next one continues."""
    if tokenizer.is_byte_level or not (text.ids == tokenizer.unk_token_id).any():
        return text
    continues = np.append(text.words[1:] == text.words[:-1], False)
    rows = zip(text.tokens, text.ids.tolist(), text.offsets.tolist(), continues.tolist(), strict=True)
    tokens = [
        f"{whole[slice(*span)]}{tokenizer.continues if is_part else ''}" if index == tokenizer.unk_token_id else token
        for token, index, span, is_part in rows
    ]
    return text._replace(tokens=tokens)


def tokenised_words(tokenizer: TokenizerBase, sentences: Sequence[Sequence[str]], gap: int) -> list[Text]:
    """Sentences of words as tokens; characters are counted with `gap` characters between the words."""
    filled = [words for words in sentences if words]  # the tokenizer does not accept an empty list in a batch
    batch = tokenizer(filled, add_special_tokens=False, is_split_into_words=True, verbose=False) if filled else None
    rows = iter(batch.encodings or ()) if batch is not None else iter(())
    return [
        _spelled(_shifted(_as_text(next(rows)), words, gap), (" " * gap).join(words), tokenizer)
        if words
        else _as_text(_EMPTY)
        for words in sentences
    ]


_EMPTY = Encoding([], [], [], [], [], [], [], [])


def _shifted(text: Text, words: Sequence[str], gap: int) -> Text:
    """The same text, with characters counted in the whole sentence instead of in each word."""
    starts = np.cumsum([0, *(len(word) + gap for word in words)])
    return text._replace(offsets=text.offsets + starts[text.words][:, None])


def _as_text(row: Encoding) -> Text:
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
