"""Devices by name: which of those that a framework has here a caller means. No framework is imported.

A caller says "cpu", "cuda", "cuda:1", "gpu", "mps", a number as in transformers (-1 is the CPU, 0 the first
accelerator), or gives a framework's own object. Each backend's `devices.py` lists what exists and places models there.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from roberta.common.frameworks import backend_module

_logger = logging.getLogger(__name__)

AUTOMATIC = ("auto", "balanced", "balanced_low_0", "sequential")  # values of device_map that leave the choice to us
ACCELERATOR = "accelerator"  # the kind of a device that is given by its number
# Kind that is asked for -> kinds that are the same in another framework.
_ALIKE = {"cuda": ("gpu",), "rocm": ("cuda", "gpu"), "hip": ("cuda", "gpu"), "gpu": (ACCELERATOR,)}
_CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # of x86 and Arm, in /proc/cpuinfo


class DeviceName(NamedTuple):
    """A device: its kind, such as "cpu", "cuda" or "gpu", and its number; None for the framework's current one."""

    kind: str
    number: int | None = None

    def __str__(self) -> str:
        """As callers write it: "cuda:1"."""
        return self.kind if self.number is None else f"{self.kind}:{self.number}"


def device_name(value: object, argument: str = "device") -> DeviceName:
    """What a caller's value says: the kind as it is written there, in lower case, and the number.

    Raises:
        ValueError: it is neither a name, nor a number, nor a device of a framework.
    """
    if isinstance(value, str) and re.fullmatch(r"-?\d+", value.strip()):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= -1:
        return DeviceName("cpu") if value == -1 else DeviceName(ACCELERATOR, value)
    # of PyTorch: type and index; of JAX: platform and id; of TensorFlow: name, "/device:GPU:0" at its end
    if isinstance(kind := getattr(value, "type", None), str):
        return DeviceName(kind, getattr(value, "index", None))
    if isinstance(kind := getattr(value, "platform", None), str):
        return DeviceName(kind, getattr(value, "id", None))
    text = value if isinstance(value, str) else getattr(value, "name", None)
    found = re.fullmatch(r"(?:.*/)?(?:\w*device:)?([a-z_]\w*)(?::(\d+))?", text.strip().lower()) if text else None
    if found is None:
        raise ValueError(
            f'{argument}={value!r} is not a device; give a name such as "cpu", "cuda" or "cuda:1", a number (-1 is the '
            "CPU, 0 the first accelerator), or a device of the framework"
        )
    return DeviceName(found[1], None if found[2] is None else int(found[2]))


def existing_device(
    value: object, there: Mapping[str, int], framework: str, *, argument: str = "device", advice: str = ""
) -> DeviceName:
    """The device that a caller means, of those that exist.

    Args:
        there: kind of devices -> how many of them, accelerators first.
        framework: its name, for the error.
        advice: why an accelerator may be missing, and what to do.

    Raises:
        ValueError: it does not exist, or is not a device; lists what there is.
    """
    asked = device_name(value, argument)
    accelerators = [kind for kind in there if kind != "cpu"]
    names = (asked.kind, *_ALIKE.get(asked.kind, ()))
    kinds = [kind for name in names for kind in (accelerators if name == ACCELERATOR else [name]) if kind in there]
    if kinds and (asked.number is None or asked.number < there[kinds[0]]):
        return DeviceName(kinds[0], asked.number)
    # what there is, and why an accelerator may be missing
    listed = [
        f"{kind}:{number}" for kind in there for number in range(there[kind]) if (kind, there[kind]) != ("cpu", 1)
    ]
    listed += ["cpu"] if there.get("cpu") == 1 else []
    if asked.kind == "mps" and framework != "PyTorch":
        advice = '"mps" is a device of PyTorch alone'
    why = f" ({advice})" if advice and asked.kind != "cpu" and not accelerators else ""
    raise ValueError(
        f"{argument}={value!r} does not exist here: {framework} finds {'' if accelerators else 'only '}"
        f"{', '.join(listed)}{why}; give one of these, or omit {argument}"
    )


def single_device(device_map: object) -> object:
    """The device of a `device_map`: itself, or the only one that a dictionary names; None where the choice is ours.

    Raises:
        ValueError: it splits the model over several devices.
    """
    if isinstance(device_map, Mapping):
        devices = {str(device) for device in device_map.values()}
        if len(devices) != 1:
            raise ValueError(
                f"device_map splits the model over {sorted(devices)}, which is not supported: these models fit one "
                'device; give device_map="auto" or a device, and docs/training.md shows how a training is spread'
            )
        device_map = next(iter(device_map.values()))
    return None if is_automatic(device_map) else device_map


def is_automatic(device: object) -> bool:
    """Whether a caller leaves the choice to the library."""
    return device is None or (isinstance(device, str) and device in AUTOMATIC)


def check_kind_alone(device: object, sharding: str) -> None:
    """Raise `ValueError` for one device by its number, where a sharding takes all devices of a kind."""
    if sharding != "none" and not is_automatic(device) and device_name(device).number is not None:
        raise ValueError(
            f"device={device!r} is one device, and sharding={sharding!r} takes all of its kind; omit the number, or "
            'take sharding="none"'
        )


@functools.cache
def say_taken(device: str, framework: str) -> None:
    """Log, once per process, which device was taken where the caller named none."""
    level = logging.INFO if device.lower().startswith("cpu") else logging.WARNING
    _logger.log(level, '%s runs on %s, as no device was named; device="cpu" or another name chooses', framework, device)


@functools.cache
def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16 (AVX-512 BF16, AMX or Arm's BF16), as far as Linux says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return not _CPU_FLAGS.isdisjoint(flags.split())


def to_load_on(device: object, dtype: str | None, framework: str) -> object:
    """The `device_map` for a device: "auto" for None, but the CPU for a dtype that the accelerator does not have.

    Raises:
        ValueError: the device does not exist.
    """
    if not is_automatic(device):
        return backend_module(framework, "devices").as_device(device)
    has_none = dtype == "float64" and "mps" in backend_module(framework, "devices").existing()
    return "cpu" if has_none else AUTOMATIC[0]


def dtype_on(dtype: str | None, device: object, framework: str) -> str | None:
    """A dtype, of which "auto" is bfloat16 where the device computes in that, else float32."""
    if dtype != "auto":
        return dtype
    devices = backend_module(framework, "devices")
    return "bfloat16" if devices.computes_bfloat16(devices.as_device(device)) else "float32"


def to_train_on(device: object, dtype: str, sharding: str, framework: str) -> Any:
    """The `device_map` of a model that is to be trained; `ValueError` for a device that does not exist."""
    wanted = to_load_on(None, dtype, framework) if is_automatic(device) else device
    return backend_module(framework, "devices").training_device(wanted, sharding)


def device_of(model: Any) -> Any:
    """Where a model is, as its framework says it: a torch.device, "GPU:0" of TensorFlow, a device of JAX."""
    return backend_module(model.framework, "devices").device_of_model(model)


def move_to(model: Any, device: object) -> None:
    """Move a model to a device, unless that is None; TensorFlow cannot, and says so."""
    if device is not None:
        backend_module(model.framework, "devices").move(model, device)
