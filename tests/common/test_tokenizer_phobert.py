"""PhoBERT's and BERTweet's tokenizers: all recorded cases of transformers' slow classes, and what those do not have."""

from __future__ import annotations

import json
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import roberta
from roberta import AutoTokenizer, BertTokenizer, BertweetTokenizer, CheckpointError, PhobertTokenizer

sys.path.insert(0, str(Path(__file__).parent))
from test_tokenizer_family import Case, load, run
from test_tokenizer_golden import as_json

VOCAB = "th@@ 9\nthe 8\nthis 7\nis 6\nt@@ 5\na 4\n"
CODES = "t h 9\nth e</w> 8\ni s</w> 7\nth is</w> 6\na b</w> 5\n"


@pytest.fixture(scope="session")
def family(golden: Path) -> Path:
    if not (golden / "family").is_dir():
        pytest.skip("the reference outputs of the family are not beside the project")
    return golden / "family"


def files(folder: Path, vocab: str | bytes = VOCAB, codes: str | bytes = CODES) -> tuple[str, str]:
    """The two files of a vocabulary."""
    folder.mkdir(exist_ok=True, parents=True)
    paths = folder / "vocab.txt", folder / "bpe.codes"
    for path, text in zip(paths, (vocab, codes), strict=True):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(paths[0]), str(paths[1])


@pytest.fixture
def small(tmp_path: Path) -> PhobertTokenizer:
    return PhobertTokenizer(*files(tmp_path / "small"))


@pytest.fixture
def tweets(tmp_path: Path) -> BertweetTokenizer:
    for package in ("nltk", "emoji"):
        pytest.importorskip(package)
    return BertweetTokenizer(*files(tmp_path / "tweets"), normalization=True)


def is_other(case: Case) -> str | None:
    """Why our result differs from the recorded one of the slow class; None if it must be the same."""
    kwargs = case.get("kwargs", {})
    if case["category"] == "surrogate":
        return "half a surrogate pair has no bytes: refused by name"
    if kwargs.get("return_overflowing_tokens"):
        return "further rows, as of transformers' fast classes"
    if kwargs.get("return_length"):
        return "a list of one, as of transformers' fast classes"
    if kwargs.get("truncation") in ("only_first", "only_second") and "error" not in case["slow"]:
        return "refused where the other text does not fit; transformers logs an error and cuts nothing"
    if kwargs.get("max_length") == 2:
        return "the special tokens alone, as of transformers' fast classes; the slow ones cut nothing then"
    if case.get("method") == "tokenize" and kwargs.get("add_special_tokens"):
        return "the option applies; the slow classes ignore it, and the second text's"
    if case.get("method") == "add_tokens":
        return "counts what is matched differently from now on, as of transformers' fast classes"
    return None


@pytest.mark.parametrize("folder", ["phobert", "bertweet-raw", "bertweet-norm"])
def test_every_case_of_a_folder(folder: str, family: Path, tmp_path: Path) -> None:
    if folder == "bertweet-norm":
        for package in ("nltk", "emoji"):
            pytest.importorskip(package)
    cases = [json.loads(line) for line in (family / "cases" / f"{folder}.jsonl").read_text().split("\n") if line]
    others = 0
    for case in cases:
        found: Any
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tokenizer = load(case, AutoTokenizer, family / "tokenizers" / folder)
                found = as_json(run(case, tokenizer, tmp_path / case["id"]))
        except ValueError:
            found = None
        wanted = case["slow"].get("ok")
        # offsets and words, which the slow class does not have, are tested below
        if isinstance(found, dict) and isinstance(wanted, dict):
            found = {name: value for name, value in found.items() if name in wanted}
        if is_other(case):
            others += 1
        else:
            assert found == wanted, (case["id"], case["category"])
    assert len(cases) > 170
    assert others <= 15


