"""Names inside another model: the one prefix that all of them share is removed, and so are wrappers inside of names.

A model that was an attribute of another one when it was saved (Lightning, DeepSpeed, peft, a class of the user's own)
has that attribute's name before all names. The encoder's own names say where it ends: the text before
`embeddings.word_embeddings.weight` and `encoder.layer.0`, less `roberta.`, is the prefix.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from roberta.common.formats.safetensors_file import StoredTensor
from roberta.common.parameters import ENCODER_NAME, HEAD_PARTS
from roberta.common.storage.folders import CheckpointError

# Components of a name that a wrapper around a part of the model adds, wherever that part is.
INNER = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module",
                   "_forward_module"})  # fmt: skip
_SHOWN = 4  # names in a message


@dataclass(frozen=True)
class Unwrapped:
    """The tensors of one model, by names that begin with its own parts.

    Attributes:
        unused: names of the tensors outside of the prefix, as the file spells them.
        remarks: what was removed, for the user.
    """

    tensors: Mapping[str, StoredTensor]
    unused: tuple[str, ...] = ()
    remarks: tuple[str, ...] = field(default=())


def unwrapped(source: Path, tensors: Mapping[str, StoredTensor], wanted: Collection[str] = HEAD_PARTS) -> Unwrapped:
    """Tensors without the prefix that all of a model have.

    Args:
        source: the file, for errors.
        wanted: names, or first components of names, that a caller looks for; a tensor of such a name outside of the
            prefix is an error, as it may belong to the model or not.

    Raises:
        CheckpointError: the names of the encoder have several prefixes, or none on some of them.
    """
    names = {name: name if name in wanted else _without_inner(name) for name in tensors}
    remarks = []
    if removed := sorted({part for name, new in names.items() if name != new for part in name.split(".")} & INNER):
        remarks.append(f"the wrappers {', '.join(removed)} were removed from names")
    # where the encoder's own names begin
    starts: dict[str, set[str]] = {}
    for new in names.values():
        if found := ENCODER_NAME.fullmatch(new):
            starts.setdefault(_before_roberta(found[1]), set()).add(found[2])
    if not starts or starts.keys() == {""} or all(new in wanted for new in names.values()):
        return Unwrapped(_renamed(tensors, names), (), tuple(remarks))
    prefix = _one_prefix(source, starts)
    if not prefix:
        return Unwrapped(_renamed(tensors, names), (), tuple(remarks))
    # what lies outside of it is another module's
    outside = [name for name, new in names.items() if not new.startswith(prefix)]
    _check_outside(source, prefix, [names[name] for name in outside], wanted)
    inside = {name: new.removeprefix(prefix) for name, new in names.items() if new.startswith(prefix)}
    remarks.append(f"the prefix {prefix!r} was removed from {len(inside)} names")
    if outside:
        remarks.append(f"unused, as they lie outside of it: {_few(outside)}")
    return Unwrapped(_renamed({name: tensors[name] for name in inside}, inside), tuple(outside), tuple(remarks))


def _without_inner(name: str) -> str:
    if INNER.isdisjoint(parts := name.split(".")):
        return name
    return ".".join(part for part in parts if part not in INNER)


def _before_roberta(start: str) -> str:
    """The text before `roberta.`, if that is the last component."""
    return start.removesuffix("roberta.") if start == "roberta." or start.endswith(".roberta.") else start


def _one_prefix(source: Path, starts: Mapping[str, set[str]]) -> str:
    """The prefix of the one encoder; "" where a whole one has none, and others repeat it (averages, teachers)."""
    if len(starts) == 1:
        return next(iter(starts))
    bare = starts.get("")
    lacking = sorted(set().union(*starts.values()) - bare) if bare is not None else []
    if bare is not None and not lacking:
        return ""
    if bare is not None:
        prefixes = ", ".join(repr(start) for start in starts if start)
        raise CheckpointError(
            f"{source}: only some names have the prefix {prefixes}, among them {_few(lacking)}; give all names one "
            "prefix, or none"
        )
    first = next(iter(starts))
    raise CheckpointError(
        f"{source} has {len(starts)} encoders, whose names begin with {', '.join(map(repr, starts))}; save the one that "
        f"you want by itself, such as {{name.removeprefix({first!r}): tensor for name, tensor in tensors.items() if "
        f"name.startswith({first!r})}}"
    )


def _check_outside(source: Path, prefix: str, names: Iterable[str], wanted: Collection[str]) -> None:
    """Raise for a tensor outside of the prefix that the model may need."""
    needed = {*wanted, *(name.partition(".")[0] for name in wanted)} - {"roberta", "embeddings", "encoder"}
    clash = [name for name in names if name in needed or name.partition(".")[0] in needed]
    if clash:
        raise CheckpointError(
            f"{source}: {_few(clash)} lies outside of the prefix {prefix!r} that the other names have, so that it may "
            f"belong to this model or to another; save all tensors of the model with one prefix, or load the encoder "
            "alone (the class Model)"
        )


def _few(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def _renamed(tensors: Mapping[str, StoredTensor], names: Mapping[str, str]) -> dict[str, StoredTensor]:
    """Tensors by other names.

    Raises:
        CheckpointError: two of them get one name.
    """
    result: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        new = names[name]
        if new in result:
            raise CheckpointError(f"{tensor.file} has {new} twice, once as {name}; remove one of them")
        result[new] = tensor if new == tensor.name else replace(tensor, name=new)
    return result
