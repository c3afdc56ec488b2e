"""What changes the scores of the next token before one is chosen: the settings of `GenerationConfig`, one function each.

A processor takes the ids of the rows so far, int (rows, length), and the scores, (rows, vocab), and returns new scores.
The order is that of transformers: what forbids or forces, the caller's own, then temperature, top-k, top-p and the
other cuts of sampling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from roberta.common.values import Bools, Floats, Ints

if TYPE_CHECKING:
    from roberta.common.generation.config import GenerationConfig

ScoresProcessor = Callable[[Ints, Floats], Floats]


@dataclass(frozen=True)
class Processors:
    """Processors in order; each is named after the class that transformers has for it."""

    steps: tuple[tuple[str, ScoresProcessor], ...]

    def __call__(self, ids: Ints, scores: Floats) -> Floats:
        """The scores after all of them; `scores` itself stays as it is."""
        scores = scores.copy()
        for _, processor in self.steps:
            scores = processor(ids, scores)
        return scores

    def with_own(self, own: Iterable[tuple[str, ScoresProcessor]]) -> Processors:
        """These and the caller's behind them; one of the same name takes the place of the setting's."""
        given = list(own)
        steps = [next((one for one in given if one[0] == step[0]), step) for step in self.steps]
        return Processors((*steps, *(one for one in given if one not in steps)))


def before_sampling(config: GenerationConfig, prompts: Ints, max_length: int, copies: int) -> Processors:
    """The processors that the settings ask for, but for those of sampling.

    Args:
        prompts: int, (batch, prompt); each is followed by `copies` rows.
        max_length: length of a row at which it ends.
    """
    prompt, eos = prompts.shape[1], config.eos_token_ids
    sources = np.repeat(prompts, copies, axis=0)
    steps: list[tuple[str, ScoresProcessor]] = []
    # what favours or disfavours tokens and sequences
    if config.sequence_bias:
        steps.append(("SequenceBiasLogitsProcessor", partial(_bias, pairs(config.sequence_bias))))
    if config.encoder_repetition_penalty not in (None, 1) and prompt:
        penalty = 1 / config.encoder_repetition_penalty
        steps.append(("EncoderRepetitionPenaltyLogitsProcessor", lambda _, s: _penalise(penalty, sources, s)))
    if config.repetition_penalty != 1:
        steps.append(("RepetitionPenaltyLogitsProcessor", partial(_penalise, config.repetition_penalty)))
    if config.no_repeat_ngram_size:
        steps.append(("NoRepeatNGramLogitsProcessor", partial(_no_repeats, config.no_repeat_ngram_size, None)))
    if config.encoder_no_repeat_ngram_size and prompt:
        forbid = partial(_no_repeats, config.encoder_no_repeat_ngram_size, sources)
        steps.append(("EncoderNoRepeatNGramLogitsProcessor", forbid))
    # what forbids tokens: words, and ends that come too early
    if config.bad_words_ids:
        words = [list(word) for word in config.bad_words_ids if list(word) not in [[token] for token in eos]]
        steps.append(("NoBadWordsLogitsProcessor", partial(_bias, [(word, -np.inf) for word in words])))
    if config.min_length > 0 and eos:
        steps.append(("MinLengthLogitsProcessor", partial(_not_before, config.min_length, eos)))
    if config.min_new_tokens and eos:
        steps.append(("MinNewTokensLengthLogitsProcessor", partial(_not_before, prompt + config.min_new_tokens, eos)))
    # what forces tokens at the ends of a row
    if config.forced_bos_token_id is not None:
        steps.append(("ForcedBOSTokenLogitsProcessor", partial(_forced, 1, [config.forced_bos_token_id])))
    if config.forced_eos_token_id is not None:
        ends = as_list(config.forced_eos_token_id)
        steps.append(("ForcedEOSTokenLogitsProcessor", partial(_forced, max_length - 1, ends)))
    # what mends scores, and hurries towards an end
    if config.remove_invalid_values:
        steps.append(("InfNanRemoveLogitsProcessor", _finite))
    if config.exponential_decay_length_penalty is not None and eos:
        start, factor = config.exponential_decay_length_penalty
        steps.append(("ExponentialDecayLengthPenalty", partial(_grow, prompt + int(start), float(factor), eos)))
    # what forbids tokens everywhere, and as first new token
    if config.suppress_tokens:
        steps.append(("SuppressTokensLogitsProcessor", partial(_suppress, None, list(config.suppress_tokens))))
    if config.begin_suppress_tokens:
        first = prompt + 1 if prompt == 1 and config.forced_bos_token_id is not None else prompt
        tokens = list(config.begin_suppress_tokens)
        steps.append(("SuppressTokensAtBeginLogitsProcessor", partial(_suppress, first, tokens)))
    return Processors(tuple(steps))


def of_sampling(config: GenerationConfig) -> Processors:
    """The cuts that the settings of sampling ask for, and `renormalize_logits`, which is the last."""
    # each beam must be able to go on
    keep = 1 if config.num_beams == 1 else max(2, 1 + len(config.eos_token_ids))
    steps: list[tuple[str, ScoresProcessor]] = []
    if config.do_sample:
        if config.temperature not in (None, 1):
            steps.append(("TemperatureLogitsWarper", partial(_temper, config.temperature)))
        if config.top_k:
            steps.append(("TopKLogitsWarper", partial(_top_k, max(config.top_k, keep))))
        if config.top_p is not None and config.top_p < 1:
            steps.append(("TopPLogitsWarper", partial(_top_p, config.top_p, keep)))
        if config.min_p is not None:
            steps.append(("MinPLogitsWarper", partial(_min_p, config.min_p, keep)))
        if config.typical_p is not None and config.typical_p < 1:
            steps.append(("TypicalLogitsWarper", partial(_typical, config.typical_p, keep)))
        if config.epsilon_cutoff:
            steps.append(("EpsilonLogitsWarper", partial(_epsilon, config.epsilon_cutoff, keep)))
        if config.eta_cutoff:
            steps.append(("EtaLogitsWarper", partial(_eta, config.eta_cutoff, keep)))
    if config.renormalize_logits:
        steps.append(("LogitNormalization", lambda _, scores: log_softmax(scores)))
    return Processors(tuple(steps))


def allowed_only(allowed: Callable[[int, Ints], Sequence[int]], rows_each: int) -> ScoresProcessor:
    """The processor of `prefix_allowed_tokens_fn`: nothing but the tokens that it names.

    Args:
        allowed: takes the number of a prompt and the ids of one of its rows.
        rows_each: rows of a prompt.
    """

    def processor(ids: Ints, scores: Floats) -> Floats:
        kept = np.full_like(scores, -np.inf)
        for row, tokens in enumerate(ids):
            names = np.asarray(allowed(row // rows_each, tokens), np.int64).ravel()
            if not names.size:
                raise ValueError(
                    f"prefix_allowed_tokens_fn allows no token behind {tokens.tolist()}; return at least one, such as "
                    "eos_token_id"
                )
            kept[row, names] = scores[row, names]
        return kept

    return processor


def log_softmax(scores: Floats) -> Floats:
    """Log probabilities over the last axis."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def pairs(sequence_bias: Mapping[tuple[int, ...], float] | list[Any]) -> list[tuple[list[int], float]]:
    """`sequence_bias` as (tokens, bias), from a dict by tuples of tokens or from a list of [tokens, bias].

    Raises:
        ValueError: neither.
    """
    found = sequence_bias.items() if isinstance(sequence_bias, Mapping) else sequence_bias
    try:
        result = [([int(token) for token in tokens], float(bias)) for tokens, bias in found]
    except (TypeError, ValueError):
        result = []
    if not result or not all(tokens for tokens, _ in result):
        raise ValueError(
            f"sequence_bias={sequence_bias!r} must be a dict such as {{(5, 7): -2.0}}, or a list such as [[[5, 7], -2.0]]"
        )
    return result


