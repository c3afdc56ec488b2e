"""`tokenizer.pad`: rows that were made one by one become a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from roberta.common.tokenizer.rows import Shape, pad_rows, padded_length


def gather(encoded_inputs: Any) -> dict[str, Any]:
    """Name -> rows (or one row), of a batch or of a list of rows by name.

    Raises:
        ValueError: rows that do not have the same names.
    """
    if isinstance(encoded_inputs, Mapping):
        return dict(encoded_inputs)
    if not isinstance(encoded_inputs, Sequence) or not all(isinstance(row, Mapping) for row in encoded_inputs):
        raise ValueError(f"pad takes a dict of rows or a list of dicts, not {encoded_inputs!r:.80}")
    if not encoded_inputs:
        return {}
    names = list(encoded_inputs[0])
    for at, row in enumerate(encoded_inputs):
        if set(row) != set(names):
            raise ValueError(
                f"row {at} has {', '.join(row)}, but row 0 has {', '.join(names)}; rows have the same keys"
            )
    return {name: [row[name] for row in encoded_inputs] for name in names}


def tensor_type_of(value: Any) -> str | None:
    """ "np", "pt", "tf" or "jax" when a value, or the first thing in it, is such a tensor; None for lists."""
    while isinstance(value, list | tuple) and value:
        value = value[0]
    package = type(value).__module__.partition(".")[0]
    return {"numpy": "np", "torch": "pt", "tensorflow": "tf", "jax": "jax", "jaxlib": "jax"}.get(package)


def as_lists(value: Any) -> Any:
    """A value with every array and tensor in it as (nested) lists."""
    if isinstance(value, list | tuple):
        return [as_lists(item) for item in value]
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if hasattr(value, "numpy") and callable(value.numpy):
        value = value.numpy()
    return value.tolist() if hasattr(value, "tolist") else value


def pad_batch(data: dict[str, Any], main: str, shape: Shape, with_mask: bool) -> dict[str, Any]:
    """Fill the rows that the model reads up to one length; what is not known here (labels) stays as it is.

    Args:
        data: name -> rows of ints.
        main: the name whose rows say how long the others are.
        with_mask: make an attention mask where there is none.
    """
    rows = data[main]
    lengths = [len(row) for row in rows]
    if with_mask and "attention_mask" not in data:
        data = {**data, "attention_mask": [[1] * length for length in lengths]}
    values = {main: shape.pad_id, "attention_mask": 0, "token_type_ids": shape.pad_type_id, "special_tokens_mask": 1}
    width = padded_length(shape, lengths)
    if width is None:
        return data
    return {
        name: [
            pad_rows([row], max(width, length), values[name], shape.padding_side)[0]
            for row, length in zip(value, lengths, strict=True)
        ]
        if name in values
        else value
        for name, value in data.items()
    }
