"""The random numbers of sampling, the same in the three frameworks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

Seed = int | Sequence[int]  # what `numpy.random.default_rng` takes


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
