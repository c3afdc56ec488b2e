"""`adapter_config.json`: which weights a LoRA adapter changes, and how strongly.

Field names and defaults are PEFT's, so that a file of either library is one of the other. A field that changes numbers
and is not computed here is an error, never ignored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from roberta.common.adapters.name_patterns import fault_of, matches
from roberta.common.storage.folders import CheckpointError
from roberta.common.values import is_int, is_number

ALL_LINEAR = "all-linear"
BIASES = ("none", "all", "lora_only")

# Ways of starting A and B that also change the base's weights, so that W + B A is not the adapted weight.
_CHANGING_STARTS = ("pissa", "olora", "corda", "loftq", "lora_ga")
# Further fields of PEFT that do not change what a trained adapter computes.
_WITHOUT_EFFECT = {
    "auto_mapping", "peft_type", "peft_version", "inference_mode", "fan_in_fan_out", "init_lora_weights",
    "megatron_core", "qalora_group_size", "runtime_config", "eva_config", "loftq_config", "corda_config",
    "lora_ga_config", "ensure_weight_tying", "lora_dropout",
}  # fmt: skip
_NO_WEIGHTS = ("PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "MULTITASK_PROMPT_TUNING", "ADAPTION_PROMPT", "CPT")


class UnsupportedAdapterError(CheckpointError):
    """An adapter of a kind that this library does not compute; PEFT itself may."""


@dataclass(frozen=True)
class LoraConfig:
    """A LoRA adapter: the weight W of a target becomes W + scale * B A, with A (r, inputs) and B (outputs, r).

    Attributes:
        r: the rank of a target that `rank_pattern` does not name.
        lora_alpha: scale * r, or with `use_rslora` scale * sqrt(r); `alpha_pattern` names exceptions.
        target_modules: ends of modules' names, a regular expression for whole names, or "all-linear".
        lora_dropout: of a target's inputs on the way to A, in training.
        bias: which biases of the base were trained with it, and are in its file.
        use_dora: W + scale * B A is scaled to rows of a learned length (weight-decomposed adaptation).
        lora_bias: B has a bias.
        modules_to_save: modules that were trained whole, and are in its file.
        layers_to_transform, layers_pattern: of a list of targets, the layers that have them.
        exclude_modules: as `target_modules`; modules to leave out.
        base_model_name_or_path, revision: the model that it was trained on.
        task_type: PEFT's name of the task.
    """

    r: int = 8
    lora_alpha: float = 8
    target_modules: tuple[str, ...] | str = ()
    lora_dropout: float = 0.0
    bias: str = "none"
    use_rslora: bool = False
    use_dora: bool = False
    lora_bias: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    modules_to_save: tuple[str, ...] = ()
    layers_to_transform: tuple[int, ...] = ()
    layers_pattern: tuple[str, ...] = ()
    exclude_modules: tuple[str, ...] | str = ()
    base_model_name_or_path: str | None = None
    revision: str | None = None
    task_type: str | None = None

    def rank(self, module: str) -> int:
        """The rank of a target, by the module's name."""
        found = _matching(self.rank_pattern, module)
        return self.r if found is None else int(found)

    def scale(self, module: str) -> float:
        """What B A is multiplied by."""
        found, rank = _matching(self.alpha_pattern, module), self.rank(module)
        alpha = self.lora_alpha if found is None else found
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    def is_target(self, module: str) -> bool:
        """Whether an adapter of this config has a part for a module, by PEFT's rules.

        Raises:
            SlowPatternError: a regular expression of the config takes too long.
        """
        if _is_named(self.exclude_modules, module):
            return False
        if self.is_saved(module):
            return False
        if isinstance(self.target_modules, str) and self.target_modules.lower() == ALL_LINEAR:
            return not module.endswith(("_embeddings", "distance_embedding"))
        if not _is_named(self.target_modules, module):
            return False
        if isinstance(self.target_modules, str) or not self.layers_to_transform:
            return True
        return self._layer(module) in self.layers_to_transform

    def is_saved(self, name: str) -> bool:
        """Whether a module, or a tensor, is in one that was trained whole."""
        return any(matches(rf"(^|.*\.){saved}($|\..*)", name) for saved in self.modules_to_save)

    def _layer(self, module: str) -> int | None:
        """The number of the layer that a module is in: the first number, or the one behind a `layers_pattern`."""
        patterns = [rf"(?:^|.*?\.){name}\.(\d+)\..*" for name in self.layers_pattern] or [r".*?\.[^.]*\.(\d+)\..*"]
        found = next((match for pattern in patterns if (match := matches(pattern, module))), None)
        return None if found is None else int(found[1])

    def to_json(self) -> str:
        """The text of `adapter_config.json`, which PEFT reads."""
        content: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        for name in ("modules_to_save", "layers_to_transform", "layers_pattern", "exclude_modules"):
            content[name] = content[name] or None  # PEFT's own way to say that there are none
        content |= {"peft_type": "LORA", "auto_mapping": None, "fan_in_fan_out": False, "inference_mode": True}
        content["init_lora_weights"] = True
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in content.items()}
        return json.dumps(plain, indent=2, sort_keys=True, default=dict) + "\n"


