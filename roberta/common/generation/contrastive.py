"""Contrastive search: the best of a few likely tokens, by probability and by unlikeness to the tokens so far."""

from __future__ import annotations

import numpy as np

from roberta.common.generation.config import GenerationConfig
from roberta.common.generation.processors import log_softmax
from roberta.common.generation.prompts import Plan
from roberta.common.generation.stepping import StepperBase
from roberta.common.generation.walk import Decoded, Streamer, Walk
from roberta.common.values import Floats


def is_contrastive(config: GenerationConfig) -> bool:
    """Whether the settings name contrastive search."""
    is_plain = config.num_beams == 1 and not config.do_sample
    return bool(config.penalty_alpha) and is_plain and (config.top_k or 0) > 1


def walk_contrastive(stepper: StepperBase, plan: Plan, streamer: Streamer | None) -> Decoded:
    """One token after the other: of the `top_k` likeliest v, the best by
    (1 - alpha) * p(v) - alpha * max cosine(hidden of v, hidden of a token so far).

    Source: Su et al. 2022, "A Contrastive Framework for Neural Text Generation", equation 5.
    """
    config = plan.config
    if not config.use_cache:
        raise ValueError(
            "penalty_alpha needs the cache of a decoder; set use_cache=True and load the model with is_decoder=True"
        )
    alpha, count = float(config.penalty_alpha or 0), int(config.top_k or 1)
    logits = stepper.start(plan.rows.inputs(), 1)
    walk = Walk(plan, plan.rows, Decoded(), streamer)
    context = _unit(stepper.last_hidden())  # (rows, length, hidden)
    rows = np.arange(len(logits))
    while True:
        scores = walk.scored(logits)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        likely = np.take_along_axis(np.exp(log_softmax(scores)), best, axis=1)
        count = best.shape[1]
        stepper.reorder(rows.repeat(count))
        tried = walk.rows.take(rows.repeat(count)).appended(best.ravel())
        logits = stepper.step(tried.inputs())
        hidden = _unit(stepper.last_hidden()[:, -1]).reshape(len(rows), count, -1)
        likeness = np.einsum("rkh,rlh->rkl", hidden, context)
        likeness = np.where(walk.rows.attention_mask[:, None, :] == 1, likeness, -1.0)
        value = (1 - alpha) * likely - alpha * likeness.max(axis=2)
        chosen = np.where(np.isfinite(np.take_along_axis(scores, best, axis=1)), value, -np.inf).argmax(axis=1)
        stepper.choose(rows * count + chosen)
        logits = logits[rows * count + chosen]
        context = np.concatenate((context, hidden[rows, chosen][:, None]), axis=1)
        if not walk.take(best[rows, chosen]):
            stepper.keep(0, walk.rows.cut(walk.rows.length - 1).inputs())  # as every search leaves the cache
            return walk.done()


def _unit(hidden: Floats) -> Floats:
    """Vectors of length 1."""
    result: Floats = hidden / np.maximum(np.linalg.norm(hidden, axis=-1, keepdims=True), 1e-12)
    return result
