"""Tokenizers of every kind from files made here, with the ids worked out by hand; and which one AutoTokenizer takes."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import tokenizers

import roberta
from roberta.common.pipelines.windows import tokenised, tokenised_words
from roberta.common.training.data.masking import MaskingVocabulary
from roberta.common.vocabulary import sentencepiece_file

# text, score, kind (2 unknown, 3 control, 1 normal); the id in the file is the place
PIECES = [
    ("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), ("▁the", -1.0, 1), ("▁cat", -2.0, 1), ("▁", -3.0, 1),
    ("s", -4.0, 1), ("a", -5.0, 1), ("t", -6.0, 1),
]  # fmt: skip
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "sat", "."]


def sentencepiece_model(path: Path) -> Path:
    """A `.model` file with the pieces above."""
    message = sentencepiece_file._message_class()()
    for text, score, kind in PIECES:
        message.pieces.add(piece=text, score=score, type=kind)
    message.trainer.model_type = 1
    message.normalizer.add_dummy_prefix = True
    path.write_bytes(message.SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a SentencePiece model."""
    sentencepiece_model(tmp_path / "sentencepiece.bpe.model")
    return tmp_path


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A folder with a vocab.txt."""
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return tmp_path


def write(folder: Path, name: str, content: dict[str, Any]) -> None:
    (folder / name).write_text(json.dumps(content))


# -- ids, worked out by hand -----------------------------------------------------------------------------------------


def test_xlm_roberta_has_the_ids_of_fairseq(folder: Path) -> None:
    tokenizer = roberta.XLMRobertaTokenizer.from_pretrained(folder)
    # the place of a piece + 1; the mask token is last
    assert tokenizer("the cat sat")["input_ids"] == [0, 4, 5, 6, 7, 8, 9, 2]
    assert tokenizer("the", "cat")["input_ids"] == [0, 4, 2, 2, 5, 2]
    assert (tokenizer.mask_token_id, len(tokenizer), tokenizer.vocab_size) == (10, 11, 11)
    assert tokenizer("the §")["input_ids"] == [0, 4, 6, 3, 2]
    assert tokenizer.decode([0, 4, 5, 2]) == "<s> the cat</s>"
    assert tokenizer.decode([0, 4, 5, 2], skip_special_tokens=True) == "the cat"


def test_camembert_has_the_ids_of_fairseq_with_entries_that_are_not_used(folder: Path) -> None:
    tokenizer = roberta.CamembertTokenizer.from_pretrained(folder)
    # the place of a piece + 4
    assert tokenizer("the cat sat")["input_ids"] == [5, 7, 8, 9, 10, 11, 12, 6]
    assert tokenizer("the", "cat")["input_ids"] == [5, 7, 6, 6, 8, 6]
    assert (tokenizer.unk_token_id, tokenizer.pad_token_id, tokenizer.mask_token_id) == (3, 1, 13)
    assert tokenizer.convert_ids_to_tokens([0, 2, 4]) == ["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"]


def test_t5_keeps_the_ids_of_the_file(folder: Path) -> None:
    (folder / "sentencepiece.bpe.model").rename(folder / "spiece.model")
    tokenizer = roberta.T5Tokenizer.from_pretrained(folder, extra_ids=2, pad_token="</s>")
    assert tokenizer("the cat")["input_ids"] == [3, 4, 2]
    assert tokenizer("the", "cat")["input_ids"] == [3, 2, 4, 2]
    assert tokenizer.convert_tokens_to_ids(["<extra_id_1>", "<extra_id_0>"]) == [9, 10]


def test_a_word_of_pieces_has_the_characters_it_came_from(folder: Path) -> None:
    found = roberta.XLMRobertaTokenizer.from_pretrained(folder)("the sat", return_offsets_mapping=True)
    assert found["offset_mapping"] == [(0, 0), (0, 3), (3, 4), (4, 5), (5, 6), (6, 7), (0, 0)]
    assert found.word_ids() == [None, 0, 1, 1, 1, 1, None]


def test_wordpiece_has_rows_with_types(words: Path) -> None:
    tokenizer = roberta.BertTokenizer.from_pretrained(words)
    found = tokenizer("The cats", "sat.", return_offsets_mapping=True)
    assert found["input_ids"] == [2, 5, 6, 7, 3, 8, 9, 3]
    assert found["token_type_ids"] == [0, 0, 0, 0, 0, 1, 1, 1]
    assert found["offset_mapping"][1:4] == [(0, 3), (4, 7), (7, 8)]
    assert tokenizer.decode(found["input_ids"], skip_special_tokens=True) == "the cats sat."
    assert roberta.BertTokenizer.from_pretrained(words, do_lower_case=False)("The cats")["input_ids"] == [2, 1, 6, 7, 3]


def test_words_for_masking_are_the_tokenizers_own(folder: Path, words: Path) -> None:
    pieces = roberta.XLMRobertaTokenizer.from_pretrained(folder)
    assert [pieces.word_borders(token)[0] for token in ("▁the", "▁", "s")] == [True, True, False]
    wordpiece = roberta.BertTokenizer.from_pretrained(words)
    starts = MaskingVocabulary.of(wordpiece).word_starts
    assert starts.tolist() == [True] * 7 + [False, True, True]


# -- what is saved can be loaded ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["XLMRobertaTokenizer", "CamembertTokenizer"])
def test_what_is_saved_loads_with_the_same_ids_from_either_file(name: str, folder: Path, tmp_path: Path) -> None:
    tokenizer = getattr(roberta, name).from_pretrained(folder)
    tokenizer.add_tokens(["dog"])
    wanted = tokenizer("the dog <mask> sat")["input_ids"]
    tokenizer.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    assert saved["tokenizer_class"] == name
    again = roberta.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert type(again) is type(tokenizer)
    assert again("the dog <mask> sat")["input_ids"] == wanted
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "saved" / "tokenizer.json"))
    assert library.encode("the dog <mask> sat").ids == wanted
    (tmp_path / "saved" / "tokenizer.json").unlink()
    assert roberta.AutoTokenizer.from_pretrained(tmp_path / "saved")("the dog <mask> sat")["input_ids"] == wanted


def test_a_saved_wordpiece_loads(words: Path, tmp_path: Path) -> None:
    tokenizer = roberta.BertTokenizer.from_pretrained(words, do_lower_case=False)
    tokenizer.save_pretrained(tmp_path / "saved")
    again = roberta.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again("The cats")["input_ids"] == [2, 1, 6, 7, 3]
    assert (tmp_path / "saved" / "vocab.txt").read_text().split() == WORDS


# -- which class ---------------------------------------------------------------------------------------------------


def taken(folder: Path, caplog: pytest.LogCaptureFixture) -> tuple[str, list[str]]:
    """The class that AutoTokenizer takes, and its warnings."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "roberta.common.tokenizer.auto"):
        tokenizer = roberta.AutoTokenizer.from_pretrained(folder)
    assert len(caplog.records) == 1
    assert type(tokenizer).__name__ in caplog.text
    return type(tokenizer).__name__, [r.message for r in caplog.records if r.levelno == logging.WARNING]