def test_offsets_of_every_golden_text_are_those_of_its_tokens(family: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(family / "tokenizers" / "phobert")
    for line in (family / "cases" / "phobert.jsonl").read_text().split("\n"):
        case = json.loads(line) if line else {}
        if case.get("op") != "text" or case["category"] == "surrogate":
            continue
        text = case["args"][0]
        found = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
        assert [text[start:end] for start, end in found["offset_mapping"]] == [
            token.removesuffix("@@") for token in found.tokens()
        ], case["id"]


def test_tokens_offsets_and_words_by_hand(small: PhobertTokenizer) -> None:
    found = small(" the  this\nthx ab<mask>", return_offsets_mapping=True)
    # "this" before a newline is not at the end of the word; "ab" is merged though vocab.txt lacks it
    assert found.tokens() == ["<s>", "the", "th@@", "i@@", "s@@", "\n", "th@@", "x", "ab", "<mask>", "</s>"]
    assert found["input_ids"] == [0, 5, 4, 3, 3, 3, 4, 3, 3, 10, 2]
    spans = [(1, 4), (6, 8), (8, 9), (9, 10), (10, 11), (11, 13), (13, 14), (15, 17), (17, 23)]
    assert found["offset_mapping"] == [(0, 0), *spans, (0, 0)]
    assert found.word_ids() == [None, 0, 1, 1, 1, 1, 2, 2, 3, 4, None]
    assert small.decode(found["input_ids"]) == "<s> the th<unk> <unk> <unk> th<unk> <unk> <mask> </s>"
    words = small(["the", "b ab", "thx"], is_split_into_words=True, return_offsets_mapping=True)
    assert words.tokens() == ["<s>", "the", "b", "ab", "th@@", "x", "</s>"]
    assert words.word_ids() == [None, 0, 1, 1, 2, 2, None]
    assert words["offset_mapping"][1:-1] == [(0, 3), (0, 1), (2, 4), (0, 2), (2, 3)]
    assert small(["x\nx"], is_split_into_words=True).tokens() == ["<s>", "x@@", "\n", "x", "</s>"]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("cut", [{}, {"truncation": True, "max_length": 5}], ids=["whole", "cut"])
def test_arrays_have_the_ids_of_the_lists(cut: dict[str, Any], side: str, small: PhobertTokenizer) -> None:
    """An array is made from the library's ids, of which some are not those of the vocabulary: `ab`, `NEW`."""
    small.padding_side = side
    small.add_tokens(["NEW"])
    texts = ["the ab this", "", "xyz thNEW is ab this", "a"]
    lists = small(texts, **cut)["input_ids"]
    assert lists[0][:4] == [0, *small.convert_tokens_to_ids(["the", "<unk>", "this"])]
    width = max(map(len, lists))
    padded = [row + [1] * (width - len(row)) if side == "right" else [1] * (width - len(row)) + row for row in lists]
    arrays = small(texts, padding=True, return_tensors="np", **cut)
    assert arrays["input_ids"].tolist() == padded
    assert arrays["attention_mask"].tolist() == [[int(index != 1) for index in row] for row in padded]
    assert not arrays["token_type_ids"].any()
    assert [row.ids for row in arrays.encodings] == padded
    offsets = small(texts, padding=True, return_tensors="np", return_offsets_mapping=True, **cut)
    assert offsets["input_ids"].tolist() == padded


def test_white_space_is_pythons(small: PhobertTokenizer) -> None:
    for code in range(0x3001):
        is_one = len(small.tokenize(f"a{chr(code)}a")) == 2 and chr(code) != "\n"
        assert is_one == chr(code).isspace() or chr(code) == "\n", hex(code)


def test_an_added_token_that_is_a_part_of_a_word_too(small: PhobertTokenizer) -> None:
    before = small.tokenize("thx the")
    assert before == ["th@@", "x", "the"]
    small.add_tokens(["th", "NEW"])
    found = small("thx a NEW", return_offsets_mapping=True)
    assert found.tokens() == ["<s>", "th", "x", "a", "NEW", "</s>"]
    assert found["input_ids"] == [0, 11, 3, 9, 12, 2] == small("thx a NEW")["input_ids"]
    assert found["offset_mapping"][1:-1] == [(0, 2), (2, 3), (4, 5), (6, 9)]
    assert found.word_ids() == [None, 0, 1, 2, 3, None]
    assert small(["ath", "th"], is_split_into_words=True).word_ids() == [None, 0, 0, 1, None]
    assert small.decode([4, 11, 4, 5]) == "th@@ th ththe"


def test_a_tweet_is_normalized_and_traced(tweets: BertweetTokenizer) -> None:
    text = "@bob see https://t.co/x &amp; isn't it cannot !!!!!!! ❤️ 5 p.m. <mask> Éa…"
    assert tweets.normalizeTweet(text.replace("<mask>", "")) == (
        "@USER see HTTPURL & is n't it can not ! ! ! :red_heart: 5 p.m. Éa ..."
    )
    found = tweets(text, return_offsets_mapping=True)
    words: dict[int, list[Any]] = {}
    for word, token, (start, end) in zip(found.word_ids(), found.tokens(), found["offset_mapping"], strict=True):
        if word is not None:
            said = words.setdefault(word, ["", start, end])
            said[0] += token.removesuffix("@@")
            said[2] = end
    assert [(word, text[start:end]) for word, start, end in words.values()] == [
        ("@USER", "@bob"), ("see", "see"), ("HTTPURL", "https://t.co/x"), ("&", "&amp;"), ("is", "is"), ("n't", "n't"),
        ("it", "it"), ("can", "can"), ("not", "not"), ("!", "!"), ("!", "!"), ("!", "!!!!!"), (":red_heart:", "❤"),
        ("5", "5"), ("p.m.", "p.m."), ("<mask>", "<mask>"), ("Éa", "Éa"), ("...", "…"),
    ]  # fmt: skip
    assert tweets(text)["input_ids"] == found["input_ids"]
    # recorded with transformers 4.57.6, emoji 2.16: repeated letters but a to z, joined emoji, flags; a newline ends a word
    assert tweets.normalizeTweet("éééé aaaaa 👍🏽 👨\u200d👩 🇫🇷") == (
        "ééé aaaaa :thumbs_up: :medium_skin_tone: :man: \u200d :woman: 🇫 🇷"
    )
    assert tweets.tokenize("a\na") == ["a", "a"]


def test_normalization_without_its_packages_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "emoji", None)
    with pytest.raises(ImportError, match=r"normalization=True needs emoji.*roberta\[bertweet\]"):
        BertweetTokenizer(*files(tmp_path / "f"), normalization=True)
    assert not BertweetTokenizer(*files(tmp_path / "f")).normalization


