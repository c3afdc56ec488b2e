"""The model types that share RoBERTa's architecture, and what their classes are called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# model_type in config.json -> the part of the classes' names between the framework's prefix and the head.
STEMS: dict[str, str] = {"roberta": "Roberta", "camembert": "Camembert", "xlm-roberta": "XLMRoberta"}

_CLASS = re.compile(rf"(?:TF|Flax)?({'|'.join(STEMS.values())})([A-Za-z]*)")


def class_name(model_type: str, head: str, prefix: str = "") -> str:
    """The name of a class, such as ("xlm-roberta", "ForMaskedLM", "TF") -> TFXLMRobertaForMaskedLM.

    Args:
        model_type: an unknown one is read as RoBERTa, and has RoBERTa's classes.
        prefix: of the framework.
    """
    return f"{prefix}{STEMS.get(model_type, STEMS['roberta'])}{head}"


def head_of_class(name: str) -> str:
    """The head in a class's name, such as ForMaskedLM in TFCamembertForMaskedLM; "" if the name has no family."""
    found = re.search(rf"(?:{'|'.join(STEMS.values())})([A-Za-z]*)$", name)
    return found[1] if found else ""


def model_type_of(fields: Mapping[str, Any]) -> str:
    """The model type that the fields of a config.json say: model_type, or else the family of the class in architectures."""
    named = fields.get("model_type")
    if named is not None:
        return str(named)
    architectures = fields.get("architectures")
    for name in architectures if isinstance(architectures, list) else ():
        found = _CLASS.fullmatch(name) if isinstance(name, str) else None
        if found is not None:
            return next(model_type for model_type, stem in STEMS.items() if stem == found[1])
    return "roberta"
