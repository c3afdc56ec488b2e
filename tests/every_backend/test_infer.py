"""`infer` returns the results of the forward pass for every real token, whatever the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import Arrays, Backend, assert_close

from roberta.common.inference.unpadding import PER_TOKEN

RELATIVE = {"position_embedding_type": "relative_key_query"}
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "pruned": {"pruned_heads": {0: [1]}},
    "relu": {"hidden_act": "relu"},
    "one_layer": {"num_hidden_layers": 1},
    "no_layer": {"num_hidden_layers": 0},
    "relative": RELATIVE,
    "untied": {"tie_word_embeddings": False},
    "pad_4": {"pad_token_id": 4},
}


def ragged(rows: int, longest: int, vocabulary: int, seed: int = 3) -> Arrays:
    """Rows of many lengths, including the longest and the shortest, padded on the right."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, rows)
    lengths[:2] = longest, 1
    mask = np.arange(longest) < lengths[:, None]
    ids = np.where(mask, rng.integers(5, vocabulary, mask.shape), 1)
    return {"input_ids": ids, "attention_mask": mask.astype(np.int64)}


def expected(backend: Backend, model: Any, inputs: Arrays, head: str) -> Arrays:
    """The forward pass, with per-token results at padding set to 0."""
    results = backend.run(model, inputs)
    mask = inputs.get("attention_mask")
    for name in PER_TOKEN.get(head, ()):
        if mask is not None and mask.ndim == 2:
            results[name] = np.where(mask.reshape(*mask.shape, *[1] * (results[name].ndim - 2)) > 0, results[name], 0)
    return results


def assert_same(found: Arrays, wanted: Arrays, bound: float = 1e-12) -> None:
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert_close(found[name], values, bound, name)
        assert found[name].dtype == values.dtype


@pytest.mark.parametrize("head", checkpoints.HEADS)
@pytest.mark.parametrize("padding", ["right", "left"])
def test_every_class_infers_what_it_computes(backend: Backend, head: Any, padding: str, tmp_path: Path) -> None:
    model = backend.load(head, checkpoints.make(tmp_path, head))
    inputs = checkpoints.batch(head, model.config, padding=padding)
    assert_same(model.infer(inputs), expected(backend, model, inputs, head))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_kind_of_config(backend: Backend, name: str, tmp_path: Path) -> None:
    model = backend.load("ForMaskedLM", checkpoints.make(tmp_path, "ForMaskedLM", **CONFIGS[name]))
    inputs = checkpoints.batch("ForMaskedLM", model.config)
    assert_same(model.infer(inputs), expected(backend, model, inputs, "ForMaskedLM"))


def test_a_model_without_layers_keeps_the_first_tokens_alone(backend: Backend, tmp_path: Path) -> None:
    model = backend.load("ForSequenceClassification", checkpoints.make(tmp_path, "ForSequenceClassification",
                                                                        num_hidden_layers=0))  # fmt: skip
    inputs = ragged(4, 9, 61)
    assert_same(model.infer(inputs), expected(backend, model, inputs, "ForSequenceClassification"))


@pytest.mark.parametrize("batch_tokens", [1, 20, 10_000])
def test_a_budget_of_tokens_changes_nothing(backend: Backend, batch_tokens: int, tmp_path: Path) -> None:
    model = backend.load("Model", checkpoints.make(tmp_path, "Model"))
    inputs = ragged(9, 20, 61)
    assert_same(model.infer(inputs, batch_tokens=batch_tokens), expected(backend, model, inputs, "Model"))


@pytest.mark.parametrize("head", ["Model", "ForMaskedLM", "ForCausalLM", "ForTokenClassification"])
def test_only_the_tokens_asked_for(backend: Backend, head: Any, tmp_path: Path) -> None:
    model = backend.load(head, checkpoints.make(tmp_path, head))
    inputs = ragged(7, 12, 61)
    where = (inputs["attention_mask"] > 0) & (np.random.default_rng(0).random(inputs["input_ids"].shape) < 0.3)
    found = model.infer(inputs, where=where, batch_tokens=30)
    wanted = expected(backend, model, inputs, head)
    for name in PER_TOKEN[head]:
        assert_close(found[name], wanted[name][where], 1e-12, name)
    nothing = model.infer(inputs, where=np.zeros_like(where))
    assert nothing[PER_TOKEN[head][0]].shape == (0, wanted[PER_TOKEN[head][0]].shape[-1])


