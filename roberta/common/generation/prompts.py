"""Before the first step of `generate`: the prompts, and a plan that says how tokens are chosen and where rows end.

Shapes: rows (batch, times beams or returned sequences), length (prompt and new tokens so far), vocab.
Positions are those of the model's own forward: from `pad_token_id + 1`, padding skipped.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from roberta.common.config import RobertaConfig
from roberta.common.generation.config import GenerationConfig
from roberta.common.generation.processors import Processors, before_sampling, of_sampling
from roberta.common.generation.stopping import Stopping
from roberta.common.values import Floats, Ints, check_ids, positions_of

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rows:
    """The tokens so far, each array int (rows, length): prompts padded on the left, then the new tokens.

    Attributes:
        hidden: leading tokens that are known as embeddings only; their ids mean nothing and are not shown.
        positions: of the prompt, where the caller gives them; those of new tokens follow the last one.
    """

    input_ids: Ints
    attention_mask: Ints
    token_type_ids: Ints | None
    pad_token_id: int
    hidden: int = 0
    positions: Ints | None = None

    @property
    def length(self) -> int:
        """Tokens of each row, padding included."""
        return int(self.input_ids.shape[1])

    @property
    def shown(self) -> Ints:
        """The ids that processors, criteria and the caller see."""
        ids: Ints = self.input_ids[:, self.hidden :]
        return ids

    def inputs(self) -> dict[str, Ints]:
        """The arguments of the model's call for all tokens; a stepper with a cache runs the last of them only."""
        inputs = {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "position_ids": self._position_ids(),
        }
        if self.token_type_ids is not None:
            inputs["token_type_ids"] = self.token_type_ids
        return inputs

    def _position_ids(self) -> Ints:
        # numbered from the ids, never from the mask: a step with a cache and a whole pass cannot differ
        if self.positions is None:
            return positions_of(self.input_ids, self.pad_token_id)
        new = (self.input_ids[:, self.positions.shape[1] :] != self.pad_token_id).astype(np.int64)
        behind = (new.cumsum(axis=1) + self.positions[:, -1:]) * new + self.pad_token_id * (1 - new)
        return np.concatenate((self.positions, behind), axis=1)

    def take(self, rows: Ints) -> Rows:
        """These rows, in this order."""
        return replace(
            self,
            input_ids=self.input_ids[rows],
            attention_mask=self.attention_mask[rows],
            token_type_ids=None if self.token_type_ids is None else self.token_type_ids[rows],
            positions=None if self.positions is None else self.positions[rows],
        )

    def appended(self, tokens: Ints) -> Rows:
        """The rows with more tokens, (rows,) or (rows, tokens); their type is that of the token before."""
        tokens = tokens.reshape(len(self.input_ids), -1).astype(self.input_ids.dtype)

        def longer(values: Ints, more: Ints) -> Ints:
            return np.concatenate((values, more.astype(values.dtype)), axis=1)

        types = self.token_type_ids
        return replace(
            self,
            input_ids=longer(self.input_ids, tokens),
            attention_mask=longer(self.attention_mask, np.ones_like(tokens)),
            token_type_ids=None if types is None else longer(types, np.repeat(types[:, -1:], tokens.shape[1], axis=1)),
        )

    def cut(self, length: int) -> Rows:
        """The first `length` tokens of each row, which reach beyond the prompt."""
        return replace(
            self,
            input_ids=self.input_ids[:, :length],
            attention_mask=self.attention_mask[:, :length],
            token_type_ids=None if self.token_type_ids is None else self.token_type_ids[:, :length],
        )


@dataclass(frozen=True)
class Plan:
    """One call of `generate`, checked: what to start from, how to choose, where to end.

    Attributes:
        processors, sampling: what changes scores before one is chosen, in this order.
        stopping: what ends a row.
        max_length: length of a row, hidden tokens included, at which it ends.
    """

    rows: Rows
    config: GenerationConfig
    max_length: int
    pad_token_id: int
    processors: Processors
    sampling: Processors
    stopping: Stopping

    @property
    def prompt(self) -> int:
        """Length of the prompts, padding included."""
        return self.rows.length

    @property
    def copies(self) -> int:
        """Rows for each prompt."""
        return rows_each(self.config)

    def processed(self, ids: Ints, scores: Floats) -> Floats:
        """The scores (rows, vocab) after what the settings and the caller forbid or change."""
        return self.sampling(ids, self.processors(ids, scores))


def rows_each(config: GenerationConfig) -> int:
    """Rows for each prompt: beams, or returned sequences."""
    return config.num_beams if config.num_beams > 1 else config.num_return_sequences


@dataclass(frozen=True)
class Prompts:
    """What a caller starts from, as numpy; see the backends' `generate`.

    Attributes:
        embedded: (batch, prompt) of `inputs_embeds`, or None.
        batch: number of prompts where there are no ids.
    """

    input_ids: npt.ArrayLike | None
    attention_mask: npt.ArrayLike | None = None
    token_type_ids: npt.ArrayLike | None = None
    position_ids: npt.ArrayLike | None = None
    embedded: tuple[int, int] | None = None
    batch: int = 1


