"""Files of data as records: a dictionary of fields for each row, line or item, and where it is.

`fields.py` says what a field means. Tables and lines of JSON are read as they are asked for; a file that is one JSON
value is read whole. Tables with a word a line are read by `word_tables.py`.

Text is UTF-8, with or without a byte order mark; lines end in LF or CR LF.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from roberta.common.pipelines.inputs import shown

_REASONS = 3  # that are kept of the rows that cannot be used


class DataRecord(NamedTuple):
    """The fields of one row, line or item."""

    value: Mapping[str, Any]
    where: str


@dataclass
class Unusable:
    """Rows that cannot be used: the first is an error, or all of them are skipped and counted.

    Attributes:
        skip: None raises errors as they are; False names `skip_unusable=True` as a way out; True counts.
        count: rows that were skipped.
        first: why the first of them were.
    """

    skip: bool | None = None
    count: int = 0
    first: list[str] = field(default_factory=list)

    def note(self, error: ValueError) -> None:
        """Count a row that cannot be used.

        Raises:
            ValueError: such rows are not to be skipped.
        """
        if self.skip is None:
            raise error
        if not self.skip:
            raise ValueError(f"{error}; or skip all rows that cannot be used with skip_unusable=True") from error
        self.count += 1
        if len(self.first) < _REASONS:
            self.first.append(str(error))

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Note a `ValueError` of the block, which ends the block."""
        try:
            yield
        except ValueError as error:
            self.note(error)


@dataclass
class Reading:
    """How one file or data set was read; filled in meanwhile.

    Attributes:
        name: its path, or "the data set".
        format: of a file; "data set" for data that is not a file.
        is_header: whether the first line of a table names its columns; None for anything but a table.
        columns: role -> the name or the number of its column, as the first row has it.
        rows: examples.
    """

    name: str
    format: str
    is_header: bool | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    rows: int = 0


# -- lines ------------------------------------------------------------------------------------------------------------


def file_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line of a file, and where it is: "data.txt:7"."""
    with path.open("rb") as file:
        yield from lines(file, f"{path}:{{}}")


def lines(
    file: Iterable[bytes], where: str, note: Callable[[ValueError], None] | None = None
) -> Iterator[tuple[str, str]]:
    """Each line without its end, and where it is, read as they are asked for.

    Args:
        file: lines of bytes, as an open file gives them.
        where: names a line in errors, such as "data.txt:{}", where the number of the line stands for the braces.
        note: takes the error of a line that is not UTF-8, which is then left out; None raises it.

    Raises:
        ValueError: a line is not UTF-8.
    """
    before, after = where.rsplit("{}", 1)
    for number, raw in enumerate(file, 1):
        place = f"{before}{number}{after}"
        try:
            text = decoded(raw, place).rstrip("\r\n")
        except ValueError as error:
            if note is None:
                raise
            note(error)
            continue
        yield (text.removeprefix("\ufeff") if number == 1 else text), place


def decoded(raw: bytes, where: str) -> str:
    """The text of some bytes; `ValueError` if they are not UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8: {error}; convert the file") from None


# -- tables -----------------------------------------------------------------------------------------------------------


def table_records(
    path: Path,
    delimiter: str,
    name_columns: Callable[[Sequence[str], str], tuple[Sequence[str], bool]],
    unusable: Unusable,
) -> Iterator[DataRecord]:
    """The rows of a table; empty lines are left out.

    In a table with commas, cells may be quoted, and a quoted one may have line ends; in one with tabs a quote is a
    character like any other, as in the files of GLUE.

    Args:
        name_columns: the cells of the first line, and where it is -> the names of the columns, and whether that line
            is a header.
        unusable: what to do with rows that are broken, or have not as many cells as the first line.

    Raises:
        ValueError: such a row, unless it is to be skipped; quotes that do not close.
    """
    rows = cells_of(path, delimiter, unusable)
    first = next(rows, None)
    if first is None:
        return
    names, is_header = name_columns(*first)
    for cells, where in rows if is_header else itertools.chain([first], rows):
        if len(cells) == len(names):
            yield DataRecord(dict(zip(names, cells, strict=True)), where)
            continue
        unusable.note(
            ValueError(
                f"{where} has {len(cells)} columns, and the first line has {len(names)}: {shown(cells)}; correct the "
                "line, or name the format of the file with format="
            )
        )


def cells_of(path: Path, delimiter: str, unusable: Unusable) -> Iterator[tuple[list[str], str]]:
    """The cells of each row that has some, and where it is."""
    if delimiter != "\t":
        return quoted(file_lines(path), delimiter, unusable)
    return ((text.split("\t"), where) for text, where in file_lines(path) if text.strip())


