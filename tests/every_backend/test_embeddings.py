"""Getting, replacing and resizing embeddings, tied to the LM head or not, the same in the three frameworks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import Backend, assert_close

WORDS = "roberta.embeddings.word_embeddings.weight"
DECODER = "lm_head.decoder.weight"
TOKENS = {"input_ids": np.array([[0, 5, 6, 2]])}


def replace(backend: Backend, model: Any, which: str, rows: np.ndarray) -> None:
    """`set_input_embeddings` or `set_output_embeddings` with the type that users of the framework would pass."""
    setter = getattr(model, f"set_{which}_embeddings")
    if backend.name != "pt":
        setter(rows)
        return
    import torch

    values = torch.from_numpy(rows)
    if which == "input":
        setter(torch.nn.Embedding.from_pretrained(values, freeze=False, padding_idx=1))
        model.tie_weights()
    else:
        layer = torch.nn.Linear(rows.shape[1], rows.shape[0], dtype=values.dtype)
        layer.weight = torch.nn.Parameter(values)
        layer.bias = model.lm_head.bias
        setter(layer)


@pytest.mark.parametrize("is_tied", [True, False], ids=["tied", "untied"])
def test_a_replaced_word_embedding_reaches_a_tied_head_only(backend: Backend, is_tied: bool, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path / "first", "ForMaskedLM", tie_word_embeddings=is_tied)
    model = backend.load("ForMaskedLM", folder)
    before = backend.parameters(model)
    rows = np.random.default_rng(5).normal(size=before[WORDS].shape)
    replace(backend, model, "input", rows)
    after = backend.parameters(model)
    assert np.array_equal(after[WORDS], rows)
    assert is_tied or np.array_equal(after[DECODER], before[DECODER])
    model.save_pretrained(tmp_path / "second")
    again = backend.load("ForMaskedLM", tmp_path / "second")
    assert_close(backend.run(again, TOKENS)["logits"], backend.run(model, TOKENS)["logits"], 1e-14)


def test_a_replaced_output_embedding_stays_beside_an_untied_word_embedding(backend: Backend, tmp_path: Path) -> None:
    model = backend.load("ForMaskedLM", checkpoints.make(tmp_path, "ForMaskedLM", tie_word_embeddings=False))
    before = backend.parameters(model)
    rows = np.random.default_rng(5).normal(size=before[DECODER].shape)
    replace(backend, model, "output", rows)
    after = backend.parameters(model)
    assert np.array_equal(after[DECODER], rows)
    assert np.array_equal(after[WORDS], before[WORDS])
    assert np.array_equal(after["lm_head.bias"], before["lm_head.bias"])


def test_only_language_models_have_output_embeddings(backend: Backend, tmp_path: Path) -> None:
    model = backend.load("ForTokenClassification", checkpoints.make(tmp_path, "ForTokenClassification"))
    assert model.get_output_embeddings() is None
    with pytest.raises(ValueError, match="has no LM head"):
        model.set_output_embeddings(np.zeros((61, 24)))


def test_a_vocabulary_is_rounded_up(backend: Backend, tmp_path: Path) -> None:
    model = backend.load("ForMaskedLM", checkpoints.make(tmp_path, "ForMaskedLM"))
    model.resize_token_embeddings(pad_to_multiple_of=8)
    assert model.config.vocab_size == 64
    assert backend.run(model, TOKENS)["logits"].shape == (1, 4, 64)
    model.resize_token_embeddings(57, pad_to_multiple_of=10)
    assert model.config.vocab_size == 60
    model.resize_token_embeddings()
    assert model.config.vocab_size == 60


@pytest.mark.parametrize("mean_resizing", [True, False], ids=["mean", "wide"])
def test_every_new_row_is_another_one(backend: Backend, tmp_path: Path, mean_resizing: bool) -> None:
    """New rows vary around the mean if requested: in units of the spread, no two of them are equal."""
    model = backend.load("ForMaskedLM", checkpoints.make(tmp_path, "ForMaskedLM", tie_word_embeddings=False))
    before = backend.parameters(model)
    for rows in (62, 63):
        model.resize_token_embeddings(rows, mean_resizing=mean_resizing)
    after = backend.parameters(model)
    new = np.concatenate(
        [
            (after[name][61:] - mean_resizing * before[name].mean(axis=0)) / before[name].std(axis=0)
            for name in (WORDS, DECODER)
        ]
    )
    distances = np.linalg.norm(new[:, None] - new, axis=-1)[~np.eye(4, dtype=bool)]
    assert distances.min() > np.linalg.norm(new, axis=-1).mean() / 2  # about 1.4 times the mean for independent rows


def test_a_loaded_model_drops_nothing_out(backend: Backend, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "ForMaskedLM", hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5)
    model = backend.load("ForMaskedLM", folder)
    first, second = (backend.run(model, TOKENS)["logits"] for _ in range(2))
    assert np.array_equal(first, second)
