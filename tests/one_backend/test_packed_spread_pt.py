"""PyTorch with the rows of a batch end to end: in several processes, in 16 bits, and compiled.

Run as a program under torchrun, this file is one of several processes: `test_packed_spread_pt.py FOLDER`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.attention.varlen as kernels  # noqa: E402
import updates  # noqa: E402
from backends import backend  # noqa: E402
from child_processes import child_environment  # noqa: E402
from torch._dynamo.utils import counters  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from roberta.common.training.data.tasks import HEADS  # noqa: E402
from roberta.pt import packed, training  # noqa: E402

UPDATES, ROWS, SIZE = 2, 6, 3  # each of two processes has rows of every micro-batch
# Case, sharding and dtype of each training in two processes.
SPREAD = [
    ("mlm", "full", "float64"), ("answers", "full", "float64"), ("tokens", "data", "float64"),
    ("choices", "data", "float64"), ("mlm", "full", "bfloat16"), ("classes", "full", "bfloat16"),
    ("classes", "full", "float16"), ("mlm", "full", "float32"),
]  # fmt: skip


class Collectives(TorchDispatchMode):
    """Notes the dtypes of what processes gather and add."""

    def __init__(self) -> None:
        super().__init__()
        self.gathered: set[str] = set()
        self.added: set[str] = set()

    def __torch_dispatch__(self, function: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(function)
        if name.startswith("c10d.") and ("scatter" in name or "allgather" in name):
            dtypes = {str(leaf.dtype) for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)}
            (self.added if "scatter" in name else self.gathered).update(dtypes)
        return function(*args, **(kwargs or {}))


def losses_of(folder: Path, case: str, sharding: Any = "none", dtype: Any = "float64") -> list[float]:
    """The losses of a short training; with "mlm" layers are computed twice."""
    chosen = updates.settings(case, sharding=sharding, dtype=dtype, gradient_checkpointing=case == "mlm")
    run = updates.ShortRun(chosen, updates.Listed(case, updates.config_of(case), ROWS, SIZE), UPDATES)
    wide = "float64" if dtype == "float64" else "float32"
    trainer = training.train(backend("pt").load(HEADS[chosen.task], folder / case, dtype=wide), run)
    assert {p.dtype for p in trainer._trained.parameters()} == {getattr(torch, wide)}
    assert {moments.dtype.name for moments in trainer.state().moments.values()} == {wide}
    return run.losses


def noted(folder: Path, case: str, sharding: str, dtype: str) -> dict[str, Any]:
    """The losses of a training of packed tokens, how often they were packed, and what processes exchanged."""
    made: list[Any] = []
    with pytest.MonkeyPatch.context() as patch, Collectives() as collectives:
        loss = training.packed_loss
        patch.setattr(packed, "PACKS_ALL", True)
        patch.setattr(training, "packed_loss", lambda *given: made.append(given[1]) or loss(*given))
        losses = losses_of(folder, case, sharding, dtype)
    exchanged = [sorted(collectives.gathered), sorted(collectives.added)]
    return {"losses": losses, "packed": len(made), "exchanged": exchanged}


def serve(folder: Path) -> None:
    """Be one of several processes."""
    found = [noted(folder, *spread) for spread in SPREAD]
    (folder / f"found-{torch.distributed.get_rank()}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of `serve` in two processes."""
    folder = tmp_path_factory.mktemp("together")
    for case in {case for case, _, _ in SPREAD}:
        updates.folder_of(folder, case, num_hidden_layers=2)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    done = subprocess.run([*command, str(folder)], env=child_environment(), capture_output=True, text=True, timeout=300)
    assert not done.returncode, done.stderr[-3000:]
    return folder


def check_losses(folder: Path, case: str, dtype: str, losses: list[float]) -> None:
    """They are those of one process with padding, to the rounding of the dtype."""
    bound = {"float64": 1e-10, "float32": 1e-4, "float16": 0.01, "bfloat16": 0.03}[dtype]
    assert losses == pytest.approx(losses_of(folder, case, dtype=dtype), rel=bound)
    if dtype in ("bfloat16", "float16"):
        assert losses != pytest.approx(losses_of(folder, case, dtype="float32"), rel=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(SPREAD)), ids=lambda number: "-".join(SPREAD[number]))
def test_two_processes_train_without_padding_as_one_does_with_it(number: int, together: Path) -> None:
    case, sharding, dtype = SPREAD[number]
    ranks = [json.loads((together / f"found-{rank}.json").read_text())[number] for rank in range(2)]
    assert sum(rank["packed"] for rank in ranks) > UPDATES
    if sharding == "full":  # averages and losses are float32 or float64
        wide = "float64" if dtype == "float64" else "float32"
        assert f"torch.{dtype}" in ranks[0]["exchanged"][0]
        assert ranks[0]["exchanged"][1] == [f"torch.{wide}"]
    check_losses(together, case, dtype, ranks[0]["losses"])


