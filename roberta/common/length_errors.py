"""The errors of a sequence or a mask whose length does not fit: the layers of every backend raise them."""

from __future__ import annotations

from typing import Any

from roberta.common.config import RobertaConfig


def way_out_of_length(config: RobertaConfig) -> str:
    """What to do about a sequence that is too long."""
    longest = config.max_length_tokens
    return f"this model takes {longest} tokens: truncate with tokenizer(..., truncation=True, max_length={longest})"


def distance_error(keys: int, config: RobertaConfig) -> ValueError:
    """More tokens than a model with relative positions has distances for."""
    return ValueError(
        f"{keys} tokens, padding included, exceed the {config.max_position_embeddings} distances of this model; "
        f"{way_out_of_length(config)}"
    )


def mask_error(shape: tuple[int | None, ...], queries: Any, keys: Any) -> ValueError:
    """An attention mask that does not fit `queries` tokens that attend to `keys`."""
    return ValueError(
        f"attention mask of shape {shape} does not fit {queries} tokens that attend to {keys}; "
        f"give (batch, {keys}), (batch, {queries}, {keys}) or (batch, 1 or heads, {queries}, {keys})"
    )