def test_a_copy_in_another_process(small: PhobertTokenizer, tweets: BertweetTokenizer) -> None:
    for tokenizer, text in ((small, "thx <mask>"), (tweets, "@a isn't")):
        wanted = tokenizer.tokenize(text)
        assert pickle.loads(pickle.dumps(tokenizer)).tokenize(text) == wanted


# -- files ---------------------------------------------------------------------------------------------------------


def test_saved_files_are_the_files_that_were_read(tmp_path: Path) -> None:
    vocab, codes = files(tmp_path / "f")
    tokenizer = BertweetTokenizer(vocab, codes)
    tokenizer.add_tokens(["NEW"])
    tokenizer.save_pretrained(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {
        "added_tokens.json", "bpe.codes", "special_tokens_map.json", "tokenizer_config.json", "vocab.txt",
    }  # fmt: skip
    assert (tmp_path / "saved" / "vocab.txt").read_text() == VOCAB
    assert (tmp_path / "saved" / "bpe.codes").read_text() == CODES
    config = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "BertweetTokenizer"
    assert config["normalization"] is False
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert type(again) is BertweetTokenizer
    assert again("the NEW<mask> ab")["input_ids"] == tokenizer("the NEW<mask> ab")["input_ids"] == [0, 5, 11, 10, 3, 2]
    names = again.save_vocabulary(tmp_path / "words", "pp")
    assert [Path(name).name for name in names] == ["pp-vocab.txt", "pp-bpe.codes"]
    with pytest.raises(ValueError, match=r"legacy_format=False asks for a tokenizer\.json, which cannot give the ids"):
        again.save_pretrained(tmp_path / "saved", legacy_format=False)


def test_files_that_are_missing_by_now_are_written(tmp_path: Path) -> None:
    paths = files(tmp_path / "f")
    tokenizer = PhobertTokenizer(*paths)
    for path in paths:
        Path(path).unlink()
    tokenizer.save_pretrained(tmp_path / "saved")
    again = PhobertTokenizer.from_pretrained(tmp_path / "saved")
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.bpe_ranks == tokenizer.bpe_ranks
    assert again.tokenize("thx this ab") == tokenizer.tokenize("thx this ab")


def test_a_folder_without_a_class_name(tmp_path: Path) -> None:
    files(tmp_path / "f")
    assert type(AutoTokenizer.from_pretrained(tmp_path / "f")) is PhobertTokenizer
    assert type(AutoTokenizer.from_pretrained(tmp_path / "f", tokenizer_type="bertweet")) is BertweetTokenizer
    (tmp_path / "f" / "config.json").write_text('{"tokenizer_class": "BertweetTokenizer"}')
    assert type(AutoTokenizer.from_pretrained(tmp_path / "f")) is BertweetTokenizer
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\n[PAD]\n[MASK]\na\n")
    assert type(AutoTokenizer.from_pretrained(tmp_path / "b")) is BertTokenizer


@pytest.mark.parametrize(
    ("vocab", "codes", "message"),
    [
        ("", CODES, r"vocab\.txt is empty; it must have a token and its count a line"),
        ("the 3\na\n", CODES, r"vocab\.txt, line 2: 'a' is not a token and its count.*BertTokenizer"),
        ("the 3\n\na 1\n", CODES, r"vocab\.txt, line 2: ''"),
        ("the 3\n<s> 1\n", CODES, r"vocab\.txt, line 2: '<s>' has the id 0 already.*remove the line"),
        (b"the 3\n\xff 1\n", CODES, r"vocab\.txt, line 2: not UTF-8 text"),
        (VOCAB, "t h 3\nth 2\n", r"bpe\.codes, line 2: 'th 2' is not two symbols and their count"),
        (VOCAB, "t h e 3\n", r"bpe\.codes, line 1: 't h e 3' is not two symbols"),
        (VOCAB, b"t h 3\n\xe9 h 2\n", r"bpe\.codes, line 2: not UTF-8 text"),
    ],
)
def test_malformed_files_are_named(vocab: str | bytes, codes: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        PhobertTokenizer(*files(tmp_path / "f", vocab, codes))


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    vocab, codes = files(tmp_path / "f")
    with pytest.raises(ValueError, match="merges_file is missing"):
        PhobertTokenizer(vocab)
    with pytest.raises(CheckpointError, match=r"nothing is not a file"):
        PhobertTokenizer(str(tmp_path / "nothing"), codes)
    with pytest.raises(ValueError, match="PhobertTokenizer has no tokenizer_file"):
        PhobertTokenizer(vocab, codes, tokenizer_file="tokenizer.json")
    Path(codes).unlink()
    with pytest.raises(CheckpointError, match=r"has no bpe\.codes"):
        PhobertTokenizer.from_pretrained(tmp_path / "f")


def test_odd_files_are_read_as_transformers_reads_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # recorded with transformers 4.57.6: a token that stands twice, Windows line ends, a last line without an end
    tokenizer = PhobertTokenizer(*files(tmp_path / "f", "a 5\nb@@ 4\na 3\nc 2\nd 1\n", "a b</w> 3\r\nb a</w> 4"))
    assert tokenizer.get_vocab() == {
        **{"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}, **{"a": 6, "b@@": 5, "c": 6, "d": 7}, "<mask>": 8
    }  # fmt: skip
    assert tokenizer("a c d")["input_ids"] == [0, 6, 6, 7, 2]
    assert tokenizer.convert_ids_to_tokens([4, 6, 8, 9]) == ["<unk>", "c", "<mask>", "<unk>"]
    assert tokenizer.bpe_ranks == {("a", "b</w>"): 0}
    assert "line 3: 'a' stands there twice" in caplog.text
    assert "no line end after its last line" in caplog.text


def test_special_tokens_of_other_names(tmp_path: Path) -> None:
    # recorded with transformers 4.57.6
    named = {"bos_token": "[B]", "cls_token": "[C]", "unk_token": "[U]"}
    tokenizer = PhobertTokenizer(*files(tmp_path / "f", "a 5\nab 3\n", "a b</w> 3\n"), **named)
    assert tokenizer("a zz")["input_ids"] == [6, 4, 3, 3, 2]
    assert tokenizer.build_inputs_with_special_tokens([4], [5]) == [6, 4, 2, 2, 5, 2]


# -- training ------------------------------------------------------------------------------------------------------


def test_a_vocabulary_of_its_own(small: PhobertTokenizer, tmp_path: Path) -> None:
    small.add_special_tokens({"additional_special_tokens": ["<new>"]})
    texts = ["the cat saw the other cats\n", "this thing is there"] * 20
    trained = small.train_new_from_iterator(texts, 60, show_progress=False)
    assert type(trained) is PhobertTokenizer
    assert len(trained) <= 60
    assert trained.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<unk>"]) == [0, 1, 2, 3]
    assert trained.mask_token_id == trained.vocab_size
    found = trained(texts[0])["input_ids"]
    assert trained.tokenize("the cat")[-2:] == ["the", "cat"]
    trained.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again.get_vocab() == trained.get_vocab()
    assert again(texts[0])["input_ids"] == found
    with pytest.raises(ValueError, match="vocab_size=6 must be more than the 6 special tokens"):
        small.train_new_from_iterator(texts, 6, show_progress=False)


def test_a_trained_tokenizer_keeps_the_normalization(tweets: BertweetTokenizer) -> None:
    trained = tweets.train_new_from_iterator(["@a isn't it", "@b isn't so"] * 9, 70, show_progress=False)
    assert trained.normalization
    assert trained.tokenize("@zz isn't it")[:3] == ["@USER", "is", "n't"]


def test_words_end_with_a_token_without_its_mark(small: PhobertTokenizer) -> None:
    assert small.word_borders("th@@") == (False, False)
    assert small.word_borders("the") == (False, True)
    assert not hasattr(small, "backend_tokenizer")
    assert roberta.PhobertTokenizer is PhobertTokenizer
