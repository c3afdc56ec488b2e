"""Which tensors of a PyTorch model are saved, and what a folder cannot hold.

A parameter is written as it is. What computes it in every pass (an adapter, a parametrization, a mask of pruning)
has names of its own in the state dict, and is refused by `roberta.common.checkpoint.saved_tensors`; this module finds what
names do not tell.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from roberta.common.checkpoint.saved_tensors import Wrong, changed_fields, checked_tensors, fields_changed
from roberta.common.config import RobertaConfig
from roberta.common.formats.safetensors_file import Source
from roberta.common.parameters import Kind, Parameter, parameters
from roberta.pt.layers import Intermediate
from roberta.pt.parts import without_dropout
from roberta.pt.sources import table_of
from roberta.pt.weights import to_numpy

if TYPE_CHECKING:
    from roberta.pt.pretrained import RobertaPreTrainedModel

# Kind of a weight -> PyTorch's layer with such a weight, and what it computes.
_PLAIN: dict[Kind, tuple[Any, Callable[[Any, Tensor], Tensor]]] = {
    "dense": (nn.Linear, lambda module, probe: F.linear(probe, module.weight, module.bias)),
    "embedding": (nn.Embedding, lambda module, probe: F.embedding(probe, module.weight)),
    "norm": (nn.LayerNorm, lambda module, probe: F.layer_norm(
        probe, module.weight.shape, module.weight, module.bias, module.eps)),
}  # fmt: skip
_REPLACE = "put one of PyTorch's own in its place, whose weight has the same effect"
_WORDS, _DECODER = "roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight"
_GATHER = (
    "gather the weights first, in every process: state = torch.distributed.checkpoint.state_dict.get_model_state_dict("
    "model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)), then save_pretrained(folder, "
    "state_dict=state, is_main_process=rank == 0)"
)


def to_write(model: "RobertaPreTrainedModel", state_dict: Mapping[str, Tensor] | None = None) -> dict[str, Source]:
    """The tensors that make the model, by canonical name.

    Args:
        state_dict: instead of the model's own.

    Raises:
        ValueError: they do not make it (see `saving.checked`).
    """
    has_pooler = getattr(model.base_model, "pooler", None) is not None
    table = table_of(model) if model.head is None else parameters(model.config, model.head, has_pooler=has_pooler)
    given = {_plain(name): value for name, value in (_state(model) if state_dict is None else state_dict).items()}
    wrong = [
        *_untied(model.config, given), *changed_fields(model.config, _configs(model)), *_changed_settings(model),
        *_other_layers(model, {name: table[name] for name in given if name in table and _is_known(model, name)}),
    ]  # fmt: skip
    for repeated in ("lm_head.decoder.bias", *([_DECODER] if _DECODER not in table else [])):
        given.pop(repeated, None)
    extra = [name for name, value in given.items() if name not in table or not isinstance(value, Tensor)]
    own = {name: value for name, value in given.items() if name not in extra}
    wrong += [line for name, value in own.items() for line in _unreadable(name, value)]
    return checked_tensors(
        type(model).__name__, table, {name: _source(value) for name, value in own.items()}, extra=extra, wrong=wrong
    )


def _is_known(model: "RobertaPreTrainedModel", name: str) -> bool:
    """Whether this library says what a tensor is for: in a class of the caller's own, of the encoder alone."""
    return model.head is not None or name.startswith("roberta.")


def _state(model: nn.Module) -> dict[str, Any]:
    """The state dict with what the LM head leaves out of it because it is there twice."""
    state = dict(model.state_dict())
    decoder = getattr(getattr(model, "lm_head", None), "decoder", None)
    for leaf in ("weight", "bias"):
        value = getattr(decoder, leaf, None)
        if isinstance(value, Tensor):
            state[f"lm_head.decoder.{leaf}"] = value.detach()
    return state


def _plain(name: str) -> str:
    """A name without what wrappers that do not affect results put into it."""
    return name.removeprefix("module.").replace("_orig_mod.", "").replace("_checkpoint_wrapped_module.", "")


