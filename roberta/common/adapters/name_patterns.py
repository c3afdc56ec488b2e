"""Regular expressions of an adapter's config, matched against the names of modules within a bounded time.

A config comes from a stranger, and Python's own `re` may take years over an expression of twenty characters. The
`regex` library finds the same matches and keeps to a limit.
"""

from __future__ import annotations

import functools
import math
import re

import regex

MAX_LENGTH = 20_000  # characters; the name of every module of a large model, one by one, takes 8,000
MAX_REPEATS = 1_000  # the product of the numbers in braces, each of which `regex` unrolls; a name has under 100 letters
SECONDS = 0.2  # for one name, which takes microseconds


class SlowPatternError(ValueError):
    """A regular expression that takes too long."""


def fault_of(pattern: str) -> str:
    """The fault of a regular expression; "" if it can be matched."""
    if len(pattern) > MAX_LENGTH:
        return f"is longer than {MAX_LENGTH} characters"
    numbers = [int(number) for braces in re.findall(r"\{([\d, ]+)\}", pattern) for number in re.findall(r"\d+", braces)]
    if math.prod(max(number, 1) for number in numbers) > MAX_REPEATS:
        return f"repeats a part more than {MAX_REPEATS} times"
    try:
        re.compile(pattern), _compiled(pattern)
    except (re.error, regex.error, RecursionError, OverflowError):
        return "is not a regular expression"
    return ""


def matches(pattern: str, name: str) -> regex.Match[str] | None:
    """The match of a regular expression with a whole name; None where it does not match.

    Raises:
        SlowPatternError: it takes too long.
    """
    try:
        return _compiled(pattern).fullmatch(name, timeout=SECONDS)
    except TimeoutError:
        raise SlowPatternError(
            f"the regular expression {pattern[:200]!r} takes too long for the name {name[:200]!r}; write a simpler one, "
            'such as ".*query", or list the names'
        ) from None


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> regex.Pattern[str]:
    return regex.compile(pattern)
