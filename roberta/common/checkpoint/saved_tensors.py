"""The check before a model is saved: a folder holds the tensors that its config names, and nothing else.

A folder holds a config and tensors, no code. A model that was changed in a way that these two cannot say (adapters,
quantised weights, layers of another kind) would load as another one, or not at all: it is refused before the old folder
is touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from roberta.common.config import RobertaConfig
from roberta.common.dtype_names import FLOAT_DTYPES
from roberta.common.formats.safetensors_file import Source
from roberta.common.parameters import Parameter

_SHOWN = 12  # lines of an error

# What an error says of something, and the way out.
Wrong = tuple[str, str]

# Fields of the config that its layers read when they compute.
_COMPUTED = ("num_attention_heads", "hidden_size", "pad_token_id", "position_embedding_type", "is_decoder",
            "max_position_embeddings", "tie_word_embeddings", "hidden_act", "layer_norm_eps")  # fmt: skip

# A part of a tensor's name -> what was done to the model, and how it is undone with its effect kept.
WAYS_OUT = (
    (("lora_", "base_layer", "modules_to_save", "adapter"),
     "merge the adapters into the weights first; with peft: model = peft_model.merge_and_unload()"),
    (("parametrizations.",),
     "bake the parametrizations in: torch.nn.utils.parametrize.remove_parametrizations(module, 'weight')"),
    (("weight_orig", "weight_mask", "bias_orig", "bias_mask"),
     "make the pruning permanent: torch.nn.utils.prune.remove(module, 'weight')"),
    (("weight_g", "weight_v", "weight_u"),
     "bake the norm in: torch.nn.utils.remove_weight_norm(module), or remove_spectral_norm"),
    (("_packed_params", "scale", "zero_point", "quantized", "qweight", "fake_quant"),
     "save the model before it is quantised, and quantise what is loaded"),
)  # fmt: skip


def checked_tensors(
    class_name: str,
    table: Mapping[str, Parameter],
    tensors: Mapping[str, Source],
    *,
    extra: Iterable[str] = (),
    wrong: Iterable[Wrong] = (),
) -> dict[str, Source]:
    """The tensors to write, in the order of the table.

    Args:
        table: what the config says there is.
        tensors: what there is, by canonical name, in PyTorch's shapes.
        extra: names of further tensors, which a folder cannot hold.
        wrong: further losses.

    Raises:
        ValueError: what is loaded from the folder would not be this model; one error lists everything that is wrong.
    """
    beside = sorted({*extra, *(tensors.keys() - table.keys())})
    missing = [name for name in table if name not in tensors]
    there = [(name, tensor[0], tensor[1]) for name, tensor in tensors.items() if name in table]
    sizes = [
        f"{name} is {list(shape)}, and {list(table[name].shape)} by the config"
        for name, shape, _ in there
        if shape != table[name].shape
    ]
    types = [
        f"{name} is of type {dtype}, not {', '.join(FLOAT_DTYPES)}"
        for name, _, dtype in there
        if dtype not in FLOAT_DTYPES
    ]
    wrong = list(wrong)
    lines = [
        *(line for line, _ in wrong),
        *(f"missing: {name}" for name in missing),
        *(f"not of this class: {name}" for name in beside),
    ]
    lines += [*sizes, *types]
    if lines:
        ways = [*(way for _, way in wrong), *_ways(bool(missing), beside, bool(sizes), bool(types))]
        raise ValueError(_message(class_name, lines, list(dict.fromkeys(ways))))
    return {name: tensors[name] for name in table}


def _ways(is_missing: bool, beside: list[str], has_sizes: bool, has_types: bool) -> list[str]:
    """How what is wrong is mended."""
    ways = [way for parts, way in WAYS_OUT if any(part in name for name in beside for part in parts)]
    if has_types and WAYS_OUT[-1][1] not in ways:
        ways.append(WAYS_OUT[-1][1])
    if has_sizes:
        ways.append(
            "make config and weights fit: resize_token_embeddings for the vocabulary, prune_heads for heads, or set "
            "the field of the config, such as config.num_labels"
        )
    if (beside or is_missing) and not ways:
        ways.append("put layers of the original kind back, with what was added merged into their weights")
    return ways


def _message(class_name: str, lines: list[str], ways: list[str]) -> str:
    shown = [*lines[:_SHOWN], *([f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else [])]
    return (
        f"this {class_name} cannot be saved: what is loaded from the folder would not be the same model. Nothing was "
        "written.\n  " + "\n  ".join(shown) + "".join(f"\nWay out: {way}" for way in ways)
    )


def dtype_of(tensors: Mapping[str, Source]) -> str:
    """The narrowest dtype that keeps all values, which `dtype="auto"` loads them in."""
    names = {dtype for _, dtype, _ in tensors.values()}
    if len(names) == 1:
        return names.pop()
    return "float64" if "float64" in names else "float32"  # float16 and bfloat16 have float32 in common


def changed_fields(config: RobertaConfig, built: Iterable[Any]) -> list[Wrong]:
    """Fields of the config that were changed after parts of the model had been built from them.

    Args:
        built: the configs that the parts hold.
    """
    others = {id(other): other for other in built if other is not config}
    found = {
        field: getattr(other, field)
        for other in others.values()
        for field in _COMPUTED
        if getattr(other, field) != getattr(config, field)
    }
    return fields_changed(config, found)


def fields_changed(config: RobertaConfig, built: Mapping[str, Any]) -> list[Wrong]:
    """The lines of an error for fields of the config that were changed after the model was built.

    Args:
        built: field -> the value that the model was built with and computes with.
    """
    way = "set the config back to what the model was built with, or build a model from the new config"
    return [
        (f"config.{field} is {getattr(config, field)!r}, and the model was built with {value!r}", way)
        for field, value in built.items()
    ]
