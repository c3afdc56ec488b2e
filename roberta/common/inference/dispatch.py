"""Which forward pass a batch takes, the fast one or the model's own, and what is kept of models between calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from roberta.common.inference import unpadding
from roberta.common.inference.unpadding import Cut, Tokens
from roberta.common.values import Arrays


@dataclass(frozen=True)
class LaidOut:
    """The fast copies of one model: its parts as they were, and its weights by dtype."""

    parts: Any
    made: dict[str, Any]


class FastModels:
    """What a backend has laid out of models, which are recognised by their parts.

    It is beside the models, not in them: frameworks would copy, pickle, track or save it.

    Args:
        parts: of a model as it is (a backend's `parts.Parts`); called with the model, and in Flax its parameters.
        alteration: what keeps a model from the fast pass, called alike; "" where nothing does.
    """

    def __init__(self, parts: Callable[..., Any], alteration: Callable[..., str]) -> None:
        self.parts, self.alteration = parts, alteration
        self.kept: WeakKeyDictionary[Any, LaidOut] = WeakKeyDictionary()

    def check(self, model: object, *params: Any) -> str:
        """What keeps a model from the fast pass; what was laid out of other parts is forgotten."""
        laid = self.kept.get(model)
        if laid is not None and laid.parts.are_current(model, *params):
            return ""
        self.release(model)
        altered = self.alteration(model, *params)
        if not altered:
            self.kept[model] = LaidOut(self.parts(model, *params), {})
        return altered

    def laid_out(self, model: object, dtype: str, make: Callable[[], Any]) -> Any:
        """The model laid out for a dtype, made on the first call; `check` has found nothing against it."""
        made = self.kept[model].made
        if dtype not in made:
            made[dtype] = make()
        return made[dtype]

    def release(self, model: object) -> None:
        """Free what was laid out."""
        self.kept.pop(model, None)


def chosen_dtype(dtype: str | None, own: str, choices: tuple[str, ...]) -> str:
    """The dtype to compute in: the model's own for None."""
    if dtype is None or dtype == own:
        return own
    if dtype not in choices:
        raise ValueError(f"dtype={dtype!r}; infer computes in the model's own, {own}, or in {', '.join(choices)}")
    return dtype


def run_fast_or_plain(
    model: Any,
    batch: Mapping[str, np.ndarray],
    *,
    where: np.ndarray | None,
    batch_tokens: int,
    dtypes: tuple[str, str],
    altered: str,
    has_pooler: bool,
    fast: Callable[[], Callable[[Tokens], Arrays]],
    plain: Callable[[Arrays], Arrays],
    cut: Cut = unpadding.by_length,
) -> Arrays:
    """The results of a batch, by the fast pass where it is right, else by the model's own.

    Args:
        dtypes: the one to compute in, and the model's own.
        altered: what keeps the model from the fast pass; "" where nothing does.
        has_pooler: of a class without head, whether it pools.
        fast: what gives the results of one piece of tokens; asked for when there is one.
        plain: the model's own forward pass on arrays as given.
        cut: the rows of each piece.

    Raises:
        ValueError: as `unpadding.run_batch`, or a dtype other than its own for a model or a batch that has no fast pass.
    """
    chosen, own = dtypes

    def run_padded(piece: Arrays) -> Arrays:
        require_own(chosen, own, altered)
        return plain(piece)

    return unpadding.run_batch(
        batch, model.config, model.head,
        altered=bool(altered), pools=model.head in unpadding.PER_ROW and has_pooler, where=where,
        batch_tokens=batch_tokens, run=lambda tokens: fast()(tokens), run_padded=run_padded, cut=cut,
    )  # fmt: skip


def require_own(chosen: str, own: str, altered: str) -> None:
    """Refuse another dtype for a batch that goes through the plain forward pass, which computes in the model's own.

    Args:
        altered: what keeps the model from the fast pass, where it is not the batch.
    """
    if chosen == own:
        return
    if altered:
        raise ValueError(
            f"dtype={chosen!r} is not supported for this model, as {altered}: it runs through its own forward pass, which "
            f"computes in {own}; omit dtype, or take away what was added (merge an adapter, remove a hook)"
        )
    raise ValueError(
        f"dtype={chosen!r} is not supported for this batch or model: relative positions, masks that are more than 0 and "
        f"1 a token, rows without a token, and padding before a first token that is pooled are computed in {own}; "
        "omit dtype"
    )