@pytest.fixture
def _group(tmp_path: Path) -> Iterator[None]:
    """This process as a group of one."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")  # keys and values, which a layer returns, are views
@pytest.mark.usefixtures("_group")
@pytest.mark.parametrize(
    ("case", "sharding", "dtype"),
    [("mlm", "full", "float64"), ("answers", "data", "float64"), ("classes", "full", "bfloat16")],
)
def test_a_model_that_is_spread_trains_without_padding(case: str, sharding: str, dtype: str, tmp_path: Path) -> None:
    updates.folder_of(tmp_path, case, num_hidden_layers=2)
    found = noted(tmp_path, case, sharding, dtype)
    assert found["packed"] > UPDATES / 2
    check_losses(tmp_path, case, dtype, found["losses"])


# rows and tokens of a micro-batch
SIZES = ((6, 12), (5, 12), (7, 20), (9, 31), (4, 12), (6, 40), (2, 9), (8, 23))


def losses_of_sizes(trainer: Any, case: str, patch: pytest.MonkeyPatch) -> list[float]:
    """The losses of an update of each of `SIZES`."""
    losses = []
    for number, (rows, seq) in enumerate(SIZES, 1):
        patch.setattr(updates, "SEQ", seq)
        parts = updates.micro_batches(case, updates.inputs(case, updates.config_of(case), rows, seed=number))
        assert trainer._pack(parts[0].inputs) is not None
        losses.append(trainer.update(parts, 1e-3, number))
    return losses


def compiled_and_not(folder: Path, case: str, compiler: str, dtype: str, patch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """The losses of compiled code, and of the same training without."""
    patch.setattr(packed, "PACKS_ALL", True)
    patch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend=compiler))
    torch.compiler.reset()
    place = updates.folder_of(folder, case, num_hidden_layers=2, max_position_embeddings=64)
    trainers = [
        updates.trainer(backend("pt"), case, place, compile=compiles, dtype=dtype) for compiles in (True, False)
    ]
    assert bool(trainers[0]._pack.varlen_obstacle) == (dtype == "float64"), trainers[0]._pack.varlen_obstacle
    return losses_of_sizes(trainers[0], case, patch), losses_of_sizes(trainers[1], case, patch)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # raised by PyTorch's compiler itself
@pytest.mark.parametrize(
    ("case", "compiler"),
    [("mlm", "aot_eager"), ("answers", "aot_eager"), ("choices", "aot_eager"), ("tokens", "inductor")],
)
def test_one_program_serves_all_lengths(case: str, compiler: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        counters.clear()
        found, wanted = compiled_and_not(tmp_path, case, compiler, "float64", patch)
    assert found == pytest.approx(wanted, rel=1e-10)
    assert counters["stats"]["unique_graphs"] == 1


def attention_by_hand(query: Any, key: Any, causal: bool) -> Any:
    """Attention weights, (head, query, key), of (head, tokens, size)."""
    scores = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5
    return (
        scores.masked_fill(torch.ones_like(scores[0]).triu(1).bool(), -torch.inf).softmax(-1)
        if causal
        else scores.softmax(-1)
    )


def rows_of(starts: tuple[Any, ...], *tensors: Any) -> Any:
    """(tokens, head, size) -> (head, tokens of the row, size) of each tensor, row by row."""
    lengths = [one.diff().tolist() for one in starts]
    parts = [one.double().transpose(0, 1).split(own, 1) for one, own in zip(tensors, lengths, strict=True)]
    return zip(*parts, strict=True)


def forward_by_hand(
    query: Any, key: Any, value: Any, query_starts: Any, key_starts: Any, max_q: int, max_k: int,
    is_causal: bool = False, *others: Any,
) -> Any:  # fmt: skip
    assert query_starts.dtype == key_starts.dtype == torch.int32
    assert (max_q, max_k) == (int(query_starts.diff().max()), int(key_starts.diff().max()))
    rows = rows_of((query_starts, key_starts, key_starts), query, key, value)
    context = torch.cat([attention_by_hand(q, k, is_causal) @ v for q, k, v in rows], 1)
    sums = torch.zeros(query.shape[1], len(query))  # of exponentials: only a backward pass that is not ours reads them
    return context.transpose(0, 1).to(query.dtype).contiguous(), sums, torch.zeros(2, dtype=torch.uint64)


def backward_by_hand(
    gradient: Any, query: Any, key: Any, value: Any, out: Any, sums: Any, query_starts: Any, key_starts: Any,
    max_q: int, max_k: int, is_causal: bool, *others: Any,
) -> Any:  # fmt: skip
    found = []
    for q, k, v, d in rows_of((query_starts, key_starts, key_starts, query_starts), query, key, value, gradient):
        weights, of_weights = attention_by_hand(q, k, is_causal), d @ v.transpose(1, 2)
        of_scores = weights * (of_weights - (of_weights * weights).sum(-1, keepdim=True)) / q.shape[-1] ** 0.5
        found.append((of_scores @ k, of_scores.transpose(1, 2) @ q, weights.transpose(1, 2) @ d))
    return tuple(torch.cat(parts, 1).transpose(0, 1).to(query.dtype).contiguous() for parts in zip(*found, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["clm", "answers"])
def test_pytorchs_kernel_is_in_the_compiled_program(case: str, tmp_path: Path) -> None:
    """Its operator with a kernel for the CPU: what traces it and differentiates it is PyTorch's own.

    The lengths of the longest row are numbers, and become dynamic with the second program.
    """
    if "cpu" not in kernels._varlen_attn._backend_fns:
        kernels._varlen_attn.register_kernel("cpu")(forward_by_hand)
        kernels._varlen_attn_backward.register_kernel("cpu")(backward_by_hand)
    packed.failed_trial.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "kernel_obstacle", lambda device: "")
        counters.clear()
        found, wanted = compiled_and_not(tmp_path, case, "aot_eager", "bfloat16", patch)
    packed.failed_trial.cache_clear()
    assert found == pytest.approx(wanted, rel=0.01)
    assert counters["stats"]["unique_graphs"] == 2


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
