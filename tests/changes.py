"""Changes that users make to models, by framework: those that a folder can hold, and the others with the way out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

LAYER = "roberta.encoder.layer.0."
DENSE = f"{LAYER}output.dense"


@dataclass(frozen=True)
class Change:
    """One change of a masked LM with one layer.

    Attributes:
        make: changes the model.
        refused: what the error says when the changed model is saved; empty if it can be saved.
        mend: follows the way out that the error names; may return a dict of arguments for `save_pretrained`.
    """

    make: Callable[[Any], Any]
    refused: str = ""
    mend: Callable[[Any], Any] | None = None


def config(**fields: Any) -> Callable[[Any], None]:
    return lambda model: model.config.update(fields)


# -- PyTorch ------------------------------------------------------------------------------------------------------


def part(name: str) -> Callable[[Any], Any]:
    return lambda model: model.get_submodule(name)


def put(name: str, make: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Replace a module by the result of `make`."""

    def change(model: Any) -> None:
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, make(model.get_submodule(name)))

    return change


def lora(old: Any) -> Any:
    """A low-rank adapter around a linear layer, named as peft names it."""
    import torch

    class Adapted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base_layer = old
            self.lora_A = torch.nn.Linear(old.in_features, 2, bias=False, dtype=old.weight.dtype)
            self.lora_B = torch.nn.Linear(2, old.out_features, bias=False, dtype=old.weight.dtype)

        def forward(self, hidden: Any) -> Any:
            return self.base_layer(hidden) + self.lora_B(self.lora_A(hidden))

    return Adapted()


def merge(model: Any) -> None:
    import torch

    adapted = model.get_submodule(DENSE)
    with torch.no_grad():
        adapted.base_layer.weight += adapted.lora_B.weight @ adapted.lora_A.weight
    put(DENSE, lambda _: adapted.base_layer)(model)


def times(factor: float) -> Callable[[Any], Any]:
    """The same layer in a user's own class, with its result multiplied by a factor."""
    import torch

    class Own(torch.nn.Linear):
        def forward(self, hidden: Any) -> Any:
            return super().forward(hidden) * factor

    def make(old: Any) -> Any:
        new = Own(old.in_features, old.out_features, dtype=old.weight.dtype)
        new.load_state_dict(old.state_dict())
        return new

    return make


def parametrize(model: Any) -> None:
    import torch

    class Doubled(torch.nn.Module):
        def forward(self, weight: Any) -> Any:
            return weight * 2

    torch.nn.utils.parametrize.register_parametrization(model.get_submodule(DENSE), "weight", Doubled())


def bake(model: Any) -> None:
    import torch

    torch.nn.utils.parametrize.remove_parametrizations(model.get_submodule(DENSE), "weight")


def mask(model: Any) -> None:
    from torch.nn.utils import prune

    prune.l1_unstructured(model.get_submodule(DENSE), "weight", 0.5)


def unmask(model: Any) -> None:
    from torch.nn.utils import prune

    prune.remove(model.get_submodule(DENSE), "weight")


