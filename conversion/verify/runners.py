"""One model through its framework, with the results of its layers: numpy in, named numpy arrays out.

The three runners have one interface. Nothing is added to the models: PyTorch's attention blocks are watched by
forward hooks that are removed again, Flax's by `capture_intermediates`, and Keras' are called once more with the
hidden states that went into them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from roberta.common.values import Arrays

if TYPE_CHECKING:
    import torch

# Field of a model output -> the name of its place in reports.
_OUTPUTS = {"logits": "head", "start_logits": "head start", "end_logits": "head end"}
# Fields that gradients start from, each with a cotangent of its own.
_DIFFERENTIATED = ("last_hidden_state", "pooler_output", *_OUTPUTS)


@dataclass(frozen=True)
class Trace:
    """What one run computed: arrays by place in the order of computation, and gradients by canonical name."""

    places: Arrays
    gradients: Arrays


def cotangents(output: Mapping[str, Any], seed: int) -> Arrays:
    """A seeded array N(0, 1) for each output, by its field: the same in every framework."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=tuple(output[name].shape)) for name in _DIFFERENTIATED if name in output}


def _places(output: Mapping[str, Any], inner: Mapping[str, Any]) -> dict[str, Any]:
    """The framework's own arrays by place, in the order of computation.

    Args:
        output: of the model, with hidden states.
        inner: results of blocks by place: "layer 0 attention", "layer 0 cross-attention", "pooler".
    """
    embedded, *layers = output["hidden_states"]
    places = {"embedding": embedded}
    for index, hidden in enumerate(layers):
        blocks = (f"layer {index} attention", f"layer {index} cross-attention")
        places |= {name: inner[name] for name in blocks if name in inner}
        places[f"layer {index} feed-forward"] = hidden
    places |= {"pooler": inner["pooler"]} if "pooler" in inner else {}
    return places | {place: output[name] for name, place in _OUTPUTS.items() if name in output}


# -- PyTorch ------------------------------------------------------------------------------------------------------


def _run_pytorch(model: Any, inputs: Arrays, seed: int | None) -> Trace:
    import torch

    from roberta.pt.weights import native, to_numpy

    inner: dict[str, Any] = {}
    tensors = {name: torch.from_numpy(value).to(model.device) for name, value in inputs.items()}
    with ExitStack() as hooks, torch.set_grad_enabled(seed is not None):
        for name, module in _watched(model):
            hooks.enter_context(_watching(module, name, inner))
        output = model(**tensors, output_hidden_states=True, return_dict=True)
        gradients = {}
        if seed is not None:
            terms = [(output[n] * torch.from_numpy(c).to(output[n])).sum() for n, c in cotangents(output, seed).items()]
            sum(terms).backward()
            gradients = {
                name: np.zeros(tuple(leaf.shape)) if leaf.grad is None else to_numpy(leaf.grad)
                for name, (leaf, _) in native(model).items()
            }
    return Trace({name: to_numpy(value) for name, value in _places(output, inner).items()}, gradients)


def _watched(model: Any) -> Iterator[tuple[str, Any]]:
    """The blocks whose result no output holds, by place."""
    base = model.base_model
    for index, layer in enumerate(base.encoder.layer):
        yield f"layer {index} attention", layer.attention
        if layer.crossattention is not None:
            yield f"layer {index} cross-attention", layer.crossattention
    if base.pooler is not None:
        yield "pooler", base.pooler


@contextmanager
def _watching(module: torch.nn.Module, name: str, inner: dict[str, Any]) -> Iterator[None]:
    """Keep the first result of a PyTorch module in `inner`."""

    def keep(_module: object, _arguments: object, result: Any) -> None:
        inner[name] = result[0] if isinstance(result, tuple) else result

    handle = module.register_forward_hook(keep)
    try:
        yield
    finally:
        handle.remove()


# -- TensorFlow ---------------------------------------------------------------------------------------------------


