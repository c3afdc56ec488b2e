"""Whatever a caller has done to a Flax model, `infer` returns the results of its forward pass."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import assert_close, backend

jax = pytest.importorskip("jax")
pytest.importorskip("flax")
from flax import linen as nn  # noqa: E402
from flax.traverse_util import flatten_dict, unflatten_dict  # noqa: E402

from roberta import FlaxRobertaForTokenClassification  # noqa: E402
from roberta.flax import layers, models  # noqa: E402

FLAX = backend("flax")
HEAD: Any = "ForTokenClassification"
INPUTS = checkpoints.batch(HEAD, checkpoints.small_config(HEAD))
Module = models.RobertaForTokenClassificationModule


class Louder(Module):
    @functools.wraps(Module.__call__)
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        output = super().__call__(*arguments, **options)
        output.logits = output.logits * 2
        return output


class Adapted(Module):
    """A product of two thin matrices beside the classifier, with its own leaves in the tree."""

    def setup(self) -> None:
        super().setup()
        self.down, self.up = (
            nn.Dense(2, use_bias=False, dtype=self.dtype),
            nn.Dense(5, use_bias=False, dtype=self.dtype),
        )

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        output = super().__call__(*arguments, **{**options, "output_hidden_states": True})
        output.logits = output.logits + self.up(self.down(output.hidden_states[-1]))
        return output


class LouderClass(FlaxRobertaForTokenClassification):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        output = super().__call__(*arguments, **options)
        output.logits = output.logits * 2
        return output


class OtherHead(FlaxRobertaForTokenClassification):
    module_class = Louder


class Doubled:
    """A leaf that is not an array: JAX asks it for one."""

    def __init__(self, array: Any) -> None:
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim

    def __jax_array__(self) -> Any:
        return self.array * 2


def edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[Any], None]:
    """A change of the leaves by path."""

    def apply(model: Any) -> None:
        leaves = flatten_dict(model.params, sep="/")
        change(leaves)
        model._params = unflatten_dict(leaves, sep="/")

    return apply


def module(make: Callable[[Any], Any]) -> Callable[[Any], None]:
    return lambda model: setattr(model, "module", make(model))


def adapted(model: Any) -> None:
    model.module = Adapted(model.config, model.dtype)
    rng = np.random.default_rng(0)
    edited(
        lambda leaves: leaves.update({"down/kernel": rng.normal(size=(24, 2)), "up/kernel": rng.normal(size=(2, 5))})
    )(model)


def recast(kind: type) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model.__class__ = kind
        model.module = kind.module_class(model.config, model.dtype)

    return change


KERNEL = "roberta/encoder/layer/0/attention/self/value/kernel"
CHANGES: dict[str, Callable[[Any], Any]] = {
    "a module of a subclass": module(lambda model: Louder(model.config, model.dtype)),
    "a module with an adapter": adapted,
    "a class of its own": recast(LouderClass),
    "a class with another module": recast(OtherHead),
    "a module with another config": module(lambda model: Module(
        type(model.config)(**{**model.config.to_dict(), "hidden_act": "relu"}), model.dtype)),
    "a module of another dtype": module(lambda model: model.module.clone(dtype=np.float32)),
    "another activation": lambda model: model.config.update({"hidden_act": "relu"}),
    "another epsilon": lambda model: model.config.update({"layer_norm_eps": 0.5}),
    "a decoder": lambda model: model.config.update({"is_decoder": True}),
    "numpy changed in place": edited(lambda leaves: leaves.update({KERNEL: np.array(leaves[KERNEL]) * 2})),
    "a leaf replaced": edited(lambda leaves: leaves.update({KERNEL: leaves[KERNEL] * 2})),
    "a leaf that is not an array": edited(lambda leaves: leaves.update({KERNEL: Doubled(leaves[KERNEL])})),
    "a leaf of another dtype": edited(lambda leaves: leaves.update({KERNEL: leaves[KERNEL].astype(np.float16)})),
    "a leaf of integers": edited(lambda leaves: leaves.update({KERNEL: (leaves[KERNEL] * 9).astype(np.int8)})),
    "all params of another dtype": lambda model: setattr(model, "params", model.to_bf16(model.params)),
    "two layers exchanged": edited(lambda leaves: leaves.update({
        KERNEL: leaves[KERNEL.replace("/0/", "/1/")], KERNEL.replace("/0/", "/1/"): leaves[KERNEL]})),
}  # fmt: skip
UNSEEN: dict[str, Callable[[Any], Any]] = {  # which do not affect the forward pass
    "leaves beside the model's": edited(lambda leaves: leaves.update({"lora/kernel": np.ones((2, 2))})),
    "an empty tree beside them": lambda model: setattr(model, "params", {**model.params, "empty": {}}),
    "gradient checkpointing": lambda model: model.gradient_checkpointing_enable(),
    "a config of the same values": lambda model: model.config.update({"hidden_act": model.config.hidden_act}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.make(tmp_path_factory.mktemp("altered"), HEAD)


def assert_as_forward(model: Any, bound: float = 1e-10) -> None:
    wanted = FLAX.run(model, INPUTS)["logits"]
    real = INPUTS["attention_mask"] > 0
    assert_close(model.infer(INPUTS)["logits"], np.where(real[..., None], wanted, 0), bound)
    assert_close(model.infer(INPUTS, where=real)["logits"], wanted[real], bound)


@pytest.mark.parametrize("name", [*CHANGES, *UNSEEN])
@pytest.mark.parametrize("comes_late", [False, True], ids=["at first", "after a call"])
def test_a_changed_model_infers_what_it_computes(name: str, comes_late: bool, folder: Path) -> None:
    model = FLAX.load(HEAD, folder)
    before = model.infer(INPUTS)["logits"]
    if not comes_late:
        model = FLAX.load(HEAD, folder)
    {**CHANGES, **UNSEEN}[name](model)
    is_half = name == "a module of another dtype"  # float32 products, which two programs round differently
    assert_as_forward(model, 1e-5 if is_half else 1e-10)
    difference = np.abs(before - model.infer(INPUTS)["logits"])[INPUTS["attention_mask"] > 0].max()
    assert (difference > (1e-9 if is_half else 1e-4)) == (name in CHANGES)


def test_interceptors_are_seen_as_long_as_they_last(folder: Path) -> None:
    model = FLAX.load(HEAD, folder)
    before = model.infer(INPUTS)["logits"]

    def louder(run: Any, arguments: Any, options: Any, context: Any) -> Any:
        result = run(*arguments, **options)
        return result * 2 if isinstance(context.module, nn.Dense) and context.method_name == "__call__" else result

    with nn.intercept_methods(louder):
        assert_as_forward(model)
        assert not np.allclose(model.infer(INPUTS)["logits"], before)
    assert np.array_equal(model.infer(INPUTS)["logits"], before)


def test_a_class_with_other_code_is_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = FLAX.load(HEAD, folder)
    before = model.infer(INPUTS)["logits"]
    monkeypatch.setattr(layers.Layer, "feed_forward", lambda self, hidden, deterministic: hidden)
    assert_as_forward(model)
    monkeypatch.undo()
    assert np.array_equal(model.infer(INPUTS)["logits"], before)


def test_another_dtype_of_a_changed_model_is_refused_with_a_way_out(folder: Path) -> None:
    model = FLAX.load(HEAD, folder, dtype="float32")
    wanted = model.infer(INPUTS, dtype="bfloat16")["logits"]
    own = model.module
    model.module = Louder(model.config, model.dtype)
    with pytest.raises(ValueError, match=r"module Louder is a class of its own.* omit dtype, or take away"):
        model.infer(INPUTS, dtype="bfloat16")
    assert model.infer(INPUTS)["logits"].shape == wanted.shape
    model.module = own
    assert np.array_equal(model.infer(INPUTS, dtype="bfloat16")["logits"], wanted)
