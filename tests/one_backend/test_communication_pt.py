"""Bytes that an update moves between the processes in PyTorch, counted, beside the formulas of docs/scale.md.

Run as a program under torchrun, this file is one of several processes: `test_communication_pt.py FOLDER`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import updates  # noqa: E402
from backends import backend  # noqa: E402
from child_processes import child_environment  # noqa: E402
from sharded_runs import SHARDINGS  # noqa: E402

from benchmarks.scale import Sizes, traffic  # noqa: E402
from roberta.common.training.data.tasks import HEADS  # noqa: E402

CASE, LAYERS, WORLD, ITEM = "classes", 2, 2, 8  # bytes of a float64
# torch.distributed's function -> what its tensors are counted as
COLLECTIVES = {
    "c10d::allreduce_": "all-reduce", "c10d::_allgather_base_": "all-gather",
    "c10d::_reduce_scatter_base_": "reduce-scatter", "c10d::broadcast_": "broadcast", "c10d::allgather_": "all-gather",
    "_c10d_functional::all_gather_into_tensor": "all-gather", "_c10d_functional::all_reduce": "all-reduce",
    "_c10d_functional::reduce_scatter_tensor": "reduce-scatter",
}  # fmt: skip


def elements(name: str, arguments: Any) -> int:
    """The elements of the whole tensor of a collective: of what is gathered or reduced, not of one process's part."""
    found = [one.numel() for one in tensors_in(arguments)]
    return max(found) if "base" in name else sum(found)


def tensors_in(value: Any) -> list[Any]:
    """The tensors in nested lists."""
    if isinstance(value, torch.Tensor):
        return [value]
    return [one for part in value for one in tensors_in(part)] if isinstance(value, list | tuple) else []


def counted(trainer: Any, batches: Any) -> dict[str, int]:
    """Bytes of each collective in one update."""
    total: Counter[str] = Counter()

    class Counting(torch.utils._python_dispatch.TorchDispatchMode):  # type: ignore[misc]
        """Sees each operation."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func.name()
            if name in COLLECTIVES:
                total[COLLECTIVES[name]] += elements(name, args) * tensors_in(args)[0].element_size()
            return func(*args, **(kwargs or {}))

    with Counting():
        trainer.update(batches, 1e-3, 3)
    return dict(total)


def serve(folder: Path) -> None:
    """Count an update of one micro-batch and one of three, in each way."""
    from roberta.pt.training import Trainer

    found = {}
    arrays = updates.inputs(CASE, updates.config_of(CASE), 6)
    for sharding in SHARDINGS:
        model = backend("pt").load(HEADS["text-classification"], folder / CASE, dtype="float64")
        sizes = {
            "elements": sum(parameter.numel() for parameter in model.parameters()),
            "layers": sum(parameter.numel() for parameter in model.base_model.encoder.parameters()),
        }
        trainer = Trainer(model, updates.settings(CASE, sharding=sharding))
        for number in (1, 2):  # the first ones also make buckets
            trainer.update(updates.micro_batches(CASE, arrays), 1e-3, number)
        for size in (6, 2):
            found[f"{sharding}-{6 // size}"] = counted(trainer, updates.micro_batches(CASE, arrays, size))
        found[f"{sharding}-parameters"] = sizes
    if torch.distributed.get_rank() == 0:
        (folder / "counted.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What two processes have counted."""
    folder = tmp_path_factory.mktemp("counted")
    updates.folder_of(folder, CASE, num_hidden_layers=LAYERS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(WORLD), __file__]
    done = subprocess.run([*command, str(folder)], env=child_environment(), capture_output=True, text=True, timeout=300)
    assert not done.returncode, done.stderr[-3000:]
    return json.loads((folder / "counted.json").read_text())


def sizes_of(found: Any, sharding: str) -> Sizes:
    """The numbers of parameters of the model that was trained."""
    counts = found[f"{sharding}-parameters"]
    return Sizes(counts["elements"], counts["layers"], counts["layers"] // LAYERS)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_data_all_reduces_the_gradients_once(count: int, found: Any) -> None:
    """P elements, however many micro-batches; beside them one number, the loss."""
    wanted = traffic(sizes_of(found, "data"), "data", count).all_reduce / 4 * ITEM
    assert found[f"data-{count}"]["all-reduce"] == pytest.approx(wanted, abs=16)
    assert found[f"data-{count}"].keys() == {"all-reduce"}


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_full_gathers_the_weights_twice_and_scatters_the_gradients(count: int, found: Any) -> None:
    """In each micro-batch; what is beside the layers is kept after the forward pass, and gathered once.

    The parts of all processes have one length, so a small tensor has a few elements more.
    """
    wanted, moved = traffic(sizes_of(found, "full"), "full", count), found[f"full-{count}"]
    assert moved["reduce-scatter"] == pytest.approx(wanted.reduce_scatter / 4 * ITEM, rel=0.01)
    assert moved["all-gather"] == pytest.approx(wanted.all_gather / 4 * ITEM, rel=0.01)
    assert moved["all-reduce"] <= 16


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
