"""The columns of a table of inputs, and the fields of a JSON object, by the names and the rules of training data."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from roberta.common.commands.text_options import Command
from roberta.common.pipelines.inputs import shown
from roberta.common.training.data.fields import (
    FIELD_NAMES,
    Roles,
    chosen_texts,
    find_roles,
    numbered_fields,
    structured,
)
from roberta.common.training.data.headers import ORDERS
from roberta.common.training.data.labels import spells_number
from roberta.common.training.data.tasks import Task

# Task of a pipeline -> task of the training whose data has the same fields; all others read texts.
_TASKS: dict[str, Task] = {
    "text-classification": "text-classification",
    "question-answering": "question-answering",
    "multiple-choice": "multiple-choice",
    "zero-shot-classification": "text-classification",
}
# Role of a column in training data -> field of an input.
_FIELDS = {"text": "text", "text2": "text_pair", "question": "question", "context": "context", "prompt": "prompt",
          "choices": "choices", "candidate_labels": "candidate_labels"}  # fmt: skip
_ROLES = {name: role for role, name in _FIELDS.items()}
_IDS = ("id", "qid", "question_id", "guid", "idx", "uid", "uuid")  # usual names of a field that identifies an input
SAMPLE_LINES = 200  # lines that a guess is based on
_NAME = re.compile(r"\w[\w-]*")


class Given(NamedTuple):
    """An input.

    Attributes:
        value: for the pipeline; an error where the input could not be read.
        beside: its id and its texts under their names in a file; None for a text without a name.
    """

    value: Any
    beside: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Said:
    """What the caller says about a file's columns.

    Attributes:
        header: whether the first line of a table names them; None to tell by the names in it.
        columns: role, or field of an input -> name of the column, or its number from 1; "" for none.
    """

    header: bool | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    def roles(self, command: Command) -> dict[str, str]:
        """The columns by role.

        Raises:
            ValueError: the command lacks a role.
        """
        found = {_ROLES.get(role, role): name for role, name in self.columns.items()}
        usual = command.fields if command.named_fields else FIELD_NAMES[_task_of(command)]
        known = [*usual, *command.named_fields, "id"]
        for role, name in found.items():
            if role not in known:
                raise ValueError(f"--columns {role}={name}: {command.task} has {', '.join(map(repr, known))}")
        return found

    @property
    def id(self) -> str | None:
        """The column of the id, if given."""
        return self.columns.get("id")


def _task_of(command: Command) -> Task:
    """The task of the training whose data has the fields of a command's inputs."""
    return _TASKS.get(command.task, "mlm")


@dataclass(frozen=True)
class Columns:
    """The role of each field.

    Attributes:
        names: of the columns of a table, in order; numbers where the first line is an input.
        roles: role -> its column, as in `fields.find_roles`, without those that only training data has.
        id: the field that identifies an input.
        is_header: whether the first line names the columns.
    """

    command: Command
    names: tuple[str, ...]
    roles: Roles
    id: str | None = None
    is_header: bool = True

    def of_cells(self, cells: Sequence[str], where: str) -> Given:
        """The input of a line.

        Raises:
            ValueError: it has too few columns, or its choices are not a list.
        """
        most = max(map(self.names.index, [*self.roles.values(), *self._numbered(self.names)]), default=0)
        if len(cells) <= most:
            raise ValueError(f"{where} has {len(cells)} columns; the first line names at least {most + 1}")
        rest = list(cells[len(self.names) - 1 :])
        row: dict[str, Any] = dict(zip(self.names, cells, strict=False))
        if self.roles.get("choices") == self.names[-1] and len(rest) > 1:
            row[self.names[-1]] = rest  # all columns from the last named one on
        return self.of_record(row, where)

    def of_record(self, row: Mapping[str, Any], where: str) -> Given:
        """The input of named fields."""
        ids = [self.id] if self.id is not None else []
        roles = {role: name for role, name in self.roles.items() if role not in self.command.named_fields}
        taken = {name: row[name] for name in (*ids, *roles.values(), *self._numbered(row)) if name in row}
        if not self.is_header:
            taken = {_FIELDS[role]: row[name] for role, name in roles.items() if role in _FIELDS}
        if self.command.many:
            lead = f"{row[self.roles['lead']]} " if "lead" in self.roles else ""
            choices = [lead + one for one in self._choices(row, where)]
            return Given({"prompt": row[self.roles["prompt"]], "choices": choices}, taken)
        found = {_FIELDS[role]: row[name] for role, name in roles.items()}
        for field_ in self.command.named_fields:  # a cell of labels may spell a list
            if field_ in self.roles:
                found[field_] = structured(row[self.roles[field_]])
        return Given(found[self.command.fields[0]] if len(self.command.fields) == len(found) == 1 else found, taken)

    def _numbered(self, names: Iterable[str]) -> list[str]:
        """The fields with a choice each."""
        return numbered_fields(names) if self.command.many and "choices" not in self.roles else []

    def _choices(self, row: Mapping[str, Any], where: str) -> list[str]:
        """The choices: a list, or those of numbered fields."""
        found = chosen_texts(row, self.roles)
        if isinstance(found, Mapping) and "text" in found:  # as CommonsenseQA has them
            found = found["text"]
        if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
            raise ValueError(
                f"{where} has the choices {shown(found)}; make the column of the choices the last one, with one "
                "choice in each further column, or give a JSON list of texts"
            )
        return found


