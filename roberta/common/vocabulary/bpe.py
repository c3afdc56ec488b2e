"""Byte-level BPE in plain Python: a text becomes pre-tokens, their UTF-8 bytes, and merged tokens.

Three steps, each of them here:

1. `pre_tokens` cuts the text into words, numbers, runs of other characters and white space; the parts joined are the
   text again.
2. `to_symbols` writes each of the 256 bytes as one printable character, so that a token is a string without spaces.
3. `BytePairEncoder.merge` joins neighbours in the order of the merges, best first, until none is left.

Source: Radford et al. 2019 (GPT-2), Sennrich et al. 2016 for the merges.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import re
from collections.abc import Iterable, Mapping

import regex

# The bytes that are written as themselves; the others get the characters from U+0100 on, in order.
_PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_OTHERS = tuple(byte for byte in range(256) if byte not in frozenset(_PRINTABLE))

BYTE_TO_SYMBOL: dict[int, str] = {
    **{byte: chr(byte) for byte in _PRINTABLE},
    **{byte: chr(0x100 + number) for number, byte in enumerate(_OTHERS)},
}
SYMBOL_TO_BYTE: dict[str, int] = {symbol: byte for byte, symbol in BYTE_TO_SYMBOL.items()}
SPACE = BYTE_TO_SYMBOL[0x20]  # "Ġ"
_SYMBOLS = {byte: ord(symbol) for byte, symbol in BYTE_TO_SYMBOL.items()}

# What Unicode got after version 16 as letters, numbers and marks. The tokenizers library is compiled with 16, where
# they are "other"; the regex package moves on with Unicode. Taken out of the classes here, so that the two agree.
_AFTER_UNICODE_16 = (
    r"\u0558\u058B-\u058C\u05C8-\u05C9\u088F\u0B53-\u0B54\u0C5C\u0CDC\u1ACF-\u1AF0\u208F\u209D-\u209F"
    r"\uA7CE-\uA7CF\uA7D2\uA7D4\uA7DD\uA7E2\uA7F1\uAB6C-\uAB6D\U000107BB-\U000107BF\U00010940-\U00010959"
    r"\U00010EC5-\U00010EC7\U00010ECB-\U00010ECF\U00010ED9-\U00010EEE\U00010EF0-\U00010EFB\U00011B0A"
    r"\U00011B60-\U00011B67\U00011DB0-\U00011DDB\U00011DE0-\U00011DE9\U00011DF0-\U00011DF1\U0001246F"
    r"\U00012475-\U0001247F\U00012550-\U00012686\U00016EA0-\U00016EB8\U00016EBB-\U00016ED3"
    r"\U00016FF2-\U00016FF6\U000187F8-\U000187FF\U00018CD6-\U00018CDA\U00018D09-\U00018D20"
    r"\U00018D80-\U00018DF2\U00018E00-\U00019191\U000191A0-\U000191D2\U0001B123-\U0001B128\U0001B168"
    r"\U0001D127-\U0001D128\U0001D250-\U0001D252\U0001D25B-\U0001D25C\U0001D25F\U0001D280-\U0001D281\U0001D6A6"
    r"\U0001DF1F-\U0001DF24\U0001DF2B-\U0001DF81\U0001DF90-\U0001DF96\U0001DFCD-\U0001DFFF"
    r"\U0001E6C0-\U0001E6DE\U0001E6E0-\U0001E6F5\U0001E6FE-\U0001E6FF\U0002B73A-\U0002B73F\U0002B81E"
    r"\U0002CEA2-\U0002CEAD\U000323B0-\U00033479\U0003D000-\U0003FC3F"
)
_CONTRACTION = r"'(?:[stmd]|re|ve|ll)"
_LETTER = rf"[\p{{L}}--[{_AFTER_UNICODE_16}]]"
_NUMBER = rf"[\p{{N}}--[{_AFTER_UNICODE_16}]]"
_BLANK = r"[\p{White_Space}]"
# A character of a word, for added tokens that match whole words only.
WORD_CHARACTER = rf"(?V1)[[\p{{Alphabetic}}\p{{M}}\p{{Nd}}\p{{Pc}}\p{{Join_Control}}]--[{_AFTER_UNICODE_16}]]"

_find_any = regex.compile(
    rf"(?V1){_CONTRACTION}| ?{_LETTER}+| ?{_NUMBER}+| ?[^{_BLANK}{_LETTER}{_NUMBER}]+|{_BLANK}+(?![^{_BLANK}])|{_BLANK}+"
).findall

# The same for ASCII, which most texts are: the re module needs half the time, and has no version of Unicode here.
_find_ascii = re.compile(
    rf"{_CONTRACTION}| ?[A-Za-z]+| ?[0-9]+| ?[^\t-\r A-Za-z0-9]+|[\t-\r ]+(?![^\t-\r ])|[\t-\r ]+"
).findall


def pre_tokens(text: str) -> list[str]:
    """The parts of a text that are merged one by one; joined they are the text.

    >>> pre_tokens("I'm 25, isn't  it?")
    ['I', "'m", ' 25', ',', ' isn', "'t", ' ', ' it', '?']
    >>> pre_tokens("a\\n\\n b")
    ['a', '\\n\\n', ' b']
    """
    found: list[str] = _find_ascii(text) if text.isascii() else _find_any(text)
    return found


def to_symbols(text: str) -> str:
    """The UTF-8 bytes of a text, one character each.

    >>> to_symbols(" né")
    'ĠnÃ©'

    Raises:
        UnicodeEncodeError: for half of a surrogate pair, which has no bytes.
    """
    return text.encode().decode("latin-1").translate(_SYMBOLS)


def token_bytes(token: str) -> bytes:
    """The bytes a token stands for: those of its symbols, or of its text when it has a character that is not a symbol.

    >>> token_bytes("ĠnÃ©").decode()
    ' né'
    >>> token_bytes("<日本>").decode()
    '<日本>'
    """
    try:
        return bytes([SYMBOL_TO_BYTE[symbol] for symbol in token])
    except KeyError:
        return token.encode("utf-8", "surrogatepass")


class BytePairEncoder(dict[str, tuple[int, ...]]):
    """Pre-token -> ids of its tokens: a dictionary that works out what it does not hold yet.

    It holds at most `limit` pre-tokens and is emptied when it has them; long ones are never kept, so its size is
    bounded whatever the texts are.

    Args:
        vocabulary: token -> id.
        merges: "left right", best first.

    >>> encoder = BytePairEncoder({"l": 0, "o": 1, "w": 2, "Ġ": 3, "lo": 4, "low": 5}, ["l o", "lo w"])
    >>> encoder["low"], encoder[" lol"]
    ((5,), (3, 4, 0))
    >>> dict(encoder)
    {'low': (5,), ' lol': (3, 4, 0)}
    """

    longest_kept = 64  # characters

    def __init__(self, vocabulary: Mapping[str, int], merges: Iterable[str], limit: int = 1 << 16) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.ranks = {merge: rank for rank, merge in enumerate(merges)}
        self.limit = limit
        self.lacking = frozenset(SYMBOL_TO_BYTE) - frozenset(vocabulary)  # bytes without a token are left out

    def __missing__(self, piece: str) -> tuple[int, ...]:
        vocabulary = self.vocabulary
        ids = tuple([vocabulary[token] for token in self.tokens(piece)])
        if len(piece) <= self.longest_kept:
            if len(self) >= self.limit:
                self.clear()
            self[piece] = ids
        return ids

    @functools.cached_property
    def by_id(self) -> dict[int, str]:
        """Id -> token."""
        return {index: token for token, index in self.vocabulary.items()}

    def tokens(self, piece: str) -> list[str]:
        """The tokens of one pre-token."""
        symbols = to_symbols(piece)
        if self.lacking and not self.lacking.isdisjoint(symbols):
            symbols = "".join(symbol for symbol in symbols if symbol not in self.lacking)
        return self.merge(list(symbols))

    def merge(self, parts: list[str]) -> list[str]:
        """Join neighbours, the best merge first and of equal ones the leftmost, until no merge applies.

        >>> encoder = BytePairEncoder({}, ["a a", "b c", "aa bc"])
        >>> encoder.merge(list("aaabc")), encoder.merge(list("aabc"))
        (['aa', 'a', 'bc'], ['aabc'])
        """
        if len(parts) > 128:
            return self._merge_long(parts)
        get = self.ranks.get
        none = len(self.ranks)
        ranks = [get(f"{left} {right}", none) for left, right in itertools.pairwise(parts)]
        while ranks:
            best = min(ranks)
            if best == none:
                break
            at = ranks.index(best)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
            del ranks[at]
            if at:
                ranks[at - 1] = get(f"{parts[at - 1]} {parts[at]}", none)
            if at < len(ranks):
                ranks[at] = get(f"{parts[at]} {parts[at + 1]}", none)
        return parts

    def _merge_long(self, parts: list[str]) -> list[str]:
        """`merge` in n log n steps: a heap of (rank, place) over a list whose links skip what has been joined.

        >>> encoder = BytePairEncoder({}, ["a a", "aa aa"])
        >>> encoder.merge(["a"] * 1001) == ["aaaa"] * 250 + ["a"]
        True
        """
        get = self.ranks.get
        before = list(range(-1, len(parts) - 1))
        after = list(range(1, len(parts) + 1))
        end = len(parts)
        heap: list[tuple[int, int]] = []
        for at in range(end - 1):
            rank = get(f"{parts[at]} {parts[at + 1]}")
            if rank is not None:
                heap.append((rank, at))
        heapq.heapify(heap)
        while heap:
            rank, at = heapq.heappop(heap)
            right = after[at]
            # an entry is stale when its left part is gone or either part has grown since
            if not parts[at] or right >= end or get(f"{parts[at]} {parts[right]}") != rank:
                continue
            parts[at] += parts[right]
            parts[right] = ""
            after[at] = after[right]
            if after[at] < end:
                before[after[at]] = at
            for left, other in ((before[at], at), (at, after[at])):
                if left >= 0 and other < end:
                    rank_of_new = get(f"{parts[left]} {parts[other]}")
                    if rank_of_new is not None:
                        heapq.heappush(heap, (rank_of_new, left))
        return [part for part in parts if part]
