"""Messages name arguments as Python spells them; `in_options` spells them as the command line does."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Collection, Mapping

# Quoted text is data, and stays unchanged. A quote after a letter is an apostrophe.
_QUOTED = r"""(?<!\w)'(?:[^'\\\n]|\\.)*'|(?<!\w)"(?:[^"\\\n]|\\.)*\""""
_VALUE = rf"""\[[^\]\n]*\]|\{{[^}}\n]*\}}|{_QUOTED}|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|-?[\w./+-]*[\w/]|"""
_COLUMN_OPTIONS = {"text": "--text-column", "words": "--text-column", "label": "--label-column",
                  "labels": "--label-column"}  # fmt: skip


def option_of(argument: str) -> str:
    """The usual option of an argument."""
    return f"--{argument.replace('_', '-')}"


def in_options(message: str, names: Collection[str]) -> str:
    """A message with options instead of arguments; lines that begin with four spaces are data, and stay unchanged.

    Args:
        names: of the arguments that are options too; a mapping also has the option of each.

    Example: "give labels=['a', 'b'], or keep_labels=True" -> "give --labels a b, or --keep-labels".
    """
    said = rf"(?<![\w.-])(?P<name>{'|'.join(names)})=(?P<value>{_VALUE})"
    bare = rf"(?<![\w./-])(?P<bare>{'|'.join(name for name in names if '_' in name) or '(?!)'})(?![\w=/(.]\w|[=/(])"
    argument = re.compile(rf"(?P<quoted>{_QUOTED})|{said}|{bare}")
    options = names if isinstance(names, Mapping) else {name: option_of(name) for name in names}
    lines = message.split("\n")
    return "\n".join(line if line.startswith("    ") else _line(line, argument, options) for line in lines)


def _line(line: str, argument: re.Pattern[str], options: Mapping[str, str]) -> str:
    parts: list[str] = []
    end, was_option = 0, False
    for match in argument.finditer(line):
        between = line[end : match.start()]
        is_option = match["name"] is not None
        parts.append(" " if was_option and is_option and between == ", " else between)
        bare = options[match["bare"]] if match["bare"] else match[0]
        parts.append(_option(match["name"], match["value"], options[match["name"]]) if is_option else bare)
        end, was_option = match.end(), is_option
    return "".join([*parts, line[end:]])


def _option(name: str, text: str, option: str) -> str:
    """One argument and its value as options."""
    try:
        value: object = ast.literal_eval(text) if text else None
    except (ValueError, SyntaxError):
        value = text
    if isinstance(value, bool):
        return option if value else f"--no-{option.removeprefix('--')}"
    if name == "columns" and isinstance(value, Mapping):
        return " ".join(_column(str(role), str(field)) for role, field in value.items())
    words = [] if value is None else list(map(str, value)) if isinstance(value, list | tuple) else [_typed(value, text)]
    return " ".join([option, *map(shlex.quote, words)])


def _typed(value: object, text: str) -> str:
    """A value as it is typed: a text without its quotes, a number as the message has it."""
    return value if isinstance(value, str) else text


def _column(role: str, field: str) -> str:
    if role in _COLUMN_OPTIONS:
        return f"{_COLUMN_OPTIONS[role]} {shlex.quote(field)}"
    return f"--columns {shlex.quote(f'{role}={field}')}"
