"""Whether an adapter's file holds all that its config names, against the parameters of a model.

PEFT warns of what a file lacks, and leaves the base as it is there. Here it is an error: a layer without its change
computes something that was never trained. Heads differ: an adapter may be loaded into the class of another task, whose
head it does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from roberta.common.adapters.lora_config import ALL_LINEAR, LoraConfig
from roberta.common.parameters import HEAD_PARTS, Parameter


def lacking(
    config: LoraConfig,
    changed: Collection[str],
    whole: Collection[str],
    table: Mapping[str, Parameter],
    *,
    spelled: Callable[[str], str],
) -> list[str]:
    """What a file should have for a model and has not, one line each.

    Args:
        changed: the weights of which the file has a low-rank change, by the names of the model's class.
        whole: the tensors that it has whole.
        table: the parameters of the class.
        spelled: a name of the class as it was in the class that the adapter was trained on.

    Raises:
        SlowPatternError: a regular expression of the config takes too long.
    """
    return [*_targets_lacking(config, changed, table, spelled), *_tensors_lacking(config, whole, table)]


def _targets_lacking(
    config: LoraConfig, changed: Collection[str], table: Mapping[str, Parameter], spelled: Callable[[str], str]
) -> Iterator[str]:
    """The modules that `target_modules` names and of which the file has no change."""
    has_cross = any(".crossattention." in name for name in changed)  # an encoder's adapter in a decoder has none
    for name, parameter in table.items():
        module = name.removesuffix(".weight")
        if name in changed or parameter.kind not in ("dense", "embedding"):
            continue
        if ".crossattention." in name and not has_cross:
            continue
        part = _head_part(name)
        # PEFT leaves the last projection out of "all-linear"
        if part and (_is_all_linear(config) or not _is_same_head(part, changed, table)):
            continue
        if config.is_target(spelled(module)):
            yield f"missing: {module}.lora_A and lora_B, as target_modules={_short(config.target_modules)} names it"


def _tensors_lacking(config: LoraConfig, whole: Collection[str], table: Mapping[str, Parameter]) -> Iterator[str]:
    """The tensors that `modules_to_save` or `bias` names and that the file does not hold."""
    for name in table:
        part = _head_part(name)
        is_of_another = part and any(_head_part(one) == part for one in whole) and not _is_same_head(part, whole, table)
        if name in whole or is_of_another:
            continue
        if config.is_saved(name):
            yield f"missing: {name}, as modules_to_save={_short(config.modules_to_save)} names it"
        elif config.bias == "all" and not part and name.endswith(".bias"):
            yield f"missing: {name}, as bias='all' names it"


def _head_part(name: str) -> str:
    """Which part above the encoder a tensor is of; "" for the encoder's own."""
    part = name.removeprefix("roberta.").partition(".")[0]
    return part if part in HEAD_PARTS else ""


def _is_same_head(part: str, held: Collection[str], table: Mapping[str, Parameter]) -> bool:
    """Whether a file has tensors of a head's part, and this class has a place for each of them."""
    own = [name for name in held if _head_part(name) == part]
    return bool(own) and all(name in table for name in own)


def _is_all_linear(config: LoraConfig) -> bool:
    return isinstance(config.target_modules, str) and config.target_modules.lower() == ALL_LINEAR


def _short(value: object) -> str:
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 200 else f"{text[:200]}..."
