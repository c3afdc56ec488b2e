"""The labels of a config: id2label and label2id, each from the other, from a number, or from a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from roberta.common.values import is_int

MAX_LABELS = 1_000_000


def label_maps(
    num_labels: int | None, id2label: Mapping[Any, str] | None, label2id: Mapping[str, int] | None
) -> tuple[dict[int, str], dict[str, int]]:
    """Both label maps from whatever is given; two labels when nothing is."""
    for name, value in (("id2label", id2label), ("label2id", label2id)):
        if value is not None and not isinstance(value, Mapping):
            raise ValueError(f"{name} must be a dict, not {type(value).__name__}")
    if label2id is not None and not {float("inf"), float("-inf")}.isdisjoint(label2id.values()):
        raise ValueError("label2id gives a label the id Infinity; ids are ints")  # `int` answers with another error
    if id2label is not None:
        names = {int(index): label for index, label in id2label.items()}
    elif label2id is not None:
        names = {int(index): label for label, index in label2id.items()}
    else:
        count = 2 if num_labels is None else num_labels.item() if isinstance(num_labels, np.generic) else num_labels
        if not is_int(count) or not 1 <= count <= MAX_LABELS:
            raise ValueError(f"num_labels={count!r} must be an int from 1 to {MAX_LABELS}")
        names = {index: f"LABEL_{index}" for index in range(count)}
    if num_labels is not None and num_labels != len(names):
        raise ValueError(f"num_labels={num_labels} contradicts the {len(names)} labels given; leave one of them out")
    ids = {label: index for index, label in names.items()} if label2id is None else dict(label2id)
    if {(int(index), label) for label, index in ids.items()} - set(names.items()):
        raise ValueError(f"id2label {names} and label2id {ids} contradict each other; leave one of them out")
    return names, ids


def file_labels(config_dict: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, int] | None]:
    """The labels of a config file, and its label2id where that contradicts id2label.

    id2label decides, as files with a stale label2id or num_labels are common. The stale label2id is kept beside it.
    """
    id2label, label2id = config_dict.get("id2label"), config_dict.get("label2id")
    if not isinstance(id2label, Mapping):
        # old files have the number under another name; a file's label2id says it too
        number = config_dict.get("num_labels", config_dict.get("_num_labels") if label2id is None else None)
        return {"num_labels": number, "id2label": id2label, "label2id": label2id}, None
    contradiction: dict[str, int] | None = None
    if isinstance(label2id, Mapping) and _contradict(id2label, label2id):
        contradiction = dict(label2id)
        label2id = None
    return {"num_labels": None, "id2label": id2label, "label2id": label2id}, contradiction


def _contradict(id2label: Mapping[Any, str], label2id: Mapping[str, int]) -> bool:
    try:
        label_maps(None, id2label, label2id)
    except ValueError:
        return True
    return False
