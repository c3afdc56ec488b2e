"""Tokenizer files in every form load into either class with the same result, and loading restores what was saved."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import roberta
from roberta import CheckpointError

CLASSES = ("RobertaTokenizer", "RobertaTokenizerFast")
CORPUS = ["The quick brown fox jumps over the lazy dog, doesn't it?", "Hello world, naïve café 日本."] * 4
TEXTS = ["Hello world!", "The <mask> fox's naïve", "", "  日本 \n 😀 <e1>", "newtok the newtoken", "<s>a</s>"]
ALL = {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
HUGE = int(1e30)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    roberta.RobertaTokenizerFast.train(iter(CORPUS), vocab_size=320).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "folder"))


@pytest.fixture(params=CLASSES)
def cls(request: pytest.FixtureRequest) -> Any:
    return getattr(roberta, request.param)


@pytest.fixture(params=CLASSES)
def other(request: pytest.FixtureRequest) -> Any:
    return getattr(roberta, request.param)


def results(tokenizer: Any) -> Any:
    """The facts that must survive saving and loading."""
    encodings = [tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True) for text in TEXTS]
    return (
        [dict(encoding) for encoding in encodings],
        [tokenizer.decode(encoding["input_ids"]) for encoding in encodings],
        tokenizer.get_vocab(),
        tokenizer.get_added_vocab(),
        tokenizer.special_tokens_map,
        tokenizer.model_max_length,
        tokenizer.padding_side,
        tokenizer.truncation_side,
        tokenizer.clean_up_tokenization_spaces,
    )


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def write(folder: Path, name: str, value: Any) -> None:
    (folder / name).write_text(json.dumps(value), encoding="utf-8")


def remove(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


# -- forms of the files --------------------------------------------------------------------------------------


def edit_merges(change: Callable[[str], str]) -> Callable[[Path], None]:
    def form(folder: Path) -> None:
        path = folder / "merges.txt"
        text = change(path.read_bytes().decode())
        path.write_bytes(text.encode())
        remove(folder, "tokenizer.json")

    return form


def strings_for_merges(folder: Path) -> None:
    value = read(folder, "tokenizer.json")
    value["model"]["merges"] = [" ".join(pair) for pair in value["model"]["merges"]]
    write(folder, "tokenizer.json", value)
    remove(folder, "vocab.json", "merges.txt")


def pairs_for_merges(folder: Path) -> None:
    value = read(folder, "tokenizer.json")
    value["model"]["merges"] = [
        merge.split(" ") if isinstance(merge, str) else merge for merge in value["model"]["merges"]
    ]
    write(folder, "tokenizer.json", value)
    remove(folder, "vocab.json", "merges.txt")


def as_version_5(folder: Path) -> None:
    """transformers 5 writes tokenizer.json and a config without the table of added tokens."""
    config = read(folder, "tokenizer_config.json")
    config.pop("added_tokens_decoder", None)
    mask = {"content": "<mask>", "lstrip": True, "normalized": False, "rstrip": False, "single_word": False}
    config |= {
        "backend": "tokenizers",
        "is_local": True,
        "mask_token": {**mask, "special": True, "__type": "AddedToken"},
        "tokenizer_class": "RobertaTokenizer",
    }
    write(folder, "tokenizer_config.json", config)
    remove(folder, "vocab.json", "merges.txt", "special_tokens_map.json")


def with_the_last_call(folder: Path) -> None:
    """tokenizer.json may hold the padding and truncation of the last call before the save, which are not settings."""
    value = read(folder, "tokenizer.json")
    value["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    value["padding"] = {
        "strategy": {"Fixed": 20},
        "direction": "Left",
        "pad_to_multiple_of": 8,
        "pad_id": 1,
        "pad_type_id": 0,
        "pad_token": "<pad>",
    }
    write(folder, "tokenizer.json", value)
    remove(folder, "vocab.json", "merges.txt")


FORMS: dict[str, Callable[[Path], Any]] = {
    "as saved": lambda folder: None,
    "vocabulary and merges": lambda folder: remove(folder, "tokenizer.json"),
    "vocabulary and merges alone": lambda folder: remove(folder, *(ALL - {"vocab.json", "merges.txt"})),
    "tokenizer.json": lambda folder: remove(folder, "vocab.json", "merges.txt"),
    "tokenizer.json alone": lambda folder: remove(folder, *(ALL - {"tokenizer.json"})),
    "merges as strings": strings_for_merges,
    "merges as pairs": pairs_for_merges,
    "version 5": as_version_5,
    "with the last call": with_the_last_call,
    "no header": edit_merges(lambda text: text.split("\n", 1)[1]),
    "no final newline": edit_merges(lambda text: text.rstrip("\n")),
    "neither": edit_merges(lambda text: text.split("\n", 1)[1].rstrip("\n")),
    "many final newlines": edit_merges(lambda text: text + "\n\n"),
    "CRLF": edit_merges(lambda text: text.replace("\n", "\r\n")),
    "CRLF without a final one": edit_merges(lambda text: text.rstrip("\n").replace("\n", "\r\n")),
    "no map of special tokens": lambda folder: remove(folder, "special_tokens_map.json"),
    "no config": lambda folder: remove(folder, "tokenizer_config.json"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_loads_with_the_same_result(cls: Any, form: str, saved: Path, folder: Path) -> None:
    wanted = results(roberta.RobertaTokenizerFast.from_pretrained(saved))
    FORMS[form](folder)
    assert results(cls.from_pretrained(folder)) == wanted


def test_a_first_merge_that_looks_like_a_header_is_a_merge(cls: Any, folder: Path) -> None:
    """Only `#version` is a header: a vocabulary may have a merge that starts with "#"."""
    vocab = read(folder, "vocab.json")
    vocab["##"] = len(vocab)
    write(folder, "vocab.json", vocab)
    merges = (folder / "merges.txt").read_text().split("\n", 1)[1]
    (folder / "merges.txt").write_text("# #\n" + merges)
    remove(folder, "tokenizer.json")
    assert cls.from_pretrained(folder).tokenize("##") == ["##"]


def test_constructors_take_the_files(cls: Any, saved: Path) -> None:
    wanted = results(roberta.RobertaTokenizerFast.from_pretrained(saved))
    vocab, merges = saved / "vocab.json", saved / "merges.txt"
    assert results(cls(str(vocab), str(merges))) == wanted
    assert results(cls(vocab_file=vocab, merges_file=merges)) == wanted
    fast = roberta.RobertaTokenizerFast(tokenizer_file=str(saved / "tokenizer.json"))
    assert results(fast) == wanted


def test_a_name_of_the_hub_is_one_folder_name(cls: Any, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="no-team/no-model"):
        cls.from_pretrained("no-team/no-model", local_files_only=True)


def test_a_subfolder(cls: Any, saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "model" / "tokenizer")
    found = cls.from_pretrained(tmp_path / "model", subfolder="tokenizer")
    assert results(found) == results(cls.from_pretrained(saved))


# -- settings ------------------------------------------------------------------------------------------------


def test_settings_of_the_file_and_arguments_that_override_them(cls: Any, folder: Path) -> None:
    config = read(folder, "tokenizer_config.json")
    config |= {"model_max_length": 77, "add_prefix_space": True, "padding_side": "left", "errors": "ignore"}
    write(folder, "tokenizer_config.json", config)
    found = cls.from_pretrained(folder)
    assert (found.model_max_length, found.padding_side, found.add_prefix_space) == (77, "left", True)
    assert found.errors == "ignore"
    assert found.tokenize("fox") == ["Ġfox"] or found.tokenize("fox")[0].startswith("Ġ")
    found = cls.from_pretrained(folder, model_max_length=9, add_prefix_space=False, padding_side="right")
    assert (found.model_max_length, found.padding_side, found.add_prefix_space) == (9, "right", False)
    assert not found.tokenize("fox")[0].startswith("Ġ")


@pytest.mark.parametrize("is_lone", [False, True])
def test_tokenizer_json_alone_changes_no_setting(cls: Any, folder: Path, is_lone: bool) -> None:
    """As in transformers' fast class, whose arguments False and True take precedence over the file."""
    wanted = cls.from_pretrained(folder, add_prefix_space=False, trim_offsets=True)(
        "fox fox", return_offsets_mapping=True
    )
    content = read(folder, "tokenizer.json")
    content["pre_tokenizer"]["add_prefix_space"] = content["post_processor"]["add_prefix_space"] = True
    content["post_processor"]["trim_offsets"] = False
    write(folder, "tokenizer.json", content)
    config = read(folder, "tokenizer_config.json")
    write(folder, "tokenizer_config.json", {name: value for name, value in config.items() if "_space" not in name})
    if is_lone:
        remove(folder, *(ALL - {"tokenizer.json"}))
    found = cls.from_pretrained(folder)("fox fox", return_offsets_mapping=True)
    assert (found["input_ids"], found["offset_mapping"]) == (wanted["input_ids"], wanted["offset_mapping"])


