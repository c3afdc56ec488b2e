"""`roberta prepare`: a corpus becomes a token store, once; see `data.token_store` for what that is."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from roberta.common.storage.folders import CheckpointError
from roberta.common.tokenizer.auto import AutoTokenizer
from roberta.common.tokenizer.base import TokenizerBase
from roberta.common.training.data.readers import Format
from roberta.common.training.data.source_chunks import Place, ReadingOptions, SourceChunk, source_chunks
from roberta.common.training.data.token_store import TokenStore
from roberta.common.training.datasets import DataSettings, reading_options
from roberta.common.training.fingerprints import hash_of_ids, paths_of
from roberta.common.training.folder_locks import locked_output
from roberta.common.training.store_writer import (
    LOCK_FILE,
    STEP_TOKENS,
    StoreIdentity,
    StoreWriter,
    finished_store,
    has_steps,
    known_sources,
)

TokenisedChunk = tuple[np.ndarray, np.ndarray]  # ids of all sentences, and the length of each


def prepare(
    data: Any,
    *,
    tokenizer: str | Path | TokenizerBase,
    output: str | Path,
    workers: int = 0,
    text_column: str | None = None,
    columns: Mapping[str, str] | None = None,
    format: Format | None = None,
    header: bool | None = None,
    skip_unusable: bool = False,
    progress: bool | None = None,
) -> TokenStore:
    """Tokenise a corpus into a token store, which `Training(train=output)` reads; resumes one that was interrupted.

    A store that is finished, and was made of the same data, is returned as it is.

    Args:
        data: files (txt, jsonl, parquet, csv, tsv, json), or an object of the `datasets` library, streaming or not.
        tokenizer: folder, name, or one of our tokenizers.
        output: the folder of the store.
        workers: processes that tokenise; 0 does it in this process, with the threads of the tokenizers library. A script
            that asks for some needs `if __name__ == "__main__":`.
        text_column, columns, format, header, skip_unusable: as for `Training`.
        progress: show a bar; None shows it on a terminal.

    Raises:
        ValueError: the data cannot be read; the folder has a store of something else, or other files.
        CheckpointError: the store cannot be written; what was prepared until then is kept.
    """
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise ValueError(f"workers={workers!r} must be a number of processes of at least 0")
    settings = DataSettings(
        format=format, header=header, text_column=text_column, columns=columns, skip_unusable=skip_unusable
    )
    options = reading_options(settings, "mlm")
    opened = tokenizer if isinstance(tokenizer, TokenizerBase) else AutoTokenizer.from_pretrained(tokenizer)
    return prepare_store(data, opened, Path(output), options, workers=workers, progress=progress)


def prepare_store(
    data: Any,
    tokenizer: TokenizerBase,
    output: Path,
    options: ReadingOptions,
    *,
    workers: int = 0,
    progress: bool | None = None,
    step_tokens: int = STEP_TOKENS,
) -> TokenStore:
    """The same, of a tokenizer that is open; a process that prepares the same folder is waited for."""
    paths = paths_of(data)
    sources: Sequence[Any] = [data] if paths is None else paths
    if not sources:
        raise ValueError("there are no files to prepare; give at least one")
    with _alone(output):
        size = max(tokenizer.get_vocab().values()) + 1
        identity = StoreIdentity(
            "<u2" if size <= 2**16 else "<u4", hash_of_ids(tokenizer), _described(sources, known_sources(output)),
            options.said(),
        )  # fmt: skip
        _check_known(output, identity.sources)
        finished = finished_store(output, identity)
        if finished is not None:
            return finished
        with StoreWriter(output, identity, step_tokens=step_tokens) as writer:
            _write_chunks(writer, sources, options, tokenizer, workers, progress)
            _check_unchanged(identity.sources)
            if not writer.has_tokens:
                raise ValueError("the data has no token: there is nothing to train on; give data that has texts")
            return writer.finish()


def _write_chunks(
    writer: StoreWriter,
    sources: Sequence[Any],
    options: ReadingOptions,
    tokenizer: TokenizerBase,
    workers: int,
    progress: bool | None,
) -> None:
    """Write what is left of the sources."""
    hidden = None if progress is None else not progress
    chunks = source_chunks(sources, options, writer.place)
    with (
        tqdm(initial=writer.tokens, unit="token", unit_scale=True, disable=hidden, leave=False) as bar,
        contextlib.closing(_tokenised(chunks, tokenizer, writer.identity.dtype, workers)) as tokenised,
    ):
        for chunk, (ids, lengths) in tokenised:
            writer.add(ids, lengths, chunk)
            bar.set_postfix_str(_progress_text(sources, chunk.source, chunk.after), refresh=False)
            bar.update(len(ids))


def _progress_text(sources: Sequence[Any], number: int, after: Place) -> str:
    """How far a chunk is, such as "file 2 of 3, 41 % of it"."""
    if not isinstance(sources[number], str | PathLike):
        return f"example {after.examples:,}" if after.source == number else ""
    share = ""
    if after.source == number and after.byte:
        share = f", {100 * after.byte / Path(sources[number]).stat().st_size:.0f} % of it"
    return f"file {number + 1} of {len(sources)}{share}"


# -- tokens -----------------------------------------------------------------------------------------------------------


def _tokenised(
    chunks: Iterable[SourceChunk], tokenizer: TokenizerBase, dtype: str, workers: int
) -> Generator[tuple[SourceChunk, TokenisedChunk], None, None]:
    """The chunks, in their order, and their tokens; a few chunks are on their way at a time."""
    if not workers:
        for chunk in chunks:
            yield chunk, _tokens(tokenizer, dtype, chunk.sentences)
        return
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_begin_worker, initargs=(tokenizer, dtype)
    )
    waiting: deque[tuple[SourceChunk, Future[TokenisedChunk]]] = deque()
    try:
        for chunk in chunks:
            waiting.append((chunk, pool.submit(_work, chunk.sentences)))
            if len(waiting) > 2 * workers:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()
    except BrokenProcessPool as error:
        raise CheckpointError(
            f"one of the {workers} processes that tokenise was ended, perhaps because memory ran out; prepare again, with "
            "fewer workers: it resumes"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _tokens(tokenizer: TokenizerBase, dtype: str, sentences: Sequence[str]) -> TokenisedChunk:
    """The ids of sentences without special tokens, as `features.make_documents` has them."""
    if not sentences:
        return np.zeros(0, dtype), np.zeros(0, np.uint32)
    batch = tokenizer(list(sentences), add_special_tokens=False, return_attention_mask=False, verbose=False)
    rows = batch["input_ids"]
    lengths = np.fromiter(map(len, rows), np.uint32, len(rows))
    return np.fromiter(itertools.chain.from_iterable(rows), dtype, int(lengths.sum())), lengths


_worker: dict[str, Any] = {}  # in a process that tokenises: its tokenizer and dtype


def _begin_worker(tokenizer: TokenizerBase, dtype: str) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the threads
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked
    _worker.update(tokenizer=tokenizer, dtype=dtype)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the one that started it does, also by a kill; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _work(sentences: Sequence[str]) -> TokenisedChunk:
    return _tokens(_worker["tokenizer"], _worker["dtype"], sentences)


# -- sources ----------------------------------------------------------------------------------------------------------


def _described(sources: Sequence[Any], known: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What identifies each source.

    Args:
        known: files as an older run has described them, by their paths. SHA-256 is not computed again for one that has
            the same size and time.
    """
    return [
        _described_file(Path(one), known) if isinstance(one, str | PathLike) else _described_data(one)
        for one in sources
    ]


