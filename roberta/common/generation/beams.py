"""Beam search: the likeliest sequences, in one group of beams or in several that avoid each other's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from roberta.common.generation.prompts import Plan
from roberta.common.generation.walk import check_choice, perturbed
from roberta.common.values import Floats, Ints

ABSENT = -1e9  # the score of a beam that does not exist yet: below any real one, and finite


@dataclass(frozen=True)
class Hypothesis:
    """A continuation, running or finished: new tokens, the row each was chosen in, and its score."""

    score: float
    tokens: tuple[int, ...] = ()
    origins: tuple[int, ...] = ()


class BeamSearch:
    """The beams of one prompt, or one group of them.

    Attributes:
        running: the `width` continuations to extend; their scores are log probabilities.
        finished: the best that have ended, best first; their scores are divided by length ** length_penalty.
        is_open: whether `finished` may still change.
    """

    def __init__(self, plan: Plan, prompt: int, first_row: int) -> None:
        self.plan, self.config = plan, plan.config
        self.prompt = plan.rows.shown[prompt]
        self.width = plan.config.num_beams // plan.config.num_beam_groups
        self.rows = slice(first_row, first_row + self.width)
        # all beams are the same prompt yet
        self.running = [Hypothesis(0.0), *[Hypothesis(ABSENT)] * (self.width - 1)]
        self.finished: list[Hypothesis] = []
        self.is_open = True

    def advance(
        self, scores: Floats, generator: np.random.Generator, kept: Sequence[Floats] | None
    ) -> tuple[Ints, Ints]:
        """Take a step from the scores (beams, vocab): the next tokens, and the rows that they extend."""
        best = self._candidates(scores, generator)
        ends = self._ends(best, kept)
        if self.is_open:
            self._finish([c for c, end in zip(best[: self.width], ends, strict=False) if end])
        going = [candidate for candidate, end in zip(best, ends, strict=True) if not end][: self.width]
        self.is_open = self.is_open and bool(going) and self._can_improve(going[0])
        # where too few go on, such that have ended fill the rows, and are never chosen again
        ended = (replace(candidate, score=ABSENT) for candidate, end in zip(best, ends, strict=True) if end)
        self.running = [*going, *ended][: self.width]
        tokens = np.array([candidate.tokens[-1] for candidate in self.running], np.int64)
        return tokens, np.array([candidate.origins[-1] for candidate in self.running], np.int64)

    def _ends(self, candidates: list[Hypothesis], kept: Sequence[Floats] | None) -> list[bool]:
        if not self.plan.stopping.own:
            last = self.plan.max_length - self.plan.prompt
            return [len(c.tokens) >= last or c.tokens[-1] in self.plan.stopping.eos for c in candidates]
        ids = np.array([[*self.prompt, *candidate.tokens] for candidate in candidates], np.int64)
        ends: list[bool] = self.plan.stopping(ids, kept).tolist()
        return ends

    def _candidates(self, scores: Floats, generator: np.random.Generator) -> list[Hypothesis]:
        """The best continuations by one token, best first; enough that `width` of them continue."""
        totals = (scores + np.array([[beam.score] for beam in self.running])).ravel()
        if self.is_open:
            check_choice(totals.max(keepdims=True))
        count = max(2, 1 + len(self.config.eos_token_ids)) * self.width
        ranking = perturbed(totals, generator.gumbel(size=totals.shape)) if self.config.do_sample else totals
        chosen = np.argsort(-ranking, kind="stable")[:count]
        chosen = chosen[np.argsort(-totals[chosen], kind="stable")]
        vocab = scores.shape[1]
        return [self._extended(int(index // vocab), int(index % vocab), float(totals[index])) for index in chosen]

    def _extended(self, beam: int, token: int, score: float) -> Hypothesis:
        past = self.running[beam]
        return Hypothesis(score, (*past.tokens, token), (*past.origins, self.rows.start + beam))

    def _finish(self, ended: list[Hypothesis]) -> None:
        normed = [replace(c, score=c.score / len(c.tokens) ** self.config.length_penalty) for c in ended]
        ranked = sorted([*self.finished, *normed], key=lambda hypothesis: -hypothesis.score)
        self.finished = ranked[: self.width]

    def _can_improve(self, best: Hypothesis) -> bool:
        """Whether a running beam, `best` or a worse one, may end better than the worst finished one."""
        config = self.config
        if len(self.finished) < self.width:
            return True
        if config.early_stopping is True:
            return False
        # log probabilities only fall, but divided by more they rise: "never" counts with the greatest length
        is_patient = config.early_stopping == "never" and config.length_penalty > 0
        length = self.plan.max_length - self.plan.prompt if is_patient else len(best.tokens)
        return best.score / float(length**config.length_penalty) > self.finished[-1].score


class PromptSearch:
    """All groups of beams of one prompt. Source: Vijayakumar et al. 2016, "Diverse Beam Search", Hamming diversity."""

    def __init__(self, plan: Plan, prompt: int) -> None:
        beams, groups = plan.config.num_beams, plan.config.num_beam_groups
        self.config = plan.config
        self.rows = slice(prompt * beams, (prompt + 1) * beams)
        width = beams // groups
        self.groups = [BeamSearch(plan, prompt, self.rows.start + group * width) for group in range(groups)]

    @property
    def is_open(self) -> bool:
        """Whether what is returned may still change."""
        return any(group.is_open for group in self.groups)

    def advance(
        self, scores: Floats, generator: np.random.Generator, kept: Sequence[Floats] | None
    ) -> tuple[Ints, Ints]:
        """Take a step from the scores of all rows, in which the groups' penalties are then: tokens and their rows."""
        counts, moves = np.zeros(scores.shape[1], scores.dtype), []
        for group in self.groups:
            scores[group.rows] -= counts * np.asarray(self.config.diversity_penalty, scores.dtype)
            moves.append(group.advance(scores[group.rows], generator, kept))
            counts += np.bincount(moves[-1][0], minlength=scores.shape[1]).astype(scores.dtype)
        tokens, origins = (np.concatenate(parts) for parts in zip(*moves, strict=True))
        return tokens, origins

    def best(self, count: int) -> list[Hypothesis]:
        """The best that have ended, of all groups."""
        finished = [hypothesis for group in self.groups for hypothesis in group.finished]
        return sorted(finished, key=lambda hypothesis: -hypothesis.score)[:count]
