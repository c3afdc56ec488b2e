"""The columns of a .tsv file of inputs: which there are, by the names and the rules for tables of a training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from roberta.common.pipelines.inputs import shown
from roberta.common.text_commands import Command
from roberta.common.training.fields import NAMES, chosen_texts, find_roles, numbered_fields
from roberta.common.training.labels import is_number
from roberta.common.training.tasks import Task

# What a column is called in a training -> the field of an input, by the pipeline's task; any other reads texts.
TASKS: dict[str, Task] = {
    "text-classification": "text-classification",
    "question-answering": "question-answering",
    "multiple-choice": "multiple-choice",
}
FIELDS = {"text": "text", "text2": "text_pair", "question": "question", "context": "context", "prompt": "prompt",
          "choices": "choices"}  # fmt: skip
SAMPLE = 200  # lines that a guess is made from
_NAME = re.compile(r"\w[\w-]*")


@dataclass(frozen=True)
class Columns:
    """Which cell of a line is what; see `header`.

    Attributes:
        names: of the columns.
        roles: role -> its column, as in `fields.find_roles`.
    """

    command: Command
    names: tuple[str, ...]
    roles: Mapping[str, str]

    def input(self, cells: Sequence[str], where: str) -> Any:
        """The input of a line.

        Raises:
            ValueError: it has too few columns, or its choices are no list.
        """
        numbered = numbered_fields(self.names) if self.command.many and "choices" not in self.roles else []
        most = max(map(self.names.index, (*self.roles.values(), *numbered)))
        if len(cells) <= most:
            raise ValueError(f"{where} has {len(cells)} columns; the first line names {most + 1} and more")
        row: dict[str, Any] = dict(zip(self.names, cells, strict=False))
        if self.command.many:
            lead = row[self.roles["lead"]] + " " if "lead" in self.roles else ""
            return {
                "prompt": row[self.roles["prompt"]],
                "choices": [lead + one for one in self._choices(cells, row, where)],
            }
        fields = self.command.fields
        found = {FIELDS[role]: row[name] for role, name in self.roles.items() if FIELDS.get(role) in fields}
        return found["text"] if fields == ("text",) else found

    def _choices(self, cells: Sequence[str], row: Mapping[str, Any], where: str) -> list[str]:
        """The choices: those of the last column and all further ones, or a list in one, or numbered columns."""
        is_last = self.roles.get("choices") == self.names[-1]
        rest = list(cells[len(self.names) - 1 :])
        found = rest if is_last and len(rest) > 1 else chosen_texts(row, self.roles)
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise ValueError(
                f"{where} has the choices {shown(found)}; let the column of the choices be the last one, with a choice "
                "in each further column, or give a JSON list of texts"
            )
        return found


def header(command: Command, cells: Sequence[str], where: str) -> Columns | None:
    """The columns that a first line names; None where it names none.

    Raises:
        ValueError: it names some, twice or not all that an input needs.
    """
    task = TASKS.get(command.task, "mlm")
    roles = find_roles(task, cells, {})
    numbered = len(numbered_fields(dict.fromkeys(cells))) if command.many else 0
    if not roles and numbered < 2:
        return None
    role_of = {field: role for role, field in FIELDS.items()}
    for field in command.fields[: command.needed]:
        if role_of[field] not in roles and not (field == "choices" and numbered):
            raise ValueError(
                f"{where} names columns, and none of them is known as the {field}: {', '.join(map(repr, cells))}; call "
                f"it {', '.join(NAMES[task][role_of[field]][:5])}. If it is no line of names, {_way_out(command)}"
            )
    repeated = [cell for cell in cells if cell.strip() and cells.count(cell) > 1]
    if repeated:
        raise ValueError(f"{where} names two columns {repeated[0]!r}; rename one")
    used = {role: name for role, name in roles.items() if role == "lead" or FIELDS.get(role) in command.fields}
    return Columns(command, tuple(cells), used)


def check(command: Command, rows: Sequence[Sequence[str]], where: str, *, is_whole: bool) -> None:
    """Refuse a first line that may be names of columns, and a second column that may be a label.

    Args:
        rows: the first lines; the first one alone where the others are not to be had yet.
        is_whole: whether they are all that can be known.

    Raises:
        ValueError: says what the first line has to be.
    """
    first, rest = rows[0], rows[1:]
    if command.fields == ("text", "text_pair") and all(map(_may_be_label, rows)):
        raise ValueError(
            f"{where}: the second column, {shown(first[1])} and so on, may be a label, and would be read as the second "
            "text of a pair. Put a first line with the names of the columns before it: text and label, divided by a "
            "tab, to leave it out, or text and text_pair to read it"
        )
    others = any(map(_are_names, rest)) or (is_whole and not rest)
    is_odd = command.task == "question-answering" if not is_whole else not others
    if _are_names(first) and is_odd:
        raise ValueError(
            f"{where} may name the columns, and none of its names is known here: {', '.join(map(repr, first))}. If it "
            f"does, put {_names(command)} in its place; if not, {_way_out(command)}"
        )


def _may_be_label(cells: Sequence[str]) -> bool:
    return len(cells) == 2 and (is_number(cells[1]) or _NAME.fullmatch(cells[1].strip()) is not None)


def _are_names(cells: Sequence[str]) -> bool:
    """Whether each cell is one word, as the name of a column is."""
    return all(_NAME.fullmatch(cell.strip()) for cell in cells)


def _names(command: Command) -> str:
    fields = " and ".join(command.fields)
    return f"{fields}, divided by a tab," if len(command.fields) > 1 else fields


def _way_out(command: Command) -> str:
    return f"put a first line with {_names(command)} before it"
