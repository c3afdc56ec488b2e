"""Decoding in numpy, one driver for the three frameworks: greedy, sampling, beam and contrastive search, assistants.

Shapes: rows (batch, times beams or returned sequences), length (prompt and new tokens so far), vocab.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from roberta.common.generation.beams import Hypothesis, PromptSearch
from roberta.common.generation.config import GenerationConfig
from roberta.common.generation.draws import Draws, Seed, check_choice, perturbed
from roberta.common.generation.processors import log_softmax
from roberta.common.generation.prompts import Plan, Rows

Ints = npt.NDArray[np.integer[Any]]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating[Any]]


class Stepper(Protocol):
    """A model with its cache, as the driver sees it.

    `inputs` are the arguments of the model's call for all tokens so far; a stepper with a cache runs those only that are
    not in it.
    """

    def start(self, inputs: Mapping[str, Ints], copies: int) -> Floats:
        """Read the prompts, go on with `copies` rows of each. Logits of the last token, (rows, vocab)."""

    def step(self, inputs: Mapping[str, Ints]) -> Floats:
        """Read one more token of each row. Logits of it, (rows, vocab)."""

    def reorder(self, rows: Ints) -> None:
        """Let row i go on from what row `rows[i]` has read."""

    def read(self, inputs: Mapping[str, Ints], count: int) -> Floats:
        """Read several more tokens of each row. Logits of the last `count`, (rows, count, vocab)."""

    def keep(self, count: int, inputs: Mapping[str, Ints]) -> None:
        """Forget what `read` read but for the first `count` of its logits' tokens; `inputs` are all tokens that stay."""

    def last_hidden(self) -> Floats:
        """The last layer's hidden states of the tokens of the last call, (rows, tokens, hidden)."""

    def choose(self, rows: Ints) -> None:
        """As `reorder`, and the same for what is recorded of the last step."""


class Streamer(Protocol):
    """Takes the tokens as they come: first the prompts, then one a row."""

    def put(self, value: Any) -> None:
        """Take ids, (rows, prompt) or (rows,)."""

    def end(self) -> None:
        """There are no more."""


@dataclass
class Decoded:
    """What came out; see `generation.GenerateBeamDecoderOnlyOutput`. Scores and logits where asked for."""

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


def decode(
    stepper: Stepper,
    plan: Plan,
    seed: int | Sequence[Seed],
    *,
    streamer: Streamer | None = None,
    assistant: Stepper | None = None,
    guesses: Plan | None = None,
) -> Decoded:
    """Run the search that the settings name; `seed` decides the draws of sampling (see `Draws`).

    Args:
        assistant: guesses tokens, by the plan `guesses`, which has none of the caller's processors and criteria.
    """
    from roberta.common.generation.assisted import walk_assisted
    from roberta.common.generation.contrastive import walk_contrastive

    draws = Draws(seed, len(plan.rows.input_ids))
    if assistant is not None or plan.config.prompt_lookup_num_tokens is not None:
        return walk_assisted(stepper, plan, draws, assistant, streamer, plan if guesses is None else guesses)
    if is_contrastive(plan.config):
        return walk_contrastive(stepper, plan, streamer)
    if plan.config.num_beams > 1:
        if streamer is not None:
            raise ValueError("streamer and num_beams > 1 do not go together: a beam may be given up; set num_beams=1")
        return _beams(stepper, plan, draws)
    return _walk(stepper, plan, draws, streamer)


def is_contrastive(config: GenerationConfig) -> bool:
    """Whether the settings name contrastive search."""
    is_plain = config.num_beams == 1 and not config.do_sample
    return bool(config.penalty_alpha) and is_plain and (config.top_k or 0) > 1


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
        """Append a token to each row; whether any row goes on."""
        if self.plan.config.eos_token_ids:  # without end tokens rows go on until all of them end
            tokens = np.where(self.is_open, tokens, self.plan.pad_token_id)
        self.rows = self.rows.appended(tokens)
        if self.streamer is not None:
            self.streamer.put(tokens)
        self.is_open &= ~self.plan.stopping(self.rows.shown, self.decoded.kept(self.plan.config))
        return bool(self.is_open.any())

    def done(self) -> Decoded:
        """What came out."""
        if self.streamer is not None:
            self.streamer.end()
        self.decoded.sequences = self.rows.shown
        return self.decoded


