"""Token stores: the same batches as from memory, to the bit, whatever the packing, the task, the seed and the workers."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import training_cases

import roberta
from roberta import AutoTokenizer, Training
from roberta.common.commands.prepare_options import PREPARE_OPTIONS
from roberta.common.training.data import source_chunks, token_store
from roberta.common.training.data.batches import Batches, rows_of_rank
from roberta.common.training.data.packing import Packing
from roberta.common.training.data.row_plans import GreedyRule, row_starts
from roberta.common.training.data.token_store import TokenStore
from roberta.common.training.datasets import Data
from roberta.common.training.fingerprints import fingerprint

PACKINGS = get_args(Packing)
WORDS = ["ship", "sea", "harbour", "book", "the", "of", "railway", "station", "café", "naïve", "tide", "\u4e2d"]


def text(rng: random.Random, lines: int) -> str:
    """Documents of short and of very long sentences, with empty lines, white space, and both ends of lines."""
    some = []
    for _ in range(lines):
        words = rng.choice([0, 0, 1, 3, 9, 9, 30, 120])
        some.append(" ".join(rng.choices(WORDS, k=words)) + rng.choice(["", "", " ", "\t"]))
    return "".join(line + rng.choice(["\n", "\n", "\r\n"]) for line in some)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A model without weights, and two files of text, the second without a line end at its end."""
    folder = tmp_path_factory.mktemp("case")
    given = training_cases.make(folder, "mlm")
    rng = random.Random(5)
    first, second = folder / "first.txt", folder / "second.txt"
    first.write_bytes(b"\xef\xbb\xbf" + text(rng, 120).encode())
    second.write_text(text(rng, 40) + "the last line")
    return {**given, "train": [first, second], "validation": None}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks that end amid documents, and planning that ends amid rows."""
    monkeypatch.setattr(source_chunks, "_SIZE", 1000)
    monkeypatch.setattr(token_store, "_CHUNK", 3)


@pytest.fixture(scope="module")
def store(case: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    output = tmp_path_factory.mktemp("store") / "store"
    return roberta.prepare(case["train"], tokenizer=case["model"], output=output, progress=False)


def data(case: dict[str, Any], train: Any, **settings: Any) -> Data:
    return Training(**{**case, "train": train, "output": "unused", **settings})._data()


def updates(found: Data, seed: int, numbers: range) -> Iterator[list[Any]]:
    batches = Batches(found.features, found.collate, batch_size=7, micro_batch_size=3, seed=seed)
    return (batches.update(number) for number in numbers)


def assert_same(ours: Iterator[list[Any]], theirs: Iterator[list[Any]]) -> None:
    for some, others in zip(ours, theirs, strict=True):
        for one, other in zip(some, others, strict=True):
            assert one.weight == other.weight
            assert one.inputs.keys() == other.inputs.keys()
            for name, array in one.inputs.items():
                assert array.dtype == other.inputs[name].dtype
                np.testing.assert_array_equal(array, other.inputs[name], err_msg=name)


@pytest.mark.parametrize("task", ["mlm", "clm"])
@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize(("seed", "length"), [(0, 48), (7, 13)])
def test_batches_are_those_from_memory(
    case: dict[str, Any], store: TokenStore, task: str, packing: str, seed: int, length: int
) -> None:
    given = {"task": task, "packing": packing, "seed": seed, "max_length": length}
    theirs, ours = data(case, case["train"], **given), data(case, [store.folder], **given)
    assert len(ours.features) == len(theirs.features) > 20
    epoch = range(1, len(ours.features) // 7 + 3)  # and the beginning of the next
    assert_same(updates(ours, seed, epoch), updates(theirs, seed, epoch))
    # what a resumed training compares, and what is said of the data
    assert ours.agreement == theirs.agreement
    names = fingerprint("train", store.folder, ours.features), fingerprint("train", case["train"], theirs.features)
    assert names[0] == names[1]
    assert ours.report.as_json() == theirs.report.as_json()
    assert [dict(one).get("is_next") for one in ours.features] == [dict(one).get("is_next") for one in theirs.features]


@pytest.mark.parametrize("packing", ["full-sentences", "blocks", "segment-pair"])
def test_the_first_rows_alone_are_those_from_memory(case: dict[str, Any], store: TokenStore, packing: str) -> None:
    given = {"packing": packing, "max_length": 13, "max_train_samples": 9}
    theirs, ours = data(case, case["train"], **given), data(case, store, **given)
    assert len(ours.features) == len(theirs.features) == 9
    assert_same(updates(ours, 3, range(1, 5)), updates(theirs, 3, range(1, 5)))
    assert ours.report.as_json() == theirs.report.as_json()
    assert len(pickle.loads(pickle.dumps(ours.features))) == 9


def test_a_share_of_a_store_is_not_held_out(case: dict[str, Any], store: TokenStore) -> None:
    with pytest.raises(ValueError, match=r"validation_split=0.1 .*token store; give validation files"):
        data(case, store, validation_split=0.1)


def test_whole_words_are_masked_as_from_memory(case: dict[str, Any], store: TokenStore) -> None:
    given = {"whole_words": True, "masking": "bernoulli", "masking_rate": 0.4}
    theirs, ours = data(case, case["train"], **given), data(case, store, **given)
    assert_same(updates(ours, 3, range(1, 30)), updates(theirs, 3, range(1, 30)))


def test_a_batch_is_a_function_of_its_number(case: dict[str, Any], store: TokenStore) -> None:
    """What resuming rests on: a new process that begins in the middle, and asks in any order, gets the same."""
    whole = list(updates(data(case, store), 2, range(1, 30)))
    numbers = [21, 29, 3, 22]
    later = pickle.loads(pickle.dumps(data(case, TokenStore(store.folder)).features))
    batches = Batches(later, data(case, store).collate, batch_size=7, micro_batch_size=3, seed=2)
    assert_same((batches.update(number) for number in numbers), (whole[number - 1] for number in numbers))


def test_ranks_share_the_rows_of_a_batch(case: dict[str, Any], store: TokenStore) -> None:
    theirs, ours = data(case, case["train"]), data(case, store)
    for some, others in zip(updates(ours, 1, range(1, 9)), updates(theirs, 1, range(1, 9)), strict=True):
        for one, other in zip(some, others, strict=True):
            for rank in range(3):
                found, share = rows_of_rank(one.inputs, "mlm", rank, 3)
                wanted, other_share = rows_of_rank(other.inputs, "mlm", rank, 3)
                assert share == other_share
                assert {name: array.tolist() for name, array in found.items()} == {
                    name: array.tolist() for name, array in wanted.items()
                }


def test_the_orders_are_those_of_numpy(case: dict[str, Any], store: TokenStore) -> None:
    found = data(case, store)
    batches = Batches(found.features, found.collate, batch_size=7, seed=4)
    for epoch in (0, 1, 5):
        wanted = np.random.default_rng((4, epoch)).permutation(len(found.features))
        assert batches.order(epoch)[np.arange(len(wanted))].tolist() == wanted.tolist()


def files(folder: Path) -> dict[str, bytes]:
    """The files of a store, without the plans of trainings."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith("rows-")}


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_and_steps_do_not_affect_a_store(
    case: dict[str, Any], store: TokenStore, tmp_path: Path, workers: int
) -> None:
    roberta.prepare(case["train"], tokenizer=case["model"], output=tmp_path / "s", workers=workers, progress=False)
    assert files(tmp_path / "s") == files(store.folder)


