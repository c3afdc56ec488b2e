"""Writing a token store: a step at a time, each safe on the disk before it counts, so that a kill loses one step.

`progress.jsonl` has a line that says what is being prepared, and one for each step: how long the files are after it, and
where in the sources it ends. Whatever is in the files beyond the last whole line is cut off, and made again. At the end
`store.json` takes its place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from roberta.common.storage.folders import CheckpointError, file_pieces, sync
from roberta.common.training.checkpoints import differences
from roberta.common.training.data.source_chunks import Place, SourceChunk
from roberta.common.training.data.token_store import (
    BEGINS_DOCUMENT,
    INDEX_EVERY,
    INDEX_FILE,
    LONGEST_SENTENCE,
    PROGRESS_FILE,
    SENTENCES_FILE,
    STORE_FILE,
    STORE_VERSION,
    TOKENS_FILE,
    StoreInfo,
    TokenStore,
    index_points,
    unpacked,
)

STEP_TOKENS = 2**24  # about 64 MB of English
_STEP_SENTENCES = 2**22
_REASONS = 3  # that are kept of the rows that could not be used
LOCK_FILE = ".store.lock"
_OWN_FILES = {STORE_FILE, PROGRESS_FILE, TOKENS_FILE, SENTENCES_FILE, INDEX_FILE, LOCK_FILE, f".{STORE_FILE}.tmp"}


@dataclass(frozen=True)
class StoreIdentity:
    """What a store is made of; two stores of one identity have the same bytes. The fields are those of `StoreInfo`."""

    dtype: str
    tokenizer: str
    sources: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]

    def compared(self) -> dict[str, Any]:
        """The part that decides; where a file is, and when it was written, does not."""
        sources = {
            str(number): {name: value for name, value in source.items() if name not in ("path", "mtime_ns")}
            for number, source in enumerate(self.sources, 1)
        }
        settings = {"settings": dict(self.settings)} if self.settings else {}
        return {"tokenizer": self.tokenizer, "source": sources, **settings}


def check_identity(folder: Path, saved: StoreIdentity, now: StoreIdentity) -> None:
    """Raise `ValueError` where a folder has, or begins, a store of something else."""
    wrong = differences(saved.compared(), now.compared())
    if wrong:
        raise ValueError(
            f"{folder} is a store that was prepared of something else:\n  " + "\n  ".join(wrong) + "\n"
            "Give another folder as output, or remove this one"
        )


def finished_store(folder: Path, identity: StoreIdentity) -> TokenStore | None:
    """The store in a folder; None if it is not finished. `ValueError` if it is of something else."""
    if not (folder / STORE_FILE).is_file():
        return None
    store = TokenStore(folder)
    info = store.info
    check_identity(folder, StoreIdentity(info.dtype, info.tokenizer, info.sources, info.settings), identity)
    with contextlib.suppress(OSError):  # left by a run that ended between the two
        (folder / PROGRESS_FILE).unlink()
    return store


def known_sources(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Files as the store in a folder, finished or not, describes them, by their paths; none where it cannot be read."""
    with contextlib.suppress(OSError, ValueError, KeyError, IndexError, TypeError):
        file = folder / STORE_FILE
        if file.is_file():
            content = json.loads(file.read_bytes())
        else:
            content = json.loads((folder / PROGRESS_FILE).read_bytes().splitlines()[0])
        return {source["path"]: source for source in content["sources"]}
    return {}


def has_steps(folder: Path) -> bool:
    """Whether a folder has a finished store, or a step of one that was made safe."""
    progress = folder / PROGRESS_FILE
    return (folder / STORE_FILE).is_file() or (progress.is_file() and progress.read_bytes().count(b"\n") > 1)


