"""Names of dtypes that all three frameworks share: "float32", "bfloat16", ..."""

from __future__ import annotations

from typing import Any

import numpy as np

FLOAT_DTYPES = ("float32", "float64", "float16", "bfloat16")  # of weights


def dtype_name(value: object) -> str:
    """The name of a dtype of PyTorch, TensorFlow, JAX or numpy, or of a text such as "torch.float16".

    Raises:
        TypeError: it is not a dtype.
    """
    name = value if isinstance(value, str) else getattr(value, "name", None)
    if isinstance(name, str):  # a text; a dtype of numpy or TensorFlow
        return str(name).removeprefix("torch.")
    text = str(value)
    if text.startswith("torch."):
        return text.removeprefix("torch.")
    if value is None:  # numpy would read it as float64
        raise TypeError("None is not a dtype")
    return str(np.dtype(value).name)  # type: ignore[call-overload]  # a scalar type of numpy or JAX


def name_dtypes(fields: dict[str, Any]) -> None:
    """Replace each "dtype" in a dictionary, and in those inside it, by its name."""
    value = fields.get("dtype")
    if isinstance(value, dict):
        fields["dtype"] = {name: str(dtype_name(each)) for name, each in value.items()}
    elif value is not None and not isinstance(value, int):
        fields["dtype"] = str(dtype_name(value))
    for inner in fields.values():
        if isinstance(inner, dict):
            name_dtypes(inner)


class DtypeName(str):
    """A dtype's name that equals the same string, and the dtype of that name in every framework.

    Scripts compare `config.dtype == torch.float16`, and a config here knows no framework. The dtype itself is
    `getattr(torch, config.dtype)`, and numpy and JAX take the name as it is.
    """

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return str.__eq__(self, other)
        try:
            return str.__eq__(self, dtype_name(other))
        except TypeError:
            return False

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__
