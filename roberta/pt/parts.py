"""Whether a model is exactly what this library builds, and still what it was: what `infer` needs to know.

The fast pass reads weights and calls no module. So it is right only where every module is of the very class that is
expected there, runs its own code, and has nothing beside it: no hook, no parametrisation, no adapter.
"""

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from roberta.common.config import RobertaConfig
from roberta.common.family_classes import roberta_class
from roberta.common.parameters import Head
from roberta.pt.layers import (
    Attention,
    ClassificationHead,
    Embeddings,
    Encoder,
    Intermediate,
    Layer,
    LMHead,
    Pooler,
    ResidualOutput,
    SelfAttention,
)

if TYPE_CHECKING:
    from roberta.pt.pretrained import RobertaPreTrainedModel

Kinds = dict[str, type[nn.Module]]

# Class -> the modules in it. Optional ones (cross-attention, a pooler) may be missing.
CHILDREN: dict[type[nn.Module], Kinds] = {
    Embeddings: {
        "word_embeddings": nn.Embedding, "position_embeddings": nn.Embedding, "token_type_embeddings": nn.Embedding,
        "LayerNorm": nn.LayerNorm, "dropout": nn.Dropout,
    },
    SelfAttention: {
        "query": nn.Linear, "key": nn.Linear, "value": nn.Linear, "dropout": nn.Dropout,
        "distance_embedding": nn.Embedding,
    },
    ResidualOutput: {"dense": nn.Linear, "LayerNorm": nn.LayerNorm, "dropout": nn.Dropout},
    Attention: {"self": SelfAttention, "output": ResidualOutput},
    Intermediate: {"dense": nn.Linear},
    Layer: {
        "attention": Attention, "crossattention": Attention, "intermediate": Intermediate, "output": ResidualOutput,
    },
    Encoder: {"layer": nn.ModuleList},
    Pooler: {"dense": nn.Linear},
    LMHead: {"dense": nn.Linear, "layer_norm": nn.LayerNorm, "decoder": nn.Linear},
    ClassificationHead: {"dense": nn.Linear, "dropout": nn.Dropout, "out_proj": nn.Linear},
    nn.Linear: {}, nn.LayerNorm: {}, nn.Embedding: {}, nn.Dropout: {},
}  # fmt: skip
# Head -> the modules beside the encoder.
BESIDE: dict[Head | None, Kinds] = {
    "ForCausalLM": {"lm_head": LMHead},
    "ForMaskedLM": {"lm_head": LMHead},
    "ForSequenceClassification": {"classifier": ClassificationHead},
    "ForMultipleChoice": {"dropout": nn.Dropout, "classifier": nn.Linear},
    "ForTokenClassification": {"dropout": nn.Dropout, "classifier": nn.Linear},
    "ForQuestionAnswering": {"qa_outputs": nn.Linear},
}
ENCODER: Kinds = {"embeddings": Embeddings, "encoder": Encoder, "pooler": Pooler}
OPTIONAL = ("crossattention", "distance_embedding", "pooler")
PARAMETER_NAMES: dict[type[nn.Module], set[str]] = {
    nn.Linear: {"weight", "bias"}, nn.LayerNorm: {"weight", "bias"}, nn.Embedding: {"weight"}, LMHead: {"bias"},
}  # fmt: skip
# Class -> attributes that its code reads, and that a caller may have replaced.
READ_ATTRIBUTES: dict[type[nn.Module], tuple[str, ...]] = {
    Embeddings: ("config",), SelfAttention: ("config",), Intermediate: ("activation",), nn.Embedding: ("max_norm",),
}  # fmt: skip
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def code_of(kinds: set[type[nn.Module]]) -> dict[tuple[type[nn.Module], str], Any]:
    """What classes run, by class and name: all functions of our classes, and `forward` of torch's."""
    found = {(nn.Module, "__call__"): nn.Module.__call__}
    for kind in kinds:
        is_ours = kind.__module__.startswith(__package__)
        names = [name for name, value in vars(kind).items() if isinstance(value, FunctionType)] if is_ours else []
        found |= {(kind, name): getattr(kind, name) for name in names or ["forward"]}
    return found


CODE = code_of(set(CHILDREN))  # at import: what is there before a caller can patch a class


def alteration(model: "RobertaPreTrainedModel") -> str:
    """Say what in a model is not this library's own, or keeps its weights from being read; "" if nothing does."""
    from roberta.pt import models  # which imports this module, by way of `infer`

    kinds = (getattr(models, f"Roberta{model.head}"), models.RobertaModel)
    if (roberta_class(type(model)), roberta_class(type(model.base_model))) != kinds:
        return f"{type(model).__name__} is a class of its own"
    if any(_global_hooks()):
        return "torch has hooks for all modules"
    for (kind, name), function in (code_of(set(kinds)) | CODE).items():
        if getattr(kind, name) is not function or _is_foreign(function, kind):
            return f"{kind.__name__}.{name} was replaced"
    return _altered_module(model)


def _is_foreign(function: FunctionType, kind: type[nn.Module]) -> bool:
    """Whether a function that a class runs was written in another file."""
    return function.__code__.co_filename != sys.modules[kind.__module__].__file__


def _altered_module(model: "RobertaPreTrainedModel") -> str:
    """Say which module is not as expected; "" if all are."""
    expected, first = expected_modules(model), next(model.parameters())
    found = dict(model.named_modules(remove_duplicate=False))
    for name, module in found.items():
        reason = _alteration(module, expected.get(name), model.config) or _unreadable(module, first)
        if reason:
            return f"{name or 'the model'} {reason}"
    missing = {name for name in expected.keys() - found.keys() if not set(name.split(".")) & set(OPTIONAL)}
    return f"{min(missing)} is missing" if missing else ""


