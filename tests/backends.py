"""The three backends behind one numpy interface, for tests that share one body."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

Arrays = dict[str, np.ndarray]
NEEDS = {"pt": ("torch",), "tf": ("tensorflow", "keras"), "flax": ("jax", "flax")}
PREFIXES = {"pt": "", "tf": "TF", "flax": "Flax"}


class Backend:
    """One framework: build, load, run and differentiate its seven classes."""

    name: str

    def classes(self, head: str) -> Any:
        """The public class of a head, such as "ForMaskedLM"."""
        return getattr(importlib.import_module("roberta"), f"{PREFIXES[self.name]}Roberta{head}")

    def load(self, head: str, folder: Any, dtype: str = "float64", **options: Any) -> Any:
        return self.classes(head).from_pretrained(folder, dtype=dtype, **options)

    def call(self, model: Any, inputs: Mapping[str, Any], **flags: Any) -> Any:
        """The output of the model itself."""
        raise NotImplementedError

    def run(self, model: Any, inputs: Mapping[str, Any], **flags: Any) -> Arrays:
        """Every output as numpy, with tuples spread as `hidden_states.0` and caches left out."""
        return flat(self.call(model, inputs, **flags))

    def gradients(self, model: Any, inputs: Mapping[str, Any], scalar: Callable[[Any], Any]) -> Arrays:
        """Gradient of `scalar(output)` by canonical name, in PyTorch's shapes."""
        raise NotImplementedError

    def decode(self, model: Any, inputs: Mapping[str, Any], prefix: int, **fixed: Any) -> np.ndarray:
        """Logits of the first `prefix` tokens at once, then of one token at a time, through the cache."""
        return self.decode_in_steps(model, inputs, range(prefix, inputs["input_ids"].shape[1] + 1), **fixed)

    def decode_in_steps(self, model: Any, inputs: Mapping[str, Any], stops: Iterable[int], **fixed: Any) -> np.ndarray:
        """Logits of all tokens, through the cache, in steps that end before each of `stops`.

        The mask may cover tokens, (batch, seq), or pairs, (batch, seq, seq).
        """
        name = "input_ids" if "input_ids" in inputs else "inputs_embeds"
        mask = inputs.get("attention_mask")
        others = {name: value for name, value in inputs.items() if name.startswith("encoder_")}
        cache, parts, start = self.empty_cache(model, inputs[name]), [], 0
        for stop in stops:
            step = {name: inputs[name][:, start:stop], **others}
            if mask is not None:
                step["attention_mask"] = mask[:, :stop] if mask.ndim == 2 else mask[:, start:stop, :stop]
            output = self.call(model, step, past_key_values=cache, use_cache=True, **fixed)
            cache, start = output.past_key_values, stop
            parts.append(np.asarray(output.logits))
        return np.concatenate(parts, axis=1)

    def empty_cache(self, model: Any, given: np.ndarray) -> Any:
        """The value of `past_key_values` for a first call."""
        return None

    def constant(self, value: np.ndarray) -> Any:
        """A tensor of the framework."""
        raise NotImplementedError

    def parameters(self, model: Any) -> Arrays:
        """Every parameter by canonical name, in PyTorch's shapes."""
        raise NotImplementedError


class PyTorch(Backend):
    name = "pt"

    def constant(self, value: Any) -> Any:
        import torch

        return torch.from_numpy(np.array(value))

    def call(self, model: Any, inputs: Mapping[str, Any], **flags: Any) -> Any:
        import torch

        with torch.no_grad():
            return model(**{name: self.constant(value) for name, value in inputs.items()}, **flags)

    def gradients(self, model: Any, inputs: Mapping[str, Any], scalar: Callable[[Any], Any]) -> Arrays:
        from roberta.pt.weights import native

        model.zero_grad()
        scalar(model(**{name: self.constant(value) for name, value in inputs.items()})).backward()
        return {
            name: np.zeros(parameter.shape) if parameter.grad is None else parameter.grad.numpy()
            for name, (parameter, _) in native(model).items()
        }

    def parameters(self, model: Any) -> Arrays:
        return {name: tensor.float().numpy() if tensor.element_size() == 2 else tensor.numpy()
                for name, tensor in model.state_dict().items()}  # fmt: skip


