"""How PyTorch's parameters differ from the table: not at all. They carry the canonical names and shapes.

The one thing to know is what a tied LM head repeats: `lm_head.decoder.bias` is `lm_head.bias`, and a tied
`lm_head.decoder.weight` is the word embedding. Neither is in `state_dict`; both may be in what is loaded.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import torch
from torch import Tensor, nn

from roberta.common.formats.safetensors_file import StoredTensor

if TYPE_CHECKING:
    from roberta.pt.layers import LMHead
    from roberta.pt.pretrained import RobertaPreTrainedModel


def to_numpy(tensor: Tensor) -> np.ndarray:
    """The values as numpy, bfloat16 through `ml_dtypes`; no copy for a tensor on the CPU."""
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def to_tensor(array: np.ndarray, dtype: torch.dtype) -> Tensor:
    """A tensor with the values of `array`; it takes over the memory of a writable array."""
    array = np.require(array, requirements=("C", "A", "W"))
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16).to(dtype)
    return torch.from_numpy(array).to(dtype)


def gathered(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be split over processes, which all ask for it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def split_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor, split over processes where `like` is."""
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(tensor, like.device_mesh, like.placements)


def native(model: nn.Module) -> dict[str, tuple[nn.Parameter, bool]]:
    """Every parameter of the table by its canonical name, and whether it is stored transposed (never here)."""
    names = model.state_dict().keys()
    return {name: (parameter, False) for name, parameter in model.named_parameters() if name in names}


def drop_repeated(module: "LMHead", state: dict[str, Tensor], prefix: str, _metadata: object) -> None:
    """State-dict hook of the LM head: leave out what another name holds already."""
    state.pop(f"{prefix}decoder.bias", None)
    if module.is_tied:
        state.pop(f"{prefix}decoder.weight", None)


def restore_repeated(module: "LMHead", state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Load hook of the LM head: accept a state dict with or without the names that `drop_repeated` leaves out."""
    bias = state.get(f"{prefix}decoder.bias", state.get(f"{prefix}bias"))
    if bias is not None:
        state[f"{prefix}bias"] = state[f"{prefix}decoder.bias"] = bias
    if module.is_tied:
        state[f"{prefix}decoder.weight"] = module.decoder.weight.detach()


def tie_again(module: "RobertaPreTrainedModel", _incompatible: object) -> None:
    """Hook behind `load_state_dict`: with `assign=True` the tied names have become parameters of their own."""
    module.tie_weights()


def as_state(tensors: Mapping[str, StoredTensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """A state dict from stored tensors; those of a safetensors file stay on a map of it until they are changed."""
    wanted = str(dtype).removeprefix("torch.")
    return {
        name: to_tensor(tensor.stay() if tensor.stay is not None and tensor.dtype == wanted else tensor.load(), dtype)
        for name, tensor in tensors.items()
    }
