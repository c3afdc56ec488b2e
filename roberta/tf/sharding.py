"""How the work of a training is spread over the devices of TensorFlow, and how what each of them runs is compiled.

Several processes that train one model, "workers", are those that the variable TF_CONFIG lists, on one machine or
several. TensorFlow notices within some ten seconds that one of them has died.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import tensorflow as tf
from tensorflow import Tensor

from roberta.common.training.processes import OneProcess, Processes

_JOBS = ("chief", "worker")  # of TF_CONFIG, in the order of their ranks
_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.InternalError)


class Workers:
    """The processes that TF_CONFIG lists, connected: the chief, if there is one, then the workers.

    Attributes:
        strategy: the one strategy of this process, which all its trainings share.
    """

    def __init__(self, strategy: Any, rank: int, count: int) -> None:
        self.strategy, self.rank, self.count = strategy, rank, count
        self._together = EachDevice(strategy, self._in_its_place)

    def gathered(self, value: int) -> list[int]:
        """The value of each process, by rank."""
        return [int(one) for one in self.numbers(value)]

    def numbers(self, value: float) -> list[float]:
        """The number of each process, by rank; all of them ask for it, and it is not rounded."""
        found = self._together(tf.constant(value, tf.float64))
        numbers: list[float] = self.strategy.experimental_local_results(found)[0].numpy().tolist()
        return numbers

    def _in_its_place(self, value: Tensor) -> Tensor:
        """The numbers of all processes, each the sum of one number and zeros."""
        context = tf.distribute.get_replica_context()
        devices = self.strategy.num_replicas_in_sync // self.count
        speaks = replica_number() == self.rank * devices  # of the devices of a process, the first one
        place = tf.one_hot(self.rank if speaks else -1, self.count, value, tf.zeros_like(value))  # at -1 there is none
        return context.all_reduce(tf.distribute.ReduceOp.SUM, place)


def is_first() -> bool:
    """Whether this process is the first one of those that train together, which are connected when there is a need."""
    found = connected()
    return found is None or found.rank == 0


def join(sharding: str) -> Processes:
    """The processes of a training; they are connected when there is a need for it.

    Raises:
        ValueError: as `connected`.
    """
    return (None if sharding == "none" else connected()) or OneProcess()


@cache
def connected() -> Workers | None:
    """The processes that TF_CONFIG lists, connected; None where it lists no second one.

    Raises:
        ValueError: TF_CONFIG cannot be read, TensorFlow has made something already, or the others cannot be reached.
    """
    rank, count = place_in_cluster()
    if count == 1:
        return None
    try:
        return Workers(tf.distribute.MultiWorkerMirroredStrategy(), rank, count)
    except (RuntimeError, tf.errors.OpError) as error:
        raise ValueError(
            f"the {count} processes that TF_CONFIG lists cannot be connected: {error}. Start all of them, each with its "
            "own task in TF_CONFIG, at addresses that all can reach; in Python call roberta.tf.sharding.is_first() "
            "before TensorFlow makes its first tensor"
        ) from error


def place_in_cluster() -> tuple[int, int]:
    """The rank of this process among those that TF_CONFIG lists, and how many they are; (0, 1) without it.

    Raises:
        ValueError: it cannot be read, lists jobs beside a chief and workers, or does not list this process.
    """
    try:
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        jobs = resolver.cluster_spec().as_dict()
        own = (resolver.task_type, resolver.task_id)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(_wrong_config(f"cannot be read: {type(error).__name__}: {error}")) from error
    places = [(job, number) for job in _JOBS for number in range(len(jobs.get(job, ())))]
    if len(places) < 2 and jobs.keys() <= set(_JOBS):
        return 0, 1
    if not jobs.keys() <= set(_JOBS):
        raise ValueError(_wrong_config(f"lists {sorted(jobs)}, and a training has only a chief and workers"))
    if own not in places:
        raise ValueError(
            _wrong_config(f"says that this process is {own[0]!r} {own[1]}, which its cluster does not list")
        )
    return places.index(own), len(places)


def _wrong_config(what: str) -> str:
    """A message about TF_CONFIG, which says how it must be."""
    return (
        f"TF_CONFIG={os.environ.get('TF_CONFIG')!r} {what}; give each process "
        '{"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]}, "task": {"type": "worker", "index": 0}}, each with its own '
        "index, or unset it to train alone"
    )


@contextmanager
def loss_of_processes_named(processes: Processes) -> Iterator[None]:
    """While it lasts, an error of TensorFlow because a process has ended says so.

    Raises:
        RuntimeError: one of the others has ended, or cannot be reached any more.
    """
    try:
        yield
    except _LOST as error:
        if processes.count == 1:
            raise
        lines = error.message.splitlines()  # of which many say where in the graph
        cause = next((line for line in lines if "aborted" in line), error.message)
        raise RuntimeError(
            f"another one of the {processes.count} processes of this training has ended, or cannot be reached any more; "
            f"its own message says why. Start all of them again, with resume=True (--resume). TensorFlow: {cause}"
        ) from error


def total(value: float, processes: Processes) -> float:
    """The sum of a number over the processes."""
    return math.fsum(processes.numbers(value)) if isinstance(processes, Workers) else value


def replica_number() -> int:
    """The number of the device that runs this, among those of all processes."""
    context = tf.distribute.get_replica_context()
    return int(tf.get_static_value(context.replica_id_in_sync_group))


def strategy_of(sharding: str, device_name: str | None = None) -> Any:
    """How the work is spread over devices, of this process or of all that are connected.

    Args:
        device_name: one of those to use, by its kind; None for the GPUs, or else the CPUs.

    Raises:
        ValueError: there is one device only, or weights and optimizer are to be split; or several processes take
            devices of another kind.
    """
    if sharding == "full":
        raise ValueError(
            'sharding="full" splits weights and optimizer, which tf.distribute does not do for one training on one '
            'machine; train with sharding="data", or in PyTorch or Flax, which have it'
        )
    if sharding == "none":
        return tf.distribute.get_strategy()
    if (workers := connected()) is not None:
        check_kind(workers.strategy, device_name)
        return workers.strategy
    kinds = ("GPU", "CPU") if device_name is None else (device_name.partition(":")[0],)
    devices: Any = next((found for kind in kinds if (found := tf.config.list_logical_devices(kind))), [])
    if len(devices) < 2:
        raise ValueError(
            f'sharding="data" is over several devices, and TensorFlow has {[one.name for one in devices]}; use '
            'sharding="none", split a device with tf.config.set_logical_device_configuration, or start several processes, '
            "which TF_CONFIG lists"
        )
    return mirrored(tuple(device.name for device in devices))


def check_kind(strategy: Any, device_name: str | None) -> None:
    """Raise `ValueError` if several processes do not compute on the kind of device that is wanted."""
    taken = tf.DeviceSpec.from_string(strategy.extended.worker_devices[0]).device_type
    if device_name is not None and device_name.partition(":")[0] != taken:
        raise ValueError(
            f"device={device_name!r} is wanted, and several processes of TensorFlow take their {taken}s where they have "
            'them; hide GPUs with CUDA_VISIBLE_DEVICES="", or omit device'
        )


@cache
def mirrored(devices: tuple[str, ...]) -> Any:
    """The one strategy of this process over some devices, which all its trainings share.

    Each `MirroredStrategy` numbers its collective operations from the same start, so those of a second one over the
    same devices would be taken for the first one's: wrong sums of gradients, or a "shape mismatch".
    """
    return tf.distribute.MirroredStrategy(list(devices))


class EachDevice:
    """A function that every device runs, compiled once.

    Args:
        takes_inputs: whether its arguments are a micro-batch, which may have any shape.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, function: Callable[..., Any], takes_inputs: bool = False
    ) -> None:
        self.strategy, self.function, self.takes_inputs = strategy, function, takes_inputs
        self.compiled: dict[str, Callable[..., Any]] = {}  # by the types of the arguments

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns, a value for each device."""
        signature = tf.nest.map_structure(any_length, arguments) if self.takes_inputs else None
        if str(signature) not in self.compiled:
            run = partial(self._run)  # a partial: TensorFlow warns of retracing by code
            self.compiled[str(signature)] = tf.function(run, input_signature=signature, autograph=False)
        return self.compiled[str(signature)](*arguments)

    def _run(self, *arguments: Any) -> Any:
        return self.strategy.run(self.function, args=arguments)


def any_length(tensor: Tensor) -> tf.TensorSpec:
    """A tensor's type and rank, and of (rows, choices, seq) the choices, which are the classes there."""
    shape = [None] * tensor.shape.rank
    return tf.TensorSpec([None, tensor.shape[1], None] if len(shape) == 3 else shape, tensor.dtype)