def quoted(found: Iterable[tuple[str, str]], delimiter: str, unusable: Unusable) -> Iterator[tuple[list[str], str]]:
    """The same of lines, and where each is, whose cells may be quoted."""
    whole = _Ended(found)
    reader = csv.reader(whole, delimiter=delimiter, strict=True)
    while True:
        whole.where = ""
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            wrong = ValueError(
                f"{whole.where} is not a row of a table: {error}; close its quotes, and double those inside"
            )
            if "unexpected end" in str(error):  # the row took all lines to the end: more than a row would be lost
                raise wrong from None
            unusable.note(wrong)
            continue
        where = whole.where
        if any(cell.strip() for cell in cells):
            yield cells, where


class _Ended:
    """Lines with their ends, as `csv` wants them: a quoted cell may have some; `where` is the first since it was set."""

    def __init__(self, found: Iterable[tuple[str, str]]) -> None:
        self.found = iter(found)
        self.where = ""

    def __iter__(self) -> _Ended:
        return self

    def __next__(self) -> str:
        text, where = next(self.found)
        self.where = self.where or where
        return text + "\n"


# -- JSON -------------------------------------------------------------------------------------------------------------


def json_lines(path: Path, unusable: Unusable) -> Iterator[DataRecord]:
    """The objects of a file with one per line; empty lines are left out."""
    for text, where in file_lines(path):
        if text.strip():
            with unusable.noted():
                yield DataRecord(_object(parsed(text, where), where), where)


def json_items(path: Path, unusable: Unusable) -> Iterator[DataRecord]:
    """The objects of a file that is a list of them, an object with such a list under "data", or still lines of JSON.

    The nested form of SQuAD (articles, paragraphs, questions) gives a record a question.
    """
    if _starts_with_object(file_lines(path)):
        yield from json_lines(path, unusable)
        return
    for value, where in _items(decoded(path.read_bytes(), str(path)).removeprefix("\ufeff"), str(path), unusable):
        with unusable.noted():
            yield DataRecord(_object(value, where), where)


def items_of(found: Iterable[tuple[str, str]], name: str, unusable: Unusable) -> Iterator[tuple[Any, str]]:
    """The same values, which may also be texts, of the lines of a file, and where each is."""
    all_ = list(found)
    if not _starts_with_object(all_):
        yield from _items("\n".join(text for text, _ in all_), name, unusable)
        return
    for text, where in all_:
        with unusable.noted():
            if text.strip():
                yield parsed(text, where), where


def _starts_with_object(found: Iterable[tuple[str, str]]) -> bool:
    """Whether the first line with something in it is a whole object, and not a data set on one line."""
    first = next((text for text, _ in found if text.strip()), "")
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(first)
        return isinstance(value, dict) and not isinstance(value.get("data"), list)
    return False


def _items(text: str, name: str, unusable: Unusable) -> Iterator[tuple[Any, str]]:
    """The items of one JSON value, and where each is; of SQuAD's nested form its questions."""
    if not text.strip():
        return
    value = parsed(text, name)
    items = value.get("data") if isinstance(value, Mapping) else value
    if not isinstance(items, list):
        raise ValueError(
            f'{name} is {shown(value)}; it must be a list of objects, or an object with such a list under "data"'
        )
    number = 0
    for place, item in enumerate(items, 1):
        found: list[Any] = [item]
        if isinstance(item, Mapping) and "paragraphs" in item:
            found = []  # an article that cannot be read whole gives no question
            with unusable.noted():
                found = list(_questions(item, f"{name}, article {place}"))
        for record in found:
            number += 1
            yield record, f"{name}, item {number}{_id(record)}"


def _questions(article: Mapping[str, Any], where: str) -> Iterator[Mapping[str, Any]]:
    """The questions of an article of SQuAD, each with its context."""
    for number, paragraph in enumerate(_list(article, "paragraphs", where), 1):
        place = f"{where}, paragraph {number}"
        paragraph = _object(paragraph, place)
        for question in _list(paragraph, "qas", place):
            if "context" not in paragraph:
                raise ValueError(f'{place} has no "context"; each paragraph needs one')
            yield {**_object(question, place), "context": paragraph["context"]}


def _list(value: Mapping[str, Any], name: str, where: str) -> list[Any]:
    found = value.get(name)
    if not isinstance(found, list):
        raise ValueError(f"{where} has {shown(found)} as {name!r}; it must be a list")
    return found


def _id(record: object) -> str:
    return f" (id {record['id']})" if isinstance(record, Mapping) and isinstance(record.get("id"), str) else ""


def parsed(text: str, where: str) -> Any:
    """The value of some JSON; `ValueError` if it is not valid, or nested too deeply."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not valid JSON: {str(error)[:200]}; fix or remove it") from None


def _object(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {shown(value)}; it must be an object with named fields")
    return value
