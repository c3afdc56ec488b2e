"""The inputs of a verification: ids with padding, drawn from a seed, given as numbers, or made from texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from roberta.common.config import RobertaConfig
from roberta.common.parameters import Head
from roberta.common.pipelines.arrays import rectangle
from roberta.common.storage.folders import CheckpointError
from roberta.common.tokenizer.auto import AutoTokenizer
from roberta.common.values import Arrays

_ENCODER_TOKENS = 5  # of the made-up encoder that a decoder with cross-attention attends to


def make_inputs(
    config: RobertaConfig,
    head: Head,
    folder: Path,
    *,
    texts: Sequence[str] | None,
    ids: Sequence[Sequence[int]] | None,
    seed: int,
    tokens: int,
) -> Arrays:
    """The arguments of the model by name, the same for every framework.

    Args:
        folder: where the tokenizer of `texts` is.
        texts, ids: one of them, or neither: then four rows are drawn, the first of `tokens` tokens (or as many as
            the model takes), the others shorter and padded; and token types, if the model has several.
        seed: of the draws.

    Returns:
        input_ids and attention_mask, int64, (batch, seq), or (1, rows, seq) for multiple choice; token_type_ids where
        they are drawn; and encoder_hidden_states, float64, (batch, 5, hidden), for cross-attention.
    """
    if texts is not None and ids is not None:
        raise ValueError("give texts or ids, not both")
    rng = np.random.default_rng(seed)
    rows = encode_texts(texts, folder, config) if texts is not None else ids
    inputs = _padded(rows, config) if rows is not None else _drawn(config, rng, tokens)
    if head == "ForMultipleChoice":  # the rows are the choices of one example
        inputs = {name: value[None] for name, value in inputs.items()}
    elif config.add_cross_attention and head in ("Model", "ForCausalLM", "ForMaskedLM"):
        shape = (len(inputs["input_ids"]), _ENCODER_TOKENS, config.hidden_size)
        inputs["encoder_hidden_states"] = rng.normal(size=shape)
    return inputs


def _padded(rows: Sequence[Sequence[int]], config: RobertaConfig) -> Arrays:
    """Rows of ids, checked, and padded on the right to the longest."""
    if not rows or not all(len(row) for row in rows):
        raise ValueError("the ids to run are empty; give at least one row of at least one id")
    longest, limit = max(map(len, rows)), config.max_length_tokens
    if longest > limit:
        raise ValueError(f"a row of {longest} ids exceeds the {limit} tokens that this model takes; give shorter rows")
    inputs = padded_rows(rows, config.pad_token_id)
    low, high = inputs["input_ids"].min(), inputs["input_ids"].max()
    if low < 0 or high >= config.vocab_size:
        raise ValueError(f"the ids range from {low} to {high}; they must be from 0 to {config.vocab_size - 1}")
    return inputs


def padded_rows(rows: Sequence[Sequence[int]], pad: int) -> Arrays:
    """input_ids and attention_mask, int64, (rows, longest)."""
    ids, _ = rectangle(rows, pad)
    return {"input_ids": ids, "attention_mask": (ids != pad).astype(np.int64)}


def _drawn(config: RobertaConfig, rng: np.random.Generator, tokens: int) -> Arrays:
    """Four rows of random ids, each but the first shorter than the one before, and token types if there are several."""
    if tokens < 1:
        raise ValueError(f"tokens={tokens}; a row needs at least 1")
    longest = min(tokens, config.max_length_tokens)
    lengths = [max(1, longest * quarters // 4) for quarters in (4, 3, 2, 1)]
    others = np.delete(np.arange(config.vocab_size), config.pad_token_id)
    inputs = _padded([rng.choice(others, length).tolist() for length in lengths], config)
    if config.type_vocab_size > 1:
        inputs["token_type_ids"] = rng.integers(0, config.type_vocab_size, inputs["input_ids"].shape)
    return inputs


def encode_texts(texts: Sequence[str], folder: Path, config: RobertaConfig) -> list[list[int]]:
    """The ids of each text, special tokens included, cut to the tokens that the model takes.

    Raises:
        CheckpointError: the folder has no tokenizer, or its files are damaged.
    """
    longest = config.max_length_tokens
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except ValueError as error:
        raise CheckpointError(f"the tokenizer in {folder} cannot be read: {error}; give ids") from error
    ids: list[list[int]] = tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"]
    return ids
