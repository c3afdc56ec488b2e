"""The first line of a table: does it name the columns, or is it an example? If that cannot be told, it is an error."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from roberta.common.training.data.fields import (
    NEEDED,
    Document,
    Example,
    LabelledText,
    Roles,
    find_roles,
    missing_roles,
)
from roberta.common.training.data.labels import spells_number, split_labels
from roberta.common.training.data.tasks import Task

# The columns of a table without a header, by their number.
ORDERS: dict[Task, dict[int, tuple[str, ...]]] = {
    "mlm": {1: ("text",)},
    "clm": {1: ("text",)},
    "text-classification": {2: ("text", "label"), 3: ("text", "text2", "label")},
}
_SAMPLE = 200  # rows that a guess is made from
_LINES = 3  # that an error shows
_Rows = Sequence[Sequence[str]]


@dataclass
class Header:
    """Names the columns of one table (see `records.table_records`), and watches whether its first row was an example.

    Attributes:
        columns: role -> name or number of the column, as the caller says it.
        said: whether the first line names the columns, as the caller says it; None to tell it by the names in it.
        sample: reads the first rows of the table again, for an error.
        known: labels that cannot be names of columns: those of the training data.
        is_header: what was found; None before.
    """

    task: Task
    columns: Roles
    said: bool | None
    sample: Callable[[], Iterator[Sequence[str]]]
    known: Container[str] = ()
    is_header: bool | None = field(default=None, init=False)
    where: str = field(default="", init=False)
    order: Sequence[str] = field(default=(), init=False)

    def __call__(self, cells: Sequence[str], where: str) -> tuple[Sequence[str], bool]:
        """The names of the columns, and whether the first line is their header.

        Raises:
            ValueError: it cannot be told, or a column that is needed is missing.
        """
        self.where = where
        numbers = [str(number) for number in range(1, len(cells) + 1)]
        by_number = bool(self.columns) and all(name in numbers for name in self.columns.values() if name)
        roles = find_roles(self.task, cells, self.columns)
        named = bool(roles or self.columns) and not by_number
        self.is_header = self.said if self.said is not None else named
        if self.is_header:
            return self._header(cells), True
        order = numbers if self.columns else ORDERS.get(self.task, {}).get(len(cells))
        if order is None or missing_roles(self.task, order, self.columns):
            raise self.error(f"{where} has {len(cells)} columns, and it is not known which is which")
        taken = [cells[order.index(name)] for name in find_roles(self.task, order, self.columns).values()]
        if self.said is None and _names_columns(cells, taken, self.task):
            raise self.error(f"{where} looks like the names of columns, but none of them is known")
        self.order = order
        return order, False

    def shown(self, roles: Roles) -> Roles:
        """The roles; in a table without a header, each with the number of its column."""
        if self.is_header:
            return roles
        return {role: f"column {self.order.index(name) + 1}" for role, name in roles.items()}

    def _header(self, cells: Sequence[str]) -> Sequence[str]:
        repeated = {cell for cell in cells if cell.strip() and cells.count(cell) > 1}
        if repeated:
            raise ValueError(f"{self.where} names two columns {sorted(repeated)[0]!r}; rename one")
        names = [cell if cell.strip() else f"column {number}" for number, cell in enumerate(cells, 1)]
        missing = missing_roles(self.task, names, self.columns)
        if missing:
            said = [f"{self.columns[role]!r}" for role in missing if role in self.columns]
            problem = f"has no column {', '.join(said)}" if said else f"has no column known as the {missing[0]}"
            raise self.error(f"{self.where} {problem}: it names {', '.join(map(repr, cells))}")
        return names

    def watched(self, examples: Iterable[Example]) -> Iterator[Example]:
        """The same examples.

        Raises:
            ValueError: at the end, if the label of the first occurs nowhere else, as if it were the name of a column, or
                if the texts are all numbers.
        """
        labels, texts = _Labels(self.known), _Texts()
        for made in examples:
            if isinstance(made, LabelledText):
                labels.see(made.label)
            texts.see(made)
            yield made
        if self.is_header is False and self.said is None and labels.first_is_alone():
            raise self.error(f"{self.where} may name the columns: its label {labels.first!r} is in no other line")
        if "text" not in self.columns and texts.are_none():
            raise self.error(
                f"{self.where.rpartition(':')[0]}: the column of texts has {texts.first!r} in the first row, and no row "
                "has a text there"
            )

    def error(self, problem: str) -> ValueError:
        """The problem, the first lines, and what the caller can say."""
        rows = list(itertools.islice(self.sample(), _SAMPLE))
        shown = "\n".join(f"    {' | '.join(cells)[:160]}" for cells in rows[:_LINES])
        return ValueError(f"{problem}. The file begins:\n{shown}\n{_way_out(self.task, rows, self.said)}")


def _names_columns(cells: Sequence[str], taken: Sequence[str], task: Task) -> bool:
    """Whether a first line is not an example: a cell of a role is empty, the cells count up, as in pandas' header of
    unnamed columns, or a document looks like a name."""
    counted = [str(number) for number in range(len(cells))]
    if not all(cell.strip() for cell in taken) or (len(cells) > 1 and list(cells) in (counted, ["", *counted[:-1]])):
        return True
    return task in ("mlm", "clm") and re.fullmatch(r"\w[\w-]*( \w[\w-]*)?", taken[0].strip()) is not None


class _Labels:
    """Whether other rows have the label of the first row too."""

    def __init__(self, known: Container[str]) -> None:
        self.first: str | tuple[str, ...] | None = None
        self.others = 0
        self.is_shared = False
        self.known = known
        self._first: set[str] = set()

    def see(self, label: str | tuple[str, ...]) -> None:
        if self.first is None:
            self.first, self._first = label, set(split_labels(label)) | ({label} if isinstance(label, str) else set())
            self.is_shared = not self._first or any(spells_number(one) or one in self.known for one in self._first)
            return
        self.others += 1
        if not self.is_shared:
            self.is_shared = label in self._first or not self._first.isdisjoint(split_labels(label))

    def first_is_alone(self) -> bool:
        return self.others > 0 and not self.is_shared


class _Texts:
    """Whether no row has a text: all are numbers, or different words like "dev-17"."""

    def __init__(self) -> None:
        self.seen: set[str] | None = set()
        self.first = ""

    def see(self, made: Example) -> None:
        if self.seen is None:
            return
        text = made.text if isinstance(made, LabelledText) else _document(made)
        self.first = self.first or text
        is_id = not any(map(str.isspace, text.strip())) and any(map(str.isdigit, text))
        if not is_id or (not spells_number(text) and text in self.seen):
            self.seen = None  # a text after all; the other rows do not matter
        else:
            self.seen.add(text)

    def are_none(self) -> bool:
        return bool(self.seen)


def _document(made: Example) -> str:
    return " ".join(made.sentences) if isinstance(made, Document) else "a text"


def _way_out(task: Task, rows: _Rows, said: bool | None) -> str:
    """What the caller can say for these rows, with a header and without one."""
    if not rows:
        return f"Say which column is which: columns={{{NEEDED[task][0]!r}: 'NAME'}}"
    body = rows[1:] if len(rows) > 1 else rows
    with_ = f"columns={_spelled(task, rows[0], _guess(task, rows[0], body))}"
    numbers = [str(number) for number in range(1, len(rows[0]) + 1)]
    without = f"header=False, columns={_spelled(task, numbers, _guess(task, numbers, rows))}"
    if said is not None:
        return f"Say which column is which, such as {with_ if said else without}"
    return f"If the first line names the columns, say header=True, {with_}; if it is an example, say {without}"


def _spelled(task: Task, names: Sequence[str], found: Roles) -> dict[str, str]:
    """The roles that are needed, each with the column that may be it, or NAME."""
    needed = {role: found.get(role, "NAME") for role in NEEDED[task]}
    return {**needed, **{role: name for role, name in found.items() if role not in needed}}


def _guess(task: Task, names: Sequence[str], rows: _Rows) -> dict[str, str]:
    """Role -> the column that may be it, by its name or by what is in it: a proposal for an error."""
    found = dict(find_roles(task, names, {}))
    if task not in ("mlm", "clm", "text-classification"):
        return found
    columns = [[row[at].strip() for row in rows if at < len(row)] for at in range(len(names))]
    free = [at for at, name in enumerate(names) if name not in found.values() and any(columns[at])]
    label = None if "label" in found else _label_column([(at, columns[at]) for at in free])
    if label is not None and task == "text-classification":
        found["label"] = names[label]
        free.remove(label)
    free = [at for at in free if len(set(columns[at])) > 1] or free
    texts = [at for at in free if _words(columns[at]) >= 2]
    texts = texts or [at for at in free if not all(map(spells_number, columns[at]))]
    if "text" not in found and texts:
        pair = texts if len(texts) == 2 and min(_words(columns[at]) for at in texts) >= 2 else []
        best = pair[0] if pair else max(texts, key=lambda at: (_words(columns[at]), len("".join(columns[at]))))
        found["text"] = names[best]
        if pair and task == "text-classification":
            found.setdefault("text2", names[pair[1]])
    return found


def _words(cells: Sequence[str]) -> float:
    return sum(len(cell.split()) for cell in cells) / max(len(cells), 1)


def _label_column(columns: Sequence[tuple[int, Sequence[str]]]) -> int | None:
    """The column with the fewest different values, of those whose values repeat."""
    full = [(at, cells) for at, cells in columns if all(cells)]
    counts = [
        (len(set(cells)), not all(map(str.isdecimal, cells)), _words(cells), at)
        for at, cells in full
        if 1 < len(set(cells)) < len(cells)
    ]
    if not counts:  # too few rows to see a value twice: the last column that reads like names
        short = [at for at, cells in full if _words(cells) <= 1.5]
        return short[-1] if short else None
    return min(counts)[-1]
