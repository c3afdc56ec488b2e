"""The devices that PyTorch has here, and models on them."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from roberta.common.devices import cpu_has_bfloat16, existing_device, is_automatic, say_taken, single_device


def existing() -> dict[str, int]:
    """Kind of devices -> how many of them, accelerators first."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    found = {} if accelerator is None else {accelerator.type: torch.accelerator.device_count()}
    return {**found, "cpu": 1}


def as_device(device: object = None, argument: str = "device") -> torch.device:
    """The device that a caller names; for None an accelerator, if there is one, which is said once.

    Where `torch.set_default_device`, or `torch.device` as a context, says another than the CPU, that is the default.

    Raises:
        ValueError: it does not exist; lists what there is.
    """
    if is_automatic(device):
        chosen = torch.get_default_device()
        chosen = torch.device(next(iter(existing()))) if chosen.type == "cpu" else chosen
        say_taken(str(chosen), "PyTorch")
        return chosen
    advice = "no driver?" if torch.version.cuda else "this build has no CUDA; pytorch.org lists those that have"
    return torch.device(str(existing_device(device, existing(), "PyTorch", argument=argument, advice=advice)))


def training_device(device: object, sharding: str) -> torch.device:
    """The device that this process trains on: of those of torchrun each takes the one of its number on this machine.

    Raises:
        ValueError: it does not exist, or it is one for all processes.
    """
    chosen, rank = as_device(device), os.environ.get("LOCAL_RANK")
    if sharding == "none" or rank is None or chosen.type == "cpu":
        return chosen
    if chosen.index is not None and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
        raise ValueError(
            f"device={device!r} is one device, and torchrun has started several processes, each of which takes its own; "
            f'omit the number: device="{chosen.type}"'
        )
    return as_device(f"{chosen.type}:{rank}") if chosen.index is None else chosen


def loading_device(device_map: object) -> torch.device | None:
    """The device to load on; None for where PyTorch puts tensors by default.

    Args:
        device_map: None; "auto", the accelerator if there is one; a device, its name or its number; or {"": device}.

    Raises:
        ValueError: a map that splits the model, or a device that does not exist.
    """
    if device_map is None:
        return None
    device = single_device(device_map)
    if str(device) == "meta":  # no memory: `from_pretrained` reads no values then
        return torch.device("meta")
    return as_device(device, "device_map")


def device_of_model(model: Any) -> torch.device:
    """Where a model is."""
    device: torch.device = model.device
    return device


def move(model: nn.Module, device: object) -> None:
    """Move a model to a device."""
    model.to(as_device(device))


def on_device_of(model: nn.Module) -> AbstractContextManager[Any]:
    """Where a model's operations run, while it lasts: in PyTorch where their tensors are."""
    return nullcontext()


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16, and does not only emulate it."""
    if device.type == "cpu":
        return cpu_has_bfloat16()
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    is_supported = getattr(torch.get_device_module(device), "is_bf16_supported", None)
    return bool(is_supported is not None and is_supported())


def put(array: np.ndarray, device: torch.device) -> Tensor:
    """An array as a tensor on a device; to CUDA through pinned memory, so that the copy waits for nothing."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@contextmanager
def forked_generators(device: torch.device) -> Iterator[None]:
    """Draws inside the block do not affect the generators of the CPU and of a device after it."""
    if device.type == "mps":  # whose generator has no number, which `fork_rng` asks for
        before = torch.mps.get_rng_state()
        try:
            with torch.random.fork_rng([]):
                yield
        finally:
            torch.mps.set_rng_state(before)
        return
    kind = "cuda" if device.type == "cpu" else device.type
    with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=kind):
        yield
