"""What callers give to pipelines: inputs, checked with errors that name them, and options, frozen dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

# Options of transformers' pipelines that do not affect results here, and why.
_NOT_NEEDED = {
    "padding": "rows are padded or packed as the model likes best",
    "batch_size": "batch_tokens, where the pipeline is made, bounds what goes through the model at once",
    "num_workers": "texts are tokenised by the tokenizers library's own threads",
}
# Older names of transformers -> what to pass instead.
_OLDER = {
    "return_all_scores": "top_k=None",
    "grouped_entities": 'aggregation_strategy="simple"',
    "ignore_subwords": 'aggregation_strategy="first"',
    "topk": "top_k",
}


class Item(NamedTuple):
    """An input and its place in the caller's list or stream; None for a single input."""

    value: Any
    number: int | None

    @property
    def name(self) -> str:
        """Its name in errors."""
        return "the input" if self.number is None else f"inputs[{self.number}]"


class InputError(ValueError):
    """An input that turns out unusable after the first check; results of earlier inputs are not lost.

    Attributes:
        number: the place of the input.
    """

    def __init__(self, item: Item, problem: str) -> None:
        super().__init__(f"{item.name} {problem}")
        self.number = item.number


def text_of(value: object, name: str) -> str:
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


def fields_of(value: object, name: str, fields: Mapping[str, bool]) -> dict[str, Any]:
    """The fields of an input that must be a dictionary.

    Args:
        fields: field -> whether it is required; any other field is refused.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is {shown(value)} ({type(value).__name__}), not a dict with {', '.join(fields)}")
    missing = [field for field, is_needed in fields.items() if is_needed and field not in value]
    unknown = [str(field) for field in value if field not in fields]
    if missing or unknown:
        wrong = f"lacks {', '.join(missing)}" if missing else f"has the unknown field {', '.join(unknown)}"
        raise ValueError(f"{name} {wrong}; the fields are {', '.join(fields)}")
    return dict(value)


def shown(value: object) -> str:
    """A value for an error message, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def zipped(fields: dict[str, str | Sequence[str] | None]) -> Mapping[str, object] | list[dict[str, object]]:
    """A dict of fields for single texts; a list of dicts if any value is a list, with single texts repeated."""
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


# -- options ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PipelineOptions:
    """The options of a pipeline; each field may be given to `roberta.pipeline`, and again in a call."""

    def updated(self, changes: Mapping[str, Any]) -> Self:
        """The options with some replaced.

        Raises:
            TypeError: a name is not an option; lists those that are.
        """
        names = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name in _NOT_NEEDED:
                raise TypeError(f"{name} is not an option: {_NOT_NEEDED[name]}; omit it")
            if name in _OLDER:
                raise TypeError(f"{name} is an older name; pass {_OLDER[name]}")
            if name not in names:
                raise TypeError(f"{name} is not an option of this pipeline; the options are {', '.join(names)}")
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class TextOptions(PipelineOptions):
    """truncation: cut texts that are too long, instead of raising an error; max_length: tokens to cut to, at most."""

    truncation: bool = False
    max_length: int | None = None

    def __post_init__(self) -> None:
        require_count("max_length", self.max_length)
        if self.max_length is not None and not self.truncation:
            raise ValueError(f"max_length={self.max_length} has no effect without truncation=True")


def take_text_options(options: TextOptions, name: str) -> None:
    """Take truncation and max_length from a dictionary of tokenizer arguments, which some pipelines accept."""
    given = getattr(options, name)
    if given:
        object.__setattr__(options, name, None)
        chosen = TextOptions(options.truncation, options.max_length).updated(given)
        object.__setattr__(options, "truncation", chosen.truncation)
        object.__setattr__(options, "max_length", chosen.max_length)


def require_count(name: str, value: int | None, least: int = 1) -> None:
    """Raise `ValueError` unless a value is None or an int of at least `least`."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise ValueError(f"{name}={value!r} must be an int of at least {least}, or None")
