"""Assisted decoding: guess several tokens, check them in one pass of the model. The tokens are those of plain decoding.

Source: Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding". Sampling needs no rejection
step: guess and check draw with the same Gumbel numbers, so that a seed gives what it gives without an assistant.
"""

from __future__ import annotations

import numpy as np

from roberta.common.generation.prompts import Plan, Rows
from roberta.common.generation.stepping import StepperBase
from roberta.common.generation.walk import Decoded, Draws, Streamer, Walk, perturbed
from roberta.common.values import Floats, Ints


class _Choice:
    """What chooses tokens, with the draws of every step kept so that guess and check see the same."""

    def __init__(self, plan: Plan, draws: Draws) -> None:
        self.plan, self.draws = plan, draws
        self.drawn: list[Floats] = []

    def of(self, scores: Floats, step: int) -> Ints:
        """The token of each row from its scores (rows, vocab), as the `step`-th new one."""
        if not self.plan.config.do_sample:
            return np.asarray(scores.argmax(axis=1))
        while len(self.drawn) <= step:
            self.drawn.append(self.draws.of_all(scores.shape))
        return np.asarray(perturbed(scores, self.drawn[step]).argmax(axis=1))


class _Assistant:
    """Guesses of a smaller model."""

    def __init__(self, stepper: StepperBase, plan: Plan, choice: _Choice) -> None:
        self.stepper, self.plan, self.choice = stepper, plan, choice
        self.known: Rows | None = None  # what is in the stepper's cache

    def guess(self, rows: Rows, count: int) -> Ints:
        """Up to `count` tokens to follow `rows`, (count,)."""
        start = rows.length
        logits = self._caught_up(rows)
        for index in range(count):
            scores = self.plan.processed(rows.shown, logits)
            rows = rows.appended(self.choice.of(scores, rows.length - self.plan.prompt))
            if index == count - 1 or self.plan.stopping(rows.shown)[0]:
                break
            self.known = rows
            logits = self.stepper.step(rows.inputs())
        return rows.input_ids[0, start:]

    def _caught_up(self, rows: Rows) -> Floats:
        """The logits of the next token, after reading what is new and forgetting what was guessed wrong."""
        if self.known is None:
            self.known = rows
            return self.stepper.start(rows.inputs(), 1)
        shared = min(self.known.length, rows.length - 1)
        same = (self.known.input_ids[0, :shared] == rows.input_ids[0, :shared]).cumprod()
        self.stepper.keep(0, rows.cut(max(int(same.sum()), self.plan.prompt)).inputs())
        self.known = rows
        return self.stepper.read(rows.inputs(), 1)[:, 0]


class _Lookup:
    """Guesses from the row itself: what followed the same last tokens before. Source: Saxena 2023, prompt lookup."""

    def __init__(self, plan: Plan) -> None:
        self.size = plan.config.max_matching_ngram_size or 2

    def guess(self, rows: Rows, count: int) -> Ints:
        """Up to `count` tokens to follow `rows`; none where nothing matches."""
        ids = rows.shown[0]
        for size in range(min(self.size, len(ids) - 1), 0, -1):
            grams = np.lib.stride_tricks.sliding_window_view(ids[:-1], size)
            found = np.flatnonzero((grams == ids[-size:]).all(axis=1))
            if len(found):
                begin = int(found[0]) + size
                return np.asarray(ids[begin : begin + count])
        return np.asarray(ids[:0])


def walk_assisted(
    stepper: StepperBase,
    plan: Plan,
    draws: Draws,
    assistant: StepperBase | None,
    streamer: Streamer | None,
    guesses: Plan,
) -> Decoded:
    """Greedy search or sampling of one row, with guesses of an assistant or of the row itself."""
    _check(plan)
    choice = _Choice(plan, draws)
    guesser = _Lookup(plan) if assistant is None else _Assistant(assistant, guesses, choice)
    most = plan.config.prompt_lookup_num_tokens if assistant is None else plan.config.num_assistant_tokens
    logits = stepper.start(plan.rows.inputs(), 1)
    walk = Walk(plan, plan.rows, Decoded(), streamer)
    if not walk.take(choice.of(walk.scored(logits), 0)):
        return walk.done()
    while True:
        first = walk.rows
        room = plan.max_length - first.length - 1  # the check itself gives one token
        guess = guesser.guess(first, min(most or 0, room)) if room > 0 else first.input_ids[0, :0]
        found = stepper.read(first.appended(guess[None]).inputs(), 1 + len(guess))
        goes_on, taken = True, 0
        for index in range(1 + len(guess)):
            token = choice.of(walk.scored(found[:, index]), walk.rows.length - plan.prompt)
            goes_on = walk.take(token)
            taken = index + 1
            if not goes_on or (index < len(guess) and token[0] != guess[index]):
                break
        stepper.keep(taken, walk.rows.cut(walk.rows.length - 1).inputs())
        if not goes_on:
            return walk.done()


def _check(plan: Plan) -> None:
    config = plan.config
    name = "assistant_model" if config.prompt_lookup_num_tokens is None else "prompt_lookup_num_tokens"
    if len(plan.rows.input_ids) > 1:
        raise ValueError(f"{name} works for one prompt at a time, not {len(plan.rows.input_ids)}; omit it or loop")
    for setting in ("num_beams", "num_return_sequences"):
        if getattr(config, setting) > 1:
            raise ValueError(f"{setting}={getattr(config, setting)} does not go with {name}; omit one of them")
    if not config.use_cache:
        raise ValueError(f"{name} needs the cache of a decoder; set use_cache=True and load it with is_decoder=True")
