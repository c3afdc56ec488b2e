"""The options of pipelines: frozen dataclasses whose fields may be given where one is made, and in a call."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

# Options of other pipelines that change no result here, and why; who passes one is told.
NOT_NEEDED = {
    "padding": "rows are padded or packed as the model likes best",
    "batch_size": "batch_tokens, where the pipeline is made, bounds what goes through the model at once",
    "num_workers": "texts are tokenised by the tokenizers library's own threads",
}
# Older names of transformers, and what to pass today.
OLDER = {
    "return_all_scores": "top_k=None",
    "grouped_entities": 'aggregation_strategy="simple"',
    "ignore_subwords": 'aggregation_strategy="first"',
    "topk": "top_k",
}


@dataclass(frozen=True)
class Options:
    """The options of a pipeline: its fields are what may be given where it is made, and again in a call."""

    def updated(self, changes: Mapping[str, Any]) -> Self:
        """The options with some replaced.

        Raises:
            TypeError: a name that is no option, with what there is.
        """
        names = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name in NOT_NEEDED:
                raise TypeError(f"{name} is no option: {NOT_NEEDED[name]}; leave it out")
            if name in OLDER:
                raise TypeError(f"{name} is an older name; pass {OLDER[name]}")
            if name not in names:
                raise TypeError(f"{name} is no option of this pipeline; the options are {', '.join(names)}")
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class TextOptions(Options):
    """truncation: cut texts that are too long, instead of an error; max_length: tokens to cut to, at most."""

    truncation: bool = False
    max_length: int | None = None

    def __post_init__(self) -> None:
        require_count("max_length", self.max_length)
        if self.max_length is not None and not self.truncation:
            raise ValueError(f"max_length={self.max_length} cuts nothing without truncation=True")


def take_text_options(options: TextOptions, name: str) -> None:
    """Take truncation and max_length out of a dictionary of tokenizer arguments, as some pipelines are given them."""
    given = getattr(options, name)
    if given:
        object.__setattr__(options, name, None)
        chosen = TextOptions(options.truncation, options.max_length).updated(given)
        object.__setattr__(options, "truncation", chosen.truncation)
        object.__setattr__(options, "max_length", chosen.max_length)


def require_count(name: str, value: int | None, least: int = 1) -> None:
    """Refuse what is neither None nor an int of at least `least`."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise ValueError(f"{name}={value!r} must be an int of at least {least}, or None")
