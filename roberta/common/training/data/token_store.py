"""A token store: a corpus as arrays on the disk, tokenised once by `roberta prepare` and mapped by every training.

A store is a folder. All numbers in it are little-endian.

| file | content |
| --- | --- |
| store.json | `StoreInfo`; a folder without it is not a finished store |
| tokens.bin | the ids of all sentences, without special tokens: uint16, or uint32 for a vocabulary above 65,536 |
| sentences.bin | uint32 for each sentence: its tokens; the highest bit says that a document begins with it |
| index.bin | two rows of uint64: the tokens, and the documents, before sentence 0, 256, 512, ..., and in all |
| rows-*.bin | where the rows of a packing begin (`stored_rows`); written by the first training that needs it |
| progress.jsonl | while it is being written: how far it is (`store_writer`) |

Sentences without tokens, and documents without sentences, are left out, as every packing skips them.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from roberta.common.storage.folders import CheckpointError

STORE_FILE, PROGRESS_FILE = "store.json", "progress.jsonl"
TOKENS_FILE, SENTENCES_FILE, INDEX_FILE = "tokens.bin", "sentences.bin", "index.bin"
STORE_VERSION = 1
INDEX_EVERY = 256  # sentences
BEGINS_DOCUMENT = np.uint32(1 << 31)
LONGEST_SENTENCE = 2**31 - 1  # tokens
_CHUNK = 2**16  # sentences that are read together
_READS = 16  # between two times that mapped pages are let go; each may have mapped a huge page


@dataclass(frozen=True)
class StoreInfo:
    """The content of `store.json`.

    Attributes:
        dtype: of the tokens.
        tokens, sentences, documents: how many there are.
        tokenizer: SHA-256 of the tokenizer's files.
        sources: for each file path, size, mtime_ns and sha256; of other data its description.
        settings: how the sources were read, without defaults: columns, header, skip_unusable, format.
        readings: for each source the fields of `Reading`.
        skipped, reasons: the rows that could not be used, and why the first of them could not.
        digest: of tokens and sentences.
    """

    version: int
    dtype: str
    tokens: int
    sentences: int
    documents: int
    tokenizer: str
    sources: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    readings: Sequence[Mapping[str, Any]]
    skipped: int
    reasons: Sequence[str]
    digest: str

    def to_json(self) -> bytes:
        """The bytes of the file."""
        return (json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n").encode()


class MappedNumbers:
    """The numbers of a file, mapped.

    Pages that were read count as memory of the process until it lets them go, which it does after every few reads; the
    system keeps those that it has room for.

    Args:
        skip: bytes before the first number.

    Raises:
        CheckpointError: the file cannot be read, or does not have exactly `count` numbers.
    """

    def __init__(self, path: Path, dtype: str, count: int, *, skip: int = 0) -> None:
        self.path = path
        wanted = skip + count * np.dtype(dtype).itemsize
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                if size != wanted:
                    raise CheckpointError(
                        f"{path} has {size:,} bytes, and {wanted:,} belong to it: it was cut short or changed; restore "
                        "it, or prepare the store again in another folder"
                    )
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{path} cannot be read: {error.strerror}; restore it") from error
        self._numbers = np.frombuffer(self._map, dtype, count, skip)
        self._reads = 0

    def read(self, start: int, stop: int) -> np.ndarray:
        """A copy of some of the numbers."""
        self._reads += 1
        if self._reads % _READS == 0 and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
        return self._numbers[start:stop].copy()


class TokenStore:
    """A finished store, opened for reading; a copy of it in another process maps the same files.

    Raises:
        CheckpointError: the folder is not a finished store, is of another version, or a file was cut short.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.info = _read_info(folder)
        self._tokens = MappedNumbers(folder / TOKENS_FILE, self.info.dtype, self.info.tokens)
        self._sentences = MappedNumbers(folder / SENTENCES_FILE, "<u4", self.info.sentences)
        points = index_points(self.info.sentences)
        self._index = MappedNumbers(folder / INDEX_FILE, "<u8", 2 * points)
        _ = self.tokens_before  # 16 bytes for every 256 sentences

    def __reduce__(self) -> tuple[type[TokenStore], tuple[Path]]:
        return TokenStore, (self.folder,)

    @cached_property
    def tokens_before(self) -> np.ndarray:
        """Tokens before every 256th sentence, and in all; int64."""
        points = index_points(self.info.sentences)
        return self._index.read(0, points).astype(np.int64)

    @cached_property
    def documents_before(self) -> np.ndarray:
        """Documents that begin before every 256th sentence, and in all; int64."""
        points = index_points(self.info.sentences)
        return self._index.read(points, 2 * points).astype(np.int64)

    def tokens(self, start: int, stop: int) -> np.ndarray:
        """Ids of the tokens from number `start` to `stop`; int32."""
        return self._tokens.read(start, stop).astype(np.int32)

    def sentences(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Lengths, int64, of some sentences, and whether a document begins with each."""
        return unpacked(self._sentences.read(start, stop))

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The same of all sentences, some after another, read in a way that maps nothing."""
        with (self.folder / SENTENCES_FILE).open("rb") as file:
            while len(packed := np.fromfile(file, "<u4", _CHUNK)):
                yield unpacked(packed)

    def fingerprint(self, name: str) -> dict[str, str]:
        """Size and SHA-256 of each source, by a name such as "train 1", as a training compares them."""
        if any("sha256" not in source for source in self.info.sources):
            return {name: f"{self.info.tokens} tokens, sha256 {self.info.digest}"}
        return {
            f"{name} {number}": f"{source['size']} bytes, sha256 {source['sha256']}"
            for number, source in enumerate(self.info.sources, 1)
        }


def index_points(sentences: int) -> int:
    """How many sentences the index has an entry for, the end among them."""
    return -(-sentences // INDEX_EVERY) + 1


def unpacked(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths, int64, and whether a document begins, of entries of `sentences.bin`."""
    return (packed & ~BEGINS_DOCUMENT).astype(np.int64), packed >= BEGINS_DOCUMENT


def is_store(path: Path) -> bool:
    """Whether a path is a store, finished or not."""
    return (path / STORE_FILE).is_file() or (path / PROGRESS_FILE).is_file()


def _read_info(folder: Path) -> StoreInfo:
    file = folder / STORE_FILE
    if not file.is_file() and (folder / PROGRESS_FILE).is_file():
        raise CheckpointError(
            f"{folder} is a store that is not finished; give the same files to roberta prepare again, which resumes it"
        )
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}; restore it, or prepare the store again") from error
    version = content.get("version") if isinstance(content, dict) else None
    if version != STORE_VERSION:
        raise CheckpointError(
            f"{file} has version {version}, and this version of roberta reads {STORE_VERSION}; prepare the store again"
        )
    if set(content) != {field.name for field in fields(StoreInfo)}:
        raise CheckpointError(f"{file} lacks fields, or has unknown ones; restore it, or prepare the store again")
    return StoreInfo(**content)
