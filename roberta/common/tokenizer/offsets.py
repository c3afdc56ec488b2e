"""The characters that a token came from, where a space was put before a text that has none of its own."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from roberta.common.tokenizer.encoding import Span
from roberta.common.vocabulary.bpe import SPACE

# White_Space of Unicode, which an added token may begin or end with, or have taken.
_BLANKS = "".join(map(chr, (*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B))))
_BLANKS += "\u2028\u2029\u202f\u205f\u3000"


def exact_spans(
    texts: Iterable[str],
    ids: Sequence[int],
    tokens: Sequence[str],
    spans: Sequence[Span],
    added: Container[int],
    *,
    trim: bool,
    prefixed: bool,
) -> list[Span]:
    """Each token's characters: none for a space that was put there, and with `trim` none of the white space at the ends.

    The text says whether the space of a token is its own: where a token begins with one and its characters do not, it
    was put there.

    Args:
        texts: for each token the text, or the word, that its characters are counted in.
        spans: with white space; of a space that was put there the character behind it.
        added: the ids of added tokens, whose text is not that of bytes.
        prefixed: a space is put before texts without one. The first token then keeps one of its own, as in transformers.
    """
    return [
        (_trimmed(text, span, _BLANKS) if trim else span)
        if index in added
        else (
            _of_bytes(text, token, span, trim=trim, prefixed=prefixed)
            if token[0] == SPACE or token[-1] == SPACE
            else span
        )
        for text, index, token, span in zip(texts, ids, tokens, spans, strict=True)
    ]


def _of_bytes(text: str, token: str, span: Span, *, trim: bool, prefixed: bool) -> Span:
    """The characters of a token that begins or ends with spaces, one of which may be put there."""
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
    """The span without white space at its ends; what is nothing else is empty, at its end."""
    start, end = span
    part = text[start:end]
    start = end - len(part.lstrip(blanks))
    return start, max(end - len(part) + len(part.rstrip(blanks)), start)
