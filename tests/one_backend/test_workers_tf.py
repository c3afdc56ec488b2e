"""Several processes that train one model in TensorFlow: the same losses and weights as in one process.

Run as a program, this file is one of them, or a process with as many devices as they have together:
`test_workers_tf.py FOLDER DEVICES`.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
keras = pytest.importorskip("keras", reason="keras is not installed")

import updates  # noqa: E402
from backends import assert_close, backend  # noqa: E402
from worker_processes import Started, tf_config  # noqa: E402

from roberta.common.parameters import parameters  # noqa: E402
from roberta.common.training.data.batches import MicroBatch  # noqa: E402
from roberta.common.training.data.tasks import HEADS  # noqa: E402
from roberta.common.training.lora import LoraOptions, new_adapter  # noqa: E402
from roberta.common.training.optimizer_state import load_training_state  # noqa: E402
from roberta.common.training.processes import OneProcess  # noqa: E402

UPDATES, ROWS = 3, 5
# Name -> the case, the rows of a micro-batch (5 are one micro-batch), and what the settings have beside.
CASES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "options": ("mlm", 2, {}),
    "weights of classes": ("tokens", 2, {}),
    "one micro-batch": ("numbers", 5, {}),
    "adapter": ("classes", 2, {}),
    "dropout": ("choices", 2, {}),
    "float16": ("answers", 2, {"dtype": "float16"}),
}
SAME_ALONE = ("options", "weights of classes", "one micro-batch", "adapter")  # dropout is drawn for each device
DROPOUT = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}


class Overflowing(updates.Listed):
    """Micro-batches whose gradients overflow in float16 in the second update, with the first scale of the loss."""

    def update(self, number: int) -> list[MicroBatch]:
        return [replace(one, weight=one.weight * (1e3 if number == 2 else 1)) for one in super().update(number)]


def run_of(name: str, sharding: Any = "none") -> updates.ShortRun:
    case, size, changed = CASES[name]
    chosen = updates.settings(case, sharding=sharding, **changed)
    if name in ("options", "weights of classes"):
        chosen = updates.with_options(chosen)
    if name == "adapter":
        table = parameters(updates.config_of(case), HEADS[chosen.task])
        chosen = replace(chosen, lora=new_adapter(LoraOptions(2, 6.0, ("query", "output.dense")), table, 3, "base"))
    listed = (Overflowing if name == "float16" else updates.Listed)(
        case, updates.config_of(case), ROWS, size, chosen.class_weights
    )
    return updates.ShortRun(chosen, listed, UPDATES)


def trained(folder: Path, name: str, run: updates.ShortRun, **options: Any) -> Any:
    from roberta.tf.training import train

    dtype = "float64" if run.settings.dtype == "float64" else "float32"
    return train(backend("tf").load(HEADS[run.settings.task], folder / CASES[name][0], dtype=dtype), run, **options)


class StopsOne(keras.callbacks.Callback):
    """Stops the training after its second update, in one of the processes."""

    def __init__(self, stops: bool) -> None:
        super().__init__()
        self.stops = stops

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.model.stop_training = self.stops and batch == 1


def serve(folder: Path, devices: int) -> None:
    """Train every case, and as one of several processes also notice what ends a training."""
    is_alone = "TF_CONFIG" not in os.environ
    if devices > 1:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * devices
        )
    if not is_alone and devices > 1:
        take_all_cpus(devices)
    from roberta.tf import sharding

    rank = 0 if sharding.is_first() else 1
    for name in CASES:
        run = run_of(name, "data")
        run.folder = folder / f"{name} in {'devices' if is_alone else 'processes'}"
        trained(folder, name, run)
        if rank == 0:
            (run.folder / "losses.json").write_text(json.dumps(run.losses))
        else:
            assert not run.losses, "the first process sees every update, the others none"
    if is_alone or devices > 1:
        return
    said: dict[str, Any] = {}
    stopping = run_of("one micro-batch", "data")
    stopping.stops_at = 2
    said["stopped"] = trained(folder, "one micro-batch", stopping).state().step
    callbacks = [StopsOne(bool(rank))] if rank else []
    said["stopped by a callback"] = (
        trained(folder, "one micro-batch", run_of("one micro-batch", "data"), callbacks=callbacks).state().step
    )
    failing = run_of("one micro-batch", "data")
    failing.fails_at = 2
    said["failed"] = failure(folder, failing)
    other = run_of("one micro-batch", "data")
    other.agreement = {"seed": rank, "task": "text-classification"}
    said["other seed"] = failure(folder, other)
    wrong = run_of("one micro-batch", "data")
    update = wrong.batches.update

    def with_unknown_id(number: int) -> list[MicroBatch]:
        batches = update(number)
        batches[-1].inputs["input_ids"][-1, 2] = 5000 if number == 2 else 5
        return batches

    wrong.batches.update = with_unknown_id
    said["unknown id"] = failure(folder, wrong)
    (folder / f"said-{rank}.json").write_text(json.dumps(said))


def take_all_cpus(devices: int) -> None:
    """Have each process take its logical CPUs, as it takes its GPUs: TensorFlow itself takes one CPU of each."""
    from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceExtended

    def local_devices(self: Any, resolver: Any, worker: str) -> tuple[tuple[str, ...], str]:
        return tuple(f"{worker}/device:CPU:{number}" for number in range(devices)), "CPU"

    CollectiveAllReduceExtended._initialize_local_devices = local_devices


def failure(folder: Path, run: updates.ShortRun) -> str:
    """What the error of a training says."""
    try:
        trained(folder, "one micro-batch", run)
    except (ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


@pytest.fixture(scope="module", params=[1, 2], ids="{}-devices-each".format)
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what two processes have trained, and one with all devices."""
    folder = tmp_path_factory.mktemp("together")
    for case, _, _ in CASES.values():
        updates.folder_of(folder, case, **(DROPOUT if case == "choices" else {}))
    several = Started([[__file__, str(folder), str(request.param)]] * 2, folder)
    alone = Started([[__file__, str(folder), str(2 * request.param)]], folder, "alone")
    assert several.statuses() == [0, 0], several.said(0)[-3000:] + several.said(1)[-3000:]
    assert alone.statuses() == [0], alone.said(0)[-3000:]
    return folder


