"""The inputs of pipelines: what each one may be, and errors that name the one that cannot be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Item(NamedTuple):
    """An input and its place in the caller's list or stream; None for one input alone."""

    value: Any
    number: int | None

    @property
    def name(self) -> str:
        """How an error calls it."""
        return "the input" if self.number is None else f"inputs[{self.number}]"


class InputError(ValueError):
    """An input that cannot be used, though it looks right; the results of those before it are not lost.

    Attributes:
        number: its place.
    """

    def __init__(self, item: Item, problem: str) -> None:
        super().__init__(f"{item.name} {problem}")
        self.number = item.number


def text_of(value: Any, name: str) -> str:
    """The value, which must be a str of Unicode characters."""
    if not isinstance(value, str):
        raise ValueError(f"{name} is {shown(value)} ({type(value).__name__}), not a str")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{name} has half a character (a lone surrogate) at {error.start}; decode it whole"
            ) from None
    return value


def fields_of(value: Any, name: str, fields: Mapping[str, bool]) -> dict[str, Any]:
    """The fields of an input that is a dictionary: field -> whether it must be there; another one is refused."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is {shown(value)} ({type(value).__name__}), not a dict with {', '.join(fields)}")
    missing = [field for field, is_needed in fields.items() if is_needed and field not in value]
    unknown = [str(field) for field in value if field not in fields]
    if missing or unknown:
        wrong = f"lacks {', '.join(missing)}" if missing else f"has the unknown field {', '.join(unknown)}"
        raise ValueError(f"{name} {wrong}; the fields are {', '.join(fields)}")
    return dict(value)


def shown(value: Any) -> str:
    """A value in an error, cut short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def zipped(fields: dict[str, str | Sequence[str] | None]) -> Any:
    """A dict of fields for single texts, a list of dicts where one of them is a list; a text goes with each of a list."""
    for field, value in fields.items():
        if value is None:
            raise ValueError(f"{field} is missing; give inputs, or {' and '.join(fields)}")
    sizes = {len(value) for value in fields.values() if isinstance(value, list | tuple)}
    if not sizes:
        return fields
    if len(sizes) > 1:
        raise ValueError(f"{' and '.join(fields)} are lists of {' and '.join(map(str, sizes))}; make them equal")
    size = sizes.pop()
    columns = [value if isinstance(value, list | tuple) else [value] * size for value in fields.values()]
    return [dict(zip(fields, values, strict=True)) for values in zip(*columns, strict=True)]
