"""Zero-shot classification as transformers 4.57.6 recorded it, with the family's models and tokenizers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from backends import Backend

from roberta import pipeline

NAMES = ("zs-roberta-first", "zs-xlmr", "zs-neutral-first", "zs-two-labels", "zs-no-names")
# Here transformers takes label 0 for the contradiction, but it is the neutral one and label 1 the contradiction.
WRONG_CONTRADICTION = {"zs-neutral-first-01", "zs-neutral-first-03", "zs-neutral-first-07"}


def of_name(golden: Path, name: str) -> dict[str, Any]:
    """One model's record."""
    recorded = json.loads((golden / "family" / "pipelines.json").read_text(encoding="utf-8"))
    return next(one for one in recorded if one["name"] == name)


def assembled(golden: Path, record: dict[str, Any], folder: Path) -> Path:
    """The files of a tokenizer and of a model in one folder."""
    family = golden / "family"
    files = [file for file in (family / "tokenizers" / record["tokenizer"]).iterdir() if file.name != "config.json"]
    for file in (*files, *(family / "pipelines" / record["name"]).iterdir()):
        shutil.copyfile(file, folder / file.name)
    return folder


@pytest.mark.filterwarnings("ignore:the model's labels are 'LABEL_0'")
@pytest.mark.parametrize("name", NAMES)
def test_labels_and_scores_are_those_of_transformers(backend: Backend, golden: Path, tmp_path: Path, name: str) -> None:
    record = of_name(golden, name)
    pipe = pipeline(record["task"], assembled(golden, record, tmp_path), framework=backend.name, dtype="float64")
    for case in record["cases"]:
        if case["id"] in WRONG_CONTRADICTION:
            continue
        if "error" in case["want"]:
            with pytest.raises(ValueError, match=r"candidate_labels|hypothesis_template"):
                pipe(*case["args"], **case["kwargs"])
            continue
        found, wanted = pipe(*case["args"], **case["kwargs"]), case["want"]
        found, wanted = (one if isinstance(one, list) else [one] for one in (found, wanted))
        assert found == [{**one, "scores": pytest.approx(one["scores"], abs=2e-6)} for one in wanted], case["id"]


def test_the_contradiction_that_is_not_the_first_label_is_found(backend: Backend, golden: Path, tmp_path: Path) -> None:
    name = "zs-neutral-first"
    folder = assembled(golden, of_name(golden, name), tmp_path)
    pipe = pipeline("zero-shot-classification", folder, framework=backend.name, dtype="float64")
    classify = pipeline(
        "text-classification", folder, framework=backend.name, dtype="float64", top_k=None, function_to_apply="none"
    )
    text, labels = "Quel drôle d'oiseau !", ["politics", "sport", "weather"]
    found = pipe(text, labels, multi_label=True)
    for label, score in zip(found["labels"], found["scores"], strict=True):
        [scores] = classify([{"text": text, "text_pair": f"This example is {label}."}])
        logits = {one["label"]: one["score"] for one in scores}
        odds = 2.718281828459045 ** (logits["Entailment"] - logits["Contradiction"])
        assert score == pytest.approx(odds / (1 + odds), rel=1e-9)
