"""PyTorch with the rows of a batch end to end: attention, inference and training give what they give with padding.

The oracle of attention is `by_hand`, a loop over rows with the softmax of the definition in float64. The kernel that
only GPUs have is replaced by a function of its signature that computes so, and checks what it is given.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import assert_close, backend

torch = pytest.importorskip("torch")

import torch.nn.attention.varlen as kernels  # noqa: E402
import updates  # noqa: E402

from benchmarks import gpu_speed  # noqa: E402
from roberta.common.adapters.lora_config import LoraConfig  # noqa: E402
from roberta.common.training.lora import LoraStart  # noqa: E402
from roberta.pt import packed, packed_training, training  # noqa: E402

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
    monkeypatch.setattr(packed, "PACKS_ALL", True)
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

    def broken(*_given: Any) -> Any:
        raise RuntimeError("no kernel image\nis available")

    monkeypatch.setattr(kernels, "varlen_attn", broken)
    found = packed.varlen_obstacle(CPU, torch.bfloat16, 8, causal=False)
    assert found == "a trial on cpu failed: no kernel image"


def load(folder: Path, head: Any, dtype: str = "float64", **config: Any) -> Any:
    return backend("pt").load(head, checkpoints.make(folder, head, **config), dtype=dtype)


@pytest.mark.parametrize("head", checkpoints.HEADS)
def test_infer_with_packed_tokens_gives_the_same(head: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(tmp_path, head)
    inputs, wanted = checkpoints.batch(head, model.config), []
    for budget in (1024, 12):
        wanted.append(model.infer(inputs, batch_tokens=budget))
    model.release_infer()
    monkeypatch.setattr(packed, "PACKS_ALL", True)
    seen: list[Any] = []
    attend = packed.BucketedRows.attend
    monkeypatch.setattr(packed.BucketedRows, "attend", lambda *given: seen.append(given[0]) or attend(*given))
    for budget, then in zip((1024, 12), wanted, strict=True):
        for name, values in model.infer(inputs, batch_tokens=budget).items():
            assert_close(values, then[name], 1e-10)
    assert {packing.causal for packing in seen} == {head == "ForCausalLM"}
    assert len(seen) > 3 * model.config.num_hidden_layers, "a piece of all rows, two of some, and a trial"


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


@pytest.fixture
def packs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Tokens packed on the CPU; the micro-batches that were."""
    monkeypatch.setattr(packed, "PACKS_ALL", True)
    made: list[Any] = []
    loss = training.packed_loss
    monkeypatch.setattr(training, "packed_loss", lambda *given: made.append(given[1]) or loss(*given))
    return made


def both(case: str, folder: Path, arrays: Any = None, config: Any = None, **changed: Any) -> list[Any]:
    """Trainers of a case with padded rows and with packed tokens, after one micro-batch; their losses and gradients."""
    place, found = updates.folder_of(folder, case, **(config or {})), []
    for packs_all in (False, True):
        packed.PACKS_ALL = packs_all  # restored by `packs`
        trainer = updates.trainer(backend("pt"), case, place, **changed)
        given = arrays or updates.inputs(case, trainer.model.config)
        (micro_batch,) = updates.micro_batches(case, given, class_weights=changed.get("class_weights"))
        loss, _ = trainer._compute([micro_batch], 1)
        gradients = {name: p.grad.clone() for name, p in trainer._trained.named_parameters() if p.grad is not None}
        found.append((loss, gradients, trainer))
    return found


def check_both(found: list[Any], bound: float = 1e-10) -> None:
    (wanted, gradients, _), (loss, packed_gradients, _) = found
    assert abs(loss - wanted) <= bound * abs(wanted)
    assert packed_gradients.keys() == gradients.keys()
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        difference = float((packed_gradients[name] - gradient).abs().max())
        assert difference <= bound * largest, f"{name} differs by {difference}"


@pytest.mark.parametrize("case", updates.CASES)
def test_loss_and_gradients_are_those_of_padded_rows(case: str, packs: list[Any], tmp_path: Path) -> None:
    arrays = updates.inputs(case, updates.config_of(case), seed=1)
    given = arrays["attention_mask"]
    lengths = given.sum(axis=-1).flatten()
    assert (lengths[1:] > lengths[:-1]).any(), "packing sorts the rows"
    check_both(both(case, tmp_path, arrays, {"num_hidden_layers": 2}))
    (made,) = packs
    extra = (lengths < updates.SEQ).sum() if case == "answers" else 0  # one for the padding of a row
    assert made.ids.shape == (1, given.sum() + extra)


