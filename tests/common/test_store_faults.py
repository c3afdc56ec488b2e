"""A token store whose preparation is killed, finds the disk full, or is asked for something else: nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import store_faults
import syscall_faults
import training_cases

import roberta
from roberta import AutoTokenizer, CheckpointError, RobertaTokenizerFast, Training
from roberta.cli import main
from roberta.common.tokenizer.base import TokenizerBase
from roberta.common.training import large_files, preparation
from roberta.common.training.data.stored_rows import StoredRows
from roberta.common.training.data.token_store import TokenStore
from roberta.common.training.large_files import memory_bytes

# JAX, if another test has imported it, warns about every fork; the children here use only numpy
pytestmark = pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning")
KILLS = int(os.environ.get("ROBERTA_STORE_KILLS", "20"))


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return training_cases.make(tmp_path_factory.mktemp("case"), "mlm") | {"validation": None}


@pytest.fixture(scope="module")
def tokenizer(case: dict[str, Any]) -> TokenizerBase:
    return AutoTokenizer.from_pretrained(case["model"])


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return store_faults.write_sources(tmp_path_factory.mktemp("sources"), random.Random(0))


@pytest.fixture
def store(case: dict[str, Any], tmp_path: Path) -> Path:
    roberta.prepare(case["train"], tokenizer=case["model"], output=tmp_path / "store", progress=False)
    return tmp_path / "store"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
@pytest.mark.parametrize("count", [3, pytest.param(KILLS, marks=pytest.mark.slow)])
def test_a_kill_at_any_moment_loses_and_doubles_no_document(
    sources: list[Path], tokenizer: TokenizerBase, tmp_path: Path, count: int
) -> None:
    counts = store_faults.kills(count, sources, tokenizer, tmp_path, random.Random(count))
    assert counts["kills"] >= count, counts
    assert counts["the same"] == counts["stores"], counts


def test_the_undisturbed_store_has_every_document_once(
    sources: list[Path], tokenizer: TokenizerBase, tmp_path: Path
) -> None:
    """What the stores of killed runs are compared with."""
    store_faults.prepare_small(sources, tokenizer, tmp_path / "s")
    found = TokenStore(tmp_path / "s")
    lengths, begins = found.sentences(0, found.info.sentences)
    texts, place = [], 0
    for length, is_first in zip(lengths.tolist(), begins, strict=True):
        if is_first:
            texts.append(tokenizer.decode(found.tokens(place, place + length)))
        place += length
    assert texts == [f"document {number}" for number in range(200)]


def test_a_full_disk_is_an_error_that_says_what_is_kept(
    sources: list[Path], tokenizer: TokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first calls that make files safe, some in the middle, and all at the end, after the last step."""
    original, calls = os.fsync, [0, 0]  # made, and the one that fails

    def fsync(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] == calls[1]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    store_faults.prepare_small(sources, tokenizer, tmp_path / "whole")
    whole, count = store_faults.content(tmp_path / "whole"), calls[0]
    assert count > 60
    for number in (1, 2, 3, 4, 30, 31, 32, *range(count - 4, count + 1)):
        output = tmp_path / f"store-{number}"
        calls[:] = [0, number]
        with pytest.raises(CheckpointError, match=rf"store-{number} could not be written: .*No space left") as caught:
            store_faults.prepare_small(sources, tokenizer, output)
        assert "prepare it again: it resumes from there" in str(caught.value)
        store_faults.prepare_small(sources, tokenizer, output)
        assert store_faults.content(output) == whole


def rows_of(store: Path, packing: str = "full-sentences") -> StoredRows:
    return StoredRows(TokenStore(store), packing, max_length=20, bos=0, eos=2)  # type: ignore[arg-type]


def damage(path: Path, place: int, number: int, dtype: str) -> None:
    """Write another number at a place of a file; its size stays."""
    content = np.fromfile(path, dtype)
    content[place] = number
    content.tofile(path)


