"""Files with columns for `roberta classify`, `answer` and `choose`: headers and columns are not mistaken for others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from data_sets import TABLES

from roberta.common.commands.columns import Said
from roberta.common.commands.input_files import from_file
from roberta.common.commands.text_options import COMMANDS

FILM, SHIP = "a film that is good", "The ship left."
PAIR = {"text": FILM, "text_pair": SHIP}
ANSWER = {"question": "Who left?", "context": SHIP}
CHOICE = {"prompt": SHIP, "choices": ["It sank.", "It came back."]}


def inputs(folder: Path, command: str, text: str) -> list[Any]:
    (folder / "a.tsv").write_text(text)
    return [given.value for given in from_file(COMMANDS[command], folder / "a.tsv", None)]


@pytest.mark.parametrize(
    ("command", "text", "wanted"),
    [
        ("classify", f"Sentence\tLabel\n{FILM}\t1\n", {"text": FILM}),
        ("classify", f"label\tsentence2\tid\tsentence1\nyes\t{SHIP}\t7\t{FILM}\n", PAIR),
        ("classify", f"{FILM}\t{SHIP}\n", PAIR),
        ("answer", f"Context\tQuestion\n{SHIP}\tWho left?\n", ANSWER),
        ("answer", f"id\tPARAGRAPH\tquestion\tanswers\n1\t{SHIP}\tWho left?\tx\n", ANSWER),
        ("choose", f"prompt\tchoices\n{SHIP}\tIt sank.\tIt came back.\n", CHOICE),
        ("choose", f'choices\tlabel\tPrompt\n["It sank.", "It came back."]\t0\t{SHIP}\n', CHOICE),
        ("choose", f"label\tchoice2\tchoice1\tpremise\n0\tIt came back.\tIt sank.\t{SHIP}\n", CHOICE),
        ("choose", f"sent1\tsent2\tending0\tending1\n{SHIP}\tIt\tsank.\tcame back.\n", CHOICE),
        ("choose", f"{SHIP}\tIt sank.\tIt came back.\n", CHOICE),
        ("embed", f"Label\tContent\n1\t{FILM}\n", FILM),
        ("embed", "cat\ndog\n", "cat"),
    ],
)
def test_the_first_line_says_which_column_is_which(tmp_path: Path, command: str, text: str, wanted: Any) -> None:
    assert inputs(tmp_path, command, text)[0] == wanted


@pytest.mark.parametrize(
    ("command", "text", "message", "first", "wanted"),
    [
        ("classify", f"{FILM}\t1\n", "second column, '1' .* may be a label", "text\tlabel", {"text": FILM}),
        ("classify", f"{FILM}\tgood\n{SHIP}\tbad\n", "may be a label", "text\tlabel", {"text": FILM}),
        ("classify", f"{FILM}\tgood\n", "may be a label", "text\ttext_pair", {"text": FILM, "text_pair": "good"}),
        ("classify", f"utterance\tintent\n{FILM}\t{SHIP}\n", "may name the columns", "text\ttext_pair", PAIR),
        ("embed", f"utterance\n{FILM}\n", "may name the columns, .* 'utterance'", "text", FILM),
        ("answer", f"q\tc\nWho left?\t{SHIP}\n", "put question and context, divided", "question\tcontext", ANSWER),
        ("answer", f"question\tc\nWho left?\t{SHIP}\n", "known as the context", "question\tcontext", ANSWER),
        ("choose", f"stem\ta\tb\n{SHIP}\tIt sank.\tIt came back.\n", "may name", "prompt\tchoices", CHOICE),
    ],
)
def test_what_cannot_be_told_is_refused_with_a_first_line_that_settles_it(
    tmp_path: Path, command: str, text: str, message: str, first: str, wanted: Any
) -> None:
    with pytest.raises(ValueError, match=message):
        inputs(tmp_path, command, text)
    body = text if text.startswith(FILM) else text.partition("\n")[2]
    assert inputs(tmp_path, command, f"{first}\n{body}")[0] == wanted


def test_a_role_without_a_name_has_no_column(tmp_path: Path) -> None:
    file = tmp_path / "a.tsv"
    file.write_text(f"id\ttext\tsentence2\n7\t{FILM}\t{SHIP}\n")
    command = COMMANDS["classify"]

    def first(**columns: str) -> Any:
        return next(iter(from_file(command, file, None, said=Said(columns=columns))))

    assert first() == ({"text": FILM, "text_pair": SHIP}, {"id": "7", "text": FILM, "sentence2": SHIP})
    assert first(id="") == ({"text": FILM, "text_pair": SHIP}, {"text": FILM, "sentence2": SHIP})
    assert first(text2="") == ({"text": FILM}, {"id": "7", "text": FILM})
    file.write_text(f"{FILM}\t{SHIP}\n")
    assert first(id="").value == PAIR
    with pytest.raises(ValueError, match="none is said to be the text; say --columns text=NUMBER"):
        first(text2="")


def test_lines_that_do_not_fit_the_first_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"line 2 has the choices 'It sank.'; make the column of the choices the last"):
        inputs(tmp_path, "choose", f"choices\tprompt\nIt sank.\t{SHIP}\n")
    with pytest.raises(ValueError, match="line 2 has 2 columns; the first line names at least 3"):
        inputs(tmp_path, "choose", f"prompt\tchoice1\tchoice2\n{SHIP}\tIt sank.\n")
    with pytest.raises(ValueError, match="line 1 names two columns 'text'; rename one"):
        inputs(tmp_path, "classify", f"text\ttext\n{FILM}\t{SHIP}\n")


@pytest.mark.parametrize("name", [name for name, one in TABLES.items() if one.task == "text-classification"
                                  and one.file == "a.tsv" and not one.says])  # fmt: skip
def test_a_public_table_is_read_as_in_training_without_its_label(tmp_path: Path, name: str) -> None:
    text, text2, _ = TABLES[name].wanted
    found = inputs(tmp_path, "classify", TABLES[name].text)[0]
    assert found == ({"text": text} if text2 is None else {"text": text, "text_pair": text2})
