"""Inputs from arguments, files and standard input: lines of text, of columns, of JSON."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from roberta.common.pipelines.columns import SAMPLE, check, header
from roberta.common.pipelines.inputs import shown
from roberta.common.text_commands import FORMATS, Command
from roberta.common.text_files import decoded, lines


def from_arguments(command: Command, texts: Sequence[str], context: Path | None) -> list[Any]:
    """The inputs that are arguments: texts, or one input of several fields."""
    if context is not None:
        text = decoded(context.read_bytes(), str(context))
        return [{"question": question, "context": text} for question in texts]
    if command.needed == 1:
        return list(texts)
    return [_record(command, texts, f"arguments {shown(list(texts))}")]


def from_file(command: Command, path: Path | None, format_: str | None) -> Iterator[Any]:
    """The inputs that are lines of a file, or of standard input, read as they are asked for.

    Raises:
        ValueError: a format that cannot be told; a line that is no UTF-8, no JSON, or has columns that do not fit.
    """
    name = "standard input" if path is None else str(path)
    format_ = format_ or (path.suffix.removeprefix(".") if path else "txt" if command.needed == 1 else "tsv")
    if format_ not in FORMATS:
        raise ValueError(f"{name}: its name does not end in {', '.join(FORMATS)}; say --format")
    return _records(command, path, name, format_)


def _records(command: Command, path: Path | None, name: str, format_: str) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:
        file: BinaryIO = sys.stdin.buffer if path is None else stack.enter_context(path.open("rb"))
        found = lines(file, f"{name} line {{}}")
        if format_ == "txt":
            yield from (text for text, _ in found)
        elif format_ == "jsonl":
            yield from (_parsed(command, text, where) for text, where in found)
        else:
            yield from _columns(command, found, _sample(path))


def _parsed(command: Command, text: str, where: str) -> Any:
    """The input of a line of JSON; other keys than its fields are left out."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where} is no JSON: {error}") from None
    if not isinstance(value, dict):
        return value
    found = {field: value[field] for field in command.fields if field in value}
    return found.get("text") if command.fields == ("text",) else found


def _columns(command: Command, found: Iterator[tuple[str, str]], sample: Sequence[str]) -> Iterator[Any]:
    """The inputs of lines of columns; a first line with their names says which is which.

    Args:
        sample: the first lines, for a look ahead; none where they cannot be read twice.
    """
    columns = None
    for number, (text, where) in enumerate(found):
        cells = text.split("\t")
        if number == 0 and text:
            columns = header(command, cells, where)
            if columns is not None:
                continue
            check(command, [line.split("\t") for line in sample or [text]], where, is_whole=bool(sample))
        yield _record(command, cells, where) if columns is None else columns.input(cells, where)


def _sample(path: Path | None) -> list[str]:
    """The first lines of a file that has something in them; none of what can be read only once."""
    if path is None or not path.is_file():
        return []
    with path.open("rb") as file:
        texts = [raw.decode(errors="replace").rstrip("\r\n") for raw in itertools.islice(file, SAMPLE)]
    return [text for text in (text.removeprefix("\ufeff") for text in texts) if text]


def _record(command: Command, cells: Sequence[str], where: str) -> Any:
    """An input of its fields."""
    fields = ", ".join(command.fields)
    if len(cells) < command.needed or (len(cells) > len(command.fields) and not command.many):
        raise ValueError(
            f"{where}: {len(cells)} columns for {fields}{' ...' if command.many else ''}; a first line that names the "
            "columns lets a file have others"
        )
    if command.fields == ("text",):
        return cells[0]
    if command.many:
        return {command.fields[0]: cells[0], command.fields[1]: list(cells[1:])}
    return dict(zip(command.fields, cells, strict=False))