def test_damage_that_leaves_sizes_alone_is_named(store: Path) -> None:
    rows = rows_of(store)
    assert sum(len(row["input_ids"]) for row in rows) == rows.tokens
    damage(store / "rows-full-sentences-20.bin", 10, 10**15, "<u8")  # behind 8 numbers of the head
    with pytest.raises(CheckpointError, match=r"rows-full-sentences-20\.bin is damaged: .*; remove it, and the next"):
        list(rows_of(store))
    (store / "rows-full-sentences-20.bin").unlink()
    assert len(list(rows_of(store))) == len(rows)
    damage(store / "sentences.bin", 3, 1 << 31 | 4000, "<u4")
    with pytest.raises(CheckpointError, match=r"sentences\.bin is damaged: the sentences from number 0 on"):
        list(rows_of(store))


@pytest.mark.parametrize("packing", ["blocks", "full-sentences", "sentence", "segment-pair"])
def test_the_tokens_of_the_first_rows_are_counted(store: Path, packing: Any) -> None:
    whole = StoredRows(TokenStore(store), packing, max_length=20, bos=0, eos=2)
    for most in (1, 2, len(whole) - 1, len(whole), len(whole) + 5):
        rows = StoredRows(TokenStore(store), packing, max_length=20, bos=0, eos=2, most=most)
        assert rows.tokens == sum(len(row["input_ids"]) for row in list(whole)[:most])


def test_a_damaged_plan_of_pairs_is_named(store: Path) -> None:
    list(rows_of(store, "segment-pair"))
    damage(store / "rows-segment-pair-20-0.bin", 9, 10**15, "<u8")
    with pytest.raises(CheckpointError, match=r"rows-segment-pair-20-0\.bin is damaged"):
        list(rows_of(store, "segment-pair"))


def test_columns_that_python_has_no_value_for_and_damaged_pages_of_parquet(
    tmp_path: Path, tokenizer: TokenizerBase
) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    texts = [f"text {number}" for number in range(3000)]
    times = arrow.array([1_700_000_000_123_456_789] * len(texts), arrow.timestamp("ns"))
    parquet.write_table(arrow.table({"text": texts, "when": times}), path, compression="zstd")
    assert roberta.prepare([path], tokenizer=tokenizer, output=tmp_path / "s").info.documents == len(texts)
    content = bytearray(path.read_bytes())
    content[100:400] = bytes(300)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"rows\.parquet cannot be read as Parquet"):
        roberta.prepare([path], tokenizer=tokenizer, output=tmp_path / "t")


@pytest.mark.slow
@pytest.mark.skipif(syscall_faults.lacking() is not None, reason=str(syscall_faults.lacking()))
@pytest.mark.parametrize("fault", ["KILL", "ENOSPC"])
def test_a_fault_at_any_system_call_loses_nothing(tokenizer: TokenizerBase, tmp_path: Path, fault: str) -> None:
    sources = store_faults.write_sources(tmp_path / "sources", random.Random(0), documents=4)
    store_faults.prepare_small(sources, tokenizer, tmp_path / "whole")
    whole, output, log = store_faults.content(tmp_path / "whole"), tmp_path / "store", tmp_path / "trace"

    def save() -> None:
        store_faults.prepare_small(sources, tokenizer, output)

    _, lines = syscall_faults.traced(save, log)
    points, hit = list(syscall_faults.points(lines, output)), 0
    for point in points:
        shutil.rmtree(output)
        code = syscall_faults.injected(save, log, point, fault, output)
        hit += code is not None
        refused = 2 if point.call == "mkdir" else 1  # without a folder, a `ValueError` that names it
        assert code in (None, 0, refused, -9), (point, code)
        save()
        assert store_faults.content(output) == whole, point
    assert hit > 0.8 * len(points) > 20


def test_a_finished_store_is_not_written_again(case: dict[str, Any], store: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in store.iterdir()}
    roberta.prepare(case["train"], tokenizer=case["model"], output=store, progress=False)
    assert {path.name: path.stat().st_mtime_ns for path in store.iterdir()} == before


