"""`roberta fill-mask`, `classify`, ...: texts from arguments, files and standard input; results as tables, JSON, .npy."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import backend as get_backend
from pipeline_cases import FRANCE, RAILWAY, TEXTS, make_models

import roberta
from roberta import pipeline
from roberta.cli import main
from roberta.common.commands.text_options import COMMANDS

MASKED = "The capital of<mask> is Paris."
CASES = {  # command -> the model, the arguments, and the equivalent call
    "fill-mask": ("words", [MASKED, "--top-k", "2"], MASKED, {"top_k": 2}),
    "classify": ("labels", [FRANCE, "--top-k", "all"], {"text": FRANCE}, {"top_k": None}),
    "tag": ("tags", [FRANCE], FRANCE, {"aggregation_strategy": "first"}),
    "answer": ("answers", ["Who?", RAILWAY], {"question": "Who?", "context": RAILWAY}, {}),
    "choose": ("choices", ["A ship", "left", "reads"], {"prompt": "A ship", "choices": ["left", "reads"]}, {}),
    "embed": ("plain", [FRANCE, "--pooling", "cls", "--normalize"], FRANCE, {"pooling": "cls", "normalize": True}),
    "generate": (
        "writes", ["A ship", "--no-do-sample", "--max-new-tokens", "4"], "A ship",
        {"do_sample": False, "max_new_tokens": 4},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    get_backend("pt")
    made = tmp_path_factory.mktemp("models")
    make_models(made, dtype="float32")
    return made


def from_stdin(monkeypatch: pytest.MonkeyPatch, text: str | bytes) -> None:
    raw = text if isinstance(text, bytes) else text.encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))


def lines(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("command", CASES)
def test_a_command_prints_what_the_pipeline_gives(folder: Path, capsys: Any, command: str) -> None:
    name, arguments, inputs, options = CASES[command]
    assert main([command, *arguments, "--model", str(folder / name)]) == 0
    wanted = next(pipeline(COMMANDS[command].task, folder / name, **options)(iter([inputs])))
    assert lines(capsys) == [wanted.tolist() if command == "embed" else wanted]


@pytest.mark.parametrize("command", CASES)
def test_a_terminal_gets_a_table(folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    name, arguments, _, _ = CASES[command]
    assert main([command, *arguments, "--model", str(folder / name)]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith(arguments[0][:20])
    assert rest
    assert all(row.startswith("  ") for row in rest if "\u0085" not in row)
    assert main([command, *arguments, "--model", str(folder / name), "--json"]) == 0
    assert len(lines(capsys)) == 1


def classify_lines(
    folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, text: str | bytes, *more: str
) -> list[Any]:
    from_stdin(monkeypatch, text)
    assert main(["classify", "--model", str(folder / "labels"), *more]) == 0
    return lines(capsys)


def test_every_line_of_standard_input_is_a_text(folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = classify_lines(folder, capsys, monkeypatch, "\ufeffone\r\n\nthree")
    assert found == pipeline("text-classification", folder / "labels")(["one", "", "three"])


@pytest.mark.parametrize(
    ("format_", "text"),
    [
        ("tsv", "Who?\tNobody.\nThe sea\n"),
        ("tsv", "id\ttext_pair\ttext\n1\tNobody.\tWho?\n2\t\tThe sea\n"),
        ("jsonl", '{"text": "Who?", "text_pair": "Nobody.", "id": 1}\n"The sea"\n'),
    ],
)
def test_columns_and_json_make_pairs(
    folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, format_: str, text: str
) -> None:
    found = classify_lines(folder, capsys, monkeypatch, text, "--format", format_, "--no-inputs")
    pipe = pipeline("text-classification", folder / "labels")
    second = {"text": "The sea", "text_pair": ""} if "id\t" in text else {"text": "The sea"}
    assert found == pipe([{"text": "Who?", "text_pair": "Nobody."}, second])


def test_a_file_is_read_by_its_name(folder: Path, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "questions.tsv"
    path.write_text(f"context\tquestion\n{RAILWAY}\tWho?\n")
    assert main(["answer", "--file", str(path), "--model", str(folder / "answers"), "--no-inputs"]) == 0
    assert lines(capsys) == [pipeline("question-answering", folder / "answers")(question="Who?", context=RAILWAY)]


def test_each_argument_is_a_question_about_a_file(folder: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "context.txt").write_text(RAILWAY)
    arguments = ["Who?", "When?", "--context-file", str(tmp_path / "context.txt"), "--model", str(folder / "answers")]
    assert main(["answer", *arguments]) == 0
    found = lines(capsys)
    assert len(found) == 2
    assert all(RAILWAY[one["start"] : one["end"]] == one["answer"] for one in found)


@pytest.mark.parametrize(
    ("command", "format_", "text", "message"),
    [
        ("classify", "txt", b"one\n\xff\n", "standard input line 2 is not UTF-8"),
        ("classify", "jsonl", '"one"\n{\n', "standard input line 2 is not valid JSON"),
        ("classify", "tsv", "one\na\tb\tc\n", "standard input line 2: 3 columns for text, text_pair; a first line"),
        (
            "classify",
            "tsv",
            "id\ttext\n1\ta\n2\n",
            "standard input line 3 has 1 columns; the first line names at least 2",
        ),
        ("classify", "jsonl", '"one"\n7\n', "inputs[1] is 7 (int)"),
        ("fill-mask", "txt", "a<mask>\nb\n", "inputs[1] has no <mask>"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_after_the_results_before(
    folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, command: str, format_: str, text: Any, message: str
) -> None:
    from_stdin(monkeypatch, text)
    assert main([command, "--model", str(folder / CASES[command][0]), "--format", format_]) == 1
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 1
    assert message in printed.err
    assert "Traceback" not in printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classify", "a", "--file", "b.txt"], "give texts as arguments, or --file b.txt, not both"),
        (
            ["classify", "--file", __file__],
            ".py: its name does not end in txt, tsv, csv, jsonl, json, conll; say --format",
        ),
        (["classify", "--file", "no-such.txt"], "no-such.txt"),
        (["answer", "Who?"], "arguments ['Who?']: 1 columns for question, context"),
        (["answer", "--context-file", "a.txt"], "a.txt: there is no such file"),
        (["embed", "a", "--output", "vectors.txt"], "--output vectors.txt must end in .npy"),
        (["classify", "a", "--top-k", "0"], "--top-k 0 must be an int of at least 1"),
        (["classify", "a", "--batch-tokens", "0"], "--batch-tokens must be an int of at least 1"),
    ],
)
def test_arguments_that_cannot_work_are_an_error_without_traceback(
    folder: Path, capsys: Any, arguments: list[str], message: str
) -> None:
    assert main([*arguments, "--model", str(folder / CASES[arguments[0]][0])]) == 1
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.startswith(f"roberta {arguments[0]}: ")


def test_without_a_text_a_terminal_is_asked_for_one(folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from_stdin(monkeypatch, "")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert main(["classify", "--model", str(folder / "labels")]) == 1
    assert "there is no text; give one as an argument, --file, or standard input" in capsys.readouterr().err


# -- vectors in a file -------------------------------------------------------------------------------------------------


def test_vectors_are_in_one_file_in_order(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{TEXTS[number % 6]} {number}" for number in range(120)]
    from_stdin(monkeypatch, "\n".join(texts))
    path = tmp_path / "vectors.npy"
    assert main(["embed", "--model", str(folder / "plain"), "--output", str(path)]) == 0
    found = np.load(path)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.stack(pipeline("embeddings", folder / "plain")(texts)), rtol=1e-4, atol=1e-5)
    assert [file.name for file in tmp_path.iterdir()] == ["vectors.npy"]


class Interrupted:
    """Standard input that is interrupted by Ctrl-C after some lines."""

    def __init__(self, texts: list[str]) -> None:
        self.buffer = self.stream(texts)

    def isatty(self) -> bool:
        return False

    def stream(self, texts: list[str]) -> Iterator[bytes]:
        yield from (f"{text}\n".encode() for text in texts)
        raise KeyboardInterrupt


@pytest.mark.parametrize("count", [0, 20])
def test_what_is_interrupted_has_its_results_so_far_written(
    folder: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    for output in ([], ["--output", str(tmp_path / "vectors.npy")]):
        monkeypatch.setattr(sys, "stdin", Interrupted(["text"] * count))
        assert main(["embed", "--model", str(folder / "plain"), *output]) == 130
        printed = capsys.readouterr()
        done = min(count, 16)  # the first window; the second was being read
        assert printed.err.splitlines()[-1] == "interrupted; the results so far are written"
        assert len(printed.out.splitlines()) == (0 if output else done)
    assert len(np.load(tmp_path / "vectors.npy")) == done


def started(folder: Path) -> subprocess.Popen[bytes]:
    """A command in a separate process, whose pipes are buffered as they are for a user."""
    command = [sys.executable, "-m", "roberta", "classify", "--model", str(folder / "labels"), "--framework", "pt"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)


def test_ctrl_c_ends_a_command_with_its_results_so_far_and_without_traceback(folder: Path) -> None:
    with started(folder) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(b"a text\n" * 16)  # one window
        process.stdin.flush()
        first = [process.stdout.readline() for _ in range(16)]
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read().decode()
        assert process.wait() == 130
    assert all(json.loads(line)["label"] in ("no", "yes", "perhaps") for line in first)
    assert errors == "interrupted; the results so far are written\n"


def test_a_reader_that_has_enough_ends_a_command_without_an_error(folder: Path) -> None:
    with started(folder) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(b"a text\n" * 16)
        process.stdin.flush()
        assert process.stdout.readline()
        process.stdout.close()
        process.stdin.write(b"a text\n" * 100)
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_the_help_of_every_command_needs_no_numpy() -> None:
    code = """
import sys
from roberta.cli import parser
for name in ("fill-mask", "classify", "tag", "answer", "choose", "embed", "generate"):
    try:
        parser().parse_args([name, "--help"])
    except SystemExit as ended:
        assert ended.code == 0
assert "numpy" not in sys.modules and "tokenizers" not in sys.modules
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    small = Path(roberta.__file__).parent / "small"
    command = f"{sys.executable} -m roberta info {small} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_a_pipeline_says_what_it_is(folder: Path) -> None:
    text = repr(pipeline("text-classification", folder / "labels", top_k=2))
    assert "model=RobertaForSequenceClassification, framework='pt'" in text
    assert "top_k=2" in text
