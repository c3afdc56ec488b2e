"""From windows to the rows of a batch: special tokens around the texts, rows filled up to one length.

What stands around the texts of a row is a `Layout`. `tokenizer.pad` fills rows that are there already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from operator import attrgetter
from typing import Any, Protocol, TypeVar

import numpy as np

from roberta.common.tokenizer.encoding import Encoding, Span
from roberta.common.tokenizer.options import CallOptions
from roberta.common.tokenizer.settings import Side
from roberta.common.tokenizer.truncation import TextBatch, Window, whole_windows
from roberta.common.vocabulary.template import Specials

_T = TypeVar("_T")


class Aligned(Protocol):
    """The tokens of one text, with the characters and the word of each."""

    @property
    def ids(self) -> list[int]:
        """The id of each token."""

    @property
    def tokens(self) -> list[str]:
        """Each token; of an added token the text that it took, white space included."""

    @property
    def offsets(self) -> list[Span]:
        """The characters of each token."""

    @property
    def words(self) -> list[int | None]:
        """The number of the word, or pre-token, of each token."""

    def spans(self) -> list[Span]:
        """The same as `offsets`, for a caller that reads them once: nothing is kept for a second time."""


# -- filling up ----------------------------------------------------------------------------------------------------


def padded_length(options: CallOptions, lengths: Sequence[int]) -> int | None:
    """The length that shorter rows are filled up to; None for no padding."""
    if options.padding == "do_not_pad" or (options.padding == "max_length" and options.max_length is None):
        return None
    length = max(lengths, default=0) if options.padding == "longest" else options.max_length or 0
    multiple = options.pad_to_multiple_of
    return length + -length % multiple if multiple else length


def pad_rows(rows: list[list[_T]], width: int | None, value: _T, side: Side) -> list[list[_T]]:
    """The rows, those shorter than `width` filled with `value`; the rows themselves when there is nothing to fill."""
    if width is None:
        return rows
    if side == "left":
        return [[value] * (width - len(row)) + row for row in rows]
    return [row + [value] * (width - len(row)) for row in rows]


def _padded_array(
    rows: Iterable[Iterable[Any]], where: np.ndarray, value: int, item: tuple[int, ...] = ()
) -> np.ndarray:
    """Rows as an array, int64, (rows, width, *item).

    Args:
        where: bool, (rows, width): the places of the entries; the others get `value`.
    """
    entries = chain.from_iterable(rows)
    flat = np.fromiter(chain.from_iterable(entries) if item else entries, dtype=np.int64).reshape(-1, *item)
    if len(flat) == where.size:  # nothing to fill, as in a batch of one text
        return flat.reshape(*where.shape, *item)
    array = np.full((*where.shape, *item), value, dtype=np.int64)
    array[where] = flat
    return array


# -- the rows of a call --------------------------------------------------------------------------------------------


_NO_SPAN = (0, 0)  # of special tokens and padding


# The entries of a part of a text, from the text's place in the batch, the span, the text's number in its row and its type.
_OfText = Callable[[int, Span, int, int], list[_T]]


class BatchRows:
    """The rows of a call by field, as lists or as arrays, padded as the options say.

    Args:
        ids: those of each text, without special tokens.
        windows: of `cut_windows`.
        table: the ids of the vocabulary by those in `ids`; None where they are the same.
    """

    def __init__(
        self,
        options: CallOptions,
        ids: list[list[int]],
        batch: TextBatch,
        windows: list[Window] | None,
        *,
        as_arrays: bool,
        table: np.ndarray | None = None,
    ) -> None:
        self.options = options
        self._windows, self._ids, self._batch, self._table = windows, ids, batch, table
        if windows is None:
            special = options.single.size
            self.lengths = [special + len(row) for row in ids]
        else:
            self.lengths = list(map(len, self.rows))
        width = padded_length(options, self.lengths)
        if width is None and as_arrays and len(set(self.lengths)) == 1:
            width = self.lengths[0]
        self.width = width
        # ragged rows stay lists: turning them into a tensor is an error that names the way out
        self._where = None
        if as_arrays and width is not None and max(self.lengths) <= width:
            self._where = self._places(width, 0, 0)

    @cached_property
    def rows(self) -> list[list[int]]:
        """The ids of each row, without padding."""
        ids = self._ids
        if self._table is not None:
            table = self._table
            ids = [table[row].tolist() if row else row for row in ids]
        if self._windows is None:
            begin, end = self.options.single.begin.ids, self.options.single.end.ids
            return [begin + row + end for row in ids]
        return self._assembled(attrgetter("ids"), lambda at, span, *_: ids[at][span[0] : span[1]])

    @property
    def windows(self) -> list[Window]:
        """The window of each row."""
        if self._windows is None:
            self._windows = whole_windows(self._ids, self._batch)
        return self._windows

    def _places(self, width: int, before: int, behind: int) -> np.ndarray:
        """Where the entries of each row are but the first and last few: bool, (rows, width)."""
        if sum(self.lengths) == len(self.lengths) * width and not before + behind:
            return np.ones((len(self.lengths), width), dtype=bool)
        lengths, places = np.array(self.lengths, dtype=np.int32)[:, None], np.arange(width, dtype=np.int32)
        if self.options.padding_side == "left":
            starts = width - lengths
            return (places >= starts + before) & (places < width - behind)
        where = places < lengths - behind
        where[:, :before] = False
        return where

    def _assembled(self, special: Callable[[Specials], list[_T]], text: _OfText[_T]) -> list[list[_T]]:
        """The rows of a field, without padding, from the entries of special tokens and of the tokens of texts."""
        rows = []
        for sample, first, second in self.windows:
            at, layout = self._batch.samples[sample], self.options.layout(second is not None)
            row = special(layout.begin) + text(at, first, 0, layout.types[0])
            if second is not None:
                row += special(layout.middle)
                row += text(at + 1, second, 1, layout.types[1])
            rows.append(row + special(layout.end))
        return rows

    def _constant(self, special: _T, texts: tuple[_T, _T]) -> list[list[_T]]:
        """The rows of a field with one value for special tokens, and one for the tokens of each text."""
        return self._assembled(
            lambda specials: [special] * len(specials.ids),
            lambda at, span, number, kind: [texts[number]] * (span[1] - span[0]),
        )

    def _filled(self, rows: list[list[int]], value: int) -> Any:
        if self._where is not None:
            return _padded_array(rows, self._where, value)
        return pad_rows(rows, self.width, value, self.options.padding_side)

    def _id_field(self) -> Any:
        """The ids of each token."""
        if self._where is None or self.width is None or self._windows is not None:
            return self._filled(self.rows, self.options.pad_id)
        # whole texts: no row needs to be assembled
        begin, end = self.options.single.begin.ids, self.options.single.end.ids
        count = sum(self.lengths) - (len(begin) + len(end)) * len(self.lengths)
        flat = np.fromiter(chain.from_iterable(self._ids), dtype=np.int64, count=count)
        if self._table is not None:
            flat = self._table[flat]
        array = np.full(self._where.shape, self.options.pad_id, dtype=np.int64)
        array[self._places(self.width, len(begin), len(end))] = flat
        # the special tokens, column by column
        lengths = np.array(self.lengths)
        starts = self.width - lengths if self.options.padding_side == "left" else np.zeros_like(lengths)
        numbers = np.arange(len(lengths))
        for at, index in enumerate(begin):
            array[numbers, starts + at] = index
        for at, index in enumerate(reversed(end), 1):
            array[numbers, starts + lengths - at] = index
        return array

    def _type_field(self) -> Any:
        """The type of each token."""
        if self._where is None or self._has_types:
            return self._filled(self._types(), self.options.pad_type_id)
        if self.options.pad_type_id == 0:
            return np.zeros(self._where.shape, dtype=np.int64)
        return np.where(self._where, 0, self.options.pad_type_id)

    @property
    def _has_types(self) -> bool:
        """Whether a token of these rows may have a type that is not 0; none has in RoBERTa's own rows."""
        return self.options.single.has_types or (self._windows is not None and self.options.pair.has_types)

    def _types(self) -> list[list[int]]:
        """The type of each token, without padding."""
        if not self._has_types:
            return [[0] * length for length in self.lengths]
        return self._assembled(attrgetter("types"), lambda at, span, number, kind: [kind] * (span[1] - span[0]))

    def _offsets(self, aligned: Sequence[Aligned]) -> list[list[Span]]:
        """The characters of each token, (0, 0) for special tokens, without padding."""
        return self._assembled(
            lambda special: [_NO_SPAN] * len(special.ids),
            lambda at, span, *_: aligned[at].offsets[span[0] : span[1]],
        )

    def _offset_field(self, aligned: Sequence[Aligned]) -> Any:
        """The characters of each token, (0, 0) for special tokens and padding: (rows, tokens, 2)."""
        if self._where is None or self.width is None:
            return pad_rows(self._offsets(aligned), self.width, _NO_SPAN, self.options.padding_side)
        if self._windows is not None:
            return _padded_array(self._offsets(aligned), self._where, 0, (2,))
        # whole texts: no row needs to be assembled
        layout = self.options.single
        where = self._places(self.width, len(layout.begin.ids), len(layout.end.ids))
        return _padded_array((text.spans() for text in aligned), where, 0, (2,))

    def fields(self, aligned: Sequence[Aligned] | None = None) -> dict[str, Any]:
        """The fields that the options ask for, each (rows, tokens); `length` is (rows).

        Args:
            aligned: the alignment of each text, for `offset_mapping`.
        """
        options = self.options
        fields = {"input_ids": self._id_field()}
        if options.return_token_type_ids:
            fields["token_type_ids"] = self._type_field()
        if options.return_attention_mask:
            mask = self._where
            fields["attention_mask"] = self._filled(self._ones(), 0) if mask is None else mask.astype(np.int64)
        if options.return_special_tokens_mask:
            fields["special_tokens_mask"] = self._filled(self._constant(1, (0, 0)), 1)
        if aligned is not None:
            fields["offset_mapping"] = self._offset_field(aligned)
        if options.return_length:
            fields["length"] = list(map(len, fields["input_ids"]))
        return fields

    def _ones(self) -> list[list[int]]:
        return [[1] * length for length in self.lengths]

    def encodings(self, aligned: Sequence[Aligned]) -> list[Encoding]:
        """Every row with tokens, offsets, words and masks, padded; a sample's first row also lists its later ones."""
        options = self.options

        def column(values: list[list[_T]], padding: _T) -> list[list[_T]]:
            return pad_rows(values, self.width, padding, options.padding_side)

        def of_texts(name: str) -> _OfText[Any]:
            return lambda at, span, *_: getattr(aligned[at], name)[span[0] : span[1]]

        columns = (
            column(self.rows, options.pad_id),
            column(self._types(), options.pad_type_id),
            column(self._assembled(attrgetter("tokens"), of_texts("tokens")), options.pad_token),
            column(self._offsets(aligned), _NO_SPAN),
            column(self._assembled(lambda special: [None] * len(special.ids), of_texts("words")), None),
            column(self._constant(None, (0, 1)), None),
            column(self._constant(1, (0, 0)), 1),
            column(self._ones(), 0),
        )
        rows = [Encoding(*values) for values in zip(*columns, strict=True)]
        firsts: dict[int, Encoding] = {}
        for row, window in zip(rows, self.windows, strict=True):
            first = firsts.setdefault(window.sample, row)
            if first is not row:
                first.overflowing.append(row)
        return rows


