"""The error for a wrong argument of a tokenizer, which scripts for transformers catch under three names."""

from __future__ import annotations


class ArgumentError(ValueError, TypeError, AssertionError):
    """A text, a token or an option of the wrong kind.

    A ValueError, as for every wrong argument here. In its place transformers raises ValueError, TypeError or
    AssertionError, which differs between its two classes; whatever a script catches, it catches this.
    """