MASKS: dict[str, Arrays] = {
    "none": {},
    "holes": {"attention_mask": np.array([[1, 1, 0, 1, 0, 1, 1, 0, 1, 1, 0], [1, 0] * 5 + [1], [1] * 11])},
    "a row of nothing": {"attention_mask": np.array([[1] * 11, [0] * 11, [1] * 4 + [0] * 7])},
    "floats": {"attention_mask": np.array([[1.0] * 5 + [0.25] * 6] * 3)},
    "of pairs": {"attention_mask": np.tril(np.ones((3, 11, 11), np.int64))},
    "own positions": {"position_ids": np.arange(33).reshape(3, 11) % 30},
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_and_positions_of_every_kind(backend: Backend, name: str, tmp_path: Path) -> None:
    model = backend.load("ForTokenClassification", checkpoints.make(tmp_path, "ForTokenClassification"))
    ids = np.random.default_rng(4).integers(1, 61, (3, 11))  # including 1, padding
    inputs = {"input_ids": ids, **MASKS[name]}
    wanted = expected(backend, model, inputs, "ForTokenClassification")
    if name == "floats":
        wanted["logits"] = backend.run(model, inputs)["logits"]
    assert_same(model.infer(inputs), wanted)


def test_changed_weights_are_seen(backend: Backend, tmp_path: Path) -> None:
    model = backend.load("ForMaskedLM", checkpoints.make(tmp_path, "ForMaskedLM"))
    inputs = checkpoints.batch("ForMaskedLM", model.config)
    before = model.infer(inputs)["logits"]
    model.resize_token_embeddings(64)
    assert model.infer(inputs)["logits"].shape[-1] == 64
    model.release_infer()
    assert_close(model.infer(inputs)["logits"][..., :61], before, 1e-12)


def test_single_precision_is_close_to_double(backend: Backend, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "ForMaskedLM")
    inputs = ragged(6, 25, 61)
    wanted = expected(backend, backend.load("ForMaskedLM", folder), inputs, "ForMaskedLM")["logits"]
    single = backend.load("ForMaskedLM", folder, dtype="float32")
    found = single.infer(inputs)["logits"]
    assert found.dtype == np.float32
    assert_close(found, wanted, 1e-5)


def test_half_the_bits_are_as_close_as_they_can_be(backend: Backend, tmp_path: Path) -> None:
    """bfloat16 has 8 bits: errors of 1 in 256 at each step, which do not add up to much more."""
    model = backend.load("Model", checkpoints.make(tmp_path, "Model", num_hidden_layers=1), dtype="float32")
    inputs = ragged(6, 25, 61)
    wanted = model.infer(inputs)
    found = model.infer(inputs, dtype="bfloat16")
    for name, values in wanted.items():
        assert found[name].dtype == np.float32
        assert not np.array_equal(found[name], values), name
        assert_close(found[name], values, 0.05, name)


def test_a_dtype_that_the_plain_forward_pass_does_not_have_is_refused(backend: Backend, tmp_path: Path) -> None:
    model = backend.load("ForMaskedLM", checkpoints.make(tmp_path, "ForMaskedLM", **RELATIVE), dtype="float32")
    with pytest.raises(ValueError, match=r"relative positions.* are computed in float32; omit dtype"):
        model.infer(IDS, dtype="bfloat16")
    assert model.infer(IDS, dtype="float32")["logits"].shape == (1, 3, 61)


IDS = {"input_ids": np.array([[0, 5, 2]])}


@pytest.mark.parametrize(
    ("batch", "options", "message"),
    [
        ({}, {}, "needs input_ids"),
        ({**IDS, "labels": np.array([1])}, {}, "infer takes input_ids, attention_mask"),
        ({"input_ids": np.array([0, 5, 2])}, {}, r"input_ids of shape \(3,\)"),
        ({"input_ids": np.zeros((0, 4), int)}, {}, "at least one token"),
        ({"input_ids": np.array([[0.5]])}, {}, "input_ids, float64"),
        ({"input_ids": np.array([[0, 61]])}, {}, "input_ids holds 61, allowed are 0 to 60"),
        ({"input_ids": np.full((1, 29), 5)}, {}, "this model takes 28 tokens"),
        ({**IDS, "token_type_ids": np.array([[0, 2, 0]])}, {}, "token_type_ids holds 2"),
        ({**IDS, "token_type_ids": np.array([[0, 1]])}, {}, "does not fit input_ids"),
        (IDS, {"batch_tokens": 0}, "batch_tokens"),
        (IDS, {"dtype": "int4"}, "dtype='int4'"),
        (IDS, {"where": np.array([True, False, True])}, r"bool array of \(1, 3\)"),
        ({**IDS, "attention_mask": np.array([[1, 1, 0]])}, {"where": np.ones((1, 3), bool)}, "marks padding"),
    ],
)
def test_what_cannot_be_is_named(
    backend: Backend, batch: Arrays, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model = backend.load("ForMaskedLM", checkpoints.make(tmp_path, "ForMaskedLM"))
    with pytest.raises(ValueError, match=message):
        model.infer(batch, **options)


def test_a_class_without_results_for_tokens_takes_no_where(backend: Backend, tmp_path: Path) -> None:
    model = backend.load("ForSequenceClassification", checkpoints.make(tmp_path, "ForSequenceClassification"))
    with pytest.raises(ValueError, match="omit it"):
        model.infer(IDS, where=np.ones((1, 3), bool))
