"""A part of the training data: the first examples, and some that are held out, which the seed alone chooses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import training_cases

from roberta import RobertaConfig, RobertaTokenizerFast, Training
from roberta.cli import main
from roberta.common.training.datasets import Data, DataSettings, make_data
from roberta.common.training.recipes import default_recipe
from roberta.common.training.sampling import divided


def prepared(folder: Path, task: Any, seed: int = 0, **settings: Any) -> Data:
    given = training_cases.make(folder, task)
    return make_data(
        task, given["train"], None, DataSettings(max_length=48, **settings), seed=seed, recipe=default_recipe(task),
        config=RobertaConfig.from_pretrained(given["model"]),
        tokenizer=RobertaTokenizerFast.from_pretrained(given["model"]),
    )  # fmt: skip


def rows(features: Any) -> list[list[Any]]:
    return [[np.asarray(one).tolist() for one in feature["input_ids"]] for feature in features]


def test_examples_are_divided_by_the_seed_in_their_order() -> None:
    examples: Any = list(range(100))
    kept, held_out = divided(examples, 0.2, 3)
    assert (len(kept), len(held_out)) == (80, 20)
    assert sorted(kept + held_out) == examples
    assert (kept, held_out) == (sorted(kept), sorted(held_out))
    assert divided(examples, 0.2, 3) == (kept, held_out)
    assert divided(examples, 0.2, 4) != (kept, held_out)


@pytest.mark.parametrize("task", ["text-classification", "token-classification", "question-answering", "mlm"])
def test_what_is_held_out_is_evaluated_and_not_trained_on(task: Any, tmp_path: Path) -> None:
    whole, part = prepared(tmp_path, task), prepared(tmp_path, task, validation_split=0.34)
    assert whole.evaluation is None
    assert part.evaluation is not None
    trained, held_out = rows(part.features), rows(part.evaluation.features)
    if task == "mlm":  # rows are packed of documents
        assert sum(map(len, trained)) + sum(map(len, held_out)) == pytest.approx(
            sum(map(len, rows(whole.features))), abs=9
        )
        return
    assert sorted(trained + held_out) == sorted(rows(whole.features))
    assert [row for row in rows(whole.features) if row in trained] == trained
    assert "examples are held out, to evaluate on" in "\n".join(part.report.lines())
    assert part.config.id2label == whole.config.id2label
    assert part.agreement["validation_split"] == 0.34


@pytest.mark.parametrize("task", ["text-classification", "mlm", "multiple-choice"])
def test_the_first_examples_alone_are_trained_on(task: Any, tmp_path: Path) -> None:
    whole, part = prepared(tmp_path, task), prepared(tmp_path, task, max_train_samples=2)
    assert rows(part.features) == rows(whole.features)[:2]
    assert part.config.id2label == whole.config.id2label
    assert "at most 2 are trained on, the first ones" in "\n".join(part.report.lines())
    assert part.agreement["max_train_samples"] == 2
    assert "max_train_samples" not in whole.agreement


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_train_samples": 0}, "max_train_samples=0 must be an int of at least 1; omit it to train on all"),
        ({"validation_split": 1.0}, "validation_split=1.0 must be a share above 0 and below 1, such as 0.1"),
        ({"validation_split": 0.1}, "validation_split=0.1 takes validation data from the training data; omit it or"),
        (
            {"validation_split": 0.01, "validation": None},
            "validation_split=0.01 of 3 examples leaves nothing to evaluate",
        ),
        (
            {"validation_split": 0.99, "validation": None},
            "validation_split=0.99 of 3 examples leaves nothing to train on",
        ),
    ],
)
def test_a_part_that_cannot_be_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    given = training_cases.make(tmp_path, "multiple-choice") | {"output": tmp_path / "run", "framework": "pt"}
    with pytest.raises(ValueError, match=message):
        Training(**given | options).run()


def test_the_command_evaluates_on_what_it_held_out_and_resumes_with_the_same_split(tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    given = {
        name: value for name, value in training_cases.make(tmp_path, "multiple-choice").items() if name != "validation"
    }
    words = ["train", *training_cases.flags(given), "--framework", "pt", "--output", str(tmp_path / "run")]
    words += ["--updates", "1", "--warmup", "0", "--best", "--early-stopping", "1"]
    assert main([*words, "--validation-split", "0.3"]) == 0
    data = json.loads((tmp_path / "run" / "data.json").read_text())
    assert (data["train"]["rows"], data["validation"]["rows"]) == (2, 1)
    assert main([*words, "--validation-split", "0.6", "--resume"]) == 1
    assert "rows.validation_split: 0.3 then, 0.6 now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"dtype": "fp16"}, "dtype='fp16' must be one of float32, float64, bfloat16, float16, auto"),
        ({"dtype": np.float16}, "dtype=.*float16.* must be one of .*, as a text"),
        ({"sharding": "foo"}, "sharding='foo' must be one of none, data, full"),
        ({"compile": "no"}, "compile='no' must be True or False"),
        ({"gradient_checkpointing": 1}, "gradient_checkpointing=1 must be True or False"),
        ({"workers": -1}, "workers=-1 must be a number of processes"),
        ({"lora": {"r": 8}}, r"lora=\{'r': 8\} must be a text such as"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Training(task="mlm", model="m", train=["t"], output="o", **given)
