"""The rows of a packing, read from a token store one at a time: what `packing.pack` makes of the same documents."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import overload

import numpy as np

from roberta.common.storage.folders import CheckpointError
from roberta.common.training.data.batches import Feature
from roberta.common.training.data.packing import Packing, check_packing
from roberta.common.training.data.plan_files import NUMBERS_OF_PAIR, is_paired, open_plan
from roberta.common.training.data.token_store import INDEX_EVERY, SENTENCES_FILE, TokenStore


class StoredRows(Sequence[Feature]):
    """The features of a packing; each is made when it is asked for.

    Args:
        max_length, bos, eos, seed: as in `packing.pack`.

    Attributes:
        tokens: of all rows together.

    Raises:
        ValueError: the packing is unknown, or `max_length` leaves no room for a token.
        CheckpointError: the disk has no room for where the rows begin.
    """

    def __init__(
        self,
        store: TokenStore,
        packing: Packing,
        *,
        max_length: int,
        bos: int,
        eos: int,
        seed: int = 0,
        most: int | None = None,
    ) -> None:
        check_packing(packing, max_length)
        self.store, self.packing, self.max_length = store, packing, max_length
        self.bos, self.eos, self.seed, self.most = bos, eos, seed, most
        self._room = max_length - 1
        if packing == "blocks":
            # a </s> after each sentence, and one between two documents
            self._stream = store.info.tokens + store.info.sentences + store.info.documents - 1
            self._rows = -(-self._stream // self._room)
            self.tokens = self._stream + self._rows
        else:
            plan = open_plan(store, packing, max_length, seed)
            self._plan, self._rows, self.tokens = plan.numbers, plan.rows, plan.tokens
        if most is not None and most < self._rows:
            self._rows = most
            self.tokens = self._tokens_of_first(most)

    def __reduce__(self) -> tuple[object, ...]:
        return _again, (self.store, self.packing, self.max_length, self.bos, self.eos, self.seed, self.most)

    def __len__(self) -> int:
        return self._rows

    @overload
    def __getitem__(self, index: int) -> Feature: ...
    @overload
    def __getitem__(self, index: slice) -> list[Feature]: ...
    def __getitem__(self, index: int | slice) -> Feature | list[Feature]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(self._rows))]
        number = index + self._rows if index < 0 else index
        if not 0 <= number < self._rows:
            raise IndexError(f"row {index} of {self._rows}")
        if is_paired(self.packing):
            return self._pair(number)
        return {"input_ids": self._block(number) if self.packing == "blocks" else self._sentences(number)}

    def _tokens_of_first(self, rows: int) -> int:
        """The tokens of so many rows together."""
        if self.packing == "blocks":
            return rows + min(rows * self._room, self._stream)
        return sum(len(row["input_ids"]) for row in self)

    def _sentences(self, number: int) -> np.ndarray:
        """<s>, and the parts of sentences from where this row begins to where the next does, each with its </s>."""
        start, stop = self._plan.read(number, number + 2).tolist()
        self._check_range(start, stop)
        lengths, begins, first = self._around(start, stop)
        # a row has at most one part of each sentence: a part that is not a sentence's last one fills a row
        ends = np.minimum(first + np.cumsum(lengths), stop)
        sizes = np.diff(ends, prepend=start)
        separators = np.cumsum(begins) - begins[0]  # a row does not begin with one
        size = stop - start + len(sizes) + int(separators[-1])
        row = np.full(1 + size, self.eos, np.int32)
        row[0] = self.bos
        shifts = 1 + np.arange(len(sizes)) + separators
        row[np.arange(stop - start) + np.repeat(shifts, sizes)] = self.store.tokens(start, stop)
        return row

    def _around(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, int]:
        """The sentences that the tokens from `start` to `stop` are in, and the number of the first one's first token."""
        store = self.store
        entry = int(np.searchsorted(store.tokens_before, start, side="right")) - 1
        sentence, token = entry * INDEX_EVERY, int(store.tokens_before[entry])
        # every sentence has a token, so no more of them follow `start` than there are tokens
        lengths, begins = store.sentences(sentence, sentence + INDEX_EVERY + stop - start)
        ends = token + np.cumsum(lengths)
        if ends[-1] < stop or ends[min(len(ends), INDEX_EVERY) - 1] != int(store.tokens_before[entry + 1]):
            raise CheckpointError(
                f"{store.folder / SENTENCES_FILE} is damaged: the sentences from number {sentence:,} on do not have the "
                "tokens that the index says; restore it, or prepare the store again in another folder"
            )
        first, last = np.searchsorted(ends, [start, stop - 1], side="right").tolist()
        return lengths[first : last + 1], begins[first : last + 1], int(ends[first] - lengths[first])

    def _check_range(self, *bounds: int) -> None:
        """Raise `CheckpointError` unless a plan's numbers are from one token to a later one."""
        for start, stop in zip(bounds[::2], bounds[1::2], strict=True):
            if not 0 <= start < stop <= self.store.info.tokens:
                raise CheckpointError(
                    f"{self._plan.path} is damaged: it says that a row has the tokens {start:,} to {stop:,} of "
                    f"{self.store.info.tokens:,}; remove it, and the next training makes it again"
                )

    def _block(self, number: int) -> np.ndarray:
        """<s>, and the next tokens of the stream in which each sentence has its </s>, and documents one between them."""
        store = self.store
        start = number * self._room
        stop = min(start + self._room, self._stream)
        # the sentence in which the row begins: places in the stream follow from the index
        entry = int(np.searchsorted(self._stream_before, start, side="right")) - 1
        lengths, begins = store.sentences(entry * INDEX_EVERY, (entry + 1) * INDEX_EVERY + stop - start)
        separators = begins.astype(np.int64)
        separators[0] -= entry == 0  # the first document of all has none before it
        stops = int(self._stream_before[entry]) + np.cumsum(separators + lengths + 1)
        first, last = np.searchsorted(stops, [start, stop - 1], side="right").tolist()
        # the tokens of each sentence that are between start and stop; all else in the row is </s>
        inside = slice(first, last + 1)
        origins = stops[inside] - 1 - lengths[inside]
        lows, highs = np.maximum(origins, start), np.minimum(stops[inside] - 1, stop)
        sizes = np.maximum(highs - lows, 0)
        row = np.full(1 + stop - start, self.eos, np.int32)
        row[0] = self.bos
        total = int(sizes.sum())
        if total:
            skipped = int(lows[0] - origins[0]) if sizes[0] else int(lengths[first])
            token = int(store.tokens_before[entry] + lengths[:first].sum()) + skipped
            places = np.repeat(1 + lows - start - (np.cumsum(sizes) - sizes), sizes) + np.arange(total)
            row[places] = store.tokens(token, token + total)
        return row

    @cached_property
    def _stream_before(self) -> np.ndarray:
        """The places of every 256th sentence in the stream of blocks, with the separator before it."""
        store = self.store
        sentences = np.arange(len(store.tokens_before), dtype=np.int64) * INDEX_EVERY
        sentences[-1] = store.info.sentences
        places: np.ndarray = store.tokens_before + sentences + np.maximum(store.documents_before - 1, 0)
        return places

    def _pair(self, number: int) -> Feature:
        """A pair, as <s> A </s></s> B </s>; a part without a partner is a row by itself."""
        plan = self._plan.read(number * NUMBERS_OF_PAIR, (number + 1) * NUMBERS_OF_PAIR).tolist()
        self._check_range(*plan[:2], *(plan[2:4] if any(plan[2:4]) else ()))
        first = self.store.tokens(plan[0], plan[1])
        bos, eos = np.array([self.bos], np.int32), np.array([self.eos], np.int32)
        if plan[2] == plan[3]:
            return {"input_ids": np.concatenate([bos, first, eos])}
        second = self.store.tokens(plan[2], plan[3])
        return {"input_ids": np.concatenate([bos, first, eos, eos, second, eos]), "is_next": bool(plan[4])}


def _again(
    store: TokenStore, packing: Packing, max_length: int, bos: int, eos: int, seed: int, most: int | None
) -> StoredRows:
    """The same rows in another process."""
    return StoredRows(store, packing, max_length=max_length, bos=bos, eos=eos, seed=seed, most=most)
