"""What `from_pretrained` is given besides a folder: tensors, a device to load on, and arguments of a class."""

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
