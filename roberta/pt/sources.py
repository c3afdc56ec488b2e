"""What `from_pretrained` is given besides a folder: tensors, and a device to load on."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from roberta.common.config import RobertaConfig
from roberta.common.formats.safetensors_file import StoredTensor
from roberta.common.parameters import Parameter, kind_of, parameters
from roberta.pt.weights import to_numpy

if TYPE_CHECKING:
    from roberta.pt.pretrained import RobertaPreTrainedModel

DeviceMap = str | int | torch.device | Mapping[str, str | int | torch.device] | None
AUTOMATIC = ("auto", "balanced", "balanced_low_0", "sequential")


def stored_tensors(state_dict: Mapping[str, Any] | None) -> dict[str, StoredTensor] | None:
    """Tensors of a state dict as those of a file; a model loaded from them shares no memory with them."""
    if state_dict is None:
        return None
    wrong = [name for name, value in state_dict.items() if not isinstance(value, Tensor)]
    if wrong:
        raise ValueError(
            f"state_dict holds {wrong[0]!r} of type {type(state_dict[wrong[0]]).__name__}, not a tensor; a training's "
            'checkpoint may hold the model\'s tensors under a key, such as checkpoint["model"]'
        )
    return {name: _stored(name, tensor) for name, tensor in state_dict.items()}


def _stored(name: str, tensor: Tensor) -> StoredTensor:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return StoredTensor(name, tuple(tensor.shape), dtype, Path("state_dict"), lambda: to_numpy(tensor).copy())


def device_of(device_map: DeviceMap) -> torch.device | None:
    """The device to load on; None for where PyTorch puts tensors by default.

    Args:
        device_map: None; "auto", the accelerator if there is one; a device, its name or its number; or {"": device}.

    Raises:
        ValueError: a map that splits the model, or is not a device.
    """
    if isinstance(device_map, Mapping):
        devices = {str(device) for device in device_map.values()}
        if len(devices) != 1:
            raise ValueError(
                f"device_map splits the model over {sorted(devices)}, which is not supported: these models fit one "
                'device; give device_map="auto" or a device, and docs/training.md shows how a training is spread'
            )
        device_map = next(iter(device_map.values()))
    if device_map is None:
        return None
    if device_map in AUTOMATIC:
        return torch.accelerator.current_accelerator() or torch.device("cpu")
    if isinstance(device_map, int) and not torch.accelerator.is_available():
        raise ValueError(f'device_map={device_map} is the number of an accelerator, and there is none; give "cpu"')
    try:
        return torch.device(device_map)
    except (RuntimeError, TypeError):
        raise ValueError(
            f'device_map={device_map!r} is not a device; give "auto", "cpu", a device such as "cuda:0", or {{"": device}}'
        ) from None


def own_arguments(cls: type, given: dict[str, Any]) -> dict[str, Any]:
    """Take out of `given` what the constructor of a class of the caller's own takes beside the config."""
    names = list(inspect.signature(cls).parameters)[1:]
    fields = vars(RobertaConfig())
    return {name: given.pop(name) for name in names if name in given and name not in fields}


def table_of(model: "RobertaPreTrainedModel") -> dict[str, Parameter]:
    """The tensors, by name, of a model whose class is in no table: the encoder's by its config, the others as they are."""
    base = model.base_model
    table = {}
    if base is not model:
        pooled = parameters(model.config, "Model", has_pooler=base.pooler is not None)
        table = {f"roberta.{name}": Parameter(f"roberta.{name}", p.shape, p.kind) for name, p in pooled.items()}
    for name, parameter in model.named_parameters():
        if not name.startswith("roberta."):
            table[name] = Parameter(name, tuple(parameter.shape), kind_of(name))
    return table
