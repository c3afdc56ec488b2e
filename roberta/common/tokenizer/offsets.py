"""The characters of each token, where a space is inserted before a text that has none of its own."""

from __future__ import annotations

from collections.abc import Container, Sequence
from itertools import repeat

from roberta.common.tokenizer.encoding import Span
from roberta.common.vocabulary.bpe import SPACE

# White_Space of Unicode, which an added token may begin or end with, or have taken.
_BLANKS = "".join(map(chr, (*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B))))
_BLANKS += "\u2028\u2029\u202f\u205f\u3000"


def exact_spans(
    text: str | Sequence[str],
    words: Sequence[int | None],
    ids: Sequence[int],
    tokens: Sequence[str],
    spans: Sequence[Span],
    added: Container[int],
    *,
    trim: bool,
    prefixed: bool,
) -> list[Span]:
    """Each token's characters: none for an inserted space, and with `trim` none of the white space at the ends.

    The text tells whether the space of a token was inserted: then the token begins with one, and its characters do not.

    Args:
        text: a text, or the words of one, in which the characters are counted.
        words: for each token the number of its word.
        spans: with white space; an inserted space has the character after it.
        added: the ids of added tokens, which are texts and not symbols of bytes.
        prefixed: a space is inserted before texts without one. The first token then keeps a space of its own, as in
            transformers.
    """
    texts = repeat(text, len(ids)) if isinstance(text, str) else (text[word or 0] for word in words)
    return [
        (_trimmed(part, span, _BLANKS) if trim else span)
        if index in added
        else (
            _of_bytes(part, token, span, trim=trim, prefixed=prefixed)
            if token[0] == SPACE or token[-1] == SPACE
            else span
        )
        for part, index, token, span in zip(texts, ids, tokens, spans, strict=True)
    ]


def _of_bytes(text: str, token: str, span: Span, *, trim: bool, prefixed: bool) -> Span:
    """The characters of a token that begins or ends with spaces, one of which may be inserted."""
    start, end = span
    if token == SPACE and text[start:end] != " ":
        return start, start
    if not trim:
        return span
    # a token has as many spaces at an end as its text, or one more; line breaks are not trimmed
    if prefixed and start == 0 and token[0] == SPACE and not token.startswith(SPACE * 2):
        return start, end - len(text[start:end]) + len(text[start:end].rstrip(" "))
    return _trimmed(text, span, " ")


def _trimmed(text: str, span: Span, blanks: str) -> Span:
    """The span without white space at its ends; a span of nothing else becomes empty, at its end."""
    start, end = span
    part = text[start:end]
    start = end - len(part.lstrip(blanks))
    return start, max(end - len(part) + len(part.rstrip(blanks)), start)