def test_settings_override_a_lone_tokenizer_json(cls: Any, folder: Path) -> None:
    remove(folder, *(ALL - {"tokenizer.json"}))
    found = cls.from_pretrained(folder, add_prefix_space=True, trim_offsets=False)
    encoding = found("fox", return_offsets_mapping=True)
    assert found.tokenize("fox")[0].startswith("Ġ")
    assert encoding["offset_mapping"][1][0] == 0


@pytest.mark.parametrize(
    ("config", "wanted"), [({"max_len": 33}, 33), ({"max_len": 33, "model_max_length": 44}, 44), ({}, HUGE)]
)
def test_the_longest_length_and_its_older_name(cls: Any, config: Any, wanted: int, folder: Path) -> None:
    value = read(folder, "tokenizer_config.json")
    value.pop("model_max_length")
    write(folder, "tokenizer_config.json", value | config)
    found = cls.from_pretrained(folder)
    assert found.model_max_length == wanted
    assert (found.max_len_single_sentence, found.max_len_sentences_pair) == (wanted - 2, wanted - 4)


def test_added_tokens_of_an_older_folder(cls: Any, folder: Path) -> None:
    """Before the table in tokenizer_config.json, added tokens were in added_tokens.json, by id."""
    size = len(read(folder, "vocab.json"))
    write(folder, "added_tokens.json", {"newtok": size, "<e1>": size + 1})
    write(folder, "special_tokens_map.json", {"mask_token": "<mask>", "additional_special_tokens": ["<e1>"]})
    remove(folder, "tokenizer.json", "tokenizer_config.json")
    found = cls.from_pretrained(folder)
    assert len(found) == size + 2
    assert found.convert_tokens_to_ids(["newtok", "<e1>"]) == [size, size + 1]
    assert found("newtok<e1>", add_special_tokens=False)["input_ids"] == [size, size + 1]
    assert found.additional_special_tokens == ["<e1>"]
    assert found.decode([size, size + 1], skip_special_tokens=True) == "newtok"


