"""Inputs from arguments, files and standard input: lines of text, tables, JSON; read one at a time, on request."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from roberta.common.commands.columns import SAMPLE_LINES, Given, Said, header, of_object
from roberta.common.commands.text_options import DATA_FORMATS, Command
from roberta.common.pipelines.inputs import shown
from roberta.common.training.data import records
from roberta.common.training.data.fields import structured
from roberta.common.training.data.readers import SUFFIXES
from roberta.common.training.data.records import Reading, Unusable, decoded, lines
from roberta.common.training.data.word_tables import WordTable

_Lines = Iterable[tuple[str, str]]  # a line, and where it is


def from_arguments(command: Command, texts: Sequence[str], context: str | None) -> list[Given]:
    """The inputs given as arguments: texts, or one input of several fields."""
    if context is not None or command.needed == 1:
        return [_about(Given(text), context) for text in texts]
    return [Given(_record(command, texts, f"arguments {shown(list(texts))}"))]


@dataclass
class _Errors(Unusable):
    """Inputs that cannot be read: the first one raises, or each is kept until its turn."""

    kept: list[ValueError] = field(default_factory=list)

    def note(self, error: ValueError) -> None:
        if not self.skip:
            raise error
        self.kept.append(error)


def from_file(
    command: Command,
    path: Path | None,
    format_: str | None,
    *,
    said: Said | None = None,
    context: str | None = None,
    skip: bool = False,
) -> Iterator[Given]:
    """The inputs of a file, or of standard input, read one at a time, on request.

    Args:
        context: of all questions; the file then has nothing but questions.
        skip: yield an unreadable input with its error as its value, instead of raising the error.

    Raises:
        ValueError: at once, if there is no such file, its format is unknown or not for this command, or `said` does not
            apply to it; later, for a line that cannot be read, or has columns that do not fit.
    """
    if context is not None:
        command = command._replace(fields=("question",), needed=1)
    name = "standard input" if path is None else str(path)
    if path is not None and (path.is_dir() or not path.exists()):
        raise ValueError(f"--file {path}: there is no such file")
    # the format, and whether what is said of columns applies to it
    format_ = format_ or (SUFFIXES.get(path.suffix[1:].lower()) if path else "txt" if command.needed == 1 else "tsv")
    if format_ not in DATA_FORMATS:
        raise ValueError(f"{name}: its name does not end in {', '.join(DATA_FORMATS)}; say --format")
    if format_ == "conll" and (command.task != "token-classification" or path is None):
        raise ValueError(f"{name} is read as conll, which is for files of `roberta tag`; say another --format")
    said = said or Said()
    columns = said.roles(command)
    if said.header is not None and format_ not in ("tsv", "csv", "conll"):
        raise ValueError(
            f"--{'' if said.header else 'no-'}header: {name} is read as {format_}, which has none; omit it"
        )
    if columns and format_ == "txt":
        raise ValueError(f"--columns {' '.join(f'{a}={b}' for a, b in columns.items())}: {name} is read as txt, which has "
                         "no columns; omit it, or say --format")  # fmt: skip
    found = _read(command, path, name, format_, said, _Errors(skip))
    return found if context is None else (_about(given, context) for given in found)


def _about(given: Given, context: str | None) -> Given:
    """A question, and the context of all questions."""
    if context is None or isinstance(given.value, ValueError):
        return given
    return given._replace(value={"question": given.value, "context": context})


def _read(
    command: Command, path: Path | None, name: str, format_: str, said: Said, errors: _Errors
) -> Iterator[Given]:  # fmt: skip
    """The inputs, and errors in the places of those that cannot be read."""
    with contextlib.ExitStack() as stack:
        file: BinaryIO = sys.stdin.buffer if path is None else stack.enter_context(path.open("rb"))
        found = lines(file, f"{name} line {{}}", errors.note)
        if format_ == "txt":
            made: Iterator[Given] = (Given(text) for text, _ in found)
        elif format_ == "conll":
            assert path is not None
            table = WordTable(path, {}, said.header, errors, Reading("", ""), is_csv=False)
            made = (Given(record.value["words"]) for record in table.records())
        elif format_ in ("jsonl", "json"):
            values = _objects(found, errors) if format_ == "jsonl" else records.items_of(found, name, errors)
            made = _of_objects(command, values, said, errors)
        else:
            made = _of_table(command, found, format_, _sample(path, format_), said, errors)
        for given in made:
            yield from _kept(errors)
            yield given
        yield from _kept(errors)


def _kept(errors: _Errors) -> Iterator[Given]:
    """The errors since the last input."""
    while errors.kept:
        yield Given(errors.kept.pop(0))


def _objects(found: _Lines, errors: _Errors) -> Iterator[tuple[Any, str]]:
    """The values of lines of JSON."""
    for text, where in found:
        with errors.noted():
            if text.strip():
                yield records.parsed(text, where), where


def _of_objects(
    command: Command, values: Iterable[tuple[Any, str]], said: Said, errors: _Errors
) -> Iterator[Given]:  # fmt: skip
    """The inputs of JSON values."""
    for value, where in values:
        with errors.noted():
            yield of_value(command, value, where, said)


def of_value(command: Command, value: object, where: str, said: Said) -> Given:
    """The input of a JSON value: a text, or an object, of which unneeded fields are left out.

    Raises:
        ValueError: an object lacks a field.
    """
    if not isinstance(value, Mapping):
        return Given(value)
    words = next((value[name] for name in ("words", "tokens") if name in value), None)
    if command.task == "token-classification" and "text" not in value and not said.columns and words is not None:
        return Given(structured(words), {name: one for name, one in value.items() if name in ("id", "idx")})
    return of_object(command, value, where, said)


def _of_table(
    command: Command, found: _Lines, format_: str, sample: Sequence[Sequence[str]], said: Said, errors: _Errors
) -> Iterator[Given]:  # fmt: skip
    """The inputs of a table, whose first line may name its columns.

    Args:
        sample: the first rows, to look ahead; none where they cannot be read twice.
    """
    rows = _cells(found, format_, errors)
    first = next(rows, None)
    if first is None:
        return
    columns = None
    if any(first[0]):
        columns = header(command, sample or [first[0]], first[1], said, is_whole=bool(sample))
    is_header = said.header if columns is None else columns.is_header
    for cells, where in rows if is_header else itertools.chain([first], rows):
        with errors.noted():
            if columns is None:
                yield Given(_record(command, cells, where))
            else:
                yield columns.of_cells(cells, where)


def _cells(found: _Lines, format_: str, errors: Unusable) -> Iterator[tuple[list[str], str]]:
    """The cells of each row, and where it is."""
    if format_ == "csv":
        return records.quoted(found, ",", errors)
    return ((text.split("\t"), where) for text, where in found)


def _sample(path: Path | None, format_: str) -> list[list[str]]:
    """The first non-empty rows of a file; none where it can be read only once."""
    if path is None or not path.is_file():
        return []
    with path.open("rb") as file:
        found = ((raw.decode(errors="replace").rstrip("\r\n").removeprefix("\ufeff"), str(path)) for raw in file)
        rows = _cells(found, format_, Unusable(skip=True))
        with contextlib.suppress(ValueError):  # raised when the file is read
            return [cells for cells, _ in itertools.islice(rows, SAMPLE_LINES) if any(cells)]
    return []


def _record(command: Command, cells: Sequence[str], where: str) -> str | dict[str, Any]:
    """An input from its fields in order."""
    fields = ", ".join(command.fields)
    if len(cells) < command.needed or (len(cells) > len(command.fields) and not command.many):
        raise ValueError(
            f"{where}: {len(cells)} columns for {fields}{' ...' if command.many else ''}; a first line that names the "
            "columns lets a file have others"
        )
    if len(command.fields) == 1:
        return cells[0]
    if command.many:
        return {command.fields[0]: cells[0], command.fields[1]: list(cells[1:])}
    return dict(zip(command.fields, cells, strict=False))


def text_of_file(path: Path) -> str:
    """The text of a file, such as a context.

    Raises:
        ValueError: it does not exist, or is not UTF-8. OSError: it cannot be read.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    return decoded(path.read_bytes(), str(path))
