"""The files of a batch job: its shards, their rows, and the results beside the columns of each row.

A shard is a piece of an input file, small enough for its results to stay in memory, and becomes one file of the output
folder. A file takes its name when it is whole, so a file that is there is a finished shard.
"""

from __future__ import annotations

import glob
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from roberta.common.training.data import records
from roberta.common.training.data.parquet_file import arrow_modules, open_parquet, python_rows, row_batches

JOB_SUFFIXES = (".parquet", ".jsonl")
_BLOCK = 2**20  # bytes of a file in memory while its lines are counted

# Types of results in parquet, so that all shards that have one have the same, also for a text without an entity.
_TEXTS = ("label", "word", "entity", "entity_group", "token_str", "sequence", "answer", "generated_text", "choice")
_INTEGERS = ("index", "start", "end", "token")
# What a result has in a shard in which no row has one.
_ENTITY = {"none": ("entity", "score", "index", "word", "start", "end")}
_GROUP = ("entity_group", "score", "word", "start", "end")


class Shard(NamedTuple):
    """A piece of an input file.

    Attributes:
        file: the input.
        start: of the piece: a row of a parquet file, a byte of JSON lines. stop: the first one behind it.
        row: the number of its first row in the file, from 0.
        name: of its file in the output folder.
    """

    file: str
    start: int
    stop: int
    row: int
    name: str


class JobRow(NamedTuple):
    """A row of an input file: its columns, and where it is; an error in place of columns that cannot be read."""

    columns: Mapping[str, Any]
    where: str
    error: ValueError | None = None


def find_inputs(patterns: Sequence[str]) -> list[Path]:
    """The files of names and patterns, each once, in order.

    Raises:
        ValueError: there is none, or its format is not known.
    """
    found: dict[str, Path] = {}
    for pattern in patterns:
        names = [pattern] if Path(pattern).is_file() else sorted(glob.glob(pattern, recursive=True))
        files = [Path(name) for name in names if Path(name).is_file()]
        if not files:
            raise ValueError(f"--input {pattern}: there is no such file")
        found.update((os.path.abspath(path), path) for path in files)
    for path in found.values():
        if path.suffix.lower() not in JOB_SUFFIXES:
            raise ValueError(
                f"--input {path} must end in {' or '.join(JOB_SUFFIXES)}; other formats are read with --file, one at a time"
            )
    return list(found.values())


