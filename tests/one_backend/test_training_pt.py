"""Training in PyTorch only: several processes, a DataLoader with workers, compiled code, bfloat16.

Run as a program under torchrun, this file is one of several processes: `test_training_pt.py FOLDER`.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import updates  # noqa: E402
from backends import assert_close, backend  # noqa: E402
from child_processes import child_environment  # noqa: E402
from sharded_runs import CASES, OPTIONED, SHARDINGS, UPDATES, run_of, trained  # noqa: E402

from roberta.common.parameters import parameters  # noqa: E402
from roberta.common.training.data.batches import MicroBatch, count_targets, rows_of_rank  # noqa: E402
from roberta.common.training.data.tasks import HEADS  # noqa: E402
from roberta.common.training.lora import LoraOptions, new_adapter  # noqa: E402
from roberta.common.training.optimizer_state import load_training_state  # noqa: E402

# Name -> case, sharding and settings of what only several processes at once are tried with.
LOW = {
    f"{dtype}-{sharding}": ("mlm", sharding, {"dtype": dtype})
    for dtype in ("float16", "bfloat16")
    for sharding in SHARDINGS
}


def with_adapter() -> updates.ShortRun:
    """A run that trains an adapter of which B is not zero either."""
    table = parameters(updates.config_of("choices", num_hidden_layers=2), "ForMultipleChoice")
    start = new_adapter(LoraOptions(2, 6.0, ("query", "output.dense")), table, 3, "base")
    rng = np.random.default_rng(4)
    pairs = {name: (a, rng.normal(0.0, 0.3, b.shape)) for name, (a, b) in start.pairs.items()}
    return run_of("choices", lora=dataclasses.replace(start, pairs=pairs))


def serve(folder: Path) -> None:
    """Run one of several processes: train every case in every way, and notice a failure of the first one."""
    from roberta.pt.parts_files import begin_parts

    for sharding in SHARDINGS:
        for case in CASES:
            run = run_of(case, sharding)
            run.folder = folder / f"{case}-{sharding}"
            trainer = trained(folder, case, run)
            if run.losses:
                (run.folder / "losses.json").write_text(json.dumps(run.losses))
            else:
                assert torch.distributed.get_rank() == 1, "the first process sees every update, the others none"
            if case in OPTIONED:  # averages too
                begin_parts(trainer, run.folder / "parts").wait()
    for name, (case, sharding, changed) in LOW.items():
        run = run_of(case, sharding, **changed)
        run.folder = folder / name
        trained(folder, case, run)
        if run.losses:
            (run.folder / "losses.json").write_text(json.dumps(run.losses))
    adapted = with_adapter()
    adapted.settings = dataclasses.replace(adapted.settings, sharding="data")
    adapted.folder = folder / "adapter"
    trained(folder, "choices", adapted)
    if adapted.losses:
        (adapted.folder / "losses.json").write_text(json.dumps(adapted.losses))
    stopping = run_of("numbers", "data")
    stopping.stops_at = 2
    (folder / f"stopped-{torch.distributed.get_rank()}.txt").write_text(
        str(trained(folder, "numbers", stopping).state().step)
    )
    failing = run_of("tokens", "data")
    failing.fails_at = 2
    with pytest.raises((ValueError, RuntimeError)) as caught:
        trained(folder, "tokens", failing)
    (folder / f"failure-{torch.distributed.get_rank()}.txt").write_text(str(caught.value))
    torch.distributed.destroy_process_group()


def serve_compiled(folder: Path) -> None:
    """One of several processes: train one case in both ways, with compiled code."""
    from torch._dynamo.utils import counters

    for sharding in SHARDINGS:
        run = run_of("tokens", sharding, compile=True)
        run.folder = folder / f"tokens-{sharding}-compiled"
        trained(folder, "tokens", run)
        if run.losses:
            assert counters["stats"]["unique_graphs"] > 0
            (run.folder / "losses.json").write_text(json.dumps(run.losses))
    torch.distributed.destroy_process_group()


def in_two_processes(folder: Path, *arguments: str) -> Path:
    """The folder, with the results of this file's `serve` or `serve_compiled` under torchrun."""
    for case in CASES:  # two layers, because sharding="full" gathers one layer after another
        updates.folder_of(folder, case, num_hidden_layers=2)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    done = subprocess.run(
        [*command, str(folder), *arguments], env=child_environment(), capture_output=True, text=True, timeout=300
    )
    assert not done.returncode, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of training in two processes."""
    return in_two_processes(tmp_path_factory.mktemp("together"))


@pytest.mark.parametrize("sharding", SHARDINGS)
@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one_does(case: str, sharding: str, together: Path, tmp_path: Path) -> None:
    alone = run_of(case)
    trainer = trained(together, case, alone)
    folder = together / f"{case}-{sharding}"
    assert json.loads((folder / "losses.json").read_text()) == pytest.approx(alone.losses, rel=1e-10)
    model = backend("pt").load(HEADS[alone.settings.task], folder)
    for name, wanted in trainer.model.state_dict().items():
        assert_close(model.state_dict()[name].numpy(), wanted.numpy(), 1e-8, name)
    moments, state = trainer.state().moments, load_training_state(folder)
    assert state.step == UPDATES
    weights = trainer.state().weights
    assert state.weights.keys() == weights.keys() == (set(trainer.state().parameters) if case in OPTIONED else set())
    for name, wanted in weights.items():
        assert_close(state.weights[name], wanted, 1e-8, name)
    for name, wanted in moments.items():
        if np.abs(wanted).max() > 1e-14:  # a bias that does not change the softmax has gradients of only rounding
            assert_close(state.moments[name], wanted, 1e-7, name)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # one process is meant
@pytest.mark.parametrize("sharding", SHARDINGS)
@pytest.mark.parametrize("case", OPTIONED)
def test_one_process_takes_over_the_parts_of_two(case: str, sharding: str, together: Path) -> None:
    """What it then has is what the whole checkpoint of the same update holds."""
    from roberta.pt.parts_files import restore_parts
    from roberta.pt.training import Trainer

    folder = together / f"{case}-{sharding}"
    state = load_training_state(folder)
    model = backend("pt").load(HEADS[run_of(case).settings.task], together / case, dtype="float64")
    trainer = Trainer(model, run_of(case).settings)
    outline = dataclasses.replace(state, moments={}, weights={})
    restore_parts(trainer, folder / "parts", outline)
    wanted = backend("pt").load(HEADS[run_of(case).settings.task], folder).state_dict()
    for name, tensor in trainer.model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), wanted[name].numpy(), name)
    found = trainer.state()
    assert (found.step, found.moments.keys()) == (UPDATES, state.moments.keys())
    for name, array in {**state.moments, **{f"trained.{name}": one for name, one in state.weights.items()}}.items():
        other = found.weights[name.removeprefix("trained.")] if name.startswith("trained.") else found.moments[name]
        np.testing.assert_array_equal(other, array, name)


@pytest.mark.parametrize("name", LOW)
def test_two_processes_scale_the_loss_as_one_does(name: str, together: Path) -> None:
    """Sums in 16 bits depend on how rows are divided, so the losses are the same to its digits only."""
    case, sharding, changed = LOW[name]
    alone = run_of(case, **changed)
    trainer = trained(together, case, alone)
    found = json.loads((together / name / "losses.json").read_text())
    assert found == pytest.approx(alone.losses, rel={"float16": 2e-3, "bfloat16": 2e-2}[changed["dtype"]])
    wanted, state = trainer.state().loss_scale, load_training_state(together / name).loss_scale
    if wanted is None:
        assert state is None
        return
    # gradients of two processes are averaged, so each has twice its own, which overflow at half the scale; with "full" those
    # of norms and biases have 16 bits too, and are sums over more
    least = 4 if sharding == "full" else 2
    assert state is not None
    assert wanted[0] / least <= state[0] <= wanted[0]


def test_two_processes_train_an_adapter_as_one_does(together: Path) -> None:
    alone = with_adapter()
    trainer = trained(together, "choices", alone)
    folder = together / "adapter"
    assert json.loads((folder / "losses.json").read_text()) == pytest.approx(alone.losses, rel=1e-10)
    state = load_training_state(folder)
    for name, wanted in trainer.state().moments.items():
        if np.abs(wanted).max() > 1e-14:
            assert_close(state.moments[name], wanted, 1e-7, name)


@pytest.mark.slow
def test_two_processes_with_compiled_code_train_as_one_does(tmp_path: Path) -> None:
    folder = in_two_processes(tmp_path, "compiled")
    alone = run_of("tokens")
    trained(folder, "tokens", alone)
    for sharding in SHARDINGS:
        losses = json.loads((folder / f"tokens-{sharding}-compiled" / "losses.json").read_text())
        assert losses == pytest.approx(alone.losses, rel=1e-10)


def test_a_training_that_stops_early_stops_in_all_processes(together: Path) -> None:
    assert [(together / f"stopped-{rank}.txt").read_text() for rank in range(2)] == ["2", "2"]


def test_a_failure_of_the_first_process_ends_the_others(together: Path) -> None:
    assert (together / "failure-0.txt").read_text() == "update 2 fails"
    assert "the first process has ended the training" in (together / "failure-1.txt").read_text()


def test_several_processes_need_torchrun(tmp_path: Path) -> None:
    updates.folder_of(tmp_path, "tokens")
    with pytest.raises(ValueError, match="sharding='data' is for several processes, and this is one alone; start it"):
        trained(tmp_path, "tokens", run_of("tokens", "data"))


@pytest.mark.parametrize("case", updates.CASES)
def test_rows_of_all_ranks_are_those_of_the_micro_batch(case: str) -> None:
    """Each row is in one rank, and the shares of ranks without a target are 0."""
    task = updates.CASES[case][0]
    (whole,) = updates.micro_batches(case, updates.inputs(case, updates.config_of(case), 3))
    found = [rows_of_rank(whole.inputs, task, rank, 4) for rank in range(4)]
    assert sum(share for _, share in found) == pytest.approx(1.0)
    assert found[3][1] == 0.0
    assert all(count_targets(inputs, task) for inputs, _ in found)
    rows = [inputs["input_ids"] for inputs, share in found if share]
    np.testing.assert_array_equal(np.concatenate(rows), whole.inputs["input_ids"])


def test_places_of_masked_tokens_are_counted_in_the_rows_of_their_rank() -> None:
    (whole,) = updates.micro_batches("mlm", updates.inputs("mlm", updates.config_of("mlm"), 3))
    for rank in range(3):
        inputs, _ = rows_of_rank(whole.inputs, "mlm", rank, 3)
        masked = np.flatnonzero(inputs["input_ids"] == updates.MASK)
        np.testing.assert_array_equal(inputs["positions"], masked)


# JAX, if another test has imported it, warns about every fork; the workers use only numpy
@pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning")
def test_workers_change_no_number(tmp_path: Path) -> None:
    updates.folder_of(tmp_path, "tokens")
    losses = []
    for workers in (0, 2):
        run = run_of("tokens")
        trained(tmp_path, "tokens", run, workers=workers)
        losses.append(run.losses)
    assert len(losses[0]) == UPDATES
    assert losses[0] == losses[1]


def test_a_run_that_goes_on_makes_the_updates_that_are_left(tmp_path: Path) -> None:
    updates.folder_of(tmp_path, "tokens")
    whole = run_of("tokens")
    trained(tmp_path, "tokens", whole)
    first = run_of("tokens")
    first.stop, first.folder = 2, tmp_path / "stopped"
    trained(tmp_path, "tokens", first)
    (tmp_path / "rest").mkdir()
    rest = run_of("tokens")
    rest.start, rest.resumed = 2, load_training_state(tmp_path / "stopped")
    (tmp_path / "rest" / "tokens").symlink_to(tmp_path / "stopped")
    trained(tmp_path / "rest", "tokens", rest)
    assert first.losses + rest.losses == whole.losses


def test_bfloat16_keeps_weights_and_loss_in_float32(tmp_path: Path) -> None:
    folder = updates.folder_of(tmp_path, "mlm")
    batches = updates.micro_batches("mlm", updates.inputs("mlm", updates.config_of("mlm")))
    wanted = updates.trainer(backend("pt"), "mlm", folder, dtype="float32").update(batches, 1e-3, 1)
    trainer = updates.trainer(backend("pt"), "mlm", folder, dtype="bfloat16")
    found = trainer.update(batches, 1e-3, 1)
    assert found != wanted
    assert found == pytest.approx(wanted, rel=0.05)
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}
    assert {array.dtype.name for array in trainer.state().moments.values()} == {"float32"}


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # raised by PyTorch's compiler itself
@pytest.mark.parametrize("compiler", ["aot_eager", "inductor"])
def test_compiled_code_gives_the_same_losses(compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users have "inductor", which compiles C++; "aot_eager" runs the same graphs without."""
    from torch._dynamo.utils import counters

    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend=compiler))
    torch.compiler.reset()  # graphs are kept across models
    folder = updates.folder_of(tmp_path, "mlm")
    batches = updates.micro_batches("mlm", updates.inputs("mlm", updates.config_of("mlm")))
    losses = []
    counters.clear()
    for compiles in (False, True):
        trainer = updates.trainer(backend("pt"), "mlm", folder, compile=compiles)
        losses.append([trainer.update(batches, 1e-3, number) for number in (1, 2)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-10)
    assert counters["stats"]["unique_graphs"] > 0


def test_the_random_numbers_of_the_caller_are_left_alone(tmp_path: Path) -> None:
    folder = updates.folder_of(tmp_path, "mlm", hidden_dropout_prob=0.1)
    trainer = updates.trainer(backend("pt"), "mlm", folder)
    batches = updates.micro_batches("mlm", updates.inputs("mlm", updates.config_of("mlm")))
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    trainer.update(batches, 1e-3, 1)
    assert torch.equal(torch.rand(3), wanted)


def test_gradients_that_are_not_finite_change_nothing(tmp_path: Path) -> None:
    """A finite loss can have them: here for a weight that does not affect the loss of the batch."""
    trainer = updates.trainer(backend("pt"), "tokens", updates.folder_of(tmp_path, "tokens"))
    arrays = updates.inputs("tokens", updates.config_of("tokens"))
    trainer.model.classifier.bias.register_hook(lambda gradient: gradient * np.inf)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    found = trainer.update([MicroBatch(arrays, 1.0)], 1e-3, 1)
    assert not np.isfinite(found)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.model.state_dict().items())


if __name__ == "__main__":
    (serve_compiled if sys.argv[2:] == ["compiled"] else serve)(Path(sys.argv[1]))
