"""The config that a model is built from, made of whatever config a caller has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from roberta.common.config import CONFIG_FILE, RobertaConfig
from roberta.common.family_configs import config_class_of
from roberta.common.model_types import model_type_of
from roberta.common.storage.folders import CheckpointError
from roberta.common.storage.hub import HubOptions


def as_config(value: object, config_class: type[RobertaConfig] | None = None) -> RobertaConfig | None:
    """A `RobertaConfig` itself, or one with the fields of transformers' config object; None for anything else.

    Args:
        config_class: what is made of transformers' object; None for the class of its model type.
    """
    if isinstance(value, RobertaConfig):
        return value
    if isinstance(value, type) or not hasattr(value, "model_type") or not hasattr(value, "to_dict"):
        return None
    fields = value.to_dict()
    config = (config_class or config_class_of(fields)).from_dict(fields)
    for name in ("name_or_path", "_attn_implementation", "_commit_hash"):
        setattr(config, name, getattr(value, name, None) or getattr(config, name))
    return config


def built_from(value: object, class_name: str, config_class: type[RobertaConfig]) -> RobertaConfig:
    """The config that a model keeps: checked, and with layers counted from the first in `pruned_heads`.

    Args:
        value: a `RobertaConfig`, which is the model's own from then on, or transformers' config, which is copied.
        class_name: of the model, for the messages.
        config_class: the model's own, which is made of transformers' config.

    Raises:
        TypeError: it is not a config.
        ValueError: no model can be built from it; see `RobertaConfig.validate`.
    """
    config = as_config(value, config_class)
    if config is None:
        raise TypeError(
            f"{class_name} is built from a {config_class.__name__}, not {type(value).__name__}; "
            f"to load a model use {class_name}.from_pretrained"
        )
    config.validate()
    layers = config.num_hidden_layers
    pruned: dict[int, set[int]] = {}
    for layer, heads in config.pruned_heads.items():
        pruned.setdefault(layer % layers, set()).update(heads)
    config.pruned_heads = {layer: sorted(pruned[layer]) for layer in sorted(pruned)}
    return config


def named_model_type(name_or_path: str | Path, **where: Unpack[HubOptions]) -> str:
    """The model type that the config of a folder, of a weights file's folder or of a hub name says.

    A folder without a config has none, which `from_pretrained` refuses: "roberta" stands for it.

    Raises:
        CheckpointError: no such folder or name; a config that is not JSON.
    """
    path = Path(name_or_path)
    place = path.parent if path.is_file() else name_or_path
    inside = Path(place, where.get("subfolder") or "")
    if inside.is_dir() and not (inside / CONFIG_FILE).is_file():
        return RobertaConfig.model_type
    return model_type_of(RobertaConfig.get_config_dict(place, **where)[0])


def checked_config(
    name_or_path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    config_class: type[RobertaConfig] | None = None,
) -> tuple[RobertaConfig, dict[str, Any]]:
    """The config of a folder, a JSON file or a hub name, checked by `validate`.

    Args:
        config_class: that of a model's class; None for the class of the file's model type.

    Returns:
        The config, and the overrides that are not fields of it.

    Raises:
        CheckpointError: it is missing, or no model can be built from it; the message names the file.
    """
    if config_class is None:
        config_class = config_class_of(RobertaConfig.get_config_dict(name_or_path)[0])
    config, unknown = config_class.from_pretrained(name_or_path, return_unused_kwargs=True, **(overrides or {}))
    try:
        config.validate()
    except ValueError as error:
        raise CheckpointError(f"{name_or_path}: {CONFIG_FILE}: {error}") from error
    return config, unknown
