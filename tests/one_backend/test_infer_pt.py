"""Behaviour of `infer` in PyTorch only: weights repacked once, 8-bit projections, modes and gradients left alone."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import assert_close, backend

torch = pytest.importorskip("torch")
INPUTS = {
    "input_ids": np.array([[0, 9, 8, 7, 2], [0, 5, 2, 1, 1]]),
    "attention_mask": np.array([[1] * 5, [1, 1, 1, 0, 0]]),
}


def load(folder: Path, head: Any = "ForMaskedLM", **config: Any) -> Any:
    return backend("pt").load(head, checkpoints.make(folder, head, **config), dtype="float32")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The dtypes for which weights were repacked, in order."""
    from roberta.pt import infer

    made: list[str] = []

    class Counted(infer.FastModel):
        def __init__(self, model: Any, dtype: str) -> None:
            made.append(dtype)
            super().__init__(model, dtype)

    monkeypatch.setattr(infer, "FastModel", Counted)
    return made


def test_weights_are_laid_out_once_and_again_after_release(counted: list[str], tmp_path: Path) -> None:
    model = load(tmp_path)
    model.infer(INPUTS)
    model.infer(INPUTS)
    model.infer(INPUTS, dtype="int8")
    assert counted == ["float32", "int8"]
    model.release_infer()
    model.infer(INPUTS)
    assert counted == ["float32", "int8", "float32"]


def test_a_step_of_training_is_seen(counted: list[str], tmp_path: Path) -> None:
    model = load(tmp_path)
    model.infer(INPUTS)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.from_numpy(INPUTS["input_ids"]), labels=torch.from_numpy(INPUTS["input_ids"])).loss.backward()
    optimizer.step()
    with torch.no_grad():
        wanted = model(**{name: torch.from_numpy(value) for name, value in INPUTS.items()}).logits.numpy()
    assert_close(model.infer(INPUTS)["logits"][0], wanted[0], 1e-5)
    assert counted == ["float32", "float32"]


def test_a_state_dict_assigned_is_seen(tmp_path: Path) -> None:
    model, other = load(tmp_path / "one"), load(tmp_path / "two", hidden_act="gelu")
    other.load_state_dict({name: value * 1.5 for name, value in other.state_dict().items()})
    model.infer(INPUTS)
    model.load_state_dict(other.state_dict(), assign=True)
    assert np.array_equal(model.infer(INPUTS)["logits"], other.infer(INPUTS)["logits"])


def test_training_mode_stays_and_dropout_is_off(tmp_path: Path) -> None:
    model = load(tmp_path, position_embedding_type="relative_key")  # the plain forward pass
    wanted = model.infer(INPUTS)["logits"]
    model.train()
    assert np.array_equal(model.infer(INPUTS)["logits"], wanted)
    assert model.training
    assert all(module.training for module in model.modules())


def test_a_model_that_has_inferred_can_be_copied_pickled_and_trained(tmp_path: Path) -> None:
    model = load(tmp_path)
    wanted = model.infer(INPUTS)["logits"]
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(twin.infer(INPUTS)["logits"], wanted)
    model(torch.from_numpy(INPUTS["input_ids"])).logits.sum().backward()
    assert model.roberta.embeddings.word_embeddings.weight.grad is not None


@pytest.mark.parametrize("has_fbgemm", [True, False])
def test_eight_bits_are_close_to_single_precision(
    has_fbgemm: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both factors are rounded to 1 in 254 of their largest value: errors are a few hundredths of the largest result."""
    if not has_fbgemm:
        monkeypatch.delattr(torch, "quantize_per_channel")
    model = load(tmp_path, "Model", num_hidden_layers=1)
    wanted, found = model.infer(INPUTS), model.infer(INPUTS, dtype="int8")
    for name, values in wanted.items():
        assert not np.array_equal(found[name], values)
        assert_close(found[name], values, 0.08, name)


def test_the_layout_for_avx512_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """oneDNN runs on every x86 processor; only the choice depends on this one."""
    from roberta.pt import infer

    model = load(tmp_path)
    results = []
    for has_avx512 in (False, True):
        monkeypatch.setattr(infer.int8, "has_avx512", lambda has=has_avx512: has)
        model.release_infer()
        results.append(model.infer(INPUTS)["logits"])
    assert_close(results[1], results[0], 1e-5)


def test_few_tokens_are_laid_out_for_when_they_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from roberta.pt import infer

    monkeypatch.setattr(infer.int8, "has_avx512", lambda: False)
    monkeypatch.setattr(infer, "MOST_FEW", 6)
    made: list[torch.Tensor] = []
    reorder = torch.ops.mkldnn._reorder_linear_weight
    monkeypatch.setattr(
        torch.ops.mkldnn, "_reorder_linear_weight", lambda weight: made.append(weight) or reorder(weight)
    )
    model = load(tmp_path, "Model")
    many, few = INPUTS, {name: value[1:] for name, value in INPUTS.items()}
    before = model.infer(many), model.infer(few)
    assert not made
    after = model.infer(few)
    assert len(made) == 4 * model.config.num_hidden_layers
    for now, then in ((model.infer(many), before[0]), (after, before[1])):
        assert_close(now["last_hidden_state"], then["last_hidden_state"], 1e-5)
    with torch.no_grad():
        wanted = model(**{name: torch.from_numpy(value) for name, value in few.items()}).last_hidden_state.numpy()
    assert_close(after["last_hidden_state"][0, :3], wanted[0, :3], 1e-5)


def test_what_was_laid_out_goes_with_the_model(tmp_path: Path) -> None:
    from roberta.pt import infer

    before = len(infer._models.kept)
    model = load(tmp_path)
    model.infer(INPUTS)
    assert len(infer._models.kept) == before + 1
    del model
    assert len(infer._models.kept) == before


@pytest.mark.parametrize("has_avx512", [False, True])
def test_onednn_meets_few_numbers_of_tokens(has_avx512: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN makes and keeps a program for each of them."""
    from roberta.pt import infer

    monkeypatch.setattr(infer.int8, "has_avx512", lambda: has_avx512)
    model = load(tmp_path, num_hidden_layers=1, max_position_embeddings=402)
    met: set[int] = set()
    run = torch.ops.mkldnn._linear_pointwise
    monkeypatch.setattr(
        torch.ops.mkldnn, "_linear_pointwise", lambda hidden, *others: met.add(len(hidden)) or run(hidden, *others)
    )
    for length in range(1, 400):
        ids = np.full((1, length), 7)
        model.infer({"input_ids": ids}, where=ids == 7 if length % 2 else np.arange(length)[None] < length // 3)
    assert len(met) <= 32 + 16 * (4 if has_avx512 else 3)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_number_of_tokens_that_is_rounded_changes_nothing(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from roberta.pt import infer

    monkeypatch.setattr(infer.int8, "runs_on_onednn", lambda: True)
    model = load(tmp_path, max_position_embeddings=140)
    for length in (33, 67, 131):
        mask = np.arange(length) < np.array([[length], [length - 3], [2]])
        inputs = {"input_ids": np.where(mask, 7 + np.arange(length) % 50, 1), "attention_mask": mask.astype(int)}
        some = mask & (np.arange(length) % 3 == 0)
        found = [model.infer(inputs, dtype=dtype, where=where)["logits"] for where in (None, some) * 2]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(infer, "rounded", lambda count: count)
            wanted = [model.infer(inputs, dtype=dtype, where=where)["logits"] for where in (None, some) * 2]
        for now, then in zip(found, wanted, strict=True):
            assert_close(now, then, 1e-5)
