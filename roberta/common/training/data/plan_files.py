"""Where the rows of a packing begin in a token store, computed once and kept there as `rows-PACKING-LENGTH.bin`.

A head of 64 bytes comes before uint64 numbers: where each row begins and the last one ends, or five for each pair.
"blocks" has no such file: its rows begin at multiples of their length.
"""

from __future__ import annotations

import errno
import os
import secrets
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from roberta.common.storage.folders import CheckpointError, sync
from roberta.common.training.data.packing import PAIR_SPECIALS, Packing, pair_numbers
from roberta.common.training.data.row_plans import GreedyRule, RowStarts, row_starts
from roberta.common.training.data.token_store import MappedNumbers, TokenStore

_HEAD = struct.Struct("<8sQQQ32s")  # _MAGIC, numbers, rows, tokens of all rows, digest of the store
_MAGIC = b"rows 001"
NUMBERS_OF_PAIR = 5  # start and stop of both parts, whether the second follows the first
_PIECE = 2**16  # pairs that are written together
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class RowPlan:
    """Where rows begin.

    Attributes:
        numbers: of the first token of each row, and of the token after the last row; five for each row of a pair.
        rows: how many there are.
        tokens: of all rows together.
    """

    numbers: MappedNumbers
    rows: int
    tokens: int


def is_paired(packing: Packing) -> bool:
    """Whether a row is a pair."""
    return packing in ("segment-pair", "sentence-pair")


def open_plan(store: TokenStore, packing: Packing, max_length: int, seed: int) -> RowPlan:
    """The plan of a packing other than "blocks"; it is computed if the store does not have it.

    Where the store cannot be written, it is computed again for each training, in the folder for temporary files.

    Raises:
        CheckpointError: the disk has no room for it.
    """
    name = f"rows-{packing}-{max_length}{f'-{seed}' if is_paired(packing) else ''}.bin"
    path = store.folder / name
    found = _read_plan(path, store)
    if found is not None:
        return found
    try:
        try:
            return _written_plan(path, store, packing, max_length, seed)
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # what is mapped lives on
            path = Path(folder) / name
            return _written_plan(path, store, packing, max_length, seed)
    except OSError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{path} could not be written: {error.strerror}; the store itself is whole. Make room, 8 bytes for each row, "
            "and start the training again"
        ) from error


def _read_plan(path: Path, store: TokenStore) -> RowPlan | None:
    """The plan in a file; None if there is none, or it is of another store."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD.size)
    except FileNotFoundError:
        return None
    if len(head) < _HEAD.size:
        return None
    magic, count, rows, tokens, digest = _HEAD.unpack(head)
    if magic != _MAGIC or digest.hex() != store.info.digest or path.stat().st_size != _HEAD.size + 8 * count:
        return None
    return RowPlan(MappedNumbers(path, "<u8", count, skip=_HEAD.size), rows, tokens)


def _written_plan(path: Path, store: TokenStore, packing: Packing, max_length: int, seed: int) -> RowPlan:
    """The plan, written whole or not at all: several processes may do so at once."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(bytes(_HEAD.size))
            write = _write_pairs if is_paired(packing) else _write_starts
            count, rows, tokens = write(file, store, packing, max_length, seed)
            file.seek(0)
            file.write(_HEAD.pack(_MAGIC, count, rows, tokens, bytes.fromhex(store.info.digest)))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)
    found = _read_plan(path, store)
    assert found is not None, "just written"
    return found


def greedy_rule(packing: Packing, max_length: int) -> GreedyRule:
    """How `packing.pack` gathers sentences into rows, or for pairs into their parts."""
    if is_paired(packing):
        room = (max_length - PAIR_SPECIALS) // 2
        return GreedyRule(room, room, has_ends=False, gathers=packing == "segment-pair")
    room = max_length - 1
    return GreedyRule(room - 1, room, crosses=packing == "full-sentences", gathers=packing != "sentence")


def _found(store: TokenStore, packing: Packing, max_length: int) -> Iterator[RowStarts]:
    return row_starts(store.chunks(), greedy_rule(packing, max_length))


def _write_starts(
    file: BinaryIO, store: TokenStore, packing: Packing, max_length: int, seed: int
) -> tuple[int, int, int]:
    """Write where rows begin; the numbers written, the rows, and the tokens in them."""
    rows, tokens = 0, 0
    for found in _found(store, packing, max_length):
        file.write(found.starts.astype("<u8").tobytes())
        rows += len(found.starts)
        tokens += found.tokens
    file.write(np.array([store.info.tokens], "<u8").tobytes())
    return rows + 1, rows, tokens + rows


def _write_pairs(
    file: BinaryIO, store: TokenStore, packing: Packing, max_length: int, seed: int
) -> tuple[int, int, int]:
    """The same of pairs. All parts are in memory meanwhile, as any of them may be the partner of any other."""
    parts = list(_found(store, packing, max_length))
    bounds = np.concatenate([*(found.starts for found in parts), [store.info.tokens]])
    begins = np.concatenate([found.begin_documents for found in parts])
    del parts
    counts = np.diff(np.flatnonzero(begins), append=len(begins))
    firsts, seconds, follows = pair_numbers(counts, seed)
    for start in range(0, len(firsts), _PIECE):
        piece = slice(start, start + _PIECE)
        first, second = firsts[piece], seconds[piece]
        is_alone = second < 0
        numbers = [bounds[first], bounds[first + 1], bounds[second], bounds[second + 1], follows[piece]]
        table = np.stack([number.astype("<u8") for number in numbers], axis=1)
        table[is_alone, 2:] = 0
        file.write(table.tobytes())
    alone = int((seconds < 0).sum())
    special = PAIR_SPECIALS * (len(firsts) - alone) + 2 * alone
    return NUMBERS_OF_PAIR * len(firsts), len(firsts), store.info.tokens + special
