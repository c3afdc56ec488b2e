"""All recorded cases of transformers 4.57's tokenizers, for both of our classes.

Where its slow and its fast class differ, both of ours follow the fast one. `wanted` holds the expected result of each
case, and two tables hold the exceptions from that rule.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import roberta

CLASSES = ("RobertaTokenizer", "RobertaTokenizerFast")
CASES = range(151)
Case = dict[str, Any]

# The fast class of transformers raises; ours return the result of the slow one. Case -> why.
ANSWERED = {
    "A0109": "words need no add_prefix_space=True: a space goes before each word that has none",
    "A0114": "add_prefix_space is an option of a call, too",
    "A0137": "get_special_tokens_mask also of ids that have no special tokens yet",
}

# Both of our classes raise an error. Case -> (type, what the text names).
REFUSED = {
    "A0063": (ValueError, "surrogate"),
    "A0064": (ValueError, "surrogate"),
    "A0083": (ValueError, "max_length"),  # only_first, but the second text alone is too long
    "A0085": (ValueError, "max_length"),  # only_second, but the first text alone is too long
    "A0086": (ValueError, "only_second"),  # for a single text
    "A0095": (ValueError, "max_length"),
    "A0104": (ValueError, "max_length"),
}


@pytest.fixture(scope="session")
def cases(golden: Path) -> list[Case]:
    return [json.loads(line) for line in (golden / "tokenizer_cases.jsonl").read_text().splitlines()]


SHARED_TOKENIZERS: dict[tuple[Any, str], Any] = {}

# Operations that leave a tokenizer as it is, so that cases share one.
READING = ("text", "call", "attrs", "len", "charmap")


def tokenizer_of(case: Case, cls: Any, golden: Path) -> Any:
    """The tokenizer of a case: a shared one unless the case may change it."""
    if "setup" in case or case["op"] not in READING:
        return load(case, cls, golden)
    how = json.dumps([case["tokenizer"], case.get("init", {}), case.get("load")], sort_keys=True)
    if (cls, how) not in SHARED_TOKENIZERS:
        SHARED_TOKENIZERS[cls, how] = load(case, cls, golden)
    return SHARED_TOKENIZERS[cls, how]


def load(case: Case, cls: Any, golden: Path) -> Any:
    """A tokenizer as a case wants it, after the calls of its `setup`."""
    folder = golden / case["tokenizer"]
    init = case.get("init", {})
    if case.get("load") == "files":
        tokenizer = cls(str(folder / "vocab.json"), str(folder / "merges.txt"), **init)
    else:
        tokenizer = cls.from_pretrained(folder, **init)
    for method, args, kwargs in case.get("setup", ()):
        getattr(tokenizer, method)(*args, **kwargs)
    return tokenizer


def run_text(case: Case, tokenizer: Any) -> Any:
    (text,) = case["args"]
    encoding = tokenizer(text, return_special_tokens_mask=True, return_offsets_mapping=True)
    ids = encoding["input_ids"]
    return {
        **encoding,
        "tokens": tokenizer.convert_ids_to_tokens(ids),
        "tokenize": tokenizer.tokenize(text),
        "decode": tokenizer.decode(ids),
        "decode_skip": tokenizer.decode(ids, skip_special_tokens=True),
        "decode_clean": tokenizer.decode(ids, clean_up_tokenization_spaces=True),
        "word_ids": encoding.word_ids(),
    }


def run_call(case: Case, tokenizer: Any) -> Any:
    encoding = tokenizer(*case["args"], **case["kwargs"], **case.get("fast_kwargs", {}))
    found = dict(encoding)
    if "extras" in case:
        rows = range(len(encoding["input_ids"]) if case["extras"] == "batch" else 1)
        found["word_ids"] = [encoding.word_ids(row) for row in rows]
        found["sequence_ids"] = [encoding.sequence_ids(row) for row in rows]
    return found


def run_method(case: Case, tokenizer: Any) -> Any:
    args = [
        tokenizer(arg["@call"])[arg["key"]] if isinstance(arg, dict) and "@call" in arg else arg for arg in case["args"]
    ]
    return {"result": getattr(tokenizer, case["method"])(*args, **case["kwargs"])}


def run_attrs(case: Case, tokenizer: Any) -> Any:
    return {name: getattr(tokenizer, name) for name in case["names"]}


def run_len(case: Case, tokenizer: Any) -> Any:
    return {"len": len(tokenizer), "vocab_size": tokenizer.vocab_size, "get_vocab": len(tokenizer.get_vocab())}


def run_charmap(case: Case, tokenizer: Any) -> Any:
    encoding = tokenizer(*case["args"], **case["kwargs"])
    return {"results": [getattr(encoding, method)(*args) for method, args in case["queries"]]}


def run_roundtrip(case: Case, tokenizer: Any, folder: Path) -> Any:
    tokenizer.save_pretrained(folder)
    again = type(tokenizer).from_pretrained(folder)
    return {
        "input_ids": again(*case["args"], **case["kwargs"])["input_ids"],
        "has_vocab_and_merges": (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file(),
        "len": len(again),
        "mask": again.mask_token_id,
        "pad": again.pad_token_id,
    }


RUN = {
    "text": run_text,
    "call": run_call,
    "method": run_method,
    "attrs": run_attrs,
    "len": run_len,
    "charmap": run_charmap,
}


def execute(case: Case, cls: Any, golden: Path, folder: Path) -> Any:
    """The result of a class for a case, in the form of JSON."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about lengths; other tests check them
        tokenizer = tokenizer_of(case, cls, golden)
        if case["op"] == "roundtrip":
            return as_json(run_roundtrip(case, tokenizer, folder))
        return as_json(RUN[case["op"]](case, tokenizer))


def as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return as_json(value.tolist()) if hasattr(value, "tolist") else value


def wanted(case: Case, name: str) -> Any:
    """The recorded result that our class of that name must return."""
    if case["id"] in ANSWERED:
        return case["slow"]["ok"]
    result = dict(case["fast"]["ok"])
    if "is_fast" in result:
        result["is_fast"] = name.endswith("Fast")
    return result


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("number", CASES, ids="A{:04d}".format)
def test_case(number: int, name: str, cases: list[Case], golden: Path, tmp_path: Path) -> None:
    case = cases[number]
    cls = getattr(roberta, name)
    if case["id"] in REFUSED:
        kind, names = REFUSED[case["id"]]
        with pytest.raises(kind, match=names):
            execute(case, cls, golden, tmp_path)
        return
    found, expected = execute(case, cls, golden, tmp_path), wanted(case, name)
    if case["id"] in ANSWERED:  # the slow class records neither offsets nor words
        found = {key: found[key] for key in expected}
    assert found == expected, case["category"]


def test_every_case_has_a_test_and_every_exception_a_case(cases: list[Case]) -> None:
    assert [case["id"] for case in cases] == [f"A{number:04d}" for number in CASES]
    failing = {case["id"] for case in cases if "error" in case["fast"]}
    assert failing == set(ANSWERED) | set(REFUSED)


def checked(cls: Any, golden: Path, folder: Path) -> Iterator[str]:
    """The cases in which a class does not return its own recorded result, to check this file against transformers."""
    key = "fast" if cls.__name__.endswith("Fast") else "slow"
    for line in (golden / "tokenizer_cases.jsonl").read_text().splitlines():
        case = json.loads(line)
        try:
            found: Any = {"ok": execute(case, cls, golden, folder / case["id"])}
        except BaseException as error:
            found = {"error": type(error).__name__}
        if found.get("ok") != case[key].get("ok") or found.get("error") != case[key].get("error"):
            yield case["id"]
