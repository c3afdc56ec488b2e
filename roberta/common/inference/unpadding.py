"""The shared part of the three `infer`: a batch is split into its real tokens, and results are put back in order.

Rows are ordered by length, or as the backend cuts a batch, in pieces of at most `batch_tokens` real tokens. A backend
runs one piece of `Tokens` after another; nothing is computed at padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from roberta.common import padding_warning
from roberta.common.config import RobertaConfig
from roberta.common.inference.batching import check_budget, groups
from roberta.common.parameters import Head
from roberta.common.values import Arrays, check_ids, positions_of

Cut = Callable[[np.ndarray, int], list[np.ndarray]]

# Head -> the results it has for every token, and those for every row.
PER_TOKEN: dict[Head, tuple[str, ...]] = {
    "Model": ("last_hidden_state",),
    "ForCausalLM": ("logits",),
    "ForMaskedLM": ("logits",),
    "ForTokenClassification": ("logits",),
    "ForQuestionAnswering": ("start_logits", "end_logits"),
}
PER_ROW: dict[Head, tuple[str, ...]] = {
    "Model": ("pooler_output",),
    "ForSequenceClassification": ("logits",),
    "ForMultipleChoice": ("logits",),
}
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")


@dataclass(frozen=True)
class Tokens:
    """The real tokens of some rows, one row after another, in the order the backend cuts a batch in.

    Attributes:
        ids, positions, types: int64, (tokens,).
        lengths: int64, (rows,); they add up to `tokens`.
        kept: int64, increasing, (kept,): the tokens whose last hidden state something is made of.
        asked: int64, (asked,): places in `kept` of the tokens that per-token results are wanted for.
        first: int64, (rows,) or (0,): places in `kept` of each row's first token, where the class pools.
    """

    ids: np.ndarray
    positions: np.ndarray
    types: np.ndarray
    lengths: np.ndarray
    kept: np.ndarray
    asked: np.ndarray
    first: np.ndarray


@dataclass(frozen=True)
class _Rows:
    """A checked batch: (rows, seq) each; `asked` and `real` are bool, `real` is where a token is attended to."""

    ids: np.ndarray
    positions: np.ndarray
    types: np.ndarray
    real: np.ndarray
    asked: np.ndarray


def by_length(lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """The rows of each piece, as indices: the longest first, at most `batch_tokens` tokens together."""
    return groups(lengths, batch_tokens, padded=False)


def run_batch(
    batch: Mapping[str, np.ndarray],
    config: RobertaConfig,
    head: Head,
    *,
    altered: bool,
    pools: bool,
    where: np.ndarray | None,
    batch_tokens: int,
    run: Callable[[Tokens], Arrays],
    run_padded: Callable[[Arrays], Arrays],
    cut: Cut = by_length,
) -> Arrays:
    """The results of a whole batch, as `model.infer` of the backends describes them.

    Args:
        altered: whether the model is not exactly this library's, so that only its own forward pass is right.
        pools: whether the class makes something of each row's first token.
        run: results of one piece: (asked, ...) of per-token results, (rows, ...) of those of rows.
        run_padded: the model's plain forward pass on arrays as given; for batches that cannot be taken apart.
        cut: the rows of each piece, as indices, from their lengths and `batch_tokens`.

    Raises:
        ValueError: an input is missing, unknown, of another shape or out of range; `where` marks padding.
    """
    check_budget(batch_tokens)
    given = arrays(batch)
    shape = given["input_ids"].shape
    if len(shape) != (3 if head == "ForMultipleChoice" else 2) or 0 in shape:
        wanted = "(rows, choices, seq)" if head == "ForMultipleChoice" else "(rows, seq)"
        raise ValueError(f"input_ids of shape {shape}; {head} takes {wanted}, with at least one token")
    if where is not None:
        _check_where(where, head, given)
    if "attention_mask" not in given:
        _warn_of_padding(given["input_ids"], config)
    rows = given
    if head == "ForMultipleChoice":
        rows = {name: array.reshape(-1, *array.shape[2:]) for name, array in given.items()}
    if altered or not can_unpad(rows, config, pools=pools):
        return _padded(given, head, where, batch_tokens, run_padded)
    results = _unpadded(rows, config, head, pools, where, batch_tokens, run, cut)
    return {name: array.reshape(shape[:2]) for name, array in results.items()} if len(shape) == 3 else results


def _warn_of_padding(ids: np.ndarray, config: RobertaConfig) -> None:
    """As `warn_of_padding` of the backends' layers."""
    ends = ids[..., :1] if config.is_decoder else ids[..., [0, -1]]
    if not padding_warning.was_said() and bool((ends == config.pad_token_id).any()):
        padding_warning.say(config.pad_token_id)