@pytest.mark.parametrize("case", ["tokens", "mlm"])
def test_options_of_a_training_give_the_same(case: str, packs: list[Any], tmp_path: Path) -> None:
    """Smoothing, class weights, frozen weights, rates by layer, averages, and layers that are computed twice."""
    options = updates.with_options(updates.settings(case))
    changed = {name: getattr(options, name) for name in ("recipe", "class_weights", "frozen", "gradient_checkpointing")}
    found = both(case, tmp_path, config={"num_hidden_layers": 2}, **changed)
    check_both(found)
    assert len(packs) == 1
    assert found[1][2].model.base_model.encoder.gradient_checkpointing


def test_an_adapter_gets_the_same_gradients(packs: list[Any], tmp_path: Path) -> None:
    names = [f"roberta.encoder.layer.0.attention.self.{part}.weight" for part in ("query", "value")]
    rng = np.random.default_rng(0)
    pairs = {name: (rng.normal(size=(2, 24)), rng.normal(size=(24, 2))) for name in names}
    start = LoraStart(LoraConfig(r=2, lora_alpha=4), pairs, ("classifier.out_proj.weight",))
    found = both("classes", tmp_path, lora=start)
    check_both(found)
    assert len(packs) == 1


@pytest.mark.parametrize("case", ["mlm", "clm", "answers", "choices"])
def test_the_kernel_trains_in_bfloat16(case: str, kernel: Kernel, packs: list[Any], tmp_path: Path) -> None:
    (wanted, gradients, _), (loss, found, _) = both(case, tmp_path, dtype="bfloat16")
    assert abs(loss - wanted) < 0.02 * wanted
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    assert max(float((found[name] - gradients[name]).abs().max()) for name in gradients) < 0.05 * largest
    (made,) = packs
    call = kernel.calls[-1]
    assert call["shape"] == (made.ids.numel(), HEADS, SIZE)
    assert call["window"] == ((-1, 0) if case == "clm" else (-1, -1))
    real = np.sort(updates.inputs(case, updates.config_of(case))["attention_mask"].sum(axis=-1).flatten())[::-1]
    assert call["keys"] == real.tolist()
    extra = (real < updates.SEQ) if case == "answers" else np.zeros_like(real)
    assert call["lengths"] == (real + extra).tolist()


def test_dropout_is_that_of_the_seed_and_the_update(packs: list[Any], tmp_path: Path) -> None:
    place = updates.folder_of(tmp_path, "tokens", attention_probs_dropout_prob=0.3)
    packed.PACKS_ALL = True
    parts = updates.micro_batches("tokens", updates.inputs("tokens", updates.config_of("tokens")))
    losses = []
    for seed in (1, 1, 2):
        trainer = updates.trainer(backend("pt"), "tokens", place, seed=seed)
        losses.append([trainer.update(parts, 0.0, number) for number in (1, 2)])
    assert losses[0] == losses[1]
    assert len({*losses[0], *losses[2]}) == 4
    assert len(packs) == 6


def changed_inputs(case: str, **changed: Any) -> Any:
    return updates.inputs(case, updates.config_of(case)) | changed


def mask_of(case: str) -> np.ndarray:
    return updates.inputs(case, updates.config_of(case))["attention_mask"]


@pytest.mark.parametrize(
    ("case", "changed"),
    [
        ("classes", {"attention_mask": mask_of("classes")[:, ::-1]}),  # the first token is padding
        ("answers", {"attention_mask": mask_of("answers")[:, ::-1]}),
        ("answers", {"input_ids": np.full_like(mask_of("answers"), 7)}),  # what pads is not padding
        ("tokens", {"labels": np.ones_like(mask_of("tokens"))}),  # of padding too
        ("tokens", {"attention_mask": np.ones_like(mask_of("tokens"))}),
        ("tokens", {"attention_mask": mask_of("tokens") * (np.arange(6) > 0)[:, None]}),  # a row without a token
    ],
)
def test_padding_that_counts_goes_through_the_model(case: str, changed: Any, packs: list[Any], tmp_path: Path) -> None:
    check_both(both(case, tmp_path, changed_inputs(case, **changed)))
    assert not packs


