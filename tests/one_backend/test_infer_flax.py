"""Behaviour of `infer` in Flax only: few compiled programs, packs of many rows, parameters passed as arguments."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import Arrays, assert_close, backend
from hypothesis import given
from hypothesis import strategies as st

jax = pytest.importorskip("jax")
pytest.importorskip("flax")

PROGRAMS = 8  # as the docstring of `infer` promises


def load(folder: Path, head: Any = "ForMaskedLM", dtype: str = "float64", **config: Any) -> Any:
    return backend("flax").load(head, checkpoints.make(folder, head, **config), dtype=dtype)


def rows(lengths: list[int], seed: int = 0) -> Arrays:
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    ids = np.where(mask, np.random.default_rng(seed).integers(5, 61, mask.shape), 1)
    return {"input_ids": ids, "attention_mask": mask.astype(np.int64)}


def forward(model: Any, inputs: Arrays) -> np.ndarray:
    logits = np.asarray(model(**inputs).logits)
    return np.where(inputs["attention_mask"][..., None] > 0, logits, 0)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_few_programs_are_compiled_whatever_the_lengths(compiled: list[str], dtype: str, tmp_path: Path) -> None:
    pruned = {"pruned_heads": {0: [1]}, "max_position_embeddings": 602}
    model = load(tmp_path, dtype=dtype, **pruned)
    compiled.clear()  # programs of loading
    rng = np.random.default_rng(0)
    for count, longest in itertools.product((1, 2, 9, 40), (3, 30, 90, 300, 600)):
        inputs = rows(rng.integers(1, longest + 1, count).tolist())
        model.infer(inputs)
        model.infer(inputs, where=(inputs["attention_mask"] > 0) & (rng.random(inputs["input_ids"].shape) < 0.2))
    assert len(compiled) == PROGRAMS


def test_one_short_text_compiles_its_layer_and_its_head(compiled: list[str], tmp_path: Path) -> None:
    model = load(tmp_path)
    compiled.clear()
    model.infer(rows([7]))
    assert len(compiled) == 2


def test_classes_with_few_labels_compile_layers_only(compiled: list[str], tmp_path: Path) -> None:
    model = load(tmp_path, "ForSequenceClassification")
    compiled.clear()
    model.infer(rows([7]))
    assert len(compiled) == 1


@pytest.mark.parametrize("head", ["ForMaskedLM", "ForCausalLM"])
@pytest.mark.parametrize("longest", [31, 33, 97, 321, 1100])
def test_packs_of_every_size(head: str, longest: int, tmp_path: Path) -> None:
    model = load(tmp_path, head, max_position_embeddings=longest + 2)
    inputs = rows([longest, 1, 29, longest // 3, 5, longest // 2 + 1])
    assert_close(model.infer(inputs)["logits"], forward(model, inputs), 1e-12)


@pytest.mark.parametrize("head", ["ForMaskedLM", "ForSequenceClassification"])
def test_the_last_layer_of_large_packs_where_it_is_asked_for(head: str, tmp_path: Path) -> None:
    model = load(tmp_path, head, max_position_embeddings=402)
    inputs = rows(np.random.default_rng(2).integers(1, 401, 30).tolist())
    if head == "ForSequenceClassification":
        assert_close(model.infer(inputs)["logits"], np.asarray(model(**inputs).logits), 1e-12)
        return
    where = (inputs["attention_mask"] > 0) & (np.random.default_rng(3).random(inputs["input_ids"].shape) < 0.3)
    assert_close(model.infer(inputs, where=where)["logits"], forward(model, inputs)[where], 1e-12)


def test_layers_with_different_numbers_of_heads(tmp_path: Path) -> None:
    model = load(tmp_path, pruned_heads={0: [1], 1: [0, 2]})
    inputs = rows([20, 3])
    assert_close(model.infer(inputs)["logits"], forward(model, inputs), 1e-12)


def test_parameters_of_a_training_step_are_seen(tmp_path: Path) -> None:
    model = load(tmp_path)
    inputs = rows([5])
    before = model.infer(inputs)["logits"]
    model.params = jax.tree.map(lambda leaf: leaf * 1.01, model.params)
    after = model.infer(inputs)["logits"]
    assert not np.allclose(after, before)
    assert_close(after, forward(model, inputs), 1e-12)


def test_parameters_of_numpy_changed_in_place_are_seen(tmp_path: Path) -> None:
    model = load(tmp_path)
    inputs = rows([5])
    model.params = jax.tree.map(np.array, model.params)
    model.infer(inputs)
    model.params["roberta"]["encoder"]["layer"]["1"]["attention"]["self"]["key"]["kernel"][:] *= 3
    assert_close(model.infer(inputs)["logits"], forward(model, inputs), 1e-12)


def test_parameters_are_handed_to_a_model_without_any(tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "ForMaskedLM")
    model, params = backend("flax").load("ForMaskedLM", folder, _do_init=False)
    inputs = rows([5])
    with pytest.raises(ValueError, match="give params= to the call"):
        model.infer(inputs)
    wanted = backend("flax").load("ForMaskedLM", folder).infer(inputs)["logits"]
    assert np.array_equal(model.infer(inputs, params=params)["logits"], wanted)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_models_of_half_the_bits_infer_in_them(dtype: str, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "ForTokenClassification", num_hidden_layers=1)
    inputs = rows([20, 9])
    wanted = forward(backend("flax").load("ForTokenClassification", folder), inputs)
    found = backend("flax").load("ForTokenClassification", folder, dtype=dtype).infer(inputs)["logits"]
    assert found.dtype == np.float32
    assert_close(found, wanted, 0.05)


def test_weights_are_laid_out_once_and_again_after_release(tmp_path: Path) -> None:
    from roberta.flax.infer import _models

    model = load(tmp_path)

    def made() -> Any:
        model.infer(rows([7]))
        return _models.kept[model].made["float64"]

    first = made()
    assert made() is first
    model.release_infer()
    assert made() is not first


def test_a_copy_of_a_model_infers_by_itself(tmp_path: Path) -> None:
    model = load(tmp_path)
    inputs = rows([5])
    wanted = model.infer(inputs)["logits"]
    other = copy.copy(model)
    other.params = jax.tree.map(lambda leaf: leaf * 1.01, model.params)
    assert not np.allclose(other.infer(inputs)["logits"], wanted)
    assert np.array_equal(model.infer(inputs)["logits"], wanted)


@given(st.lists(st.integers(1, 1500), min_size=1, max_size=60))
def test_a_plan_holds_every_row_in_order_and_in_room_for_it(lengths: list[int]) -> None:
    from roberta.flax.infer import plan

    start = 0
    for count, size in plan(lengths):
        assert sum(lengths[start : start + count]) <= size
        start += count
    assert start == len(lengths)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.integers(1, 5000))
def test_a_batch_is_cut_into_pieces_that_are_packed_as_they_were_cut(lengths: list[int], batch_tokens: int) -> None:
    from roberta.common.inference.batching import packs
    from roberta.flax.infer import SIZES, cut_packs, plan

    sizes = np.array(lengths)
    wanted = packs(sizes, SIZES[-1])
    pieces = cut_packs(sizes, batch_tokens)
    assert all(len(piece) == 1 or sizes[piece].sum() <= batch_tokens for piece in pieces)
    if batch_tokens >= SIZES[-1]:
        full = [count for piece in pieces for count, size in plan(sizes[piece].tolist()) if size == SIZES[-1]]
        assert len(full) <= len(wanted)
