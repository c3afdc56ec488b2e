"""The report of a training on its data before the first update, and the treatment of rows that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import training_cases
from training_cases import ROWS

from roberta import Training
from roberta.cli import main, parser
from roberta.common.commands.train import training
from roberta.common.training.datasets import Data

TASKS = ("mlm", "clm", *ROWS)
GOOD, BAD = "The ship left the harbour.", "She read the book."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def prepared(arguments: dict[str, Any], **more: Any) -> Data:
    return Training(**{**arguments, "output": "none", **more})._data()


def lines(arguments: dict[str, Any], **more: Any) -> list[str]:
    return prepared(arguments, **more).report.lines()


@pytest.mark.parametrize("task", TASKS)
def test_three_rows_are_shown_as_the_model_sees_them(folder: Path, task: Any) -> None:
    arguments = training_cases.make(folder / task, task)
    data = prepared(arguments)
    found = data.report.lines()
    assert found[0] == f"train: {len(data.features)} rows of at most 48 tokens"
    assert f"validation: {len(data.features)} rows of at most 48 tokens" in found
    at = found.index("  the first, as the model sees them:")
    wanted = {
        "mlm": "    <s>",
        "clm": "    <s>",
        "text-classification": " -> ",
        "token-classification": "/B-NAME ",
        "question-answering": " -> 'New York City'",
        "multiple-choice": "    *<s>A ship left</s></s>the harbour</s> | <s>A ship left</s></s>the book</s>",
    }
    assert wanted[task] in found[at + 1]
    assert len(data.report.parts[0].examples) == min(3, len(data.features))
    json.dumps(data.report.as_json())


def test_labels_are_counted_with_what_was_cut_and_the_columns_taken(folder: Path, tmp_path: Path) -> None:
    arguments = training_cases.make(folder / "text-classification", "text-classification")
    rows = "body\tkind\n" + f"{GOOD}\tship\n" * 3 + f"{BAD}\tbook\n" + f"{BAD * 20}\tbook\n"
    (tmp_path / "a.tsv").write_text(rows)
    found = lines(arguments, train=[tmp_path / "a.tsv"], validation=None, text_column="body", label_column="kind")
    assert found[:4] == [
        "train: 5 rows of at most 48 tokens",
        f"  {tmp_path / 'a.tsv'} (tsv, its first line a header): 5 examples; text = body, label = kind",
        "  book 2, ship 3",
        "  1 are longer than 48 tokens, and were cut",
    ]
    assert found[5] == f"    <s>{GOOD}</s> -> ship"
    assert found[-1].startswith(
        "labels (single_label_classification): 0: book, 1: ship; the names are those of the data"
    )


@pytest.mark.parametrize("task", ["text-classification", "token-classification", "multiple-choice"])
def test_as_many_rows_are_cut_as_are_longer(folder: Path, tmp_path: Path, task: Any) -> None:
    arguments = training_cases.make(folder / task, task)
    long = {
        "text-classification": {"text": GOOD * 20, "label": "no"},
        "token-classification": {"words": GOOD.split() * 20, "labels": ["O"] * 100},
        "multiple-choice": {"prompt": GOOD * 20, "choices": ["the sea", "the book"], "label": 0},
    }[task]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*ROWS[task], long, long]))
    whole = prepared(arguments).report.parts[0].making.cut
    data = prepared(arguments, train=[tmp_path / "a.jsonl"])
    assert data.report.parts[0].making.cut == whole + 2
    assert all(len(row) <= 48 for feature in data.features[-2:] for row in
               (feature["input_ids"] if task == "multiple-choice" else [feature["input_ids"]]))  # fmt: skip


BROKEN: dict[str, list[Any]] = {  # task -> rows that cannot be used
    "text-classification": [{"text": "x"}, {"text": 5, "label": "no"}, {"text": "x", "label": ""}],
    "token-classification": [{"words": ["a", "b"], "labels": ["O"]}, {"words": [], "labels": []}],
    "question-answering": [
        {"question": "Who " * 60, "context": GOOD, "answers": []},
        {"question": "Who?", "context": GOOD, "answers": [{"text": "ship", "answer_start": 3}]},
    ],
    "multiple-choice": [{"prompt": "a", "choices": ["b"], "label": 0}, {"prompt": "a", "choices": ["b"] * 3, "label": 0}],
    "mlm": [{"text": None}, {"txt": "a"}],
}  # fmt: skip


@pytest.mark.parametrize("task", BROKEN)
def test_rows_that_cannot_be_used_are_errors_or_skipped_and_counted(folder: Path, tmp_path: Path, task: Any) -> None:
    arguments = training_cases.make(folder / task, task)
    good = ROWS.get(task, [{"text": GOOD}])
    written = [json.dumps(row) for row in [good[0], *BROKEN[task], *good[1:]]] + ["{"]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(written))
    settings = {"train": [path], "validation": [path]}
    with pytest.raises(
        ValueError, match=r"a\.jsonl:\d.*; or skip all rows that cannot be used with skip_unusable=True"
    ):
        prepared(arguments, **settings)
    data = prepared(arguments, **settings, skip_unusable=True)
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps(row) for row in good))
    wanted = prepared(arguments, train=[tmp_path / "b.jsonl"], validation=[tmp_path / "b.jsonl"])
    for part, other in zip(data.report.parts, wanted.report.parts, strict=True):
        assert (part.rows, part.counts, part.examples) == (other.rows, other.counts, other.examples)
        assert part.making.unusable.count == len(BROKEN[task]) + 1
    assert f"  {len(BROKEN[task]) + 1} could not be used and were skipped, such as:" in data.report.lines()
    if task == "question-answering":
        assert data.evaluation is not None
        assert data.evaluation.questions is not None
        asked = [item.question for item in data.evaluation.questions.items]
        assert [asked[feature["example"]] for feature in data.evaluation.features] == [
            row["question"]
            for row in good
            for _ in range(sum(f["example"] == good.index(row) for f in wanted.evaluation.features))  # type: ignore[union-attr]
        ]


def test_labels_that_nobody_knows_and_broken_rows_of_tables_are_skipped(folder: Path, tmp_path: Path) -> None:
    arguments = training_cases.make(folder / "text-classification", "text-classification")
    (tmp_path / "a.csv").write_text(f'text,label\n{GOOD},1\n{BAD},0\nx,-1\n"x" y,1\nx,1,2\nx,\n{GOOD},1\n')
    data = prepared(arguments, train=[tmp_path / "a.csv"], validation=None, skip_unusable=True)
    assert (len(data.features), data.report.parts[0].making.unusable.count) == (3, 4)
    assert data.config.id2label == {0: "0", 1: "1"}
    (tmp_path / "b.csv").write_text(f"text,label\n{GOOD},2\n{BAD},7\n")
    with pytest.raises(ValueError, match=r"validation has no row that can be used, such as: .*has the label '2'"):
        prepared(arguments, train=[tmp_path / "a.csv"], validation=[tmp_path / "b.csv"], skip_unusable=True)
    (tmp_path / "c.csv").write_text(f'text,label\n{GOOD},1\n{BAD},0\n"open,1\n{GOOD},1\n')
    with pytest.raises(ValueError, match=r"c\.csv:4 .*close its quotes"):  # otherwise all that follow would be lost
        prepared(arguments, train=[tmp_path / "c.csv"], validation=None, skip_unusable=True)


def test_a_word_without_a_label_takes_its_sentence_along(folder: Path, tmp_path: Path) -> None:
    arguments = training_cases.make(folder / "token-classification", "token-classification")
    (tmp_path / "a.conll").write_text("Ann B-NAME\nran O\n\nBob\nsat O\n\nsea O\nAnn B-NAME\n")
    data = prepared(arguments, train=[tmp_path / "a.conll"], validation=None, skip_unusable=True)
    assert (len(data.features), data.report.parts[0].counts) == (2, {"B-NAME": 2, "O": 2})


def test_a_question_behind_thousands_of_spaces_is_a_question(folder: Path, tmp_path: Path) -> None:
    arguments = training_cases.make(folder / "question-answering", "question-answering")
    rows = [{**ROWS["question-answering"][0], "question": " " * 3000 + "Where does Anna live?"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = prepared(arguments, train=[tmp_path / "a.jsonl"])
    plain = prepared(arguments)
    assert [ids.tolist() for ids in (data.features[0]["input_ids"], plain.features[0]["input_ids"])] == [
        plain.features[0]["input_ids"].tolist()
    ] * 2


def test_the_command_says_it_and_the_folder_and_the_result_have_it(folder: Path, tmp_path: Path, capsys: Any) -> None:
    arguments = training_cases.make(folder / "multiple-choice", "multiple-choice")
    words = ["train", *training_cases.flags(arguments), "--framework", "pt", "--output", str(tmp_path / "run")]
    assert main([*words, "--updates", "1", "--batch-size", "2", "--skip-unusable"]) == 0
    error = capsys.readouterr().err
    assert error.index("train: 3 rows of at most 48 tokens") < error.index("update 1, epoch")
    assert "  choice 0 2, choice 1 1" in error
    said = json.loads((tmp_path / "run" / "data.json").read_text())
    assert said["train"]["counts"] == {"choice 0": 2, "choice 1": 1}
    assert said["train"]["files"][0]["columns"] == {"prompt": "prompt", "choices": "choices", "label": "label"}
    again = training(
        parser().parse_args([*words, "--updates", "1", "--batch-size", "2", "--skip-unusable", "--resume"])
    )
    assert again.run().data.as_json() == said