def _run_keras(model: Any, inputs: Arrays, seed: int | None) -> Trace:
    import tensorflow as tf

    from roberta.tf.weights import native

    with tf.GradientTape() as tape:
        output = model(**inputs, output_hidden_states=True, return_dict=True)
        terms = []
        if seed is not None:
            terms = [
                tf.reduce_sum(output[n] * tf.cast(c, output[n].dtype)) for n, c in cotangents(output, seed).items()
            ]
        total = tf.add_n(terms) if terms else None
    gradients = {}
    if total is not None:
        table = native(model)
        found = tape.gradient(
            total,
            [variable.value for variable, _ in table.values()],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        arrays = (tf.convert_to_tensor(gradient).numpy() for gradient in found)
        gradients = {
            name: array.T if turned else array for (name, (_, turned)), array in zip(table.items(), arrays, strict=True)
        }
    return Trace(
        {name: np.asarray(value) for name, value in _places(output, _again(model, inputs, output)).items()}, gradients
    )


def _again(model: Any, inputs: Arrays, output: Mapping[str, Any]) -> dict[str, Any]:
    """The attention blocks' and the pooler's results, from the hidden states that went into them."""
    import tensorflow as tf

    from roberta.tf.layers import attention_bias

    base, states, inner = model.base_model, inputs.get("encoder_hidden_states"), {}
    *before, last = output["hidden_states"]
    seq = last.shape[1]
    mask = tf.constant(inputs["attention_mask"].reshape(-1, seq))
    bias = attention_bias(mask, seq, seq, model.config.is_decoder, last)
    for index, (layer, hidden) in enumerate(zip(base.encoder.layer, before, strict=True)):
        hidden = layer.attention(hidden, bias, None, None, None, need_weights=False)[0]
        inner[f"layer {index} attention"] = hidden
        if states is not None:
            crossed = layer.crossattention(hidden, None, None, tf.constant(states), None, need_weights=False)
            inner[f"layer {index} cross-attention"] = crossed[0]
    if base.pooler is not None:
        inner["pooler"] = base.pooler(last)
    return inner


# -- Flax ---------------------------------------------------------------------------------------------------------


def _run_flax(model: Any, inputs: Arrays, seed: int | None) -> Trace:
    import jax
    import jax.numpy as jnp
    from flax.traverse_util import flatten_dict

    from roberta.flax.layers import Attention, Pooler
    from roberta.flax.weights import from_native, native

    arrays = {name: jnp.asarray(value) for name, value in inputs.items()}
    flags = {"output_hidden_states": True, "return_dict": True, "deterministic": True}
    output, watched = model.module.apply(
        {"params": model.params},
        **arrays,
        **flags,
        capture_intermediates=lambda module, method: isinstance(module, Attention | Pooler) and method == "__call__",
        mutable=["intermediates"],
    )
    inner = {}
    for path, results in flatten_dict(watched["intermediates"]).items():
        block, result = path[-2], results[0]
        kind = {"attention": "attention", "crossattention": "cross-attention"}.get(block)
        inner["pooler" if kind is None else f"layer {path[-3]} {kind}"] = result if kind is None else result[0]
    gradients = {}
    if seed is not None:
        wanted = cotangents(output, seed)

        def total(params: Any) -> Any:
            again = model.module.apply({"params": params}, **arrays, **flags)
            return sum((again[name] * cotangent.astype(again[name].dtype)).sum() for name, cotangent in wanted.items())

        found = jax.jit(jax.grad(total))(model.params)
        gradients = {name: from_native(*leaf) for name, leaf in native(found).items()}
    return Trace({name: np.asarray(value) for name, value in _places(output, inner).items()}, gradients)


# Framework -> model, inputs, and the seed of the cotangents (None: no gradients) -> trace.
RUNNERS: dict[str, Callable[[Any, Arrays, int | None], Trace]] = {
    "pt": _run_pytorch,
    "tf": _run_keras,
    "flax": _run_flax,
}