# -- saving --------------------------------------------------------------------------------------------------


def grown(tokenizer: Any) -> Any:
    tokenizer.add_tokens(["newtok", roberta.AddedToken("Ünï", single_word=True, lstrip=True)])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<e1>", "<e2>"], "pad_token": "[PAD]"})
    tokenizer.model_max_length = 123
    tokenizer.padding_side = "left"
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return tokenizer


@pytest.mark.parametrize("change", [lambda tokenizer: tokenizer, grown], ids=["plain", "grown"])
def test_what_one_class_saves_the_other_loads(cls: Any, other: Any, change: Any, saved: Path, tmp_path: Path) -> None:
    first = change(cls.from_pretrained(saved))
    first.save_pretrained(tmp_path / "one")
    second = other.from_pretrained(tmp_path / "one")
    assert results(second) == results(first)
    assert second.added_tokens_decoder == first.added_tokens_decoder
    assert second.model_input_names == first.model_input_names
    second.save_pretrained(tmp_path / "two")
    assert results(cls.from_pretrained(tmp_path / "two")) == results(first)


def test_the_files_that_are_written(cls: Any, saved: Path, tmp_path: Path) -> None:
    paths = cls.from_pretrained(saved).save_pretrained(tmp_path / "one")
    there = {path.name for path in (tmp_path / "one").iterdir()}
    needed = ALL if cls.__name__.endswith("Fast") else ALL - {"tokenizer.json"}
    assert needed <= there <= ALL
    assert {Path(path).name for path in paths} >= needed
    merges = (tmp_path / "one" / "merges.txt").read_text(encoding="utf-8")
    assert merges.startswith("#version: 0.2\n")
    assert merges.endswith("\n")
    config = read(tmp_path / "one", "tokenizer_config.json")
    assert config["tokenizer_class"] == "RobertaTokenizer"
    assert config["model_max_length"] == HUGE
    assert config["added_tokens_decoder"]["4" if "4" in config["added_tokens_decoder"] else "0"]["special"] is True
    assert config["mask_token"] == "<mask>"
    mask = read(tmp_path / "one", "special_tokens_map.json")["mask_token"]
    assert mask == {"content": "<mask>", "lstrip": True, "normalized": False, "rstrip": False, "single_word": False}


