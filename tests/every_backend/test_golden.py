"""Outputs of transformers 4.57 in float64, for its own checkpoints, against every class, framework and file format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import Arrays, Backend, assert_close
from safetensors.numpy import load_file

NAMES = (
    "a1-model", "a2-mlm", "a3-clm", "a4-clm-cross", "a5-seqcls", "a6-seqcls-regression", "a7-tokcls", "a8-mc", "a9-qa"
)  # fmt: skip
FORMATS = (
    "pt-safetensors", "pt-bin", "pt-sharded", "pt-sharded-bin", "tf-h5", "tf-sharded-h5", "tf-safetensors",
    "tf-sharded-safetensors", "flax-msgpack", "flax-safetensors", "flax-sharded",
)  # fmt: skip


class Golden:
    """One golden checkpoint: its cases, inputs and expected outputs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.info = json.loads((folder / "golden.json").read_text())
        self.arrays = dict(np.load(folder / "golden.npz"))
        self.head = self.info["classes"]["pt"].removeprefix("Roberta")

    def group(self, prefix: str) -> Arrays:
        """The arrays whose names start with a prefix, by the rest of their names."""
        return {name.removeprefix(prefix): a for name, a in self.arrays.items() if name.startswith(prefix)}

    def inputs(self, case: str, dtype: str = "float64") -> Arrays:
        """A case's inputs; floats in `dtype`."""
        return {name: a.astype(dtype) if a.dtype.kind == "f" else a for name, a in self.group(f"{case}/in/").items()}


@pytest.fixture(params=NAMES)
def expected(request: pytest.FixtureRequest, golden: Path) -> Golden:
    return Golden(golden / "checkpoints" / request.param)


def check_cases(backend: Backend, expected: Golden, dtype: str, bound: float) -> None:
    model = backend.load(expected.head, expected.folder / "pt-safetensors", dtype)
    for case in expected.info["cases"]:
        inputs = expected.inputs(case["name"], dtype)
        found = backend.run(model, inputs, **case["flags"])
        for name, wanted in expected.group(f"{case['name']}/f64/").items():
            value = found[name]
            if case["valid"] == "mask" and value.ndim == 3 and value.shape[:2] == inputs["attention_mask"].shape:
                real = inputs["attention_mask"] > 0
                value, wanted = value[real], wanted[real]
            assert_close(value, wanted, bound, f"{case['name']} {name}")


def test_every_case_in_float64(backend: Backend, expected: Golden) -> None:
    check_cases(backend, expected, "float64", 1e-10)


def test_every_case_in_float32(backend: Backend, expected: Golden) -> None:
    check_cases(backend, expected, "float32", 1e-5)


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_file_format_loads_into_every_framework(backend: Backend, expected: Golden, file_format: str) -> None:
    if file_format not in expected.info["formats"]:
        pytest.skip("not among the reference files of this model")
    model, report = backend.load(expected.head, expected.folder / file_format, "float32", output_loading_info=True)
    assert not any(report.values())
    found = backend.parameters(model)
    wanted = load_file(expected.folder / "pt-safetensors" / "model.safetensors")
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert np.array_equal(found[name], value), name


@pytest.mark.parametrize("name", ["a3-clm", "a4-clm-cross"])
def test_cached_steps_equal_the_full_pass(backend: Backend, golden: Path, name: str) -> None:
    expected = Golden(golden / "checkpoints" / name)
    model = backend.load(expected.head, expected.folder / "pt-safetensors")
    for case in expected.info["cached"]:
        inputs = expected.inputs(case["name"])
        inputs.pop("position_ids", None)  # derived from the mask
        found = backend.decode(model, inputs, case["prefix"])
        wanted = expected.arrays[f"{case['name']}/f64/logits_cached"]
        if case["mask"]:
            real = inputs["attention_mask"] > 0
            found, wanted = found[real], wanted[real]
        assert_close(found, wanted, 1e-10, case["name"])


@pytest.mark.parametrize("name", ["a3-clm", "a4-clm-cross"])
def test_greedy_tokens(backend: Backend, golden: Path, name: str) -> None:
    expected = Golden(golden / "checkpoints" / name)
    model = backend.load(expected.head, expected.folder / "pt-safetensors")
    for case in expected.info["generate"]:
        if f"{case['name']}/true" not in expected.arrays:
            continue
        inputs = {key: backend.constant(value) for key, value in expected.inputs(case["name"]).items()}
        found = model.generate(**inputs, **case["kwargs"])
        assert np.array_equal(np.asarray(found), expected.arrays[f"{case['name']}/true"])


@pytest.mark.parametrize("kind", ["vjp", "lossgrad"])
def test_named_gradients(backend: Backend, expected: Golden, kind: str) -> None:
    wanted = expected.group(f"{kind}/f64/")
    if not wanted:
        pytest.skip("no gradients of this kind are recorded for this model")
    model = backend.load(expected.head, expected.folder / "pt-safetensors")
    inputs = expected.inputs(expected.info["grads"]["case"])
    weights = {name: backend.constant(a.astype(np.float64)) for name, a in expected.group("vjp/cot/").items()}

    def scalar(output: Any) -> Any:
        if kind == "lossgrad":
            return output.loss
        return sum(total(output[name] * weight) for name, weight in weights.items())

    def total(value: Any) -> Any:
        if backend.name != "tf":
            return value.sum()
        import tensorflow as tf

        return tf.reduce_sum(value)

    found = backend.gradients(model, inputs, scalar)
    for name, gradient in wanted.items():
        value = found[name]
        if name.endswith(("word_embeddings.weight", "position_embeddings.weight")):  # torch handles the padding row
            value = np.delete(value, expected.info["pad_token_id"], axis=0)
            gradient = np.delete(gradient, expected.info["pad_token_id"], axis=0)
        assert_close(value, gradient, 1e-10, name)
