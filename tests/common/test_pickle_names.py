"""Pickles that run code when Python's own machine reads them: each is refused by name, and nothing runs."""

from __future__ import annotations

import argparse
import collections
import datetime
import functools
import io
import pathlib
import pickle
import struct
import types
import uuid
import zipfile
from pathlib import Path
from typing import Any

import pytest

from roberta.common.formats import torch_bin, torch_zip
from roberta.common.storage.folders import CheckpointError

torch = pytest.importorskip("torch", reason="torch is not installed")

MARK = "open('marker', 'w').close()"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def named(module: str, attribute: str, protocol: int = 4) -> bytes:
    return text(module) + text(attribute) + b"\x93" if protocol == 4 else f"c{module}\n{attribute}\n".encode()


def called(function: bytes, *arguments: bytes) -> bytes:
    return function + b"(" + b"".join(arguments) + b"tR"


def attribute(owner: bytes, name: str, protocol: int = 4) -> bytes:
    return called(named("builtins" if protocol == 4 else "__builtin__", "getattr", protocol), owner, text(name))


TOUCH = text("touch marker")
OF_TORCH = named("torch", "serialization")
GLOBALS = named("torch.serialization", "save.__globals__")

# What it is -> the instructions, and the name that is refused.
HOSTILE: dict[str, tuple[bytes, str]] = {
    "a function of os": (called(named("os", "system"), TOUCH), "os.system"),
    "the module behind os": (called(named("posix", "system", 2), TOUCH), "posix.system"),
    "eval": (called(named("builtins", "eval"), text(MARK)), "builtins.eval"),
    "exec of Python 2": (called(named("__builtin__", "exec", 2), text(MARK)), "__builtin__.exec"),
    "a module inside another one": (called(named("torch.serialization", "os.system"), TOUCH), "torch.serialization.os"),
    "that module, and its attribute": (
        called(attribute(named("torch.serialization", "os"), "system"), TOUCH), "torch.serialization.os",
    ),
    "attributes one by one": (called(attribute(attribute(OF_TORCH, "os"), "system"), TOUCH), "torch.serialization.os"),
    "attributes in protocol 2": (
        called(attribute(attribute(named("torch", "serialization", 2), "os", 2), "system", 2), TOUCH),
        "torch.serialization.os",
    ),
    "the globals of a function": (
        called(attribute(called(attribute(GLOBALS, "get"), text("os")), "system"), TOUCH),
        "torch.serialization.save.__globals__",
    ),
    "the builtins of a function": (
        called(called(attribute(named("collections", "namedtuple.__builtins__"), "get"), text("eval")), text(MARK)),
        "collections.namedtuple.__builtins__",
    ),
    "a path of attributes in a text": (
        called(called(named("operator", "attrgetter"), text("os.system")), OF_TORCH) + TOUCH + b"\x85R",
        "operator.attrgetter",
    ),
    "an attribute of an object": (
        called(attribute(called(named("pathlib", "PosixPath"), text("marker")), "touch")), "pathlib.PosixPath.touch",
    ),
    "a method by its whole name": (
        called(named("pathlib", "Path.touch"), called(named("pathlib", "PosixPath"), text("marker"))), "pathlib.Path.touch",
    ),
    "a module by name": (
        called(attribute(called(named("importlib", "import_module"), text("os")), "system"), TOUCH), "importlib.import_mo",
    ),
    "a module by __import__": (
        called(attribute(called(named("builtins", "__import__"), text("os")), "system"), TOUCH), "builtins.__import__",
    ),
    "a function inside a partial": (
        called(called(named("functools", "partial"), named("os", "system"), TOUCH)), "os.system",
    ),
    "a function for each of a list": (
        called(named("builtins", "list"), called(named("builtins", "map"), named("os", "system"), b"]" + TOUCH + b"a")),
        "builtins.map",
    ),
    "a subprocess": (called(named("subprocess", "getoutput"), TOUCH), "subprocess.getoutput"),
    "a subprocess of Python 2": (called(named("commands", "getoutput", 2), TOUCH), "commands.getoutput"),
    "a timer": (called(named("timeit", "timeit"), text(MARK), text("pass"), named("time", "time"), b"K\x01"), "timeit.time"),
    "a profiler": (called(named("cProfile", "run"), text(MARK), text("profile")), "cProfile.run"),
    "a debugger": (called(named("bdb", "Bdb.run"), called(named("bdb", "Bdb")), text(MARK)), "bdb.Bdb.run"),
    "an interpreter": (
        called(attribute(called(named("code", "InteractiveInterpreter")), "runsource"), text(MARK)),
        "code.InteractiveInterpreter",
    ),
    "a file": (called(named("io", "open"), text("marker"), text("w")), "io.open"),
    "a file of the module behind io": (called(named("_io", "open"), text("marker"), text("w")), "_io.open"),
    "a pickle in a pickle": (
        called(named("pickle", "loads"), b"C" + bytes([len(p := b"cos\nsystem\n(S'touch marker'\ntR.")]) + p), "pickle.load",
    ),
}  # fmt: skip
PASSED_ON = called(named("six.moves.builtins", "eval"), text(MARK))


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_pickle_is_refused_by_name(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, name = HOSTILE[what]
    protocol = b"\x80\x04" if b"\x93" in code else b"\x80\x02"
    content = protocol + b"}" + text("args") + code + b"s."
    file = tmp_path / "pytorch_model.bin"
    for written in (zipped(content), b"".join(pickle.dumps(v, 2) for v in (torch_zip.MAGIC, 1001, {})) + content):
        file.write_bytes(written)
        with pytest.raises(
            CheckpointError, match=r"pytorch_model\.bin would call " + name.replace(".", r"\.")
        ) as caught:
            torch_bin.read_tensors(file, [])
        assert "torch.save(model.state_dict(), file)" in str(caught.value)
    assert not Path("marker").exists()
    # Python's own machine runs it
    pickle.loads(content)
    assert Path("marker").exists()


def test_a_module_that_another_package_passes_on_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pytorch_model.bin"
    file.write_bytes(zipped(b"\x80\x04}" + text("args") + PASSED_ON + b"s."))
    with pytest.raises(CheckpointError, match=r"would call six\.moves\.builtins\.eval"):
        torch_bin.read_tensors(file, [])


class Outer:
    class Inner:
        """A class in a class, whose name has a point."""


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_values_that_people_keep_beside_weights_are_read(protocol: int, tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    values: dict[str, Any] = {
        "namespace": argparse.Namespace(lr=0.1), "simple": types.SimpleNamespace(a=1), "path": pathlib.Path("a"),
        "time": datetime.datetime.now(datetime.UTC), "delta": datetime.timedelta(1), "id": uuid.uuid4(),
        "counter": collections.Counter("aab"), "deque": collections.deque([1]), "error": ValueError("text"),
        "default": collections.defaultdict(list), "partial": functools.partial(max, 1), "bytes": b"\xff", "set": {1},
        "inner": Outer.Inner(), "class": Outer.Inner, "none": type(None), "array": numpy.arange(3), "dtype": torch.float16,
        "score": numpy.float64(0.5), "size": torch.Size([1]), "range": range(3), "complex": 1j,
        "device": torch.device("cpu"),
    }  # fmt: skip
    weights = {"roberta.embeddings.word_embeddings.weight": torch.ones(2, 2)}
    torch.save({"model": weights, "args": values}, tmp_path / "a.pt", pickle_protocol=protocol)
    assert torch_bin.read_tensors(tmp_path / "a.pt", []).keys() == weights.keys()
