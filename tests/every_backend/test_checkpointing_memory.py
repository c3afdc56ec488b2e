"""Gradient checkpointing lowers the peak of memory, in PyTorch and TensorFlow.

Run as a program, this file is one training: `test_checkpointing_memory.py FRAMEWORK FOLDER CHECKPOINTS`, and prints MB.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import updates
from backends import Backend
from backends import backend as get_backend
from child_processes import child_environment

LAYERS, ROWS, LENGTH = 8, 16, 256
CONFIG: dict[str, Any] = {
    "num_hidden_layers": LAYERS, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 256,
    "max_position_embeddings": LENGTH + 2,
}  # fmt: skip


def peak(name: str, folder: Path, checkpoints: bool) -> float:
    """The MB that an update of full size takes, beside what the process has after a small one."""
    case = "tokens"
    trainer = updates.trainer(get_backend(name), case, folder, dtype="float32", gradient_checkpointing=checkpoints)
    config = updates.config_of(case, **CONFIG)
    trainer.update(updates.micro_batches(case, updates.inputs(case, config, 2)), 1e-3, 1)
    updates.SEQ = LENGTH
    batches = updates.micro_batches(case, updates.inputs(case, config, ROWS))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    trainer.update(batches, 1e-3, 2)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6


@pytest.mark.slow
def test_an_update_takes_less_memory_with_gradient_checkpointing(backend: Backend, tmp_path: Path) -> None:
    if backend.name == "flax":
        pytest.skip("XLA saves almost nothing on a CPU: 662 of 679 MB")
    folder = updates.folder_of(tmp_path, "tokens", **CONFIG)
    environment = child_environment(TF_CPP_MIN_LOG_LEVEL="3")
    found = []
    for words in ("", "checkpoints"):
        done = subprocess.run(
            [sys.executable, __file__, backend.name, str(folder), words],
            env=environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(float(done.stdout.split()[-1]))
    assert 0 < found[1] < 0.75 * found[0], found


if __name__ == "__main__":
    print(peak(sys.argv[1], Path(sys.argv[2]), bool(sys.argv[3])))
