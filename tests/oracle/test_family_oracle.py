"""Tokenizers of RoBERTa's relatives give what transformers gives for random strings."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_families import differences, observe, peer
from peers import environment, overlay

import roberta

STRINGS = 100
OF_MODEL_FILES = ("camembert-slow-only", "xlmr-slow-only", "t5-unigram-pad3")
OF_VERSION_4 = (
    "camembert-full", "xlmr-fast-only", "metaspace-unigram", "wordpiece-cased", "wordpiece-uncased",
    "bytelevel-normalizer", *OF_MODEL_FILES,
)  # fmt: skip


@pytest.mark.parametrize(("name", "version"), [*((name, 4) for name in OF_VERSION_4), ("v5-xlmr", 5)])
def test_random_strings(name: str, version: int, golden: Path) -> None:
    if name in OF_MODEL_FILES and not (overlay(version) / "sentencepiece").exists():
        pytest.skip("transformers needs sentencepiece for these files; `make oracle` fetches it")
    folder = golden / "family" / "tokenizers" / name
    tokenizer = roberta.AutoTokenizer.from_pretrained(folder)
    with peer(folder, 17, STRINGS, environment(version)) as results:
        assert list(differences(observe(tokenizer, 17, STRINGS), next(results))) == []
