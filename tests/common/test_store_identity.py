"""What a token store is of: other data, options or tokenizers are noticed, and the ways out that errors name work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import training_cases

import roberta
from roberta import AutoTokenizer, CheckpointError, RobertaTokenizer, Training
from roberta.cli import main
from roberta.common.training import large_files
from roberta.common.training.data import source_chunks
from roberta.common.training.data.token_store import TokenStore
from roberta.common.training.fingerprints import fingerprint
from roberta.common.training.preparation import prepare_store
from roberta.common.training.store_writer import StoreIdentity, StoreWriter


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return training_cases.make(tmp_path_factory.mktemp("case"), "mlm") | {"validation": None}


def data(case: dict[str, Any], train: Any, **settings: Any) -> Any:
    return Training(**{**case, "train": train, "output": "unused", **settings})._data()


# -- tokenizers -------------------------------------------------------------------------------------------------------


def test_the_class_of_a_tokenizer_does_not_matter(case: dict[str, Any], tmp_path: Path) -> None:
    """`RobertaTokenizer` gives the ids of `RobertaTokenizerFast`, which the folder of either is opened as."""
    slow = RobertaTokenizer.from_pretrained(case["model"])
    store = roberta.prepare(case["train"], tokenizer=slow, output=tmp_path / "s", progress=False)
    theirs = data(case, case["train"])
    for tokenizer in (None, slow):
        found = data(case, store, tokenizer=tokenizer)
        assert [row["input_ids"].tolist() for row in found.features] == [
            row["input_ids"].tolist() for row in theirs.features
        ]
    slow.save_pretrained(tmp_path / "saved")
    for opened in (case["model"], tmp_path / "saved", slow):
        found = roberta.prepare(case["train"], tokenizer=opened, output=tmp_path / "s", progress=False)
        assert isinstance(found, TokenStore)


def test_a_token_more_is_another_tokenizer(case: dict[str, Any], tmp_path: Path) -> None:
    slow = RobertaTokenizer.from_pretrained(case["model"])
    store = roberta.prepare(case["train"], tokenizer=slow, output=tmp_path / "s", progress=False)
    for class_ in (RobertaTokenizer, AutoTokenizer):
        other = class_.from_pretrained(case["model"])
        other.add_tokens(["<more>"])
        with pytest.raises(ValueError, match="something else:\n  tokenizer: "):
            roberta.prepare(case["train"], tokenizer=other, output=store.folder, progress=False)


# -- options of reading -----------------------------------------------------------------------------------------------


def test_a_header_that_is_denied_is_an_option(case: dict[str, Any], tmp_path: Path) -> None:
    """`header=False` makes the first line a row, and None tells it by its names: not the same store or training."""
    table = tmp_path / "table.csv"
    table.write_text("text\nA ship.\nThe sea.\n")
    found = {
        header: roberta.prepare(
            [table], tokenizer=case["model"], output=tmp_path / str(header), header=header, progress=False
        )
        for header in (None, False)
    }
    assert [store.info.documents for store in found.values()] == [2, 3]
    for header, output, line in (
        (False, "None", "header: not there then, False now"),
        (None, "False", "header: False then, not there now"),
    ):
        with pytest.raises(ValueError, match=rf"something else:\n  settings\.{line}"):
            roberta.prepare([table], tokenizer=case["model"], output=tmp_path / output, header=header, progress=False)
    agreements = [data(case, [table], header=header).agreement for header in (None, False)]
    assert [agreement.get("header") for agreement in agreements] == [None, False]
    assert data(case, found[False]).agreement == agreements[1]
    assert "skip_unusable" not in agreements[0]  # which checkpoints of older versions lack


def test_columns_of_prepare_are_those_of_a_training(case: dict[str, Any], tmp_path: Path) -> None:
    for given, wanted in (
        ({"text_column": "a", "columns": {"text": "b"}}, "names a column other than 'a' for text"),
        ({"columns": {"label": "b"}}, r"columns=\{'label': 'b'\}: the roles of mlm are text"),
        ({"workers": 1.5}, "workers=1.5 must be a number of processes of at least 0"),
    ):
        with pytest.raises(ValueError, match=wanted):
            roberta.prepare(case["train"], tokenizer=case["model"], output=tmp_path / "s", progress=False, **given)
    assert not (tmp_path / "s").exists()


# -- what is begun ----------------------------------------------------------------------------------------------------


def test_the_way_out_of_a_bad_row_works(case: dict[str, Any], tmp_path: Path) -> None:
    """Nothing was made safe yet, so the folder may become the store of something else."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "A ship."}\n{"bad": 1}\n')
    with pytest.raises(ValueError, match="skip_unusable=True"):
        roberta.prepare([rows], tokenizer=case["model"], output=tmp_path / "s", progress=False)
    store = roberta.prepare([rows], tokenizer=case["model"], output=tmp_path / "s", skip_unusable=True, progress=False)
    assert (store.info.documents, store.info.skipped) == (1, 1)
    rows.write_text('{"text": " "}\n')
    with pytest.raises(ValueError, match="is empty"):
        roberta.prepare([rows], tokenizer=case["model"], output=tmp_path / "t", progress=False)
    rows.write_text('{"text": "A ship."}\n')
    roberta.prepare([rows], tokenizer=case["model"], output=tmp_path / "t", progress=False)


