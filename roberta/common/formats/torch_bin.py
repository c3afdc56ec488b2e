"""`pytorch_model.bin`, and other files of `torch.save`: read without running what a pickle may hold, and write.

Torch is not needed: `roberta.common.formats.torch_zip` reads the pickle as data, and maps the tensors from the disk. A
checkpoint of a training (Lightning, DeepSpeed, people's own) has the weights in a dictionary beside epoch and optimizer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from roberta.common.formats import torch_writer, torch_zip
from roberta.common.formats.pickle_machine import Record
from roberta.common.formats.safetensors_file import Source, StoredTensor, check_count
from roberta.common.parameters import ENCODER_NAME
from roberta.common.storage.folders import CheckpointError

FORMAT = "pt"


# Where trainings put the weights; of a file whose names are not RoBERTa's, these are looked at.
_USUAL_KEYS = ("state_dict", "model_state_dict", "model", "module", "net")
_DEPTH = 4  # dictionaries in dictionaries that are searched
_SHOWN = 8  # keys in a message
_SAVE = "save the model's state_dict() by itself: torch.save(model.state_dict(), file)"


def read_tensors(path: Path, remarks: list[str]) -> dict[str, StoredTensor]:
    """The tensors of a file by name, mapped from the disk.

    Args:
        remarks: gets a text on where the tensors lie, if that is not the top of the file.

    Raises:
        CheckpointError: names the file, and what it holds beside tensors, or that it has two models.
    """
    content = torch_zip.read_torch_zip(path, keeps_unknown=True)
    if not isinstance(content, Mapping):
        what = (
            f"an object of {content.name.replace(' ', '.')}" if isinstance(content, Record) else type(content).__name__
        )
        raise CheckpointError(f"{path} holds {what}, not a dictionary of tensors by name; {_SAVE}")
    keys, state = _state_dict(path, content)
    if keys:
        beside = [str(key) for key in content if key != keys[0]]
        rest = f"; not read: {', '.join(beside[:_SHOWN])}{', ...' if len(beside) > _SHOWN else ''}" if beside else ""
        remarks.append(f"the weights are those under {'.'.join(keys)}{rest}")
    if not all(isinstance(name, str) for name in state):
        raise CheckpointError(f"{path} has names of tensors that are not texts; {_SAVE}")
    check_count(path, state)
    return {name: _named(path, name, tensor) for name, tensor in state.items() if not _is_extra(name, tensor)}


def _state_dict(path: Path, content: Mapping[Any, Any]) -> tuple[tuple[str, ...], Mapping[Any, Any]]:
    """The keys that lead to the one dictionary with the tensors of a model, and that dictionary."""
    found = dict(_dictionaries(content, (), {id(content)}))
    # those with names of an encoder, else any with tensors: their names will be in the error
    models = {keys: state for keys, state in found.items() if any(map(_is_of_encoder, state.items()))}
    usual = {keys: state for keys, state in found.items() if keys and keys[-1] in _USUAL_KEYS}
    chosen = models or ({(): content} if () in found else usual or found)
    if len(chosen) > 1:
        where = ", ".join(".".join(keys) or "the top of the file" for keys in chosen)
        raise CheckpointError(
            f"{path} has the tensors of several models: {where}; save the one that you want by itself, for example "
            f"torch.save(torch.load(file){''.join(f'[{key!r}]' for key in next(k for k in chosen if k))}, new_file)"
        )
    if chosen:
        return next(iter(chosen.items()))
    objects = [
        f"{key} is an object of {value.name.replace(' ', '.')}"
        for key, value in content.items()
        if isinstance(value, Record)
    ]
    keys = ", ".join(str(key)[:40] for key in list(content)[:_SHOWN]) or "no keys"
    raise CheckpointError(
        f"{path} holds no dictionary of tensors by name; it has {keys}"
        + (f" ({', '.join(objects[:3])}); {_SAVE}" if objects else "")
    )


def _dictionaries(
    content: Mapping[Any, Any], keys: tuple[str, ...], seen: set[int]
) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """The dictionaries in a file that have tensors, with the keys that lead to each.

    Args:
        seen: which were searched; a pickle may put one dictionary in many places.
    """
    if any(isinstance(value, StoredTensor) for value in content.values()):
        yield keys, content
    for key, value in content.items() if len(keys) < _DEPTH else ():
        if isinstance(key, str) and isinstance(value, Mapping) and id(value) not in seen:
            seen.add(id(value))
            yield from _dictionaries(value, (*keys, key), seen)


def _is_of_encoder(item: tuple[Any, Any]) -> bool:
    """Whether a key and its value are the name of a tensor of an encoder, and a tensor."""
    return isinstance(item[0], str) and isinstance(item[1], StoredTensor) and bool(ENCODER_NAME.fullmatch(item[0]))


def _is_extra(name: str, value: object) -> bool:
    """Whether an entry is a module's own further state, which is no parameter."""
    return name.endswith("_extra_state") and not isinstance(value, StoredTensor)


def canonical_name(native: str) -> tuple[str, bool]:
    """The canonical name, which is the file's own, and whether the tensor is stored transposed: never."""
    return native, False


def native_name(name: str) -> str:
    """The name in the file."""
    return name


def single(tensors: Mapping[str, Source]) -> Iterator[bytes | memoryview]:
    """The bytes of a file with all tensors of a model."""
    yield from torch_writer.torch_zip_pieces(torch_writer.state_dict(tensors))


shard = single  # a shard is laid out as a whole file is


def _named(path: Path, name: str, tensor: object) -> StoredTensor:
    if not isinstance(tensor, StoredTensor):
        what = tensor.name.replace(" ", ".") if isinstance(tensor, Record) else type(tensor).__name__
        raise CheckpointError(f"{path}: {name} is a {what}; only dense tensors are read")
    return replace(tensor, name=name)