def as_list(tokens: int | list[int] | None) -> list[int]:
    """One token id, several or none, as a list."""
    if tokens is None:
        return []
    return list(tokens) if isinstance(tokens, list | tuple) else [tokens]


# -- one processor each --------------------------------------------------------------------------------------


def _bias(biases: Sequence[tuple[Sequence[int], float]], ids: Ints, scores: Floats) -> Floats:
    """Add to the last token of a sequence where a row ends in those before it."""
    added = np.zeros_like(scores)
    for tokens, bias in biases:
        context = len(tokens) - 1
        if context <= ids.shape[1]:
            fits = (ids[:, ids.shape[1] - context :] == np.asarray(tokens[:-1], ids.dtype)).all(axis=1)
            added[fits, tokens[-1]] += bias
    return scores + added


def _penalise(penalty: float, ids: Ints, scores: Floats) -> Floats:
    """Scores of the tokens in `ids` divided by the penalty, negative ones multiplied."""
    seen = np.take_along_axis(scores, ids, axis=1)
    factor = np.asarray(penalty, scores.dtype)
    np.put_along_axis(scores, ids, np.where(seen < 0, seen * factor, seen / factor), axis=1)
    return scores


def _no_repeats(size: int, sources: Ints | None, ids: Ints, scores: Floats) -> Floats:
    """Without the tokens that would complete an n-gram that a row has, or its source has."""
    for row, tokens in enumerate(ids):
        scores[row, _completions(tokens, tokens if sources is None else sources[row], size)] = -np.inf
    return scores


def _completions(tokens: Ints, source: Ints, size: int) -> list[int]:
    """The tokens that behind `tokens` would make an n-gram of the source."""
    if len(tokens) + 1 < size or len(source) < size:
        return []
    grams = np.lib.stride_tricks.sliding_window_view(source, size)
    is_begun = (grams[:, :-1] == tokens[len(tokens) - size + 1 :]).all(axis=1)
    return [int(token) for token in grams[is_begun, -1]]