@pytest.mark.parametrize("case", ["tokens", "clm"])
def test_padding_may_be_anywhere_in_a_row(case: str, packs: list[Any], tmp_path: Path) -> None:
    mask = np.random.default_rng(5).random((6, updates.SEQ)) < 0.6
    mask[:, 3] = True
    given = updates.inputs(case, updates.config_of(case))
    seen = mask & np.pad(mask[:, :-1], ((0, 0), (1, 0))) if case == "clm" else mask
    labels = np.where(seen, given["input_ids"] % 5, -100)
    check_both(both(case, tmp_path, given | {"attention_mask": mask.astype(int), "labels": labels}))
    assert len(packs) == 1


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"attn_implementation": "eager"}, "attn_implementation is eager"),
        ({"output_attentions": True}, "output_attentions is set"),
        ({"chunk_size_feed_forward": 4}, "chunk_size_feed_forward is set"),
    ],
)
def test_some_configs_are_trained_with_padding(config: Any, text: str, packs: list[Any], tmp_path: Path) -> None:
    found = both("tokens", tmp_path, config=config)
    if "attn_implementation" in config:
        packed.PACKS_ALL = True
        model = backend("pt").load("ForTokenClassification", tmp_path / "tokens")
        model.config.attn_implementation = "eager"
        assert packer(model).obstacle == text
        return
    assert found[1][2]._pack.obstacle == text
    check_both(found)
    assert not packs


def packer(model: Any, **changed: Any) -> packed_training.Packer:
    return packed_training.Packer(model, "token-classification", None, **{"compiles": False, "altered": "", **changed})


def test_distances_are_trained_with_padding(packs: list[Any], tmp_path: Path) -> None:
    check_both(both("tokens", tmp_path, config={"position_embedding_type": "relative_key"}))
    assert not packs


def test_hooks_see_the_shapes_that_they_know(packs: list[Any], tmp_path: Path) -> None:
    packed.PACKS_ALL = True
    trainer = updates.trainer(backend("pt"), "tokens", updates.folder_of(tmp_path, "tokens"))
    arrays = updates.inputs("tokens", updates.config_of("tokens"))
    parts, shapes = updates.micro_batches("tokens", arrays), []
    trainer.update(parts, 0.0, 1)
    layer = trainer.model.base_model.encoder.layer[0]
    handle = layer.register_forward_hook(lambda _module, given, _output: shapes.append(given[0].shape[:2]))
    trainer.update(parts, 0.0, 2)
    assert shapes == [(6, updates.SEQ)]
    handle.remove()
    trainer.update(parts, 0.0, 3)
    assert len(packs) == 2
    # one that was there before
    model = backend("pt").load("ForTokenClassification", tmp_path / "tokens")
    model.base_model.register_forward_hook(lambda *_: None)
    trainer = training.Trainer(model, updates.settings("tokens"))
    assert trainer._pack.obstacle == "roberta has hooks"


def test_a_cpu_packs_much_padding_without_dropout(tmp_path: Path) -> None:
    mask = (np.arange(100) < np.array([[100], [20], [10], [5]])).astype(np.int64)
    inputs = {"input_ids": np.where(mask, 7, 1), "attention_mask": mask, "labels": np.where(mask, 3, -100)}
    config = {"max_position_embeddings": 102, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    pack = packer(load(tmp_path / "without", "ForTokenClassification", **config))
    assert pack(inputs) is not None
    few = {name: array[:, :60] for name, array in inputs.items()}
    assert pack(few) is None
    assert packer(pack.model, compiles=True).obstacle.startswith("on a CPU, compiled code")
    drops = load(tmp_path / "with", "ForTokenClassification", **{**config, "attention_probs_dropout_prob": 0.1})
    assert packer(drops).obstacle.startswith("on a CPU, dropout draws")


@pytest.mark.parametrize("peer", [False, True])
def test_the_benchmark_of_a_gpu_runs(peer: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At toy size, on the CPU; transformers is a stand-in."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    scale = gpu_speed.Scale(sequences=12, budget=600, rows=4, seq=32, rounds=1, sizes=sizes)
    monkeypatch.setattr(packed, "PACKS_ALL", True)
    stand_in = ModuleType("transformers")
    for head in ("ForSequenceClassification", "ForMaskedLM"):
        setattr(stand_in, f"Roberta{head}", backend("pt").classes(head))
    monkeypatch.setitem(sys.modules, "transformers", stand_in if peer else None)
    found = list(gpu_speed.comparisons("cpu", tmp_path, scale))
    theirs = ["transformers with SDPA"] if peer else []
    assert [row.other for row in found] == ["our padded rows", *theirs] * 2 + theirs + ["our padded rows"]
    assert all(row.tokens and min(row.seconds) > 0 for row in found)
    line = gpu_speed.Comparison("job", "padded rows", 1000, (0.5, 0.6), (20.0, 30.0), 1.5).line()
    assert line == (
        "job, beside padded rows: 1.20 times as fast (2,000, 1,667 tokens/s; peak 20 against 30 MB; goal 1.5, missed)"
    )
