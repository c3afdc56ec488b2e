"""A fairseq model is converted with a tested tokenizer for its dictionary, or with none and the reason."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import checkpoints
import pytest

from roberta import AutoTokenizer, CheckpointError, RobertaTokenizerFast
from roberta.conversion import convert, probe
from roberta.conversion.fairseq import sentencepiece
from roberta.conversion.fairseq.dictionary import kind_of_symbols, names_of_rows

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def fairseq(folder: Path, symbols: list[str], **files: bytes) -> Path:
    """A checkpoint of fairseq with a row for each symbol, and its dictionary."""
    rows = len(SPECIAL) + len(symbols) + 1
    source = checkpoints.make(folder / "made", "ForMaskedLM", dtype="float32", layer_norm_eps=1e-5, vocab_size=rows)
    convert(source, folder / "fairseq", to="fairseq")
    (folder / "fairseq" / "dict.txt").write_text("".join(f"{symbol} 9\n" for symbol in symbols))
    for name, content in files.items():
        (folder / "fairseq" / name.replace("_", ".")).write_bytes(content)
    return folder / "fairseq"


NONE: dict[str, tuple[list[str], str]] = {
    "sentencepiece": (["▁the", "▁cat", "▁sat", "s"], r"pieces of SentencePiece; give .* \(--sentencepiece\)"),
    "words": (["the", "cat", "sat"], "are words; split texts as the training data was"),
    "byte-level": (["the", "Ġcat", "Ġsat"], r"tokens of a byte-level BPE; give its merges.*--vocab-bpe"),
    "subword-nmt": (["th@@", "e", "cat"], "parts of words by subword-nmt"),
    "numbers": (["262", "3797", "11"], r"GPT-2's ids; give encoder\.json and vocab\.bpe"),
    "characters": (["的", "一", "é"], "are characters, not all of them printable ASCII"),
}


@pytest.mark.parametrize("kind", NONE)
def test_without_what_cuts_texts_there_is_no_tokenizer_and_a_note_says_what_is_missing(
    kind: Any, tmp_path: Path
) -> None:
    """Each of these once became a RobertaTokenizer that turned "the cat sat" into nothing."""
    symbols, note = NONE[kind]
    assert kind_of_symbols(symbols) == kind
    report = convert(fairseq(tmp_path, symbols), tmp_path / "out", to="safetensors")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"config.json", "dict.txt", "model.safetensors"}
    (found,) = (text for text in report.notes if text.startswith("no tokenizer"))
    assert re.search(note, found), found


def test_characters_are_tokens_of_their_own(tmp_path: Path) -> None:
    """Like the amino acids in Sapiens."""
    report = convert(fairseq(tmp_path, list("ACDEF")), tmp_path / "out", to="safetensors")
    assert not any("tokenizer" in note for note in report.notes)
    tokenizer = RobertaTokenizerFast.from_pretrained(tmp_path / "out")
    assert tokenizer("FACE")["input_ids"] == [0, 8, 4, 5, 7, 2]


def test_merges_beside_tokens_of_a_byte_level_bpe_make_its_tokenizer(tmp_path: Path) -> None:
    symbols, merges = [*"abcst", "Ġ", "Ġc", "at", "Ġcat"], b"#version: 0.2\n\xc4\xa0 c\na t\n\xc4\xa0c at\n"
    convert(fairseq(tmp_path, symbols, vocab_bpe=merges), tmp_path / "out", to="safetensors")
    tokenizer = RobertaTokenizerFast.from_pretrained(tmp_path / "out")
    ids = {symbol: index + 4 for index, symbol in enumerate(symbols)}
    assert tokenizer(" cat")["input_ids"] == [0, ids["Ġcat"], 2]


def test_a_dictionary_that_lacks_tokens_of_the_merges_gives_no_folder_that_cannot_be_read(tmp_path: Path) -> None:
    source = fairseq(tmp_path, [*"act", "Ġ", "Ġc", "Ġcat"], vocab_bpe="Ġ c\na t\nĠc at\n".encode())
    report = convert(source, tmp_path / "out", to="safetensors")
    (note,) = (text for text in report.notes if "tokenizer" in text)
    assert re.search(
        r"no tokenizer: .*merges\.txt, line 2: the merge 'a t' makes 'at', which is not in vocab\.json", note
    )
    assert "tmp" not in note
    assert not (tmp_path / "out" / "vocab.json").exists()


def test_a_file_that_has_no_part_in_the_tokenizer_is_refused(tmp_path: Path) -> None:
    source = fairseq(tmp_path, ["the", "cat"], vocab_bpe=b"a b\n")
    with pytest.raises(ValueError, match=r"vocab_bpe=.* is not used: the symbols of .*dict\.txt are words"):
        convert(source, tmp_path / "out", to="safetensors", vocab_bpe=source / "vocab.bpe")
    (source / "dict.txt").unlink()
    with pytest.raises(ValueError, match=r"needs a dictionary, and .* has no dict\.txt; give --dictionary"):
        convert(source, tmp_path / "out", to="safetensors", vocab_bpe=source / "vocab.bpe")


# -- SentencePiece -------------------------------------------------------------------------------------------------


def pieces(path: Path) -> list[str]:
    return [text for text, *_ in sentencepiece.read_sentencepiece(path).pieces]


@pytest.mark.parametrize(("name", "first"), [("xlmr-full", 3), ("camembert-full", 0)])
def test_a_model_of_sentencepiece_makes_the_file_that_transformers_made(
    name: str, first: int, golden: Path, tmp_path: Path
) -> None:
    """The tokenizer.json that transformers 4.57 wrote for this model; CamemBERT's unused rows have different scores."""
    folder = golden / "family" / "tokenizers" / name
    if not folder.is_dir():
        pytest.skip("there are no references of the family")
    model, wanted = (
        sentencepiece.read_sentencepiece(folder / sentencepiece.SENTENCEPIECE_FILE),
        json.loads((folder / "tokenizer.json").read_text()),
    )
    rows = len(wanted["model"]["vocab"])
    path = tmp_path / "dict.txt"
    path.write_text("".join(f"{piece} 9\n" for piece in pieces(folder / sentencepiece.SENTENCEPIECE_FILE)[first:]))
    files = sentencepiece.sentencepiece_tokenizer(model, names_of_rows(path, rows), 62, b"", "the files")
    found = json.loads(files["tokenizer.json"])
    is_used = [not text.endswith("NOTUSED") for text, _ in wanted["model"]["vocab"]]
    for content in (found, wanted):
        content["model"]["vocab"] = [row for row, used in zip(content["model"]["vocab"], is_used, strict=True) if used]
    assert found == wanted
    settings, theirs = (json.loads(text) for text in (
        files["tokenizer_config.json"], (folder / "tokenizer_config.json").read_text(),
    ))  # fmt: skip
    assert {key: value for key, value in theirs.items() if key in settings and key != "model_max_length"} == {
        key: value for key, value in settings.items() if key != "model_max_length"
    }