def results(output: object, head: Head) -> dict[str, Any]:
    """What `infer` returns of the output of a forward pass, which may be a caller's own."""
    names = (*PER_TOKEN.get(head, ()), *PER_ROW.get(head, ()))
    there: Mapping[str, Any] = output if isinstance(output, Mapping) else {}
    found = {name: there[name] for name in names if there.get(name) is not None}
    if not found or not found.keys() >= set(PER_TOKEN.get(head, names)):
        has = ", ".join(output) if isinstance(output, Mapping) else f"a {type(output).__name__}"
        raise ValueError(
            f"the model's own forward pass returned {has}; infer needs {', '.join(names)}, in a mapping by name: "
            "return the output object of the class it comes from, or call the model itself"
        )
    return found


def arrays(batch: Mapping[str, np.ndarray]) -> Arrays:
    """The batch's inputs as arrays, checked as far as every class takes the same."""
    unknown = sorted(set(batch) - set(INPUTS))
    if unknown or "input_ids" not in batch:
        raise ValueError(f"infer takes {', '.join(INPUTS)}, and needs input_ids; it got {', '.join(batch)}")
    given = {name: np.asarray(value) for name, value in batch.items() if value is not None}
    for name, array in given.items():
        is_number = array.dtype.kind in ("biuf" if name == "attention_mask" else "iu")
        if not is_number or (name != "attention_mask" and array.shape != given["input_ids"].shape):
            raise ValueError(
                f"{name}, {array.dtype} of {array.shape}, does not fit input_ids of {given['input_ids'].shape}; "
                "give numbers in rows of one length: tokenizer(..., padding=True, return_tensors='np')"
            )
    return given


def can_unpad(given: Mapping[str, np.ndarray], config: RobertaConfig, *, pools: bool) -> bool:
    """Whether the real tokens alone give what the forward pass gives.

    They do not where distances between tokens count, where a mask is more than real or not, where a row has no
    token, or where a class pools a first token that is padding.
    """
    mask = given.get("attention_mask")
    if config.position_embedding_type != "absolute":
        return False
    if mask is None:
        return True
    is_binary = mask.shape == given["input_ids"].shape and bool(((mask == 0) | (mask == 1)).all())
    return is_binary and bool((mask[:, 0] if pools else mask.any(axis=1)).all())


def _check_where(where: np.ndarray, head: Head, given: Mapping[str, np.ndarray]) -> None:
    ids, mask = given["input_ids"], given.get("attention_mask")
    if head not in PER_TOKEN:
        raise ValueError(f"where is for classes with results for each token, which {head} is not; omit it")
    if not isinstance(where, np.ndarray) or where.dtype != bool or where.shape != ids.shape:
        raise ValueError(f"where must be a bool array of {ids.shape}, True at the tokens whose results are wanted")
    if mask is not None and mask.shape == ids.shape and bool((where & (mask == 0)).any()):
        raise ValueError("where marks padding, which has no results; mark tokens whose attention_mask is 1")


