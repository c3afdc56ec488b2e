"""The words of tweets are NLTK's, also in long runs of letters and digits, which take no longer than other texts."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

casual: Any = pytest.importorskip("nltk.tokenize.casual", reason="nltk is not installed")
pytest.importorskip("emoji", reason="emoji is not installed")

from roberta.common.tokenizer.traced import TracedText  # noqa: E402
from roberta.common.tokenizer.tweets import TweetNormalizer  # noqa: E402

NORMALIZER = TweetNormalizer()
# texts around and between runs: whatever begins or ends a word of another kind
BETWEEN = (
    "", " ", ".", "-", ".com", ".com/", ".com@", ".c", ".1", "-a.org", "@", " @", "#", "_", "'", "'s", ":", "://", "http:",
    "+", "(", ") ", ",", "/", "8", ":D", "ſ", "é", "\u212a", "1.", "a-b.", "…", "👍", "\n",
)  # fmt: skip


def run(draw: random.Random) -> str:
    """Digits, letters, or both, with changes at any distance."""
    kinds = draw.choice(["0123456789", "01", "8", "abcDEFh", "0123456789ab", "8doDp"])
    text = "".join(draw.choices(kinds, k=draw.choice([5, 600, 1023, 1024, 1030, 1600])))
    return text + draw.choice(["", "x" * draw.choice([1, 505, 520, 1200]), "7" * draw.choice([1, 10, 700])])


@pytest.mark.parametrize("seed", range(80))
def test_words_in_long_runs_are_those_of_nltk(seed: int) -> None:
    draw = random.Random(seed)
    text = "".join(draw.choice(BETWEEN) + run(draw) for _ in range(draw.choice([1, 2, 3]))) + draw.choice(BETWEEN)
    found = [match.span() for match in NORMALIZER._words(text)]
    assert found == [match.span() for match in NORMALIZER._word.finditer(text)]
    if text.isascii():
        assert [text[start:end] for start, end in found] == casual.TweetTokenizer().tokenize(text)


@pytest.mark.parametrize("end", ["", ".", ".com@", "-1.c", " x"])
def test_many_digits_take_no_longer_than_many_words(end: str) -> None:
    digits = "".join(random.Random(1).choices("0123456789", k=40_000)) + end
    start = time.perf_counter()
    words = NORMALIZER(TracedText(digits)).text
    assert time.perf_counter() - start < 3  # NLTK's pattern alone takes 12 seconds
    assert words.replace(" ", "").startswith(digits[:40_000])
