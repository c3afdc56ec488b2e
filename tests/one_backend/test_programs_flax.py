"""The plain Flax call with many shapes: kept programs, with the results and the errors of uncompiled code."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import assert_close, backend

jax = pytest.importorskip("jax")
pytest.importorskip("flax")
from roberta.flax import programs  # noqa: E402

FLAX = backend("flax")
IDS = {
    "input_ids": np.array([[0, 9, 8, 7, 2], [0, 5, 2, 1, 1]]),
    "attention_mask": np.array([[1] * 5, [1, 1, 1, 0, 0]]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.make(tmp_path_factory.mktemp("programs"), "ForMaskedLM", num_hidden_layers=1)


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return FLAX.load("ForMaskedLM", folder)


@pytest.fixture(autouse=True)
def all_shapes_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "UNCOMPILED", 0)


def kept(model: Any) -> int:
    return len(programs._KEPT[model].programs)


def test_a_program_has_the_numbers_of_uncompiled_code(
    model: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, rng = {**IDS, "labels": IDS["input_ids"]}, jax.random.key(0)
    uncompiled = FLAX.load("ForMaskedLM", folder)
    for options in ({"output_hidden_states": True}, {"train": True, "dropout_rng": rng}):
        found = FLAX.run(model, inputs, **options)
        with monkeypatch.context() as patch:
            patch.setattr(programs, "UNCOMPILED", 2)
            wanted = FLAX.run(uncompiled, inputs, **options)
        assert found.keys() == wanted.keys()
        for name, values in wanted.items():
            assert_close(found[name], values, 1e-12, name)
    assert kept(model) == 2
    assert kept(uncompiled) == 0


def test_wrong_ids_and_labels_are_the_same_errors(model: Any) -> None:
    seq = IDS["input_ids"].shape
    with pytest.raises(ValueError, match="input_ids holds 61, allowed are 0 to 60"):
        model(np.full(seq, 61), IDS["attention_mask"])
    with pytest.raises(ValueError, match="labels"):
        model(**IDS, labels=np.full(seq, 61))


def test_gradients_and_programs_of_a_caller_are_left_alone(model: Any) -> None:
    wanted = np.asarray(model(**IDS).logits.sum())
    before = kept(model)
    value, gradient = jax.jit(jax.value_and_grad(lambda params: model(**IDS, params=params).logits.sum()))(model.params)
    assert_close(np.asarray(value), wanted, 1e-12)
    assert jax.tree.structure(gradient) == jax.tree.structure(model.params)
    assert kept(model) == before


def test_few_programs_are_kept_and_the_last_ones_used(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "PROGRAMS", 2)
    for seq in (6, 7, 6, 8):
        model(np.full((1, seq), 5))
    shapes = [{name: shape for name, shape, _ in key[0]}["input_ids"] for key in programs._KEPT[model].programs]
    assert shapes == [(1, 6), (1, 8)]


def test_changes_to_a_model_are_seen(folder: Path) -> None:
    model = FLAX.load("ForMaskedLM", folder)
    before = np.asarray(model(**IDS).logits)
    other = copy.copy(model)
    other.params = jax.tree.map(lambda leaf: leaf * 1.5, model.params)
    assert not np.allclose(other(**IDS).logits, before)
    assert np.array_equal(model(**IDS).logits, before)
    model.config.update({"hidden_act": "relu"})
    wanted = FLAX.load("ForMaskedLM", folder, hidden_act="relu")
    assert_close(np.asarray(model(**IDS).logits), np.asarray(wanted(**IDS).logits), 1e-12)


def test_generation_sees_a_config_that_was_changed(tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "ForCausalLM", num_hidden_layers=1)
    model, ids = FLAX.load("ForCausalLM", folder), np.array([[0, 9, 8, 7]])
    asked = {"max_new_tokens": 1, "output_logits": True, "return_dict_in_generate": True, "eos_token_id": None}
    model.generate(ids, **asked)
    model.config.update({"hidden_act": "relu"})
    wanted = FLAX.load("ForCausalLM", folder, hidden_act="relu").generate(ids, **asked)
    for now, then in zip(model.generate(ids, **asked).logits, wanted.logits, strict=True):
        assert_close(np.asarray(now), np.asarray(then), 1e-12)
