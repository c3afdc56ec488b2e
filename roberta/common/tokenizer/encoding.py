"""The result of a tokenizer: `BatchEncoding`, a dictionary of model inputs aligned with the tokens, words and characters."""

from __future__ import annotations

import logging
from collections import UserDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from roberta.common.frameworks import tensor_maker

_logger = logging.getLogger(__name__)

Span = tuple[int, int]


class CharSpan(NamedTuple):
    """Characters `start` to `end` (not included) of a text."""

    start: int
    end: int


class TokenSpan(NamedTuple):
    """Tokens `start` to `end` (not included) of a row."""

    start: int
    end: int


@dataclass
class Encoding:
    """One row: every list has one entry a token, padding included; `overflowing` has the row's further windows."""

    ids: list[int]
    type_ids: list[int]
    tokens: list[str]
    offsets: list[Span]
    word_ids: list[int | None]
    sequence_ids: list[int | None]
    special_tokens_mask: list[int]
    attention_mask: list[int]
    overflowing: list[Encoding] = field(default_factory=list)

    @property
    def words(self) -> list[int | None]:
        """The word of each token, None for special tokens and padding."""
        return self.word_ids

    @property
    def n_sequences(self) -> int:
        """1, or 2 for a pair."""
        return 1 + (1 in self.sequence_ids)

    def __len__(self) -> int:
        return len(self.ids)

    def token_to_sequence(self, token_index: int) -> int | None:
        """The text of a token, 0 or 1; None for special tokens."""
        return self.sequence_ids[token_index] if 0 <= token_index < len(self.ids) else None

    def token_to_word(self, token_index: int) -> int | None:
        """The number of a token's word."""
        return self.word_ids[token_index] if 0 <= token_index < len(self.ids) else None

    def token_to_chars(self, token_index: int) -> Span | None:
        """The characters of a token."""
        return None if self.token_to_sequence(token_index) is None else self.offsets[token_index]

    def word_to_tokens(self, word_index: int, sequence_index: int = 0) -> Span | None:
        """The tokens of a word."""
        at = [
            index
            for index, (word, sequence) in enumerate(zip(self.word_ids, self.sequence_ids, strict=True))
            if word == word_index and sequence == sequence_index
        ]
        return (at[0], at[-1] + 1) if at else None

    def word_to_chars(self, word_index: int, sequence_index: int = 0) -> Span | None:
        """The characters of a word."""
        span = self.word_to_tokens(word_index, sequence_index)
        return None if span is None else (self.offsets[span[0]][0], self.offsets[span[1] - 1][1])

    def char_to_token(self, char_index: int, sequence_index: int = 0) -> int | None:
        """The first token that has a character; None where no token has it (a space)."""
        for index, (start, end) in enumerate(self.offsets):
            if start <= char_index < end and self.sequence_ids[index] == sequence_index:
                return index
        return None

    def char_to_word(self, char_index: int, sequence_index: int = 0) -> int | None:
        """The word that has a character."""
        token = self.char_to_token(char_index, sequence_index)
        return None if token is None else self.word_ids[token]