@pytest.mark.parametrize(
    "damage",
    [
        b"garbage\n",
        b"\xff\n",
        b"[]\n",
        b"{}\n",
        b'{"version": 1, "dtype": 3}\n',
        b"HEAD{}\n",
        b"HEAD[]\n",
        b"HEADgarb\n",
    ],
)
def test_a_damaged_journal_is_named(case: dict[str, Any], tmp_path: Path, damage: bytes) -> None:
    with StoreWriter(tmp_path / "s", StoreIdentity("<u2", "", [], {})) as writer:
        writer.commit()
    journal = tmp_path / "s" / "progress.jsonl"
    journal.write_bytes(damage.replace(b"HEAD", journal.read_bytes().splitlines(keepends=True)[0]))
    with pytest.raises(CheckpointError, match=r"progress\.jsonl is damaged .*; remove .*s, and prepare again"):
        roberta.prepare(case["train"], tokenizer=case["model"], output=tmp_path / "s", progress=False)


# -- data that is not files -------------------------------------------------------------------------------------------


class Rows:
    """A data set with a length, and no way to iterate but by numbers."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {"text": self.texts[number], "more": {2}}


class Stream:
    """A data set that can only be iterated."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return ({"text": text} for text in self.texts)


def rows(*texts: str) -> list[dict[str, Any]]:
    return [{"text": text, "number": np.float32(1), "\ud800": "\ud800"} for text in texts]


@pytest.mark.parametrize("make", [rows, Rows])
def test_data_in_memory_is_known_by_its_rows(case: dict[str, Any], tmp_path: Path, make: Any) -> None:
    given = {"tokenizer": case["model"], "output": tmp_path / "s", "progress": False}
    first = roberta.prepare(make("A ship.", "The sea."), **given)
    assert roberta.prepare(make("A ship.", "The sea."), **given).info == first.info
    with pytest.raises(ValueError, match=r"something else:\n  source\.1\.sha256_of_rows: "):
        roberta.prepare(make("A ship.", "The sky."), **given)
    # a training compares what the rows became, whether it reads them or the store
    assert list(fingerprint("train", first, data(case, first).features)) == ["train"]


def test_a_stream_is_not_taken_for_another(case: dict[str, Any], tmp_path: Path) -> None:
    given = {"tokenizer": case["model"], "output": tmp_path / "s", "progress": False}
    with pytest.raises(ValueError, match="item 2 is a str"):
        roberta.prepare(iter([{"text": "A ship."}, "no row"]), **given)
    store = roberta.prepare(Stream("A ship."), **given)  # nothing was made safe before
    for other in (Stream("A ship."), Stream("The sea.")):
        with pytest.raises(
            ValueError, match=r"s has a token store already, and whether it is of this Stream cannot be"
        ):
            roberta.prepare(other, **given)
    assert len(data(case, store.folder).features)


