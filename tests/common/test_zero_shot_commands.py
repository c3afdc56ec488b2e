"""`roberta classify --labels ...`: labels from an option or a column, and the errors of options that do not fit."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from backends import backend as get_backend
from pipeline_cases import FRANCE, LENGTH, LONG, RAILWAY, make_models

from roberta import pipeline
from roberta.cli import main

TASK = "zero-shot-classification"
TOPICS = ["towns", "ships and the sea", "books"]
SHIP = "A ship left the harbour of Lisbon"


@pytest.fixture(scope="module")
def nli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    get_backend("pt")
    return make_models(tmp_path_factory.mktemp("models"), ("nli",), dtype="float32")["nli"]


def ran(capsys: Any, nli: Path, *words: object) -> list[Any]:
    """The lines of a command that must succeed."""
    status = main(["classify", "--model", str(nli), *map(str, words)])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    return [json.loads(line) for line in printed.out.splitlines()]


def near(result: dict[str, Any]) -> dict[str, Any]:
    """A result whose scores may differ by the rounding of float32."""
    return {**result, "scores": pytest.approx(result["scores"], abs=1e-5)}


def refused(capsys: Any, nli: Path, *words: object) -> str:
    """The message of a command that must fail."""
    assert main(["classify", "--model", str(nli), *map(str, words)]) == 1
    error: str = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


# -- labels of all texts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ([], {}),
        (["--multi-label"], {"multi_label": True}),
        (["--hypothesis", "It is about {}."], {"hypothesis_template": "It is about {}."}),
        (["--hypothesis", "{}: {{so}}", "--multi-label"], {"hypothesis_template": "{}: {{so}}", "multi_label": True}),
    ],
)
def test_the_command_prints_what_the_pipeline_gives(
    nli: Path, capsys: Any, words: list[str], options: dict[str, Any]
) -> None:
    wanted = [near(one) for one in pipeline(TASK, nli, candidate_labels=TOPICS, **options)([FRANCE, SHIP])]
    assert ran(capsys, nli, FRANCE, SHIP, "--labels", "towns, ships and the sea,books", *words) == wanted
    assert ran(capsys, nli, FRANCE, SHIP, "--labels", "towns, ships and the sea", "--labels", "books", *words) == wanted


def test_a_terminal_gets_a_row_for_each_label(nli: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main(["classify", SHIP, "--model", str(nli), "--labels", ",".join(TOPICS)]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    wanted = pipeline(TASK, nli)(SHIP, TOPICS)
    assert first == SHIP
    assert [row.split()[0] for row in rest] == [label.split()[0] for label in wanted["labels"]]
    assert [float(row.split()[-1]) for row in rest] == pytest.approx(wanted["scores"], abs=1e-4)


@pytest.mark.parametrize(
    ("name", "text", "beside"),
    [
        ("a.txt", f"{FRANCE}\n{SHIP}\n", [{}, {}]),
        ("a.tsv", f"id\tlabel\ttext\n7\tx\t{FRANCE}\n8\ty\t{SHIP}\n",
         [{"id": "7", "text": FRANCE}, {"id": "8", "text": SHIP}]),
        ("a.csv", f'review,stars\n"{FRANCE}",1\n{SHIP},2\n', [{"review": FRANCE}, {"review": SHIP}]),
        ("a.jsonl", f'"{FRANCE}"\n{{"premise": "{SHIP}", "candidate_labels": "ignored"}}\n', [{}, {"premise": SHIP}]),
    ],
)  # fmt: skip
def test_texts_come_from_files_of_every_kind(
    nli: Path, tmp_path: Path, capsys: Any, name: str, text: str, beside: list[dict[str, str]]
) -> None:
    file = written(tmp_path, name, text)
    results = pipeline(TASK, nli)([FRANCE, SHIP], TOPICS)
    wanted = [{**one, **near(result)} for one, result in zip(beside, results, strict=True)]
    assert ran(capsys, nli, "--file", file, "--labels", ",".join(TOPICS)) == wanted


def test_every_line_of_standard_input_is_a_text(nli: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{FRANCE}\n{SHIP}\n".encode())))
    found = ran(capsys, nli, "--labels", ",".join(TOPICS), "--inputs")
    wanted = pipeline(TASK, nli)([FRANCE, SHIP], TOPICS)
    assert found == [{"text": text, **near(one)} for text, one in zip([FRANCE, SHIP], wanted, strict=True)]


# -- labels of each text -----------------------------------------------------------------------------------------------

EACH = [["towns", "books"], ["ships, boats", "the sea"]]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.tsv", f'text\ttopics\n{FRANCE}\ttowns, books\n{SHIP}\t["ships, boats", "the sea"]\n', ["topics"]),
        ("a.csv", f'topics,text\n"towns,books","{FRANCE}"\n"[\'ships, boats\', \'the sea\']",{SHIP}\n', ["topics"]),
        ("b.tsv", f'x\t{FRANCE}\ttowns,books\ny\t{SHIP}\t["ships, boats", "the sea"]\n',
         ["3", "text=2", "--no-header"]),
        ("a.jsonl", f'{{"text": "{FRANCE}", "topics": "towns,books"}}\n'
                    f'{{"text": "{SHIP}", "topics": ["ships, boats", "the sea"]}}\n', ["topics"]),
    ],
)  # fmt: skip
def test_each_text_may_have_its_labels_in_a_column(
    nli: Path, tmp_path: Path, capsys: Any, name: str, text: str, words: list[str]
) -> None:
    file = written(tmp_path, name, text)
    found = ran(capsys, nli, "--file", file, "--columns", f"candidate_labels={words[0]}", *words[1:])
    wanted = pipeline(TASK, nli)([FRANCE, SHIP], EACH)
    assert found == [{"text": text, **near(one)} for text, one in zip([FRANCE, SHIP], wanted, strict=True)]


def test_a_text_without_labels_in_its_column_has_those_of_the_option(nli: Path, tmp_path: Path, capsys: Any) -> None:
    file = written(tmp_path, "a.tsv", f"text\ttopics\n{FRANCE}\t\n{SHIP}\ttowns,books\n")
    words = ("--file", file, "--columns", "candidate_labels=topics", "--no-inputs")
    pipe = pipeline(TASK, nli)
    assert ran(capsys, nli, *words, "--labels", ",".join(TOPICS)) == [
        near(pipe(FRANCE, TOPICS)),
        near(pipe(SHIP, EACH[0])),
    ]
    error = refused(capsys, nli, *words)
    assert "inputs[0] has no labels to choose from: give --labels" in error
    first, second = ran(capsys, nli, *words, "--on-error", "skip")
    assert first["index"] == 0
    assert second == near(pipe(SHIP, EACH[0]))


# -- long texts, and errors --------------------------------------------------------------------------------------------


def test_long_texts_are_cut_as_in_the_training_of_the_model(nli: Path, tmp_path: Path, capsys: Any) -> None:
    words = (LONG, "--labels", "towns,books")
    assert ran(capsys, nli, *words) == [near(pipeline(TASK, nli)(LONG, ["towns", "books"]))]
    main(["classify", "--model", str(nli), *words])
    assert f"2 rows have {LENGTH} tokens, the most there may be: longer texts were cut" in capsys.readouterr().err
    assert "--truncation cuts it" in refused(capsys, nli, *words, "--no-truncation")
    trained = tmp_path / "trained"
    trained.mkdir()
    for file in nli.iterdir():
        (trained / file.name).write_bytes(file.read_bytes())
    config = json.loads((nli / "config.json").read_text())
    config["task_specific_params"] = {"text-classification": {"truncation": True, "max_tokens": 30}}
    (trained / "config.json").write_text(json.dumps(config))
    assert ran(capsys, trained, *words) == [near(pipeline(TASK, nli)(LONG, ["towns", "books"], max_length=30))]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labels", " , "], "--labels is empty; name at least one label"),
        (["--labels", "a,b", "--hypothesis", "no place"], "--hypothesis 'no place' must have {} where the label goes"),
        (["--labels", "a,b", "--top-k", "2"], "--top-k does not go with labels of your own: the result has each"),
        (["--labels", "a", "--function-to-apply", "none"], "--function-to-apply does not go with labels of your own"),
        (["--multi-label"], "--multi-label does not go with a model's own labels; give others with --labels \"a,b,c\", or "
                            "--columns candidate_labels=NAME"),
        (["--hypothesis", "It is {}."], "--hypothesis does not go with a model's own labels"),
        (["--labels", "a", "--columns", "text2=b"],
         "--columns text2=b: zero-shot-classification has 'text', 'candidate_labels', 'id'"),
        (["--columns", "candidate_labels=c"], "line 1 has no column 'c' for the 'candidate_labels'; there are text, b"),
        (["--labels", f"towns,{(RAILWAY * 4).replace(',', '')}"], "shorten the label or --hypothesis"),
    ],
)  # fmt: skip
def test_options_that_cannot_work_are_named_with_a_way_out(
    nli: Path, tmp_path: Path, capsys: Any, words: list[str], message: str
) -> None:
    file = written(tmp_path, "a.tsv", f"text\tb\n{SHIP}\t{FRANCE}\n")
    assert message in refused(capsys, nli, "--file", file, *words)


def test_a_table_without_names_has_one_column(nli: Path, tmp_path: Path, capsys: Any) -> None:
    file = written(tmp_path, "a.tsv", f"{SHIP}\tyes\n{FRANCE}\tno\n")
    words = ("--file", file, "--labels", "towns,books")
    assert "line 1: 2 columns for text; a first line that names the columns" in refused(capsys, nli, *words)
    assert len(ran(capsys, nli, *words, "--no-header", "--text-column", "1")) == 2


def test_a_model_without_a_label_for_entailment_is_named_once(tmp_path: Path, capsys: Any) -> None:
    model = make_models(tmp_path, ("labels",), dtype="float32")["labels"]
    assert main(["classify", FRANCE, SHIP, "--model", str(model), "--labels", "towns,books"]) == 0
    error = capsys.readouterr().err
    assert error.count("roberta classify: the model's labels are 'no', 'yes', 'perhaps', and none begins with") == 1
