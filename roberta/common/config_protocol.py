"""The config that a model is built from, made of whatever config a caller has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from roberta.common.config import CONFIG_FILE, RobertaConfig
from roberta.common.storage.folders import CheckpointError


def as_config(value: object, config_class: type[RobertaConfig] = RobertaConfig) -> RobertaConfig | None:
    """A `RobertaConfig` itself, or one with the fields of transformers' config object; None for anything else."""
    if isinstance(value, RobertaConfig):
        return value
    if isinstance(value, type) or not hasattr(value, "model_type") or not hasattr(value, "to_dict"):
        return None
    config = config_class.from_dict(value.to_dict())
    for name in ("name_or_path", "_attn_implementation", "_commit_hash"):
        setattr(config, name, getattr(value, name, None) or getattr(config, name))
    return config


def built_from(value: object, class_name: str) -> RobertaConfig:
    """The config that a model keeps: checked, and with layers counted from the first in `pruned_heads`.

    Args:
        value: a `RobertaConfig`, which is the model's own from then on, or transformers' config, which is copied.
        class_name: of the model, for the messages.

    Raises:
        TypeError: it is not a config.
        ValueError: no model can be built from it; see `RobertaConfig.validate`.
    """
    config = as_config(value)
    if config is None:
        raise TypeError(
            f"{class_name} is built from a RobertaConfig, not {type(value).__name__}; "
            f"to load a model use {class_name}.from_pretrained"
        )
    config.validate()
    layers = config.num_hidden_layers
    pruned: dict[int, set[int]] = {}
    for layer, heads in config.pruned_heads.items():
        pruned.setdefault(layer % layers, set()).update(heads)
    config.pruned_heads = {layer: sorted(pruned[layer]) for layer in sorted(pruned)}
    return config


def checked_config(
    name_or_path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    config_class: type[RobertaConfig] = RobertaConfig,
) -> tuple[RobertaConfig, dict[str, Any]]:
    """The config of a folder, a JSON file or a hub name, checked by `validate`.

    Returns:
        The config, and the overrides that are not fields of it.

    Raises:
        CheckpointError: it is missing, or no model can be built from it; the message names the file.
    """
    config, unknown = config_class.from_pretrained(name_or_path, return_unused_kwargs=True, **(overrides or {}))
    try:
        config.validate()
    except ValueError as error:
        raise CheckpointError(f"{name_or_path}: {CONFIG_FILE}: {error}") from error
    return config, unknown
