"""Several JAX processes that train one model, here two on one host, each with some of its devices.

Run as a program, this file is one of them: `test_processes_flax.py FOLDER CASE ...`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="jax is not installed")

import updates  # noqa: E402
from backends import assert_close, backend  # noqa: E402

from roberta.common.training.data.tasks import HEADS  # noqa: E402
from roberta.common.training.optimizer_state import load_training_state  # noqa: E402
from roberta.flax import sharding  # noqa: E402

TESTS = Path(__file__).parents[1]
SHORT, CASES = ("numbers",), ("mlm", "tokens", "numbers", "choices")
OPTIONED = ("tokens", "mlm")  # with all options that change the weights
SHARDINGS = ("data", "full")
UPDATES, ROWS, SIZE = 3, 5, 2  # micro-batches of 2, 2 and 1 rows, which neither four nor eight devices divide


def run_of(case: str, sharded: Any = "none", **changed: Any) -> updates.ShortRun:
    chosen = updates.settings(case, sharding=sharded, **changed)
    if case in OPTIONED:
        chosen = updates.with_options(chosen)
    listed = updates.Listed(case, updates.config_of(case), ROWS, SIZE, chosen.class_weights)
    return updates.ShortRun(chosen, listed, UPDATES)


def trained(folder: Path, case: str, run: updates.ShortRun) -> Any:
    from roberta.flax.training import train

    model = backend("flax").load(HEADS[run.settings.task], folder / case, dtype="float64")
    return train(model, run)


# -- one of the processes --------------------------------------------------------------------------------------------


def serve(folder: Path, cases: Sequence[str]) -> None:
    """Train every case in every way; then stop early, fail in the first process, and be of another training."""
    is_first = sharding.is_first()  # which connects them
    rank = jax.process_index()
    for sharded in SHARDINGS:
        for case in cases:
            run = run_of(case, sharded)
            run.folder = folder / f"{case}-{sharded}"
            trainer = trained(folder, case, run)
            assert bool(run.losses) == is_first, "the first process sees every update, the others none"
            if is_first:
                (run.folder / "losses.json").write_text(json.dumps(run.losses))
            (folder / f"shares-{sharded}-{rank}.txt").write_text(str(least_share(trainer)))
    case = cases[0]
    stopping = run_of(case, "data")
    stopping.stops_at = 2
    (folder / f"stopped-{rank}.txt").write_text(str(trained(folder, case, stopping).state().step))
    failing = run_of(case, "data")
    failing.fails_at = 2
    (folder / f"failure-{rank}.txt").write_text(failure(folder, case, failing))
    differing = run_of(case, "data")
    differing.agreement = {"seed": rank, "data": {"train": ["abc", "abd"][rank]}, "dtype": "float64"}
    (folder / f"differing-{rank}.txt").write_text(failure(folder, case, differing))


def failure(folder: Path, case: str, run: updates.ShortRun) -> str:
    with pytest.raises((ValueError, RuntimeError)) as caught:
        trained(folder, case, run)
    return str(caught.value)


def least_share(trainer: Any) -> float:
    """The share of a weight's values that one device has, where it is least."""
    leaves = jax.tree.leaves(trainer.train_state.params)
    return min(leaf.addressable_shards[0].data.size / leaf.size for leaf in leaves)


# -- both of them ----------------------------------------------------------------------------------------------------


def environment(devices: int, rank: int, port: int) -> dict[str, str]:
    """What a process is started with."""
    paths = [str(TESTS), *(path for path in sys.path if path)]
    return {
        **os.environ,
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(rank),
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}",
        "JAX_ENABLE_X64": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths),
    }  # fmt: skip


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def in_two_processes(folder: Path, cases: Sequence[str], devices: int) -> Path:
    """The folder, with what `serve` wrote."""
    for case in cases:
        updates.folder_of(folder, case)
    port, command = free_port(), [sys.executable, __file__, str(folder), *cases]
    children = [
        subprocess.Popen(command, env=environment(devices, rank, port), stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for child in children:
        _, error = child.communicate(timeout=500)
        assert not child.returncode, error[-3000:]
    return folder


def check_as_one(case: str, sharded: str, together: Path) -> None:
    """Raise unless two processes have losses, weights and moments of one process with one device."""
    alone = run_of(case)
    trainer = trained(together, case, alone)
    folder = together / f"{case}-{sharded}"
    assert json.loads((folder / "losses.json").read_text()) == pytest.approx(alone.losses, rel=1e-10)
    wanted, found = trainer.model, backend("flax").load(HEADS[alone.settings.task], folder, dtype="float64")
    for path, leaf in jax.tree_util.tree_leaves_with_path(wanted.params):
        there = dict(jax.tree_util.tree_leaves_with_path(found.params))[path]
        assert_close(np.asarray(there), np.asarray(leaf), 1e-10, jax.tree_util.keystr(path))
    expected, state = trainer.state(), load_training_state(folder)
    assert state.step == UPDATES
    assert state.weights.keys() == (set(expected.parameters) if case in OPTIONED else set())
    for name, array in expected.weights.items():
        assert_close(state.weights[name], array, 1e-10, name)
    for name, array in expected.moments.items():
        if np.abs(array).max() > 1e-14:  # a bias that does not change the softmax has gradients of only rounding
            assert_close(state.moments[name], array, 1e-10, name)


def check_endings(together: Path) -> None:
    """Raise unless both stopped early, both ended when the first failed, and both said what differs."""
    stopped, failed, differed = (
        [(together / f"{name}-{rank}.txt").read_text() for rank in range(2)]
        for name in ("stopped", "failure", "differing")
    )
    assert stopped == ["2", "2"]
    assert failed[0] == "update 2 fails"
    assert "the first process has ended the training" in failed[1]
    for rank, text in enumerate(differed):
        assert "the 2 processes are not of one training" in text
        assert "\n  data: rank 1\n  seed: rank 1\n" in text
        assert f"This is rank {rank} on " in text


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of training in two processes of two devices each."""
    return in_two_processes(tmp_path_factory.mktemp("together"), SHORT, 2)


@pytest.mark.parametrize("sharded", SHARDINGS)
def test_two_processes_train_as_one_does(sharded: str, together: Path) -> None:
    check_as_one(SHORT[0], sharded, together)


def test_what_ends_one_process_ends_both(together: Path) -> None:
    check_endings(together)


def test_full_sharding_splits_weights_over_the_devices_of_all_processes(together: Path) -> None:
    shares = {name: [(together / f"shares-{name}-{rank}.txt").read_text() for rank in range(2)] for name in SHARDINGS}
    assert shares == {"data": ["1.0", "1.0"], "full": ["0.25", "0.25"]}


@pytest.mark.slow
def test_every_task_in_two_processes_of_four_devices_trains_as_in_one(tmp_path: Path) -> None:
    together = in_two_processes(tmp_path, CASES, 4)
    for case in CASES:
        for sharded in SHARDINGS:
            check_as_one(case, sharded, together)
    check_endings(together)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2:])
