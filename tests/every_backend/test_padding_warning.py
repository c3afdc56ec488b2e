"""Padded ids without a mask: one warning per process, and only where the padding changes results."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import Arrays, Backend

from roberta.common.parameters import Head

PADDED = np.array([[0, 5, 6, 2], [0, 5, 2, 1]])
LEFT = PADDED[:, ::-1]
MESSAGE = r"begin or end with padding \(id 1\) and come without attention_mask.*or one of ones if these are tokens"


def said(call: Any) -> list[str]:
    """The warnings of a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in caught]


def load(backend: Backend, folder: Path, head: Head = "ForMaskedLM", **changes: Any) -> Any:
    return backend.load(head, checkpoints.make(folder / head, head, num_hidden_layers=1, **changes))


@pytest.mark.parametrize("ids", [PADDED, LEFT], ids=["right", "left"])
def test_padding_without_a_mask_is_warned_of_once(backend: Backend, tmp_path: Path, ids: np.ndarray) -> None:
    model = load(backend, tmp_path)
    found = said(lambda: [backend.run(model, {"input_ids": ids}) for _ in range(2)])
    assert len(found) == 1
    assert re.search(MESSAGE, found[0])


def test_the_two_ways_out_are_silent(backend: Backend, tmp_path: Path) -> None:
    model = load(backend, tmp_path)
    for mask in ((PADDED != 1).astype(np.int64), np.ones_like(PADDED)):
        assert said(lambda mask=mask: backend.run(model, {"input_ids": PADDED, "attention_mask": mask})) == []
    assert said(lambda: backend.run(model, {"input_ids": PADDED[:1]})) == []


def test_infer_warns_as_the_forward_pass_does(backend: Backend, tmp_path: Path) -> None:
    model = load(backend, tmp_path)
    assert re.search(MESSAGE, said(lambda: model.infer({"input_ids": PADDED}))[0])


def test_a_decoder_is_warned_of_padding_before_tokens_alone_and_not_in_its_steps(
    backend: Backend, tmp_path: Path
) -> None:
    model = load(backend, tmp_path, "ForCausalLM")
    given: Arrays = {"input_ids": PADDED}
    first = backend.call(model, given, past_key_values=backend.empty_cache(model, PADDED), use_cache=True)
    step = {"input_ids": np.array([[1], [5]])}
    assert said(lambda: backend.call(model, given)) == []  # no token attends to later tokens
    assert said(lambda: backend.call(model, step, past_key_values=first.past_key_values)) == []
    assert re.search(MESSAGE, said(lambda: backend.call(model, {"input_ids": LEFT}))[0])


def test_compiled_code_does_not_look(backend: Backend, tmp_path: Path) -> None:
    model = load(backend, tmp_path)
    ids = backend.constant(PADDED)
    match backend.name:
        case "pt":
            import torch

            compiled: Any = torch.compile(model, fullgraph=True, backend="eager")
        case "tf":
            import tensorflow as tf

            compiled = tf.function(lambda ids: model(ids).logits)
        case "flax":
            import jax

            compiled = jax.jit(lambda ids: model(ids).logits)
    assert said(lambda: compiled(ids)) == []