class TensorFlow(Backend):
    name = "tf"

    def constant(self, value: Any) -> Any:
        import tensorflow as tf

        return tf.constant(value)

    def call(self, model: Any, inputs: Mapping[str, Any], **flags: Any) -> Any:
        return model(**{name: self.constant(value) for name, value in inputs.items()}, **flags)

    def gradients(self, model: Any, inputs: Mapping[str, Any], scalar: Callable[[Any], Any]) -> Arrays:
        import tensorflow as tf

        from roberta.tf.weights import native

        table = native(model)
        variables = [variable.value for variable, _ in table.values()]
        with tf.GradientTape() as tape:
            value = scalar(self.call(model, inputs))
        found = tape.gradient(value, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return {
            name: turned(tf.convert_to_tensor(gradient).numpy(), transposed)
            for (name, (_, transposed)), gradient in zip(table.items(), found, strict=True)
        }

    def parameters(self, model: Any) -> Arrays:
        from roberta.tf.weights import native

        return {name: turned(variable.numpy(), transposed) for name, (variable, transposed) in native(model).items()}


class Flax(Backend):
    name = "flax"

    def constant(self, value: Any) -> Any:
        import jax.numpy as jnp

        return jnp.asarray(value)

    def call(self, model: Any, inputs: Mapping[str, Any], **flags: Any) -> Any:
        return model(**{name: self.constant(value) for name, value in inputs.items()}, **flags)

    def empty_cache(self, model: Any, given: np.ndarray) -> Any:
        return model.init_cache(given.shape[0], given.shape[1] + 3)

    def gradients(self, model: Any, inputs: Mapping[str, Any], scalar: Callable[[Any], Any]) -> Arrays:
        import jax

        from roberta.flax.weights import from_native, native

        found = jax.jit(jax.grad(lambda params: scalar(self.call(model, inputs, params=params))))(model.params)
        return {name: from_native(*leaf) for name, leaf in native(found).items()}

    def parameters(self, model: Any) -> Arrays:
        from roberta.flax.weights import from_native, native

        return {name: from_native(*leaf) for name, leaf in native(model.params).items()}


def turned(array: np.ndarray, transposed: bool) -> np.ndarray:
    return array.T if transposed else array


def flat(output: Any) -> Arrays:
    """A model output's arrays by name."""
    arrays: Arrays = {}
    for name, value in output.items():
        if name == "past_key_values":
            continue
        if isinstance(value, tuple | list):
            arrays.update((f"{name}.{index}", np.asarray(item)) for index, item in enumerate(value))
        else:
            arrays[name] = np.asarray(value)
    return arrays


@functools.cache
def backend(name: str) -> Backend:
    """Return a backend; skip the test if its framework is not installed."""
    for module in NEEDS[name]:
        pytest.importorskip(module, reason=f"{module} is not installed")
    if name == "flax":
        import jax

        jax.config.update("jax_enable_x64", True)
    return {"pt": PyTorch, "tf": TensorFlow, "flax": Flax}[name]()


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """Assert that the largest difference, relative to the largest expected value, is small."""
    assert found.shape == wanted.shape, (found.shape, wanted.shape)
    if not wanted.size:
        return 0.0
    scale = np.abs(wanted).max()
    return float(np.abs(np.asarray(found, np.float64) - wanted).max() / (scale if scale else 1.0))


def assert_close(found: np.ndarray, wanted: np.ndarray, bound: float = 1e-10, what: str = "") -> None:
    assert np.isfinite(found).all(), f"{what} is not finite"
    difference = relative(found, wanted)
    assert difference < bound, f"{what} differs by {difference:.2e}, the bound is {bound:.0e}"
