"""The checkpoints of a verification, opened and checked before any framework is imported."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from roberta.common.checkpoint.loading import Pretrained, open_pretrained
from roberta.common.config import RobertaConfig
from roberta.common.config_protocol import checked_config, named_model_type
from roberta.common.finite import listed, not_finite
from roberta.common.formats.safetensors_file import StoredTensor
from roberta.common.model_types import class_name
from roberta.common.parameters import Head, parameters
from roberta.common.storage.folders import CheckpointError
from roberta.conversion.convert import convert
from roberta.conversion.formats import recognise
from roberta.conversion.model import ALL_HEADS, named_heads
from roberta.conversion.verify.frameworks import Subject
from roberta.conversion.verify.judgement import STEPS, apart

# Fields of a config that do not affect results (label2id repeats id2label).
_NAMES_ONLY = (
    "architectures", "dtype", "label2id", "transformers_version", "name_or_path", "_name_or_path",
    "tokenizer_class", "use_cache", "output_attentions", "output_hidden_states", "initializer_range",
)  # fmt: skip

# The smallest positive number of each dtype: the largest difference that rounding explains near 0.
_SMALLEST = {"float64": 5e-324, "float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133}


@dataclass(frozen=True)
class Stored:
    """A tensor that two checkpoints hold with different values.

    Attributes:
        absolute: the largest difference.
        is_explained: whether rounding to the narrower of the two dtypes explains every value.
    """

    name: str
    absolute: float
    is_explained: bool


@contextmanager
def readable(path: str | Path, head: Head | None) -> Iterator[str | Path]:
    """A checkpoint that `from_pretrained` reads: the given one, or a conversion if it is fairseq's or KerasHub's.

    The conversion is in a temporary folder, which is deleted afterwards.
    """
    if not _is_foreign(Path(path)):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        convert(path, Path(folder) / "converted", to="safetensors", head=head, progress=False)
        yield Path(folder) / "converted"


def _is_foreign(path: Path) -> bool:
    try:
        return path.exists() and recognise(path)[1] in ("fairseq", "keras-hub")
    except CheckpointError:  # several formats, or damaged: the reader raises
        return False


def open_for_run(path: str | Path, head: Head | None) -> tuple[Pretrained, Subject]:
    """The config and tensors of a checkpoint, complete for its class, and the class to load it as."""
    head = named_class(path) if head is None else head
    if head not in ALL_HEADS:
        raise ValueError(f"head={head!r} is not one of {', '.join(ALL_HEADS)}")
    has_pooler = None
    found = open_pretrained(path, head, has_pooler=has_pooler)
    if head == "Model" and found.report.missing and all(name.startswith("pooler.") for name in found.report.missing):
        has_pooler = False
        found = open_pretrained(path, head, has_pooler=has_pooler)
    model_type = found.config.model_type
    if found.report.missing:
        raise ValueError(
            f"{path} has no {', '.join(found.report.missing)}: as {class_name(model_type, head)} it would be newly "
            "initialised, differently in each framework; give the head that it was saved with"
        )
    return found, Subject(path, head, {} if has_pooler is None else {"add_pooling_layer": False}, model_type)


def named_class(path: str | Path) -> Head:
    """The class that a checkpoint's config names, without family and framework."""
    file = Path(path)
    config, _ = checked_config(file.parent if file.is_file() else path)
    for head in named_heads(config):
        return head
    raise ValueError(f"the config of {path} names no class (architectures={config.architectures}); give the head")


def check_class(source: str | Path, subject: Subject, against: str | Path, path: str | Path) -> None:
    """Raise `ValueError` unless the config of the second checkpoint, at `path`, names the class of the first."""
    other = named_class(path)
    if other != subject.head:
        own, others = class_name(subject.model_type, subject.head), class_name(named_model_type(path), other)
        raise ValueError(
            f"{source} is a {own} and {against} a {others}; compare two of the same class, or give a head "
            "to run both as"
        )


def check_comparable(
    source: str | Path, found: Pretrained, against: str | Path | None, second: Pretrained, subject: Subject
) -> None:
    """Raise one `ValueError` unless two checkpoints have the same tensors in the same shapes."""
    has_pooler = False if subject.options else None
    tables = [
        {name: p.shape for name, p in parameters(one.config, subject.head, has_pooler=has_pooler).items()}
        for one in (found, second)
    ]
    names = sorted(name for name in tables[0].keys() | tables[1].keys() if tables[0].get(name) != tables[1].get(name))
    if names:
        shapes = [f"{n}: {tables[0].get(n, 'none')} and {tables[1].get(n, 'none')}" for n in names[:5]]
        more = f"\n  and {len(names) - 5} more" if len(names) > 5 else ""
        raise ValueError(
            f"{source} and {against} are not the same model: their tensors differ in shape; compare a checkpoint with "
            "its own conversion:\n  " + "\n  ".join(shapes) + more
        )


def values_not_finite(source: str, found: Pretrained) -> list[str]:
    """A line on the tensors of a checkpoint that hold nan or infinity, if any: they spread, so nothing is comparable."""
    problems = {name: not_finite(tensor.load()) for name, tensor in found.match.found.items()}
    wrong = {name: problem for name, problem in problems.items() if problem is not None}
    return [f"{source} holds {listed(wrong)}"] if wrong else []


def different_tensors(found: Pretrained, second: Pretrained) -> tuple[Stored, ...]:
    """The stored tensors that differ in any value, read one pair at a time, in the order of the table."""
    compared = (_compare_stored(name, tensor, second.match.found[name]) for name, tensor in found.match.found.items())
    return tuple(one for one in compared if one.absolute != 0.0)


def _compare_stored(name: str, one: StoredTensor, other: StoredTensor) -> Stored:
    """How far apart the values of one tensor are in two checkpoints."""
    left, right = (tensor.load().astype(np.float64) for tensor in (one, other))
    if one.dtype == other.dtype:
        is_explained = np.array_equal(left, right)
    else:
        narrow = max(one.dtype, other.dtype, key=STEPS.__getitem__)
        allowed = STEPS[narrow] * np.abs(left) + _SMALLEST[narrow]
        is_explained = bool((np.abs(right - left) <= allowed).all())
    return Stored(name, apart(right, left), is_explained)


def different_settings(one: RobertaConfig, other: RobertaConfig) -> tuple[str, ...]:
    """Fields of two configs that differ and affect results, such as "layer_norm_eps: 1e-05 and 1e-12"."""
    left, right = one.to_dict(), other.to_dict()
    fields = sorted(name for name in left.keys() | right.keys() if name not in _NAMES_ONLY)
    return tuple(
        f"{name}: {left.get(name)!r} and {right.get(name)!r}" for name in fields if left.get(name) != right.get(name)
    )


def stored_dtypes(one: Pretrained) -> list[str]:
    """The dtypes of the stored tensors, such as ["float32"]."""
    return sorted({tensor.dtype for tensor in one.match.found.values()})


def stored_step(checkpoints: list[Pretrained]) -> float:
    """The step of the narrowest storage when checkpoints are stored in different dtypes, else 0."""
    kinds = [stored_dtypes(one) for one in checkpoints]
    if all(kind == kinds[0] for kind in kinds):
        return 0.0
    return max(STEPS[name] for kind in kinds for name in kind)