def check_state(found: Any, wanted: Any, tolerance: float) -> None:
    """Compare weights that are trained, and moments, by their size."""
    assert found.step == wanted.step == UPDATES
    assert found.loss_scale == wanted.loss_scale
    assert found.weights.keys() == wanted.weights.keys()
    assert found.moments.keys() == wanted.moments.keys()
    for name, weights in wanted.weights.items():
        assert_close(np.asarray(found.weights[name]), np.asarray(weights), tolerance, name)
    scale = max(np.abs(np.asarray(one)).max() for one in wanted.moments.values())
    for name, moment in wanted.moments.items():
        assert np.abs(np.asarray(found.moments[name]) - np.asarray(moment)).max() < tolerance * scale, name


def check_model(folder: Path, name: str, wanted: Any, tolerance: float) -> None:
    """Compare the weights of the model in a folder."""
    head = HEADS[updates.CASES[CASES[name][0]][0]]
    model = backend("tf").load(head, folder, dtype="float32" if name == "float16" else "float64")
    found = backend("tf").parameters(model)
    for parameter, array in backend("tf").parameters(wanted).items():
        assert_close(found[parameter], array, tolerance, parameter)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one_with_all_devices_does(name: str, together: Path) -> None:
    several, alone = (together / f"{name} in {where}" for where in ("processes", "devices"))
    found, wanted = (json.loads((folder / "losses.json").read_text()) for folder in (several, alone))
    is_low = name == "float16"
    assert len(found) == UPDATES
    assert found == pytest.approx(wanted, rel=1e-4 if is_low else 1e-10)
    states = [load_training_state(folder) for folder in (several, alone)]
    check_state(states[0], states[1], 1e-4 if is_low else 1e-10)
    if is_low:
        assert states[0].loss_scale is not None
        assert states[0].loss_scale[0] < 2.0**16
    head = HEADS[updates.CASES[CASES[name][0]][0]]
    peer = backend("tf").load(head, alone, dtype="float32" if is_low else "float64")
    check_model(several, name, peer, 1e-4 if is_low else 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAME_ALONE)
def test_two_processes_train_as_one_alone_does(name: str, together: Path) -> None:
    run, folder = run_of(name), together / f"{name} in processes"
    trainer = trained(together, name, run)
    assert json.loads((folder / "losses.json").read_text()) == pytest.approx(run.losses, rel=1e-10)
    check_model(folder, name, trainer.model, 1e-10)
    check_state(load_training_state(folder), trainer.state(), 1e-10)


@pytest.mark.slow
def test_the_losses_in_float16_are_near_those_of_one_process(together: Path) -> None:
    """And the scale of the loss is the same: all processes make an update again where gradients of one overflow."""
    run, folder = run_of("float16"), together / "float16 in processes"
    trainer = trained(together, "float16", run)
    assert json.loads((folder / "losses.json").read_text()) == pytest.approx(run.losses, rel=0.02)
    assert load_training_state(folder).loss_scale == trainer.state().loss_scale


