"""A micro-batch without its padding: the real tokens of its rows end to end, and the targets that belong to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from roberta.common.config import RobertaConfig
from roberta.common.inference.unpadding import can_unpad
from roberta.common.training.data.batches import TARGETS
from roberta.common.training.data.tasks import Task
from roberta.common.values import IGNORED, Arrays, Bools, positions_of

_READ = ("input_ids", "attention_mask", "token_type_ids", *TARGETS)
_OF_FIRST_TOKEN = ("text-classification", "multiple-choice")


@dataclass(frozen=True)
class TokensOfRows:
    """The tokens of some rows end to end, the longest row first.

    Attributes:
        ids, positions, types: int64, (tokens,).
        lengths: int64, (rows,); they add up to `tokens`.
        attended: int64, (rows,): how many tokens of each, from the first, are attended to.
        asked: int64: the tokens that the head runs at, in the order of the targets; for spans (rows, seq), of the tokens
            that have the logits of each place; None for all.
        targets: what the loss takes beside the logits; labels of tokens are those of the tokens that the head runs at.
    """

    ids: np.ndarray
    positions: np.ndarray
    types: np.ndarray
    lengths: np.ndarray
    attended: np.ndarray
    asked: np.ndarray | None
    targets: Arrays


def tokens_of_rows(
    inputs: Mapping[str, np.ndarray], task: Task, config: RobertaConfig, *, keeps_ignored: bool = False
) -> TokensOfRows | None:
    """The real tokens of a micro-batch; None where the loss of padded rows needs more than them.

    A span's logits are normalised over all places of a row, padding too. Its padding is one kind of token that attends
    to the row, and that nothing attends to: each row gets one, which stands for all.

    Args:
        inputs: as in `Collated`.
        keeps_ignored: masked tokens whose label is ignored stay, so that their number is that of the inputs.
    """
    given = {name: array for name, array in inputs.items() if name not in TARGETS}
    if task == "multiple-choice":  # each choice is a row
        given = {name: array.reshape(-1, array.shape[-1]) for name, array in given.items()}
    if not set(inputs) <= set(_READ) or not can_unpad(given, config, pools=task in _OF_FIRST_TOKEN):
        return None
    ids, is_real = given["input_ids"], given["attention_mask"].astype(bool)
    types = given.get("token_type_ids", np.zeros_like(ids))
    taken, counts = is_real, is_real.sum(axis=1)
    if task == "question-answering":
        if config.is_decoder or not _is_one_kind(ids, types, is_real, config.pad_token_id):
            return None
        taken = np.arange(ids.shape[1]) <= counts[:, None]
    # the tokens of the longest row first, and the place of each among all
    order = np.argsort(-counts, kind="stable")
    place = np.full(ids.shape, -1)
    place[order] = _numbered(taken[order])
    targets = _targets(inputs, task, is_real, place, keeps_ignored)
    if targets is None:
        return None
    positions = positions_of(ids, config.pad_token_id)
    packed = [array[order][taken[order]].astype(np.int64) for array in (ids, positions, types)]
    lengths = taken.sum(axis=1)[order]
    attended = np.minimum(lengths, counts[order])
    return TokensOfRows(packed[0], packed[1], packed[2], lengths, attended, targets[0], targets[1])


def _is_one_kind(ids: np.ndarray, types: np.ndarray, is_real: Bools, pad_token_id: int) -> bool:
    """Whether the padding of each row comes after its tokens, and is of one id and type."""
    first = np.minimum(is_real.sum(axis=1), ids.shape[1] - 1)
    own_type = types[np.arange(len(types)), first][:, None]
    is_same = is_real | ((ids == pad_token_id) & (types == own_type))
    return bool(is_same.all() and (is_real[:, :-1] >= is_real[:, 1:]).all())


def _numbered(taken: Bools) -> np.ndarray:
    """The number of each place that is taken, row by row; -1 for the others."""
    return np.where(taken, taken.cumsum().reshape(taken.shape) - 1, -1)


def _targets(
    inputs: Mapping[str, np.ndarray], task: Task, is_real: Bools, place: np.ndarray, keeps_ignored: bool
) -> tuple[np.ndarray | None, Arrays] | None:
    """`asked` and `targets` of `TokensOfRows`; None where padding has a target.

    Args:
        place: int, (rows, seq): the number of each token among those of all rows, or -1.
    """
    targets = {name: array for name, array in inputs.items() if name in TARGETS and name != "positions"}
    if task in _OF_FIRST_TOKEN:
        return place[:, 0], targets
    if task == "question-answering":  # the last token of a row stands for all of its padding
        return np.where(place < 0, place.max(axis=1, keepdims=True), place), targets
    labels = targets["labels"]
    if task == "mlm":
        chosen = np.ones(len(labels), bool) if keeps_ignored else labels != IGNORED
        asked = place.reshape(-1)[inputs["positions"][chosen]]
        return None if (asked < 0).any() else (asked, {"labels": labels[chosen]})
    if task == "clm":  # each token predicts the next one
        labels = np.concatenate((labels[:, 1:], np.full_like(labels[:, :1], IGNORED)), axis=1)
    if (labels[~is_real] != IGNORED).any():
        return None
    of_tokens = np.empty(int(is_real.sum()), labels.dtype)
    of_tokens[place[is_real]] = labels[is_real]
    return None, {"labels": of_tokens}
