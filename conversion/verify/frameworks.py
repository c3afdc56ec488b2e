"""The frameworks of a verification: which of them to run, and one checkpoint through one of them."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from roberta.common.devices import to_load_on
from roberta.common.frameworks import FRAMEWORKS, backend_module, class_of, installed
from roberta.common.parameters import Head
from roberta.common.values import Arrays
from roberta.conversion.verify.runners import RUNNERS, Trace

Dtype = Literal["float32", "float64"]


@dataclass(frozen=True)
class Subject:
    """A checkpoint and the class to run it as.

    Attributes:
        path: folder, file or hub name, as the user gave it.
        options: further arguments of `from_pretrained`.
        model_type: that the checkpoint's config says.
        device: to run it on; None for an accelerator of the framework, or the CPU.
    """

    path: str | Path
    head: Head
    options: Mapping[str, Any] = field(default_factory=dict)
    model_type: str = "roberta"
    device: str | int | None = None


def frameworks_to_run(frameworks: Sequence[str] | None) -> list[str]:
    """The frameworks to run: those named, or all installed ones.

    Raises:
        ValueError: for an unknown name. ModuleNotFoundError: for one that is not installed; names the extra.
    """
    there = installed()
    if frameworks is None:
        return there
    unknown = [name for name in frameworks if name not in FRAMEWORKS]
    if unknown or not frameworks or len(set(frameworks)) < len(frameworks):
        raise ValueError(f"frameworks={list(frameworks)!r}; give one or more of {', '.join(FRAMEWORKS)}, each once")
    for name in frameworks:
        if name not in there:
            raise ModuleNotFoundError(f"{name} is not installed; pip install 'roberta[{name}]'", name=name)
    return list(frameworks)


def trace(framework: str, subject: Subject, inputs: Arrays, dtype: Dtype, seed: int | None = None) -> Trace:
    """Load the checkpoint in `dtype`, run it once, and keep what its layers compute.

    Args:
        framework: one of `FRAMEWORKS`.
        seed: of the cotangents, for the gradients of sum(output * cotangent) over all outputs; None for no gradients.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # or TensorFlow prints a banner
    inputs = {name: value.astype(dtype) if value.dtype.kind == "f" else value for name, value in inputs.items()}
    with _jax_floats(dtype) if framework == "flax" else ExitStack():
        place = to_load_on(subject.device, "float64", framework)  # for both dtypes, which are compared
        model = class_of(framework, subject.head, subject.model_type).from_pretrained(
            subject.path, dtype=dtype, device_map=place, **subject.options
        )
        with backend_module(framework, "devices").on_device_of(model):
            result = RUNNERS[framework](model, inputs, seed)
    del model
    gc.collect()  # a Keras model refers to itself, and would stay in memory while the next is loaded
    return result


@contextmanager
def _jax_floats(dtype: Dtype) -> Iterator[None]:
    """Allow float64 in JAX, or not, and restore the setting afterwards."""
    import jax

    config: Any = jax.config  # jax's own types lack its settings
    before = config.jax_enable_x64
    config.update("jax_enable_x64", dtype == "float64")  # read when an array is made
    try:
        yield
    finally:
        config.update("jax_enable_x64", before)