def of_object(command: Command, value: Mapping[str, Any], where: str, said: Said) -> Given:
    """The input of a JSON object.

    Raises:
        ValueError: it lacks a field.
    """
    names = [name for name in value if isinstance(name, str)]
    own = {_ROLES[name]: name for name in command.fields if name in value}
    columns = {**own, **said.roles(command)}
    found = _columns(command, names, columns, said, where=where)
    if found is None:
        first = next(
            one for one in command.fields if one == "choices" or _ROLES[one] in _missing(command, names, columns)
        )
        raise ValueError(
            f"{where} has no {first}: its fields are {', '.join(names) or 'none'}; {_naming(command, first)}"
        )
    return found.of_record(value, where)


def header(
    command: Command, rows: Sequence[Sequence[str]], where: str, said: Said, *, is_whole: bool
) -> Columns | None:
    """The columns of a table; None for the fields of an input in their order.

    Args:
        rows: the first lines; only the first where the others cannot be read yet.
        is_whole: whether more lines would not help.

    Raises:
        ValueError: the first line names a column twice, or lacks one that an input needs; or we cannot tell whether it
            names any. The message names the option that settles it.
    """
    # does the first line name columns?
    cells, columns = rows[0], said.roles(command)
    numbers = [str(number) for number in range(1, len(cells) + 1)]
    asked = [name for name in columns.values() if name]
    by_number = bool(asked) and set(asked) <= set(numbers)
    roles = find_roles(_task_of(command), cells, columns)
    named = bool(roles or (said.id and said.id in cells))
    named = named or (command.many and len(numbered_fields(dict.fromkeys(cells))) > 1)
    if said.header or (said.header is None and not by_number and (named or asked)):
        return _named(command, cells, columns, said, where)
    # it does not: columns go by the caller's numbers, or by their order
    if asked or columns.keys() - {"id"}:
        found = _columns(command, numbers, columns, said, where=where, is_header=False)
        if found is None:
            missing = _FIELDS[_missing(command, numbers, columns)[0]]
            raise ValueError(f"{where} has {len(cells)} columns, and none is said to be the {missing}; "
                             f"say --columns {missing}=NUMBER")  # fmt: skip
        return found
    if command.fields == ("text", "text_pair"):
        return _texts_and_labels(command, rows, where, is_header_said=said.header is not None)
    if said.header is None:
        _check_names(command, rows, where, is_whole=is_whole)
    return None


def _named(command: Command, cells: Sequence[str], columns: Roles, said: Said, where: str) -> Columns:
    """The columns that a first line names."""
    found = _columns(command, cells, columns, said, where=where)
    repeated = [cell for cell in cells if cell.strip() and cells.count(cell) > 1]
    if found is None:
        missing = _FIELDS[_missing(command, cells, columns)[0]]
        raise ValueError(
            f"{where} names columns, and none of them is known as the {missing}: {', '.join(map(repr, cells))}; "
            f"{_naming(command, missing)}. If it is not a line of names, {_way_out(command)}"
        )
    if repeated:
        raise ValueError(f"{where} names two columns {repeated[0]!r}; rename one")
    return found


