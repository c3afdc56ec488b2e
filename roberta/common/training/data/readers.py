"""Data for training, in the formats that people have, as examples of a task."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from roberta.common.training.data import records
from roberta.common.training.data.counting import Counting
from roberta.common.training.data.examples import Document, Example
from roberta.common.training.data.fields import Roles, check_columns, example, find_roles
from roberta.common.training.data.headers import Header
from roberta.common.training.data.reading import Reading, Unusable
from roberta.common.training.data.records import Record
from roberta.common.training.data.tasks import HEADS, Task
from roberta.common.training.data.word_tables import WordTable

Format = Literal["txt", "tsv", "csv", "jsonl", "json", "conll"]
SUFFIXES: dict[str, Format] = {
    "txt": "txt", "text": "txt", "raw": "txt", "tsv": "tsv", "csv": "csv", "jsonl": "jsonl", "ndjson": "jsonl",
    "json": "json", "conll": "conll", "bio": "conll", "iob": "conll", "iob2": "conll",
}  # fmt: skip
FORMATS: dict[Task, tuple[Format, ...]] = {
    "mlm": ("txt", "tsv", "csv", "jsonl", "json"),
    "clm": ("txt", "tsv", "csv", "jsonl", "json"),
    "text-classification": ("tsv", "csv", "jsonl", "json"),
    "token-classification": ("conll", "csv", "jsonl", "json"),
    "question-answering": ("json", "jsonl", "csv", "tsv"),
    "multiple-choice": ("csv", "tsv", "jsonl", "json"),
}


def read(
    source: Any,
    task: Task,
    *,
    format: Format | None = None,
    header: bool | None = None,
    columns: Roles | None = None,
    known: Container[str] = (),
    unusable: Unusable | None = None,
    reading: Reading | None = None,
) -> Iterator[Example]:
    """The examples of some data, in its order, read as they are asked for where the format allows.

    Args:
        source: the path of a file; a data set of Hugging Face's `datasets`; or dictionaries, one an example.
        format: of a file; None to tell it by the name.
        header: whether the first line of a table names its columns; None to tell it by the names in it.
        columns: role -> name of the field, where that is none of the usual ones (`fields.NAMES`), or, in a table
            without a header, its number from 1. The roles of "text-classification" are text, text2 and label.
        known: labels of the training data, which are no names of columns.
        unusable: what becomes of rows that cannot be used; None makes the first of them an error.
        reading: is filled in with what is found.

    Raises:
        ValueError: the format cannot be told or is none of the task's; a line is broken, a field is missing, what the
            first line of a table is cannot be told, or there is no example at all. Says file, line or item, and the way
            out.
    """
    if task not in HEADS:
        raise ValueError(f"task={task!r} is unknown; it must be one of {', '.join(HEADS)}")
    columns = dict(columns or {})
    check_columns(task, columns)
    unusable = unusable or Unusable()
    if isinstance(source, str | PathLike):
        path = Path(source)
        kind = _format(path, task, format)
        if header is not None and kind not in ("tsv", "csv", "conll"):
            raise ValueError(f"header={header}: {path} is read as {kind}, which has none")
        if kind == "txt" and columns:
            raise ValueError(f"columns={columns}: {path} is read as txt, which has no columns")
        reading = _begun(reading, str(path), kind)
        if kind in ("tsv", "csv") and task != "token-classification":
            found = _table(path, task, kind, header, columns, known, unusable, reading)
        else:
            found = _plain(path, task, kind, header, columns, unusable, reading)
        return _some(found, str(path), unusable)
    if format is not None or header is not None:
        raise ValueError(f"format={format!r} and header={header!r} are for files; leave them out")
    reading = _begun(reading, "the data set", "data set")
    return _some(_examples(rows(source), task, columns, unusable, reading), "the data set", unusable)


def _begun(reading: Reading | None, name: str, format: str) -> Reading:
    reading = Reading(name, format) if reading is None else reading
    reading.name, reading.format = name, format
    return reading


def _table(
    path: Path, task: Task, kind: Format, header: bool | None, columns: Roles, known: Container[str],
    unusable: Unusable, reading: Reading,
) -> Iterator[Example]:  # fmt: skip
    """The examples of a table with a row an example."""
    delimiter = "\t" if kind == "tsv" else ","
    first = Header(
        task, columns, header, lambda: (row for row, _ in records.cells_of(path, delimiter, Unusable(skip=True))), known
    )
    rows = records.table(path, delimiter, first, unusable)
    for made in first.watched(_examples(rows, task, columns, unusable, reading)):
        if reading.is_header is None and first.is_header is not None:
            reading.is_header, reading.columns = first.is_header, first.shown(reading.columns)
        yield made


def _plain(
    path: Path, task: Task, kind: Format, header: bool | None, columns: Roles, unusable: Unusable, reading: Reading
) -> Iterator[Example]:
    """The examples of a file of any other kind."""
    if kind == "txt":
        return _counted(documents(path), reading)
    if kind in ("conll", "csv"):
        table = WordTable(path, columns, header, unusable, reading, is_csv=kind == "csv")
        return _examples(table.records(), task, {}, unusable, reading)
    lines = records.json_lines if kind == "jsonl" else records.json_items
    return _examples(lines(path, unusable), task, columns, unusable, reading)


def _examples(
    found: Iterable[Record], task: Task, columns: Roles, unusable: Unusable, reading: Reading
) -> Iterator[Example]:
    counting = Counting()
    for record in found:
        try:
            made = example(task, record, columns)
        except ValueError as error:
            unusable.note(error)
            continue
        if not reading.columns:
            reading.columns = find_roles(task, list(record.value), columns)
        if task == "multiple-choice":
            counting.see(record.value, find_roles(task, list(record.value), columns), made)
        if not isinstance(made, Document) or made.sentences:
            reading.rows += 1
            yield made
    counting.check()


def _counted(found: Iterable[Example], reading: Reading) -> Iterator[Example]:
    for made in found:
        reading.rows += 1
        yield made


def _some(examples: Iterator[Example], name: str, unusable: Unusable) -> Iterator[Example]:
    """The examples, of which there must be one."""
    first = next(examples, None)
    if first is None:
        if unusable.count:
            raise ValueError(f"{name} has no row that can be used, such as: {unusable.first[0]}")
        raise ValueError(f"{name} is empty: it has no example; give a file that has some")
    yield first
    yield from examples


def _format(path: Path, task: Task, format: Format | None) -> Format:
    """The format of a file."""
    if not path.is_file():
        raise ValueError(f"{path} is no file; give the path of one")
    kind = format or SUFFIXES.get(path.suffix[1:].lower())
    if task == "token-classification" and format is None and kind in ("txt", "tsv"):
        kind = "conll"  # the usual names of such files
    if kind is None or (format is not None and format not in get_args(Format)):
        raise ValueError(
            f"{path}: its format {'cannot be told by its name' if format is None else f'{format!r} is unknown'}; say "
            f"format=, for {task} one of {', '.join(FORMATS[task])}"
        )
    if kind not in FORMATS[task]:
        raise ValueError(
            f"{path} is read as {kind}, and {task} reads {', '.join(FORMATS[task])}; say format= if it is one of them"
        )
    return kind


def documents(path: Path) -> Iterator[Document]:
    """The documents of a text: a line is a sentence, an empty line ends a document.

    White space at the end of a line is left out; that at its beginning is kept.
    """
    for is_empty, group in itertools.groupby(records.file_lines(path), key=lambda line: not line[0].strip()):
        if not is_empty:
            texts, places = zip(*group, strict=True)
            yield Document(tuple(text.rstrip() for text in texts), places[0])


def rows(source: Any) -> Iterator[Record]:
    """The rows of a data set or of a list of dictionaries; labels that are numbers of a `ClassLabel` are named."""
    if isinstance(source, Mapping):
        raise ValueError(f"the data set is a mapping of {', '.join(map(str, source))}; give one of its values")
    if not isinstance(source, Iterable) and not hasattr(source, "__getitem__"):
        raise ValueError(f"the data is a {type(source).__name__}; give a path, a data set or a list of dictionaries")
    named = _named_columns(source)
    found = source if isinstance(source, Iterable) else (source[number] for number in range(len(source)))
    for number, row in enumerate(found, 1):
        where = f"the data set, item {number}"
        if not isinstance(row, Mapping):
            raise ValueError(f"{where} is a {type(row).__name__}; it has to be a dictionary of fields")
        yield Record({field: _name(value, named.get(field), where) for field, value in row.items()}, where)


def class_names(source: Any, task: Task, columns: Roles | None = None) -> tuple[str, ...]:
    """The labels that a data set declares, in the order of their numbers; () for files and those that declare none."""
    named = {} if isinstance(source, str | PathLike) else _named_columns(source)
    roles = find_roles(task, list(getattr(source, "column_names", None) or []), dict(columns or {}))
    return named.get(roles.get("labels", roles.get("label", "")), ())


def _named_columns(source: Any) -> dict[str, tuple[str, ...]]:
    """Column -> names of its `ClassLabel`, which may be inside of a list."""
    features = getattr(source, "features", None)
    found = {}
    for column, feature in features.items() if isinstance(features, Mapping) else ():
        while getattr(feature, "names", None) is None and getattr(feature, "feature", None) is not None:
            feature = feature.feature
        if getattr(feature, "names", None) is not None:
            found[column] = tuple(feature.names)
    return found


def _name(value: Any, names: tuple[str, ...] | None, where: str) -> Any:
    """A value, or its name where it is the number of one."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if names is None or isinstance(value, str) or value is None:
        return value
    if isinstance(value, Iterable):
        return [_name(one, names, where) for one in value]
    if not 0 <= value < len(names):
        raise ValueError(f"{where} has the label {value}, which is none of its {len(names)} classes; leave it out")
    return names[value]
