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

from roberta.common.vocabulary.unicode16 import AFTER_UNICODE_16

# The bytes that are written as themselves; the others get the characters from U+0100 on, in order.
_PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_OTHERS = tuple(byte for byte in range(256) if byte not in frozenset(_PRINTABLE))

BYTE_TO_SYMBOL: dict[int, str] = {
    **{byte: chr(byte) for byte in _PRINTABLE},
    **{byte: chr(0x100 + number) for number, byte in enumerate(_OTHERS)},
}
SYMBOL_TO_BYTE: dict[str, int] = {symbol: byte for byte, symbol in BYTE_TO_SYMBOL.items()}
WHITE_SPACE = ("Ġ", "Ċ", "ĉ", "č", "ċ", "Č")  # the symbols of white space that tokens begin with
SPACE = BYTE_TO_SYMBOL[0x20]  # "Ġ"
_SYMBOLS = {byte: ord(symbol) for byte, symbol in BYTE_TO_SYMBOL.items()}

_CONTRACTION = r"'(?:[stmd]|re|ve|ll)"
_LETTER = rf"[\p{{L}}--[{AFTER_UNICODE_16}]]"
_NUMBER = rf"[\p{{N}}--[{AFTER_UNICODE_16}]]"
_BLANK = r"[\p{White_Space}]"
# A character of a word, for added tokens that match whole words only.
WORD_CHARACTER = rf"(?V1)[[\p{{Alphabetic}}\p{{M}}\p{{Nd}}\p{{Pc}}\p{{Join_Control}}]--[{AFTER_UNICODE_16}]]"

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
    """The bytes of a token: those of its symbols, or of its text when it has a character that is not a symbol.

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
    """Pre-token -> ids of its tokens: a dictionary that computes what it does not hold yet.

    It holds at most `limit` pre-tokens and is emptied when it is full; long ones are never kept, so its size is
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
        if len(piece) <= self.longest_kept:  # words come again, long strings rarely do
            if len(self) >= self.limit:
                self.clear()
            self[piece] = ids
        return ids

    @functools.cached_property
    def by_id(self) -> dict[int, str]:
        """Id -> token."""
        return {index: token for token, index in self.vocabulary.items()}

    def tokens(self, piece: str) -> list[str]:
        """The tokens of one pre-token: its bytes, one symbol each, merged as far as the merges go."""
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
        none = len(self.ranks)  # worse than the rank of any merge
        # the rank of each pair of neighbours: ranks[at] is that of parts[at] and parts[at + 1]
        ranks = [get(f"{left} {right}", none) for left, right in itertools.pairwise(parts)]
        while ranks:
            best = min(ranks)
            if best == none:
                break  # no two neighbours are a merge any more
            # join the leftmost of the best pairs: its two parts become one, and its rank goes
            at = ranks.index(best)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
            del ranks[at]
            # the new part makes new pairs with the part before it and with the part after it
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
        end = len(parts)
        # a linked list: the neighbours of each part that is still there; a part joined to the left becomes ""
        before = list(range(-1, end - 1))
        after = list(range(1, end + 1))
        # every pair that is a merge; the heap gives the best first, and of equal ones the leftmost
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
            # join the pair, and take its right part out of the list
            parts[at] += parts[right]
            parts[right] = ""
            after[at] = after[right]
            if after[at] < end:
                before[after[at]] = at
            # the pairs that the new part makes with its neighbours
            for left, other in ((before[at], at), (at, after[at])):
                if left >= 0 and other < end:
                    rank_of_new = get(f"{parts[left]} {parts[other]}")
                    if rank_of_new is not None:
                        heapq.heappush(heap, (rank_of_new, left))
        return [part for part in parts if part]
