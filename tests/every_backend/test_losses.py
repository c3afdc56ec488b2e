"""The losses by themselves, in each framework: labels of any integer type, no label that counts, and float16."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from backends import Backend, assert_close

from roberta import RobertaConfig

CLASSES = 200
INTEGERS = ("int8", "uint8", "uint16", "int32", "int64", "uint64")


def loss(backend: Backend, name: str, *arrays: np.ndarray, **others: Any) -> np.ndarray:
    """A loss from `losses`, in its own dtype."""
    module = importlib.import_module(f"roberta.{backend.name}.losses")
    return np.asarray(getattr(module, name)(*(backend.constant(array) for array in arrays), **others))


def wanted(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean cross entropy, by hand."""
    kept = labels != -100
    sums = np.log(np.exp(logits).sum(axis=-1))
    return np.array((sums - np.take_along_axis(logits, np.where(kept, labels, 0)[..., None], -1)[..., 0])[kept].mean())


@pytest.mark.parametrize("dtype", INTEGERS)
def test_labels_of_every_integer_type_are_the_same_labels(backend: Backend, dtype: str) -> None:
    """156 is -100 in uint8, and 200 classes are more than int8 can count."""
    logits = np.random.default_rng(0).normal(0, 3, (2, 4, CLASSES))
    labels = np.array([[156, 7, 120, 3], [9, 156, 0, 99]])
    if dtype == "int8":
        labels[labels == 156] = -100
    given = labels.astype(dtype)
    assert_close(loss(backend, "token_loss", logits, given), wanted(logits, labels))
    assert_close(loss(backend, "next_token_loss", logits, given), wanted(logits[:, :-1], labels[:, 1:]))
    whole = loss(backend, "next_token_loss", logits, given, num_items_in_batch=3)
    assert_close(whole * 3, wanted(logits[:, :-1], labels[:, 1:]) * (labels[:, 1:] != -100).sum())


def test_a_label_outside_the_classes_is_refused_in_every_integer_type(backend: Backend) -> None:
    for dtype, label in (("uint8", 156), ("uint16", 2**16 - 100), ("int8", -99)):
        labels = np.array([label], dtype)
        with pytest.raises(ValueError, match=f"labels holds {label}; allowed are 0 to 99"):
            loss(backend, "token_loss", np.zeros((1, 100)), labels)


@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_span_positions_of_every_integer_type(backend: Backend, dtype: str) -> None:
    """300 positions are more than uint8 can count; 2 ** 32 + 1, beyond the sequence, is 1 in int32."""
    start, end = np.random.default_rng(1).normal(0, 3, (2, 2, 300))
    starts, ends = np.array([255, 7]), np.array([255, 9 if dtype == "uint8" else 2**32 + 1])
    right = wanted(end, ends) if dtype == "uint8" else wanted(end[:1], ends[:1])
    found = loss(backend, "span_loss", start, end, starts.astype(dtype), ends.astype(dtype))
    assert_close(found, np.array((wanted(start, starts) + right) / 2))


def test_no_label_that_counts_is_a_loss_of_nothing_by_a_given_number(backend: Backend) -> None:
    """transformers returns 0.0: a part of a batch without targets adds nothing to the others."""
    logits, labels = np.ones((1, 3, CLASSES)), np.full((1, 3), -100)
    assert loss(backend, "next_token_loss", logits, labels, num_items_in_batch=5) == 0.0
    assert np.isnan(loss(backend, "next_token_loss", logits, labels))


def test_the_mean_over_many_tokens_is_finite_in_float16(backend: Backend) -> None:
    """15,000 times log(200) is beyond float16's 65,504, and so is the square of 260; their means are not."""
    logits, labels = np.zeros((15_000, CLASSES), np.float16), np.zeros(15_000, np.int64)
    found = loss(backend, "token_loss", logits, labels)
    assert found.dtype == np.float16
    assert found == np.float16(np.log(CLASSES))
    values = np.zeros((4, 1), np.float16)
    config = RobertaConfig(num_labels=1)
    squared = loss(backend, "classification_loss", values, np.array([260.0, 0, 0, 0], np.float16), config=config)
    assert squared.dtype == np.float16
    assert squared == np.float16(260**2 / 4)
