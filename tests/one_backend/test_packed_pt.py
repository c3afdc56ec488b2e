"""PyTorch with the rows of a batch end to end: attention, inference and training give what they give with padding.

The oracle of attention is `by_hand`, a loop over rows with the softmax of the definition in float64. The kernel that
only GPUs have is replaced by a function of its signature that computes so, and checks what it is given.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import assert_close, backend

torch = pytest.importorskip("torch")

import torch.nn.attention.varlen as kernels  # noqa: E402

from roberta.pt import packed  # noqa: E402

CPU = torch.device("cpu")
HEADS, SIZE = 3, 8
# of rows; with padding in none, some or all of the buckets
LENGTHS = ([5], [7, 7], [40, 39, 21, 20, 9, 3, 3, 1], [64, 64, 30, 16, 16], [1, 1, 1], [3, 17, 5])


def by_hand(query: Any, key: Any, value: Any, queries: Any, keys: Any, causal: bool) -> Any:
    """The context of rows, each (tokens, head, size), by the definition of attention."""
    contexts = []
    for q, k, v in zip(query.split(queries), key.split(keys), value.split(keys), strict=True):
        scores = torch.einsum("qhd,khd->hqk", q.double(), k.double()) / q.shape[-1] ** 0.5
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores[0]).triu(1).bool(), -torch.inf)
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
        contexts.append(torch.einsum("hqk,khd->qhd", weights, v.double()))
    return torch.cat(contexts).to(query.dtype)


def attended_by_hand(query: Any, key: Any, value: Any, lengths: list[int], attended: list[int], causal: bool) -> Any:
    """The same, of rows whose last tokens nobody attends to."""
    kept = np.concatenate([np.arange(n) < k for n, k in zip(lengths, attended, strict=True)])
    return by_hand(query, key[kept], value[kept], lengths, attended, causal)


class Kernel:
    """`varlen_attn` on the CPU, with the arguments of PyTorch 2.13; it notes what it is called with."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.error = 0.0  # is added to its results

    def __call__(
        self, query: Any, key: Any, value: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int, *,
        return_aux: Any = None, scale: float | None = None, window_size: tuple[int, int] = (-1, -1),
        enable_gqa: bool = False, seqused_k: Any = None, block_table: Any = None, num_splits: int | None = None,
    ) -> Any:  # fmt: skip
        assert (return_aux, scale, enable_gqa, seqused_k, block_table, num_splits) == (None, None, False, *[None] * 3)
        assert query.dtype in (torch.bfloat16, torch.float16), query.dtype
        lengths = []
        for starts, longest, tokens in ((cu_seq_q, max_q, query), (cu_seq_k, max_k, key), (cu_seq_k, max_k, value)):
            assert (starts.dtype, starts.dim(), int(starts[0])) == (torch.int32, 1, 0)
            assert (type(longest), longest) == (int, int(starts.diff().max()))
            assert (tokens.dim(), tokens.stride(-1), len(tokens)) == (3, 1, int(starts[-1]))
            lengths.append(starts.diff().tolist())
        self.calls.append(
            {"shape": tuple(query.shape), "window": window_size, "lengths": lengths[0], "keys": lengths[1]}
        )
        return by_hand(query, key, value, lengths[0], lengths[1], window_size == (-1, 0)) + self.error


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """Trials of the CPU are made again."""
    packed.failed_trial.cache_clear()
    yield
    packed.failed_trial.cache_clear()


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """The CPU as a device that has the kernel."""
    made = Kernel()
    assert list(inspect.signature(made.__call__).parameters) == list(inspect.signature(kernels.varlen_attn).parameters)
    monkeypatch.setattr(kernels, "varlen_attn", made)
    monkeypatch.setattr(packed, "kernel_obstacle", lambda device: "")
    monkeypatch.setattr(packed, "HAS_CPU", True)
    return made


def values_of(lengths: list[int], dtype: Any = torch.float64) -> list[Any]:
    generator = torch.Generator().manual_seed(0)
    shape = (sum(lengths), HEADS, SIZE)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for _ in range(3)]


def with_gradients(attend: Any, values: list[Any]) -> list[Any]:
    context = attend(*values)
    weights = torch.linspace(-1, 1, context.numel(), dtype=context.dtype).view_as(context)
    return [context.detach(), *torch.autograd.grad((context * weights).sum(), values)]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize(("causal", "most"), [(False, 1), (False, 4), (True, 1), (True, 4)])
def test_buckets_attend_as_the_definition_says(lengths: list[int], causal: bool, most: int) -> None:
    packing = packed.lay_out(np.array(lengths), CPU, causal=causal, is_varlen=False, most_buckets=most)
    assert isinstance(packing, packed.BucketedRows)
    assert len(packing.buckets) <= max(most, 3)  # of rows that are not sorted there may be more
    found = with_gradients(packing.attend, values_of(lengths))
    wanted = with_gradients(lambda *three: by_hand(*three, lengths, lengths, causal), values_of(lengths))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("most", [1, 4])
@pytest.mark.parametrize("attended", [[8, 4, 3, 3], [9, 5, 3, 2]], ids=str)
def test_last_tokens_of_rows_may_be_hidden_from_others(attended: list[int], most: int) -> None:
    lengths = [9, 5, 3, 3]
    packing = packed.lay_out(
        np.array(lengths), CPU, causal=False, is_varlen=False, attended=np.array(attended), most_buckets=most
    )
    found = with_gradients(packing.attend, values_of(lengths))
    wanted = with_gradients(lambda *three: attended_by_hand(*three, lengths, attended, False), values_of(lengths))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


