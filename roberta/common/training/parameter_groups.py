"""Which parameters are trained, and each with which rate and decay, without a framework."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from roberta.common.parameters import kind_of
from roberta.common.training.optimizer_state import Group
from roberta.common.training.recipes import Recipe

_LAYER = re.compile(r"(?:roberta\.)?encoder\.layer\.(\d+)\.")
_EMBEDDINGS = re.compile(r"(?:roberta\.)?embeddings\.")


def layer_of(name: str) -> int | None:
    """The number of the layer that a parameter is of, from 0; -1 for the embeddings, None for pooler and head."""
    found = _LAYER.match(name)
    if found is not None:
        return int(found[1])
    return -1 if _EMBEDDINGS.match(name) else None


def rate_scale(name: str, recipe: Recipe, layers: int) -> float:
    """What the learning rate of a parameter is multiplied by: `layer_decay` once for each step down from the head."""
    if recipe.layer_decay == 1:
        return 1.0
    layer = layer_of(name)
    steps = 0 if layer is None else layers - layer
    return float(recipe.layer_decay**steps)


def decays(name: str, recipe: Recipe) -> bool:
    """Whether weights are taken off a parameter, by canonical name."""
    return recipe.decays_all or kind_of(name) in ("embedding", "dense")


def groups_of(names: Iterable[str], recipe: Recipe, layers: int, learning_rate: float) -> tuple[Group, ...]:
    """The groups of trained parameters, those that decay first; parameters keep their order.

    Args:
        layers: of the encoder.
        learning_rate: of the head.
    """
    found: dict[tuple[bool, float], list[str]] = {}
    for name in names:
        found.setdefault((decays(name, recipe), rate_scale(name, recipe, layers)), []).append(name)
    return tuple(
        Group(
            learning_rate * scale, recipe.beta1, recipe.beta2, recipe.epsilon,
            recipe.weight_decay if is_decayed else 0.0, tuple(own),
        )
        for (is_decayed, scale), own in sorted(found.items(), key=lambda pair: not pair[0][0])
    )  # fmt: skip


def frozen_parameters(freeze: str | int | Sequence[str | int], names: Sequence[str], layers: int) -> tuple[str, ...]:
    """The parameters that are not trained, in the order of `names`.

    Args:
        freeze: any of "embeddings"; a number, for so many layers from the lowest; "encoder", for embeddings and all
            layers; and names of parameters or modules, such as "encoder.layer.0.attention".
        names: of all parameters of the class that is trained.
        layers: of the encoder.

    Raises:
        ValueError: a name is of no parameter, there are fewer layers, or nothing is left to train.
    """
    check_freeze(freeze)
    given = [freeze] if isinstance(freeze, str | int) else list(freeze)
    frozen: set[str] = set()
    for one in given:
        own = {name for name in names if _is_meant(name, one, layers)}
        if not own:
            raise ValueError(
                f"freeze={one!r} is of no parameter of this model; give 'embeddings', a number of layers, 'encoder' for "
                f"both, or the name of a module or parameter such as {names[-1]!r}"
            )
        frozen |= own
    if len(frozen) == len(set(names)):
        raise ValueError(f"freeze={given} leaves nothing to train; freeze less")
    return tuple(name for name in names if name in frozen)


def check_freeze(freeze: object) -> None:
    """Raise `ValueError` for what cannot say of any model what is frozen, or says nothing."""
    given = [freeze] if isinstance(freeze, str | int) else freeze
    if not isinstance(given, Sequence) or not all(isinstance(one, str | int) for one in given):
        raise ValueError(
            f"freeze={freeze!r} must be 'embeddings', a number of layers, 'encoder', the name of a module or parameter, or "
            "a list of these"
        )
    if not given:
        raise ValueError(f"freeze={freeze!r} freezes nothing; name what is frozen, or omit it to train all weights")


def _is_meant(name: str, one: str | int, layers: int) -> bool:
    """Whether a part of `freeze` means a parameter."""
    layer = layer_of(name)
    if isinstance(one, int) or one.isdecimal():
        number = int(one)
        if isinstance(one, bool) or not 1 <= number <= layers:
            raise ValueError(f"freeze={one!r} must be a number of layers from 1 to {layers}, as many as the model has")
        return layer is not None and 0 <= layer < number
    if one in ("embeddings", "encoder"):
        return layer == -1 if one == "embeddings" else layer is not None
    bare = name.removeprefix("roberta.")
    return any(f"{full}.".startswith(f"{one}.") for full in (name, bare))


def check_frozen(frozen: Iterable[str], names: Iterable[str]) -> None:
    """Raise `ValueError` where a frozen parameter is not of the model, or nothing is left to train."""
    there, frozen = set(names), set(frozen)
    unknown = sorted(frozen - there)
    if unknown:
        raise ValueError(f"frozen={unknown[0]!r} is not a parameter of the model; give canonical names")
    if there and there == frozen:
        raise ValueError("frozen has all parameters of the model; freeze less")