def test_a_store_holds_the_ids_that_the_tokenizer_gives(case: dict[str, Any], store: TokenStore) -> None:
    """Read with numpy alone, as docs/corpora.md describes the files."""
    info = json.loads((store.folder / "store.json").read_text())
    tokens = np.fromfile(store.folder / "tokens.bin", info["dtype"])
    sentences = np.fromfile(store.folder / "sentences.bin", "<u4")
    found = [row.tolist() for row in np.split(tokens, np.cumsum(sentences & 0x7FFFFFFF)[:-1])]
    tokenizer, wanted, begins = AutoTokenizer.from_pretrained(case["model"]), [], []
    for path in case["train"]:
        is_new = True
        for line in path.read_text(encoding="utf-8-sig").splitlines():
            if line.strip():
                wanted.append(tokenizer(line.rstrip(), add_special_tokens=False)["input_ids"])
                begins.append(is_new)
            is_new = not line.strip()
    assert found == wanted
    assert (sentences >= 0x80000000).tolist() == begins
    assert (info["tokens"], info["documents"]) == (len(tokens), sum(begins))


def test_the_options_of_the_command_are_the_arguments_of_the_function() -> None:
    from inspect import signature

    names = {flag.removeprefix("--").replace("-", "_") for flag in PREPARE_OPTIONS}
    assert names | {"data", "tokenizer", "output", "columns"} == set(signature(roberta.prepare).parameters)


def test_memory_of_a_store_is_let_go(tmp_path: Path) -> None:
    """A file of 64 MB, read from end to end in pieces, is never in the memory of the process as a whole."""
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("only Linux says what is mapped")
    path = tmp_path / "numbers"
    path.write_bytes(bytes(2**26))
    numbers = token_store.MappedNumbers(path, "<u2", 2**25)

    def mapped() -> int:
        found = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("RssFile")]
        return int(found[0]) * 1024

    before = largest = mapped()
    for number, start in enumerate(range(0, 2**25, 2**13)):
        assert len(numbers.read(start, start + 2**13)) == 2**13
        if number % 64 == 0:
            largest = max(largest, mapped())
    assert largest - before < 2**24


def test_a_plan_does_not_depend_on_where_its_chunks_end() -> None:
    lengths, begins = np.array([3] * 10), np.arange(10) == 0
    rule = GreedyRule(8, 9, crosses=True)
    parts = [(lengths[:3], begins[:3]), (lengths[3:4], begins[3:4]), (lengths[4:], begins[4:])]
    assert np.concatenate([found.starts for found in row_starts(parts, rule)]).tolist() == [0, 6, 12, 18, 24]