def shards_of(files: Sequence[Path], rows: int) -> list[Shard]:
    """All shards of at most `rows` rows, in order. A file below a folder that not all share keeps that folder's name."""
    folders = [Path(os.path.abspath(path)).parent for path in files]  # links are not followed: names are the caller's
    shared = next(
        parent for parent in (folders[0], *folders[0].parents) if all(one.is_relative_to(parent) for one in folders)
    )
    found: list[Shard] = []
    for path, folder in zip(files, folders, strict=True):
        cuts = _row_cuts(path, rows) if path.suffix.lower() == ".parquet" else _line_cuts(path, rows)
        pieces = max(len(cuts) - 1, 1)
        for number in range(pieces):
            piece = f"-{number:05}-of-{pieces:05}" if pieces > 1 else ""
            name = (folder.relative_to(shared) / f"{path.stem}{piece}{path.suffix}").as_posix()
            start, stop = cuts[number], cuts[min(number + 1, len(cuts) - 1)]
            found.append(Shard(str(path), start, stop, number * rows, name))
    names = [shard.name for shard in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        same = sorted({shard.file for shard in found if shard.name == twice})
        raise ValueError(f"the results of {' and '.join(same)} would have one name, {twice}; rename one of the files")
    return found


def _row_cuts(path: Path, rows: int) -> list[int]:
    """The first row of each shard of a parquet file, and the number of all rows."""
    total = open_parquet(path).metadata.num_rows
    return [*range(0, total, rows), total] if total else [0, 0]


def _line_cuts(path: Path, rows: int) -> list[int]:
    """The first byte of each shard of a file of lines, and the number of all bytes."""
    cuts, lines, done = [0], 0, 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
            ends = found[rows - 1 - lines % rows :: rows] + done + 1
            cuts += [int(end) for end in ends]
            lines += len(found)
            done += len(block)
    return cuts if cuts[-1] == done and len(cuts) > 1 else [*cuts, done]


def rows_of_shard(shard: Shard) -> Iterator[JobRow]:
    """The rows of a shard, in order."""
    path = Path(shard.file)
    if path.suffix.lower() == ".parquet":
        number = shard.row
        for batch in row_batches(path, shard.start, shard.stop):
            for columns in python_rows(batch):
                number += 1
                yield JobRow(columns, f"{path} row {number}")
        return
    with path.open("rb") as file:
        file.seek(shard.start)
        line = shard.row
        while file.tell() < shard.stop:
            raw = file.readline()
            line += 1
            if raw.strip():
                yield _row_of_line(raw, f"{path} line {line}")


def _row_of_line(raw: bytes, where: str) -> JobRow:
    """The row of a line of JSON: an object's fields, or a text by itself."""
    try:
        value = records.parsed(records.decoded(raw, where).removeprefix("\ufeff"), where)
        if not isinstance(value, str | dict):
            raise ValueError(f"{where} must be a JSON object or a text, not {json.dumps(value)[:50]}")
    except ValueError as error:
        return JobRow({"line": raw.decode(errors="replace").rstrip("\r\n")}, where, error)
    return JobRow({"text": value} if isinstance(value, str) else value, where)


def write_rows(
    shard: Shard, results: Sequence[Mapping[str, Any]], columns: Sequence[Mapping[str, Any]], *, aggregation: str
) -> Iterable[bytes]:
    """The content of a shard's output file: for each row its columns, then its results.

    Args:
        aggregation: of entities, "none" for one of each token.
    """
    if shard.name.lower().endswith(".jsonl"):
        rows = ({**row, **result} for row, result in zip(columns, results, strict=True))
        return map(_line, rows)
    arrow, parquet = arrow_modules()
    table = arrow.Table.from_batches(
        list(row_batches(Path(shard.file), shard.start, shard.stop)), open_parquet(Path(shard.file)).schema_arrow
    )
    for name in dict.fromkeys(name for result in results for name in result):
        values = [result.get(name) for result in results]
        array = arrow.array([_plain(one) for one in values], _arrow_type(arrow, name, values, aggregation))
        table = table.append_column(name, array)
    held = io.BytesIO()
    parquet.write_table(table, held)
    return [held.getvalue()]


def _line(row: Mapping[str, Any]) -> bytes:
    """A row as a line of JSON; half a character, which UTF-8 does not have, is escaped as JSON has it."""
    try:
        return f"{json.dumps(row, ensure_ascii=False, default=_plain)}\n".encode()
    except UnicodeEncodeError:
        return f"{json.dumps(row, default=_plain)}\n".encode()


def _plain(value: Any) -> Any:
    """An array as a list; what JSON has no name for, such as a date, as text."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value if value is None or isinstance(value, str | int | float | list | dict | bool) else str(value)


def _arrow_type(arrow: Any, name: str, values: Sequence[Any], aggregation: str) -> Any:
    """The type of a column of results."""
    plain = re.sub("^(?:result_)+", "", name)
    first = next((value for value in values if value is not None), None)
    if isinstance(first, np.ndarray):
        return arrow.list_(arrow.from_numpy_dtype(first.dtype))
    if isinstance(first, list) and plain not in ("labels", "scores"):
        return _list_type(arrow, values, aggregation)
    if plain == "labels":
        return arrow.list_(arrow.string())
    return arrow.list_(arrow.float64()) if plain == "scores" else _field_type(arrow, plain)


def _field_type(arrow: Any, name: str) -> Any:
    return arrow.int64() if name in _INTEGERS else arrow.float64() if name == "score" else arrow.string()


def _list_type(arrow: Any, values: Sequence[Any], aggregation: str) -> Any:
    """The type of lists of records; of lists of such lists where a row has several masks."""
    first = next((value[0] for value in values if value), None)
    if isinstance(first, list):
        return arrow.list_(_list_type(arrow, [first], aggregation))
    names = _ENTITY.get(aggregation, _GROUP) if first is None else tuple(first)
    return arrow.list_(arrow.struct([(name, _field_type(arrow, name)) for name in names]))