class StoreWriter:
    """The files of a store while it is written; a context, which closes them.

    Attributes:
        place: where in the sources to begin, or to resume.
        tokens: that are written and safe.

    Raises:
        ValueError: the folder has other files, or a store of something else.
        CheckpointError: it cannot be written, or a file lacks what was written before.
    """

    def __init__(self, folder: Path, identity: StoreIdentity, *, step_tokens: int = STEP_TOKENS) -> None:
        self.folder, self.identity, self.step_tokens = folder, identity, step_tokens
        self.place = Place()
        self.tokens = self.sentences = self.documents = 0
        self._is_begun = False  # whether a sentence of the document that is open is in the store
        self._notes: dict[int, dict[str, Any]] = {}  # of each source: its reading, and the rows that could not be used
        self._files: list[BinaryIO] = []
        with contextlib.ExitStack() as stack, self._writing():
            stack.callback(self._close)
            folder.mkdir(parents=True, exist_ok=True)
            others = sorted(path.name for path in folder.iterdir() if path.name not in _OWN_FILES)
            if others:
                raise ValueError(
                    f"output={folder} has other files, such as {others[0]}; give a new folder, or an empty one"
                )
            journal_size = self._resume()
            self._journal = self._opened(PROGRESS_FILE, journal_size)
            if not journal_size:
                self._note({"version": STORE_VERSION, **asdict(identity)})
            self._ids = self._opened(TOKENS_FILE, self.tokens * np.dtype(identity.dtype).itemsize)
            self._packed = self._opened(SENTENCES_FILE, self.sentences * 4)
            sync(folder)
            stack.pop_all()  # from here on, leaving the context closes the files
        self._begin_step()

    @property
    def has_tokens(self) -> bool:
        """Whether anything was written, safe or not yet."""
        return self.tokens + self._new_tokens > 0

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        for file in self._files:
            with contextlib.suppress(OSError):  # what a full disk has no room for is beyond the last step
                file.close()

    def add(self, ids: np.ndarray, lengths: np.ndarray, chunk: SourceChunk) -> None:
        """Write the sentences of a chunk.

        Args:
            ids: of all sentences, one after another, in the store's dtype.
            lengths: of each sentence; those of 0 are left out, and so are documents that have no other.
        """
        if len(lengths) and int(lengths.max()) > LONGEST_SENTENCE:
            raise ValueError(
                f"a sentence has {lengths.max():,} tokens; {LONGEST_SENTENCE:,} is the most: split its line"
            )
        # a document begins with the first of its sentences that has tokens
        document = np.cumsum(chunk.begins)  # 0 for the one that is open
        is_kept = lengths > 0
        kept = document[is_kept]
        begins = np.diff(kept, prepend=0 if self._is_begun else -1) > 0
        if len(document):
            self._is_begun = bool((kept == document[-1]).any()) or (self._is_begun and document[-1] == 0)
        packed = lengths[is_kept].astype("<u4") | np.where(begins, BEGINS_DOCUMENT, np.uint32(0))
        with self._writing():
            for file, numbers in ((self._ids, ids.astype(self.identity.dtype)), (self._packed, packed.astype("<u4"))):
                file.write(numbers.tobytes())
        # counts of the step that is open
        self._new_tokens += len(ids)
        self._new_sentences += len(packed)
        self._new_documents += int(begins.sum())
        self.place = chunk.after
        self._new_notes[chunk.source] = chunk.note
        if self._new_tokens >= self.step_tokens or self._new_sentences >= _STEP_SENTENCES:
            self.commit()

    def commit(self) -> None:
        """End a step: it is safe on the disk when this returns."""
        with self._writing():
            for file in (self._ids, self._packed):
                file.flush()
                os.fsync(file.fileno())
            self._note({
                "tokens": self.tokens + self._new_tokens, "sentences": self.sentences + self._new_sentences,
                "documents": self.documents + self._new_documents, "is_begun": self._is_begun,
                "place": asdict(self.place), "notes": self._new_notes,
            })  # fmt: skip
        self.tokens += self._new_tokens
        self.sentences += self._new_sentences
        self.documents += self._new_documents
        self._notes |= self._new_notes
        self._begin_step()

    def finish(self) -> TokenStore:
        """Write the index and `store.json`, after which the folder is a store."""
        self.commit()
        notes = [self._notes[number] for number in sorted(self._notes)]
        info = StoreInfo(
            STORE_VERSION, self.identity.dtype, self.tokens, self.sentences, self.documents, self.identity.tokenizer,
            self.identity.sources, self.identity.settings, [note["reading"] for note in notes],
            sum(note["skipped"] for note in notes), [one for note in notes for one in note["reasons"]][:_REASONS],
            self._digest(),
        )  # fmt: skip
        with self._writing():
            self._write(INDEX_FILE, self._index().astype("<u8").tobytes())
            self._write(f".{STORE_FILE}.tmp", info.to_json())
            (self.folder / f".{STORE_FILE}.tmp").replace(self.folder / STORE_FILE)
            sync(self.folder)
            (self.folder / PROGRESS_FILE).unlink()
        return TokenStore(self.folder)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _begin_step(self) -> None:
        self._new_tokens = self._new_sentences = self._new_documents = 0
        self._new_notes: dict[int, dict[str, Any]] = {}

    def _resume(self) -> int:
        """Take up what `progress.jsonl` says; the bytes of it that count: none where no step was made safe."""
        path = self.folder / PROGRESS_FILE
        content = path.read_bytes() if path.is_file() else b""
        size = content.rfind(b"\n") + 1
        if not size:
            return 0
        # the first line says of what the store is, each further one what a step made safe
        try:
            head, *steps = map(json.loads, content[:size].splitlines())
            if head.pop("version") != STORE_VERSION:
                raise CheckpointError(
                    f"{self.folder} was begun by another version of roberta; remove it, and prepare again"
                )
            saved = StoreIdentity(**head)
            saved.compared()
            for step in steps:
                self._notes |= {int(number): note for number, note in step["notes"].items()}
            last: dict[str, Any] = (
                steps[-1] if steps else {"tokens": 0, "sentences": 0, "documents": 0, "is_begun": False, "place": {}}
            )
            counts = [int(last[name]) for name in ("tokens", "sentences", "documents")]
            is_begun, place = bool(last["is_begun"]), Place(**last["place"])
        except CheckpointError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(
                f"{path} is damaged ({type(error).__name__}: {str(error)[:100]}), so how much of the store is safe is not "
                f"known; remove {self.folder}, and prepare again"
            ) from error
        # nothing is lost by starting again with whatever is asked for now
        if not steps:
            return 0
        # the same data, tokenizer and options: the rest is written behind it
        check_identity(self.folder, saved, self.identity)
        (self.tokens, self.sentences, self.documents), self._is_begun, self.place = counts, is_begun, place
        return size

    def _opened(self, name: str, size: int) -> BinaryIO:
        """A file that grows, cut to the bytes that count."""
        path = self.folder / name
        file = path.open("ab")
        self._files.append(file)
        there = file.seek(0, os.SEEK_END)
        if there < size:
            raise CheckpointError(
                f"{path} has {there:,} bytes, and {size:,} were written: it was cut short; remove {self.folder}, and "
                "prepare again"
            )
        file.truncate(size)
        return file

    def _note(self, entry: Mapping[str, Any]) -> None:
        """Write a line into the journal; it is safe on the disk when this returns."""
        self._journal.write(json.dumps(entry).encode() + b"\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())

    def _digest(self) -> str:
        """SHA-256 of tokens and sentences."""
        found = hashlib.sha256()
        for name in (TOKENS_FILE, SENTENCES_FILE):
            for piece in file_pieces(self.folder / name):
                found.update(piece)
        return found.hexdigest()

    def _index(self) -> np.ndarray:
        """Tokens and documents before every 256th sentence, and in all; (2, points)."""
        table = np.zeros((2, index_points(self.sentences)), np.int64)
        place, totals = 0, np.zeros(2, np.int64)
        with (self.folder / SENTENCES_FILE).open("rb") as file:
            while len(packed := np.fromfile(file, "<u4", INDEX_EVERY * 256)):
                counts = np.stack(unpacked(packed)).astype(np.int64)
                starts = np.arange(0, counts.shape[1], INDEX_EVERY)
                ends = totals[:, None] + np.cumsum(np.add.reduceat(counts, starts, axis=1), axis=1)
                table[:, place + 1 : place + 1 + len(starts)] = ends
                place, totals = place + len(starts), ends[:, -1]
        return table

    def _write(self, name: str, content: bytes) -> None:
        with (self.folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Name what is kept in the errors of the block."""
        try:
            yield
        except CheckpointError:
            raise
        except OSError as error:
            raise CheckpointError(
                f"the store {self.folder} could not be written: {error}; {self.tokens:,} tokens of it are safe on the "
                "disk. When there is room, prepare it again: it resumes from there"
            ) from error