def _source(tensor: Tensor) -> Source:
    return tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), lambda: to_numpy(tensor)


def _unreadable(name: str, tensor: Tensor) -> list[Wrong]:
    """Why the values of a tensor cannot be read."""
    if hasattr(tensor, "full_tensor"):
        return [(f"{name} is split over processes", _GATHER)]
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:  # quantised by torchao, and the like
        way = "save the model before it is quantised, or make its weights plain tensors: weight.dequantize()"
        return [(f"{name} is a {type(tensor).__name__}", way)]
    if tensor.is_meta:
        return [(f"{name} is on the meta device and has no values", "give the model its values first: load_state_dict")]
    if tensor.layout is not torch.strided:
        return [(f"{name} has the layout {tensor.layout}", "make it dense first: parameter.to_dense()")]
    return []


def _untied(config: RobertaConfig, state: Mapping[str, Any]) -> list[Wrong]:
    """What the config ties, or every LM head does, and is not the same."""
    pairs = [("lm_head.decoder.bias", "lm_head.bias", "give both the same values")]
    if config.tie_word_embeddings:
        pairs.append((_DECODER, _WORDS, "call model.tie_weights(), or set config.tie_word_embeddings to False"))
    return [
        (f"{one} and {other} are one by the config, and here they differ", way)
        for one, other, way in pairs
        if isinstance(state.get(one), Tensor) and isinstance(state.get(other), Tensor)
        if not _same(state[one], state[other])
    ]


def _same(one: Tensor, other: Tensor) -> bool:
    if one is other or _unreadable("", one) or _unreadable("", other):
        return True  # what cannot be read has an error of its own
    if one.data_ptr() == other.data_ptr() and one.shape == other.shape:
        return True
    return one.shape == other.shape and one.dtype == other.dtype and np.array_equal(_bits(one), _bits(other))


def _bits(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(to_numpy(tensor)).reshape(-1).view(np.uint8)


def _configs(model: nn.Module) -> Iterable[Any]:
    return (
        module.config for module in model.modules() if isinstance(getattr(module, "config", None), type(model.config))
    )


def _changed_settings(model: "RobertaPreTrainedModel") -> list[Wrong]:
    """Settings of layers that the config does not say any more."""
    config, found = model.config, dict[str, Any]()
    for module in (model if model.head is not None else model.base_model).modules():
        if isinstance(module, Intermediate) and module.activation != config.hidden_act:
            found["hidden_act"] = module.activation
        if isinstance(module, nn.LayerNorm) and module.eps != config.layer_norm_eps:
            found["layer_norm_eps"] = module.eps
    return fields_changed(config, found)


def _other_layers(model: nn.Module, table: Mapping[str, Parameter]) -> list[Wrong]:
    """Layers with the right parameters that compute something else with them."""
    modules, lines = dict(model.named_modules()), []
    for name, parameter in table.items():
        owner = name.rpartition(".")[0]
        if parameter.kind in _PLAIN and owner in modules and not _is_plain(modules[owner], parameter):
            lines.append((f"{owner} is a {type(modules[owner]).__name__} with a way of its own to compute", _REPLACE))
    return lines


def _is_plain(module: Any, parameter: Parameter) -> bool:
    """Whether a layer computes what PyTorch's own would with these parameters; a layer of another class is tried."""
    own, compute = _PLAIN[parameter.kind]
    if type(module).forward is own.forward and "forward" not in vars(module):
        return True
    try:
        like, width = module.weight, parameter.shape[-1]
        probe = torch.linspace(-1, 1, 2 * width, device=like.device, dtype=like.dtype).reshape(2, width)
        if parameter.kind == "embedding":
            probe = torch.arange(min(2, len(like)), device=like.device)
        with torch.no_grad(), without_dropout(module):
            found, wanted = module(probe), compute(module, probe)
        return torch.allclose(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
    except Exception:  # whatever it is, it is not one of our layers
        return False
