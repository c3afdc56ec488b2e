"""Files of data as records: a dictionary of fields for each row, line or item, and where it is.

What a field means is `fields.py`'s. Tables, lines of JSON and CoNLL are read as they are asked for; a file that is one
JSON value is read whole.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from roberta.common.pipelines.inputs import shown
from roberta.common.text_files import decoded, lines

# Names of the columns of a table: of the cells of its first line, and where that is no header, None.
Header = Callable[[Sequence[str], str], tuple[Sequence[str], bool]]
SPACES = re.compile(" +")  # not `str.split`, which divides words at the other spaces of Unicode


class Record(NamedTuple):
    """The fields of one row, line or item."""

    value: Mapping[str, Any]
    where: str


def file_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line of a file, and where it is: "data.txt:7"."""
    with path.open("rb") as file:
        yield from lines(file, f"{path}:{{}}")


def table(path: Path, delimiter: str, header: Header) -> Iterator[Record]:
    """The rows of a table; empty lines are left out.

    Cells between commas may be quoted, and a quoted one may have line ends; between tabs a quote is a character like
    any other, as in the files of GLUE.

    Args:
        header: the cells of the first line, and where it is -> the names of the columns, and whether it is a header.

    Raises:
        ValueError: a row that has not as many cells as the first line, or whose quotes do not close.
    """
    rows = _tabbed(path) if delimiter == "\t" else _quoted(path, delimiter)
    first = next(rows, None)
    if first is None:
        return
    names, is_header = header(*first)
    for cells, where in rows if is_header else itertools.chain([first], rows):
        if len(cells) != len(names):
            raise ValueError(
                f"{where} has {len(cells)} columns, and the first line has {len(names)}: {shown(cells)}; correct the "
                "line, or say the format that the file has"
            )
        yield Record(dict(zip(names, cells, strict=True)), where)


def _tabbed(path: Path) -> Iterator[tuple[list[str], str]]:
    for text, where in file_lines(path):
        if text.strip():
            yield text.split("\t"), where


def _quoted(path: Path, delimiter: str) -> Iterator[tuple[list[str], str]]:
    # `csv` wants the ends of the lines, as a quoted cell may have some
    reader = csv.reader((text + "\n" for text, _ in file_lines(path)), delimiter=delimiter, strict=True)
    while True:
        where = f"{path}:{reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(
                f"{where} is no row of a table: {error}; close its quotes, and double those inside"
            ) from None
        if any(cell.strip() for cell in cells):
            yield cells, where


def json_lines(path: Path) -> Iterator[Record]:
    """The objects of a file with one a line; empty lines are left out."""
    for text, where in file_lines(path):
        if text.strip():
            yield Record(_object(parsed(text, where), where), where)


def json_items(path: Path) -> Iterator[Record]:
    """The objects of a file that is one list of them, an object with them under "data", or lines of JSON all the same.

    The nested form of SQuAD (articles, paragraphs, questions) gives a record a question.
    """
    if _is_lines(path):
        yield from json_lines(path)
        return
    text = decoded(path.read_bytes(), str(path)).removeprefix("\ufeff")
    if not text.strip():
        return
    value = parsed(text, str(path))
    items = value.get("data") if isinstance(value, Mapping) else value
    if not isinstance(items, list):
        raise ValueError(
            f'{path} is {shown(value)}; it has to be a list of objects, or an object with one under "data"'
        )
    number = 0
    for place, item in enumerate(items, 1):
        for record in _questions(_object(item, f"{path}, item {place}"), f"{path}, article {place}"):
            number += 1
            yield Record(record, f"{path}, item {number}{_id(record)}")


def _is_lines(path: Path) -> bool:
    """Whether the first line of a file is a whole object of its own, and no data set on one line."""
    first = next((text for text, _ in file_lines(path) if text.strip()), "")
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


def _id(record: Mapping[str, Any]) -> str:
    return f" (id {record['id']})" if isinstance(record.get("id"), str) else ""


def parsed(text: str, where: str) -> Any:
    """The value of some JSON.

    Raises:
        ValueError: it is none, or nested too deeply.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is no JSON: {str(error)[:200]}; correct or remove it") from None


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {shown(value)}, and has to be an object with named fields")
    return value


def conll(path: Path) -> Iterator[Record]:
    """The sentences of a file with a word a line: its first column is the word, its last the label.

    Columns are divided by tabs where the line has one, else by spaces. An empty line ends a sentence; lines of
    -DOCSTART- are left out.

    Raises:
        ValueError: a line with one column, or with another number of them than the first line.
    """
    for is_sentence, group in itertools.groupby(_words(path), key=lambda word: word is not None):
        found = [word for word in group if word is not None] if is_sentence else []
        if found:
            words, labels, places = zip(*found, strict=True)
            yield Record({"words": list(words), "labels": list(labels)}, places[0])


def _words(path: Path) -> Iterator[tuple[str, str, str] | None]:
    """The word, the label and the place of each line; None between sentences."""
    columns = None
    for text, where in file_lines(path):
        if not text.strip() or text.startswith("-DOCSTART-"):
            yield None
            continue
        cells = text.split("\t") if "\t" in text else SPACES.split(text.strip(" "))
        columns = columns or max(len(cells), 2)
        if len(cells) != columns or not cells[0] or not cells[-1].strip():
            raise ValueError(
                f"{where} is {shown(text)}: it has to have {columns} columns, the first of them a word, the last its "
                "label; an empty line ends a sentence"
            )
        yield cells[0], cells[-1].strip(), where
