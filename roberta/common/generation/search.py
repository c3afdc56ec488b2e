"""Decoding in numpy, one driver for the three frameworks: greedy, sampling, beam and contrastive search, assistants.

Shapes: rows (batch, times beams or returned sequences), length (prompt and new tokens so far), vocab.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from roberta.common.generation.assisted import walk_assisted
from roberta.common.generation.beams import Hypothesis, PromptSearch
from roberta.common.generation.contrastive import is_contrastive, walk_contrastive
from roberta.common.generation.processors import log_softmax
from roberta.common.generation.prompts import Plan
from roberta.common.generation.stepping import StepperBase
from roberta.common.generation.walk import Decoded, Draws, Seed, Streamer, Walk, perturbed
from roberta.common.values import Floats, Ints


def decode(
    stepper: StepperBase,
    plan: Plan,
    seed: int | Sequence[Seed],
    *,
    streamer: Streamer | None = None,
    assistant: StepperBase | None = None,
    guesses: Plan | None = None,
) -> Decoded:
    """Run the search that the settings name; `seed` decides the draws of sampling (see `Draws`).

    Args:
        assistant: guesses tokens, by the plan `guesses`, without the caller's processors and criteria.
    """
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


def _walk(stepper: StepperBase, plan: Plan, draws: Draws, streamer: Streamer | None) -> Decoded:
    """The best tokens, or drawn ones."""
    logits = stepper.start(plan.rows.inputs(), plan.copies)
    walk = Walk(plan, plan.rows.take(np.arange(len(logits)) // plan.copies), Decoded(), streamer)
    while True:
        scores = walk.scored(logits)
        ranking = perturbed(scores, draws.of_all(scores.shape)) if plan.config.do_sample else scores
        if not walk.take(ranking.argmax(axis=1)):
            return walk.done()
        logits = stepper.step(walk.rows.inputs())


def _beams(stepper: StepperBase, plan: Plan, draws: Draws) -> Decoded:
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
