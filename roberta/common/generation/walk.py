"""One token after the other: what a search sees of a model, how it draws, and what it records.

Shapes: rows (batch, times beams or returned sequences), length (prompt and new tokens so far), vocab.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np

from roberta.common.generation.config import GenerationConfig
from roberta.common.generation.prompts import Plan, Rows
from roberta.common.values import Floats, Ints

Seed = int | Sequence[int]  # what `numpy.random.default_rng` takes


class Streamer(Protocol):
    """Takes the tokens as they come: first the prompts, then one per row."""

    def put(self, value: Any) -> None:
        """Take ids, (rows, prompt) or (rows,)."""

    def end(self) -> None:
        """The last token has come."""


@dataclass
class Decoded:
    """The result of a search; see `config.GenerateBeamDecoderOnlyOutput`. Scores and logits where asked for."""

    sequences: Ints = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    scores: list[Floats] = field(default_factory=list)
    logits: list[Floats] = field(default_factory=list)
    sequences_scores: Floats | None = None
    beam_indices: Ints | None = None

    def record(self, config: GenerationConfig, scores: Floats, logits: Floats) -> None:
        """Keep the scores and logits of a step, if asked for."""
        if config.return_dict_in_generate and config.output_scores:
            self.scores.append(scores)
        if config.return_dict_in_generate and config.output_logits:
            self.logits.append(logits)

    def kept(self, config: GenerationConfig) -> tuple[Floats, ...] | None:
        """The scores so far, as stopping criteria get them."""
        return tuple(self.scores) if config.return_dict_in_generate and config.output_scores else None


class Walk:
    """One token after the other for each row: what greedy search, sampling, assistants and contrastive search share."""

    def __init__(self, plan: Plan, rows: Rows, decoded: Decoded, streamer: Streamer | None) -> None:
        self.plan, self.rows, self.decoded, self.streamer = plan, rows, decoded, streamer
        self.is_open = np.ones(len(rows.input_ids), bool)
        if streamer is not None:
            streamer.put(rows.shown)

    def scored(self, logits: Floats) -> Floats:
        """The scores of the next tokens, recorded."""
        scores = self.plan.processed(self.rows.shown, logits)
        self.decoded.record(self.plan.config, scores, logits)
        check_choice(scores.max(axis=1)[self.is_open])
        return scores

    def take(self, tokens: Ints) -> bool:
        """Append a token to each row; returns whether any row continues."""
        if self.plan.config.eos_token_ids:  # without end tokens rows go on until all of them end
            tokens = np.where(self.is_open, tokens, self.plan.pad_token_id)
        self.rows = self.rows.appended(tokens)
        if self.streamer is not None:
            self.streamer.put(tokens)
        self.is_open &= ~self.plan.stopping(self.rows.shown, self.decoded.kept(self.plan.config))
        return bool(self.is_open.any())

    def done(self) -> Decoded:
        """The result, after the streamer is told of the end."""
        if self.streamer is not None:
            self.streamer.end()
        self.decoded.sequences = self.rows.shown
        return self.decoded


class Draws:
    """The random numbers of sampling: of one stream for all prompts, or of one for each.

    Args:
        seed: of the one stream; or a list with a seed for each prompt, whose draws then do not depend on which other
            prompts are in the batch.
    """

    def __init__(self, seed: int | Sequence[Seed], prompts: int) -> None:
        is_one = isinstance(seed, int | np.integer)
        seeds: Sequence[Any] = [seed] if is_one else cast(Sequence[Any], seed)
        if not is_one and len(seeds) != prompts:
            raise ValueError(f"seed is a list of {len(seeds)} for {prompts} prompts; give one number, or one a prompt")
        self.streams = [np.random.default_rng(one) for one in seeds]

    def of_all(self, shape: tuple[int, ...]) -> Floats:
        """Gumbel draws for the rows of all prompts, which follow one another."""
        rows = shape[0] // len(self.streams)
        return np.concatenate([stream.gumbel(size=(rows, *shape[1:])) for stream in self.streams])

    def of(self, prompt: int) -> np.random.Generator:
        """The stream of one prompt."""
        return self.streams[prompt if len(self.streams) > 1 else 0]


def perturbed(scores: Floats, draws: Floats) -> Floats:
    """Scores whose best is a draw from their softmax, and whose best n are n draws without putting back.

    Source: the Gumbel-max trick; Kool et al. 2019, "Stochastic Beams and Where to Find Them".
    """
    return scores + draws


def check_choice(best: Floats) -> None:
    """Raise unless the best score of every row is a number: nothing is left, or the model is broken."""
    if not np.isfinite(best).all():
        raise ValueError(
            "no token is left to choose: the settings (bad_words_ids, suppress_tokens, no_repeat_ngram_size) or the "
            "logits_processor exclude all of them, or the model's logits are not finite"
        )
