"""The devices that JAX has here, and models on them."""

from contextlib import AbstractContextManager, suppress
from typing import Any

import jax
from jax import Device

from roberta.common.devices import (
    check_kind_alone,
    cpu_has_bfloat16,
    existing_device,
    is_automatic,
    say_taken,
    single_device,
)


def existing() -> dict[str, int]:
    """Kind of devices -> how many of them, accelerators first."""
    found = {jax.default_backend(): len(jax.local_devices())}
    with suppress(RuntimeError):  # JAX_PLATFORMS may leave the CPU out
        found["cpu"] = len(jax.local_devices(backend="cpu"))
    return found


def as_device(device: object = None, argument: str = "device") -> Device:
    """The device that a caller names; for None where JAX makes arrays, an accelerator if there is one: said once.

    Raises:
        ValueError: it does not exist; lists what there is.
    """
    if is_automatic(device):
        default = jax.config.jax_default_device
        chosen = default if isinstance(default, Device) else jax.local_devices(backend=default)[0]
        say_taken(f"{chosen.platform}:{chosen.id}", "JAX")
        return chosen
    if isinstance(device, Device) and device in jax.local_devices(backend=device.platform):
        return device  # with several processes its id is not its number here
    advice = "a GPU needs a build for it, such as jax[cuda12]"
    found = existing_device(device, existing(), "JAX", argument=argument, advice=advice)
    return jax.local_devices(backend=found.kind)[found.number or 0]


def training_device(device: object, sharding: str) -> Device | None:
    """The device to train on; None for JAX's own choice. With sharding its kind counts: all of that kind are used.

    Raises:
        ValueError: it does not exist, or it is one where all are wanted.
    """
    chosen = as_device(device)
    check_kind_alone(device, sharding)
    return None if is_automatic(device) else chosen


def loading_device(device_map: object) -> Device | None:
    """The device to load on by name; None for where JAX puts arrays by default.

    Args:
        device_map: None; "auto", the accelerator if there is one; a device, its name or its number; or {"": device}.

    Raises:
        ValueError: a map that splits the model, or a device that does not exist.
    """
    device = single_device(device_map)
    chosen = None if device_map is None else as_device(device, "device_map")
    return None if is_automatic(device) else chosen


def device_of_model(model: Any) -> Device:
    """Where a model is; the first of several devices."""
    leaves = [leaf for leaf in jax.tree.leaves(model.params) if isinstance(leaf, jax.Array)]
    if not leaves:
        return as_device()
    return min(leaves[0].sharding.addressable_devices, key=lambda device: device.id)  # those of this process


def move(model: Any, device: object) -> None:
    """Move a model's parameters to a device."""
    model.params = jax.device_put(model.params, as_device(device))


def on_device_of(model: Any) -> AbstractContextManager[Any]:
    """Where arrays are made, while it lasts: where a model's parameters are."""
    context: AbstractContextManager[Any] = jax.default_device(device_of_model(model))
    return context


def computes_bfloat16(device: Device) -> bool:
    """Whether a device multiplies in bfloat16, and does not only emulate it."""
    if device.platform == "cpu":
        return cpu_has_bfloat16()
    capability = str(getattr(device, "compute_capability", ""))  # of a GPU, such as "8.0"
    major = capability.partition(".")[0]
    return device.platform == "tpu" or (major.isdigit() and int(major) >= 8)