def test_the_settings_name_the_class_in_this_order(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(folder, "config.json", {"model_type": "xlm-roberta"})
    assert taken(folder, caplog) == ("XLMRobertaTokenizerFast", [])
    write(folder, "config.json", {"model_type": "xlm-roberta", "tokenizer_class": "CamembertTokenizer"})
    assert taken(folder, caplog) == ("CamembertTokenizerFast", [])
    write(folder, "tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizerFast"})
    assert taken(folder, caplog) == ("XLMRobertaTokenizerFast", [])


def test_the_files_decide_where_they_contradict_the_settings(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(folder, "config.json", {"model_type": "roberta"})
    write(folder, "tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer"})
    name, warnings = taken(folder, caplog)
    assert name == "XLMRobertaTokenizerFast"
    assert "RobertaTokenizer" in warnings[0]
    assert "by the files that are there" in warnings[0]


def test_an_unknown_class_with_a_tokenizer_json_is_the_librarys(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    roberta.XLMRobertaTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    write(
        tmp_path / "saved", "tokenizer_config.json", {"tokenizer_class": "SomebodysTokenizer", "mask_token": "<mask>"}
    )
    assert taken(tmp_path / "saved", caplog) == ("PreTrainedTokenizerFast", [])
    assert roberta.AutoTokenizer.from_pretrained(tmp_path / "saved")("the <mask>")["input_ids"] == [0, 4, 10, 2]


def test_a_folder_without_a_tokenizer_is_an_error_that_names_the_files(tmp_path: Path) -> None:
    write(tmp_path, "config.json", {"model_type": "roberta"})
    with pytest.raises(roberta.CheckpointError, match=r"has no tokenizer.*tokenizer\.json.*sentencepiece\.bpe\.model"):
        roberta.AutoTokenizer.from_pretrained(tmp_path)
    # the way out
    sentencepiece_model(tmp_path / "sentencepiece.bpe.model")
    assert roberta.AutoTokenizer.from_pretrained(tmp_path)("the")["input_ids"]


def test_the_plain_class_is_there_on_request(tmp_path: Path) -> None:
    small = Path(roberta.__file__).parent / "small"
    assert type(roberta.AutoTokenizer.from_pretrained(small)) is roberta.RobertaTokenizerFast
    if (small / "vocab.json").is_file():
        assert type(roberta.AutoTokenizer.from_pretrained(small, use_fast=False)) is roberta.RobertaTokenizer
    with pytest.raises(TypeError, match="has no instances"):
        roberta.AutoTokenizer()


def test_a_tokenizer_that_does_not_fit_the_model_is_named(folder: Path, tmp_path: Path) -> None:
    small = Path(roberta.__file__).parent / "small"
    shutil.copytree(small, tmp_path / "model")
    with pytest.warns(UserWarning, match="the tokenizer has 11 tokens"):
        roberta.pipeline("fill-mask", model=tmp_path / "model", tokenizer=folder)


# -- another vocabulary --------------------------------------------------------------------------------------------

TEXTS = ["the cat sat on the mat", "the dog sat on the log", "a cat and a dog met at the gate"] * 20


def check_trained(trained: Any, tokenizer: Any) -> None:
    assert type(trained) is type(tokenizer)
    assert trained.decode(trained("the cat sat")["input_ids"], skip_special_tokens=True).strip() == "the cat sat"
    named = ("cls_token", "sep_token", "pad_token", "mask_token")
    assert [getattr(trained, name) for name in named] == [getattr(tokenizer, name) for name in named]
    assert trained("the")["input_ids"][0] == trained.cls_token_id


def test_a_unigram_vocabulary_is_trained(folder: Path) -> None:
    tokenizer = roberta.XLMRobertaTokenizer.from_pretrained(folder)
    trained = tokenizer.train_new_from_iterator(TEXTS, 40, show_progress=False)
    check_trained(trained, tokenizer)
    assert trained.all_special_ids == [*tokenizer.all_special_ids[:4], trained.mask_token_id]


def test_a_wordpiece_vocabulary_is_trained(words: Path) -> None:
    tokenizer = roberta.BertTokenizer.from_pretrained(words)
    trained = tokenizer.train_new_from_iterator(TEXTS, 60, show_progress=False)
    check_trained(trained, tokenizer)
    assert "##at" in trained.get_vocab() or "cat" in trained.get_vocab()


def test_a_byte_level_vocabulary_with_a_normalizer_is_trained() -> None:
    tokenizer = roberta.RobertaTokenizerFast.from_pretrained(Path(roberta.__file__).parent / "small")
    tokenizer.backend_tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    trained = tokenizer.train_new_from_iterator(TEXTS, 300, show_progress=False)
    check_trained(trained, tokenizer)
    assert trained("THE CAT")["input_ids"] == trained("the cat")["input_ids"]


def test_unknown_words_are_shown_with_their_own_characters(words: Path) -> None:
    tokenizer = roberta.AutoTokenizer.from_pretrained(words)
    (whole,), (split,) = tokenised(tokenizer, ["cats zé ."]), tokenised_words(tokenizer, [["cats", "zé", "."]], 1)
    for text in (whole, split):
        assert text.tokens == ["cat", "##s", "zé", "."]
        assert text.offsets.tolist() == [[0, 3], [3, 4], [5, 7], [8, 9]]


def test_an_unknown_part_of_a_word_is_marked_as_such(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("a@@ 9\nc 8\nac 7\n")
    (tmp_path / "bpe.codes").write_text("")
    tokenizer = roberta.PhobertTokenizer.from_pretrained(tmp_path)
    (text,) = tokenised(tokenizer, ["abc c"])
    assert text.tokens == ["a@@", "b@@", "c", "c"]
    assert tokenizer.convert_tokens_to_string(list(text.tokens)) == "abc c"