def test_a_store_of_something_else_is_refused(case: dict[str, Any], store: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("A ship.\n")
    with pytest.raises(ValueError, match="prepared of something else:") as caught:
        roberta.prepare([other], tokenizer=case["model"], output=store, progress=False)
    assert f"source.1.size: {case['train'][0].stat().st_size} then, 8 now" in str(caught.value)
    assert "Give another folder as output, or remove this one" in str(caught.value)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"has other files, such as mine\.txt; give a new folder"):
        roberta.prepare([other], tokenizer=case["model"], output=tmp_path / "full", progress=False)


def test_sources_that_change_are_noticed(
    case: dict[str, Any], sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a store is prepared, and between an interrupted preparation and the next."""
    copies = [Path(shutil.copy(path, tmp_path)) for path in sources]
    original = preparation._write_chunks

    def interrupted(*arguments: Any) -> None:
        original(*arguments)
        arguments[0].commit()
        with copies[0].open("a") as file:
            file.write("\nmore")

    monkeypatch.setattr(preparation, "_write_chunks", interrupted)
    with pytest.raises(ValueError, match=r"a\.txt was changed while it was prepared; remove the output folder"):
        roberta.prepare(copies, tokenizer=case["model"], output=tmp_path / "s", progress=False)
    with pytest.raises(ValueError, match=r"source\.1\.sha256"):
        roberta.prepare(copies, tokenizer=case["model"], output=tmp_path / "s", progress=False)
    with pytest.raises(CheckpointError, match="a store that is not finished; give the same files to roberta prepare"):
        Training(**{**case, "train": tmp_path / "s", "output": tmp_path / "run"})._data()


@pytest.mark.parametrize("name", ["tokens.bin", "sentences.bin", "index.bin"])
def test_a_store_that_was_cut_short_is_refused(case: dict[str, Any], store: Path, name: str) -> None:
    os.truncate(store / name, (store / name).stat().st_size - 4)
    with pytest.raises(CheckpointError, match=rf"{name} has .* bytes, and .* belong to it: it was cut short"):
        Training(**{**case, "train": store, "output": "unused"})._data()


def test_a_plan_that_was_cut_short_is_made_again(case: dict[str, Any], store: Path) -> None:
    def rows() -> list[list[int]]:
        found = Training(**{**case, "train": store, "output": "unused"})._data()
        return [row["input_ids"].tolist() for row in found.features]

    wanted = rows()
    [plan] = store.glob("rows-*")
    os.truncate(plan, plan.stat().st_size - 8)
    assert rows() == wanted


def test_requests_that_do_not_fit_a_store_are_refused(case: dict[str, Any], store: Path, tmp_path: Path) -> None:
    def refused(**given: Any) -> str:
        with pytest.raises(ValueError) as caught:  # noqa: PT011  # each text is compared
            Training(**{**case, "train": store, "output": "unused", **given})._data()
        return str(caught.value)

    other = RobertaTokenizerFast.train(iter(["another text of other words"]), 300, show_progress=False)
    assert "prepared with another tokenizer" in refused(tokenizer=other)
    assert "give tokenizer= the folder that it was prepared with" in refused(tokenizer=other)
    assert "text_column" not in refused(columns={"text": "body"})
    assert "text_column='body' is for files" in refused(text_column="body")
    assert "and 1 more beside it; give one store" in refused(train=[store, *case["train"]])
    assert "is for mlm and clm" in refused(task="text-classification")


def test_the_longest_input_of_a_tokenizer_may_differ(case: dict[str, Any], store: Path) -> None:
    """It has no part in the ids."""
    other = AutoTokenizer.from_pretrained(case["model"], model_max_length=31)
    assert len(Training(**{**case, "train": store, "output": "unused", "tokenizer": other})._data().features)


def test_the_command_prepares_and_says_what_there_is(case: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    words = ["prepare", str(case["train"][0]), "--tokenizer", str(case["model"]), "--no-progress", "--output"]
    assert main([*words, str(tmp_path / "s")]) == 0
    sentences = [line for line in case["train"][0].read_text().split("\n") if line]
    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path / 's'} has ")
    assert f" tokens in {len(sentences)} sentences of " in said
    assert main([*words, str(tmp_path / "s"), "--text-column", "body"]) == 1
    assert "roberta prepare: " in capsys.readouterr().err


def test_large_files_are_prepared_in_the_folder_of_the_training(
    case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    training = Training(**{**case, "output": tmp_path / "run"})
    inside = training._data()
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(large_files, "memory_bytes", lambda: 4 * case["train"][0].stat().st_size - 1)
    found = Training(**{**case, "output": tmp_path / "run"})._data()
    assert "more than a quarter of the memory" in capsys.readouterr().err
    assert isinstance(TokenStore(tmp_path / "run" / "corpus"), TokenStore)
    assert [row["input_ids"].tolist() for row in found.features] == [
        row["input_ids"].tolist() for row in inside.features
    ]
    assert training._agreement(found) == training._agreement(inside)


def test_the_memory_is_that_of_the_container(tmp_path: Path) -> None:
    whole = memory_bytes(tmp_path)
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    assert memory_bytes(tmp_path) == whole > 2**28
    (group / "memory.max").write_text(f"{2**28}\n")
    assert memory_bytes(tmp_path) == 2**28


ROWS = [{"id": number, "body": f"document {number}\nof a ship {'and the sea ' * (number % 9)}"} for number in range(70)]


class Stream:
    """What a streaming data set of `datasets` can do: it can be iterated, again and again, and has no length."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(ROWS)


def written(kind: str, folder: Path) -> Any:
    """The rows as a file of some format, or as they are."""
    if kind == "dictionaries":
        return ROWS
    if kind == "stream":
        return Stream()
    path = folder / f"data.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    elif kind == "tsv":
        path.write_text("id\tbody\n" + "".join(f"{row['id']}\t{str(row['body']).splitlines()[1]}\n" for row in ROWS))
    else:
        pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(ROWS), path, row_group_size=16)
    return [path]


