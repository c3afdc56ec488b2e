"""Data for training, in the formats that people have, as examples of a task."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from roberta.common.training import records
from roberta.common.training.examples import Document, Example
from roberta.common.training.fields import Roles, check_columns, example, find_roles, header_of
from roberta.common.training.records import Record
from roberta.common.training.tasks import HEADS, Task

Format = Literal["txt", "tsv", "csv", "jsonl", "json", "conll"]
SUFFIXES: dict[str, Format] = {
    "txt": "txt", "text": "txt", "raw": "txt", "tsv": "tsv", "csv": "csv", "jsonl": "jsonl", "ndjson": "jsonl",
    "json": "json", "conll": "conll", "bio": "conll", "iob": "conll", "iob2": "conll",
}  # fmt: skip
FORMATS: dict[Task, tuple[Format, ...]] = {
    "mlm": ("txt", "tsv", "csv", "jsonl", "json"),
    "clm": ("txt", "tsv", "csv", "jsonl", "json"),
    "text-classification": ("tsv", "csv", "jsonl", "json"),
    "token-classification": ("conll", "jsonl", "json"),
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
) -> Iterator[Example]:
    """The examples of some data, in its order, read as they are asked for where the format allows.

    Args:
        source: the path of a file; a data set of Hugging Face's `datasets`; or dictionaries, one an example.
        format: of a file; None to tell it by the name.
        header: whether the first line of a table names its columns; None to tell it by the names in it.
        columns: role -> name of the field, where that is none of the usual ones (`fields.NAMES`), or, in a table
            without a header, its number from 1. The roles of "text-classification" are text, text2 and label.

    Raises:
        ValueError: the format cannot be told or is none of the task's; a line is broken, a field is missing, or there
            is no example at all. Says file, line or item, and the way out.
    """
    if task not in HEADS:
        raise ValueError(f"task={task!r} is unknown; it must be one of {', '.join(HEADS)}")
    columns = dict(columns or {})
    check_columns(task, columns)
    if isinstance(source, str | PathLike):
        path = Path(source)
        kind = _format(path, task, format)
        if header is not None and kind not in ("tsv", "csv"):
            raise ValueError(f"header={header}: {path} is read as {kind}, which has none")
        if kind == "txt" and columns:
            raise ValueError(f"columns={columns}: {path} is read as txt, which has no columns")
        found = (
            documents(path) if kind == "txt" else _examples(_records(path, task, kind, header, columns), task, columns)
        )
        return _some(found, str(path))
    if format is not None or header is not None:
        raise ValueError(f"format={format!r} and header={header!r} are for files; leave them out")
    return _some(_examples(rows(source), task, columns), "the data set")


def _examples(found: Iterable[Record], task: Task, columns: Roles) -> Iterator[Example]:
    for record in found:
        made = example(task, record, columns)
        if not isinstance(made, Document) or made.sentences:
            yield made


def _some(examples: Iterator[Example], name: str) -> Iterator[Example]:
    """The examples, of which there must be one."""
    first = next(examples, None)
    if first is None:
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


def _records(path: Path, task: Task, kind: Format, header: bool | None, columns: Roles) -> Iterator[Record]:
    named = header_of(task, columns, header)
    readers: dict[Format, Callable[[Path], Iterator[Record]]] = {
        "tsv": lambda path: records.table(path, "\t", named),
        "csv": lambda path: records.table(path, ",", named),
        "jsonl": records.json_lines,
        "json": records.json_items,
        "conll": records.conll,
    }
    return readers[kind](path)


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
