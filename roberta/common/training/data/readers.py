"""Data for training, in the formats that people have, as examples of a task."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from roberta.common.training.data import records
from roberta.common.training.data.fields import (
    Document,
    Example,
    MultipleChoice,
    Roles,
    check_columns,
    counts_from_1,
    find_roles,
    make_example,
)
from roberta.common.training.data.headers import Header
from roberta.common.training.data.parquet_file import parquet_records
from roberta.common.training.data.records import DataRecord, Reading, Unusable
from roberta.common.training.data.tasks import Task, check_task
from roberta.common.training.data.word_tables import WordTable

Format = Literal["txt", "tsv", "csv", "jsonl", "json", "conll", "parquet"]
SUFFIXES: dict[str, Format] = {
    "txt": "txt", "text": "txt", "raw": "txt", "tsv": "tsv", "csv": "csv", "jsonl": "jsonl", "ndjson": "jsonl",
    "json": "json", "conll": "conll", "bio": "conll", "iob": "conll", "iob2": "conll",
    "parquet": "parquet",
}  # fmt: skip
_FORMATS: dict[Task, tuple[Format, ...]] = {
    "mlm": ("txt", "tsv", "csv", "jsonl", "json", "parquet"),
    "clm": ("txt", "tsv", "csv", "jsonl", "json", "parquet"),
    "text-classification": ("tsv", "csv", "jsonl", "json", "parquet"),
    "token-classification": ("conll", "csv", "jsonl", "json", "parquet"),
    "question-answering": ("json", "jsonl", "csv", "tsv", "parquet"),
    "multiple-choice": ("csv", "tsv", "jsonl", "json", "parquet"),
}
_DOUBT = 0.05  # a chance that is too large to rely on


def read_examples(
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
        columns: role -> name of the field, where that is not one of the usual names (`fields.FIELD_NAMES`), or, in a
            table without a header, its number from 1. The roles of "text-classification" are text, text2 and label.
        known: labels of the training data, which cannot be names of columns.
        unusable: what to do with rows that cannot be used; None makes the first of them an error.
        reading: is filled in with what is found.

    Raises:
        ValueError: the format cannot be told, or the task does not read it; a line is broken, or a field is missing; it
            cannot be told what the first line of a table is; there is no example at all. The error names file, line or
            item, and the way out.
    """
    check_task(task)
    columns = dict(columns or {})
    check_columns(task, columns)
    unusable = unusable or Unusable()
    reading = reading or Reading("", "")
    # data that is not a file
    if not isinstance(source, str | PathLike):
        if format is not None or header is not None:
            raise ValueError(f"format={format!r} and header={header!r} are for files; omit them")
        reading.name, reading.format = "the data set", "data set"
        return _counted(_examples(_rows(source), task, columns, unusable, reading), unusable, reading)
    # a file: what its format cannot have is refused before it is opened
    path = Path(source)
    kind = format_of(path, task, format)
    if header is not None and kind not in ("tsv", "csv", "conll"):
        raise ValueError(f"header={header}: {path} is read as {kind}, which has no header; omit it")
    if kind == "txt" and columns:
        raise ValueError(f"columns={columns}: {path} is read as txt, which has no columns; omit them")
    reading.name, reading.format = str(path), kind
    if kind in ("tsv", "csv") and task != "token-classification":
        found = _table(path, task, kind, header, columns, known, unusable, reading)
    elif kind == "txt":
        found = _documents(path)
    elif kind in ("conll", "csv"):
        words = WordTable(path, columns, header, unusable, reading, is_csv=kind == "csv")
        found = _examples(words.records(), task, {}, unusable, reading)
    else:
        json_records = records.json_items if kind == "json" else records.json_lines
        items = parquet_records(path) if kind == "parquet" else json_records(path, unusable)
        found = _examples(items, task, columns, unusable, reading)
    return _counted(found, unusable, reading)


def _table(
    path: Path, task: Task, kind: Format, header: bool | None, columns: Roles, known: Container[str],
    unusable: Unusable, reading: Reading,
) -> Iterator[Example]:  # fmt: skip
    """The examples of a table with a row an example."""
    delimiter = "\t" if kind == "tsv" else ","
    first = Header(
        task, columns, header, lambda: (row for row, _ in records.cells_of(path, delimiter, Unusable(skip=True))), known
    )
    rows = records.table_records(path, delimiter, first, unusable)
    for made in first.watched(_examples(rows, task, columns, unusable, reading)):
        if reading.is_header is None and first.is_header is not None:
            reading.is_header, reading.columns = first.is_header, first.shown(reading.columns)
        yield made


def _examples(
    found: Iterable[DataRecord], task: Task, columns: Roles, unusable: Unusable, reading: Reading
) -> Iterator[Example]:
    counting = _Counting()
    for record in found:
        with unusable.noted():
            made = make_example(task, record, columns)
            roles = find_roles(task, list(record.value), columns)
            reading.columns = reading.columns or roles
            counting.see(record.value, roles, made)
            if not isinstance(made, Document) or made.sentences:
                yield made
    counting.check()


def _counted(examples: Iterator[Example], unusable: Unusable, reading: Reading) -> Iterator[Example]:
    """The same examples, counted; `ValueError` if there is none."""
    for made in examples:
        reading.rows += 1
        yield made
    check_not_empty(reading, unusable)