def made_model(folder: Path, texts: list[str], *, kind: int = 1) -> Path:
    """A SentencePiece model, written field by field."""

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    marks = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    rows = [*marks, *((text, -1.0 - at, 1) for at, text in enumerate(texts))]
    body = b"".join(
        field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + bytes([3 << 3, type_]))
        for text, score, type_ in rows
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / sentencepiece.SENTENCEPIECE_FILE).write_bytes(body + field(2, bytes([3 << 3, kind])))
    return folder / sentencepiece.SENTENCEPIECE_FILE


PIECES = ["▁the", "▁cat", "▁", "s", "a", "t"]


@pytest.mark.parametrize("symbols", [PIECES, PIECES[::-1]], ids=["in the order of the pieces", "in another order"])
def test_pieces_have_the_ids_that_the_dictionary_gives_them(symbols: list[str], tmp_path: Path) -> None:
    """fairseq sorts a dictionary by frequency; only tokenizer.json can express that order."""
    from tokenizers import Tokenizer

    source = fairseq(tmp_path, symbols)
    model = made_model(tmp_path / "elsewhere", PIECES)
    report = convert(source, tmp_path / "out", to="safetensors", sentencepiece=model)
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    ids = {symbol: index + 4 for index, symbol in enumerate(symbols)}
    wanted = [0, ids["▁the"], ids["▁cat"], *(ids[piece] for piece in ("▁", "s", "a", "t")), 2]
    assert tokenizer.encode("the cat sat").ids == wanted
    assert tokenizer.encode("the §").ids == [0, ids["▁the"], ids["▁"], 3, 2]
    assert (sentencepiece.SENTENCEPIECE_FILE in report.files) == (symbols == PIECES)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    said = ("xlm-roberta", ["XLMRobertaForMaskedLM"]) if symbols == PIECES else ("roberta", ["RobertaForMaskedLM"])
    assert (config["model_type"], config["architectures"]) == said  # transformers 5 chooses a tokenizer by the type
    convert(tmp_path / "out", tmp_path / "moved", to="flax")
    assert (tmp_path / "moved" / "tokenizer.json").read_bytes() == (tmp_path / "out" / "tokenizer.json").read_bytes()
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("the cat sat")["input_ids"] == wanted


