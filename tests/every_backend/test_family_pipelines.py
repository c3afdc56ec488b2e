"""Pipelines on models of RoBERTa's family with the tokenizers that they carry: all recorded calls, in every framework.

Recorded with transformers 4.57.6 in float64, scores to six digits. Zero-shot classification has a file of its own.
"""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from backends import Backend
from conftest import SHARED

from roberta import pipeline

FAMILY = SHARED / "golden" / "family"
RECORDED = json.loads((FAMILY / "pipelines.json").read_text()) if FAMILY.is_dir() else []
MODELS = {entry["name"]: entry for entry in RECORDED if entry["task"] != "zero-shot-classification"}
# Calls that differ on purpose; docs/differences.md has the rows.
OTHER = {
    "tc-metaspace-04": "white space between two words belongs to the words around it",
    "tc-phobert-07": "the word of an unknown token is its characters, as transformers has it of fast tokenizers",
    "tc-xlmr-07": "a token that is white space alone is not a word",
}


def close(found: Any, wanted: Any) -> bool:
    """Whether two results are the same but for rounding."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        # transformers' slow tokenizers have no characters, and ours have
        known = {key: value for key, value in wanted.items() if key not in ("start", "end") or value is not None}
        return found.keys() == wanted.keys() and all(close(found[key], value) for key, value in known.items())
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(close, found, wanted))
    if isinstance(found, float) and isinstance(wanted, float | int):
        return abs(found - wanted) <= 1.5e-6
    return bool(found == wanted)


def has_windows(pipe: Any, case: dict[str, Any]) -> bool:
    """Whether a question has a text of several windows, whose scores transformers adds up."""
    if "question" not in case["kwargs"]:
        return False
    questions, contexts = case["kwargs"]["question"], case["kwargs"]["context"]
    if isinstance(questions, str):
        questions, contexts = [questions], [contexts]
    rows = pipe.tokenizer([one.strip() for one in questions], contexts, verbose=False)["input_ids"]
    return max(map(len, rows)) > min(pipe.limit, case["kwargs"].get("max_seq_len") or pipe.limit)


@pytest.mark.parametrize("name", MODELS)
def test_every_recorded_call(name: str, backend: Backend, tmp_path: Path) -> None:
    entry = MODELS[name]
    tokenizer = FAMILY / "tokenizers" / entry["tokenizer"]
    files = [path for path in tokenizer.iterdir() if path.name != "config.json"]
    for path in [*files, *(FAMILY / "pipelines" / name).iterdir()]:
        shutil.copy(path, tmp_path)
    pipe = pipeline(entry["task"], model=tmp_path, framework=backend.name, dtype="float64")
    others = 0
    for case in entry["cases"]:
        case = {"args": [], "kwargs": {}, **case}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of texts that are cut, and of targets of several tokens
            if isinstance(case["want"], dict) and "error" in case["want"]:
                with pytest.raises(ValueError, match=r"\w+"):
                    pipe(*case["args"], **case["kwargs"])
                continue
            found = json.loads(json.dumps(pipe(*case["args"], **case["kwargs"])))
        if case["id"] in OTHER or has_windows(pipe, case):
            others += 1
        else:
            assert close(found, case["want"]), case["id"]
    assert others <= len(entry["cases"]) * 0.7