def expected_modules(model: "RobertaPreTrainedModel") -> dict[str, type[nn.Module]]:
    """The class of each module of a model as this library builds it, by name."""
    base = model.base_model
    prefix = "" if base is model else f"{model.base_model_prefix}."
    found: dict[str, type[nn.Module]] = {"": type(model), prefix.rstrip("."): type(base)}

    def add(prefix: str, kinds: Kinds) -> None:
        for name, kind in kinds.items():
            found[f"{prefix}{name}"] = kind
            add(f"{prefix}{name}.", CHILDREN.get(kind, {}))

    add("", BESIDE.get(model.head, {}))
    add(prefix, ENCODER)
    layers = getattr(getattr(base, "encoder", None), "layer", ())
    add(f"{prefix}encoder.layer.", {str(index): Layer for index in range(len(layers))})
    if model.config.position_embedding_type == "absolute":
        found = {name: kind for name, kind in found.items() if not name.endswith("distance_embedding")}
    return found


def _alteration(module: nn.Module, kind: type[nn.Module] | None, config: RobertaConfig) -> str:
    """Say what in one module is not as expected; "" if nothing is."""
    if type(module) is not kind:
        return f"is a {type(module).__module__}.{type(module).__qualname__}"
    own = vars(module)
    if any(own[hooks] for hooks in HOOKS):
        return "has hooks"
    methods = [name for name in own if inspect.isfunction(getattr(kind, name, None))]
    if methods:
        return f"has a {methods[0]} of its own"
    given = {name for name, parameter in module._parameters.items() if parameter is not None}
    if given != PARAMETER_NAMES.get(kind, set()) or module._buffers:
        names = ", ".join(sorted((given ^ PARAMETER_NAMES.get(kind, set())) | set(module._buffers)))
        return f"has other parameters or buffers: {names}"
    if own.get("config", config) is not config:
        return "has a config of its own"
    return "has a max_norm" if own.get("max_norm") is not None else ""


def _unreadable(module: nn.Module, first: Tensor) -> str:
    """Say why a module's parameters cannot be read with the first one's dtype and device; "" if they can."""
    for name, parameter in module._parameters.items():
        if type(parameter) is not nn.Parameter:
            return f"has a {name} of class {type(parameter).__qualname__}"
        if parameter.dtype != first.dtype or parameter.device != first.device or parameter.is_meta:
            return f"has a {name} in {parameter.dtype} on {parameter.device}"
        if parameter.layout != torch.strided or not parameter.is_floating_point():
            return f"has a {name} that is {parameter.layout}, {parameter.dtype}"
    return ""


def _global_hooks() -> tuple[Any, ...]:
    """Tables of the hooks that torch calls for every module."""
    return tuple(getattr(torch_module, f"_global{hooks}") for hooks in HOOKS)


class Parts:
    """The modules, settings and parameters of a model without `alteration` at one moment, to be looked at later.

    Tables of modules are kept, as walking a model takes as long as a third of a short sentence does. The model itself
    is not: what is kept for it must not keep it.
    """

    def __init__(self, model: "RobertaPreTrainedModel") -> None:
        modules = list(model.modules())
        self.code = code_of({type(model), type(model.base_model)}) | CODE
        self.kind, self.count = type(model), len(vars(model))
        self.config, self.config_was = vars(model.config), dict(vars(model.config))
        self.modules = [(module, vars(module), type(module), len(vars(module))) for module in modules[1:]]
        self.settings = [
            (vars(module), name, vars(module)[name])
            for module in modules
            for name in READ_ATTRIBUTES.get(type(module), ("config",) if "config" in vars(module) else ())
        ]
        self.children = [(module._modules, dict(module._modules)) for module in modules]
        # the old values are held, so that no others can have their address
        self.parameters = [
            (module._parameters, name, parameter.detach(), version(parameter))
            for module in modules
            for name, parameter in module._parameters.items()
            if parameter is not None
        ]

    def are_current(self, model: nn.Module) -> bool:
        """Whether nothing was replaced or hooked, and no value changed in place."""
        return (
            not any(_global_hooks())
            and self.config == self.config_was
            and all(getattr(kind, name) is function for (kind, name), function in self.code.items())
            and _is_as_it_was(model, vars(model), self.kind, self.count)
            and all(_is_as_it_was(*module) for module in self.modules)
            and all(table[name] is value for table, name, value in self.settings)
            and all(now == then for now, then in self.children)
            and all(_is_value(table.get(name), old, count) for table, name, old, count in self.parameters)
        )


def _is_as_it_was(module: nn.Module, own: dict[str, Any], kind: type[nn.Module], count: int) -> bool:
    """Whether a module has its class and as many attributes as it had, and no hooks; `own` are its attributes."""
    return type(module) is kind and len(own) == count and not any(own[hooks] for hooks in HOOKS)


def _is_value(parameter: Tensor | None, old: Tensor, count: int) -> bool:
    """Whether a parameter is plain, and has the memory and the version that it had."""
    return type(parameter) is nn.Parameter and parameter.data_ptr() == old.data_ptr() and version(parameter) == count


def version(tensor: Tensor) -> int:
    """How often a tensor was changed in place; those of inference mode do not count."""
    return 0 if tensor.is_inference() else tensor._version


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Eval mode for a while; afterwards each module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training