def check_not_empty(reading: Reading, unusable: Unusable) -> None:
    """Raise `ValueError` where a file or data set has been read to its end, and had no example."""
    if reading.rows:
        return
    if unusable.count:
        raise ValueError(f"{reading.name} has no row that can be used, such as: {unusable.first[0]}")
    raise ValueError(f"{reading.name} is empty: it has no example; give a file that has some")


@dataclass
class _Counting:
    """Whether the labels of numbered choices show that they count from the number that they are taken to count from.

    A label that counts from 0 is 0 for some example, and one that counts from 1 is the number of the last choice for
    some. If neither occurs, every label may mean the choice next to it.

    Attributes:
        roles: of the first example whose choices count from 1.
        chance: that no example so far would have the label that shows it.
    """

    roles: Roles = field(default_factory=dict)
    chance: float = 1.0
    where: str = ""
    is_shown: bool = False

    def see(self, fields: Mapping[str, Any], roles: Roles, made: Example) -> None:
        """Look at an example of these fields."""
        if self.is_shown or not isinstance(made, MultipleChoice) or not counts_from_1(fields, roles):
            return
        self.roles, self.where = roles, self.where or made.where
        names_fields = roles["label"].lower() != "label"
        self.is_shown = made.label == (len(made.choices) - 1 if names_fields else 0)
        self.chance *= 1 - 1 / len(made.choices)

    def check(self) -> None:
        """Raise `ValueError` if there are enough examples for each choice to be right, and one never is."""
        if self.is_shown or not self.roles or self.chance > _DOUBT:
            return
        label = self.roles["label"]
        counts, other, name = (1, 0, "label") if label.lower() != "label" else (0, 1, "answer")
        never = "the last choice" if counts else "the first choice"
        raise ValueError(
            f"{self.where} and all further examples: {label} is taken to count the choices from {counts}, and {never} is "
            f"never right. If it counts from {other}, rename it {name!r}; if it does count from {counts}, give the choices "
            "as a list in one field, with labels that count from 0"
        )


def format_of(path: Path, task: Task, format: Format | None = None) -> Format:
    """The format of a file, by its name unless it is given.

    Raises:
        ValueError: there is no such file, its format cannot be told, or the task does not read it.
    """
    if not path.is_file():
        raise ValueError(f"{path} is not a file; give the path of one")
    kind = format or SUFFIXES.get(path.suffix[1:].lower())
    if task == "token-classification" and format is None and kind in ("txt", "tsv"):
        kind = "conll"  # the usual names of such files
    if kind is None or (format is not None and format not in get_args(Format)):
        raise ValueError(
            f"{path}: its format {'cannot be told by its name' if format is None else f'{format!r} is unknown'}; say "
            f"format=, for {task} one of {', '.join(_FORMATS[task])}"
        )
    if kind not in _FORMATS[task]:
        raise ValueError(
            f"{path} is read as {kind}, and {task} reads {', '.join(_FORMATS[task])}; say format= if it is one of them"
        )
    return kind


def _documents(path: Path) -> Iterator[Document]:
    """The documents of a text: a line is a sentence, an empty line ends a document.

    White space is stripped from the end of a line, and kept at its beginning.
    """
    for is_empty, group in itertools.groupby(records.file_lines(path), key=lambda line: not line[0].strip()):
        if not is_empty:
            texts, places = zip(*group, strict=True)
            yield Document(tuple(text.rstrip() for text in texts), places[0])


# -- data that is not a file ------------------------------------------------------------------------------------------


def _rows(source: Any) -> Iterator[DataRecord]:
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
            raise ValueError(f"{where} is a {type(row).__name__}; it must be a dictionary of fields")
        yield DataRecord({name: _label_name(value, named.get(name), where) for name, value in row.items()}, where)


def class_names(source: object, task: Task, columns: Roles | None = None) -> tuple[str, ...]:
    """The labels that a data set declares, in the order of their numbers; () for files, and if it declares none."""
    named = {} if isinstance(source, str | PathLike) else _named_columns(source)
    roles = find_roles(task, list(getattr(source, "column_names", None) or []), dict(columns or {}))
    return named.get(roles.get("labels", roles.get("label", "")), ())


def _named_columns(source: object) -> dict[str, tuple[str, ...]]:
    """Column -> names of its `ClassLabel`, which may be inside a list."""
    features = getattr(source, "features", None)
    found = {}
    for column, feature in features.items() if isinstance(features, Mapping) else ():
        while getattr(feature, "names", None) is None and getattr(feature, "feature", None) is not None:
            feature = feature.feature
        if getattr(feature, "names", None) is not None:
            found[column] = tuple(feature.names)
    return found


def _label_name(value: Any, names: tuple[str, ...] | None, where: str) -> Any:
    """A value, or its name where it is the number of one."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if names is None or isinstance(value, str) or value is None:
        return value
    if isinstance(value, Iterable):
        return [_label_name(one, names, where) for one in value]
    if not 0 <= value < len(names):
        raise ValueError(f"{where} has the label {value}, which is not one of its {len(names)} classes; omit it")
    return names[value]
