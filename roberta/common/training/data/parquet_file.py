"""Parquet files, of corpora and of batch jobs; needs pyarrow, of the extra `parquet`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from roberta.common.libraries import library
from roberta.common.storage.folders import CheckpointError
from roberta.common.training.data.records import DataRecord

_ROWS = 1024  # that are in memory together


def arrow_modules() -> tuple[Any, Any]:
    """The modules `pyarrow` and `pyarrow.parquet`.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
    """
    needed_by, way_out = "Parquet files", "pip install 'roberta[parquet]', or give JSON lines"
    return library("pyarrow", needed_by, way_out), library("pyarrow.parquet", needed_by, way_out)


def open_parquet(path: Path) -> Any:
    """A Parquet file, opened.

    Raises:
        CheckpointError: it is damaged. ModuleNotFoundError: pyarrow is not installed.
    """
    arrow, parquet = arrow_modules()
    try:
        return parquet.ParquetFile(path)
    except arrow.ArrowInvalid as error:
        raise CheckpointError(f"{path} is not a whole Parquet file ({error}); write it again") from error


def row_batches(path: Path, start: int = 0, stop: int | None = None) -> Iterator[Any]:
    """Rows `start` to `stop`, a few at a time; row groups without any of them are not read.

    Raises:
        CheckpointError: the file is damaged.
    """
    (arrow, _), file = arrow_modules(), open_parquet(path)
    end = file.metadata.num_rows if stop is None else stop
    first = 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if first < end and first + count > start:
            row = first
            for batch in _whole(file.iter_batches(_ROWS, row_groups=[group]), path, arrow):
                low, high = max(start - row, 0), min(end - row, len(batch))
                if low < high:
                    yield batch.slice(low, high - low)
                row += len(batch)
        first += count


def python_rows(batch: Any) -> Iterator[dict[str, Any]]:
    """The rows of a batch as dictionaries; what Python has no value for, such as nanoseconds, as text."""
    columns = []
    for column in batch.columns:
        try:
            columns.append(column.to_pylist())
        except ValueError:
            columns.append(column.cast("string").to_pylist())
    names = batch.schema.names
    return (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))


def parquet_records(path: Path) -> Iterator[DataRecord]:
    """The rows of a Parquet file, read as they are asked for; they count from 1.

    Raises:
        CheckpointError: the file is damaged, or not a Parquet file. ModuleNotFoundError: pyarrow is not installed.
    """
    number = 0
    for batch in row_batches(path):
        for row in python_rows(batch):
            number += 1
            yield DataRecord(row, f"{path}, row {number}")


def _whole(batches: Iterator[Any], path: Path, arrow: Any) -> Iterator[Any]:
    """Batches, of whose damage the error names the file."""
    try:
        yield from batches
    except (arrow.ArrowException, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as Parquet ({error}); write it again") from error
