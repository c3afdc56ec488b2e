"""Whatever a caller has done to a PyTorch model, `infer` returns the results of its forward pass."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import assert_close, backend

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations, parametrize, prune  # noqa: E402

from roberta import RobertaForTokenClassification, RobertaModel  # noqa: E402
from roberta.pt import layers  # noqa: E402

PT = backend("pt")
HEAD: Any = "ForTokenClassification"
INPUTS = checkpoints.batch(HEAD, checkpoints.small_config(HEAD))


class Lora(nn.Module):
    """A projection with a product of two thin matrices beside it, like an adapter."""

    def __init__(self, base: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, rank, bias=False, dtype=base.weight.dtype)
        self.up = nn.Linear(rank, base.out_features, bias=False, dtype=base.weight.dtype)

    def forward(self, hidden: Any) -> Any:
        return self.base(hidden) + self.up(self.down(hidden))


class Shifted(nn.Linear):
    def forward(self, hidden: Any) -> Any:
        return super().forward(hidden) + 1


class LouderModel(RobertaModel):
    def forward(self, *arguments: Any, **options: Any) -> Any:
        output = super().forward(*arguments, **options)
        output.last_hidden_state = output.last_hidden_state * 2
        return output


class LouderHead(RobertaForTokenClassification):
    def forward(self, *arguments: Any, **options: Any) -> Any:
        output = super().forward(*arguments, **options)
        output.logits = output.logits * 2
        return output


class LouderLayer(layers.Layer):
    def feed_forward(self, hidden: Any) -> Any:
        return super().feed_forward(hidden) * 2


class Tagged(nn.Parameter):
    """A parameter with its own product, twice as large, as quantised tensors have their own."""

    @classmethod
    def __torch_function__(cls, function: Any, kinds: Any, arguments: Any = (), options: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            result = function(*arguments, **(options or {}))
        return result * 2 if function is nn.functional.linear else result


class Halving(nn.Module):
    """A replacement for dropout that also acts in eval mode."""

    def forward(self, hidden: Any) -> Any:
        return hidden / 2


def query(model: Any) -> Any:
    return model.roberta.encoder.layer[0].attention.self.query


def put(name: str, make: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A change that replaces a module by the result of `make`."""

    def change(model: Any) -> None:
        owner, _, last = name.rpartition(".")
        setattr(model.get_submodule(owner), last, make(model.get_submodule(name)))

    return change


def recast(kind: type[nn.Module]) -> Callable[[Any], Any]:
    """The same module with another class."""

    def change(module: Any) -> Any:
        module.__class__ = kind
        return module

    return change


def twice(_module: Any, _inputs: Any, output: Any) -> Any:
    return output * 2


def own_forward(model: Any) -> None:
    dense = query(model)
    dense.forward = types.MethodType(lambda self, hidden: nn.Linear.forward(self, hidden) * 3, dense)


def own_method(model: Any) -> None:
    layer = model.roberta.encoder.layer[1]
    plain = layer.feed_forward
    layer.feed_forward = lambda hidden: plain(hidden) * 3


def tagged(model: Any) -> None:
    dense = query(model)
    dense.weight = Tagged(dense.weight.detach())


def activation(model: Any) -> None:
    model.roberta.encoder.layer[0].intermediate.activation = "relu"


def no_bias(model: Any) -> None:
    query(model).bias = None


def double(module: Any) -> Any:
    return nn.Sequential(module, nn.Linear(module.out_features, module.out_features, dtype=torch.float64))


def short_rows(model: Any) -> None:
    model.roberta.embeddings.word_embeddings.max_norm = 0.5


def other_config(model: Any) -> None:
    model.roberta.embeddings.config = type(model.config)(**{**model.config.to_dict(), "pad_token_id": 5})


FIRST = "roberta.encoder.layer.0"
CHANGES: dict[str, Callable[[Any], Any]] = {
    "LoRA": put(f"{FIRST}.attention.self.query", Lora),
    "LoRA in the last layer": put("roberta.encoder.layer.1.output.dense", Lora),
    "a module and another": put(f"{FIRST}.intermediate.dense", double),
    "an adapter after a norm": put(f"{FIRST}.output.LayerNorm", lambda norm: nn.Sequential(norm, Halving())),
    "a wrapped embedding": put("roberta.embeddings.position_embeddings", lambda table: nn.Sequential(table, Halving())),
    "a Linear of a subclass": put(f"{FIRST}.attention.self.value", recast(Shifted)),
    "a layer of a subclass": put(FIRST, recast(LouderLayer)),
    "an encoder of a subclass": put("roberta", recast(LouderModel)),
    "a class of its own": recast(LouderHead),
    "dropout that stays on": put("dropout", lambda _: Halving()),
    "dropout in a layer that stays on": put(f"{FIRST}.output.dropout", lambda _: Halving()),
    "a forward hook": lambda model: query(model).register_forward_hook(twice),
    "a hook of the head": lambda model: model.classifier.register_forward_hook(twice),
    "a hook of the model": lambda model: model.roberta.encoder.layer[1].output.register_forward_hook(twice),
    "a hook before forward": lambda model: query(model).register_forward_pre_hook(lambda _, given: (given[0] * 2,)),
    "weight norm": lambda model: parametrizations.weight_norm(query(model)).parametrizations.weight.original0.data.mul_(2),
    "spectral norm": lambda model: parametrizations.spectral_norm(query(model)),
    "a parametrisation": lambda model: parametrize.register_parametrization(query(model), "weight", Halving()),
    "pruned weights": lambda model: prune.l1_unstructured(query(model), "weight", amount=0.5),
    "a forward of one module": own_forward,
    "a method of one module": own_method,
    "a tensor subclass": tagged,
    "another activation": activation,
    "no bias": no_bias,
    "rows of bounded length": short_rows,
    "another config in a module": other_config,
    "fewer layers": lambda model: model.roberta.encoder.layer.__delitem__(1),
    "one layer twice": lambda model: model.roberta.encoder.layer.__setitem__(1, model.roberta.encoder.layer[0]),
    "another activation everywhere": lambda model: [setattr(m, "activation", "tanh") for m in model.modules()
                                                    if isinstance(m, layers.Intermediate)],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.make(tmp_path_factory.mktemp("altered"), HEAD)


def assert_as_forward(model: Any) -> None:
    wanted = PT.run(model.eval(), INPUTS)["logits"]
    where = INPUTS["attention_mask"] > 0
    assert_close(model.infer(INPUTS)["logits"], np.where(where[..., None], wanted, 0))
    assert_close(model.infer(INPUTS, where=where, batch_tokens=12)["logits"], wanted[where])


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("comes_late", [False, True], ids=["at first", "after a call"])
def test_a_changed_model_infers_what_it_computes(name: str, comes_late: bool, folder: Path) -> None:
    model = PT.load(HEAD, folder)
    before = model.infer(INPUTS)["logits"] if comes_late else PT.run(model, INPUTS)["logits"]
    torch.manual_seed(0)
    CHANGES[name](model)
    assert_as_forward(model)
    real = INPUTS["attention_mask"] > 0
    assert np.abs(before - model.infer(INPUTS)["logits"])[real].max() > 1e-3  # the change takes effect


@contextlib.contextmanager
def hooks_for_all_modules() -> Iterator[None]:
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, _, output: output * 2 if isinstance(module, nn.Linear) else None
    )
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def a_class_with_other_code() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers.Layer, "feed_forward", lambda self, hidden: hidden)
        yield


