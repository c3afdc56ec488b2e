"""Copies of a tokenizer of any kind: pickled, saved, and used by two threads."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import roberta
from roberta import AutoTokenizer, RobertaTokenizer

KINDS = (
    "camembert-full", "camembert-slow-only", "xlmr-fast-only", "xlmr-slow-only", "metaspace-unigram", "t5-unigram-pad3",
    "wordpiece-cased", "wordpiece-uncased", "bytelevel-normalizer", "bytelevel-added", "v5-xlmr",
)  # fmt: skip
ROUNDED = ("camembert-slow-only", "t5-unigram-pad3", "xlmr-slow-only")
SMALL = Path(roberta.__file__).parent / "small"
TEXTS = ["Hello world! é", "日本 <mask> x", " two  spaces ", "<s>a</s> [MASK] newtok a", "newtok<e1> x[M!] y Newtok"]


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, golden: Path) -> Path:
    return golden / "family" / "tokenizers" / request.param


def ids(tokenizer: Any, **options: Any) -> Any:
    return tokenizer(TEXTS, **options)["input_ids"]


def test_equal_tokenizers_have_equal_bytes_and_use_leaves_no_trace(folder: Path) -> None:
    """`datasets` finds what it has computed before by the hash of these bytes."""
    used, fresh = (AutoTokenizer.from_pretrained(folder) for _ in range(2))
    wanted = ids(used, truncation=True, max_length=8, padding=True, return_offsets_mapping=True)
    used.decode(wanted[0])
    used.word_borders("a")
    assert used.backend_tokenizer is not None
    assert pickle.dumps(used) == pickle.dumps(fresh)
    used.padding_side = "left"
    assert pickle.dumps(used) != pickle.dumps(fresh)


def test_a_pickle_of_a_pickle_has_the_same_bytes(golden: Path) -> None:
    """Not of a tokenizer made from a `.model`: the library's own reader rounds scores in their last digit, once."""
    folders = [path for path in sorted((golden / "family" / "tokenizers").iterdir()) if path.name not in ROUNDED]
    changed = []
    for tokenizer in (*map(AutoTokenizer.from_pretrained, folders), RobertaTokenizer.from_pretrained(SMALL)):
        once = pickle.dumps(tokenizer)
        if pickle.dumps(pickle.loads(once)) != once:
            changed.append(f"{type(tokenizer).__name__} of {tokenizer.name_or_path}")
    assert not changed


def test_copies_give_the_same_ids(folder: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["newtok"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<e1>"], "mask_token": "[M!]"})
    tokenizer.padding_side, tokenizer.model_max_length = "left", 33
    tokenizer.save_pretrained(tmp_path)
    for again in (
        pickle.loads(pickle.dumps(tokenizer)),
        copy.deepcopy(tokenizer),
        AutoTokenizer.from_pretrained(tmp_path),
    ):
        assert ids(again) == ids(tokenizer)
        options = {"padding": "max_length", "max_length": 20, "truncation": True}
        assert dict(again(TEXTS, **options)) == dict(tokenizer(TEXTS, **options))
        assert again.all_special_tokens == tokenizer.all_special_tokens


def test_two_threads_with_different_options_do_not_meet(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    options: list[dict[str, Any]] = [
        {"truncation": True, "max_length": 6},
        {"padding": True, "add_special_tokens": False},
    ]
    wanted = [ids(tokenizer, **each) for each in options]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda number: ids(tokenizer, **options[number % 2]), range(40)))
    assert found == [wanted[number % 2] for number in range(40)]
