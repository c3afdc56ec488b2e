"""How the work of a training is spread over the devices of TensorFlow, and how what each of them runs is compiled."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import tensorflow as tf
from tensorflow import Tensor


def is_first() -> bool:
    """Whether this process is the first one of those that train together."""
    return True


def strategy_of(sharding: str, device_name: str | None = None) -> Any:
    """How the work is spread over devices.

    Args:
        device_name: one of those to use, by its kind; None for the GPUs, or else the CPUs.

    Raises:
        ValueError: there is one device only, or weights and optimizer are to be split.
    """
    if sharding == "full":
        raise ValueError(
            'sharding="full" splits weights and optimizer, which tf.distribute does not do for one training on one '
            'machine; train with sharding="data", or in PyTorch or Flax, which have it'
        )
    if sharding == "none":
        return tf.distribute.get_strategy()
    kinds = ("GPU", "CPU") if device_name is None else (device_name.partition(":")[0],)
    devices: Any = next((found for kind in kinds if (found := tf.config.list_logical_devices(kind))), [])
    if len(devices) < 2:
        raise ValueError(
            f'sharding="data" is over several devices, and TensorFlow has {[one.name for one in devices]}; use '
            'sharding="none", or split a device with tf.config.set_logical_device_configuration'
        )
    return mirrored(tuple(device.name for device in devices))


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