def test_extra_tokens_are_in_added_tokens_too(cls: Any, saved: Path, tmp_path: Path) -> None:
    tokenizer = cls.from_pretrained(saved)
    size = len(tokenizer)
    tokenizer.add_tokens(["newtok"])
    tokenizer.save_pretrained(tmp_path / "one")
    assert read(tmp_path / "one", "added_tokens.json") == {"newtok": size}


def test_saving_again_leaves_no_stale_file(cls: Any, other: Any, saved: Path, tmp_path: Path) -> None:
    grown(other.from_pretrained(saved)).save_pretrained(tmp_path)
    cls.from_pretrained(saved).save_pretrained(tmp_path)
    for name in CLASSES:
        assert results(getattr(roberta, name).from_pretrained(tmp_path)) == results(cls.from_pretrained(saved))


def test_a_prefix_for_the_names(cls: Any, saved: Path, tmp_path: Path) -> None:
    cls.from_pretrained(saved).save_pretrained(tmp_path, filename_prefix="pp")
    names = {path.name for path in tmp_path.iterdir()}
    assert {"pp-vocab.json", "pp-merges.txt"} <= names
    paths = cls.from_pretrained(saved).save_vocabulary(str(tmp_path / "v"), filename_prefix="qq")
    assert [Path(path).name for path in paths] == ["qq-vocab.json", "qq-merges.txt"]


def test_the_vocabulary_alone(cls: Any, saved: Path, tmp_path: Path) -> None:
    paths = cls.from_pretrained(saved).save_vocabulary(str(tmp_path))
    assert [Path(path).name for path in paths] == ["vocab.json", "merges.txt"]
    wanted = results(cls.from_pretrained(saved))
    assert results(cls(*paths)) == wanted


def test_the_merges_and_ids_are_those_of_the_file(cls: Any, saved: Path, tmp_path: Path) -> None:
    cls.from_pretrained(saved).save_pretrained(tmp_path)
    assert read(tmp_path, "vocab.json") == read(saved, "vocab.json")
    assert (tmp_path / "merges.txt").read_bytes() == (saved / "merges.txt").read_bytes()


def test_the_real_files_come_back_byte_by_byte(cls: Any, golden: Path, tmp_path: Path) -> None:
    real = golden / "roberta-base-tokenizer"
    cls.from_pretrained(real).save_pretrained(tmp_path)
    for name in ("merges.txt",):
        assert (tmp_path / name).read_bytes().split(b"\n")[1:] == (real / name).read_bytes().split(b"\n")[1:]
    names = ["vocab.json", "tokenizer_config.json", "special_tokens_map.json"]
    for name in (*names, "tokenizer.json") if cls.__name__.endswith("Fast") else names:
        found, wanted = read(tmp_path, name), read(real, name)
        if name == "tokenizer_config.json":
            wanted = {key: value for key, value in wanted.items() if key in found or key not in ("trim_offsets",)}
            found = {key: value for key, value in found.items() if key in wanted}
        assert found == wanted, name


def test_saving_onto_a_file_is_an_error(cls: Any, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="file"):
        cls.from_pretrained(saved).save_pretrained(tmp_path / "file")


def test_other_files_of_the_folder_stay(cls: Any, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    cls.from_pretrained(saved).save_pretrained(tmp_path)
    assert (tmp_path / "config.json").read_text() == "{}"
