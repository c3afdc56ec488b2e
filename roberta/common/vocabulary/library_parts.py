"""Parts of a tokenizer of the tokenizers library as JSON, and its errors as ours."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import tokenizers

from roberta.common.storage.folders import CheckpointError

PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")


@contextmanager
def library_errors(what: str) -> Iterator[None]:
    """Errors and panics of the library, whose type is the bare `Exception`, as `CheckpointError`.

    Args:
        what: the beginning of the message: the file and what could not be done with it.
    """
    try:
        yield
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:
        raise CheckpointError(f"{what} (truncated?): {error}") from None
    except BaseException as error:
        if not is_panic(error):
            raise
        raise CheckpointError(f"{what}: it is damaged, and the library panics: {error}") from None


def is_panic(error: BaseException) -> bool:
    """Whether an error is a panic of the library, which is not an `Exception`."""
    return type(error).__name__ == "PanicException"


def part_state(part: Any) -> Any:
    """A normalizer, pre_tokenizer, post_processor or decoder as tokenizer.json has it; None for none."""
    return None if part is None else json.loads(part.__getstate__())


def part_of_state(name: str, state: object) -> Any:
    """The part of that name, made of what tokenizer.json has for it."""
    content: dict[str, Any] = {"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}, name: state}
    with library_errors(f"{name} {state!r:.200} is not known to the tokenizers library"):
        return getattr(tokenizers.Tokenizer.from_str(json.dumps(content)), name)


def has_prefix(state: object) -> bool | None:
    """Whether a pre_tokenizer or decoder puts a space before each text; None where it does not have that setting."""
    if not isinstance(state, Mapping):
        return None
    if state["type"] == "ByteLevel":
        return bool(state["add_prefix_space"])
    if state["type"] == "Metaspace":
        return bool(state["prepend_scheme"] != "never")
    found = map(has_prefix, state.get("pretokenizers", state.get("decoders", ())))
    return next((value for value in found if value is not None), None)


def with_prefix(state: Any, add_prefix_space: bool) -> Any:
    """A pre_tokenizer or decoder with another value for whether a space goes before each text."""
    if not isinstance(state, Mapping) or has_prefix(state) in (None, add_prefix_space):
        return state
    if state["type"] == "ByteLevel":
        return {**state, "add_prefix_space": add_prefix_space}
    if state["type"] == "Metaspace":
        return {**state, "prepend_scheme": "always" if add_prefix_space else "never"}
    inner = "pretokenizers" if "pretokenizers" in state else "decoders"
    return {**state, inner: [with_prefix(part, add_prefix_space) for part in state[inner]]}
