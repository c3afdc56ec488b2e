"""What a verification runs: ids with padding, drawn from a seed, given as numbers, or made of texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from roberta.common.config import RobertaConfig
from roberta.common.parameters import Head
from roberta.common.storage.folders import CheckpointError

Arrays = dict[str, np.ndarray]

ENCODER_TOKENS = 5  # of the made-up encoder that a decoder with cross-attention attends to


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
        texts, ids: one of them, or neither: then four rows are drawn, the first of `tokens` tokens (or as long as
            the model takes), the others shorter and padded; token types too, where the model has several.
        seed: of what is drawn.

    Returns:
        input_ids and attention_mask, int64, (batch, seq), or (1, rows, seq) for multiple choice; perhaps
        token_type_ids; and encoder_hidden_states, float64, (batch, 5, hidden), for cross-attention.
    """
    if texts is not None and ids is not None:
        raise ValueError("give texts or ids, not both")
    rng = np.random.default_rng(seed)
    rows = encode(texts, folder, config) if texts is not None else ids
    inputs = padded(rows, config) if rows is not None else drawn(config, rng, tokens)
    if head == "ForMultipleChoice":  # the rows are the choices of one example
        inputs = {name: value[None] for name, value in inputs.items()}
    elif config.add_cross_attention and head in ("Model", "ForCausalLM", "ForMaskedLM"):
        shape = (len(inputs["input_ids"]), ENCODER_TOKENS, config.hidden_size)
        inputs["encoder_hidden_states"] = rng.normal(size=shape)
    return inputs


def padded(rows: Sequence[Sequence[int]], config: RobertaConfig) -> Arrays:
    """Rows of ids, checked, and padded on the right to the longest."""
    if not rows or not all(len(row) for row in rows):
        raise ValueError("the ids to run are empty; give at least one row of at least one id")
    longest, limit = max(map(len, rows)), config.max_length_tokens
    if longest > limit:
        raise ValueError(f"a row of {longest} ids exceeds the {limit} tokens this model takes; give shorter rows")
    inputs = padded_rows(rows, config.pad_token_id)
    low, high = inputs["input_ids"].min(), inputs["input_ids"].max()
    if low < 0 or high >= config.vocab_size:
        raise ValueError(f"the ids hold {low} to {high}, allowed are 0 to {config.vocab_size - 1}")
    return inputs


def padded_rows(rows: Sequence[Sequence[int]], pad: int) -> Arrays:
    """input_ids and attention_mask, int64, (rows, longest)."""
    array = np.full((len(rows), max(map(len, rows))), pad, np.int64)
    for index, row in enumerate(rows):
        array[index, : len(row)] = row
    return {"input_ids": array, "attention_mask": (array != pad).astype(np.int64)}


def drawn(config: RobertaConfig, rng: np.random.Generator, tokens: int) -> Arrays:
    """Four rows of random ids, each but the first shorter than the one before, and token types if there are several."""
    if tokens < 1:
        raise ValueError(f"tokens={tokens}; a row needs at least 1")
    longest = min(tokens, config.max_length_tokens)
    lengths = [max(1, longest * quarters // 4) for quarters in (4, 3, 2, 1)]
    others = np.delete(np.arange(config.vocab_size), config.pad_token_id)
    inputs = padded([rng.choice(others, length).tolist() for length in lengths], config)
    if config.type_vocab_size > 1:
        inputs["token_type_ids"] = rng.integers(0, config.type_vocab_size, inputs["input_ids"].shape)
    return inputs


def encode(texts: Sequence[str], folder: Path, config: RobertaConfig) -> list[list[int]]:
    """The ids of each text, special tokens included, cut to what the model takes.

    Raises:
        CheckpointError: the folder has neither tokenizer.json nor vocab.json with merges.txt, or they are damaged.
    """
    from tokenizers import AddedToken, ByteLevelBPETokenizer, Tokenizer
    from tokenizers.processors import RobertaProcessing

    whole, vocabulary, merges = (folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
    try:
        if whole.is_file():
            tokenizer = Tokenizer.from_file(str(whole))
        elif vocabulary.is_file() and merges.is_file():
            tokenizer = ByteLevelBPETokenizer(str(vocabulary), str(merges))
            marks = ("<s>", "<pad>", "</s>", "<unk>")
            tokenizer.add_special_tokens([*marks, AddedToken("<mask>", lstrip=True)])  # <mask> takes the space before
            end, start = ((mark, tokenizer.token_to_id(mark)) for mark in ("</s>", "<s>"))
            tokenizer.post_processor = RobertaProcessing(end, start)
        else:
            raise CheckpointError(f"{folder} has no {whole.name}, nor {vocabulary.name} and {merges.name}; give ids")
    except CheckpointError:
        raise
    except Exception as error:  # the library raises plain Exception
        raise CheckpointError(f"the tokenizer in {folder} cannot be read: {error}; give ids") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(config.max_length_tokens)
    return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
