"""Whatever a caller has done to a Keras model, `infer` returns the results of its forward pass."""

from __future__ import annotations

import functools
import gc
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import assert_close, backend

TF = backend("tf")
import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from roberta import TFRobertaForTokenClassification, TFRobertaModel  # noqa: E402
from roberta.tf import layers  # noqa: E402

HEAD: Any = "ForTokenClassification"
INPUTS = checkpoints.batch(HEAD, checkpoints.small_config(HEAD))


class Lora(keras.layers.Layer):
    """A projection with a product of two thin matrices beside it, like an adapter."""

    def __init__(self, base: Any) -> None:
        super().__init__(dtype=base.dtype_policy)
        self.base, self.units = base, base.units
        self.down, self.up = (keras.layers.Dense(n, use_bias=False, dtype=base.dtype_policy) for n in (2, base.units))

    def call(self, hidden: Any) -> Any:
        return self.base(hidden) + self.up(self.down(hidden))


class LouderDense(keras.layers.Dense):
    def call(self, hidden: Any, training: Any = None) -> Any:
        return super().call(hidden) * 2


class LouderLayer(layers.Layer):
    def feed_forward(self, hidden: Any) -> Any:
        return super().feed_forward(hidden) * 2


class LouderModel(TFRobertaModel):
    @functools.wraps(TFRobertaModel.call)
    def call(self, *arguments: Any, **options: Any) -> Any:
        output = super().call(*arguments, **options)
        output.last_hidden_state = output.last_hidden_state * 2
        return output


class LouderHead(TFRobertaForTokenClassification):
    @functools.wraps(TFRobertaForTokenClassification.call)
    def call(self, *arguments: Any, **options: Any) -> Any:
        output = super().call(*arguments, **options)
        output.logits = output.logits * 2
        return output


class Halving(keras.layers.Layer):
    """A replacement for dropout that also acts outside training."""

    def call(self, hidden: Any, training: Any = None) -> Any:
        return hidden / 2


class Halved(keras.layers.Layer):
    """Another layer, whose result is halved."""

    def __init__(self, inner: Any) -> None:
        super().__init__(dtype=inner.dtype_policy)
        self.inner = inner

    def call(self, *arguments: Any) -> Any:
        return self.inner(*arguments) / 2


def first(model: Any) -> Any:
    return model.roberta.encoder.layer[0]


def value(model: Any) -> Any:
    return first(model).attention.self.value


