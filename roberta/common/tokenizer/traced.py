"""A text that is rewritten step by step, and knows where each of its characters came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

from roberta.common.tokenizer.encoding import Span


class TracedText(NamedTuple):
    """A text and for each of its characters the span of the original text; None where spans are not needed."""

    text: str
    spans: list[Span] | None = None

    @classmethod
    def of(cls, text: str, start: int, end: int) -> Self:
        """A part of a text, traced from here on."""
        return cls(text[start:end], [(at, at + 1) for at in range(start, end)])

    def source(self, span: Span) -> Span:
        """The span of the original text that a span of this one came from."""
        assert self.spans is not None
        return self.spans[span[0]][0], self.spans[span[1] - 1][1]

    def spaced(self, old: str, new: str) -> TracedText:
        """With a text replaced by another, which differs from it in spaces only."""
        if old not in self.text:
            return self
        if self.spans is None:
            return TracedText(self.text.replace(old, new))
        pieces, spans, done = [], [], 0
        at = self.text.find(old)
        while at >= 0:
            letters = iter([span for one, span in zip(old, self.spans[at:], strict=False) if one != " "])
            pieces += [self.text[done:at], new]
            spans += self.spans[done:at]
            last = self.spans[at]
            for one in new:
                last = next(letters) if one != " " else (last[1], last[1])
                spans.append(last)
            done = at + len(old)
            at = self.text.find(old, done)
        return TracedText("".join([*pieces, self.text[done:]]), spans + self.spans[done:])

    def replaced(self, find: Any, new: Callable[[Any], str]) -> TracedText:
        """With each match of a pattern replaced by a text, every character of which came from the whole match.

        Args:
            find: a compiled pattern.
            new: the text in place of a match.
        """
        if self.spans is None:
            return TracedText(find.sub(new, self.text))
        pieces: list[str] = []
        spans: list[Span] = []
        done = 0
        for match in find.finditer(self.text):
            start, end = match.span()
            text = new(match)
            pieces += [self.text[done:start], text]
            spans += self.spans[done:start]
            spans += self.whole(start, end, len(text)) if end - start != len(text) else self.spans[start:end]
            done = end
        pieces.append(self.text[done:])
        return TracedText("".join(pieces), spans + self.spans[done:])

    def whole(self, start: int, end: int, count: int) -> list[Span]:
        """The span of all characters from `start` to `end`, so many times."""
        return [self.source((start, end))] * count

    def words(self, matches: Sequence[tuple[int, int, str]]) -> TracedText:
        """The texts that stand for parts (start, end, text) of this one, with spaces between them."""
        text = " ".join(text for _, _, text in matches)
        if self.spans is None:
            return TracedText(text)
        spans: list[Span] = []
        for number, (start, end, word) in enumerate(matches):
            if number:  # a space comes from nothing
                spans.append((self.spans[start][0], self.spans[start][0]))
            is_same = self.text[start:end] == word
            spans += self.spans[start:end] if is_same else self.whole(start, end, len(word))
        return TracedText(text, spans)
