"""Batch jobs: every row once, its columns kept, whatever stops the job and however often it is run again."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import backend as get_backend
from pipeline_cases import FRANCE, RAILWAY, make_models

from roberta import pipeline
from roberta.cli import main
from roberta.common.commands import jobs
from roberta.common.commands.job_files import rows_of_shard, shards_of
from roberta.common.commands.text_options import COMMANDS, ZERO_SHOT

TEXTS = ["A ship left.", FRANCE, "", "Über Nacht 👍", "It reads a railway."]
# Command -> the model, columns of each row, more arguments, and the same as a call of the pipeline.
CASES: dict[str, tuple[str, list[dict[str, Any]], list[str], dict[str, Any]]] = {
    "classify": ("labels", [{"text": text} for text in TEXTS], [], {}),
    "classify all": ("labels", [{"text": text} for text in TEXTS], ["--top-k", "all"], {"top_k": None}),
    "fill-mask": ("words", [{"text": "The<mask> is"}, {"text": "<mask> and<mask>"}], ["--top-k", "2"], {"top_k": 2}),
    "tag": ("tags", [{"text": text} for text in TEXTS], [], {"aggregation_strategy": "first"}),
    "answer": ("answers", [{"question": "Who?", "context": RAILWAY}] * 2, [], {}),
    "choose": ("choices", [{"prompt": "A ship", "choices": ["left", "reads"]}] * 2, [], {}),
    "embed": ("plain", [{"text": text} for text in TEXTS], ["--pooling", "cls"], {"pooling": "cls"}),
    "generate": (
        "writes", [{"text": "A ship"}] * 2, ["--no-do-sample", "--max-new-tokens", "3"],
        {"do_sample": False, "max_new_tokens": 3},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    get_backend("pt")
    folder = tmp_path_factory.mktemp("models")
    make_models(folder, dtype="float32")
    return folder


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))
    return path


def read_lines(*paths: Path) -> list[Any]:
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def run(models: Path, command: str, name: str, *arguments: object) -> int:
    return main([command, "--model", str(models / name), "--framework", "pt", *map(str, arguments)])


def as_columns(result: Any) -> dict[str, Any]:
    """A result of a pipeline, as columns."""
    if isinstance(result, np.ndarray):
        return {"embedding": result.tolist()}
    return result if isinstance(result, dict) else {"result": result}


def wanted_of(models: Path, case: str) -> list[dict[str, Any]]:
    name, rows, _, options = CASES[case]
    inputs = [row["text"] if tuple(row) == ("text",) else row for row in rows]
    return [as_columns(one) for one in pipeline(COMMANDS[case.split()[0]].task, models / name, **options)(iter(inputs))]


@pytest.mark.parametrize("case", CASES)
def test_json_lines_get_the_results_of_the_pipeline(models: Path, tmp_path: Path, case: str) -> None:
    name, rows, more, _ = CASES[case]
    numbered = [{"number": number, **row} for number, row in enumerate(rows)]
    file = write_lines(tmp_path / "rows.jsonl", numbered)
    assert run(models, case.split()[0], name, "--input", file, "--output", tmp_path / "out", *more) == 0
    wanted = [{**row, **result} for row, result in zip(numbered, wanted_of(models, case), strict=True)]
    assert read_lines(tmp_path / "out" / "rows.jsonl") == wanted


@pytest.mark.parametrize("case", CASES)
def test_parquet_keeps_its_columns_and_types_and_gets_the_same(models: Path, tmp_path: Path, case: str) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    name, rows, more, _ = CASES[case]
    day = datetime.datetime(2020, 2, 29, 12)
    table = arrow.Table.from_pylist([{"day": day, "small": 1, **row} for row in rows])
    table = table.set_column(1, "small", arrow.array([1] * len(rows), arrow.int8()))
    parquet.write_table(table, tmp_path / "rows.parquet", row_group_size=2)
    assert (
        run(models, case.split()[0], name, "--input", tmp_path / "rows.parquet", "--output", tmp_path / "out", *more)
        == 0
    )
    found = parquet.read_table(tmp_path / "out" / "rows.parquet")
    assert found.select(table.column_names).equals(table)
    wanted = wanted_of(models, case)
    if case == "fill-mask":  # a list for each mask, also for one
        wanted = [
            {"result": one["result"] if isinstance(one["result"][0], list) else [one["result"]]} for one in wanted
        ]
    assert found.drop_columns(table.column_names).to_pylist() == wanted


def test_labels_of_ones_own(models: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", [{"text": TEXTS[0]}])
    assert run(models, "classify", "nli", "--input", file, "--output", tmp_path / "out", "--labels", "a,b") == 0
    (found,) = read_lines(tmp_path / "out" / "rows.jsonl")
    wanted = pipeline(ZERO_SHOT.task, models / "nli")(TEXTS[0], candidate_labels=["a", "b"])
    assert (found["labels"], found["scores"]) == (wanted["labels"], wanted["scores"])


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_shards_of_lines_hold_every_line_once(
    tmp_path: Path, rows: int, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roberta.common.commands.job_files._BLOCK", 13)
    lines = [json.dumps({"text": "é" * (number % 5), "number": number}, ensure_ascii=False) for number in range(14)]
    for text in (ends.join(lines), ends.join(lines) + ends, "", ends.join([*lines[:4], "", *lines[4:]])):
        (tmp_path / "rows.jsonl").write_bytes(text.encode())
        found = [row.columns for shard in shards_of([tmp_path / "rows.jsonl"], rows) for row in rows_of_shard(shard)]
        assert [dict(row) for row in found] == [json.loads(line) for line in text.split(ends) if line]


def test_shards_of_parquet_hold_every_row_once(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for count in (0, 1, 20):
        parquet.write_table(arrow.table({"n": list(range(count))}), tmp_path / "rows.parquet", row_group_size=6)
        for rows in (1, 4, 6, 7, 20, 50):
            shards = shards_of([tmp_path / "rows.parquet"], rows)
            assert [row.columns["n"] for shard in shards for row in rows_of_shard(shard)] == list(range(count))
            assert len({shard.name for shard in shards}) == len(shards)


def test_files_of_one_name_keep_their_folders(models: Path, tmp_path: Path) -> None:
    for language in ("de", "en"):
        (tmp_path / "data" / language).mkdir(parents=True)
        write_lines(tmp_path / "data" / language / "part.jsonl", [{"text": language}])
    pattern, out = tmp_path / "data" / "*" / "*.jsonl", tmp_path / "out"
    assert run(models, "classify", "labels", "--input", pattern, "--output", out) == 0
    assert [read_lines(out / language / "part.jsonl")[0]["text"] for language in ("de", "en")] == ["de", "en"]


def test_links_to_files_keep_their_own_names(models: Path, tmp_path: Path) -> None:
    for language in ("de", "en"):
        blob = write_lines(tmp_path / f"blob-{language}", [{"text": language}])
        (tmp_path / language).mkdir()
        (tmp_path / language / "part.jsonl").symlink_to(blob)
    assert run(models, "classify", "labels", "--input", tmp_path / "*" / "*.jsonl", "--output", tmp_path / "out") == 0
    assert [read_lines(tmp_path / "out" / name / "part.jsonl")[0]["text"] for name in ("de", "en")] == ["de", "en"]


def test_two_shards_of_one_name_are_refused(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lines(tmp_path / "x.jsonl", ["one", "two"])
    write_lines(tmp_path / "x-00000-of-00002.jsonl", ["three"])
    arguments = ["--input", tmp_path / "x*.jsonl", "--output", tmp_path / "out", "--shard-rows", 1]
    assert run(models, "classify", "labels", *arguments) != 0
    assert "would have one name, x-00000-of-00002.jsonl; rename" in capsys.readouterr().err


def test_words_are_words_behind_a_row_that_cannot_be_read(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{broken\n{"words": ["Anna", "left"]}\n')
    assert run(models, "tag", "tags", "--input", file, "--output", tmp_path / "out", "--on-error", "skip") == 0
    broken, row = read_lines(tmp_path / "out" / "rows.jsonl")
    pipe = pipeline("token-classification", models / "tags", aggregation_strategy="first")
    assert "error" in broken
    assert row["result"] == pipe([["Anna", "left"]], is_split_into_words=True)[0]


def test_the_results_of_a_job_are_the_input_of_another(models: Path, tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"text": TEXTS[:2]}), tmp_path / "rows.parquet")
    for number in range(3):
        source = tmp_path / str(number) / "rows.parquet" if number else tmp_path / "rows.parquet"
        assert run(models, "classify", "labels", "--input", source, "--output", tmp_path / str(number + 1)) == 0
    found = parquet.read_table(tmp_path / "3" / "rows.parquet")
    assert found.column_names == [
        "text", "label", "score", "result_label", "result_score", "result_result_label", "result_result_score",
    ]  # fmt: skip
    assert found["label"].to_pylist() == found["result_result_label"].to_pylist()


def test_cut_texts_are_counted(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_lines(tmp_path / "rows.jsonl", ["short", "long " * 1000, "long " * 1000])
    arguments = ["--input", file, "--output", tmp_path / "out", "--shard-rows", 2]
    assert run(models, "classify", "labels", *arguments) == 0
    assert "2 rows have the most tokens there may be" in capsys.readouterr().err


def test_a_column_that_python_cannot_hold_stays(models: Path, tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    exact = arrow.array([1_600_000_000_000_000_001], arrow.timestamp("ns"))
    parquet.write_table(arrow.table({"text": ["one"], "exact": exact}), tmp_path / "rows.parquet")
    assert run(models, "classify", "labels", "--input", tmp_path / "rows.parquet", "--output", tmp_path / "out") == 0
    found = parquet.read_table(tmp_path / "out" / "rows.parquet")
    assert found["exact"].combine_chunks().equals(exact)


def test_a_damaged_page_is_named(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    parquet.write_table(arrow.table({"text": [f"text {number}" for number in range(3000)]}), path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[100:400] = bytes(300)
    path.write_bytes(content)
    assert run(models, "classify", "labels", "--input", path, "--output", tmp_path / "out") != 0
    assert "rows.parquet cannot be read as Parquet" in capsys.readouterr().err


def test_a_column_of_the_same_name_stays(models: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", [{"text": "one", "label": "theirs"}])
    assert run(models, "classify", "labels", "--input", file, "--output", tmp_path / "out") == 0
    (found,) = read_lines(tmp_path / "out" / "rows.jsonl")
    (ours,) = pipeline("text-classification", models / "labels")(iter(["one"]))
    assert found == {"text": "one", "label": "theirs", "result_label": ours["label"], "score": ours["score"]}


def test_a_job_that_was_stopped_computes_what_is_missing(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_lines(tmp_path / "rows.jsonl", [{"text": f"text {number}"} for number in range(9)])
    arguments = ["--input", file, "--output", tmp_path / "out", "--shard-rows", 2]
    computed: list[str] = []
    compute = jobs.compute

    def fails_at_the_third(options: Any, command: Any, answers: Any, shard: Any) -> Any:
        computed.append(shard.name)
        if len(computed) == 3:
            raise KeyboardInterrupt
        return compute(options, command, answers, shard)

    monkeypatch.setattr(jobs, "compute", fails_at_the_third)
    assert run(models, "classify", "labels", *arguments) == 130
    assert run(models, "classify", "labels", *arguments) == 0
    assert computed == [f"rows-{number:05}-of-00005.jsonl" for number in (0, 1, 2, 2, 3, 4)]
    found = read_lines(*sorted((tmp_path / "out").glob("*.jsonl")))
    assert [row["text"] for row in found] == [f"text {number}" for number in range(9)]
    assert "5 shards, 2 of them there before; 5 rows, 0 errors" in capsys.readouterr().out


@pytest.mark.parametrize("moment", [0.0, *(pytest.param(one, marks=pytest.mark.slow) for one in (0.1, 0.3, 0.8))])
def test_a_job_that_is_killed_loses_and_doubles_nothing(models: Path, tmp_path: Path, moment: float) -> None:
    """SIGKILL some time after the first shard is there."""
    rows = [{"text": f"text {number}"} for number in range(200)]
    file = write_lines(tmp_path / "rows.jsonl", rows)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "roberta", "classify", "--model", str(models / "labels"), "--framework", "pt",
               "--input", str(file), "--output", str(out), "--shard-rows", "1"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not list(out.glob("*.jsonl")) and process.poll() is None:
        time.sleep(0.01)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run(models, "classify", "labels", "--input", file, "--output", out, "--shard-rows", 1) == 0
    assert [row["text"] for row in read_lines(*sorted(out.glob("*.jsonl")))] == [row["text"] for row in rows]
    assert {path.suffix for path in out.iterdir()} == {".jsonl", ".json"}


def test_rows_that_cannot_be_used_are_named_or_kept_with_their_errors(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.jsonl"
    wrong = {
        "{broken": "is not valid JSON",
        '{"other": 1}': "has no text",
        '{"text": 3}': "not a str",
        "7": "a text",
    }
    for number, (line, says) in enumerate(wrong.items()):
        file.write_text(f'{{"text": "one"}}\n\n{line}\n')
        assert run(models, "classify", "labels", "--input", file, "--output", tmp_path / f"out{number}") != 0
        error = capsys.readouterr().err
        assert "rows.jsonl line 3" in error
        assert says in error
    file.write_text('{"text": "one"}\n{broken\n{"other": 1}\n{"text": 3}\n')
    assert run(models, "classify", "labels", "--input", file, "--output", tmp_path / "out", "--on-error", "skip") == 0
    found = read_lines(tmp_path / "out" / "rows.jsonl")
    assert [set(row) for row in found] == [
        {"text", "label", "score"}, {"line", "error"}, {"other", "error"}, {"text", "error"},
    ]  # fmt: skip
    assert found[3]["error"].startswith(f"{file} line 4")


def test_half_a_character_in_any_column_stays_as_json_has_it(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"title": "\\ud83d x", "text": "fine"}\n{"text": "\\udc00"}\n{"text": "last"}\n')
    assert run(models, "classify", "labels", "--input", file, "--output", tmp_path / "out", "--on-error", "skip") == 0
    found = read_lines(tmp_path / "out" / "rows.jsonl")
    assert [row["text"] for row in found] == ["fine", "\udc00", "last"]
    assert found[0]["title"] == "\ud83d x"
    assert ["error" in row for row in found] == [False, True, False]


def test_another_job_does_not_mix_its_results_in(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_lines(tmp_path / "rows.jsonl", [{"text": "one"}])
    out = tmp_path / "out"
    arguments = ["--input", file, "--output", out]
    assert run(models, "classify", "labels", *arguments) == 0
    before = (out / "rows.jsonl").read_bytes()
    for other, what in ((["--top-k", 2], "--top-k"), (["--dtype", "float64"], "--dtype")):
        assert run(models, "classify", "labels", *arguments, *other) != 0
        assert what in capsys.readouterr().err
    write_lines(file, [{"text": "two words"}])
    assert run(models, "classify", "labels", *arguments) != 0
    assert f"differs in {file}" in capsys.readouterr().err
    assert (out / "rows.jsonl").read_bytes() == before
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    assert run(models, "classify", "labels", "--input", file, "--output", full) != 0
    assert [path.name for path in full.iterdir()] == ["thesis.txt"]


WRONG = {
    "no folder": (["--input", "IN"], "--output"),
    "two sources": (["text", "--input", "IN", "--output", "OUT"], "not both"),
    "no such file": (["--input", "IN.x", "--output", "OUT"], "no such file"),
    "a csv": (["--input", "CSV", "--output", "OUT"], "--file"),
    "into the inputs": (["--input", "IN", "--output", "HERE"], "holds an input"),
    "a file as well": (["--input", "IN", "--output", "OUT", "--file", "IN"], "--file does not go with --input"),
    "workers of none": (["--input", "IN", "--output", "OUT", "--workers", "2"], "--engine ray"),
    "no job": (["text", "--shard-rows", "2"], "--input"),
    "output of no job": (["text", "--output", "OUT"], "--input"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_options_that_do_not_go_together(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    arguments, said = WRONG[wrong]
    write_lines(tmp_path / "in.jsonl", [{"text": "one"}])
    (tmp_path / "in.csv").write_text("text\none\n")
    places = {"IN": tmp_path / "in.jsonl", "CSV": tmp_path / "in.csv", "OUT": tmp_path / "out", "HERE": tmp_path}
    assert run(models, "classify", "labels", *(places.get(one, one) for one in arguments)) != 0
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_damaged_parquet_file_is_named(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 and no more")
    assert run(models, "classify", "labels", "--input", tmp_path / "rows.parquet", "--output", tmp_path / "out") != 0
    assert "rows.parquet is not a whole Parquet file" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("shards", [int(os.environ.get("ROBERTA_RAY_SHARDS", "60"))])
def test_a_worker_of_ray_that_dies_loses_and_doubles_nothing(models: Path, tmp_path: Path, shards: int) -> None:
    pytest.importorskip("ray")
    psutil = pytest.importorskip("psutil")
    texts = [f"text {number}" for number in range(3 * shards)]
    file = write_lines(tmp_path / "rows.jsonl", [{"text": text} for text in texts])
    out = tmp_path / "out"
    command = [sys.executable, "-m", "roberta", "classify", "--model", str(models / "labels"), "--framework", "pt",
               "--input", str(file), "--output", str(out), "--shard-rows", "3",
               "--engine", "ray", "--workers", "2"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    killed: list[int] = []

    def kill_one() -> None:
        while len(list(out.glob("*.jsonl"))) < shards // 3 and process.poll() is None:
            time.sleep(0.05)
        for child in psutil.Process(process.pid).children(recursive=True):
            if not killed and "MapWorker" in " ".join(child.cmdline()):
                child.kill()
                killed.append(child.pid)

    killer = threading.Thread(target=kill_one)
    killer.start()
    said, _ = process.communicate(timeout=550)
    killer.join()
    assert process.returncode == 0, said[-3000:]
    assert killed
    assert len(list(out.glob("*.jsonl"))) == shards
    assert [row["text"] for row in read_lines(*sorted(out.glob("*.jsonl")))] == texts
