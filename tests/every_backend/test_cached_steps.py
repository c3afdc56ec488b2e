"""Decoding with the cache equals one pass over all tokens, whatever the ids, the mask and the steps."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import Arrays, Backend, assert_close

SEQ = 9
TRIES = {"pt": 40, "tf": 8, "flax": 8}


def random_mask(rng: np.random.Generator, rows: int) -> Arrays:
    """No mask, a mask of tokens, or a mask of pairs in which no token sees later ones."""
    mask = rng.integers(0, 2, (rows, SEQ))
    match rng.integers(0, 3):
        case 0:
            return {}
        case 1:
            return {"attention_mask": mask}
    pairs = np.tril(rng.integers(0, 2, (rows, SEQ, SEQ)))
    return {"attention_mask": np.maximum(pairs, np.eye(SEQ, dtype=np.int64))}


def sees_something(inputs: Arrays, rows: int) -> np.ndarray:
    """Tokens, (rows, seq), with at least one token to attend to: the results of the others mean nothing."""
    mask = inputs.get("attention_mask")
    return np.ones((rows, SEQ), bool) if mask is None or mask.ndim == 3 else mask.cumsum(axis=1) > 0


def random_stops(rng: np.random.Generator) -> list[int]:
    """The ends of steps of one to three tokens."""
    ends = np.cumsum(rng.integers(1, 4, SEQ))
    return [*(int(end) for end in ends if end < SEQ), SEQ]


@pytest.fixture
def model(backend: Backend, tmp_path: Path) -> Any:
    return backend.load("ForCausalLM", checkpoints.make(tmp_path, "ForCausalLM", num_hidden_layers=1, pad_token_id=2))


def test_steps_of_any_size_over_any_ids_and_masks_equal_the_whole_pass(backend: Backend, model: Any) -> None:
    rng = np.random.default_rng(11)
    for attempt in range(TRIES[backend.name]):
        inputs = {"input_ids": rng.integers(0, 5, (2, SEQ)), **random_mask(rng, 2)}  # a fifth is padding
        stops = random_stops(rng)
        wanted = backend.run(model, inputs)["logits"]
        found = backend.decode_in_steps(model, inputs, stops)
        where = sees_something(inputs, 2)
        assert_close(found[where], wanted[where], 1e-10, f"attempt {attempt}: {inputs}, steps to {stops}")


def test_steps_of_embeddings_count_every_slot_as_the_whole_pass_does(backend: Backend, model: Any) -> None:
    rng = np.random.default_rng(12)
    inputs = {"inputs_embeds": rng.normal(size=(2, SEQ, 24)), "attention_mask": np.ones((2, SEQ), np.int64)}
    inputs["attention_mask"][:, [1, 4]] = 0
    wanted = backend.run(model, inputs)["logits"]
    assert_close(backend.decode_in_steps(model, inputs, [3, 4, 6, SEQ]), wanted, 1e-10)


def test_rows_that_change_places_take_their_counts_along(backend: Backend, model: Any) -> None:
    """Beam search, where a beam continues from another."""
    kv = importlib.import_module(f"roberta.{backend.name}.cache")
    ids = np.array([[3, 2, 4, 2, 3, 4, 3, 2, 4], [3, 4, 4, 3, 2, 3, 4, 4, 3]])
    wanted = backend.run(model, {"input_ids": ids})["logits"]
    first = backend.call(
        model, {"input_ids": ids[:, :3]}, past_key_values=backend.empty_cache(model, ids), use_cache=True
    )
    rows = np.array([1, 0])
    cache = kv.reorder(first.past_key_values, backend.constant(rows))
    last = backend.call(model, {"input_ids": ids[rows, 3:6]}, past_key_values=cache, use_cache=True)
    assert_close(np.asarray(last.logits), wanted[rows, 3:6], 1e-10)


def test_a_cache_is_a_tuple_of_layers_and_a_plain_one_counts_by_the_mask(backend: Backend, model: Any) -> None:
    """Take the cache apart and rebuild it, as callers of transformers do; Flax has its own tree."""
    if backend.name == "flax":
        pytest.skip("a cache in Flax is a tree of dictionaries")
    ids = np.array([[2, 2, 3, 4, 4, 3], [3, 4, 4, 3, 4, 3]])
    mask = (ids != 2).astype(np.int64)
    wanted = backend.run(model, {"input_ids": ids, "attention_mask": mask})["logits"]
    past = backend.call(model, {"input_ids": ids[:, :4], "attention_mask": mask[:, :4]}, use_cache=True).past_key_values
    assert isinstance(past, tuple)
    assert len(past) == 1
    assert [tuple(part.shape) for part in past[0]] == [(2, 3, 4, 8)] * 2
    plain = tuple((key, value) for key, value in past)
    found = backend.call(model, {"input_ids": ids[:, 4:], "attention_mask": mask}, past_key_values=plain)
    assert_close(np.asarray(found.logits), wanted[:, 4:], 1e-10)
