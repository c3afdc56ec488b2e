"""Where the arrays of a training are: on one device, or spread over a mesh of all devices, of one process or several.

JAX's partitioner splits the programs by where their arguments are, and puts the communication in; the numbers are
those of one device, to rounding. All processes collate every micro-batch, and each puts its own rows on its devices.
"""

import copy
import importlib.util
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import Array
from jax._src import distributed  # no public module has a barrier that needs no device; Orbax takes this one too
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from roberta.common.training.processes import OneProcess, Processes
from roberta.flax.devices import device_of_model
from roberta.flax.pretrained import FlaxRobertaPreTrainedModel

Sharding = Literal["none", "data", "full"]

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
        if self.mesh is None or not self.mesh.is_multi_process:
            return state if self.mesh is None else jax.device_put(state, self.places(state))
        return jax.tree.map(put_in_all, state, self.places(state))

    def whole(self, tree: object) -> Any:
        """A tree of arrays with all their values in this process; where they are split, all processes ask for it."""
        if self.mesh is None or not self.mesh.is_multi_process:
            return tree
        return jax.tree.map(self._whole_leaf, tree)

    def _whole_leaf(self, leaf: Array) -> np.ndarray:
        """The values of an array; those of one after another, as a device has no room for all whole weights."""
        everywhere = leaf if leaf.is_fully_replicated else jax.jit(same_leaf, out_shardings=self.everywhere)(leaf)
        return np.asarray(everywhere.addressable_data(0))

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
            place = by_row if name in BY_ROW else self.everywhere
            found[name] = put_in_all(array, place) if self.mesh.is_multi_process else jax.device_put(array, place)
        return found


def put_in_all(array: npt.ArrayLike, place: NamedSharding) -> Array:
    """An array of which all processes have all values, over the devices of all."""
    values = np.asarray(array)
    return jax.make_array_from_callback(values.shape, place, lambda part: values[part])


def same_leaf(leaf: Array) -> Array:
    """The array; a function with a name, so that JAX compiles it once for each shape."""
    return leaf


class JaxProcesses:
    """The processes that JAX has connected."""

    def __init__(self) -> None:
        self.rank, self.count = jax.process_index(), jax.process_count()

    def gathered(self, value: int) -> list[int]:
        """The value of each process, by rank."""
        wait_for_all()
        return [int(one) for one in process_allgather(np.int32(value))]


def is_first() -> bool:
    """Whether this process is the first one of those that train together, which are connected when there is a need."""
    connect()
    return jax.process_index() == 0


def join(sharding: Sharding) -> Processes:
    """The processes of a training; they are connected when there is a need for it.

    Raises:
        ValueError: as `connect`.
    """
    if sharding == "none":
        return OneProcess()
    connect()
    return JaxProcesses() if jax.process_count() > 1 else OneProcess()


# What says where the first process is, how many there are, and which one this is; JAX itself reads only the first.
_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
# What JAX finds its processes by: the number of them, and what else is there where the cluster has started them.
_CLUSTERS = {
    "Slurm": ("SLURM_NTASKS", "SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"),
    "Open MPI": ("OMPI_COMM_WORLD_SIZE", "OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_RANK"),
}


def connect() -> None:
    """Connect the processes that the environment names, unless the caller has; a process that is alone stays so.

    Raises:
        ValueError: the environment does not say enough, JAX has its devices already, or the others cannot be reached.
    """
    named = named_processes()
    if named is None or jax.distributed.is_initialized():
        return
    try:
        with _signals_left_alone():
            jax.distributed.initialize(**named)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"the processes of this training cannot be connected: {str(error).rstrip('.')}. Start each with "
            f"{', '.join(_VARIABLES)} (host:port of the first process, how many there are, and which one this is, from "
            "0), call jax.distributed.initialize() before anything else of JAX, or train alone: JAX_NUM_PROCESSES=1"
        ) from error


def named_processes() -> dict[str, Any] | None:
    """What `jax.distributed.initialize` is told of the processes that the environment names; None for one alone.

    Raises:
        ValueError: a variable is not a number, or out of range.
    """
    address, *numbers = (os.environ.get(name, "") for name in _VARIABLES)
    for name, number in zip(_VARIABLES[1:], numbers, strict=True):
        if number and not number.isdecimal():
            raise ValueError(f"{name}={number!r} must be a number of at least 0")
    count, rank = (int(number) if number else None for number in numbers)
    if count == 1:
        return None
    if count is not None and rank is not None and rank >= count:
        raise ValueError(f"JAX_PROCESS_ID={rank} must be below JAX_NUM_PROCESSES={count}: the first process is 0")
    given = {"coordinator_address": address or None, "num_processes": count, "process_id": rank}
    if None not in given.values():
        return {**given, "cluster_detection_method": "deactivate"}
    if any(value is not None for value in given.values()) or _is_in_cluster():
        return given
    return None


def _is_in_cluster() -> bool:
    """Whether a cluster that JAX knows has started this process as one of several."""
    for total, *others in _CLUSTERS.values():
        if all(name in os.environ for name in others) and int(os.environ.get(total, "1")) > 1:
            return True
    is_indexed = {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= os.environ.keys()
    hosts = os.environ.get("TPU_PROCESS_ADDRESSES", os.environ.get("TPU_WORKER_HOSTNAMES", ""))
    return "," in hosts or (is_indexed and importlib.util.find_spec("kubernetes") is not None)


@contextmanager
def _signals_left_alone() -> Iterator[None]:
    """While it lasts, JAX takes no signal: until the training handles SIGTERM, it would end nothing."""
    option = "jax_enable_preemption_service"
    before = getattr(jax.config, option, None)  # older versions of JAX have no such option
    if before is not None:
        jax.config.update(option, False)
    try:
        yield
    finally:
        if before is not None:
            jax.config.update(option, before)


def make_layout(sharding: Sharding, platform: str | None = None) -> MeshLayout:
    """The layout of `Settings.sharding`, over all devices of all processes, of the platform or of JAX's own choice."""
    if sharding == "none":
        return MeshLayout(None, False)
    mesh = Mesh(np.array(jax.devices(platform)), ("data",))
    if mesh.is_multi_process:
        meet(mesh)
    return MeshLayout(mesh, sharding == "full")


_PATIENCE = 24 * 60 * 60 * 1000  # milliseconds: the first process may read its data, or evaluate, for hours


def wait_for_all() -> None:
    """Return once all processes have come here; that one of them has ended is an error.

    A sum over devices must not be what a process waits in: on CPUs the first one fails where a process comes half a
    minute after another one, and any later one after half an hour.
    """
    client = distributed.global_state.client  # what `initialize` has connected; processes of a TPU may do without
    if client is not None:
        client.wait_at_barrier("roberta", _PATIENCE)


def meet(mesh: Mesh) -> None:
    """Wait for all processes, and open what they will send numbers through."""
    wait_for_all()
    process_allgather(np.int32(0))
    ones = put_in_all(np.ones(mesh.size, np.int32), NamedSharding(mesh, PartitionSpec("data")))
    jax.block_until_ready(jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))(ones))


def whole_model(model: FlaxRobertaPreTrainedModel, layout: MeshLayout) -> FlaxRobertaPreTrainedModel:
    """A copy of a model over several processes, which all ask for it; its weights are whole, on a device of this one."""
    own = jax.local_devices(backend=device_of_model(model).platform)[0]
    alone = copy.copy(model)
    alone.params = jax.device_put(layout.whole(model.params), own)
    return alone