class BatchEncoding(UserDict[str, Any]):
    """Model inputs by name, as keys and as attributes, and the alignment of tokens, words and characters.

    Args:
        data: name -> list, array or tensor.
        encoding: the rows, or a function that makes them when they are first asked for.
        tensor_type: convert the lists, see `convert_to_tensors`.
        prepend_batch_axis: the lists are one row without a batch axis; with `tensor_type` they get one.
        n_sequences: 1, or 2 for pairs; None when unknown.
    """

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        encoding: Sequence[Encoding] | Callable[[], list[Encoding]] | Encoding | None = None,
        tensor_type: str | None = None,
        prepend_batch_axis: bool = False,
        n_sequences: int | None = None,
    ) -> None:
        super().__init__(data or {})
        self._encodings: Any = [encoding] if isinstance(encoding, Encoding) else encoding
        self._n_sequences = n_sequences
        self.convert_to_tensors(tensor_type, prepend_batch_axis)

    @property
    def encodings(self) -> list[Encoding] | None:
        """The rows, or None when this is not the direct result of a tokenizer."""
        if callable(self._encodings):
            self._encodings = self._encodings()
        return None if self._encodings is None else list(self._encodings)

    @property
    def is_fast(self) -> bool:
        """Whether the alignment is known: true for the result of either tokenizer."""
        return self._encodings is not None

    @property
    def n_sequences(self) -> int | None:
        """1, or 2 when the rows are pairs."""
        if self._n_sequences is None and self._encodings is not None and self._rows():
            self._n_sequences = self._rows()[0].n_sequences
        return self._n_sequences

    def __getitem__(self, item: object) -> Any:
        if isinstance(item, str):
            return self.data[item]
        if isinstance(item, int | slice) and self._encodings is not None:
            return self._rows()[item]
        if isinstance(item, slice):
            return {key: value[item] for key, value in self.data.items()}
        raise KeyError(f"{item!r}: a key is a name ({', '.join(self.data)}), a slice, or the number of a row")

    def __getattr__(self, name: str) -> Any:
        data = self.__dict__.get("data", {})
        if name in data:
            return data[name]
        raise AttributeError(f"this batch has no {name!r}; it has {', '.join(data)}")

    def __getstate__(self) -> dict[str, Any]:
        return {"data": self.data, "_encodings": self.encodings, "_n_sequences": self._n_sequences}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __copy__(self) -> BatchEncoding:
        return BatchEncoding(self.data, self._encodings, n_sequences=self._n_sequences)

    # -- alignment -----------------------------------------------------------------------------------------------

    def _rows(self) -> list[Encoding]:
        rows = self.encodings
        if rows is None:
            raise ValueError(
                "this batch does not know its texts (it was not made by a tokenizer's call), so tokens, words and "
                "characters cannot be matched; ask the result of tokenizer(...) itself"
            )
        return rows

    def tokens(self, batch_index: int = 0) -> list[str]:
        """The tokens of a row."""
        return self._rows()[batch_index].tokens

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """The text of each token, 0 or 1; None for special tokens."""
        return self._rows()[batch_index].sequence_ids

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """For each token the number of its word in its text; None for special tokens."""
        return self._rows()[batch_index].word_ids

    def words(self, batch_index: int = 0) -> list[int | None]:
        """The same as `word_ids`."""
        return self.word_ids(batch_index)

    def _row(self, batch_or_index: int, index: int | None) -> tuple[Encoding, int]:
        """The row and the index in it, of (row, index) or (index), which is of the first row."""
        row, at = (0, batch_or_index) if index is None else (batch_or_index, index)
        encoding = self._rows()[row]
        return encoding, at

    def token_to_sequence(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """The text of a token, 0 or 1; None for special tokens."""
        row, at = self._row(batch_or_token_index, token_index)
        return row.token_to_sequence(at + len(row) if at < 0 else at)

    def token_to_word(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """The word of a token; None for special tokens."""
        row, at = self._row(batch_or_token_index, token_index)
        return row.token_to_word(at + len(row) if at < 0 else at)

    def token_to_chars(self, batch_or_token_index: int, token_index: int | None = None) -> CharSpan | None:
        """The characters of a token; None for special tokens."""
        row, at = self._row(batch_or_token_index, token_index)
        span = row.token_to_chars(at)
        return None if span is None else CharSpan(*span)

    def word_to_tokens(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> TokenSpan | None:
        """The tokens of a word; None when the row has none of them."""
        row, at = self._row(batch_or_word_index, word_index)
        span = row.word_to_tokens(at, sequence_index)
        return None if span is None else TokenSpan(*span)

    def word_to_chars(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> CharSpan | None:
        """The characters of a word; None when the row has none of them."""
        row, at = self._row(batch_or_word_index, word_index)
        span = row.word_to_chars(at, sequence_index)
        return None if span is None else CharSpan(*span)

    def char_to_token(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """The token of a character; None when no token has it (a space, or cut off)."""
        row, at = self._row(batch_or_char_index, char_index)
        return row.char_to_token(at, sequence_index)

    def char_to_word(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """The word of a character; None when no word has it."""
        row, at = self._row(batch_or_char_index, char_index)
        return row.char_to_word(at, sequence_index)

    # -- tensors -------------------------------------------------------------------------------------------------

    def convert_to_tensors(self, tensor_type: str | None = None, prepend_batch_axis: bool = False) -> BatchEncoding:
        """Turn every list into a tensor ("np", "pt": int64; "tf", "jax": int32), in place; returns itself.

        Raises:
            ValueError: another `tensor_type`; rows of different lengths.
            ModuleNotFoundError: the framework is not installed; names the extra that brings it.
        """
        if tensor_type is not None:
            convert = tensor_maker(tensor_type)
            for key, value in self.data.items():
                self.data[key] = convert(_array(key, [value] if prepend_batch_axis else value))
        return self

    def to(self, device: object, *, non_blocking: bool = False) -> BatchEncoding:
        """Move the PyTorch tensors to a device, in place; returns itself. Anything else stays as it is.

        Args:
            device: a dtype is logged and ignored, as in transformers: ids stay integers.
        """
        if not isinstance(device, str | int) and type(device).__name__ != "device":
            _logger.warning("to(%r): a batch of ids moves to a device and is not cast; it stays as it is", device)
            return self
        self.data = {
            key: value.to(device=device, non_blocking=non_blocking) if hasattr(value, "to") else value
            for key, value in self.data.items()
        }
        return self


def _array(key: str, value: Any) -> np.ndarray:
    """An array of a list, int64 for ints; the error for a list that is ragged, or not of numbers, names it."""
    if isinstance(value, np.ndarray):
        return value
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "iufb" or array.dtype == object:
        if array.size == 0 and array.dtype == np.float64:
            return array.astype(np.int64)
        raise ValueError(
            f"{key} cannot become a tensor: its rows have different lengths, or hold something else than numbers; "
            "use padding=True (and truncation=True), or return_tensors=None"
        )
    return array.astype(np.int64) if array.size == 0 and array.dtype.kind == "f" else array
