"""What was read of some data, and what became of rows that cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SHOWN = 3  # reasons that are kept


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
        """A row cannot be used.

        Raises:
            ValueError: such rows are not to be skipped.
        """
        if self.skip is None:
            raise error
        if not self.skip:
            raise ValueError(f"{error}; or skip all rows that cannot be used with skip_unusable=True") from error
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(str(error))


@dataclass
class Reading:
    """How one file or data set was read; filled in while it is.

    Attributes:
        name: its path, or "the data set".
        format: of a file; "data set" of data that is no file.
        is_header: whether the first line of a table names its columns; None where it is no table.
        columns: what was taken -> the name or the number of its column, as the first row has it.
        rows: examples.
    """

    name: str
    format: str
    is_header: bool | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    rows: int = 0