# -- rows that are there already -----------------------------------------------------------------------------------


def gather(encoded_inputs: object) -> dict[str, Any]:
    """Name -> rows (or one row), of a batch or of a list of rows by name.

    Raises:
        ValueError: rows that do not have the same names.
    """
    if isinstance(encoded_inputs, Mapping):
        return dict(encoded_inputs)
    if not isinstance(encoded_inputs, Sequence) or not all(isinstance(row, Mapping) for row in encoded_inputs):
        raise ValueError(f"pad takes a dict of rows or a list of dicts, not {encoded_inputs!r:.80}")
    if not encoded_inputs:
        return {}
    names = list(encoded_inputs[0])
    for at, row in enumerate(encoded_inputs):
        if set(row) != set(names):
            raise ValueError(
                f"row {at} has {', '.join(row)}, but row 0 has {', '.join(names)}; all rows must have the same keys"
            )
    return {name: [row[name] for row in encoded_inputs] for name in names}


def tensor_type_of(value: object) -> str | None:
    """ "np", "pt", "tf" or "jax" when a value, or the first thing in it, is such a tensor; None for lists."""
    while isinstance(value, list | tuple) and value:
        value = value[0]
    package = type(value).__module__.partition(".")[0]
    return {"numpy": "np", "torch": "pt", "tensorflow": "tf", "jax": "jax", "jaxlib": "jax"}.get(package)


def pad_batch(data: dict[str, Any], main: str, options: CallOptions) -> dict[str, Any]:
    """Fill the rows that the model reads up to one length; other names (labels) stay as they are.

    Args:
        data: name -> rows of ints.
        main: the name whose rows have the length that the others are to have.
    """
    lengths = [len(row) for row in data[main]]
    if options.return_attention_mask and "attention_mask" not in data:
        data = {**data, "attention_mask": [[1] * length for length in lengths]}
    values = {
        main: options.pad_id,
        "attention_mask": 0,
        "token_type_ids": options.pad_type_id,
        "special_tokens_mask": 1,
    }
    width = padded_length(options, lengths)
    if width is None:
        return data
    return {
        name: [
            pad_rows([row], max(width, length), values[name], options.padding_side)[0]
            for row, length in zip(value, lengths, strict=True)
        ]
        if name in values
        else value
        for name, value in data.items()
    }
