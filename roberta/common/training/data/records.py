"""Files of data as records: a dictionary of fields for each row, line or item, and where it is.

What a field means is `fields.py`'s. Tables and lines of JSON are read as they are asked for; a file that is one JSON
value is read whole. Tables with a word a line are `word_tables.py`'s.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from roberta.common.pipelines.inputs import shown
from roberta.common.training.data.reading import Unusable
from roberta.common.training.data.text_files import decoded, lines

# Names of the columns of a table: of the cells of its first line, and where that is no header, None.
Header = Callable[[Sequence[str], str], tuple[Sequence[str], bool]]


class Record(NamedTuple):
    """The fields of one row, line or item."""

    value: Mapping[str, Any]
    where: str


def file_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line of a file, and where it is: "data.txt:7"."""
    with path.open("rb") as file:
        yield from lines(file, f"{path}:{{}}")


def table(path: Path, delimiter: str, header: Header, unusable: Unusable) -> Iterator[Record]:
    """The rows of a table; empty lines are left out.

    Cells between commas may be quoted, and a quoted one may have line ends; between tabs a quote is a character like
    any other, as in the files of GLUE.

    Args:
        header: the cells of the first line, and where it is -> the names of the columns, and whether it is a header.
        unusable: what becomes of rows that have not as many cells as the first line, or are broken.

    Raises:
        ValueError: such a row, where it is not to be skipped; quotes that do not close.
    """
    rows = cells_of(path, delimiter, unusable)
    first = next(rows, None)
    if first is None:
        return
    names, is_header = header(*first)
    for cells, where in rows if is_header else itertools.chain([first], rows):
        if len(cells) != len(names):
            unusable.note(ValueError(
                f"{where} has {len(cells)} columns, and the first line has {len(names)}: {shown(cells)}; correct the "
                "line, or say the format that the file has with format="
            ))  # fmt: skip
            continue
        yield Record(dict(zip(names, cells, strict=True)), where)


def cells_of(path: Path, delimiter: str, unusable: Unusable) -> Iterator[tuple[list[str], str]]:
    """The cells of each row that has some, and where it is."""
    return _tabbed(path) if delimiter == "\t" else quoted(file_lines(path), delimiter, unusable)


def _tabbed(path: Path) -> Iterator[tuple[list[str], str]]:
    for text, where in file_lines(path):
        if text.strip():
            yield text.split("\t"), where


def quoted(found: Iterable[tuple[str, str]], delimiter: str, unusable: Unusable) -> Iterator[tuple[list[str], str]]:
    """The same for lines, and where each is, whose cells may be quoted."""
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
                f"{whole.where} is no row of a table: {error}; close its quotes, and double those inside"
            )  # fmt: skip
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


def json_lines(path: Path, unusable: Unusable) -> Iterator[Record]:
    """The objects of a file with one a line; empty lines are left out."""
    for text, where in file_lines(path):
        if text.strip():
            try:
                yield Record(_object(parsed(text, where), where), where)
            except ValueError as error:
                unusable.note(error)


def json_items(path: Path, unusable: Unusable) -> Iterator[Record]:
    """The objects of a file that is one list of them, an object with them under "data", or lines of JSON all the same.

    The nested form of SQuAD (articles, paragraphs, questions) gives a record a question.
    """
    if _is_lines(path):
        yield from json_lines(path, unusable)
        return
    for value, where in _items(decoded(path.read_bytes(), str(path)).removeprefix("\ufeff"), str(path), unusable):
        with noted(unusable):
            yield Record(_object(value, where), where)


def items_of(found: Iterable[tuple[str, str]], name: str, unusable: Unusable) -> Iterator[tuple[Any, str]]:
    """The same values, which may be texts, of the lines of a file, and where each is."""
    all_ = list(found)
    if not _is_object(next((text for text, _ in all_ if text.strip()), "")):
        yield from _items("\n".join(text for text, _ in all_), name, unusable)
        return
    for text, where in all_:
        with noted(unusable):
            if text.strip():
                yield parsed(text, where), where


@contextlib.contextmanager
def noted(unusable: Unusable) -> Iterator[None]:
    """Errors of the block go where those of other rows do."""
    try:
        yield
    except ValueError as error:
        unusable.note(error)


def _items(text: str, name: str, unusable: Unusable) -> Iterator[tuple[Any, str]]:
    """The items of one JSON value, and where each is; of SQuAD's nested form its questions."""
    if not text.strip():
        return
    value = parsed(text, name)
    items = value.get("data") if isinstance(value, Mapping) else value
    if not isinstance(items, list):
        raise ValueError(
            f'{name} is {shown(value)}; it has to be a list of objects, or an object with one under "data"'
        )
    number = 0
    for place, item in enumerate(items, 1):
        found: list[Any] = [item]
        with noted(unusable):
            if isinstance(item, Mapping) and "paragraphs" in item:
                found = []  # unless all can be read
                found = list(_questions(item, f"{name}, article {place}"))
        for record in found:
            number += 1
            yield record, f"{name}, item {number}{_id(record)}"


def _is_lines(path: Path) -> bool:
    """Whether the first line of a file is a whole object of its own, and no data set on one line."""
    return _is_object(next((text for text, _ in file_lines(path) if text.strip()), ""))


def _is_object(first: str) -> bool:
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(first)
        return isinstance(value, dict) and not isinstance(value.get("data"), list)
    return False


def _questions(item: Mapping[str, Any], where: str) -> Iterator[Mapping[str, Any]]:
    """The questions of an article of SQuAD, each with its context; any other item as it is."""
    if "paragraphs" not in item:
        yield item
        return
    for number, paragraph in enumerate(_list(item, "paragraphs", where), 1):
        place = f"{where}, paragraph {number}"
        paragraph = _object(paragraph, place)
        for question in _list(paragraph, "qas", place):
            if "context" not in paragraph:
                raise ValueError(f'{place} has no "context"; each paragraph needs one')
            yield {**_object(question, place), "context": paragraph["context"]}


def _list(value: Mapping[str, Any], field: str, where: str) -> list[Any]:
    found = value.get(field)
    if not isinstance(found, list):
        raise ValueError(f"{where} has {shown(found)} as {field!r}; it has to be a list")
    return found


def _id(record: Any) -> str:
    return f" (id {record['id']})" if isinstance(record, Mapping) and isinstance(record.get("id"), str) else ""


def parsed(text: str, where: str) -> Any:
    """The value of some JSON.

    Raises:
        ValueError: it is none, or nested too deeply.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not valid JSON: {str(error)[:200]}; fix or remove it") from None


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {shown(value)}, and has to be an object with named fields")
    return value