def put(find: Callable[[Any], Any], name: str, make: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A change that replaces a layer by the result of `make`."""

    def change(model: Any) -> None:
        owner = find(model)
        owner._tracker.unlock()
        setattr(owner, name, make(getattr(owner, name)))

    return change


def recast(find: Callable[[Any], Any], kind: type) -> Callable[[Any], None]:
    return lambda model: setattr(find(model), "__class__", kind)


def lora(layer: Any) -> None:
    layer.enable_lora(2)
    layer._tracker.unlock()
    for name in ("lora_kernel_b", "lora_embeddings_b"):
        if hasattr(layer, name):
            getattr(layer, name).assign(np.random.default_rng(0).normal(size=getattr(layer, name).shape))


def own_call(model: Any) -> None:
    dense, plain = value(model), value(model).call
    dense.call = lambda hidden, training=None: plain(hidden) * 3


def own_method(model: Any) -> None:
    layer = first(model)
    layer.feed_forward = types.MethodType(lambda self, hidden: layers.Layer.feed_forward(self, hidden) * 3, layer)


def wrapped(inner: Any) -> Any:
    return keras.Sequential([keras.Input((None, 24), dtype="float64"), inner, Halving(dtype=inner.dtype_policy)])


def narrow(model: Any) -> None:
    first(model).intermediate.dense.dtype_policy = keras.DTypePolicy("mixed_float16")


CHANGES: dict[str, Callable[[Any], Any]] = {
    "enable_lora": lambda model: lora(value(model)),
    "enable_lora of the head": lambda model: lora(model.classifier),
    "enable_lora of an embedding": lambda model: lora(model.roberta.embeddings.word_embeddings),
    "an adapter": put(lambda model: first(model).attention.self, "value", Lora),
    "a layer and another": put(lambda model: first(model).intermediate, "dense", wrapped),
    "an adapter after a norm": put(lambda model: first(model).output, "LayerNorm", wrapped),
    "a wrapped embedding": put(lambda model: model.roberta.embeddings, "position_embeddings", Halved),
    "a Dense of a subclass": recast(value, LouderDense),
    "a layer of a subclass": recast(first, LouderLayer),
    "an encoder of a subclass": recast(lambda model: model.roberta, LouderModel),
    "a class of its own": recast(lambda model: model, LouderHead),
    "dropout that stays on": put(lambda model: model, "dropout", lambda _: Halving(dtype="float64")),
    "dropout in a layer that stays on": put(lambda m: first(m).output, "dropout", lambda _: Halving(dtype="float64")),
    "a call of one layer": own_call,
    "a method of one layer": own_method,
    "another activation": lambda model: setattr(first(model).intermediate, "activation", tf.nn.relu),
    "an activation of a projection": lambda model: setattr(value(model), "activation", tf.tanh),
    "another epsilon": lambda model: setattr(first(model).output.LayerNorm, "epsilon", 0.5),
    "another dtype policy": narrow,
    "fewer layers": lambda model: model.config.update({"num_hidden_layers": 1}),
    "one layer twice": lambda model: setattr(model.roberta.encoder, "layer_1", first(model)),
    "a decoder": lambda model: model.config.update({"is_decoder": True}),
}  # fmt: skip
UNSEEN: dict[str, Callable[[Any], Any]] = {  # which do not affect the forward pass
    "another activation in the config": lambda model: model.config.update({"hidden_act": "relu"}),
    "another epsilon in the config": lambda model: model.config.update({"layer_norm_eps": 0.5}),
    "not trainable": lambda model: setattr(model, "trainable", False),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.make(tmp_path_factory.mktemp("altered"), HEAD)


def assert_as_forward(model: Any, bound: float = 1e-10) -> None:
    wanted = np.asarray(model(**INPUTS, training=False).logits)
    real = INPUTS["attention_mask"] > 0
    assert_close(model.infer(INPUTS)["logits"], np.where(real[..., None], wanted, 0), bound)
    assert_close(model.infer(INPUTS, where=real, batch_tokens=12)["logits"], wanted[real], bound)


@pytest.mark.parametrize("name", [*CHANGES, *UNSEEN])
@pytest.mark.parametrize("comes_late", [False, True], ids=["at first", "after a call"])
def test_a_changed_model_infers_what_it_computes(name: str, comes_late: bool, folder: Path) -> None:
    model = TF.load(HEAD, folder)
    before = model.infer(INPUTS)["logits"] if comes_late else np.asarray(model(**INPUTS).logits)
    {**CHANGES, **UNSEEN}[name](model)
    assert_as_forward(model)
    difference = np.abs(before - model.infer(INPUTS)["logits"])[INPUTS["attention_mask"] > 0].max()
    assert (difference > 1e-4) == (name in CHANGES)


def test_a_quantised_model_infers_what_it_computes(tmp_path: Path) -> None:
    model = TF.load(HEAD, checkpoints.make(tmp_path, HEAD, num_hidden_layers=1), dtype="float32")
    model.infer(INPUTS)
    model.infer(INPUTS, dtype="bfloat16")
    with pytest.warns(UserWarning, match="quantize"):  # Keras warns about layers it cannot quantise
        model.quantize("int8")
    assert_as_forward(model, 1e-5)
    with pytest.raises(ValueError, match=r"model.quantize\('int8'\).* omit dtype, or take away"):
        model.infer(INPUTS, dtype="bfloat16")


def test_a_class_with_other_code_is_seen_as_long_as_it_lasts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = TF.load(HEAD, folder)
    before = model.infer(INPUTS)["logits"]
    monkeypatch.setattr(layers.Layer, "feed_forward", lambda self, hidden: hidden)
    assert_as_forward(model)
    monkeypatch.undo()
    assert np.array_equal(model.infer(INPUTS)["logits"], before)


def test_weights_in_another_dtype_follow_a_layer_that_was_replaced(folder: Path) -> None:
    model = TF.load(HEAD, folder, dtype="float32")
    before = model.infer(INPUTS, dtype="bfloat16")["logits"]
    other = layers.dense(24, 5, "float32")
    other.kernel.assign(model.classifier.kernel * 2)
    put(lambda m: m, "classifier", lambda _: other)(model)
    assert not np.array_equal(model.infer(INPUTS, dtype="bfloat16")["logits"], before)


def test_what_was_laid_out_goes_with_the_model(folder: Path) -> None:
    from roberta.tf import infer

    gc.collect()
    before = len(infer._models.kept)
    model = TF.load(HEAD, folder)
    model.infer(INPUTS)
    assert len(infer._models.kept) == before + 1
    del model
    gc.collect()
    assert len(infer._models.kept) == before
