"""The devices that TensorFlow has here, and models on them."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import tensorflow as tf

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
    kinds = [device.device_type.lower() for device in tf.config.list_logical_devices()]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds) - {"tpu_system"}, key=lambda kind: kind == "cpu")}


def as_device(device: object = None, argument: str = "device") -> str:
    """The device that a caller names, as `tf.device` takes it; for None an accelerator, if there is one: said once.

    Raises:
        ValueError: it does not exist; lists what there is.
    """
    if is_automatic(device):
        chosen = f"{next(iter(existing())).upper()}:0"
        say_taken(chosen, "TensorFlow")
        return chosen
    advice = "no driver?" if tf.test.is_built_with_gpu_support() else "this build has no support of GPUs"
    found = existing_device(device, existing(), "TensorFlow", argument=argument, advice=advice)
    return f"{found.kind.upper()}:{found.number or 0}"


def training_device(device: object, sharding: str) -> str | None:
    """The device to train on; None for TensorFlow's own choice. With sharding its kind counts: all of that kind are used.

    Raises:
        ValueError: it does not exist, or it is one where all are wanted.
    """
    chosen = as_device(device)
    check_kind_alone(device, sharding)
    return None if is_automatic(device) else chosen


def loading_device(device_map: object) -> str | None:
    """The device to load on by name; None for where TensorFlow puts variables by default.

    Args:
        device_map: None; "auto", the accelerator if there is one; a device, its name or its number; or {"": device}.

    Raises:
        ValueError: a map that splits the model, or a device that does not exist.
    """
    device = single_device(device_map)
    chosen = None if device_map is None else as_device(device, "device_map")
    return None if is_automatic(device) else chosen


def device_of_model(model: Any) -> str:
    """Where a model is."""
    return as_device(tf.convert_to_tensor(model.variables[0].value).device) if model.variables else as_device()


def move(model: Any, device: object) -> None:
    """Refuse any device but a model's own: variables stay where they were made."""
    wanted, own = as_device(device), device_of_model(model)
    if wanted != own:
        raise ValueError(
            f"device={device!r}, and the model is on {own}: variables of TensorFlow stay where they were made; load it "
            "there with from_pretrained(folder, device_map=device), or give its folder"
        )


def on_device_of(model: Any) -> AbstractContextManager[Any]:
    """Where a model's operations run, while it lasts: the device that it was loaded on by name."""
    return nullcontext() if model.device_name is None else tf.device(model.device_name)


def computes_bfloat16(device: str) -> bool:
    """Whether a device multiplies in bfloat16, and does not only emulate it."""
    kind, _, index = device.partition(":")
    if kind != "GPU":
        return kind == "TPU" or (kind == "CPU" and cpu_has_bfloat16())
    details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[int(index)])
    capability: tuple[int, int] = details.get("compute_capability", (0, 0))
    return capability >= (8, 0)