@pytest.mark.parametrize("kind", ["jsonl", "tsv", "parquet", "dictionaries", "stream"])
def test_sources_of_every_kind_give_the_rows_that_they_give_in_memory(
    case: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    source = written(kind, tmp_path)
    store = roberta.prepare(
        source, tokenizer=case["model"], output=tmp_path / "s", text_column="body", progress=False
    )  # fmt: skip
    given = {**case, "output": "unused", "text_column": "body"}
    theirs, ours = Training(**{**given, "train": source})._data(), Training(**{**given, "train": store})._data()
    assert [row["input_ids"].tolist() for row in ours.features] == [
        row["input_ids"].tolist() for row in theirs.features
    ]
    assert ours.agreement == theirs.agreement
    assert ours.report.as_json() == theirs.report.as_json()


def test_rows_that_cannot_be_used_are_skipped_and_counted(case: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "a ship"}\n{"text": 3}\nno JSON\n{"text": "the sea"}\n')
    with pytest.raises(ValueError, match="skip all rows that cannot be used with skip_unusable=True"):
        roberta.prepare([path], tokenizer=case["model"], output=tmp_path / "s", progress=False)
    found = roberta.prepare(
        [path], tokenizer=case["model"], output=tmp_path / "t", progress=False, skip_unusable=True
    )  # fmt: skip
    assert (found.info.documents, found.info.skipped, len(found.info.reasons)) == (2, 2, 2)


def test_a_training_from_a_store_resumes_one_from_memory(case: dict[str, Any], store: Path, tmp_path: Path) -> None:
    """The same weights, optimizer and log, to the bit."""
    pytest.importorskip("torch")
    few = {
        "updates": 6,
        "batch_size": 4,
        "warmup": 1,
        "save_every": 2,
        "keep": 9,
        "framework": "pt",
        "tensorboard": False,
    }
    Training(**case, output=tmp_path / "memory", **few).run()
    shutil.copytree(tmp_path / "memory", tmp_path / "store-run")
    for step in ("000004", "000006"):
        shutil.rmtree(tmp_path / "store-run" / "checkpoints" / f"step-{step}")
    Training(**{**case, "train": store}, output=tmp_path / "store-run", resume=True, **few).run()
    for name in ("model.safetensors", "metrics.jsonl", "checkpoints/step-000006/optimizer.safetensors", "data.json"):
        ours, theirs = ((tmp_path / run / name).read_bytes() for run in ("store-run", "memory"))
        assert ours == theirs, name
