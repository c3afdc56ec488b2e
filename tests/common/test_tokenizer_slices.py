"""Offsets of tokenizers of every kind, on random strings: in order, in the text, and the token's text is that slice's."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path

import pytest
from family_texts import texts_of
from fuzz_tokenizer_formats import OF_FAMILY, family_tokenizer

from roberta import AutoTokenizer

MARKS = ("##", "▁", "@@")
WHOLE = ("wordpiece-json", "xlmr-model", "camembert-model", "t5-model", "wordpiece-vocab", "phobert", "unigram-json")


def visible(text: str) -> str:
    """A text without marks of words, white space, control characters and case, which rules of normalisation change."""
    for mark in MARKS:
        text = text.replace(mark, "")
    text = unicodedata.normalize("NFKC", text).lower()
    return "".join(c for c in text if not c.isspace() and unicodedata.category(c)[0] != "C")


@pytest.mark.parametrize("name", WHOLE)
def test_offsets_are_in_order_and_slice_the_text_of_the_token(name: str, tmp_path: Path) -> None:
    family_tokenizer(name, tmp_path / "folder")
    assert name in OF_FAMILY
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "folder")
    rng = random.Random(5)
    texts = [*texts_of(rng, [], 300), *("".join(rng.choices("low er new 1Aa", k=12)) for _ in range(300))]
    found = tokenizer(texts, return_offsets_mapping=True, add_special_tokens=False, verbose=False)
    compared = 0
    for row, (text, spans) in enumerate(zip(texts, found["offset_mapping"], strict=True)):
        assert spans == sorted(spans), (text, spans)
        for token, index, (start, end) in zip(found.tokens(row), found["input_ids"][row], spans, strict=True):
            assert 0 <= start <= end <= len(text)
            if index == tokenizer.unk_token_id or not text[start:end].isascii():
                continue
            assert visible(token) in ("", visible(text[start:end])), (text, token)
            compared += 1
    assert compared > 150
