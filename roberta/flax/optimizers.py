"""Training states out of and into optax.adamw.

Reading takes what `roberta.common.training.optimizer_state` needs and refuses what it has no place for; filling checks
everything first and then gives moments and step. Settings are the caller's: make the optimizer from
`Group.arguments`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax import Array
from jax.tree_util import KeyPath

from roberta.common.formats.flax_msgpack import canonical_name
from roberta.common.training.optimizer_state import Group, TrainingState, check_fits
from roberta.flax.weights import from_native, to_array

MOMENT_FIELDS = {"exp_avg": "mu", "exp_avg_sq": "nu"}  # moment -> field of optax' ScaleByAdamState
CARRIED = ("count", "mu", "nu", "hyperparams")  # fields of optax' states that are carried, or are settings

_Leaves = dict[str, tuple[Array, bool]]  # entry -> leaf, and whether it is stored transposed


def read_optimizer(opt_state: optax.OptState, *, groups: Sequence[Group]) -> TrainingState:
    """The state of an `optax.adamw`, or of a chain with one `scale_by_adam`, over parameters of our Flax models.

    Args:
        groups: the settings, which an optax state does not know; each parameter in one of them.

    Raises:
        ValueError: there is not one state of Adam, or another state that no other framework has.
    """
    adam, moments = moments_of(opt_state)
    arrays = {entry: from_native(leaf, is_turned) for entry, (leaf, is_turned) in moments.items()}
    return TrainingState(int(adam.count), arrays, tuple(groups), "the optax state")


def fill_optimizer(state: TrainingState, opt_state: optax.OptState) -> optax.OptState:
    """An optax state like `opt_state`, what `init` or `update` returned, with these moments and this step.

    Every `count` is set: a schedule of the learning rate continues where it was.

    Raises:
        CheckpointError: a moment is missing, unknown or of the wrong shape.
    """
    adam, moments = moments_of(opt_state)
    wanted = {
        entry: (leaf.shape[::-1] if is_turned else leaf.shape, np.dtype(leaf.dtype))
        for entry, (leaf, is_turned) in moments.items()
    }
    check_fits(state, wanted)

    arrays = {
        entry: to_array(array.T if moments[entry][1] else array, moments[entry][0].dtype)
        for entry, array in state.moments.items()
    }
    return with_moments(opt_state, arrays, to_array(np.array(state.step), adam.count.dtype))


def with_moments(opt_state: optax.OptState, arrays: Mapping[str, Array], step: Array) -> optax.OptState:
    """An optax state like `opt_state` with other moments, by entry and with Flax's axes, and with a step at each count."""
    adam, _ = moments_of(opt_state)

    def new(moment: str) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, old: arrays[f"{moment}.{_canonical(path)[0]}"], getattr(adam, MOMENT_FIELDS[moment])
        )

    filled = optax.tree_utils.tree_set(opt_state, count=step, **{name: new(m) for m, name in MOMENT_FIELDS.items()})
    # each count its own array: a step that is given the state's memory takes no array twice
    return jax.tree.map(lambda leaf: leaf.copy() if leaf is step else leaf, filled)


def moments_of(opt_state: optax.OptState) -> tuple[Any, _Leaves]:
    """The one state of Adam in an optax state, and its moments by entry."""

    def is_adam(node: object) -> bool:
        return isinstance(node, optax.ScaleByAdamState)

    adams = [node for node in jax.tree_util.tree_leaves(opt_state, is_leaf=is_adam) if is_adam(node)]
    if len(adams) != 1:
        raise ValueError(
            f"the optax state has {len(adams)} states of Adam, and one is carried; give adamw a mask for what is not "
            "decayed, not an adamw of its own"
        )
    for path, _ in jax.tree_util.tree_leaves_with_path(opt_state):
        if not any(getattr(key, "name", None) in CARRIED for key in path):
            raise ValueError(
                f"the optax state has {jax.tree_util.keystr(path)}, which no other framework has a place for"
            )
    moments = {}
    for moment, attribute in MOMENT_FIELDS.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(adams[0], attribute)):
            name, is_turned = _canonical(path)
            moments[f"{moment}.{name}"] = (leaf, is_turned)
    return adams[0], moments


def _canonical(path: KeyPath) -> tuple[str, bool]:
    """The canonical name of a leaf of Flax's tree, and whether it is stored transposed."""
    name, is_turned = canonical_name("/".join(key.key for key in path))
    return name, is_turned