def plan_generation(
    model_config: RobertaConfig, config: GenerationConfig, settings: Mapping[str, Any], prompts: Prompts
) -> Plan:
    """Check everything that can be checked before the model runs.

    Args:
        config: what the model generates with by default; `settings` replace its fields.

    Raises:
        TypeError: a setting that does not exist.
        ValueError: anything else that cannot work.
    """
    if not model_config.is_decoder:
        _warn_once(
            "encoder",
            "generate() of a model with is_decoder=False: each token sees those behind it too, and every step runs all "
            "tokens again; load the model with from_pretrained(..., is_decoder=True) if it was trained to go on",
        )
    config = config.updated(settings)
    config.check_supported()
    if not model_config.is_decoder and config.use_cache:
        config = replace(config, use_cache=False)
    for name, tokens in config.token_ids.items():
        check_ids(name, np.array(tokens, np.int64), model_config.vocab_size, "is the tokenizer this model's?")
    rows = _rows(model_config, config, prompts)
    filler = model_config.pad_token_id if config.pad_token_id in (None, -1) else config.pad_token_id
    max_length = _max_length(model_config, config, settings, rows)
    shown = max_length - rows.hidden
    counted = replace(config, min_length=max(0, config.min_length - rows.hidden))
    before = before_sampling(counted, rows.shown, shown, rows_each(config))
    stopping = Stopping(tuple(config.eos_token_ids), shown)
    return Plan(rows, config, max_length, filler, before, of_sampling(config), stopping)


def _rows(model_config: RobertaConfig, config: GenerationConfig, prompts: Prompts) -> Rows:
    """The prompts as rows, checked."""
    pad, hidden, input_ids = model_config.pad_token_id, 0, prompts.input_ids
    if input_ids is None and prompts.embedded is not None:
        hidden = prompts.embedded[1]
        input_ids = np.full(prompts.embedded, 0 if pad else 1)  # any id that takes a position
    elif input_ids is None:
        if config.bos_token_id is None:
            raise ValueError("give input_ids, or a bos_token_id to start from")
        input_ids = np.full((prompts.batch, 1), config.bos_token_id)
    # ids, of which there is one in each place, known or not
    ids = _as_ints("input_ids", input_ids)
    check_ids("input_ids", ids, model_config.vocab_size, "is the tokenizer this model's?")
    if prompts.embedded is not None and ids.shape != prompts.embedded:
        raise ValueError(
            f"input_ids of shape {ids.shape} and inputs_embeds of {prompts.embedded} prompts and tokens do not fit; give "
            "the ids of the same tokens, or inputs_embeds alone"
        )
    # the mask, given or from the ids
    if prompts.attention_mask is None:
        # a pad that is also an end token may stand in a prompt
        mask = np.ones_like(ids) if pad in config.eos_token_ids else (ids != pad).astype(ids.dtype)
    else:
        mask = _as_ints("attention_mask", prompts.attention_mask, ids.shape)
    if not np.isin(mask, (0, 1)).all():
        raise ValueError("attention_mask must be 1 for tokens and 0 for padding, and nothing else")
    if not mask[:, -1].all():
        _warn_once(
            "right padding",
            f"row {int(np.flatnonzero(mask[:, -1] == 0)[0])} of the prompts ends in padding, and new tokens "
            'come after it; pad on the left: tokenizer(..., padding_side="left")',
        )
    if hidden:
        ids = np.where(mask.cumsum(axis=1) == 0, pad, ids)  # padding on the left takes no position
    # types and positions, where given
    types = positions = None
    if prompts.token_type_ids is not None:
        types = _as_ints("token_type_ids", prompts.token_type_ids, ids.shape)
        way_out = "most RoBERTa models know type 0 only"
        check_ids("token_type_ids", types, model_config.type_vocab_size, way_out)
    if prompts.position_ids is not None:
        positions = _as_ints("position_ids", prompts.position_ids, ids.shape)
    return Rows(ids, mask, types, pad, hidden, positions)


_said: set[str] = set()


def _warn_once(kind: str, text: str) -> None:
    """Log a warning, the first of its kind in a process."""
    if kind not in _said:
        _said.add(kind)
        _logger.warning(text)


def _as_ints(name: str, values: npt.ArrayLike, shape: tuple[int, ...] | None = None) -> Ints:
    array = np.asarray(values)
    fits = array.shape == shape if shape else array.ndim == 2 and array.size > 0
    if not fits or (array.astype(np.int64) != array).any():
        raise ValueError(
            f"{name} of shape {array.shape} and type {array.dtype} does not fit; give integers of shape "
            f"{shape or '(batch, seq), none of them 0'}"
        )
    return array.astype(np.int64)


def _max_length(model: RobertaConfig, config: GenerationConfig, settings: Mapping[str, Any], rows: Rows) -> int:
    """Length, padding included, at which generation ends; an error where the model has no room for it."""
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
    most = room if config.penalty_alpha else room + 1  # no search but the contrastive one reads the last new token
    if new > most:
        way_out = f"set max_new_tokens to {most} or less" if most > 0 else "truncate the prompt"
        raise ValueError(
            f"a prompt of {tokens} tokens and {new} new ones exceed the {model.max_length_tokens} tokens "
            f"this model takes; {way_out}"
        )
    least = max(config.min_length - rows.length, config.min_new_tokens or 0)
    if least > new:
        raise ValueError(f"at least {least} new tokens are asked for, and at most {new}; change one of the settings")
    return rows.length + new