def test_a_stream_that_was_interrupted_is_not_resumed(
    case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_chunks, "_SIZE", 1)
    tokenizer, options = AutoTokenizer.from_pretrained(case["model"]), source_chunks.ReadingOptions()

    def prepared(stream: Any, output: str) -> TokenStore:
        return prepare_store(stream, tokenizer, tmp_path / output, options, progress=False, step_tokens=1)

    def broken() -> Iterator[Any]:
        yield {"text": "A ship."}
        raise ConnectionError

    with pytest.raises(ConnectionError):
        prepared(broken(), "s")
    with pytest.raises(ValueError, match=r"has a token store already, .*give another folder as output, or remove"):
        prepared(Stream("The sea.", "The sky."), "s")
    assert prepared(Stream("The sea.", "The sky."), "t").info.documents == 2


# -- a store beside files ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def body_store(case: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    folder = tmp_path_factory.mktemp("body")
    (folder / "train.jsonl").write_text('{"body": "A ship left the harbour.", "text": "x"}\n' * 3)
    given = {"tokenizer": case["model"], "output": folder / "s", "text_column": "body", "progress": False}
    return roberta.prepare([folder / "train.jsonl"], **given)


def texts(found: Any, model: Path) -> list[str]:
    tokenizer = AutoTokenizer.from_pretrained(model)
    return [tokenizer.decode(row["input_ids"], skip_special_tokens=True) for row in found.evaluation.features]


def test_options_are_for_the_files_beside_a_store(case: dict[str, Any], body_store: TokenStore, tmp_path: Path) -> None:
    other = tmp_path / "validation.data"
    other.write_text("The sea.,A ship.\n")
    given = {"format": "csv", "header": False, "text_column": "2"}
    for train, validation in ((body_store, [other]), ([other], body_store)):
        found = data(case, train, validation=validation, **given)
        assert "A ship." in texts(found, case["model"])[0] or train == [other]
        assert found.agreement["reading_of_validation"] == (
            {"header": False, "columns": {"text": "2"}} if train is body_store else {"columns": {"text": "body"}}
        )
    # where nothing would be read with them, they are refused, except the format
    for validation in (None, body_store):
        with pytest.raises(ValueError, match=r"text_column='2' is for files, and .*s is a token store"):
            data(case, body_store, validation=validation, text_column="2")
        assert len(data(case, body_store, validation=validation, format="csv", text_column="body").features)


def test_the_agreement_of_options_that_agree_is_that_of_older_checkpoints(
    case: dict[str, Any], body_store: TokenStore, tmp_path: Path
) -> None:
    other = tmp_path / "validation.jsonl"
    other.write_text('{"body": "The sea."}\n')
    found = data(case, body_store, validation=[other], text_column="body")
    inside = data(case, [body_store.info.sources[0]["path"]], validation=[other], text_column="body")
    assert found.agreement == inside.agreement
    assert found.agreement["columns"] == {"text": "body"}
    assert "reading_of_validation" not in found.agreement


def test_a_share_of_large_files_is_not_held_out(
    case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is prepared; the way out is tried."""
    monkeypatch.setattr(large_files, "memory_bytes", lambda: 100)
    given = {"output": tmp_path / "run"}
    with pytest.raises(
        ValueError, match=r"validation_split=0\.2 .*files of .* GB are more than .*give validation files"
    ):
        data(case, case["train"], validation_split=0.2, **given)
    assert not (tmp_path / "run").exists()
    assert data(case, case["train"], validation=case["train"], **given).evaluation is not None


def test_the_command_names_its_own_option_for_the_column(
    case: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"body": "x y"}\n')
    words = ["prepare", str(file), "--tokenizer", str(case["model"]), "--output", str(tmp_path / "store")]
    assert main(words) != 0
    message = capsys.readouterr().err
    assert "or say --text-column NAME" in message
    assert "columns=" not in message
    assert main([*words, "--text-column", "body"]) == 0
