"""Compare the two tokenizers on random and adversarial strings: `python tests/fuzz_tokenizers.py --count 1000000`.

pytest does not collect this file. It prints how many strings were compared, and each difference; it exits with 1 if
there was any. It compares ids, offsets and words of every string and, in every tenth batch, also pairs, truncation,
windows and padding. With --peer it also compares all this with the `tokenizers` library, and decoding with the text.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

SHARED = Path(os.environ.get("ROBERTA_SHARED", Path(__file__).parents[2] / "shared"))
BATCH = 1000
SPACES = " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\u00a0\u1680\u2000\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
NEAR_SPACES = "\u180e\u200b\u200c\u200d\u2060\ufeff\u00ad"  # some programs treat these as spaces, but they are not
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "’s", "''s", "'", "'r", "'v", "'l"]
SPECIALS = ["<s>", "</s>", "<pad>", "<unk>", "<mask>", "<mask", "mask>", "<<mask>>", "<|endoftext|>", "< mask>", "<s"]
EMOJI = ["😀", "👩‍👩‍👧‍👦", "👍🏽", "🇰🇷", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "❤️", "1️⃣", "🧑🏾‍🚀"]
WORDS = [
    "the", "of", "and", "to", "in", "a", "is", "that", "for", "it", "as", "was", "with", "be", "by", "on", "not", "he",
]  # fmt: skip
ALPHABETS = {
    "ascii": (0x20, 0x7E),
    "latin": (0xA0, 0x24F),
    "greek and cyrillic": (0x370, 0x52F),
    "hebrew and arabic": (0x590, 0x6FF),
    "indic": (0x900, 0xDFF),
    "thai to khmer": (0xE00, 0x17FF),
    "phonetic and extended": (0x1D00, 0x1FFF),
    "punctuation and symbols": (0x2000, 0x2BFF),
    "cjk": (0x3000, 0x9FFF),
    "hangul": (0xAC00, 0xD7A3),
    "private": (0xE000, 0xF8FF),
    "presentation": (0xF900, 0xFFFF),
    "planes": (0x10000, 0x10FFFF),
}
MARKS = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) in ("Mn", "Me")]
NUMBERS = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) in ("Nd", "Nl", "No")]


# -- strings -------------------------------------------------------------------------------------------------


def any_character(rng: random.Random) -> str:
    low, high = rng.choice(list(ALPHABETS.values()))
    return chr(rng.randint(low, high))


def one_alphabet(rng: random.Random) -> str:
    low, high = rng.choice(list(ALPHABETS.values()))
    return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 16)))


def mixed(rng: random.Random) -> str:
    return "".join(any_character(rng) for _ in range(rng.randint(1, 20)))


def spaced(rng: random.Random) -> str:
    pieces = [rng.choice(WORDS), *SPACES, *NEAR_SPACES, rng.choice("aZ9!é日")]
    return "".join(rng.choice(pieces) for _ in range(rng.randint(1, 25)))


def contracted(rng: random.Random) -> str:
    pieces = [*CONTRACTIONS, *CONTRACTIONS, " ", rng.choice(WORDS), "é", "9", "I", "!"]
    return "".join(rng.choice(pieces) for _ in range(rng.randint(1, 12)))


def special(rng: random.Random) -> str:
    pieces = [*SPECIALS, *SPECIALS, " ", "  ", "\n", rng.choice(SPACES), rng.choice(WORDS), "'s", "_", "é"]
    return "".join(rng.choice(pieces) for _ in range(rng.randint(1, 10)))


def long_run(rng: random.Random) -> str:
    unit = rng.choice(
        ["a", " ", "\n", "ab", "é", "日", "😀", "!", "0", "<", "'", "\u0301", "ha", "=", "-", any_character(rng)]
    )
    return (
        rng.choice(["", " ", "x"])
        + unit * rng.choice([rng.randint(2, 20), rng.randint(2, 20), rng.randint(20, 200)])
        + rng.choice(["", " ", "x", "'s", "<mask>"])
    )


def marked(rng: random.Random) -> str:
    return "".join(rng.choice("aeo nk") + "".join(rng.choices(MARKS, k=rng.randint(0, 4))) for _ in range(8))


def numbered(rng: random.Random) -> str:
    return "".join(rng.choice([*rng.choices(NUMBERS, k=3), "1", ".", ",", " ", "a", "-"]) for _ in range(15))


def emoji(rng: random.Random) -> str:
    whole = "".join(rng.choice([*EMOJI, " ", "a"]) for _ in range(rng.randint(1, 8)))
    start = rng.randint(0, 2)
    return whole[start : len(whole) - rng.randint(0, 2)]


def control(rng: random.Random) -> str:
    return "".join(chr(rng.choice([*range(0x20), *range(0x7F, 0xA0), 0x61, 0x20])) for _ in range(rng.randint(1, 15)))


def sentence(rng: random.Random) -> str:
    words = [
        rng.choice(WORDS) + rng.choice(["", "", "", ",", ".", "'s", "ing", "s"]) for _ in range(rng.randint(1, 15))
    ]
    return rng.choice([" ", " ", "  ", "\n"]).join(words)


def surrogate(rng: random.Random) -> str:
    text = rng.choice(KINDS[:-1])(rng)
    place = rng.randint(0, len(text))
    return text[:place] + chr(rng.randint(0xD800, 0xDFFF)) + text[place:]


KINDS: list[Callable[[random.Random], str]] = [
    one_alphabet, mixed, spaced, contracted, special, long_run, marked, numbered, emoji, control, sentence, surrogate,
]  # fmt: skip


def strings(rng: random.Random, kinds: list[Callable[[random.Random], str]]) -> Iterator[str]:
    """Strings of all kinds, sometimes two or three of them joined."""
    while True:
        text = rng.choice(kinds)(rng)
        while rng.random() < 0.15:
            text += rng.choice(["", "", " "]) + rng.choice(kinds)(rng)
        yield text


# -- comparison ----------------------------------------------------------------------------------------------


def outcome(tokenizer: Any, *args: Any, **options: Any) -> Any:
    """Columns of a batch, including words, or the text of its ValueError."""
    try:
        encoding = tokenizer(*args, **options)
    except ValueError as error:
        return f"{type(error).__name__}: {error}"
    rows = range(len(encoding["input_ids"]))
    return {**encoding, "words": [encoding.word_ids(row) for row in rows]}


def library(raw: Any, texts: list[str]) -> Any:
    rows = raw.encode_batch(texts)
    return {
        "input_ids": [row.ids for row in rows],
        "attention_mask": [row.attention_mask for row in rows],
        "special_tokens_mask": [row.special_tokens_mask for row in rows],
        "offset_mapping": [row.offsets for row in rows],
        "words": [row.word_ids for row in rows],
    }


def random_options(rng: random.Random) -> dict[str, Any]:
    return {
        "truncation": rng.choice([True, "only_first", "only_second", "longest_first"]),
        "max_length": rng.randint(5, 40),
        "stride": rng.choice([0, 0, 1, 3]),
        "return_overflowing_tokens": rng.random() < 0.7,
        "padding": rng.choice([False, True, "max_length"]),
        "padding_side": rng.choice(["left", "right"]),
        "return_offsets_mapping": True,
        "add_special_tokens": rng.random() < 0.8,
    }


class Fuzz:
    """The tokenizers under comparison, and the differences."""

    def __init__(self, vocabulary: Path, peer: bool) -> None:
        from tokenizers import Tokenizer

        from roberta import RobertaTokenizer, RobertaTokenizerFast

        self.slow = RobertaTokenizer.from_pretrained(vocabulary)
        self.fast = RobertaTokenizerFast.from_pretrained(vocabulary)
        self.raw = Tokenizer.from_file(str(vocabulary / "tokenizer.json")) if peer else None
        self.compared = 0
        self.differences = 0

    def differ(self, text: Any, what: str, one: Any, other: Any) -> None:
        self.differences += 1
        if self.differences <= 20:
            print(f"DIFFERENCE in {what} of {text!a}\n  {str(one)[:300]}\n  {str(other)[:300]}", flush=True)

    def same(self, texts: list[Any], one: Any, other: Any, what: str) -> None:
        """Compare two outcomes of a batch; if they differ, find the text."""
        if one == other:
            return
        if isinstance(one, str) or isinstance(other, str):
            self.differ(texts[:3], what, one, other)
            return
        for name in one:
            for number, text in enumerate(texts):
                if number < len(one[name]) and one[name][number] != other[name][number]:
                    self.differ(text, f"{what} {name}", one[name][number], other[name][number])

    def texts(self, texts: list[str]) -> None:
        """Every column of single texts."""
        options = {"return_offsets_mapping": True, "return_special_tokens_mask": True}
        slow, fast = outcome(self.slow, texts, **options), outcome(self.fast, texts, **options)
        self.same(texts, slow, fast, "slow and fast:")
        ids = self.fast(texts)["input_ids"]  # the code path without offsets
        self.same(texts, {"ids": slow["input_ids"]}, {"ids": ids}, "slow and fast without offsets:")
        self.same(texts, {"ids": self.slow(texts)["input_ids"]}, {"ids": ids}, "both without offsets:")
        decoded = self.slow.batch_decode(ids)
        self.same(texts, {"text": decoded}, {"text": self.fast.batch_decode(ids)}, "decoded")
        if self.raw is not None:
            self.same(texts, slow, library(self.raw, texts), "slow and library:")
            for text, back in zip(texts, decoded, strict=True):
                if "<mask>" not in text and back != f"<s>{text}</s>":
                    self.differ(text, "round trip", text, back)
        self.compared += len(texts)

    def pairs(self, texts: list[str], rng: random.Random) -> None:
        """Compare pairs, truncated, in windows and padded; both must refuse a batch that cannot be cut that way."""
        for start in range(0, len(texts) - 20, 20):
            pairs = list(zip(texts[start : start + 10], texts[start + 10 : start + 20], strict=True))
            options = random_options(rng)
            what = f"pairs with {options}:"
            self.same(pairs, outcome(self.slow, pairs, **options), outcome(self.fast, pairs, **options), what)

    def surrogates(self, texts: list[str]) -> None:
        """Check that both refuse, with the same message."""
        for text in texts:
            one, other = outcome(self.slow, [text]), outcome(self.fast, [text])
            if one != other or not isinstance(one, str):
                self.differ(text, "surrogate", one, other)
        self.compared += len(texts)


def main() -> None:
    """Fuzz until enough strings are compared or enough time has passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000, help="strings")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="time limit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vocabulary", type=Path, default=SHARED / "golden" / "roberta-base-tokenizer")
    parser.add_argument("--peer", action="store_true", help="also compare with the tokenizers library")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rng = random.Random(arguments.seed)
    fuzz = Fuzz(arguments.vocabulary, arguments.peer)
    whole, torn = strings(rng, KINDS[:-1]), strings(rng, KINDS[-1:])
    start = time.monotonic()
    for number in range(1 << 60):
        if fuzz.compared >= arguments.count or time.monotonic() - start > arguments.seconds:
            break
        texts = [next(whole) for _ in range(BATCH)]
        fuzz.texts(texts)
        if number % 10 == 0:
            fuzz.pairs(texts, rng)
            fuzz.surrogates([next(torn) for _ in range(BATCH // 20)])
        if number % 100 == 0:
            print(f"{fuzz.compared:>9,} strings, {fuzz.differences} differences", flush=True)
    seconds = time.monotonic() - start
    print(f"seed {arguments.seed}: {fuzz.compared:,} strings, {fuzz.differences} differences, {seconds:.0f} s")
    sys.exit(fuzz.differences > 0)


if __name__ == "__main__":
    main()
