"""Several JAX processes that train one model, here two on one host, each with some of its devices.

Run as a program, this file is one of them: `test_processes_flax.py FOLDER SHARDING ... of CASE ...`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="jax is not installed")

import sharded_runs  # noqa: E402
import updates  # noqa: E402
from backends import assert_close, backend  # noqa: E402
from child_processes import free_ports  # noqa: E402
from jax_processes import environment_of  # noqa: E402
from sharded_runs import CASES, OPTIONED, SHARDINGS, UPDATES  # noqa: E402

from roberta.common.training.data.tasks import HEADS  # noqa: E402
from roberta.common.training.optimizer_state import load_training_state  # noqa: E402
from roberta.flax import sharding  # noqa: E402

SHORT = "numbers"
SIZE = 3  # micro-batches of 3 and 2 rows, which neither four nor eight devices divide
run_of, trained = partial(sharded_runs.run_of, size=SIZE), partial(sharded_runs.trained, framework="flax")


# -- one of the processes --------------------------------------------------------------------------------------------


def serve(folder: Path, shardings: Sequence[str], cases: Sequence[str]) -> None:
    """Train every case in every way, and then be of another training; with all of them stop early, and fail, before."""
    is_first = sharding.is_first()  # which connects them
    rank = jax.process_index()
    for sharded in shardings:
        for case in cases:
            run = run_of(case, sharded)
            run.folder = folder / f"{case}-{sharded}"
            trainer = trained(folder, case, run)
            assert bool(run.losses) == is_first, "the first process sees every update, the others none"
            if is_first:
                (run.folder / "losses.json").write_text(json.dumps(run.losses))
            (folder / f"share-{sharded}-{rank}.txt").write_text(str(least_share(trainer)))
    if len(shardings) > 1:
        stopping = run_of(cases[0], "data")
        stopping.stops_at = 2
        (folder / f"stopped-{rank}.txt").write_text(str(trained(folder, cases[0], stopping).state().step))
        failing = run_of(cases[0], "data")
        failing.fails_at = 2
        (folder / f"failure-{rank}.txt").write_text(failure(folder, cases[0], failing))
    differing = run_of(cases[0], "data")
    differing.agreement = {"seed": rank, "data": {"train": ["abc", "abd"][rank]}, "dtype": "float64"}
    (folder / f"differing-{rank}.txt").write_text(failure(folder, cases[0], differing))


def failure(folder: Path, case: str, run: updates.ShortRun) -> str:
    with pytest.raises((ValueError, RuntimeError)) as caught:
        trained(folder, case, run)
    return str(caught.value)


def least_share(trainer: Any) -> float:
    """The share of a weight's values that one device has, where it is least."""
    leaves = jax.tree.leaves(trainer.train_state.params)
    return min(leaf.addressable_shards[0].data.size / leaf.size for leaf in leaves)


# -- both of them ----------------------------------------------------------------------------------------------------