WRONG: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "a piece more": ([*PIECES, "▁dog"], {}, r"different tokenizers: 1 of the pieces are not symbols, such as '▁dog'"),
    "a piece less": (PIECES[:-1], {}, r"different tokenizers: 1 of the symbols are not pieces, such as 't'"),
    "byte pair encoding": (PIECES, {"kind": 2}, "is not like XLM-R's SentencePiece model: it is not a unigram model"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_model_of_another_tokenizer_is_refused(case: str, tmp_path: Path) -> None:
    texts, options, text = WRONG[case]
    source = fairseq(tmp_path, PIECES)
    model = made_model(tmp_path, texts, **options)
    with pytest.raises(CheckpointError, match=text):
        convert(source, tmp_path / "out", to="safetensors", sentencepiece=model)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"\x0a\x05ab", b"\x0a\xff\xff\xff", b"\x0a\x02\x08\x01", b"{}", b"\xff" * 20])
def test_a_damaged_model_is_one_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.model").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.model is not a SentencePiece model"):
        sentencepiece.read_sentencepiece(tmp_path / "a.model")


def test_camemberts_dictionary_makes_a_camembert_whose_texts_begin_with_5(tmp_path: Path) -> None:
    source = fairseq(tmp_path, ["<unk>", "<s>", "</s>", *PIECES])
    text = (source / "dict.txt").read_text()
    (source / "dict.txt").write_text(text.replace("</s> 9", "</s> 9 #fairseq:overwrite"))
    model = made_model(tmp_path / "elsewhere", PIECES)
    convert(source, tmp_path / "out", to="safetensors", sentencepiece=model)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("camembert", ["CamembertForMaskedLM"])
    assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (5, 6, 1)


def test_special_tokens_that_stand_twice_have_the_id_that_fairseq_looks_up(tmp_path: Path) -> None:
    """CamemBERT's dictionary begins with SentencePiece's own three: fairseq writes 5 and 6 around a text."""
    (tmp_path / "dict.txt").write_text("<unk> 9\n<s> 9\n</s> 9 #fairseq:overwrite\n▁le 9\n")
    names = names_of_rows(tmp_path / "dict.txt", 9)
    assert names == ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>", "▁le", "<mask>"]


# -- any tokenizer that is copied ------------------------------------------------------------------------------------


def test_a_tokenizer_with_more_tokens_than_the_model_has_rows_is_named(tmp_path: Path) -> None:
    texts = ["the cat sat on the mat"] * 9
    tokenizer = RobertaTokenizerFast.train(iter(texts), 280, show_progress=False)
    for rows, count in ((len(tokenizer), 0), (len(tokenizer) - 2, 1)):
        source = checkpoints.make(tmp_path / str(rows), "ForMaskedLM", dtype="float32", vocab_size=rows)
        tokenizer.save_pretrained(source)
        notes = [note for note in convert(source, tmp_path / f"out{rows}", to="pt").notes if "tokenizer" in note]
        assert len(notes) == count
    assert re.search(
        rf"does not fit this model: it has ids up to {rows + 1} and .*: 2 of its tokens have none", notes[0]
    )


def test_a_tokenizer_that_cannot_make_its_own_tokens_is_named(tmp_path: Path) -> None:
    """A folder such as `convert` once made from a dictionary of words."""
    words = ["the", "cat", "sat", "mat", "dog", "ran", "big", "old", "new", "red", "sea", "sky"]
    files = {
        "vocab.json": json.dumps({name: at for at, name in enumerate([*SPECIAL, *words, "<mask>"])}).encode(),
        "merges.txt": b"#version: 0.2\n",
    }
    assert "are encoded as themselves" in str(probe.problem(files, 17))


def test_files_of_other_tokenizers_travel_and_it_is_said_that_they_were_not_tried(tmp_path: Path) -> None:
    source = checkpoints.make(tmp_path / "bertweet", "ForMaskedLM", dtype="float32")
    for name in ("vocab.txt", "bpe.codes"):
        (source / name).write_text("a 1\n")
    report = convert(source, tmp_path / "out", to="tf")
    assert "copied as they are, and not tested: vocab.txt, bpe.codes" in report.notes
    assert (tmp_path / "out" / "bpe.codes").read_text() == "a 1\n"
