"""What devices send each other in an update in Flax, counted in the compiled programs.

Run as a program, this file counts for one sharding after another: `test_collectives_flax.py FOLDER ROWS`.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="jax is not installed")

import updates  # noqa: E402
from backends import backend  # noqa: E402
from child_processes import child_environment  # noqa: E402

pytestmark = pytest.mark.slow

DEVICES, LAYERS = 4, 2
SIZES = {"f64": 8, "s64": 8, "f32": 4, "s32": 4, "u32": 4, "pred": 1}
OPERATION = re.compile(r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")


def sent(program: str) -> dict[str, int]:
    """The bytes of the results of each kind of collective operation in a compiled program."""
    found: dict[str, int] = {}
    for result, kind in OPERATION.findall(program):
        for dtype, shape in re.findall(r"(\w+)\[([\d,]*)\]", result):
            size = SIZES[dtype] * math.prod(int(axis) for axis in shape.split(",") if axis)
            found[kind] = found.get(kind, 0) + size
    return found


def counted(folder: Path, sharded: str, rows: int) -> dict[str, Any]:
    """Bytes of the parameters, of a micro-batch's gradients, and of the update of the weights."""
    from roberta.flax.training import Trainer

    chosen = updates.settings("mlm", sharding=sharded)
    trainer = Trainer(backend("flax").load("ForMaskedLM", folder / "mlm", dtype="float64"), chosen)
    (batch,) = updates.micro_batches("mlm", updates.inputs("mlm", updates.config_of("mlm"), rows))
    state, inputs = trainer.train_state, trainer.layout.put_inputs(batch.inputs, 1)
    arguments = (state.params, {}, inputs, np.array([1, 0], np.uint32), np.float64(1))
    loss, gradients = trainer._gradients(*arguments)
    return {
        "parameters": sum(leaf.nbytes for leaf in jax.tree.leaves(state.params)),
        "gradients": sent(trainer._gradients.lower(*arguments).compile().as_text()),
        "update": sent(trainer._apply.lower(state, gradients, loss, 1e-3, 1.0).compile().as_text()),
    }


def test_gradients_are_sent_once_and_the_update_of_weights_sends_only_a_norm(tmp_path: Path) -> None:
    updates.folder_of(tmp_path, "mlm", num_hidden_layers=LAYERS)
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}", "JAX_ENABLE_X64": "1"}
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path), "8"], capture_output=True, text=True,
        env=child_environment(**flags),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    data, full = found["data"], found["full"]
    assert data["gradients"].keys() == {"all-reduce"}
    masked = 64 * updates.config_of("mlm").hidden_size * SIZES["f64"]  # hidden states, which all devices have
    assert 0 <= data["gradients"]["all-reduce"] - data["parameters"] < 1.2 * masked
    assert data["update"] == {}
    assert full["gradients"]["all-gather"] > full["parameters"]
    assert full["update"].keys() == {"all-reduce"}
    assert full["update"]["all-reduce"] < 0.01 * full["parameters"]  # the norm of the gradients


if __name__ == "__main__":
    given, rows_of_batch = Path(sys.argv[1]), int(sys.argv[2])
    print(json.dumps({sharded: counted(given, sharded, rows_of_batch) for sharded in ("data", "full")}))
