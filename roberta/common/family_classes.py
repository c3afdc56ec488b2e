"""The model classes of CamemBERT and XLM-RoBERTa: each is RoBERTa's class of its head, with its family's config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import FunctionType, new_class
from typing import Any

from roberta.common.family_configs import CONFIGS
from roberta.common.model_types import class_name

_NAMES = {"camembert": "CamemBERT", "xlm-roberta": "XLM-RoBERTa"}
_MADE_OF = "_made_of"


def family_classes(bases: Sequence[Any], module: str) -> dict[str, Any]:
    """The classes of a framework for the other families, by name.

    A class is a subclass of RoBERTa's class of its head, and of its own family's `...PreTrainedModel`, which has the
    config; the encoder in a class with a head is its own family's `...Model`.

    Args:
        bases: RoBERTa's classes; `...PreTrainedModel` and `...Model` first.
        module: the Python module that the classes are attributes of.
    """
    made: dict[str, Any] = {}
    for model_type, title in _NAMES.items():
        family, config = dict[str, type](), CONFIGS[model_type]
        for base in bases:
            head = base.__name__.removeprefix(class_name("roberta", "", base.class_prefix))
            name = class_name(model_type, head, base.class_prefix)
            body: dict[str, Any] = {
                "__module__": module,
                "__qualname__": name,
                "__doc__": f"{base.__doc__}\n\n    {title}'s `{base.__name__}`; its config is a `{config.__name__}`.",
                _MADE_OF: base,
            }
            if head == "PreTrainedModel":
                body["config_class"] = config
            elif hasattr(base, "encoder_class"):
                body["encoder_class"] = family["Model"]
            parents = (base,) if head == "PreTrainedModel" else (base, family["PreTrainedModel"])
            family[head] = made[name] = new_class(name, parents, exec_body=partial(_fill, body))
    return made


def _fill(body: Mapping[str, Any], space: dict[str, Any]) -> None:
    space.update(body)


def roberta_class(kind: type) -> type:
    """RoBERTa's class that a class of another family is under another name; a class with code of its own is itself."""
    own = vars(kind)
    is_changed = any(isinstance(value, FunctionType | property) for value in own.values())
    return kind if is_changed else own.get(_MADE_OF, kind)
