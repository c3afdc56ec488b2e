"""Print the public surface of a library's RoBERTa classes as JSON: `python tests/surface/walk.py transformers|roberta`.

For each class, it prints the name of every member that transformers itself defines (for ours, also those inherited from
PyTorch and Keras), its kind, and the parameters of a callable with their defaults. Names with an underscore are private
and left out, except those that other tools read (`TOLD`). It runs in any environment that can import the library, and
imports nothing else from this project.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import json
import sys
import warnings
from typing import Any

HEADS = (
    "PreTrainedModel", "Model", "ForCausalLM", "ForMaskedLM", "ForSequenceClassification", "ForMultipleChoice",
    "ForTokenClassification", "ForQuestionAnswering",
)  # fmt: skip
FAMILIES = ("Roberta", "Camembert", "XLMRoberta")
CLASSES = (
    *(f"{family}Config" for family in FAMILIES),
    "RobertaTokenizer", "RobertaTokenizerFast", "BatchEncoding", "GenerationConfig",
    *(f"{prefix}{family}{head}" for prefix in ("", "TF", "Flax") for family in FAMILIES for head in HEADS),
)  # fmt: skip

# Private by name, but read by scripts and tools anyway.
TOLD = (
    "__init__", "__call__", "__len__", "__getitem__", "__contains__", "__iter__", "__hash__", "__eq__",
    "_attn_implementation", "_commit_hash", "_name_or_path", "_auto_class", "_tied_weights_keys", "_no_split_modules",
    "_supports_sdpa", "_supports_cache_class", "_keys_to_ignore_on_load_missing", "_keys_to_ignore_on_save",
    "_keys_to_ignore_on_load_unexpected", "_from_config", "_init_weights", "_set_gradient_checkpointing",
    "_reorder_cache", "_prune_heads", "_resize_token_embeddings", "_get_resized_embeddings",
    "_convert_token_to_id", "_convert_id_to_token", "_tokenize", "_decode", "_pad", "_encode_plus",
    "_batch_encode_plus", "_tokenizer",
)  # fmt: skip


def surface(library: Any, own: str | None = None) -> dict[str, dict[str, Any]]:
    """Class name -> member -> {"kind", "parameters"}; `own`: the only package whose definitions count."""
    return {name: members(getattr(library, name), own) for name in CLASSES if hasattr(library, name)}


def members(cls: type, own: str | None) -> dict[str, Any]:
    """Describe each member that `cls` and its bases define."""
    found = {}
    for name in dir(cls):
        if name.startswith("_") and name not in TOLD:
            continue
        owner = next((base for base in cls.__mro__ if name in vars(base)), None)
        if owner is not None and own in (None, owner.__module__.partition(".")[0]):
            found[name] = described(vars(owner)[name])
    return found


def described(value: Any) -> dict[str, Any]:
    """Describe one member."""
    function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
    if isinstance(value, property):
        return {"kind": "property", "settable": value.fset is not None}
    if not callable(function) or isinstance(function, type):
        return {"kind": "attribute"}
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {"kind": "method"}
    return {"kind": "method", "parameters": {p.name: shown(p) for p in parameters if p.name not in ("self", "cls")}}


def shown(parameter: inspect.Parameter) -> str:
    """A parameter's default, or its kind: "*", "**" or "required"."""
    if parameter.kind is parameter.VAR_POSITIONAL:
        return "*"
    if parameter.kind is parameter.VAR_KEYWORD:
        return "**"
    if parameter.default is parameter.empty:
        return "required"
    default = parameter.default.value if isinstance(parameter.default, enum.Enum) else parameter.default
    return repr(default) if isinstance(default, str | int | float | bool | tuple | list | dict | None) else "..."


def main() -> None:
    """Print one library's surface."""
    warnings.simplefilter("ignore")
    name = sys.argv[1]
    print(json.dumps(surface(importlib.import_module(name), name if name == "transformers" else None), sort_keys=True))


if __name__ == "__main__":
    main()
