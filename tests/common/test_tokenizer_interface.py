"""What both tokenizers offer besides encoding text: the result's queries, padding, added tokens, training, ..."""

from __future__ import annotations

import copy
import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import roberta
from roberta import AddedToken, BatchEncoding

CLASSES = ("RobertaTokenizer", "RobertaTokenizerFast")
CORPUS = ["The quick brown fox jumps over the lazy dog, doesn't it?", "Hello world, hello again, naïve café."] * 4
SPECIAL = ["<s>", "</s>", "<unk>", "<pad>", "<mask>"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    roberta.RobertaTokenizerFast.train(iter(CORPUS), vocab_size=320).save_pretrained(folder)
    return folder


@pytest.fixture(params=CLASSES)
def cls(request: pytest.FixtureRequest) -> Any:
    return getattr(roberta, request.param)


@pytest.fixture
def tokenizer(cls: Any, saved: Path) -> Any:
    return cls.from_pretrained(saved)


# -- the result ----------------------------------------------------------------------------------------------


def test_the_result_is_a_dict_with_attributes(tokenizer: Any) -> None:
    encoding = tokenizer("Hello world")
    assert isinstance(encoding, BatchEncoding)
    assert list(encoding.keys()) == ["input_ids", "attention_mask"]
    assert encoding["input_ids"] is encoding.input_ids
    assert dict(**encoding) == dict(encoding.items())
    assert "labels" not in encoding
    with pytest.raises(AttributeError, match="labels"):
        encoding.labels  # noqa: B018
    with pytest.raises(KeyError, match="labels"):
        encoding["labels"]
    encoding["labels"] = [1]
    assert encoding.labels == [1]
    assert encoding.pop("labels") == [1]
    assert len(encoding) == 2


def test_rows_and_slices_of_a_batch(tokenizer: Any) -> None:
    encoding = tokenizer(["Hello", "Hello world", "the"], padding=True)
    assert encoding[1].ids == encoding["input_ids"][1]
    assert [row.ids for row in encoding[:2]] == encoding["input_ids"][:2]
    assert encoding.n_sequences == 1
    assert tokenizer("Hello", "world").n_sequences == 2
    assert len(encoding.encodings) == 3
    row = encoding.encodings[0]
    assert row.ids == encoding["input_ids"][0]
    assert row.attention_mask == encoding["attention_mask"][0]
    assert row.tokens == encoding.tokens(0)


def test_queries_by_word(tokenizer: Any) -> None:
    encoding = tokenizer([["Hello", "brown", "foxes"], ["a"]], is_split_into_words=True)
    words = encoding.word_ids(0)
    assert words == encoding.words(0)
    assert [word for word in dict.fromkeys(words) if word is not None] == [0, 1, 2]
    for word in range(3):
        span = encoding.word_to_tokens(0, word)
        assert words[span.start : span.end] == [word] * (span.end - span.start)
        assert encoding.token_to_word(0, span.start) == word
        assert encoding.word_to_chars(0, word).start in (0, 1)  # within the word itself
    assert encoding.word_to_tokens(0, 9) is None
    assert encoding.token_to_word(0, 0) is None
    assert encoding.token_to_sequence(0, 1) == 0
    assert encoding.token_to_sequence(0, 0) is None


def test_queries_of_one_text_need_no_row(tokenizer: Any) -> None:
    text = "Hello world, hello"
    encoding = tokenizer(text, "the dog", return_offsets_mapping=True)
    for position, char in enumerate(text):
        token = encoding.char_to_token(position)
        assert (token is None) == char.isspace()
        if token is not None:
            span = encoding.token_to_chars(token)
            assert span.start <= position < span.end
            assert encoding.char_to_token(0, position) == token
            assert encoding.char_to_word(position) == encoding.token_to_word(token)
    second = encoding.char_to_token(0, sequence_index=1)
    assert encoding.token_to_sequence(second) == 1
    assert encoding.token_to_chars(second).start == 0
    assert encoding.token_to_chars(0) is None
    assert encoding.sequence_ids().count(1) == len(tokenizer.tokenize("the dog"))
    # negative numbers count from the end
    assert encoding.token_to_word(-2) == encoding.token_to_word(len(encoding.input_ids) - 2)


def test_queries_survive_padding_and_arrays(tokenizer: Any) -> None:
    encoding = tokenizer(["Hello", "Hello world, hello"], padding=True, return_tensors="np")
    assert len(encoding.word_ids(0)) == encoding["input_ids"].shape[1]
    assert encoding.word_ids(0)[-1] is None
    assert encoding.sequence_ids(0)[-1] is None
    assert encoding.tokens(0)[-1] == "<pad>"


def test_a_result_that_was_made_by_hand_has_no_alignment(tokenizer: Any) -> None:
    encoding = tokenizer.pad({"input_ids": [[5, 6], [7]]})
    assert not encoding.is_fast
    for query in ("word_ids", "tokens", "sequence_ids"):
        with pytest.raises(ValueError, match="tokenizer"):
            getattr(encoding, query)()
    with pytest.raises((KeyError, ValueError), match=r"row|slice|0"):
        encoding[0]


def test_the_result_pickles_and_copies(tokenizer: Any) -> None:
    encoding = tokenizer(["Hello world", "the"], return_offsets_mapping=True)
    for again in (pickle.loads(pickle.dumps(encoding)), copy.deepcopy(encoding), copy.copy(encoding)):
        assert dict(again) == dict(encoding)
        assert again.word_ids(1) == encoding.word_ids(1)
        assert again.tokens(0) == encoding.tokens(0)


# -- arrays --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["np", "pt", "tf", "jax"])
def test_arrays_of_each_framework(tokenizer: Any, kind: str) -> None:
    module = {"np": "numpy", "pt": "torch", "tf": "tensorflow", "jax": "jax"}[kind]
    pytest.importorskip(module)
    texts = ["Hello world", "the"]
    lists = tokenizer(texts, padding=True)
    arrays = tokenizer(texts, padding=True, return_tensors=kind)
    wanted_type = {"np": "ndarray", "pt": "Tensor", "tf": "EagerTensor", "jax": "ArrayImpl"}[kind]
    for name, value in arrays.items():
        assert type(value).__name__ == wanted_type
        assert np.asarray(value).tolist() == lists[name]
        assert str(np.asarray(value).dtype) == ("int64" if kind in ("np", "pt") else "int32")
    assert np.asarray(tokenizer("Hello", return_tensors=kind)["input_ids"]).shape[0] == 1
    converted = tokenizer(texts, padding=True).convert_to_tensors(kind)
    assert np.asarray(converted["input_ids"]).tolist() == lists["input_ids"]
    encoded = tokenizer.encode("Hello", return_tensors=kind)
    assert np.asarray(encoded).shape == (1, len(tokenizer.encode("Hello")))


def test_a_missing_framework_is_named_with_its_extra(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for kind, module, extra in (("pt", "torch", "pt"), ("tf", "tensorflow", "tf"), ("jax", "jax", "flax")):
        for name in [name for name in sys.modules if name.partition(".")[0] == module]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImportError, match=re.escape(f"roberta[{extra}]")):
            tokenizer("Hello", return_tensors=kind)


def test_to_a_device(tokenizer: Any) -> None:
    torch = pytest.importorskip("torch")
    encoding = tokenizer("Hello", return_tensors="pt")
    moved = encoding.to("meta")
    assert moved is encoding
    assert moved["input_ids"].device == torch.device("meta")
    moved = tokenizer("Hello", return_tensors="pt").to(torch.device("cpu"), non_blocking=True)
    assert moved["input_ids"].device.type == "cpu"


# -- pad -----------------------------------------------------------------------------------------------------


def test_pad_of_lists_dicts_and_arrays(tokenizer: Any) -> None:
    rows = [{"input_ids": [5, 6, 7], "special_tokens_mask": [1, 0, 1]}, {"input_ids": [8], "special_tokens_mask": [0]}]
    wanted = {
        "input_ids": [[5, 6, 7], [8, 1, 1]],
        "attention_mask": [[1, 1, 1], [1, 0, 0]],
        "special_tokens_mask": [[1, 0, 1], [0, 1, 1]],
    }
    assert dict(tokenizer.pad(rows)) == wanted
    together = {name: [row[name] for row in rows] for name in rows[0]}
    assert dict(tokenizer.pad(together)) == wanted
    arrays = tokenizer.pad([{name: np.array(v) for name, v in row.items()} for row in rows], return_tensors="np")
    assert {name: value.tolist() for name, value in arrays.items()} == wanted
    assert rows[1] == {"input_ids": [8], "special_tokens_mask": [0]}, "the caller's own lists stay"


def test_pad_sides_lengths_and_multiples(tokenizer: Any) -> None:
    rows = {"input_ids": [[5, 6, 7], [8]], "token_type_ids": [[0, 0, 0], [0]]}
    left = tokenizer.pad(rows, padding_side="left")
    assert left["input_ids"][1] == [1, 1, 8]
    assert left["attention_mask"][1] == [0, 0, 1]
    assert len(tokenizer.pad(rows, pad_to_multiple_of=4)["input_ids"][0]) == 4
    fixed = tokenizer.pad(rows, padding="max_length", max_length=6, pad_to_multiple_of=4)
    assert [len(row) for row in fixed["token_type_ids"]] == [8, 8]
    assert "attention_mask" not in tokenizer.pad(rows, return_attention_mask=False)
    assert tokenizer.pad({"input_ids": [5]}, padding="max_length", max_length=3)["input_ids"] == [5, 1, 1]


def test_pad_keeps_labels_and_given_masks(tokenizer: Any) -> None:
    padded = tokenizer.pad({"input_ids": [[5, 6], [7]], "attention_mask": [[1, 0], [1]], "labels": [[1, 2], [3]]})
    assert padded["attention_mask"] == [[1, 0], [1, 0]]
    assert padded["labels"] == [[1, 2], [3]]


# -- calls ---------------------------------------------------------------------------------------------------


def test_the_older_calls_are_the_call(tokenizer: Any) -> None:
    one, batch = tokenizer("Hello", "the dog"), tokenizer(["Hello", "the"], padding=True)
    assert dict(tokenizer.encode_plus("Hello", "the dog")) == dict(one)
    assert tokenizer.encode("Hello", "the dog") == one["input_ids"]
    assert dict(tokenizer.batch_encode_plus(["Hello", "the"], padding=True)) == dict(batch)
    assert dict(tokenizer.batch_encode_plus([("Hello", "the dog")])) == {name: [value] for name, value in one.items()}


def test_pairs_in_a_batch_and_as_two_batches(tokenizer: Any) -> None:
    assert dict(tokenizer([("a", "b"), ("c", "d")])) == dict(tokenizer(["a", "c"], ["b", "d"]))
    assert dict(tokenizer(("a", "b"))) == dict(tokenizer(["a", "b"]))


def test_an_empty_second_text_is_no_pair_alone_and_one_in_a_batch(tokenizer: Any) -> None:
    alone = tokenizer("Hello", "")["input_ids"]
    assert alone == tokenizer("Hello")["input_ids"]
    assert tokenizer(["Hello"], [""])["input_ids"] == [[*alone, 2, 2]]


def test_targets_become_labels(tokenizer: Any) -> None:
    both = tokenizer("Hello", text_target="the dog")
    assert both["labels"] == tokenizer("the dog")["input_ids"]
    assert both["input_ids"] == tokenizer("Hello")["input_ids"]
    assert dict(tokenizer(text_target="the dog")) == dict(tokenizer("the dog"))


def test_lengths_of_padded_rows(tokenizer: Any) -> None:
    encoding = tokenizer(["Hello world", "the"], padding=True, return_length=True)
    assert encoding["length"] == [len(row) for row in encoding["input_ids"]]


def test_masks_and_types_only_when_asked_for(tokenizer: Any) -> None:
    names = list(tokenizer("a", "b", return_token_type_ids=True, return_attention_mask=False))
    assert names == ["input_ids", "token_type_ids"]
    types = tokenizer("a", "b", return_token_type_ids=True, add_special_tokens=False)["token_type_ids"]
    assert types == [0, 0]


def test_typed_special_tokens_are_special_only_by_id(tokenizer: Any) -> None:
    encoding = tokenizer("<s> a", return_special_tokens_mask=True)
    assert encoding["special_tokens_mask"][:2] == [1, 0]
    mask = tokenizer.get_special_tokens_mask(encoding["input_ids"], already_has_special_tokens=True)
    assert mask[:2] == [1, 1]
    assert tokenizer.get_special_tokens_mask([5, 6], [7]) == [1, 0, 0, 1, 1, 0, 1]


def test_special_tokens_can_be_text(tokenizer: Any) -> None:
    assert tokenizer.tokenize("a<mask>") == ["a", "<mask>"]
    split = tokenizer("a<mask>", split_special_tokens=True)["input_ids"]
    assert tokenizer.mask_token_id not in split
    assert tokenizer.decode(split, skip_special_tokens=True) == "a<mask>"
    again = type(tokenizer).from_pretrained(tokenizer.name_or_path, split_special_tokens=True)
    assert again.encode("a<mask>") == split


def test_a_long_text_is_warned_of_once(tokenizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer.model_max_length = 4
    assert len(tokenizer("Hello world, hello again")["input_ids"]) > 4
    tokenizer("Hello world, hello again")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "4" in caplog.text
    assert len(tokenizer("Hello world, hello again", truncation=True)["input_ids"]) == 4
    caplog.clear()
    again = type(tokenizer).from_pretrained(tokenizer.name_or_path, model_max_length=4)
    again("Hello world, hello again", verbose=False)
    assert not caplog.records


@pytest.mark.parametrize(
    "options",
    [{"truncation": True}, {"padding": "max_length"}, {"padding": True, "max_length": 50}],
    ids=str,
)
def test_options_that_do_nothing_are_warned_of(
    tokenizer: Any, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    encoding = tokenizer(["Hello"], **options)
    assert encoding["input_ids"] == tokenizer(["Hello"])["input_ids"]
    assert "max_length" in caplog.text


def test_a_length_alone_truncates_and_is_warned_of(tokenizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert len(tokenizer("Hello world, hello again", max_length=4)["input_ids"]) == 4
    assert "truncation" in caplog.text


def test_truncation_to_the_special_tokens_alone(tokenizer: Any) -> None:
    assert tokenizer("Hello", truncation=True, max_length=2)["input_ids"] == [0, 2]
    assert tokenizer("Hello", "the dog", truncation=True, max_length=4)["input_ids"] == [0, 2, 2, 2]


def test_the_odd_token_of_a_pair_stays_with_the_second(tokenizer: Any) -> None:
    pair = tokenizer("a", "b", truncation=True, max_length=5)["input_ids"]
    assert pair == [0, 2, 2, tokenizer.convert_tokens_to_ids("b"), 2]


# -- tokens and ids ------------------------------------------------------------------------------------------


def test_templates(tokenizer: Any) -> None:
    assert tokenizer.build_inputs_with_special_tokens([5], [6]) == [0, 5, 2, 2, 6, 2]
    assert tokenizer.create_token_type_ids_from_sequences([5], [6]) == [0] * 6
    assert tokenizer.num_special_tokens_to_add() == 2
    assert tokenizer.num_special_tokens_to_add(pair=True) == 4


def test_a_renamed_start_is_that_of_the_encoder_only(cls: Any, saved: Path) -> None:
    """The encoder adds cls and sep around a text, `build_inputs_with_special_tokens` bos and eos, as in transformers."""
    tokenizer = cls(saved / "vocab.json", saved / "merges.txt", cls_token="<unk>")
    assert tokenizer.encode("") == [3, 2]
    assert tokenizer.build_inputs_with_special_tokens([5]) == [0, 5, 2]


def test_a_renamed_start_leaves_the_rows_of_a_tokenizer_json_alone(saved: Path) -> None:
    tokenizer = roberta.RobertaTokenizerFast.from_pretrained(saved, cls_token="<unk>")  # as in transformers
    assert tokenizer.cls_token_id == 3
    assert tokenizer.encode("") == [0, 2]


def test_bytes_that_a_vocabulary_lacks_are_dropped(cls: Any, saved: Path, tmp_path: Path) -> None:
    vocab = json.loads((saved / "vocab.json").read_text())
    lacking = {"ææ" if token == "æ" else token: index for token, index in vocab.items()}  # the byte 0xE6
    (tmp_path / "vocab.json").write_text(json.dumps(lacking))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = cls.from_pretrained(tmp_path)
    assert tokenizer.tokenize("a日b") == ["a", "Ĺ", "¥", "b"]  # 0xE6 0x97 0xA5


def test_prepare_for_model_and_truncate_sequences(tokenizer: Any) -> None:
    prepared = tokenizer.prepare_for_model([5, 6, 7], [8], truncation="only_first", max_length=6, padding="max_length")
    assert prepared["input_ids"] == [0, 5, 2, 2, 8, 2]
    first, second, overflow = tokenizer.truncate_sequences([5, 6, 7], [8], num_tokens_to_remove=2, stride=1)
    assert (first, second) == ([5], [8])
    assert isinstance(overflow, list)


def test_conversions(tokenizer: Any) -> None:
    assert tokenizer.convert_tokens_to_ids("<mask>") == tokenizer.mask_token_id
    assert tokenizer.convert_tokens_to_ids(["<s>", "no such token"]) == [0, 3]
    assert tokenizer.convert_ids_to_tokens(0) == "<s>"
    assert tokenizer.convert_ids_to_tokens([0, 99999]) == ["<s>", None]
    assert tokenizer.convert_ids_to_tokens([0, 5], skip_special_tokens=True) == [tokenizer.convert_ids_to_tokens(5)]
    assert tokenizer.convert_tokens_to_string(["ĠHello", "Ġworld"]) == " Hello world"
    assert tokenizer.get_vocab()["<s>"] == 0
    assert tokenizer.vocab == tokenizer.get_vocab()


@pytest.mark.parametrize("make", [list, np.array, tuple], ids=["list", "array", "tuple"])
def test_decoding_takes_any_sequence_of_ids(tokenizer: Any, make: Any) -> None:
    ids = tokenizer.encode("Hello world, n't .")
    assert tokenizer.decode(make(ids)) == "<s>Hello world, n't .</s>"
    assert tokenizer.decode(make(ids), skip_special_tokens=True) == "Hello world, n't ."
    assert tokenizer.decode(make(ids), True, True) == "Hello world,n't."
    assert tokenizer.batch_decode(make([ids, ids]), skip_special_tokens=True) == ["Hello world, n't ."] * 2
    assert tokenizer.decode(ids[1]) == tokenizer.decode([ids[1]])


def test_decoding_takes_tensors(tokenizer: Any) -> None:
    torch = pytest.importorskip("torch")
    ids = tokenizer("Hello world", return_tensors="pt")["input_ids"]
    assert tokenizer.decode(ids[0]) == "<s>Hello world</s>"
    assert tokenizer.batch_decode(ids) == ["<s>Hello world</s>"]
    assert tokenizer.decode(torch.tensor(0)) == "<s>"


# -- special and added tokens --------------------------------------------------------------------------------


def test_special_token_attributes(tokenizer: Any) -> None:
    assert tokenizer.all_special_tokens == SPECIAL
    assert tokenizer.all_special_ids == [0, 2, 3, 1, tokenizer.mask_token_id]
    assert (tokenizer.bos_token_id, tokenizer.cls_token_id) == (0, 0)
    assert (tokenizer.eos_token_id, tokenizer.sep_token_id) == (2, 2)
    assert (tokenizer.pad_token, tokenizer.pad_token_id, tokenizer.unk_token_id) == ("<pad>", 1, 3)
    assert tokenizer.pad_token_type_id == 0
    assert tokenizer.additional_special_tokens == []
    assert tokenizer.special_tokens_map["mask_token"] == "<mask>"
    assert tokenizer.added_tokens_decoder[1].content == "<pad>"
    assert tokenizer.added_tokens_encoder["<pad>"] == 1
    assert set(tokenizer.get_added_vocab()) == set(SPECIAL)
    assert tokenizer.model_input_names == ["input_ids", "attention_mask"]


def test_tokens_are_added_at_the_end(tokenizer: Any) -> None:
    size = len(tokenizer)
    assert tokenizer.add_tokens(["newtok", "other"]) == 2
    assert tokenizer.add_tokens("newtok") == 0
    assert (len(tokenizer), tokenizer.vocab_size) == (size + 2, size)
    assert tokenizer.convert_tokens_to_ids(["newtok", "other"]) == [size, size + 1]
    assert tokenizer.tokenize("a newtoken") == [*tokenizer.tokenize("a "), "newtok", *tokenizer.tokenize("en")]
    assert tokenizer.get_added_vocab()["other"] == size + 1
    assert tokenizer.decode(tokenizer.encode("a newtok")) == "<s>a newtok</s>"


def test_special_tokens_are_added_and_named(tokenizer: Any) -> None:
    size = len(tokenizer)
    added = tokenizer.add_special_tokens({"additional_special_tokens": ["<e1>", "<e2>"], "sep_token": "<sep>"})
    assert added == 3
    assert tokenizer.sep_token == "<sep>"
    assert set(tokenizer.additional_special_tokens) == {"<e1>", "<e2>"}
    assert {"<e1>", "<e2>", "<sep>"} <= set(tokenizer.all_special_tokens)
    assert sorted(tokenizer.convert_tokens_to_ids(["<e1>", "<e2>", "<sep>"])) == [size, size + 1, size + 2]
    assert tokenizer.decode(tokenizer.encode("a<e1>b"), skip_special_tokens=True) == "ab"
    tokenizer.add_special_tokens({"additional_special_tokens": ["<e3>"]}, replace_additional_special_tokens=False)
    assert set(tokenizer.additional_special_tokens) == {"<e1>", "<e2>", "<e3>"}


def test_a_token_of_the_vocabulary_keeps_its_id_when_added(tokenizer: Any) -> None:
    number = tokenizer.convert_tokens_to_ids("he")
    size = len(tokenizer)
    tokenizer.add_tokens(["he"])
    assert len(tokenizer) == size
    assert tokenizer.encode("xhex", add_special_tokens=False)[1] == number


def test_how_an_added_token_is_matched(tokenizer: Any) -> None:
    tokenizer.add_tokens([AddedToken("wordly", single_word=True), AddedToken("[L]", lstrip=True, rstrip=True)])
    assert "wordly" in tokenizer.tokenize("a wordly b")
    assert "wordly" not in tokenizer.tokenize("awordlyb")
    ids = tokenizer.encode("a  [L]  b", add_special_tokens=False)
    assert len(ids) == 3


def test_a_special_token_can_be_named_anew(tokenizer: Any) -> None:
    tokenizer.mask_token = "[M]"
    assert tokenizer.mask_token_id == tokenizer.unk_token_id
    tokenizer.add_special_tokens({"mask_token": "[M]"})
    assert tokenizer.mask_token_id == len(tokenizer) - 1
    tokenizer.pad_token = None
    assert tokenizer.pad_token_id is None


def test_tokenizers_pickle_and_copy(tokenizer: Any) -> None:
    tokenizer.add_tokens(["newtok"])
    tokenizer.padding_side = "left"
    for again in (pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer)):
        assert dict(again(["a newtok", "b"], padding=True)) == dict(tokenizer(["a newtok", "b"], padding=True))
        assert len(again) == len(tokenizer)
        assert again.padding_side == "left"


def test_a_tokenizer_says_what_it_is(tokenizer: Any) -> None:
    assert type(tokenizer).__name__ in repr(tokenizer)
    assert str(len(tokenizer)) in repr(tokenizer) or str(tokenizer.vocab_size) in repr(tokenizer)
    assert "<mask>" in repr(tokenizer)
    assert len(repr(tokenizer)) < 5000
    assert tokenizer.is_fast is type(tokenizer).__name__.endswith("Fast")


# -- training ------------------------------------------------------------------------------------------------


def test_training_from_texts_and_from_files_is_the_same(tmp_path: Path) -> None:
    train = roberta.RobertaTokenizerFast.train
    (tmp_path / "corpus.txt").write_text("\n".join(CORPUS))
    texts, files = train(iter(CORPUS), vocab_size=300), train([tmp_path / "corpus.txt"], vocab_size=300)
    assert len(texts) == len(files) == 300
    assert texts.convert_ids_to_tokens([0, 1, 2, 3]) == ["<s>", "<pad>", "</s>", "<unk>"]
    assert texts.encode("Hello world") == [0, *texts.encode("Hello world", add_special_tokens=False), 2]
    for named in (str(tmp_path / "corpus.txt"), [str(tmp_path / "corpus.txt")]):
        assert train(named, vocab_size=300).get_vocab() == files.get_vocab()
    shared = set(texts.get_vocab()) & set(files.get_vocab())
    assert len(shared) >= 295  # files are split into lines, which keep their ends


def test_trained_vocabulary_encodes_any_text() -> None:
    tokenizer = roberta.RobertaTokenizerFast.train(iter(CORPUS), vocab_size=300)
    text = "日本 😀 \0 ü"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert tokenizer.unk_token_id not in tokenizer.encode(text)


def test_training_anew_keeps_the_settings(saved: Path) -> None:
    old = roberta.RobertaTokenizerFast.from_pretrained(saved, model_max_length=33, add_prefix_space=True)
    new = old.train_new_from_iterator((["some other texts"] * 5 for _ in range(4)), vocab_size=290)
    assert len(new) <= 290
    assert (new.model_max_length, new.add_prefix_space) == (33, True)
    assert new.all_special_tokens == old.all_special_tokens
    assert new.convert_ids_to_tokens([0, 1, 2, 3]) == ["<s>", "<pad>", "</s>", "<unk>"]
    assert "Ġother" in new.get_vocab()


def test_training_twice_gives_the_same(tmp_path: Path) -> None:
    train = roberta.RobertaTokenizerFast.train
    one, two = train(iter(CORPUS), vocab_size=310), train(iter(CORPUS), vocab_size=310)
    assert one.get_vocab() == two.get_vocab()
    one.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "vocab.json").read_text()) == one.get_vocab()
