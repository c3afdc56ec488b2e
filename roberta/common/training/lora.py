"""A LoRA adapter that is trained: its options, what it begins with, and the files that it becomes, without a framework.

The gradients of A and B follow from that of the weight W + scale * B A, which a backend has already: scale * B' G for A
and scale * G A' for B. So the layers are those of any training, and the loss needs no code of its own.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from roberta.common.adapters.adapter_files import adapter_contents, holds_adapter
from roberta.common.adapters.lora_adapter import LoraAdapter
from roberta.common.adapters.lora_config import LoraConfig
from roberta.common.adapters.low_rank import LowRank
from roberta.common.formats.safetensors_file import Source, StoredTensor
from roberta.common.parameters import Parameter
from roberta.common.storage.folders import CheckpointError, Content
from roberta.common.storage.names import ADAPTER_CONFIG_FILE
from roberta.common.training.initial_weights import is_config

_EXAMPLE = "r=8,alpha=16,targets=query+value"
_HEADS = ("classifier", "qa_outputs", "pooler")  # a pooler is trained where a class has one: only choices need it


@dataclass(frozen=True)
class LoraOptions:
    """What a user says of an adapter.

    Attributes:
        r: its rank.
        alpha: scale * r; None for r, a scale of 1.
        targets: ends of the names of the modules whose weights it changes.
    """

    r: int = 8
    alpha: float | None = None
    targets: tuple[str, ...] = ("query", "value")


@dataclass(frozen=True)
class LoraStart:
    """An adapter at the first update that is to be made.

    Attributes:
        config: what `adapter_config.json` will say.
        pairs: weight -> A (r, inputs) and B (outputs, r).
        whole: the parameters that are trained whole.
    """

    config: LoraConfig
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray]]
    whole: tuple[str, ...]

    def scale(self, weight: str) -> float:
        """What B A is multiplied by."""
        return self.config.scale(weight.removesuffix(".weight"))


def lora_options(text: str) -> LoraOptions:
    """The options in a text such as "r=8,alpha=16,targets=query+value".

    Raises:
        ValueError: one of them is unknown, or has a value that it cannot have.
    """
    if not isinstance(text, str):
        raise ValueError(f'lora={text!r} must be a text such as "r=8,alpha=16,targets=query+value"')
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name == "dropout":
            raise ValueError(
                f"lora={text!r}: a dropout of the adapter's own inputs is not supported; omit dropout={value} (the "
                "model's own dropout is the recipe's, dropout=0.1)"
            )
        if name not in ("r", "alpha", "targets") or not equals or not value or name in found:
            raise ValueError(
                f"lora={text!r}: {part.strip()!r} must be one of r, alpha and targets, once, as in {_EXAMPLE!r}"
            )
        found[name] = value
    r, alpha = found.get("r", "8"), found.get("alpha")
    if not r.isdecimal() or int(r) < 1:
        raise ValueError(f"lora={text!r}: r={r} must be a whole number of at least 1, as in {_EXAMPLE!r}")
    return LoraOptions(
        int(r), None if alpha is None else _number(text, alpha), tuple(found.get("targets", "query+value").split("+"))
    )


def _number(text: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ValueError(f"lora={text!r}: alpha={value} must be a number above 0, as in {_EXAMPLE!r}")
    return number


def base_named(model: str | Path) -> str:
    """How an adapter names the model that it is trained on: a folder by its whole path, else the name on the hub.

    Raises:
        ValueError: the model is a config or a file, or has an adapter already.
    """
    path = Path(model)
    if is_config(model) or path.is_file():
        raise ValueError(
            f"model={str(model)!r}: an adapter is trained on a folder with weights, or a name on the hub, which its "
            "adapter_config.json names; give one, or train whole weights without lora"
        )
    if path.is_dir() and holds_adapter(path):
        raise ValueError(
            f"model={str(model)!r} has an adapter, and the new one must name a base without; merge it first: "
            f"roberta convert {model} FOLDER --to safetensors"
        )
    return str(path.resolve()) if path.is_dir() else str(model)


def new_adapter(options: LoraOptions, table: Mapping[str, Parameter], seed: int, base: str | None) -> LoraStart:
    """An adapter with B = 0 and A uniform within 1 / sqrt(inputs), as PEFT begins; seed and name decide what is drawn.

    Args:
        table: the parameters of the class that is trained.
        base: the name of its weights.

    Raises:
        ValueError: a target is not a module with a weight of two dimensions, or the rank is more than a weight has.
    """
    whole = tuple(name for name in table if name.removeprefix("roberta.").partition(".")[0] in _HEADS)
    saved = tuple(dict.fromkeys(name.removeprefix("roberta.").partition(".")[0] for name in whole))
    alpha = options.r if options.alpha is None else options.alpha
    config = LoraConfig(
        options.r, alpha, options.targets, modules_to_save=saved, base_model_name_or_path=base
    )  # fmt: skip
    dense = [name for name, one in table.items() if one.kind == "dense" and name not in whole]
    weights = [name for name in dense if config.is_target(name.removesuffix(".weight"))]
    for target in options.targets:
        if not any(f".{name}".endswith(f".{target}.weight") for name in weights):
            known = sorted({name.split(".")[-2] for name in dense})
            raise ValueError(
                f"lora: targets={target!r} is not a module of the encoder; it must be one of {', '.join(known)}, or the end "
                "of a longer name such as attention.output.dense"
            )
    for name in weights:
        if options.r > min(table[name].shape):
            raise ValueError(
                f"lora: r={options.r} is more than the rank of {name}, {list(table[name].shape)}; give less"
            )
    return LoraStart(config, {name: _drawn_pair(table[name], options.r, seed) for name in weights}, whole)


def _drawn_pair(weight: Parameter, r: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    outputs, inputs = weight.shape
    generator = np.random.default_rng((seed, zlib.crc32(factor_names(weight.name)[0].encode())))
    limit = 1 / np.sqrt(inputs)
    return generator.uniform(-limit, limit, (r, inputs)), np.zeros((outputs, r))


def factor_names(weight: str) -> tuple[str, str]:
    """The canonical names of A and B of a weight."""
    module = weight.removesuffix(".weight")
    return f"{module}.lora_A.weight", f"{module}.lora_B.weight"


def continued(start: LoraStart, adapter: LoraAdapter) -> tuple[LoraStart, dict[str, np.ndarray]]:
    """The adapter of a checkpoint instead of a new one, and its values of what is trained whole.

    Raises:
        CheckpointError: it does not have the tensors of the new one.
    """
    if set(adapter.changes) != set(start.pairs) or set(adapter.replaced) != set(start.whole):
        raise CheckpointError(f"{adapter.source} is not the adapter of this training; resume with the lora that it had")
    pairs = {name: (adapter.changes[name].a.load(), adapter.changes[name].b.load()) for name in start.pairs}
    return LoraStart(start.config, pairs, start.whole), {name: adapter.replaced[name].load() for name in start.whole}


def trained_contents(
    start: LoraStart, pairs: Mapping[str, tuple[np.ndarray, np.ndarray]], tensors: Mapping[str, Source]
) -> dict[str, Content]:
    """The two files of a trained adapter, by name.

    Args:
        pairs: A and B as they are now, by weight.
        tensors: the model's, of which those that are trained whole are taken.
    """
    here = Path(ADAPTER_CONFIG_FILE)

    def stored(name: str, value: np.ndarray) -> StoredTensor:
        return StoredTensor(name, value.shape, value.dtype.name, here, partial(np.asarray, value))

    changes = {}
    for weight, (a, b) in pairs.items():
        names = factor_names(weight)
        changes[weight] = LowRank(
            weight.removesuffix(".weight"), stored(names[0], a), stored(names[1], b), start.scale(weight)
        )
    replaced = {
        name: StoredTensor(name, shape, dtype, here, load) for name, (shape, dtype, load) in _some(start, tensors)
    }
    adapter = LoraAdapter(start.config, here, changes, replaced)
    return {ADAPTER_CONFIG_FILE: start.config.to_json().encode()} | adapter_contents(adapter.tensors())


def _some(start: LoraStart, tensors: Mapping[str, Source]) -> Iterable[tuple[str, Source]]:
    return ((name, tensors[name]) for name in start.whole)


def check_new(new: Iterable[str], start: LoraStart) -> None:
    """Raise `ValueError` where the base lacks a weight that is not trained: the adapter could not bring it."""
    lacking = [name for name in new if name not in start.whole]
    if lacking:
        raise ValueError(
            f"lora: the base has no {', '.join(lacking[:4])}, and an adapter does not hold it; give a base with all weights "
            "of the task, or train whole weights without lora"
        )
