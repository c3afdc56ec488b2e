"""Files that lie, are truncated or would run code: one CheckpointError that names the file, and nothing else happens."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import Backend

from roberta import CheckpointError
from roberta.common.checkpoint.checkpoint import open_checkpoint
from roberta.common.formats import torch_zip
from roberta.common.formats.safetensors_file import MAX_HEADER

GIB = 2**30


class Runs:
    """Its pickle calls `os.system`, as an attacker's would."""

    def __init__(self, marker: Path) -> None:
        self.command = f"touch {marker}"

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


# -- safetensors --------------------------------------------------------------------------------------------------


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: list[Any], start: int, stop: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


SAFETENSORS: dict[str, bytes] = {
    "empty": b"",
    "seven bytes": b"1234567",
    "a header of an exabyte": safetensors({}, length=2**60),
    "a header longer than the file": safetensors({}, length=1000),
    "a header that is not JSON": safetensors(b"{'a': 1}"),
    "a header that is a list": safetensors([]),
    "a header that is not UTF-8": safetensors(b'{"\xff": 1}'),
    "a header nested too deep": safetensors(b'{"a":' * 100_000),
    "a tensor twice": safetensors(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b"1234",
    ),
    "bytes behind the end": safetensors({"a": entry([1], 0, 4)}, b"12345678"),
    "bytes missing at the end": safetensors({"a": entry([2], 0, 8)}, b"1234"),
    "a hole": safetensors({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, b"123456789012"),
    "tensors that overlap": safetensors({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, b"123456789012"),
    "more values than bytes": safetensors({"a": entry([2**40], 0, 4)}, b"1234"),
    "a product that overflows": safetensors({"a": entry([2**32, 2**32], 0, 0)}),
    "a negative size": safetensors({"a": entry([-1], 0, 4)}, b"1234"),
    "offsets backwards": safetensors({"a": entry([1], 4, 0)}, b"1234"),
    "a size that is a text": safetensors({"a": entry(["1"], 0, 4)}, b"1234"),
    "a size of true": safetensors({"a": entry([True], 0, 4)}, b"1234"),
    "a dtype that is a list": safetensors({"a": {**entry([1], 0, 4), "dtype": ["F32"]}}, b"1234"),
    "an unknown dtype": safetensors({"a": entry([1], 0, 4, "F31")}, b"1234"),
    "an entry that is null": safetensors({"a": None}),
    "metadata that is a list": safetensors({"__metadata__": []}),
    "nothing in it": safetensors({}),
}


# -- torch --------------------------------------------------------------------------------------------------------


def zipped(content: bytes, data: bytes = b"", compression: int = zipfile.ZIP_STORED, folder: str = "archive") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr(f"{folder}/data.pkl", content)
        archive.writestr(f"{folder}/data/0", data)
        archive.writestr(f"{folder}/version", "3\n")
        archive.writestr(f"{folder}/byteorder", "little")
    return buffer.getvalue()


def tensor_pickle(size: int, storage: int) -> bytes:
    """The bytes that torch.save writes for {"a": float32 of [size]} with a storage of `storage` values."""

    def integer(value: int) -> bytes:
        return b"\x8a\x08" + struct.pack("<q", value)

    text = lambda value: b"X" + struct.pack("<I", len(value)) + value  # noqa: E731
    key = b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0") + text(b"cpu") + integer(storage) + b"tQ"
    arguments = b"(" + key + b"K\x00" + integer(size) + b"\x85" + integer(1) + b"\x85" + b"\x89" + b"ccollections\n"
    arguments += b"OrderedDict\n)R" + b"t"
    return b"\x80\x02}" + text(b"a") + b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"Rs."


def old_torch(content: bytes) -> bytes:
    """The container from before torch 1.6, up to the pickle of the content."""
    return b"".join(pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, {})) + content


TWICE = b"K\x01" + b"q\x00h\x00\x86" * 40  # a tuple of one value twice, 40 times over: a trillion values
DEEP = b"K\x01" + b"\x85" * 500_000
STORAGE, CPU = b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\n", b"X\x03\x00\x00\x00cpu"
ORDERED = b"\x80\x02ccollections\nOrderedDict\n]"


def torch_files(marker: Path) -> dict[str, bytes]:
    run = pickle.dumps({"a": Runs(marker)}, protocol=2)
    return {
        "empty": b"",
        "noise": bytes(range(256)) * 4,
        "a zip with code": zipped(run),
        "a bare pickle with code": run,
        "code in a protocol with STACK_GLOBAL": zipped(pickle.dumps({"a": Runs(marker)}, protocol=4)),
        "builtins.eval": zipped(b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R."),
        "a zip that unpacks to a gigabyte": zipped(tensor_pickle(1, 1), bytes(2**30 // 4), zipfile.ZIP_DEFLATED),
        "a zip with a name that is not UTF-8": zipped(tensor_pickle(1, 1), folder="é").replace(
            b"\xc3\xa9", b"\xe7\xa9"
        ),
        "a zip without a pickle": zipped(b"").replace(b"data.pkl", b"data.txt"),
        "more values than stored": zipped(tensor_pickle(1000, 1), b"1234"),
        "a storage of a petabyte": zipped(tensor_pickle(2**48, 2**48), b"1234"),
        "a negative size": zipped(tensor_pickle(-5, 1), b"1234"),
        "an old form that claims 4 GB of text": old_torch(b"\x80\x02}X\xff\xff\xff\xffabc."),
        "an old form that claims an exabyte": old_torch(b"\x80\x02}\x8e" + struct.pack("<Q", 2**60) + b"abc."),
        "an old form with a key of many values": old_torch(b"\x80\x02}.\x80\x02]" + TWICE + b"a."),
        "a key that is nested a trillion times": zipped(b"\x80\x02}" + TWICE + b"K\x01s."),
        "pairs whose key is nested a trillion times": zipped(ORDERED + TWICE + b"K\x01\x86a\x85R."),
        "a key that is nested too deep": zipped(b"\x80\x02}" + DEEP + b"K\x01s."),
        "a storage whose name is nested": zipped(STORAGE + TWICE + CPU + b"K\x01tQ."),
        "a storage whose size is nested": zipped(STORAGE + b"K\x01" + CPU + TWICE + b"tQ."),
        "a pickle of a million steps": zipped(b"\x80\x02" + b"NN\x86" * 400_000 + b"."),
        "a list": zipped(b"\x80\x02]."),
        "names that are numbers": zipped(b"\x80\x02}K\x01K\x02s."),
        "values that are not tensors": zipped(b"\x80\x02}X\x01\x00\x00\x00aK\x02s."),
        "a pickle cut short": zipped(tensor_pickle(1, 1)[:-20], b"1234"),
        "a zip cut short": zipped(tensor_pickle(1, 1), b"1234")[:-40],
    }


# -- Flax ---------------------------------------------------------------------------------------------------------


def flax_files() -> dict[str, bytes]:
    import msgpack

    def array(shape: Any, dtype: Any, data: bytes) -> msgpack.ExtType:
        return msgpack.ExtType(1, msgpack.packb((shape, dtype, data)))

    pack = msgpack.packb
    chunked = {"__msgpack_chunked_array__": True, "shape": {"0": 5}, "chunks": {"0": array([2], "float32", bytes(8))}}
    return {
        "empty": b"",
        "noise": bytes(range(200, 256)),
        "a list": pack([1, 2]),
        "an array of 4 billion": b"\xdd\xff\xff\xff\xff",
        "a map of 4 billion": b"\xdf\xff\xff\xff\xff",
        "a text of 4 billion": b"\x81\xa1a\xdb\xff\xff\xff\xff",
        "bytes behind the end": pack({"a": array([1], "float32", b"1234")}) + b"\x00",
        "cut short": pack({"a": array([4], "float32", bytes(16))})[:-3],
        "nested too deep": b"\x81\xa1a" * 5_000 + b"\xc0",
        "nested as deep as msgpack reads": b"\x81\xa1a" * 500 + b"\xc0",
        "params that are a number": pack({"params": 3}),
        "a number for an array": pack({"a": 3}),
        "another extension": pack({"a": msgpack.ExtType(7, b"x")}),
        "an extension of noise": pack({"a": msgpack.ExtType(1, b"\xc1")}),
        "more values than bytes": pack({"a": array([2**40], "float32", b"1234")}),
        "a negative size": pack({"a": array([-1], "float32", b"1234")}),
        "a size that is a text": pack({"a": array(["1"], "float32", b"1234")}),
        "a shape that is a number": pack({"a": array(3, "float32", b"1234")}),
        "a dtype of objects": pack({"a": array([1], "O", bytes(8))}),
        "a dtype that is a list": pack({"a": array([1], ["float32"], b"1234")}),
        "keys that are numbers": pack({1: array([1], "float32", b"1234")}),
        "chunks that do not fit": pack({"a": chunked}),
        "chunks without a shape": pack({"a": {"__msgpack_chunked_array__": True}}),
    }


# -- TensorFlow ---------------------------------------------------------------------------------------------------


def h5_file(fill: Callable[[Any], None]) -> bytes:
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        fill(file)
    return buffer.getvalue()


def h5_files(outside: Path) -> dict[str, bytes]:
    import h5py

    def grouped(file: Any, layers: list[str], names: list[str]) -> Any:
        file.attrs["layer_names"] = layers
        group = file.create_group("roberta")
        group.attrs["weight_names"] = names
        return group

    def external(file: Any) -> None:
        grouped(file, ["roberta"], ["x/a:0"])["x/a:0"] = h5py.ExternalLink(str(outside), "/secret")

    def external_data(file: Any) -> None:
        group = grouped(file, ["roberta"], ["x/a:0"])
        group.create_dataset("x/a:0", (4,), "f4", external=[(str(outside), 0, 16)])

    def loop(file: Any) -> None:
        group = grouped(file, ["roberta"], ["x/a:0"])
        group["x"] = h5py.SoftLink("/roberta/x")

    def diamonds(file: Any) -> None:
        """Each group is in the previous one under two names: 31 groups, and two billion paths."""
        inner = grouped(file, ["roberta"], ["x/a:0"])
        for _ in range(31):
            inner, outer = inner.create_group("x"), inner
            outer["y"] = inner

    def itself(file: Any) -> None:
        group = grouped(file, ["roberta"], ["x/a:0"])
        group["x"] = group

    def bomb(file: Any) -> None:
        group = grouped(file, ["roberta"], ["x/a:0"])
        group.create_dataset("x/a:0", (2**31,), "f4", chunks=(2**20,), compression="gzip")

    def unwritten(file: Any) -> None:
        grouped(file, ["roberta"], ["x/a:0"]).create_dataset("x/a:0", (2**40,), "f4")

    def texts(file: Any) -> None:
        grouped(file, ["roberta"], ["x/a:0"])["x/a:0"] = ["a", "b"]

    def missing(file: Any) -> None:
        grouped(file, ["roberta"], ["x/a:0"])

    def no_group(file: Any) -> None:
        file.attrs["layer_names"] = ["roberta"]

    def group_for_data(file: Any) -> None:
        grouped(file, ["roberta"], ["x/a:0"]).create_group("x/a:0")

    def names_that_are_numbers(file: Any) -> None:
        file.attrs["layer_names"] = [1, 2]

    def two(file: Any) -> None:
        group = grouped(file, ["roberta"], ["x/a:0", "x/b:0"])
        group["x/a:0"], group["x/b:0"] = np.ones(7, "<f4"), np.ones(1000, "<i4")

    narrow, wide = (kind.encode()[2:] for kind in (h5py.h5t.IEEE_F32LE, h5py.h5t.IEEE_F64LE))
    good = h5_file(lambda file: grouped(file, ["roberta"], ["x/a:0"]).create_dataset("x/a:0", data=np.zeros(400, "f4")))
    return {
        "empty": b"",
        "noise": bytes(range(256)) * 4,
        "the signature alone": good[:8],
        "cut short": good[:-900],
        "a link out of the file": h5_file(external),
        "data out of the file": h5_file(external_data),
        "a link to itself": h5_file(loop),
        "a group inside itself": h5_file(itself),
        "groups that multiply": h5_file(diamonds),
        "a dataset that grows to gigabytes": h5_file(bomb),
        "a dataset of a terabyte that was never written": h5_file(unwritten),
        "a dtype wider than its bytes": h5_file(two).replace(narrow, wide),
        "texts for numbers": h5_file(texts),
        "a dataset that is missing": h5_file(missing),
        "a layer that is missing": h5_file(no_group),
        "a group for a dataset": h5_file(group_for_data),
        "names that are numbers": h5_file(names_that_are_numbers),
        "nothing in it": h5_file(lambda file: None),
    }


def crafted(marker: Path) -> dict[tuple[str, str], bytes]:
    """(file name, what is wrong) -> content."""
    return {
        (name, wrong): content
        for name, files in (
            ("model.safetensors", SAFETENSORS),
            ("pytorch_model.bin", torch_files(marker)),
            ("flax_model.msgpack", flax_files()),
            ("tf_model.h5", h5_files(marker)),
        )
        for wrong, content in files.items()
    }


pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("h5py", reason="h5py is not installed")
pytest.importorskip("msgpack", reason="msgpack is not installed")
MARKER = Path("marker")  # in the working directory of each test
CRAFTED = crafted(MARKER)


@pytest.mark.parametrize(("name", "wrong"), sorted(CRAFTED), ids=lambda text: text.replace(" ", "_"))
def test_a_crafted_file_is_one_error_that_names_it(
    name: str, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = checkpoints.make(tmp_path / "model", "Model")
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(CRAFTED[name, wrong])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=name) as caught:
        [tensor.load() for tensor in open_checkpoint(folder).tensors.values()]
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < GIB // 4
    assert len(str(caught.value)) < 1000
    assert not MARKER.exists()
    assert {path.name for path in folder.iterdir()} == {"config.json", name}


@pytest.mark.parametrize("wrong", [wrong for _, wrong in CRAFTED if wrong.startswith("an old form that claims")])
def test_no_memory_is_asked_for_what_a_file_only_claims(wrong: str, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(CRAFTED[path.name, wrong])
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="but only 4 remain"):
            torch_zip.read_torch_zip(path)
        assert tracemalloc.get_traced_memory()[1] < 2 * MAX_HEADER
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "model.safetensors"])
def test_no_model_comes_of_a_file_cut_short(backend: Backend, name: str, tmp_path: Path) -> None:
    from roberta.common.checkpoint.checkpoint import legacy
    from roberta.common.storage.names import FORMATS

    source = {"".join(parts): key for key, parts in FORMATS.items()}[name]
    folder = checkpoints.make(tmp_path / "model", "Model", dtype="float32")
    if source != "safetensors":
        tensors = checkpoints.draw(checkpoints.small_config("Model"), "Model")
        checkpoints.save(folder, checkpoints.small_config("Model"), tensors, "float32", legacy=legacy(source))
    backend.load("Model", folder)
    whole = (folder / name).read_bytes()
    for size in (0, 9, len(whole) // 2, len(whole) - 1):
        (folder / name).write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=name):
            backend.load("Model", folder)
