"""Decoding in numpy, one driver for the three frameworks: greedy, sampling and beam search over a `Stepper`.

Shapes: rows (batch, times beams or returned sequences), length (prompt and new tokens so far), vocab.
Positions are those of the model's own forward: from `pad_token_id + 1`, padding skipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from roberta.common.config import RobertaConfig
from roberta.common.generation import GenerationConfig

Ints = npt.NDArray[np.integer[Any]]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating[Any]]

ABSENT = -1e9  # the score of a beam that does not exist yet: below any real one, and finite


class Stepper(Protocol):
    """A model with its cache, as the driver sees it; `inputs` are the arguments of the model's call."""

    def start(self, inputs: Mapping[str, Ints], copies: int) -> Floats:
        """Read the prompts, go on with `copies` rows of each. Logits of the last token, (rows, vocab)."""

    def step(self, inputs: Mapping[str, Ints]) -> Floats:
        """Read one more token of each row. Logits of it, (rows, vocab)."""

    def reorder(self, rows: Ints) -> None:
        """Let row i go on from what row `rows[i]` has read."""


@dataclass(frozen=True)
class Rows:
    """The tokens so far, each array int (rows, length): prompts padded on the left, then the new tokens."""

    input_ids: Ints
    attention_mask: Ints
    token_type_ids: Ints | None
    pad_token_id: int

    @property
    def length(self) -> int:
        """Tokens of each row, padding included."""
        return int(self.input_ids.shape[1])

    def inputs(self, *, last_only: bool = False) -> dict[str, Ints]:
        """The arguments of the model's call, for all tokens or, beside a cache, for the last one only."""
        first = self.length - 1 if last_only else 0
        # numbered from the ids, never from the mask: a step with a cache and a whole pass cannot differ
        is_token = (self.input_ids != self.pad_token_id).astype(np.int64)
        inputs = {
            "input_ids": self.input_ids[:, first:],
            "attention_mask": self.attention_mask,
            "position_ids": (is_token.cumsum(axis=1) * is_token + self.pad_token_id)[:, first:],
        }
        if self.token_type_ids is not None:
            inputs["token_type_ids"] = self.token_type_ids[:, first:]
        return inputs

    def take(self, rows: Ints) -> Rows:
        """These rows, in this order."""
        types = None if self.token_type_ids is None else self.token_type_ids[rows]
        return replace(
            self,
            input_ids=self.input_ids[rows],
            attention_mask=self.attention_mask[rows],
            token_type_ids=types,
        )

    def appended(self, tokens: Ints) -> Rows:
        """The rows with one more token each, (rows,); its type is that of the token before."""

        def longer(values: Ints, column: Ints) -> Ints:
            return np.concatenate((values, column.reshape(-1, 1).astype(values.dtype)), axis=1)

        types = self.token_type_ids
        return replace(
            self,
            input_ids=longer(self.input_ids, tokens),
            attention_mask=longer(self.attention_mask, np.ones_like(tokens)),
            token_type_ids=None if types is None else longer(types, types[:, -1]),
        )


@dataclass(frozen=True)
class Plan:
    """One call of `generate`, checked: what to start from, how to choose, where to end."""

    rows: Rows
    config: GenerationConfig
    max_length: int
    pad_token_id: int

    @property
    def prompt(self) -> int:
        """Length of the prompts, padding included."""
        return self.rows.length

    @property
    def copies(self) -> int:
        """Rows for each prompt."""
        return self.config.num_beams if self.config.num_beams > 1 else self.config.num_return_sequences


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


# -- before the first step -----------------------------------------------------------------------------------