@pytest.mark.parametrize("altered", [hooks_for_all_modules, a_class_with_other_code])
def test_what_holds_for_all_models_is_seen_as_long_as_it_lasts(altered: Any, folder: Path) -> None:
    model = PT.load(HEAD, folder)
    before = model.infer(INPUTS)["logits"]
    with altered():
        assert_as_forward(model)
        assert not np.allclose(model.infer(INPUTS)["logits"], before)
    assert np.array_equal(model.infer(INPUTS)["logits"], before)


def test_a_hook_that_is_taken_away_is_gone(folder: Path) -> None:
    model = PT.load(HEAD, folder)
    before = model.infer(INPUTS)["logits"]
    handle = query(model).register_forward_hook(twice)
    assert not np.allclose(model.infer(INPUTS)["logits"], before)
    handle.remove()
    assert np.array_equal(model.infer(INPUTS)["logits"], before)


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
def test_another_dtype_of_a_changed_model_is_refused_with_a_way_out(dtype: str, folder: Path) -> None:
    model = PT.load(HEAD, folder, dtype="float32")
    wanted = model.infer(INPUTS, dtype=dtype)["logits"]
    handle = query(model).register_forward_hook(twice)
    with pytest.raises(ValueError, match=r"layer.0.attention.self.query has hooks.* omit dtype, or take away"):
        model.infer(INPUTS, dtype=dtype)
    assert model.infer(INPUTS)["logits"].shape == wanted.shape
    handle.remove()
    assert np.array_equal(model.infer(INPUTS, dtype=dtype)["logits"], wanted)


def test_weights_of_several_dtypes_go_through_the_forward_pass(folder: Path) -> None:
    model = PT.load(HEAD, folder, dtype="float32")
    model.infer(INPUTS)
    model.classifier.double()
    model.classifier.register_forward_pre_hook(lambda _, given: (given[0].double(),))
    assert model.infer(INPUTS)["logits"].dtype == np.float64


def test_every_module_keeps_its_mode(folder: Path) -> None:
    model = PT.load(HEAD, folder)
    model.train()
    model.roberta.embeddings.eval()
    query(model).register_forward_hook(twice)
    modes = [module.training for module in model.modules()]
    model.infer(INPUTS)
    assert [module.training for module in model.modules()] == modes


def test_choices_of_an_example_stay_together(tmp_path: Path) -> None:
    """A head that compares the choices of an example."""
    model = PT.load("ForMultipleChoice", checkpoints.make(tmp_path, "ForMultipleChoice"))
    given = {
        name: np.concatenate([value] * 2)
        for name, value in checkpoints.batch("ForMultipleChoice", model.config).items()
    }
    model.classifier.register_forward_hook(lambda _, __, output: output - output.mean(dim=0))
    wanted = PT.run(model, {name: value[:1] for name, value in given.items()})["logits"]
    assert_close(model.infer(given, batch_tokens=1)["logits"], np.concatenate([wanted] * 2))


@pytest.mark.parametrize("result", [tuple, lambda output: {"scores": output.logits}])
def test_a_forward_pass_with_another_result_is_named(result: Any, folder: Path) -> None:
    model = PT.load(HEAD, folder)
    model.register_forward_hook(lambda _, __, output: result(output))
    with pytest.raises(ValueError, match="infer needs logits, in a mapping by name"):
        model.infer(INPUTS)


def test_a_pipeline_has_the_numbers_of_a_model_with_an_adapter() -> None:
    from roberta import pipeline

    tagger = pipeline("fill-mask", framework="pt")
    put(f"{FIRST}.attention.self.value", Lora)(tagger.model)
    text = f"To be, or not to {tagger.tokenizer.mask_token}"
    ids = torch.tensor([tagger.tokenizer(text)["input_ids"]])
    with torch.no_grad():
        logits = tagger.model(ids).logits[ids == tagger.tokenizer.mask_token_id][0]
    assert tagger(text, top_k=1)[0]["score"] == pytest.approx(float(logits.softmax(dim=-1).max()), rel=1e-4)
