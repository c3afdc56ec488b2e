"""`roberta train` on tables of public data sets: each is read correctly, or refused with a way out that works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import training_cases
from data_sets import TABLES, Table

from roberta.cli import parser
from roberta.common.commands.messages import in_options
from roberta.common.commands.train import _ARGUMENTS, training
from roberta.common.training.data.fields import Document, LabelledText, LabelledWords, MultipleChoice, Question
from roberta.common.training.data.readers import read_examples
from roberta.common.training.datasets import Data


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = training_cases.make(tmp_path_factory.mktemp("model"), "mlm")["model"]
    return folder


def prepared(model: Path, path: Path, task: str, options: str = "", framework: str = "pt") -> Data:
    """The data that `roberta train` would use with these options; the training itself does not start.

    Raises:
        ValueError: with the message that the command prints.
    """
    words = ["train", task, "--model", str(model), "--train", str(path), "--output", "none", *shlex.split(options)]
    try:
        return training(parser().parse_args(words))._data()
    except ValueError as error:
        raise ValueError(in_options(str(error), _ARGUMENTS)) from error


def way_out(message: str, with_header: bool) -> str:
    """The options named in an error: those for a file with a header, or those for one without."""
    said = re.findall(r"say ((?:--.+?))(?=; if|$)", message, re.MULTILINE)
    found: list[str] = [one for one in said if ("--no-header" not in one) == with_header]
    assert found, message
    return found[0]


def written(table: Table, folder: Path) -> Path:
    path = folder / table.file
    path.write_bytes(table.text.encode())
    return path


def first_of(example: Any) -> tuple[object, ...]:
    if isinstance(example, LabelledText):
        return example.text, example.text2, example.label
    if isinstance(example, LabelledWords):
        return example.words, example.labels
    if isinstance(example, Question):
        return example.question, example.context, example.answers[0].text
    if isinstance(example, MultipleChoice):
        return example.prompt, example.choices[example.label]
    assert isinstance(example, Document)
    return (example.sentences,)


HEADERLESS = ("glue cola, as it comes", "ag news, without a header", "numbered, without a header", "sentiment140",
              "financial phrases")  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_a_public_table_is_read_rightly_or_refused_with_options_that_read_it(
    model: Path, tmp_path: Path, name: str
) -> None:
    table = TABLES[name]
    path = written(table, tmp_path)
    options = table.says
    if options:
        with pytest.raises(ValueError, match=r"say .*--|Say .*--") as caught:
            prepared(model, path, table.task)
        if options == "?":
            options = way_out(str(caught.value), name not in HEADERLESS)
    data = prepared(model, path, table.task, options)
    made = training(parser().parse_args(
        ["train", table.task, "--model", "m", "--train", str(path), "--output", "o", *shlex.split(options)]
    ))  # fmt: skip
    columns = {"text_column": "text", "label_column": "label"}
    said = dict(made.columns or {}) | {
        role: getattr(made, name) for name, role in columns.items() if getattr(made, name)
    }
    examples = list(read_examples(path, table.task, columns=said, header=made.header))
    assert first_of(examples[0]) == table.wanted
    lines = [line for line in table.text.replace("\r", "").split("\n") if line]
    has_header = name not in HEADERLESS and not table.file.endswith("jsonl")
    if table.task in ("text-classification", "question-answering", "multiple-choice", "mlm"):
        assert data.report.parts[0].readings[0].rows == len(lines) - has_header


REFUSED = [  # content, what the error says
    ("utterance,intent\nhi you,card\nwho is,card\n", r"a\.csv:1 may name the columns: its label 'intent' is in no"),
    ("positive,good film\nnegative,bad film\npositive,fine film\n", r"its label 'good film' is in no other line"),
    ("17,good film\n18,bad film\n", r"the column of texts has '17'|its label 'good film'"),
    ("dev-1,x,good film\ndev-2,y,good film\n", r"the column of texts has 'dev-1' in the first row"),
    ("text,label\n17,a\n18,b\n", r"the column of texts has '17' in the first row"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), REFUSED)
def test_a_line_that_may_be_a_header_or_a_text_that_is_none_is_shown(
    model: Path, tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        prepared(model, tmp_path / "a.csv", "text-classification")
    assert "    " + content.split("\n")[0].replace(",", " | ") in str(caught.value)


def test_a_small_validation_file_may_have_each_label_once(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,good\ny,bad\nz,good\n")
    (tmp_path / "b.csv").write_text("x,good\ny,bad\n")
    options = f"--validation {tmp_path / 'b.csv'}"
    assert prepared(model, tmp_path / "a.csv", "text-classification", options).report.parts[1].rows == 2
    (tmp_path / "b.csv").write_text("body,kind\ny,bad\n")
    with pytest.raises(ValueError, match=r"b\.csv:1 may name the columns: its label 'kind'"):
        prepared(model, tmp_path / "a.csv", "text-classification", options)


def test_numbers_with_a_fraction_of_zero_and_labels_of_nearly_every_row_are_asked_about(
    model: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + "good,1.0\nbad,0.0\n" * 3)
    with pytest.raises(ValueError, match=r"'1\.0', '0\.0': whole numbers .*--problem single_label_classification"):
        prepared(model, tmp_path / "a.csv", "text-classification")
    for problem in ("single_label_classification", "regression"):
        data = prepared(model, tmp_path / "a.csv", "text-classification", f"--problem {problem}")
        assert data.config.problem_type == problem
    (tmp_path / "b.csv").write_text("text,label\n" + "".join(f"good,film {number}\n" for number in range(40)))
    with pytest.raises(
        ValueError, match=r"40 rows have 40 labels(?s:.*)    film 0(?s:.*)--label-column NAME; if these"
    ):
        prepared(model, tmp_path / "b.csv", "text-classification")
    assert prepared(model, tmp_path / "b.csv", "text-classification", "--label-column label").config.num_labels == 40


def test_options_say_the_same_in_python_and_one_role_has_one_column(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b,c\ngood film,a note,x\nbad film,a note,y\n")
    options = "--text-column a --label-column c --columns text2=b"
    data = prepared(model, tmp_path / "a.csv", "text-classification", options)
    assert data.report.parts[0].readings[0].columns == {"text": "a", "text2": "b", "label": "c"}
    with pytest.raises(ValueError, match=r"--text-column b names a column other than 'a' for text"):
        prepared(model, tmp_path / "a.csv", "text-classification", "--text-column a --columns text=b")
    with pytest.raises(ValueError, match=r"--label-column c is for text-classification.*omit it for mlm"):
        prepared(model, tmp_path / "a.csv", "mlm", "--label-column c")
    with pytest.raises(ValueError, match=r"has no column 'd': it names 'a', 'b', 'c'"):
        prepared(model, tmp_path / "a.csv", "text-classification", "--text-column d --label-column c")
    pairs = "--text-column a --label-column c --columns text2="
    assert (
        "text2"
        not in prepared(model, tmp_path / "a.csv", "text-classification", pairs).report.parts[0].readings[0].columns
    )


SPELLINGS = {
    "give labels=['a', 'b c'], or keep_labels=True": "give --labels a 'b c', or --keep-labels",
    "header=False, columns={'text': '2', 'text2': '#2'}; or": "--no-header --text-column 2 --columns 'text2=#2'; or",
    "a model's 'labels=5' and max_length=65 (x_max_length=6)": "a model's 'labels=5' and --max-length 65 (x_max_length=6)",
    "say format=, for\n    labels=['a'] is data": "say --format, for\n    labels=['a'] is data",
    "recipe: learning_rate=0.001 must": "recipe: --learning-rate 0.001 must",
}


@pytest.mark.parametrize("message", SPELLINGS)
def test_the_command_spells_arguments_as_options_and_leaves_data_alone(message: str) -> None:
    assert in_options(message, _ARGUMENTS) == SPELLINGS[message]
