"""The sources of a corpus in chunks of about a megabyte, each a function of where it begins, so that reading can resume.

The sentences and documents are those of `readers.read_examples`. Files of text are read in blocks and begun anywhere; all
others are read from their beginning, and what was prepared before is passed over.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, cast

import numpy as np

from roberta.common.training.data.fields import Document, Roles
from roberta.common.training.data.readers import Format, check_not_empty, format_of, read_examples
from roberta.common.training.data.records import Reading, Unusable, decoded

_SIZE = 2**20  # bytes, or characters, of a chunk


@dataclass(frozen=True)
class Place:
    """Where the next chunk begins.

    Attributes:
        source: the number of the file.
        examples: documents of it that are in chunks before; of a text, those that begin there.
        byte, line: of a text: how much of it is in chunks before.
        is_open: whether the last line before is of a document that may have more.
    """

    source: int = 0
    examples: int = 0
    byte: int = 0
    line: int = 0
    is_open: bool = False


@dataclass(frozen=True)
class SourceChunk:
    """Some sentences.

    Attributes:
        sentences: texts, none of them white space only.
        begins: bool, whether a document begins with each.
        source: the number of the file that they are from.
        after: where the next chunk begins.
        note: what the file has been found to be so far, as JSON: its reading, and the rows that could not be used.
    """

    sentences: Sequence[str]
    begins: np.ndarray
    source: int
    after: Place
    note: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """How sources are read: as the arguments of `readers.read_examples`."""

    format: Format | None = None
    header: bool | None = None
    columns: Roles | None = None
    skip_unusable: bool = False

    def said(self) -> dict[str, Any]:
        """The ones that are not the default; `header=False` says something, and `skip_unusable=False` does not."""
        said = {name: value for name, value in asdict(self).items() if value not in (None, {})}
        return said if self.skip_unusable else {name: value for name, value in said.items() if name != "skip_unusable"}


def source_chunks(sources: Sequence[Any], options: ReadingOptions, place: Place) -> Iterator[SourceChunk]:
    """The chunks of the sources from a place on; the last one of each source may have no sentences.

    Raises:
        ValueError: as `readers.read_examples` does.
    """
    for number in range(place.source, len(sources)):
        source, start = sources[number], place if number == place.source else Place(number)
        is_file = isinstance(source, str | PathLike)
        is_text = is_file and format_of(Path(source), "mlm", options.format) == "txt"
        if is_text and options.header is None and not options.columns:
            yield from _text_chunks(Path(source), options, start)
        else:
            yield from _example_chunks(source, options, start)


def _note(reading: Reading, unusable: Unusable) -> dict[str, Any]:
    return {"reading": asdict(reading), "skipped": unusable.count, "reasons": list(unusable.first)}


# -- files of text ----------------------------------------------------------------------------------------------------


def _text_chunks(path: Path, options: ReadingOptions, place: Place) -> Iterator[SourceChunk]:
    unusable = Unusable(options.skip_unusable)
    with path.open("rb") as file:
        while raw := _whole_lines(file, place.byte):
            texts = [line.rstrip() for line in _lines(raw, path, place)]
            is_filled = np.fromiter(map(bool, texts), bool, len(texts))
            begins = is_filled & ~np.concatenate([[place.is_open], is_filled[:-1]])
            place = replace(
                place, examples=place.examples + int(begins.sum()), byte=place.byte + len(raw),
                line=place.line + len(texts), is_open=bool(is_filled[-1]),
            )  # fmt: skip
            reading = Reading(str(path), "txt", rows=place.examples)
            yield SourceChunk(
                list(filter(None, texts)), begins[is_filled], place.source, place, _note(reading, unusable)
            )
    check_not_empty(Reading(str(path), "txt", rows=place.examples), unusable)
    yield _last(place, _note(Reading(str(path), "txt", rows=place.examples), unusable))


def _last(place: Place, note: Mapping[str, Any]) -> SourceChunk:
    """The end of a source, from which the next one follows."""
    return SourceChunk([], np.zeros(0, bool), place.source, Place(place.source + 1), dict(note))


def _whole_lines(file: Any, start: int) -> bytes:
    """The bytes from `start` to the end of a line, about a chunk; all that is left where no line ends."""
    file.seek(start)
    pieces: list[bytes] = []
    while piece := file.read(_SIZE):
        end = piece.rfind(b"\n") + 1
        if end:
            pieces.append(piece[:end])
            break
        pieces.append(piece)
    return b"".join(pieces)


def _lines(raw: bytes, path: Path, place: Place) -> list[str]:
    """The lines of some bytes, as `records.file_lines` gives them."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        for number, line in enumerate(raw.split(b"\n"), place.line + 1):
            decoded(line, f"{path}:{number}")  # names the line
        raise
    lines = text.removesuffix("\n").split("\n")
    if not place.line:
        lines[0] = lines[0].removeprefix("\ufeff")
    return lines


# -- all other sources ------------------------------------------------------------------------------------------------


def _example_chunks(source: Any, options: ReadingOptions, place: Place) -> Iterator[SourceChunk]:
    unusable, reading = Unusable(options.skip_unusable), Reading("", "")
    examples = read_examples(
        source, "mlm", format=options.format, header=options.header, columns=options.columns, unusable=unusable,
        reading=reading,
    )  # fmt: skip
    documents = cast("Iterator[Document]", itertools.islice(examples, place.examples, None))
    sentences: list[str] = []
    begins: list[bool] = []
    size = 0
    for document in documents:
        sentences += document.sentences
        begins += [True, *[False] * (len(document.sentences) - 1)]
        size += sum(map(len, document.sentences))
        if size >= _SIZE:
            place = replace(place, examples=reading.rows)
            yield SourceChunk(sentences, np.array(begins), place.source, place, _note(reading, unusable))
            sentences, begins, size = [], [], 0
    yield SourceChunk(
        sentences, np.array(begins, bool), place.source, Place(place.source + 1), _note(reading, unusable)
    )