def weight(name: str, make: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Replace a weight by the result of `make`."""
    import torch

    def change(model: Any) -> None:
        module = model.get_submodule(name)
        module.weight = torch.nn.Parameter(make(module.weight.detach()), requires_grad=False)

    return change


def two_tensor(old: Any) -> Any:
    from torch.testing._internal.two_tensor import TwoTensor

    return TwoTensor(old, old)


def distribute(old: Any) -> Any:
    import torch.distributed as dist
    from torch.distributed.tensor import distribute_tensor

    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    return distribute_tensor(old, dist.init_device_mesh("cpu", (1,)))


def gather(model: Any) -> dict[str, Any]:
    import torch.distributed as dist
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    dist.destroy_process_group()
    return {"state_dict": state}


def pytorch() -> dict[str, Change]:
    import torch
    from torch import nn

    words, decoder = "roberta.embeddings.word_embeddings", "lm_head.decoder"
    cut = weight(decoder, lambda old: old + 1)
    compiled = lambda model: torch.compile(model, backend="eager")  # noqa: E731
    return {
        "heads pruned": Change(lambda model: model.prune_heads({0: [1]})),
        "resized": Change(lambda model: model.resize_token_embeddings(70)),
        "retyped": Change(lambda model: model.half()),
        "a compiled layer": Change(put("roberta.encoder.layer.0", compiled)),
        "a class of its own, same numbers": Change(put(DENSE, times(1.0))),
        "a class of its own": Change(put(DENSE, times(2.0)), r"output\.dense is a Own with a way of its own"),
        "a sequence of layers": Change(put(DENSE, nn.Sequential), r"missing: \S+output\.dense\.weight"),
        "adapters": Change(put(DENSE, lora), r"missing: \S+dense\.weight(.|\n)*lora_A(.|\n)*merge_and_unload", merge),
        "a parametrization": Change(parametrize, r"remove_parametrizations\(module, 'weight'\)", bake),
        "a mask of pruning": Change(mask, r"prune\.remove\(module, 'weight'\)", unmask),
        "8 bits": Change(weight(DENSE, lambda old: old.to(torch.float8_e4m3fn)), "is of type float8_e4m3fn"),
        "a tensor of another kind": Change(weight(DENSE, two_tensor), r"is a TwoTensor(.|\n)*save the model before"),
        "spread over devices": Change(
            weight(DENSE, distribute), r"is split over processes(.|\n)*state_dict=state", gather
        ),
        "no values": Change(weight(DENSE, lambda old: old.to("meta")), "on the meta device"),
        "a bias taken away": Change(
            lambda model: setattr(part(DENSE)(model), "bias", None), r"missing: \S+dense\.bias"
        ),
        "a parameter more": Change(
            lambda model: model.register_parameter("mine", nn.Parameter(torch.ones(1))), "not of this class: mine"
        ),
        "ties cut": Change(cut, r"here they differ(.|\n)*call model\.tie_weights", config(tie_word_embeddings=False)),
        "ties cut, tied again": Change(cut, r"call model\.tie_weights\(\)", lambda model: model.tie_weights()),
        "a decoder with a bias of its own": Change(
            put(decoder, lambda old: nn.Linear(24, 61, dtype=torch.float64)), r"decoder\.bias and lm_head\.bias are one"
        ),
        "an embedding of another size": Change(
            put(words, lambda old: nn.Embedding(70, 24, dtype=torch.float64)),
            r"is \[70, 24\], and \[61, 24\] by the con",
        ),
        "another activation": Change(config(hidden_act="relu"), "hidden_act is 'relu'", config(hidden_act="gelu")),
        "another epsilon": Change(config(layer_norm_eps=0.1), "layer_norm_eps is 0.1"),
        "another vocabulary": Change(config(vocab_size=99), r"is \[61, 24\], and \[99, 24\]", config(vocab_size=61)),
    }


# -- TensorFlow ---------------------------------------------------------------------------------------------------


def keras_layer(model: Any) -> Any:
    return model.roberta.encoder.layer[0]


def keras_lora(layer: Any) -> None:
    layer.enable_lora(2)
    rng = np.random.default_rng(0)
    for variable in layer.trainable_variables:
        if "lora" in variable.path:
            variable.assign(rng.normal(size=variable.shape) / 10)


def every_lora(model: Any) -> None:
    import keras

    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dense | keras.layers.Embedding):
            keras_lora(layer)


def keras_put(make: Callable[[Any], Any]) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        owner = keras_layer(model).intermediate
        owner._tracker.unlock()
        owner.dense = make(owner.dense)

    return change


def keras_times(factor: float) -> Callable[[Any], Any]:
    import keras

    class Own(keras.layers.Dense):
        def call(self, inputs: Any, training: Any = None) -> Any:
            return super().call(inputs) * factor

    def make(old: Any) -> Any:
        new = Own(old.units, dtype=old.dtype_policy)
        new.build((None, old.kernel.shape[0]))
        new.set_weights(old.get_weights())
        return new

    return make


def keras_more(model: Any) -> None:
    import keras

    model._tracker.unlock()
    model.mine = keras.layers.Dense(2)
    model.mine.build((None, 3))


def quantize(mode: str) -> Change:
    return Change(lambda model: model.quantize(mode), rf"quantize\('{mode}'\), and a folder has no place for scales")


def tensorflow() -> dict[str, Change]:
    import keras

    def activate(model: Any) -> None:
        keras_layer(model).intermediate.dense.activation = keras.activations.relu

    return {
        "resized": Change(lambda model: model.resize_token_embeddings(70)),
        "adapters of Keras": Change(every_lora),
        "a class of its own, same numbers": Change(keras_put(keras_times(1.0))),
        "a class of its own": Change(keras_put(keras_times(2.0)), "is a Own with a way of its own"),
        "a sequence of layers": Change(keras_put(lambda old: keras.Sequential([old])), r"missing: \S+dense\.weight"),
        "8 bits": quantize("int8"),
        "4 bits": quantize("int4"),
        "8 bits, floating": quantize("float8"),
        "a layer more": Change(keras_more, "not of this class: .*kernel"),
        "an activation more": Change(activate, r"intermediate\.dense is a Dense with a way of its own"),
        "another activation": Change(config(hidden_act="relu"), "hidden_act is 'relu'", config(hidden_act="gelu")),
        "another epsilon": Change(config(layer_norm_eps=0.1), "layer_norm_eps is 0.1"),
        "another vocabulary": Change(config(vocab_size=99), r"is \[61, 24\], and \[99, 24\]", config(vocab_size=61)),
        "untied by the config alone": Change(
            config(tie_word_embeddings=False), "tie_word_embeddings is False, and the"
        ),
    }


# -- Flax ---------------------------------------------------------------------------------------------------------


def leaf(name: str, make: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Give the dense layer another leaf, made from its kernel."""

    def change(model: Any) -> None:
        dense = model.params["roberta"]["encoder"]["layer"]["0"]["output"]["dense"]
        dense[name] = make(dense["kernel"])

    return change


def drop(name: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        del model.params["roberta"]["encoder"]["layer"]["0"]["output"]["dense"][name]

    return change


def tree(make: Callable[[Any], Any]) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model._params = make(model.params)

    return change


def donate(model: Any) -> None:
    model.params["lm_head"]["bias"].delete()


def other_module(model: Any) -> None:
    class Own(type(model.module)):  # type: ignore[misc]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)

    model.module = Own(model.config, model.dtype)


def flax() -> dict[str, Change]:
    import jax
    import jax.numpy as jnp
    from flax.core import freeze

    def retype(model: Any) -> None:
        model.params = model.to_bf16(model.params)

    def replace(model: Any) -> None:
        model.config = type(model.config).from_dict({**model.config.to_dict(), "num_attention_heads": 4})

    return {
        "resized": Change(lambda model: model.resize_token_embeddings(70)),
        "retyped": Change(retype),
        "frozen": Change(tree(freeze)),
        "arrays of numpy": Change(tree(lambda params: jax.tree.map(np.asarray, params))),
        "another activation, which is read again": Change(config(hidden_act="relu")),
        "adapters": Change(leaf("lora_a", lambda kernel: kernel[:, :2]), "not of this class: .*lora_a", drop("lora_a")),
        "a weight beside the kernel": Change(
            leaf("weight", lambda kernel: kernel), "not of this class: .*dense/weight"
        ),
        "a leaf taken away": Change(drop("bias"), r"missing: \S+dense\.bias"),
        "another shape": Change(leaf("kernel", lambda kernel: kernel[:, :3]), r"is \[3, 40\], and \[24, 40\]"),
        "integers": Change(leaf("kernel", lambda kernel: kernel.astype("int8")), "is of type int8"),
        "8 bits": Change(leaf("kernel", lambda kernel: kernel.astype(jnp.float8_e4m3fn)), "is of type float8_e4m3fn"),
        "no values": Change(
            lambda model: tree(lambda _: model.params_shape_tree)(model), "is a ShapeDtypeStruct, not an array"
        ),
        "given away": Change(donate, "lm_head/bias was given away"),
        "another module": Change(other_module, "module is a Own with a way of its own"),
        "another config": Change(replace, "num_attention_heads is 4, and the model was built with 3"),
        "another vocabulary": Change(config(vocab_size=99), r"is \[61, 24\], and \[99, 24\]", config(vocab_size=61)),
    }


CHANGES = {"pt": pytorch, "tf": tensorflow, "flax": flax}
