"""Where the arrays of a training are: on one device, or spread over a mesh of all devices.

JAX's partitioner splits the programs by where their arguments are, and puts the communication in; the numbers are
those of one device, to rounding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
import numpy.typing as npt
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

BY_ROW = ("input_ids", "attention_mask", "token_type_ids")  # inputs whose first axis is split


@dataclass(frozen=True)
class MeshLayout:
    """How arrays are spread.

    Attributes:
        mesh: all devices in one row, or None for one device.
        splits_weights: whether each device has a part of weights and optimizer, not all of them.
    """

    mesh: Mesh | None
    splits_weights: bool

    @property
    def everywhere(self) -> NamedSharding | None:
        """A whole copy on each device."""
        return None if self.mesh is None else NamedSharding(self.mesh, PartitionSpec())

    def places(self, state: object) -> Any:
        """The sharding of each leaf of a tree; None for one device."""
        return None if self.mesh is None else jax.tree.map(self.place, state)

    def place(self, leaf: npt.ArrayLike) -> NamedSharding:
        """Where a leaf is: its longest axis that the devices divide is split, or it is everywhere."""
        assert self.mesh is not None
        shape = np.shape(leaf)
        fitting = [axis for axis, size in enumerate(shape) if size and size % self.mesh.size == 0]
        if not self.splits_weights or not fitting:
            return NamedSharding(self.mesh, PartitionSpec())
        longest = max(fitting, key=lambda axis: shape[axis])
        return NamedSharding(
            self.mesh, PartitionSpec(*("data" if axis == longest else None for axis in range(longest + 1)))
        )

    def put_state(self, state: object) -> Any:
        """A tree of arrays, each where it belongs."""
        return state if self.mesh is None else jax.device_put(state, self.places(state))

    def put_inputs(self, inputs: Mapping[str, np.ndarray], pad_token_id: int) -> dict[str, Array]:
        """A micro-batch on the devices: rows split, labels everywhere.

        Rows of padding are put behind those that the devices do not divide. They have no labels, and so no part in the
        loss: `training.task_loss` takes the logits of labelled rows only.
        """
        if self.mesh is None:
            return dict(inputs)
        by_row = NamedSharding(self.mesh, PartitionSpec("data"))
        found = {}
        for name, array in inputs.items():
            if name in BY_ROW:
                missing = [(0, -len(array) % self.mesh.size)] + [(0, 0)] * (array.ndim - 1)
                array = np.pad(array, missing, constant_values=pad_token_id if name == "input_ids" else 0)
            found[name] = jax.device_put(array, by_row if name in BY_ROW else self.everywhere)
        return found


def is_first() -> bool:
    """Whether this process is the first one of those that train together."""
    return jax.process_index() == 0


def make_layout(sharding: Literal["none", "data", "full"], platform: str | None = None) -> MeshLayout:
    """The layout of `Settings.sharding`, over all devices of this process, of the platform or of JAX's own choice.

    Raises:
        ValueError: there are several processes.
    """
    if sharding == "none":
        return MeshLayout(None, False)
    if jax.process_count() > 1:
        raise ValueError(
            f"sharding={sharding!r} takes the devices of one process, and JAX has {jax.process_count()} processes; "
            "start one process that sees all devices"
        )
    return MeshLayout(Mesh(np.array(jax.devices(platform)), ("data",)), sharding == "full")