def _rows(given: Mapping[str, np.ndarray], config: RobertaConfig, where: np.ndarray | None) -> _Rows:
    ids = given["input_ids"].astype(np.int64)
    real = given["attention_mask"].astype(bool) if "attention_mask" in given else np.ones(ids.shape, bool)
    check_ids("input_ids", ids, config.vocab_size, "is the tokenizer this model's?")
    positions = given.get("position_ids", positions_of(ids, config.pad_token_id)).astype(np.int64)
    check_ids(
        "position_ids", positions, config.max_position_embeddings,
        f"this model takes {config.max_length_tokens} tokens: truncate with "
        f"tokenizer(..., truncation=True, max_length={config.max_length_tokens})",
    )  # fmt: skip
    types = given.get("token_type_ids", np.zeros_like(ids)).astype(np.int64)
    check_ids("token_type_ids", types, config.type_vocab_size, "most RoBERTa models know type 0 only")
    return _Rows(ids, positions, types, real, real if where is None else where)


def _unpadded(
    given: Mapping[str, np.ndarray],
    config: RobertaConfig,
    head: Head,
    pools: bool,
    where: np.ndarray | None,
    batch_tokens: int,
    run: Callable[[Tokens], Arrays],
    cut: Cut,
) -> Arrays:
    rows = _rows(given, config, where)
    # where the result of each token goes: to its own place, or with `where` to its place among those asked for
    slots = np.arange(rows.ids.size) if where is None else where.ravel().cumsum() - 1
    slots = slots.reshape(rows.ids.shape)
    size = rows.ids.size if where is None else int(where.sum())
    results: Arrays = {}
    for index, tokens in _pieces(rows, head in PER_TOKEN, pools, batch_tokens, cut):
        done = run(tokens)
        asked = rows.asked[index]
        for name in done:
            per_token = name in PER_TOKEN.get(head, ())
            if name not in results:
                count = size if per_token else len(rows.ids)
                results[name] = np.zeros((count, *done[name].shape[1:]), done[name].dtype)
            results[name][slots[index][asked] if per_token else index] = done[name]
    if where is None:
        for name in set(PER_TOKEN.get(head, ())) & set(results):
            results[name] = results[name].reshape(*rows.ids.shape, *results[name].shape[1:])
    return results


def _pieces(
    rows: _Rows, per_token: bool, pools: bool, batch_tokens: int, cut: Cut
) -> Iterator[tuple[np.ndarray, Tokens]]:
    """Pieces of the batch: which rows, and their tokens."""
    lengths = rows.real.sum(axis=1)
    for index in cut(lengths, batch_tokens):
        real = rows.real[index]
        asked = rows.asked[index][real] if per_token else np.zeros(int(real.sum()), bool)
        starts = lengths[index].cumsum() - lengths[index]
        is_kept = asked.copy()
        is_kept[starts] |= pools
        place = is_kept.cumsum() - 1  # of each kept token, among them
        yield (
            index,
            Tokens(
                ids=rows.ids[index][real],
                positions=rows.positions[index][real],
                types=rows.types[index][real],
                lengths=lengths[index],
                kept=np.flatnonzero(is_kept),
                asked=place[asked],
                first=place[starts] if pools else starts[:0],
            ),
        )


def _padded(
    given: Mapping[str, np.ndarray],
    head: Head,
    where: np.ndarray | None,
    batch_tokens: int,
    run_padded: Callable[[Arrays], Arrays],
) -> Arrays:
    """The plain forward pass, some rows (or examples with all their choices) at a time.

    Padding is set to 0 where the mask says where it is.
    """
    ids = given["input_ids"]
    count = max(1, batch_tokens // ids[0].size)
    parts = [
        run_padded({name: array[start : start + count] for name, array in given.items()})
        for start in range(0, len(ids), count)
    ]
    results = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    mask = given.get("attention_mask")
    for name in PER_TOKEN.get(head, ()):
        if where is not None:
            results[name] = results[name][where]
        elif mask is not None and mask.shape == ids.shape:
            results[name][mask == 0] = 0
    return results
