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
from roberta.common.config_protocol import checked_config
from roberta.common.formats.safetensors_file import StoredTensor
from roberta.common.parameters import Head, parameters
from roberta.common.storage.folders import CheckpointError
from roberta.common.storage.hub import HubOptions
from roberta.conversion import finite
from roberta.conversion.convert import convert
from roberta.conversion.formats import recognise
from roberta.conversion.frameworks import Subject
from roberta.conversion.judgement import STEPS, apart
from roberta.conversion.model import HEADS

# Fields of a config that change nothing of what is computed or answered (label2id says what id2label says).
_NAMES_ONLY = (
    "architectures", "dtype", "label2id", "transformers_version", "name_or_path", "_name_or_path",
    "tokenizer_class", "use_cache", "output_attentions", "output_hidden_states", "initializer_range",
)  # fmt: skip

# The step between the numbers next to 0 of each type, which is all that rounding there explains.
SMALLEST = {"float64": 5e-324, "float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133}


@dataclass(frozen=True)
class Stored:
    """A tensor that two checkpoints hold with different values.

    Attributes:
        absolute: the largest difference.
        is_explained: every value is within what the narrower of two types of storage rounds off.
    """

    name: str
    absolute: float
    is_explained: bool


@contextmanager
def readable(path: str | Path, head: Head | None) -> Iterator[str | Path]:
    """What `from_pretrained` reads: the checkpoint itself, or a conversion of one of fairseq or KerasHub.

    The conversion is in a temporary folder, which is gone afterwards.
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
    except CheckpointError:  # of several formats, or damaged: what reads it says so
        return False


def opened(path: str | Path, head: Head | None) -> tuple[Pretrained, Subject]:
    """The config and tensors of a checkpoint, complete for its class, and what to load it as."""
    head = class_of(path) if head is None else head
    if head not in HEADS:
        raise ValueError(f"head={head!r} is not one of {', '.join(HEADS)}")
    has_pooler = None
    found = _open(path, head, has_pooler)
    if head == "Model" and found.report.missing and all(name.startswith("pooler.") for name in found.report.missing):
        has_pooler = False
        found = _open(path, head, has_pooler)
    if found.report.missing:
        raise ValueError(
            f"{path} has no {', '.join(found.report.missing)}: as Roberta{head} it would be new, and new parameters "
            "differ in each framework; give the head that it was saved with"
        )
    return found, Subject(path, head, {} if has_pooler is None else {"add_pooling_layer": False})


def _open(path: str | Path, head: Head, has_pooler: bool | None) -> Pretrained:
    hub = HubOptions(
        revision="main", subfolder="", cache_dir=None, force_download=False, local_files_only=False, token=None
    )
    return open_pretrained(
        path, head, config=None, overrides={}, hub=hub, formats=None, variant=None, has_pooler=has_pooler,
        ignore_mismatched_sizes=False,
    )  # fmt: skip


def class_of(path: str | Path) -> Head:
    """The class that a checkpoint's config names, without `Roberta` and framework."""
    file = Path(path)
    config, _ = checked_config(file.parent if file.is_file() else path)
    named = [name.rpartition("Roberta")[2] for name in config.architectures or ()]
    for head in HEADS:
        if head in named:
            return head
    raise ValueError(f"the config of {path} names no class (architectures={config.architectures}); give the head")


def check_class(source: str | Path, head: Head, against: str | Path, path: str | Path) -> None:
    """Raise `ValueError` unless the config of the second checkpoint, at `path`, names the class of the first."""
    other = class_of(path)
    if other != head:
        raise ValueError(
            f"{source} is a Roberta{head} and {against} a Roberta{other}; compare two of one class, or give the head "
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


def not_finite(source: str | Path, found: Pretrained) -> tuple[str, ...]:
    """What a checkpoint holds that is no number, a line where there is any: it spreads, and nothing can be compared."""
    wrong = finite.of_tensors(dict(found.match.found))
    return (f"{source} holds {finite.listed(wrong)}",) if wrong else ()


def different_tensors(found: Pretrained, second: Pretrained) -> tuple[Stored, ...]:
    """The stored tensors that differ in a value, read one pair at a time, in the order of the table."""
    compared = (stored(name, tensor, second.match.found[name]) for name, tensor in found.match.found.items())
    return tuple(one for one in compared if one.absolute != 0.0)


def stored(name: str, one: StoredTensor, other: StoredTensor) -> Stored:
    """How far the values of one tensor are apart in two checkpoints."""
    left, right = (tensor.load().astype(np.float64) for tensor in (one, other))
    if one.dtype == other.dtype:
        is_explained = np.array_equal(left, right)
    else:
        narrow = max(one.dtype, other.dtype, key=STEPS.__getitem__)
        allowed = STEPS[narrow] * np.abs(left) + SMALLEST[narrow]
        is_explained = bool((np.abs(right - left) <= allowed).all())
    return Stored(name, apart(right, left), is_explained)


def different_settings(one: RobertaConfig, other: RobertaConfig) -> tuple[str, ...]:
    """Fields of two configs that differ and matter to the result, such as "layer_norm_eps: 1e-05 and 1e-12"."""
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
