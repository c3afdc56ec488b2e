"""Parquet files as records; needs pyarrow, of the extra `parquet`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from roberta.common.training.data.records import DataRecord, Unusable

_ROWS = 1000  # that are in memory together


def parquet_records(path: Path, unusable: Unusable) -> Iterator[DataRecord]:
    """The rows of a Parquet file, with the values that Python has for them, read as they are asked for.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        ValueError: the file is damaged, or not a Parquet file.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{path} is a Parquet file, and reading it needs pyarrow; pip install 'roberta[parquet]'", name=error.name
        ) from error
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield DataRecord(row, f"{path}, row {number}")
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path} cannot be read as Parquet after row {number}: {error}; restore it") from error