def _walk(stepper: Stepper, plan: Plan, draws: Draws, streamer: Streamer | None) -> Decoded:
    """The best tokens, or drawn ones."""
    logits = stepper.start(plan.rows.inputs(), plan.copies)
    walk = Walk(plan, plan.rows.take(np.arange(len(logits)) // plan.copies), Decoded(), streamer)
    while True:
        scores = walk.scored(logits)
        ranking = perturbed(scores, draws.of_all(scores.shape)) if plan.config.do_sample else scores
        if not walk.take(ranking.argmax(axis=1)):
            return walk.done()
        logits = stepper.step(walk.rows.inputs())


def _beams(stepper: Stepper, plan: Plan, draws: Draws) -> Decoded:
    """The likeliest sequences that a beam search finds, best first."""
    config, decoded, beams = plan.config, Decoded(), plan.config.num_beams
    logits = stepper.start(plan.rows.inputs(), beams)
    rows = plan.rows.take(np.arange(len(logits)) // beams)
    searches = [PromptSearch(plan, prompt) for prompt in range(len(logits) // beams)]
    while True:
        scores = plan.processed(rows.shown, log_softmax(logits))
        kept, moves = decoded.kept(config), []
        for index, search in enumerate(searches):
            moves.append(search.advance(scores, draws.of(index), kept))
        decoded.record(config, scores, logits)
        if not any(search.is_open for search in searches):
            return _best_of(searches, plan, decoded)
        tokens, origins = (np.concatenate(parts) for parts in zip(*moves, strict=True))
        rows = rows.take(origins).appended(tokens)
        if (origins != np.arange(len(origins))).any():
            stepper.reorder(origins)
        logits = stepper.step(rows.inputs())


def _best_of(searches: list[PromptSearch], plan: Plan, decoded: Decoded) -> Decoded:
    """Fill in the sequences that are returned, `num_return_sequences` a prompt."""
    returns = plan.config.num_return_sequences
    best: list[Hypothesis] = [hypothesis for search in searches for hypothesis in search.best(returns)]
    longest = max(len(hypothesis.tokens) for hypothesis in best)

    def padded(values: tuple[int, ...], filler: int) -> list[int]:
        return [*values, *[filler] * (longest - len(values))]

    new = np.array([padded(hypothesis.tokens, plan.pad_token_id) for hypothesis in best], np.int64)
    prompts = np.repeat(plan.rows.shown, returns, axis=0)
    decoded.sequences = np.concatenate((prompts, new), axis=1)
    decoded.beam_indices = np.array([padded(hypothesis.origins, -1) for hypothesis in best], np.int64)
    if plan.config.output_scores:
        decoded.sequences_scores = np.array([hypothesis.score for hypothesis in best], np.float32)
    return decoded


def transition_scores(
    sequences: Ints, scores: Sequence[Floats], beam_indices: Ints | None, normalize_logits: bool
) -> Floats:
    """The score of each new token of `sequences`, (rows, new); 0 behind the end of a beam.

    Args:
        scores: one (rows, vocab) a step. beam_indices: the row that each token was chosen from, of a beam search.
        normalize_logits: log probabilities instead of scores.
    """
    steps = np.stack([log_softmax(step) if normalize_logits else step for step in scores])  # (step, rows, vocab)
    origins = np.arange(steps.shape[1])[:, None].repeat(len(steps), axis=1) if beam_indices is None else beam_indices
    length = int((origins >= 0).sum(axis=1).max())
    origins = origins[:, :length]
    tokens = sequences[:, sequences.shape[1] - length :]
    found: Floats = steps[np.arange(length), np.maximum(origins, 0), tokens]
    return np.where(origins < 0, 0, found).astype(found.dtype)