def make_plan(
    model_config: RobertaConfig,
    config: GenerationConfig,
    settings: Mapping[str, Any],
    input_ids: npt.ArrayLike | None,
    attention_mask: npt.ArrayLike | None,
    token_type_ids: npt.ArrayLike | None,
    batch: int,
) -> Plan:
    """Check everything that can be checked before the model runs.

    Args:
        config: what the model generates with by default; `settings` replace its fields.
        input_ids: int, (batch, prompt); None for prompts of `bos_token_id` alone, `batch` of them.
        attention_mask: 1 and 0, (batch, prompt); None means that padding tokens are padding.

    Raises:
        TypeError: a setting that does not exist.
        ValueError: anything else that cannot work.
    """
    if not model_config.is_decoder:
        raise ValueError(
            "generate() needs a decoder: with is_decoder=False each token sees those behind it too, and "
            "nothing can be cached; load the model with from_pretrained(..., is_decoder=True)"
        )
    config = config.updated(settings)
    config.check_supported()
    for name, tokens in config.token_ids.items():
        _check_range(name, np.array(tokens, np.int64), model_config.vocab_size, "is the tokenizer this model's?")
    if input_ids is None:
        if config.bos_token_id is None:
            raise ValueError("give input_ids, or a bos_token_id to start from")
        input_ids = np.full((batch, 1), config.bos_token_id)
    ids = _as_ints("input_ids", input_ids)
    _check_range("input_ids", ids, model_config.vocab_size, "is the tokenizer this model's?")
    pad = model_config.pad_token_id
    if attention_mask is None:
        # a pad that is also an end token may stand in a prompt
        mask = np.ones_like(ids) if pad in config.eos_token_ids else (ids != pad).astype(ids.dtype)
    else:
        mask = _as_ints("attention_mask", attention_mask, ids.shape)
    if not np.isin(mask, (0, 1)).all():
        raise ValueError("attention_mask must be 1 for tokens and 0 for padding, and nothing else")
    if not mask[:, -1].all():
        raise ValueError(
            f"row {int(np.flatnonzero(mask[:, -1] == 0)[0])} of the prompts ends in padding, and new tokens "
            'would come after it; pad on the left: tokenizer(..., padding_side="left")'
        )
    types = None
    if token_type_ids is not None:
        types = _as_ints("token_type_ids", token_type_ids, ids.shape)
        way_out = "most RoBERTa models know type 0 only"
        _check_range("token_type_ids", types, model_config.type_vocab_size, way_out)
    rows = Rows(ids, mask, types, pad)
    filler = pad if config.pad_token_id is None else config.pad_token_id
    return Plan(rows, config, _max_length(model_config, config, settings, rows), filler)


def _as_ints(name: str, values: npt.ArrayLike, shape: tuple[int, ...] | None = None) -> Ints:
    array = np.asarray(values)
    fits = array.shape == shape if shape else array.ndim == 2 and array.size > 0
    if not fits or (array.astype(np.int64) != array).any():
        raise ValueError(
            f"{name} of shape {array.shape} and type {array.dtype} does not fit; give integers of shape "
            f"{shape or '(batch, seq), none of them 0'}"
        )
    return array.astype(np.int64)


def _check_range(name: str, values: Ints, limit: int, way_out: str) -> None:
    """Raise `ValueError` unless all `values` are from 0 to `limit - 1`, as the model itself would."""
    wrong = values[(values < 0) | (values >= limit)]
    if wrong.size:
        raise ValueError(f"{name} holds {wrong[0]}, allowed are 0 to {limit - 1}; {way_out}")


def _max_length(model: RobertaConfig, config: GenerationConfig, settings: Mapping[str, Any], rows: Rows) -> int:
    """Length, padding included, at which generation ends; an error where the model has not the room."""
    tokens = int((rows.input_ids != rows.pad_token_id).sum(axis=1).max())
    room = model.max_length_tokens - tokens
    if model.has_distances:  # between tokens and padding alike
        room = model.max_length_tokens - rows.length
    default = GenerationConfig.max_length
    is_told = settings.get("max_length") is not None or config.max_length != default
    if config.max_new_tokens is not None:
        new = config.max_new_tokens
    else:
        new = config.max_length - rows.length if is_told else max(1, min(default, room))
    if new < 1:
        raise ValueError(
            f"max_length={config.max_length} leaves nothing to generate after a prompt of {rows.length} "
            "tokens, padding included; raise it, or set max_new_tokens"
        )
    if new > room:
        way_out = f"set max_new_tokens to {room} or less" if room > 0 else "truncate the prompt"
        raise ValueError(
            f"a prompt of {tokens} tokens and {new} new ones exceed the {model.max_length_tokens} tokens "
            f"this model takes; {way_out}"
        )
    least = max(config.min_length - rows.length, config.min_new_tokens or 0)
    if least > new:
        raise ValueError(f"at least {least} new tokens are asked for, and at most {new}; change one of the settings")
    return rows.length + new