@pytest.mark.slow
@pytest.mark.parametrize("together", [1], indirect=True, ids=["1-device-each"])
def test_what_ends_a_training_in_one_process_ends_it_in_all(together: Path) -> None:
    said = [json.loads((together / f"said-{rank}.json").read_text()) for rank in range(2)]
    assert [one["stopped"] for one in said] == [2, 2]
    assert [one["stopped by a callback"] for one in said] == [2, 2]
    assert said[0]["failed"] == "ValueError: update 2 fails"
    assert said[1]["failed"].startswith("RuntimeError: the first process has ended the training")
    for one in said:
        assert one["other seed"].startswith("ValueError: the 2 processes are not of one training.")
        assert "\n  seed: rank 1\n" in one["other seed"]
        assert "task: " not in one["other seed"]
    assert said[0]["unknown id"].startswith("ValueError: update 2: input_ids holds 5000")
    assert said[1]["unknown id"].startswith("RuntimeError: another one of the 2 processes of this training has ended")


# -- the pieces, in one process ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0.1, 2.0**31 - 1, float("inf"), -1e-300])
def test_a_number_of_each_process_is_not_rounded(number: float) -> None:
    from roberta.tf.sharding import Workers, total

    alone = Workers(tf.distribute.MirroredStrategy(["CPU:0"]), 0, 1)
    assert alone.numbers(number) == [number]
    assert total(number, alone) == total(number, OneProcess()) == number
    assert alone.gathered(7) == [7]


CHIEF = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ("", (0, 1)),
        ("{}", (0, 1)),
        (tf_config([1], 0), (0, 1)),
        (tf_config([1, 2, 3], 2), (2, 3)),
        (json.dumps({"cluster": CHIEF, "task": {"type": "chief", "index": 0}}), (0, 3)),
        (json.dumps({"cluster": CHIEF, "task": {"type": "worker", "index": 1}}), (2, 3)),
    ],
)
def test_the_rank_of_a_process_is_its_place_in_tf_config(
    config: str, wanted: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from roberta.tf.sharding import place_in_cluster

    monkeypatch.setenv("TF_CONFIG", config)
    if not config:
        monkeypatch.delenv("TF_CONFIG")
    assert place_in_cluster() == wanted


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "cannot be read: JSONDecodeError"),
        (json.dumps({"cluster": {"worker": 3}}), "cannot be read: TypeError"),
        (tf_config([1, 2], 2), "says that this process is 'worker' 2, which its cluster does not list"),
        (json.dumps({"cluster": {"worker": ["a:1", "b:1"]}}), "says that this process is None None"),
        (
            json.dumps({"cluster": {**CHIEF, "ps": ["d:1"]}, "task": {"type": "ps", "index": 0}}),
            r"lists \['chief', 'ps', 'worker'\], and a training has only a chief and workers",
        ),
    ],
)
def test_a_tf_config_that_says_too_little_is_refused(config: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from roberta.tf.sharding import place_in_cluster

    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match=words):
        place_in_cluster()


def test_processes_that_cannot_be_connected_any_more_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from roberta.tf.sharding import connected

    assert float(tf.constant(1.0)) == 1
    monkeypatch.setenv("TF_CONFIG", tf_config([1, 2], 0))
    connected.cache_clear()
    try:
        with pytest.raises(ValueError, match=r"the 2 processes that TF_CONFIG lists cannot be connected: .*startup"):
            connected()
    finally:
        connected.cache_clear()


def test_another_kind_of_device_than_that_of_the_processes_is_refused() -> None:
    from roberta.tf.sharding import check_kind

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    check_kind(strategy, None)
    check_kind(strategy, "CPU:0")
    with pytest.raises(
        ValueError, match="device='GPU:0' is wanted, and several processes of TensorFlow take their CPUs"
    ):
        check_kind(strategy, "GPU:0")


def test_an_error_because_a_process_has_ended_says_so() -> None:
    from roberta.tf.sharding import Workers, loss_of_processes_named

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with (
        pytest.raises(RuntimeError, match=r"another one of the 2 processes .* has ended.*--resume.*Socket closed"),
        loss_of_processes_named(Workers(strategy, 0, 2)),
    ):
        raise tf.errors.UnavailableError(None, None, "Socket closed")
    with pytest.raises(tf.errors.UnavailableError), loss_of_processes_named(OneProcess()):
        raise tf.errors.UnavailableError(None, None, "Socket closed")


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