def _not_before(length: int, eos: list[int], ids: Ints, scores: Floats) -> Floats:
    if ids.shape[1] < length:
        scores[:, eos] = -np.inf
    return scores


def _forced(length: int, tokens: list[int], ids: Ints, scores: Floats) -> Floats:
    """Nothing but `tokens` behind rows of this length."""
    if ids.shape[1] == length:
        scores = np.full_like(scores, -np.inf)
        scores[:, tokens] = 0
    return scores


def _finite(_: Ints, scores: Floats) -> Floats:
    limits = np.finfo(scores.dtype)
    return np.nan_to_num(scores, nan=0.0, posinf=float(limits.max), neginf=float(limits.min))


def _grow(start: int, factor: float, eos: list[int], ids: Ints, scores: Floats) -> Floats:
    """Scores of the end tokens that grow with each token behind `start`."""
    beyond = ids.shape[1] - start
    if beyond > 0:
        ends = scores[:, eos]
        grown = ends + np.abs(ends) * np.asarray(factor**beyond - 1, scores.dtype)
        scores[:, eos] = np.where(np.isfinite(ends), grown, ends)
    return scores


def _suppress(length: int | None, tokens: list[int], ids: Ints, scores: Floats) -> Floats:
    """Without `tokens`, behind rows of this length or, with None, always."""
    if length is None or ids.shape[1] == length:
        scores[:, tokens] = -np.inf
    return scores


def _temper(temperature: float, _: Ints, scores: Floats) -> Floats:
    with np.errstate(over="ignore"):  # the least number that there is, of `remove_invalid_values`
        return scores / np.asarray(temperature, scores.dtype)


def _without(scores: Floats, is_out: Bools) -> Floats:
    return np.where(is_out, -np.inf, scores).astype(scores.dtype)


def _least(scores: Floats, count: int) -> Floats:
    """The score of the last of the best `count`, (rows, 1)."""
    count = min(count, scores.shape[1])
    least: Floats = np.partition(scores, -count, axis=1)[:, -count, None]
    return least


def _top_k(count: int, _: Ints, scores: Floats) -> Floats:
    return _without(scores, scores < _least(scores, count))


def _top_p(mass: float, keep: int, _: Ints, scores: Floats) -> Floats:
    """The likeliest that hold `mass` together."""
    order = np.argsort(-scores, axis=1, kind="stable")
    likely = np.exp(log_softmax(np.take_along_axis(scores, order, axis=1).astype(np.float64)))
    is_out = np.cumsum(likely, axis=1) - likely >= mass  # those before it hold the mass without it
    return _cut(scores, order, is_out, keep)


def _cut(scores: Floats, order: Ints, is_out: Bools, keep: int) -> Floats:
    """Without what is out; `is_out` goes by `order`, the first `keep` of which stay."""
    is_out[:, :keep] = False
    mask = np.zeros_like(is_out)
    np.put_along_axis(mask, order, is_out, axis=1)
    return _without(scores, mask)


def _probabilities(scores: Floats) -> Floats:
    return np.exp(log_softmax(scores.astype(np.float64)))


def _min_p(share: float, keep: int, _: Ints, scores: Floats) -> Floats:
    """Those with at least this share of the likeliest one's probability."""
    likely = _probabilities(scores)
    is_out = likely < share * likely.max(axis=1, keepdims=True)
    return _without(scores, is_out & (scores < _least(scores, keep)))


def _typical(mass: float, keep: int, _: Ints, scores: Floats) -> Floats:
    """Those whose information is nearest to the entropy, until they hold `mass`.

    Source: Meister et al. 2022, "Locally Typical Sampling".
    """
    logs = log_softmax(scores.astype(np.float64))
    likely = np.exp(logs)
    entropy = -np.nansum(likely * np.where(likely > 0, logs, 0), axis=1, keepdims=True)
    distance = np.abs(-logs - entropy)
    order = np.argsort(distance, axis=1, kind="stable")
    total = np.cumsum(np.take_along_axis(likely, order, axis=1), axis=1)
    last = np.minimum((total < mass).sum(axis=1, keepdims=True), scores.shape[1] - 1)
    ranked = np.take_along_axis(distance, order, axis=1)
    return _cut(scores, order, ranked > np.take_along_axis(ranked, last, axis=1), keep)


def _epsilon(least: float, keep: int, _: Ints, scores: Floats) -> Floats:
    """Those with at least this probability. Source: Hewitt et al. 2022, "Truncation Sampling"."""
    return _without(scores, (_probabilities(scores) < least) & (scores < _least(scores, keep)))


def _eta(epsilon: float, keep: int, _: Ints, scores: Floats) -> Floats:
    """As `_epsilon`, with a limit that falls with the entropy. Source: Hewitt et al. 2022."""
    likely = _probabilities(scores)
    entropy = -(likely * np.log(np.where(likely > 0, likely, 1))).sum(axis=1, keepdims=True)
    limit = np.minimum(epsilon, np.sqrt(epsilon) * np.exp(-entropy))
    return _without(scores, (likely < limit) & (scores < _least(scores, keep)))
