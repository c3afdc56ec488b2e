"""Damaged files of other kinds of tokenizers: one error that names the file, and never the end of the process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from roberta import AutoTokenizer, CheckpointError

MODEL_FILES = {
    "xlmr-slow-only": "sentencepiece.bpe.model",
    "camembert-slow-only": "sentencepiece.bpe.model",
    "t5-unigram-pad3": "spiece.model",
}


@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_model_that_is_cut_short_names_its_file_until_it_is_whole(name: str, golden: Path, tmp_path: Path) -> None:
    source = golden / "family" / "tokenizers" / name
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path, whole = tmp_path / MODEL_FILES[name], (source / MODEL_FILES[name]).read_bytes()
    for size in (0, 1, 2, 20, len(whole) // 3, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=path.name):
            AutoTokenizer.from_pretrained(tmp_path)
    path.write_bytes(whole)
    assert AutoTokenizer.from_pretrained(tmp_path)("Hello")["input_ids"]


def test_a_prefix_that_merges_do_not_fit_is_named(golden: Path, tmp_path: Path) -> None:
    content = json.loads((golden / "family/tokenizers/bytelevel-normalizer/tokenizer.json").read_text())
    path = tmp_path / "tokenizer.json"
    content["model"]["continuing_subword_prefix"] = "x"
    path.write_text(json.dumps(content, indent=2))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: .*continuing_subword_prefix 'x'.*correct the prefix"):
        AutoTokenizer.from_pretrained(tmp_path)
    content["model"]["continuing_subword_prefix"] = ""
    path.write_text(json.dumps(content, indent=2))
    assert AutoTokenizer.from_pretrained(tmp_path)("Hello")["input_ids"]
