"""What splits texts into tokens: the one thing the two tokenizers do differently."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from roberta.common.tokenizer.rows import Aligned


class Engine(ABC):
    """Texts to tokens, without special tokens around. An engine never changes, so results may keep one for later."""

    @abstractmethod
    def ids(self, texts: Sequence[Any], is_words: bool) -> list[list[int]]:
        """The ids of each text; a text is a str, or with `is_words` a sequence of them."""

    @abstractmethod
    def align(self, texts: Sequence[Any], is_words: bool, trim: bool) -> Sequence[Aligned]:
        """The ids, tokens, offsets and words of each text; with `trim`, offsets without white space at the ends."""


def refuse_surrogate(texts: Sequence[Any]) -> None:
    """Raise the one error for half a surrogate pair in any of the texts; return when there is none."""
    for number, text in enumerate(texts):
        for part in [text] if isinstance(text, str) else text:
            for at, character in enumerate(part):
                if "\ud800" <= character <= "\udfff":
                    raise ValueError(
                        f"text {number} has U+{ord(character):04X}, half of a surrogate pair, at character {at}: it has "
                        "no UTF-8 bytes; repair the text, for instance text.encode('utf-16', 'surrogatepass')"
                        ".decode('utf-16', 'replace')"
                    )