def _columns(
    command: Command, names: Sequence[str], columns: Roles, said: Said, *, where: str, is_header: bool = True
) -> Columns | None:
    """The columns with some names; None where one that an input needs is missing."""
    for role, name in columns.items():
        if name and name not in names and not (role == "choices" and set(name.split(",")) <= set(names)):
            raise ValueError(f"{where} has no column {name!r} for the {role!r}; there are {', '.join(names)}")
    if _missing(command, names, columns):
        return None
    used = {role: name for role, name in find_roles(_task_of(command), list(names), columns).items()
            if role == "lead" or _FIELDS.get(role) in (*command.fields, *command.named_fields)}  # fmt: skip
    usual = next((name for name in names if name.strip().lower() in _IDS), None)
    id_ = usual if said.id is None else said.id or None
    return Columns(command, tuple(names), used, id_, is_header)


def _missing(command: Command, names: Sequence[str], columns: Roles) -> list[str]:
    """The roles that an input needs and that no column has."""
    roles = find_roles(_task_of(command), list(names), columns)
    needed = [_ROLES[name] for name in command.fields[: command.needed]]
    numbered = numbered_fields(names) if command.many else []
    return [role for role in needed if role not in roles and not (role == "choices" and numbered)]


def _texts_and_labels(
    command: Command, rows: Sequence[Sequence[str]], where: str, *, is_header_said: bool
) -> Columns | None:
    """The columns of a table for `classify` without a header: texts, pairs, or texts with labels, as for a training.

    Raises:
        ValueError: we cannot tell whether the second column is a label.
    """
    size = len(rows[0])
    order = ORDERS["text-classification"].get(size)
    if order is not None and all(len(cells) == size and _may_be_label(cells[-1]) for cells in rows):
        labels = [cells[-1].strip() for cells in rows]
        if size == 3 or len(set(labels)) < len(labels):
            warnings.warn(
                f"{where}: the last of {size} columns is taken for a label, as in a training, and left out; "
                f"--no-header --columns text=1 text2=2 reads two texts",
                stacklevel=2,
            )
            numbers = tuple(str(number) for number in range(1, size + 1))
            roles = {role: number for role, number in zip(order, numbers, strict=True) if role != "label"}
            return Columns(command, numbers, roles, is_header=False)
        raise ValueError(
            f"{where}: the second column, {shown(rows[0][1])} and so on, may be a label, and would be read as the second "
            "text of a pair. Say --no-header --text-column 1 to leave it out, or --no-header --columns text=1 text2=2 "
            "to read it; or put a first line with the names of the columns before it: text and label, or text and "
            "text_pair, divided by a tab"
        )
    if not is_header_said:
        _check_names(command, rows, where, is_whole=len(rows) > 1)
    return None


def _check_names(command: Command, rows: Sequence[Sequence[str]], where: str, *, is_whole: bool) -> None:
    """Refuse a first line that may name columns.

    Raises:
        ValueError: names the option that settles it.
    """
    first, rest = rows[0], rows[1:]
    others = any(map(_are_names, rest)) or (is_whole and not rest)
    is_odd = command.task == "question-answering" if not is_whole else not others
    if _are_names(first) and is_odd:
        raise ValueError(
            f"{where} may name the columns, and none of its names is known here: {', '.join(map(repr, first))}. If it "
            f"does, say which is which with {_options(command, 'NAME')}, or put {_names(command)} in its place; if not, "
            f"{_way_out(command)}"
        )


def _may_be_label(cell: str) -> bool:
    return spells_number(cell) or _NAME.fullmatch(cell.strip()) is not None


def _are_names(cells: Sequence[str]) -> bool:
    """Whether each cell is one word, like the name of a column."""
    return all(_NAME.fullmatch(cell.strip()) for cell in cells)


def _names(command: Command) -> str:
    fields = " and ".join(command.fields)
    return f"{fields}, divided by a tab," if len(command.fields) > 1 else fields


def _options(command: Command, name: str) -> str:
    """The option that says which column the first field is in, and those of the others."""
    fields = command.fields[: command.needed]
    if fields == ("text",):
        return f"--text-column {name}"
    return "--columns " + " ".join(f"{one}={name}" for one in fields)


def _naming(command: Command, missing: str) -> str:
    """The way out where a column or field is not recognised."""
    usual = ", ".join(FIELD_NAMES[_task_of(command)][_ROLES[missing]][:5])
    option = "--text-column NAME" if missing == "text" else f"--columns {missing}=NAME"
    return f"call it {usual}, or say {option}"


def _way_out(command: Command) -> str:
    return f"say --no-header, or put a first line with {_names(command)} before it"
