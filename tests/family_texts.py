"""Random strings for comparisons of tokenizers: of every block of Unicode, with marks, spaces, special tokens, real text."""

from __future__ import annotations

import random
import sys
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_tokenizers import EMOJI, KINDS, NEAR_SPACES, SHARED, SPACES, WORDS

_BLOCK = 128  # code points; the blocks of Unicode are a multiple of 16 long
_ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufe0e\ufe0f\u00ad"

# Where a rule of some kind of tokenizer looks.
_HOOKS = [
    "##", "##a", "▁", "▁▁", "@@", "a@@ b", "</w>", "a</w>", "Ġ", "ĠĠ", "Ċ", "�", "\x00", "ﬁ", "ß", "İ", "ı", "ſ", "Å",
    "Å", "①", "㎏", "ｱ", "ﾞ", "Ⅷ", "½", "…", "¨", "´", "゛", "々",
    "한", "ᄒ", "ᅡ", "ᆫ", "가",
    "क्ष", "ผู้", "ﷺ", "Ǆ", "ﬀ", "́", "̈́",
    "@user", "http://t.co/x", "don't", "&amp;", ":)", "I'm", "1,000.5", "p.m.", "中文", "日本語", "Sinh_viên",
    "<extra_id_0>", "<s>NOTUSED", "<unk>NOTUSED", "[MASK]", "[UNK]", "<mask>", "</s>", "<pad>", "<unk>",
]  # fmt: skip


@cache
def _blocks() -> list[list[str]]:
    """The characters of each block of code points that has any, without surrogates; control characters are there."""
    found = []
    for start in range(0, 0x110000, _BLOCK):
        block = [chr(c) for c in range(start, start + _BLOCK) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
        found += [block] if block else []
    return [*found, [chr(c) for c in (0xE000, 0xF8FF, 0xFFFF, 0xFDD0, 0x1FFFE, 0x10FFFF, 0xE0001, 0x378, 0x3FFFD)]]


@cache
def _data() -> list[str]:
    """Lines of real text, from the data beside the project; simple sentences where there is none."""
    names = ("wikitext2/valid.txt", "shakespeare/input.txt", "sst2/dev.tsv", "wnut17/dev.conll", "mrpc/dev.csv")
    lines = [line for name in names if (SHARED / "data" / name).is_file() for line in _lines(SHARED / "data" / name)]
    return lines or [" ".join(WORDS)]


def _lines(path: Path) -> list[str]:
    """The lines of a file; of one word a line, its sentences."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".conll":
        return [" ".join(line.split("\t")[0] for line in part.split("\n")) for part in text.split("\n\n") if part]
    return [line for line in text.split("\n") if line.strip()]


def ascii_text(rng: random.Random) -> str:
    return "".join(map(chr, rng.choices(range(0x7F), k=rng.randint(1, 30))))


def block_of_unicode(rng: random.Random) -> str:
    return "".join(rng.choices([*rng.choice(_blocks()), " "], k=rng.randint(1, 16)))


def mixed_scripts(rng: random.Random) -> str:
    return "".join("".join(rng.choices(rng.choice(_blocks()), k=rng.randint(1, 4))) for _ in range(rng.randint(1, 8)))


def hooks(rng: random.Random) -> str:
    parts = [
        *_HOOKS,
        *EMOJI,
        *rng.choices(SPACES + NEAR_SPACES + _ZERO_WIDTH, k=8),
        " ",
        " ",
        " ",
        "a",
        rng.choice(WORDS),
    ]
    return "".join(rng.choices(parts, k=rng.randint(1, 10)))


def real_text(rng: random.Random) -> str:
    line = rng.choice(_data())
    start = rng.randint(0, max(0, len(line) - 40))
    return line[start : start + rng.randint(1, 120)]


def shuffled_text(rng: random.Random) -> str:
    words = f"{rng.choice(_data())[:120]} {rng.choice(_data())[:120]}".split(" ")
    rng.shuffle(words)
    return rng.choice([" ", " ", "  ", "\n", "\t", "\u3000", ""]).join(words)


def long_text(rng: random.Random) -> str:
    if rng.random() < 0.99:
        return real_text(rng)
    lines = rng.choices(_data(), k=rng.randint(2, 20)) if rng.random() < 0.7 else [rng.choice("aé 日😀▁#@")] * 3000
    return rng.choice(["", " ", "\n"]).join(lines)


GENERATORS: list[Callable[[random.Random], str]] = [
    *KINDS[:-1], ascii_text, block_of_unicode, block_of_unicode, mixed_scripts, hooks, hooks, real_text, shuffled_text,
    long_text,
]  # fmt: skip


def texts_of(rng: random.Random, added: list[str], count: int) -> list[str]:
    """Strings of all kinds, some of them composed or decomposed, some with texts of added tokens between."""
    whole = _joined(rng)
    texts = []
    for text in (next(whole) for _ in range(count)):
        if added and rng.random() < 0.25:
            place = rng.randint(0, len(text))
            joint = rng.choice(["", " ", "  ", "\n", "\u3000"])
            text = text[:place] + joint + rng.choice(added) + rng.choice(["", joint, "x"]) + text[place:]
        if rng.random() < 0.2:
            text = unicodedata.normalize(rng.choice(["NFC", "NFD", "NFKC", "NFKD"]), text)
        texts.append(text)
    return texts


def _joined(rng: random.Random) -> Iterator[str]:
    """Strings of all kinds, sometimes two or three of them joined."""
    while True:
        text = rng.choice(GENERATORS)(rng)
        while rng.random() < 0.15:
            text += rng.choice(["", "", " "]) + rng.choice(GENERATORS)(rng)
        yield text