# -- scores --------------------------------------------------------------------------------------------------


def process(scores: Floats, ids: Ints, plan: Plan) -> Floats:
    """The scores (rows, vocab) after what the settings forbid or change; `ids` are the rows so far.

    The order is that of transformers: penalty, what must not come up, then temperature, top-k, top-p.
    """
    config, new = plan.config, ids.shape[1] - plan.prompt
    scores = scores.copy()
    if config.repetition_penalty != 1:
        seen = np.take_along_axis(scores, ids, axis=1)
        penalty = np.asarray(config.repetition_penalty, scores.dtype)
        np.put_along_axis(scores, ids, np.where(seen < 0, seen * penalty, seen / penalty), axis=1)
    for row, tokens in enumerate(ids):
        scores[row, _repeats(tokens, config.no_repeat_ngram_size)] = -np.inf
        scores[row, _bad_words(tokens, config.bad_words_ids or (), config.eos_token_ids)] = -np.inf
    if ids.shape[1] < config.min_length or new < (config.min_new_tokens or 0):
        scores[:, config.eos_token_ids] = -np.inf
    scores[:, list(config.suppress_tokens or ())] = -np.inf
    if new == 0:
        scores[:, list(config.begin_suppress_tokens or ())] = -np.inf
    return _warp(scores, config) if config.do_sample else scores


def _repeats(tokens: Ints, size: int) -> list[int]:
    """The tokens that would make an n-gram of `size` occur a second time."""
    if size == 0 or len(tokens) + 1 < size:
        return []
    grams = np.lib.stride_tricks.sliding_window_view(tokens, size) if len(tokens) >= size else np.empty((0, size), int)
    is_begun = (grams[:, :-1] == tokens[len(tokens) - size + 1 :]).all(axis=1)
    return [int(token) for token in grams[is_begun, -1]]


def _bad_words(tokens: Ints, words: Any, eos: list[int]) -> list[int]:
    """The tokens that would complete a bad word; an end token alone is none."""
    return [
        word[-1]
        for word in words
        if list(word) not in [[token] for token in eos]
        and len(word) <= len(tokens) + 1
        and list(tokens[len(tokens) - len(word) + 1 :]) == list(word[:-1])
    ]


def _warp(scores: Floats, config: GenerationConfig) -> Floats:
    """Temperature, then only the best `top_k`, then only the likeliest that hold `top_p` together."""
    keep = 1 if config.num_beams == 1 else max(2, 1 + len(config.eos_token_ids))  # each beam must be able to go on
    if config.temperature not in (None, 1):
        scores = scores / np.asarray(config.temperature, scores.dtype)
    if config.top_k:
        count = min(max(config.top_k, keep), scores.shape[1])
        least = np.partition(scores, -count, axis=1)[:, -count, None]
        scores = np.where(scores < least, -np.inf, scores).astype(scores.dtype)
    if config.top_p is not None and config.top_p < 1:
        order = np.argsort(-scores, axis=1, kind="stable")
        likely = np.exp(log_softmax(np.take_along_axis(scores, order, axis=1).astype(np.float64)))
        is_out = np.cumsum(likely, axis=1) - likely >= config.top_p  # those before it hold top_p without it
        is_out[:, :keep] = False
        mask = np.zeros_like(is_out)
        np.put_along_axis(mask, order, is_out, axis=1)
        scores = np.where(mask, -np.inf, scores).astype(scores.dtype)
    return scores