def test_rows_of_one_length_are_neither_padded_nor_masked() -> None:
    """So that PyTorch can take its fastest kernel."""
    packing = packed.lay_out(np.array([7, 7, 7]), CPU, causal=False, is_varlen=False)
    (bucket,) = packing.buckets
    assert bucket.places is None
    assert bucket.is_key.shape == (3, 7)


@pytest.mark.parametrize("causal", [False, True])
def test_the_kernel_is_given_what_it_asks_for(kernel: Kernel, causal: bool) -> None:
    lengths = [9, 5, 5, 1]
    packing = packed.lay_out(np.array(lengths), CPU, causal=causal, is_varlen=True)
    found = packing.attend(*values_of(lengths, torch.bfloat16))
    (call,) = kernel.calls
    assert call == {
        "shape": (20, HEADS, SIZE), "window": (-1, 0) if causal else (-1, -1), "lengths": lengths, "keys": lengths,
    }  # fmt: skip
    wanted = by_hand(*values_of(lengths), lengths, lengths, causal)
    assert_close(found.detach().float().numpy(), wanted.detach().numpy(), 0.02)


def test_the_kernel_is_given_the_keys_alone_that_are_attended_to(kernel: Kernel) -> None:
    lengths, attended = [9, 5, 3, 3], [8, 5, 2, 3]
    packing = packed.lay_out(np.array(lengths), CPU, causal=False, is_varlen=True, attended=np.array(attended))
    found = packing.attend(*values_of(lengths, torch.bfloat16))
    assert kernel.calls[-1]["lengths"] == lengths
    assert kernel.calls[-1]["keys"] == attended
    wanted = attended_by_hand(*values_of(lengths), lengths, attended, False)
    assert_close(found.detach().float().numpy(), wanted.detach().numpy(), 0.02)


def test_an_older_kernel_has_another_argument_for_causal(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch 2.10: varlen_attn(..., max_k, is_causal=False, return_aux=None)."""
    given: list[Any] = []

    def old(query: Any, key: Any, value: Any, q: Any, k: Any, max_q: int, max_k: int, is_causal: bool = False) -> Any:
        given.append(is_causal)
        return query

    monkeypatch.setattr(kernels, "varlen_attn", old)
    for causal in (False, True):
        packed.lay_out(np.array([2]), CPU, causal=causal, is_varlen=True).attend(*values_of([2]))
    assert given == [False, True]


def test_the_kernel_is_taken_only_where_it_applies(kernel: Kernel) -> None:
    low = {"device": CPU, "dtype": torch.bfloat16, "head_size": 8, "causal": False}
    assert packed.varlen_obstacle(**low) == ""
    assert kernel.calls, "it was not tried out"
    for changed, text in (
        ({"dropout": 0.1}, "no dropout, and that of attention is 0.1"),
        ({"dtype": torch.float32}, "16 bits, not in torch.float32"),
        ({"head_size": 12}, "12 numbers are not multiples of 8"),
        ({"head_size": 256}, "256 numbers"),
    ):
        assert text in packed.varlen_obstacle(**{**low, **changed})
    kernel.error = 0.5
    packed.failed_trial.cache_clear()
    assert "a trial on cpu was wrong by" in packed.varlen_obstacle(**low)
    kernel.error = float("nan")
    packed.failed_trial.cache_clear()
    assert "a trial on cpu was wrong by nan" in packed.varlen_obstacle(**low)


def test_a_kernel_that_does_not_run_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "for NVIDIA's GPUs, not for cpu" in packed.varlen_obstacle(CPU, torch.bfloat16, 8, causal=False)
    monkeypatch.setattr(packed, "kernel_obstacle", lambda device: "")
    assert "a trial on cpu failed: " in packed.varlen_obstacle(CPU, torch.bfloat16, 8, causal=False)  # PyTorch's own


def load(folder: Path, head: Any, dtype: str = "float64", **config: Any) -> Any:
    return backend("pt").load(head, checkpoints.make(folder, head, **config), dtype=dtype)


@pytest.mark.parametrize("head", checkpoints.HEADS)
def test_infer_with_packed_tokens_gives_the_same(head: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(tmp_path, head)
    inputs, wanted = checkpoints.batch(head, model.config), []
    for budget in (1024, 12):
        wanted.append(model.infer(inputs, batch_tokens=budget))
    model.release_infer()
    monkeypatch.setattr(packed, "HAS_CPU", True)
    seen: list[Any] = []
    attend = packed.BucketedRows.attend
    monkeypatch.setattr(packed.BucketedRows, "attend", lambda *given: seen.append(given[0]) or attend(*given))
    for budget, then in zip((1024, 12), wanted, strict=True):
        for name, values in model.infer(inputs, batch_tokens=budget).items():
            assert_close(values, then[name], 1e-10)
    assert {packing.causal for packing in seen} == {head == "ForCausalLM"}


@pytest.mark.parametrize("head", ["ForMaskedLM", "ForCausalLM"])
def test_infer_calls_the_kernel_in_bfloat16(head: Any, kernel: Kernel, tmp_path: Path) -> None:
    model = load(tmp_path, head, "float32")
    inputs = checkpoints.batch(head, model.config)
    exact = model.infer(inputs)["logits"]
    assert not kernel.calls, "float32"
    found = model.infer(inputs, dtype="bfloat16")["logits"]
    asked = [call for call in kernel.calls if call["lengths"] == [11, 7, 4]]
    assert len(asked) == model.config.num_hidden_layers
    assert {call["window"] for call in asked} == {(-1, 0) if head == "ForCausalLM" else (-1, -1)}
    assert 1e-5 < np.abs(found - exact).max() < 0.05 * np.abs(exact).max()
