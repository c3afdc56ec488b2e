"""Damaged files of other kinds of tokenizers: one error that names the file, and never the end of the process."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from fuzz_tokenizer_formats import TEXTS, charsmap, family_tokenizer

from roberta import AutoTokenizer, CheckpointError
from roberta.common.vocabulary import sentencepiece_file

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


# -- rules of normalisation ----------------------------------------------------------------------------------------

RULES = charsmap()
VALUE = 4 + 4 * (1 ^ 0x41 ^ 0x80)  # where the rule for `A` says which text it has
DAMAGED_RULES = {
    "the size is huge": b"\x00\x04\x00\x7f" + RULES[4:],
    "the size is odd": b"\x01\x04\x00\x00" + RULES[4:],
    "cut short": RULES[:600],
    "no texts": RULES[:-2],
    "a text outside": RULES[:VALUE] + b"\x40\x9c\0\0" + RULES[VALUE + 4 :],
    "a place outside": RULES[:5] + b"\x40\x40" + RULES[7:],
    "not UTF-8": RULES[:-2] + b"\xff\0",
}


@pytest.mark.parametrize("damage", DAMAGED_RULES)
@pytest.mark.parametrize("kind", ["xlmr-model", "t5-model", "unigram-json"])
def test_rules_that_lead_nowhere_are_one_error_that_names_the_file(kind: str, damage: str, tmp_path: Path) -> None:
    """The library panics at them when it meets the character, or takes gigabytes for their size."""
    (name,), _, working = family_tokenizer(kind, tmp_path / "folder")
    path = tmp_path / "folder" / name
    whole, good, bad = path.read_bytes(), RULES, DAMAGED_RULES[damage]
    if kind == "unigram-json":
        good, bad = base64.b64encode(good), base64.b64encode(bad)
        path.write_bytes(whole.replace(good, bad))
    else:  # in protobuf, the length of bytes stands before them
        message = sentencepiece_file._message_class()()
        message.ParseFromString(whole)
        message.normalizer.precompiled_charsmap = bad
        path.write_bytes(message.SerializeToString())
    with pytest.raises(
        CheckpointError, match=rf"{name}: the precompiled_charsmap, .* damaged: .*; copy the file again"
    ):
        AutoTokenizer.from_pretrained(tmp_path / "folder")
    path.write_bytes(whole)
    assert working(tmp_path / "folder")


def test_the_rules_of_published_models_are_whole(golden: Path) -> None:
    """SentencePiece's own tables of NFKC are taken, and the character that each rule is for becomes its text."""
    tokenizer = AutoTokenizer.from_pretrained(golden / "family" / "tokenizers" / "camembert-slow-only")
    assert tokenizer("\uff28\uff45\uff4c\uff4c\uff4f")["input_ids"] == tokenizer("Hello")["input_ids"]


# -- settings of another type --------------------------------------------------------------------------------------

SETTINGS: list[tuple[str, str, Any, str]] = [
    ("wordpiece-settings", "strip_accents", "false", "True or False"),
    ("wordpiece-settings", "do_lower_case", "no", "True or False"),
    ("wordpiece-settings", "tokenize_chinese_chars", [], "True or False"),
    ("wordpiece-settings", "additional_special_tokens", "<new>", "list of tokens"),
    ("wordpiece-settings", "additional_special_tokens", {"content": "<new>"}, "list of tokens"),
    ("wordpiece-settings", "model_input_names", "input_ids", "list of names"),
    ("wordpiece-settings", "model_input_names", 3, "list of names"),
    ("xlmr-settings", "chat_template", [{"name": "x"}], "Jinja template"),
    ("xlmr-settings", "chat_template", 1.5, "Jinja template"),
    ("xlmr-settings", "chat_template", ["x"], "Jinja template"),
    ("phobert-settings", "bos_token", "\ud800", "not a token"),
]


@pytest.mark.parametrize(("kind", "name", "value", "rule"), SETTINGS)
def test_a_setting_of_another_type_names_folder_setting_and_rule(
    kind: str, name: str, value: Any, rule: str, tmp_path: Path
) -> None:
    family_tokenizer(kind, tmp_path / "folder")
    path = tmp_path / "folder" / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, name: value}))
    with pytest.raises(CheckpointError, match=rf"folder.*{name}.*{rule}"):
        AutoTokenizer.from_pretrained(tmp_path / "folder")
    path.write_text(json.dumps({**settings, name: None if name == "strip_accents" else settings[name]}))
    assert AutoTokenizer.from_pretrained(tmp_path / "folder")(TEXTS[0])["input_ids"]


@pytest.mark.parametrize("value", ["5", -1, 2.5, True])
def test_the_number_of_extra_tokens_is_an_int(value: Any, tmp_path: Path) -> None:
    family_tokenizer("t5-model", tmp_path / "folder")
    (tmp_path / "folder" / "tokenizer_config.json").write_text(json.dumps({"extra_ids": value}))
    with pytest.raises(CheckpointError, match=r"folder: extra_ids=.* must be an int of at least 0"):
        AutoTokenizer.from_pretrained(tmp_path / "folder")
    vocabulary = AutoTokenizer.from_pretrained(tmp_path / "folder", extra_ids=2).get_vocab()
    assert "<extra_id_1>" in vocabulary
    assert "<extra_id_2>" not in vocabulary


def test_a_bpe_model_whose_unknown_piece_is_not_there_is_named(tmp_path: Path) -> None:
    family_tokenizer("t5-model", tmp_path / "folder")
    path = tmp_path / "folder" / "spiece.model"
    message = sentencepiece_file._message_class()()
    message.ParseFromString(path.read_bytes())
    message.trainer.unk_piece = "<none>"
    path.write_bytes(message.SerializeToString())
    with pytest.raises(CheckpointError, match=r"spiece\.model has no piece '<none>'.*copy the file again"):
        AutoTokenizer.from_pretrained(tmp_path / "folder")