def in_two_processes(folder: Path, shardings: Sequence[str], cases: Sequence[str], devices: int) -> Path:
    """The folder, with what `serve` wrote."""
    for case in cases:
        updates.folder_of(folder, case)
    (port,), command = free_ports(), [sys.executable, __file__, str(folder), *shardings, "of", *cases]
    children = [
        subprocess.Popen(command, env=environment_of(rank, port, devices), stderr=subprocess.PIPE, text=True)
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


def texts(together: Path, name: str) -> list[str]:
    """What each process wrote."""
    return [(together / f"{name}-{rank}.txt").read_text() for rank in range(2)]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of training in two processes of two devices each."""
    return in_two_processes(tmp_path_factory.mktemp("together"), ("full",), (SHORT,), 2)


def test_two_processes_train_as_one_does(together: Path) -> None:
    check_as_one(SHORT, "full", together)
    assert texts(together, "share-full") == ["0.25", "0.25"]


def test_processes_of_different_trainings_are_refused(together: Path) -> None:
    for rank, text in enumerate(texts(together, "differing")):
        assert "the 2 processes are not of one training" in text
        assert "\n  data: rank 1\n  seed: rank 1\n" in text
        assert f"This is rank {rank} on " in text


# -- how they are found ----------------------------------------------------------------------------------------------

ADDRESS = {"JAX_COORDINATOR_ADDRESS": "first:1234"}
SLURM = {
    "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[1-2]", "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}  # fmt: skip


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the environment of a process, and gives what JAX would be told of the others."""
    for name in os.environ:
        if name.startswith(("SLURM", "OMPI", "TPU", "JAX_COORD", "JAX_NUM", "JAX_PROC", "KUBERNETES", "JOB")):
            monkeypatch.delenv(name)

    def named(**values: str) -> Any:
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        return sharding.named_processes()

    return named


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {**ADDRESS, "JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"},
        {**SLURM, "SLURM_NTASKS": "1"},
        {**SLURM, "JAX_NUM_PROCESSES": "1"},
        {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0"},
        {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_MCA_orte_hnp_uri": "x", "OMPI_COMM_WORLD_RANK": "0"},
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
        {"TPU_WORKER_HOSTNAMES": "one"},
    ],
    ids=["nothing", "one of one", "one task", "told so", "a script without srun", "one of MPI", "a pod", "one host"],
)
def test_a_process_that_is_alone_is_not_connected(environment: dict[str, str], started: Any) -> None:
    assert started(**environment) is None


def test_variables_say_what_jax_is_told(started: Any) -> None:
    told = {"coordinator_address": "first:1234", "num_processes": 3, "process_id": 2}
    found = started(**ADDRESS, JAX_NUM_PROCESSES="3", JAX_PROCESS_ID="2")
    assert found == {**told, "cluster_detection_method": "deactivate"}


@pytest.mark.parametrize(
    "environment",
    [
        SLURM,
        {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_MCA_orte_hnp_uri": "x", "OMPI_COMM_WORLD_RANK": "0"},
        {"TPU_WORKER_HOSTNAMES": "one,two"},
    ],
    ids=["Slurm", "Open MPI", "TPU"],
)
def test_a_cluster_is_asked_for_what_no_variable_says(environment: dict[str, str], started: Any) -> None:
    nothing = dict.fromkeys(("coordinator_address", "num_processes", "process_id"))
    assert started(**environment) == nothing
    assert started(**ADDRESS) == {**nothing, "coordinator_address": "first:1234"}


@pytest.mark.parametrize(
    ("count", "rank", "message"),
    [
        ("two", "0", "JAX_NUM_PROCESSES='two' must be a number of at least 0"),
        ("2", "-1", "JAX_PROCESS_ID='-1' must be a number of at least 0"),
        ("2", "2", "JAX_PROCESS_ID=2 must be below JAX_NUM_PROCESSES=2: the first process is 0"),
    ],
)
def test_variables_that_are_wrong_are_named(count: str, rank: str, message: str, started: Any) -> None:
    with pytest.raises(ValueError, match=message):
        started(**ADDRESS, JAX_NUM_PROCESSES=count, JAX_PROCESS_ID=rank)


def test_processes_are_connected_before_jax_has_devices_or_not_at_all(started: Any) -> None:
    jax.devices()
    started(**ADDRESS, JAX_NUM_PROCESSES="2", JAX_PROCESS_ID="0")
    with pytest.raises(
        ValueError, match=r"must be called before any JAX calls .* Start each with JAX_COORDINATOR_ADDR"
    ):
        sharding.join("data")
    assert sharding.join("none").count == 1


# -- all tasks -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_task_in_two_processes_of_four_devices_trains_as_in_one(tmp_path: Path) -> None:
    together = in_two_processes(tmp_path, SHARDINGS, CASES, 4)
    for case in CASES:
        for sharded in SHARDINGS:
            check_as_one(case, sharded, together)
    assert [texts(together, f"share-{sharded}") for sharded in SHARDINGS] == [["1.0"] * 2, ["0.125"] * 2]
    assert texts(together, "stopped") == ["2", "2"]
    first, second = texts(together, "failure")
    assert first == "update 2 fails"
    assert "the first process has ended the training" in second


if __name__ == "__main__":
    split = sys.argv.index("of")
    serve(Path(sys.argv[1]), sys.argv[2:split], sys.argv[split + 1 :])