def _described_file(path: Path, known: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path} is not a file; give the path of one")
    status = path.stat()
    place = str(path.resolve())
    found = {"path": place, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    before = known.get(place, {})
    if all(before.get(name) == value for name, value in found.items()):
        return dict(before)
    with path.open("rb") as file:
        return {**found, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _described_data(data: Any) -> dict[str, Any]:
    """A data set by its fingerprint if it has one, else by its rows if these can be read twice: the last is a stream."""
    found: dict[str, Any] = {"type": type(data).__name__}
    mark = getattr(data, "_fingerprint", None)
    if hasattr(data, "__len__"):
        found["examples"] = len(data)
    if isinstance(mark, str):
        return {**found, "fingerprint": mark}
    return {**found, "sha256_of_rows": _hash_of_rows(data)} if hasattr(data, "__len__") else found


def _hash_of_rows(data: Any) -> str:
    """SHA-256 of the rows, read one after another."""
    found = hashlib.sha256()
    for row in data if isinstance(data, Iterable) else (data[number] for number in range(len(data))):
        try:
            text = json.dumps(row, default=repr)
        except (TypeError, ValueError, RecursionError):  # keys that JSON has not, or a value inside itself
            text = repr(row)
        found.update(text.encode() + b"\n")
    return found.hexdigest()


def _check_known(output: Path, described: Sequence[Mapping[str, Any]]) -> None:
    """Raise `ValueError` where a folder has, or begins, a store of which it cannot be told whether it is of a stream."""
    streams = [one["type"] for one in described if not {"path", "fingerprint", "sha256_of_rows"} & set(one)]
    if not streams or not has_steps(output):
        return
    raise ValueError(
        f"{output} has a token store already, and whether it is of this {streams[0]} cannot be told: it is a stream, "
        "which has neither a length nor a fingerprint. To train on that store, give its folder; to prepare the stream, "
        "give another folder as output, or remove this one. Files, lists and data sets that are not streamed can be "
        "resumed"
    )


def _check_unchanged(described: Sequence[Mapping[str, Any]]) -> None:
    """Raise `ValueError` for a file that was written to while it was read."""
    for source in described:
        if "path" in source:
            status = Path(source["path"]).stat()
            if (status.st_size, status.st_mtime_ns) != (source["size"], source["mtime_ns"]):
                raise ValueError(
                    f"{source['path']} was changed while it was prepared; remove the output folder, and prepare it again"
                )


def _alone(output: Path) -> contextlib.AbstractContextManager[None]:
    """Hold the folder of a store; another process that does is waited for."""
    said = f"waiting for another process, which prepares {output}"
    return locked_output(output, LOCK_FILE, "a store", lambda: tqdm.write(said, file=sys.stderr))