def lora_config(file: Path, content: Mapping[str, Any]) -> LoraConfig:
    """The config in the content of a file.

    Raises:
        UnsupportedAdapterError: it is of a kind, or has a field, that is not computed here.
        CheckpointError: a field has a value that it cannot have.
    """
    kind = str(content.get("peft_type"))
    if kind in _NO_WEIGHTS:
        raise UnsupportedAdapterError(
            f"{file}: peft_type={kind!r} is not LoRA, and cannot be merged into weights; run it with PEFT around the "
            f'PyTorch class: peft.PeftModel.from_pretrained(model, "{file.parent}")'
        )
    if kind != "LORA":
        raise _unsupported(file, "peft_type", content.get("peft_type"))
    known = {one.name: content[one.name] for one in fields(LoraConfig) if content.get(one.name) is not None}
    start = content.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGING_STARTS):
        raise _unsupported(file, "init_lora_weights", start)
    for name, value in content.items():
        # what is off is null, false or empty; a number alone only belongs to a switch
        if name not in known and name not in _WITHOUT_EFFECT and value and not is_number(value):
            raise _unsupported(file, name, value)
    wrong = [f"{name}={value!r} {rule}" for name, value in known.items() if (rule := _rule(name, value))]
    if wrong:
        raise CheckpointError(f"{file}: {'; '.join(wrong)}; correct the file, or save the adapter again")
    return LoraConfig(**{name: _plain(name, value) for name, value in known.items()})


def _unsupported(file: Path, name: str, value: object) -> UnsupportedAdapterError:
    return UnsupportedAdapterError(
        f"{file}: {name}={value!r} changes the numbers, and is not supported; merge the adapter with PEFT first, and load "
        f'the result: peft.PeftModel.from_pretrained(model, "{file.parent}").merge_and_unload().save_pretrained(FOLDER)'
    )


def _matching(patterns: Mapping[str, Any], module: str) -> Any:
    """The value of the first pattern that is the end of a module's name, or the name; None without one."""
    return next((value for key, value in patterns.items() if matches(rf"(.*\.)?({key})", module)), None)


def _is_named(names: Iterable[str] | str, module: str) -> bool:
    """Whether a regular expression, or one of several ends of names, is that of a module."""
    if isinstance(names, str):
        return bool(names) and matches(names, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names)


_NAMES = ("modules_to_save", "layers_pattern")
_TARGETS = ("target_modules", "exclude_modules")
_SWITCHES = ("use_rslora", "use_dora", "lora_bias")
_TEXTS = ("base_model_name_or_path", "revision", "task_type")


def _rule(name: str, value: object) -> str:
    """Which rule the value of a field breaks; "" where it breaks none."""
    if name == "r":
        return "" if is_int(value, 1) else "must be an int of at least 1"
    if name in ("lora_alpha", "lora_dropout"):
        return "" if is_number(value) else "must be a number"
    if name in _SWITCHES:
        return "" if isinstance(value, bool) else "must be true or false"
    if name == "bias":
        return "" if value in BIASES else f"must be one of {', '.join(BIASES)}"
    if name in _TEXTS:
        return "" if isinstance(value, str) else "must be a text"
    if name in ("rank_pattern", "alpha_pattern"):
        check = (lambda one: is_int(one, 1)) if name == "rank_pattern" else is_number
        if not isinstance(value, Mapping) or not all(map(check, value.values())):
            return "must have a number for each module"
        return _first_fault(value)
    if name == "layers_to_transform":
        layers = value if isinstance(value, list) else [value]
        return "" if all(is_int(one, 0) for one in layers) else "must be numbers of layers"
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        return "must be a list of modules' names"
    is_plain = name in _TARGETS and isinstance(value, list)  # ends of names, as they are
    return "" if is_plain else _first_fault(listed)


def _first_fault(patterns: Iterable[str]) -> str:
    return next((fault for pattern in patterns if (fault := fault_of(pattern))), "")


def _plain(name: str, value: Any) -> Any:
    """The value of a field as `LoraConfig` has it."""
    if name in _NAMES or name == "layers_to_transform":
        return tuple(value) if isinstance(value, list) else (value,)
    return tuple(value) if isinstance(value, list) else dict(value) if isinstance(value, Mapping) else value
