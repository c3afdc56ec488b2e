"""The post_processor of tokenizer.json defines the rows. The reference is the tokenizers library with the same file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from training_cases import make as make_training

import roberta
from roberta.common.vocabulary.template import read_template

ROBERTA = {
    "type": "RobertaProcessing",
    "sep": ["</s>", 2],
    "cls": ["<s>", 0],
    "trim_offsets": True,
    "add_prefix_space": False,
}
LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
BERT = {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]}


def template(single: str, pair: str) -> dict[str, Any]:
    """A TemplateProcessing from pieces such as "<s>:0 A:0 </s>:1"."""
    ids = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4}

    def pieces(text: str) -> list[Any]:
        split = [piece.rsplit(":", 1) for piece in text.split()]
        return [
            {"Sequence" if name in "AB" else "SpecialToken": {"id": name, "type_id": int(kind)}} for name, kind in split
        ]

    special = {name: {"id": name, "ids": [index], "tokens": [name]} for name, index in ids.items()}
    special["two"] = {"id": "two", "ids": [2, 3], "tokens": ["</s>", "<unk>"]}
    return {"type": "TemplateProcessing", "single": pieces(single), "pair": pieces(pair), "special_tokens": special}


ONE_BETWEEN = template("<s>:0 A:0 </s>:0", "<s>:0 A:0 </s>:0 B:1 </s>:1")
PROCESSORS = {
    "roberta": ROBERTA,
    "other ids": {**ROBERTA, "sep": ["<mask>", 4], "cls": ["<unk>", 3]},
    "bert": BERT,
    "one between": ONE_BETWEEN,
    "end only": template("A:0 </s>:0", "A:0 </s>:0 B:0 </s>:0"),
    "begin only": template("<s>:0 A:0", "<s>:0 A:0 B:0"),
    "many": template("<s>:0 <s>:0 A:0 two:0", "<s>:1 A:1 two:0 <mask>:0 B:0 two:1 <unk>:1"),
    "nothing": None,
    "trimming": LEVEL,
    "whole": {**LEVEL, "trim_offsets": False},
    "both": {"type": "Sequence", "processors": [LEVEL, ONE_BETWEEN]},
    "both, whole": {"type": "Sequence", "processors": [{**LEVEL, "trim_offsets": False}, BERT]},
}  # fmt: skip
TEXTS = [("the ship left", None), (" the  sea", "a harbour <mask> of Lisbon"), ("naïve", "日本 is"), ("", "a")]
KEYS = ("input_ids", "token_type_ids", "special_tokens_mask", "offset_mapping", "attention_mask")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    make_training(folder, "clm")
    return folder / "model"


def written(folder: Path, trained: Path, processor: Any, **config: Any) -> Path:
    """The trained tokenizer with another post_processor, in tokenizer.json only."""
    folder.mkdir()
    value = json.loads((trained / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**value, "post_processor": processor}))
    settings = {**json.loads((trained / "tokenizer_config.json").read_text()), **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def rows(tokenizer: Any, *, special: bool = True) -> list[Any]:
    flags = {"return_token_type_ids": True, "return_special_tokens_mask": True, "return_offsets_mapping": True}
    found = [tokenizer(*texts, add_special_tokens=special, **flags) for texts in TEXTS]
    return [{key: list(row[key]) for key in KEYS} for row in found]


def library_rows(file: Path, *, special: bool = True) -> list[Any]:
    library = Tokenizer.from_file(str(file))
    found = [library.encode(*texts, add_special_tokens=special) for texts in TEXTS]
    return [
        dict(zip(KEYS, (row.ids, row.type_ids, row.special_tokens_mask, row.offsets, row.attention_mask), strict=True))
        for row in found
    ]


@pytest.mark.parametrize("cls", [roberta.RobertaTokenizer, roberta.RobertaTokenizerFast])
@pytest.mark.parametrize("name", PROCESSORS)
def test_rows_are_those_of_the_library_and_again_when_saved(name: str, cls: Any, trained: Path, tmp_path: Path) -> None:
    folder = written(tmp_path / "given", trained, PROCESSORS[name])
    tokenizer, raw = cls.from_pretrained(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    if name == "whole":  # a setting of the tokenizer, overridden by its config, as in transformers
        tokenizer = cls.from_pretrained(folder, trim_offsets=False)
    for special in (True, False):
        wanted = library_rows(folder / "tokenizer.json", special=special)
        assert rows(tokenizer, special=special) == wanted
    for pair in (False, True):
        assert tokenizer.num_special_tokens_to_add(pair) == raw.num_special_tokens_to_add(pair)
    tokenizer.save_pretrained(tmp_path / "saved", legacy_format=False)
    assert rows(cls.from_pretrained(tmp_path / "saved")) == rows(tokenizer)
    assert library_rows(tmp_path / "saved" / "tokenizer.json") == rows(tokenizer)


@pytest.mark.parametrize("cls", [roberta.RobertaTokenizer, roberta.RobertaTokenizerFast])
@pytest.mark.parametrize("name", PROCESSORS)
def test_budgets_count_the_special_tokens_of_the_template(name: str, cls: Any, trained: Path, tmp_path: Path) -> None:
    folder = written(tmp_path / "given", trained, PROCESSORS[name])
    tokenizer, raw = cls.from_pretrained(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts, pairs = ["the ship left the harbour of Lisbon", "a"], ["in the morning", "it reads long texts in windows"]
    for args, room in (((texts,), 9), ((texts, pairs), 14)):
        raw.enable_truncation(room, stride=1)
        raw.enable_padding(pad_id=1, pad_token="<pad>")
        wanted = raw.encode_batch(list(zip(*args, strict=True)) if len(args) > 1 else args[0])
        found = tokenizer(
            *args, truncation=True, max_length=room, stride=1, padding=True, return_overflowing_tokens=True,
            return_special_tokens_mask=True, return_tensors="np",
        )  # fmt: skip
        flat = [row for first in wanted for row in (first, *first.overflowing)]
        assert found["input_ids"].tolist() == [row.ids for row in flat]
        assert found["special_tokens_mask"].tolist() == [row.special_tokens_mask for row in flat]
        # without a template, the library counts padding, and all of a further window, as the first text
        for at, row in enumerate(flat if PROCESSORS[name] else ()):
            kept = [number for number, real in zip(found.sequence_ids(at), row.attention_mask, strict=True) if real]
            assert kept == [number for number, real in zip(row.sequence_ids, row.attention_mask, strict=True) if real]


@pytest.mark.parametrize("name", PROCESSORS)
def test_rows_of_ids_are_those_of_texts(name: str, trained: Path, tmp_path: Path) -> None:
    tokenizer = roberta.RobertaTokenizerFast.from_pretrained(written(tmp_path / "given", trained, PROCESSORS[name]))
    for pair in (None, [8, 9]):
        ids = tokenizer.build_inputs_with_special_tokens([5, 6, 7], pair)
        assert (
            ids
            == tokenizer.prepare_for_model([5, 6, 7], pair)["input_ids"]
            == tokenizer.layout(bool(pair)).row([5, 6, 7], pair)
        )
        mask = tokenizer.get_special_tokens_mask([5, 6, 7], pair)
        assert [index for index, special in zip(ids, mask, strict=True) if not special] == [5, 6, 7, *(pair or ())]
        assert len(tokenizer.create_token_type_ids_from_sequences([5, 6, 7], pair)) == len(ids)


def test_a_config_does_not_make_a_template_trim_but_an_argument_does(trained: Path, tmp_path: Path) -> None:
    folder = written(tmp_path / "given", trained, ONE_BETWEEN, trim_offsets=True)
    plain = roberta.RobertaTokenizerFast.from_pretrained(folder)
    trims = roberta.RobertaTokenizerFast.from_pretrained(folder, trim_offsets=True)
    assert (plain.trim_offsets, trims.trim_offsets) == (False, True)
    trims.save_pretrained(tmp_path / "saved")
    again = roberta.RobertaTokenizerFast.from_pretrained(tmp_path / "saved")
    assert rows(again) == rows(trims) != rows(plain)


def test_a_new_vocabulary_has_the_template_under_its_own_ids(trained: Path, tmp_path: Path) -> None:
    old = roberta.RobertaTokenizerFast.from_pretrained(written(tmp_path / "given", trained, PROCESSORS["many"]))
    new = old.train_new_from_iterator(iter(["a ship left"] * 3), 300, new_special_tokens=["<new>"], show_progress=False)
    for texts in TEXTS[:2]:
        old_row, new_row = old(*texts), new(*texts)
        special = [
            [token for token, is_special in zip(row.tokens(), row[0].special_tokens_mask, strict=True) if is_special]
            for row in (old_row, new_row)
        ]
        assert special[0] == special[1]


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (
            {"type": "Other"},
            r'post_processor is {"type": "Other"}; it must be null, or of the type ByteLevel, Sequence',
        ),
        (5, r"post_processor is 5; it must be null"),
        ({"type": {"a": 1}}, r"post_processor is .*; it must be null"),
        ({"type": ["ByteLevel"]}, r"post_processor is .*; it must be null"),
        ({"type": "Sequence", "processors": [BERT, ROBERTA]}, "adds special tokens 2 times"),
        ({"type": "BertProcessing", "sep": ["</s>", 2]}, r"is damaged, or cannot make rows .*KeyError: 'cls'"),
        ({**BERT, "cls": ["<s>", -1]}, r"is not a token with its id"),
        (template("<s>:0", "A:0 B:0"), r"its texts are \[\]; they must be \['A'\]"),
        (template("A:0", "B:0 A:0"), r"its texts are \['B', 'A'\]; they must be \['A', 'B'\]"),
        ({**ONE_BETWEEN, "special_tokens": {}}, r"KeyError: '<s>'"),
    ],
)
def test_a_post_processor_that_cannot_make_rows_is_named(processor: Any, message: str) -> None:
    with pytest.raises(roberta.CheckpointError, match=message):
        read_template("folder/tokenizer.json: post_processor", processor)


def test_types_that_a_training_would_lose_are_refused_with_the_way_out(trained: Path, tmp_path: Path) -> None:
    from roberta.common.training.data.features import Lengths, make_features
    from roberta.common.training.data.fields import LabelledText
    from roberta.common.training.data.labels import Labels

    names = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer = roberta.RobertaTokenizerFast.from_pretrained(
        written(tmp_path / "given", trained, BERT, model_input_names=names)
    )
    labels = Labels("single_label_classification", ("no", "yes"))
    pair = [LabelledText("a", "b", "no", "here")]
    with pytest.raises(ValueError, match=r'token types other than 0 .* remove "token_type_ids" from model_input_names'):
        make_features(pair, "text-classification", tokenizer, Lengths(16), labels=labels)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    (feature,) = make_features(pair, "text-classification", tokenizer, Lengths(16), labels=labels)
    assert feature["input_ids"].tolist() == tokenizer("a", "b")["input_ids"]
