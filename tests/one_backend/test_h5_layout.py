"""The process that lists an HDF5 file ends when it loops, and only then."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("h5py", reason="h5py is not installed")

from roberta import CheckpointError
from roberta.common.formats import h5_file, h5_layout

IMPORT = "import sys; sys.path.insert(0, {folder!r}); import h5_layout\n"
BURN = """
import time
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
"""


def script(body: str) -> str:
    return IMPORT.format(folder=str(Path(h5_layout.__file__).parent)) + BURN + body


def test_a_reader_that_loops_is_an_error_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loop.py").write_text(script("h5_layout.watch()\nburn(40)"))
    monkeypatch.setattr(h5_layout, "__file__", str(tmp_path / "loop.py"))
    with pytest.raises(CheckpointError, match=r"tf_model\.h5 cannot be read: listing its tensors does not come to"):
        h5_file.list_h5(tmp_path / "tf_model.h5")


def test_each_tensor_gives_the_reader_time_for_the_next() -> None:
    body = "h5_layout._PATIENCE = 0.4\nfor _ in range(6):\n    h5_layout.watch()\n    burn(0.1)"
    assert subprocess.run([sys.executable, "-P", "-c", script(body)], check=False).returncode == 0


def test_a_reader_that_finds_nothing_more_is_ended() -> None:
    body = "h5_layout._PATIENCE = 0.4\nh5_layout.watch()\nfor _ in range(6):\n    burn(0.1)"
    ended = subprocess.run([sys.executable, "-P", "-c", script(body)], check=False).returncode
    assert ended == -signal.SIGPROF


def test_waiting_is_not_counted() -> None:
    body = "h5_layout._PATIENCE = 0.2\nh5_layout.watch()\ntime.sleep(0.6)"
    assert subprocess.run([sys.executable, "-P", "-c", script(body)], check=False).returncode == 0


def test_a_reader_that_wants_gigabytes_gets_none() -> None:
    body = "h5_layout.limit_memory()\nbytes(2**30)"
    child = subprocess.run([sys.executable, "-P", "-c", script(body)], check=False, capture_output=True, text=True)
    assert "MemoryError" in child.stderr
