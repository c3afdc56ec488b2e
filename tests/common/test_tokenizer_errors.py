"""Invalid files and arguments: one ValueError that names the file, line or argument, the same in both classes."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import roberta
from roberta import CheckpointError

CLASSES = ("RobertaTokenizer", "RobertaTokenizerFast")
CORPUS = ["The quick brown fox jumps over the lazy dog, doesn't it?", "Hello world, hello again."] * 4


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    roberta.RobertaTokenizerFast.train(iter(CORPUS), vocab_size=320).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(saved, tmp_path / "damaged"))


@pytest.fixture(params=CLASSES)
def cls(request: pytest.FixtureRequest) -> Any:
    return getattr(roberta, request.param)


@pytest.fixture
def tokenizer(cls: Any, saved: Path) -> Any:
    return cls.from_pretrained(saved)


def plain_files(folder: Path) -> None:
    """Leave only vocab.json and merges.txt."""
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink()


# -- files ---------------------------------------------------------------------------------------------------


def edit_vocab(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "vocab.json"
        vocab = json.loads(path.read_text())
        path.write_text(json.dumps(change(vocab) or vocab))

    return damage


def edit_merges(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "merges.txt"
        path.write_text("\n".join(change(path.read_text().split("\n"))))

    return damage


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


DAMAGED = {
    "no vocab": (lambda folder: (folder / "vocab.json").unlink(), ["vocab.json"]),
    "no merges": (lambda folder: (folder / "merges.txt").unlink(), ["merges.txt"]),
    "vocab is not JSON": (write("vocab.json", '{"a": 1,'), ["vocab.json"]),
    "vocab is a list": (write("vocab.json", '["a", "b"]'), ["vocab.json", "list"]),
    "vocab is empty": (write("vocab.json", "{}"), ["vocab.json"]),
    "vocab is not UTF-8": (lambda folder: (folder / "vocab.json").write_bytes(b'{"\xff": 1}') and None, ["vocab.json"]),
    "half a character": (edit_vocab(lambda vocab: vocab.update({"\ud800": len(vocab)})), ["vocab.json", "ud800"]),
    "id is text": (edit_vocab(lambda vocab: vocab.update({"a": "7"})), ["vocab.json", "'a'"]),
    "id is a fraction": (edit_vocab(lambda vocab: vocab.update({"a": 7.5})), ["vocab.json", "'a'", "7.5"]),
    "id is a bool": (edit_vocab(lambda vocab: vocab.update({"a": True})), ["vocab.json", "'a'"]),
    "id is negative": (edit_vocab(lambda vocab: vocab.update({"a": -1})), ["vocab.json", "-1"]),
    "id is huge": (edit_vocab(lambda vocab: vocab.update({"a": 2**70})), ["vocab.json"]),
    "an id twice": (edit_vocab(lambda vocab: vocab.update({"a": vocab["b"]})), ["vocab.json", "'a'", "'b'"]),
    "a gap": (edit_vocab(lambda vocab: vocab.update({"<mask>": len(vocab) + 5})), ["vocab.json", "gap|missing|no token"]),
    "a merge of three": (edit_merges(lambda lines: [*lines[:3], "a b c", *lines[3:]]), ["merges.txt", "4", "a b c"]),
    "a merge of one": (edit_merges(lambda lines: [*lines[:3], "abc", *lines[3:]]), ["merges.txt", "4", "abc"]),
    "a merge that makes no token": (edit_merges(lambda lines: [*lines[:3], "z q", *lines[3:]]), ["merges.txt", "4", "zq"]),
    "a merge of no token": (edit_merges(lambda lines: [*lines[:3], "qqq z", *lines[3:]]), ["merges.txt", "4", "qqq"]),
    "merges are not UTF-8": (lambda folder: (folder / "merges.txt").write_bytes(b"\xff\xfe a") and None, ["merges.txt"]),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_vocabulary_is_one_error_that_names_the_file(cls: Any, case: str, folder: Path) -> None:
    plain_files(folder)
    damage, names = DAMAGED[case]
    damage(folder)
    with pytest.raises(CheckpointError) as caught:
        cls.from_pretrained(folder)
    text = str(caught.value)
    for name in names:
        assert any(word in text for word in name.split("|")), f"{name!r} is not in: {text}"


@pytest.mark.parametrize("kept", [0, 1, 20, 0.5, 0.9, 0.999])
def test_a_truncated_tokenizer_json_is_one_error(cls: Any, kept: float, folder: Path) -> None:
    path = folder / "tokenizer.json"
    text = path.read_text()
    path.write_text(text[: int(kept * len(text)) if kept < 1 else int(kept)])
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        cls.from_pretrained(folder)


def edit_json(name: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        value = json.loads((folder / name).read_text())
        change(value)
        (folder / name).write_text(json.dumps(value))

    return damage


TOKENIZER_JSON = {
    "no model": (lambda value: value.pop("model"), "model"),
    "another model": (lambda value: value["model"].update(type="WordPiece"), "WordPiece|unk_token|expected a string"),
    "no vocab": (lambda value: value["model"].pop("vocab"), "vocab"),
    "merges are numbers": (lambda value: value["model"].update(merges=[1, 2]), "merge"),
    "a merge that makes no token": (lambda value: value["model"]["merges"].insert(2, ["z", "q"]), "zq"),
    "an id twice": (lambda value: value["model"]["vocab"].update(a=value["model"]["vocab"]["b"]), "'b'"),
    "not a JSON object": (None, r"tokenizer\.json"),
}


@pytest.mark.parametrize("case", TOKENIZER_JSON)
def test_a_tokenizer_json_of_something_else_is_one_error(cls: Any, case: str, folder: Path) -> None:
    change, names = TOKENIZER_JSON[case]
    if change is None:
        (folder / "tokenizer.json").write_text("[1, 2]")
    else:
        edit_json("tokenizer.json", change)(folder)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    with pytest.raises(CheckpointError, match=names) as caught:
        cls.from_pretrained(folder)
    assert "tokenizer.json" in str(caught.value)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"])
@pytest.mark.parametrize("text", ["{", "[]", '"text"'])
def test_a_damaged_settings_file_is_one_error(cls: Any, name: str, text: str, folder: Path) -> None:
    if name != "tokenizer_config.json":  # it has the table of added tokens, so the older files are not needed
        plain_files(folder)
    (folder / name).write_text(text)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        cls.from_pretrained(folder)


SETTINGS = {
    "an id beyond a gap": ("added_tokens.json", '{"<new>": 4000}'),
    "a negative id": ("added_tokens.json", '{"<new>": -1}'),
    "half a character as a token": ("added_tokens.json", '{"\\ud800": 320}'),
    "half a character as content": ("special_tokens_map.json", '{"mask_token": {"content": "\\ud800"}}'),
    "a token in a list": ("special_tokens_map.json", '{"mask_token": ["<mask>"]}'),
    "a length without end": ("tokenizer_config.json", '{"model_max_length": Infinity}'),
    "a length that is a text": ("tokenizer_config.json", '{"model_max_length": "512"}'),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_no_tokenizer_can_have_are_one_error_that_names_the_folder(case: str, folder: Path) -> None:
    plain_files(folder)
    name, text = SETTINGS[case]
    (folder / name).write_text(text)
    with pytest.raises(CheckpointError, match=str(folder)):
        roberta.RobertaTokenizerFast.from_pretrained(folder)


def test_a_folder_without_a_vocabulary_is_named(cls: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"vocab\.json"):
        cls.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="nowhere"):
        cls.from_pretrained(tmp_path / "nowhere")


def test_the_damaged_folder_of_the_reference_names_its_file(cls: Any, golden: Path) -> None:
    with pytest.raises(CheckpointError, match=r"merges\.txt"):
        cls.from_pretrained(golden / "malformed" / "tok-missing-merges")


# -- arguments -----------------------------------------------------------------------------------------------

TEXT = "the quick brown fox jumps over the lazy dog"
CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "None": ((None,), {}, "text"),
    "nothing": ((), {}, "text"),
    "an empty batch": (([],), {}, "text.*empty"),
    "an int": ((5,), {}, "text.*int"),
    "bytes": ((b"abc",), {}, "text.*bytes"),
    "a batch of ints": (([1, 2],), {}, "text.*int"),
    "a batch with a None": ((["a", None],), {}, "text.*1"),
    "a batch with a list of ints": (([["a"], [1]],), {"is_split_into_words": True}, "text"),
    "a dict": (({"a": "b"},), {}, "text.*dict"),
    "pairs of three": (([("a", "b", "c")],), {}, "text"),
    "second is an int": (("a", 5), {}, "text_pair.*int"),
    "batches of different lengths": ((["a", "b"], ["c"]), {}, "2.*1"),
    "one text and many": (("a", ["c"]), {}, "text_pair"),
    "words that are not a list": (("a b",), {"is_split_into_words": True}, "is_split_into_words"),
    "padding": ((TEXT,), {"padding": "longer"}, "padding.*longer"),
    "padding_side": ((TEXT,), {"padding": True, "padding_side": "up"}, "padding_side.*up"),
    "pad_to_multiple_of": ((TEXT,), {"padding": True, "pad_to_multiple_of": 0}, "pad_to_multiple_of"),
    "truncation": ((TEXT,), {"truncation": "shortest", "max_length": 5}, "truncation.*shortest"),
    "max_length is negative": ((TEXT,), {"truncation": True, "max_length": -1}, "max_length.*-1"),
    "max_length of one token": ((TEXT,), {"truncation": True, "max_length": 1}, "max_length.*1.*2"),
    "max_length of a pair": ((TEXT, TEXT), {"truncation": True, "max_length": 3}, "max_length.*3.*4"),
    "max_length is text": ((TEXT,), {"truncation": True, "max_length": "8"}, "max_length"),
    "stride is negative": (
        (TEXT,),
        {"truncation": True, "max_length": 8, "stride": -1, "return_overflowing_tokens": True},
        "stride.*-1",
    ),
    "stride leaves no room": (
        (TEXT,),
        {"truncation": True, "max_length": 8, "stride": 6, "return_overflowing_tokens": True},
        "stride.*6",
    ),
    "stride above the room": (
        (TEXT,),
        {"truncation": True, "max_length": 8, "stride": 9, "return_overflowing_tokens": True},
        "stride.*9",
    ),
    "stride in half of a pair": (
        (TEXT, TEXT),
        {"truncation": True, "max_length": 12, "stride": 4, "return_overflowing_tokens": True},
        "stride.*4",
    ),
    "only_second of one text": ((TEXT,), {"truncation": "only_second", "max_length": 8}, "only_second"),
    "only_first is not enough": ((TEXT, TEXT), {"truncation": "only_first", "max_length": 12}, "only_first|max_length"),
    "only_second is not enough": (
        (TEXT, TEXT),
        {"truncation": "only_second", "max_length": 12},
        "only_second|max_length",
    ),
    "a multiple that is not kept": (
        (TEXT,),
        {"truncation": True, "padding": True, "max_length": 10, "pad_to_multiple_of": 8},
        "pad_to_multiple_of.*8",
    ),
    "ragged arrays": ((["a", TEXT],), {"return_tensors": "np"}, "padding"),
    "unknown arrays": ((TEXT,), {"return_tensors": "cupy"}, "return_tensors.*cupy"),
    "a surrogate": (("ab\ud800c",), {}, "surrogate.*2|2.*surrogate"),
    "a surrogate in a batch": ((["a", "ab\udfffc"],), {}, "surrogate"),
    "a surrogate in a word": (([["a", "b\udfff"]],), {"is_split_into_words": True}, "surrogate"),
    "a surrogate in the second": (("a", "\ud800"), {}, "surrogate"),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_call_that_cannot_be_met_is_one_error_that_names_the_argument(tokenizer: Any, case: str) -> None:
    args, options, names = CALLS[case]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=f"(?s){names}"):
            tokenizer(*args, **options)


@pytest.mark.parametrize("case", CALLS)
def test_both_classes_say_the_same(case: str, saved: Path) -> None:
    args, options, _ = CALLS[case]
    said = []
    for name in CLASSES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(ValueError, match=r".") as caught:
                getattr(roberta, name).from_pretrained(saved)(*args, **options)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_an_unknown_argument_is_a_type_error(tokenizer: Any) -> None:
    with pytest.raises(TypeError, match="max_len"):
        tokenizer("a", max_len=5)


def test_an_unknown_setting_is_kept_and_one_near_to_a_known_name_is_logged(
    cls: Any, saved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = str(saved / "vocab.json"), str(saved / "merges.txt")
    tokenizer = cls(*files, do_lower_case=True, truncation_sides="left")
    assert caplog.messages == [
        f"{cls.__name__} does not know 'truncation_sides' (did you mean \"truncation_side\"?); it is kept as it is"
    ]
    assert tokenizer.init_kwargs["do_lower_case"] is True
    assert not hasattr(tokenizer, "do_lower_case")
    tokenizer.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["do_lower_case"] is True
    assert cls.from_pretrained(tmp_path, use_fast=False).init_kwargs["do_lower_case"] is True


def test_a_setting_with_the_name_of_a_method_is_an_error(cls: Any, saved: Path) -> None:
    with pytest.raises(AttributeError, match=r"get_vocab.*conflicts with the method"):
        cls.from_pretrained(saved, get_vocab=True)


@pytest.mark.parametrize("name", ["padding_side", "truncation_side"])
def test_a_side_is_left_or_right(cls: Any, name: str, saved: Path) -> None:
    with pytest.raises(ValueError, match=f"{name}.*middle"):
        cls.from_pretrained(saved, **{name: "middle"})


def test_padding_without_a_padding_token(tokenizer: Any) -> None:
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="pad_token"):
        tokenizer(["a", TEXT], padding=True)
    with pytest.raises(ValueError, match="pad_token"):
        tokenizer.pad({"input_ids": [[5], [5, 6]]})


def test_pad_needs_input_ids(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="input_ids"):
        tokenizer.pad({"labels": [[1]]})
    with pytest.raises(ValueError, match="input_ids"):
        tokenizer.pad([{"labels": [1]}])


def test_what_is_not_a_token_is_refused(tokenizer: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="token"):
        tokenizer.add_tokens([5])
    assert tokenizer.add_tokens([""]) == 0
    with pytest.raises(ValueError, match="other_token"):
        tokenizer.add_special_tokens({"other_token": "<o>"})


def test_decode_takes_ids_only(tokenizer: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="id"):
        tokenizer.decode(["a"])
    assert tokenizer.decode([-1, 10**9, 2**80]) == ""  # of no token


def test_bytes_that_are_no_text_follow_errors(cls: Any, saved: Path) -> None:
    ids = cls.from_pretrained(saved).encode("é", add_special_tokens=False)[:1]
    for errors, text in (("replace", "\ufffd"), ("ignore", "")):
        assert cls.from_pretrained(saved, errors=errors).decode(ids) == text
    with pytest.raises(ValueError, match=r"utf-8"):
        cls.from_pretrained(saved, errors="strict").decode(ids)
    with pytest.raises(ValueError, match=r"errors.*whatever"):
        cls.from_pretrained(saved, errors="whatever")


def test_training_says_what_is_wrong(tmp_path: Path) -> None:
    train = roberta.RobertaTokenizerFast.train
    with pytest.raises(ValueError, match=r"vocab_size.*100"):
        train(iter(CORPUS), vocab_size=100)  # fewer than the bytes and the special tokens
    with pytest.raises(ValueError, match="nothing"):
        train([tmp_path / "nothing.txt"], vocab_size=300)
    with pytest.raises((TypeError, ValueError), match=r"int|str"):
        train(iter([1, 2]), vocab_size=300)


def without_unknown(kind: str, fix: bool = False) -> str:
    """A tokenizer.json whose model cannot say that a symbol is unknown; with `fix`, as the error says to mend it."""
    unk = {"<unk>": 2} if fix else {}
    model: dict[str, Any] = {"type": kind, "unk_token": "<unk>", "vocab": {"a": 0, "b": 1, **unk}}
    if kind == "Unigram":
        model = {"type": kind, "vocab": [["a", -1.0], ["b", -2.0], *([["<unk>", 0.0]] if fix else [])]}
        model |= {"unk_id": 2 if fix else None}
    model |= {
        "BPE": {"merges": []},
        "WordPiece": {"continuing_subword_prefix": "##", "max_input_chars_per_word": 9},
    }.get(kind, {})
    return json.dumps({"version": "1.0", "pre_tokenizer": {"type": "Whitespace"}, "added_tokens": [], "model": model})


@pytest.mark.parametrize("kind", ["Unigram", "WordPiece", "BPE", "WordLevel"])
def test_an_unknown_symbol_that_has_no_token_is_an_error_that_names_the_file(kind: str, tmp_path: Path) -> None:
    """As in transformers such a file loads, and texts of known symbols have ids."""
    file = tmp_path / "tokenizer.json"
    file.write_text(without_unknown(kind))
    for tokenizer, place in (
        (roberta.PreTrainedTokenizerFast(tokenizer_file=file), file),
        (roberta.PreTrainedTokenizerFast.from_pretrained(tmp_path), tmp_path),
    ):
        assert tokenizer("a b")["input_ids"] == [0, 1]
        for call in (tokenizer, lambda text, t=tokenizer: t(text, return_offsets_mapping=True), tokenizer.tokenize):
            with pytest.raises(ValueError, match=f"^{place}: a text has a symbol .*model.unk_token .of a Unigram"):
                call("a c")
    # the way out
    file.write_text(without_unknown(kind, fix=True))
    assert roberta.PreTrainedTokenizerFast(tokenizer_file=file)("a c")["input_ids"] == [0, 2]