def log_softmax(scores: Floats) -> Floats:
    """Log probabilities over the last axis."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


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


def _perturbed(scores: Floats, draws: Floats) -> Floats:
    """Scores whose best is a draw from their softmax, and whose best n are n draws without putting back.

    Source: the Gumbel-max trick; Kool et al. 2019, "Stochastic Beams and Where to Find Them".
    """
    return scores + draws


def _check_choice(best: Floats) -> None:
    """Raise unless the best score of every row is a number: nothing is left, or the model is broken."""
    if not np.isfinite(best).all():
        raise ValueError(
            "no token is left to choose: the settings (bad_words_ids, suppress_tokens, no_repeat_ngram_size) "
            "exclude all of them, or the model's logits are not finite"
        )


# -- the searches --------------------------------------------------------------------------------------------


def decode(stepper: Stepper, plan: Plan, seed: int | Sequence[Seed]) -> Decoded:
    """Run the search that the settings name; `seed` decides the draws of sampling (see `Draws`)."""
    draws = Draws(seed, len(plan.rows.input_ids))
    return _beams(stepper, plan, draws) if plan.config.num_beams > 1 else _walk(stepper, plan, draws)


def _walk(stepper: Stepper, plan: Plan, draws: Draws) -> Decoded:
    """One token after the other, the best or drawn ones."""
    config, decoded = plan.config, Decoded()
    logits = stepper.start(plan.rows.inputs(), plan.copies)
    rows = plan.rows.take(np.arange(len(logits)) // plan.copies)
    is_open = np.ones(len(logits), bool)
    while True:
        scores = process(logits, rows.input_ids, plan)
        decoded.record(config, scores, logits)
        _check_choice(scores.max(axis=1)[is_open])
        tokens = (_perturbed(scores, draws.of_all(scores.shape)) if config.do_sample else scores).argmax(axis=1)
        rows = rows.appended(np.where(is_open, tokens, plan.pad_token_id))
        is_open &= ~np.isin(tokens, config.eos_token_ids)
        if rows.length == plan.max_length or not is_open.any():
            decoded.sequences = rows.input_ids
            return decoded
        logits = stepper.step(rows.inputs(last_only=config.use_cache))


def _beams(stepper: Stepper, plan: Plan, draws: Draws) -> Decoded:
    """The likeliest sequences that a beam search finds, best first."""
    config, decoded, beams = plan.config, Decoded(), plan.config.num_beams
    logits = stepper.start(plan.rows.inputs(), beams)
    rows = plan.rows.take(np.arange(len(logits)) // beams)
    searches = [BeamSearch(plan, first_row) for first_row in range(0, len(logits), beams)]
    while True:
        scores = process(log_softmax(logits), rows.input_ids, plan)
        decoded.record(config, scores, logits)
        moves = [search.advance(scores[search.rows], draws.of(index)) for index, search in enumerate(searches)]
        if not any(search.is_open for search in searches):
            return _best_of(searches, plan, decoded)
        tokens, origins = (np.concatenate(parts) for parts in zip(*moves, strict=True))
        rows = rows.take(origins).appended(tokens)
        if config.use_cache and (origins != np.arange(len(origins))).any():
            stepper.reorder(origins)
        logits = stepper.step(rows.inputs(last_only=config.use_cache))


@dataclass(frozen=True)
class Hypothesis:
    """A continuation, running or finished: new tokens, the row each was chosen in, and its score."""

    score: float
    tokens: tuple[int, ...] = ()
    origins: tuple[int, ...] = ()


class BeamSearch:
    """The beams of one prompt.

    Attributes:
        running: the `num_beams` continuations to go on with; their scores are log probabilities.
        finished: the best that have ended, best first; their scores are divided by length ** length_penalty.
        is_open: whether `finished` may still change.
    """

    def __init__(self, plan: Plan, first_row: int) -> None:
        self.config = plan.config
        self.max_new = plan.max_length - plan.prompt
        self.rows = slice(first_row, first_row + plan.config.num_beams)
        absent = Hypothesis(ABSENT)
        self.running = [
            Hypothesis(0.0),
            *[absent] * (plan.config.num_beams - 1),
        ]  # all beams are the same prompt yet
        self.finished: list[Hypothesis] = []
        self.is_open = True

    def advance(self, scores: Floats, generator: np.random.Generator) -> tuple[Ints, Ints]:
        """Take a step from the scores (beams, vocab): the next tokens, and the rows they go on from."""
        best = self._candidates(scores, generator)
        ends = [
            len(candidate.tokens) == self.max_new or candidate.tokens[-1] in self.config.eos_token_ids
            for candidate in best
        ]
        if self.is_open:
            self._finish([c for c, end in zip(best[: self.config.num_beams], ends, strict=False) if end])
        going = [candidate for candidate, end in zip(best, ends, strict=True) if not end][: self.config.num_beams]
        self.running = going  # none at the end
        self.is_open = self.is_open and bool(going) and self._can_improve()
        tokens = np.array([candidate.tokens[-1] for candidate in going], np.int64)
        return tokens, np.array([candidate.origins[-1] for candidate in going], np.int64)

    def _candidates(self, scores: Floats, generator: np.random.Generator) -> list[Hypothesis]:
        """The best continuations by one token, best first; so many that `num_beams` of them go on."""
        config = self.config
        totals = (scores + np.array([[beam.score] for beam in self.running])).ravel()
        if self.is_open:
            _check_choice(totals.max(keepdims=True))
        count = max(2, 1 + len(config.eos_token_ids)) * config.num_beams
        ranking = _perturbed(totals, generator.gumbel(size=totals.shape)) if config.do_sample else totals
        chosen = np.argsort(-ranking, kind="stable")[:count]
        chosen = chosen[np.argsort(-totals[chosen], kind="stable")]
        return [
            Hypothesis(
                float(totals[index]),
                (*self.running[index // scores.shape[1]].tokens, int(index % scores.shape[1])),
                (
                    *self.running[index // scores.shape[1]].origins,
                    self.rows.start + int(index // scores.shape[1]),
                ),
            )
            for index in chosen
        ]

    def _finish(self, ended: list[Hypothesis]) -> None:
        normed = [replace(c, score=c.score / len(c.tokens) ** self.config.length_penalty) for c in ended]
        ranked = sorted([*self.finished, *normed], key=lambda hypothesis: -hypothesis.score)
        self.finished = ranked[: self.config.num_beams]

    def _can_improve(self) -> bool:
        """Whether a running beam may end better than the worst finished one."""
        config = self.config
        if len(self.finished) < config.num_beams:
            return True
        if config.early_stopping is True:
            return False
        # log probabilities only fall, but divided by more they rise: "never" counts with the greatest length
        is_patient = config.early_stopping == "never" and config.length_penalty > 0
        length = self.max_new if is_patient else len(self.running[0].tokens)
        return self.running[0].score / float(length**config.length_penalty) > self.finished[-1].score


def _best_of(searches: list[BeamSearch], plan: Plan, decoded: Decoded) -> Decoded:
    """Fill in the sequences that are returned, `num_return_sequences` a prompt."""
    returns = plan.config.num_return_sequences
    best = [hypothesis for search in searches for hypothesis in search.finished[:returns]]
    longest = max(len(hypothesis.tokens) for hypothesis in best)

    def padded(values: tuple[int, ...], filler: int) -> list[int]:
        return [*values, *[filler] * (longest - len(values))]

    new = np.array([padded(hypothesis.tokens, plan.pad_token_id) for hypothesis in best], np.int64)
    prompts = np.repeat(plan.rows.input_ids, returns, axis=0)
    decoded.sequences = np.concatenate((prompts, new), axis=1)
    decoded.beam_indices = np.array([padded(hypothesis.origins, -1) for hypothesis in best], np.int64)
    if plan.config.output_scores:
        decoded.sequences_scores = np.array([hypothesis.score for hypothesis in best], np.float32)
    return decoded
