"""Features that only Flax has: linen modules and params by themselves, jit, grad, TrainState, and dropout keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import assert_close, backend

from roberta.common.outputs import MaskedLMOutput

jax = pytest.importorskip("jax", reason="jax is not installed")
flax = pytest.importorskip("flax", reason="flax is not installed")
FLAX = backend("flax")
CONFIG = checkpoints.small_config()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return checkpoints.make(tmp_path / "model", "ForMaskedLM", num_hidden_layers=1)


def inputs() -> dict[str, np.ndarray]:
    return checkpoints.batch("Model", CONFIG)


def test_the_tree_is_that_of_transformers(folder: Path) -> None:
    params = FLAX.load("ForMaskedLM", folder).params
    assert set(params) == {"roberta", "lm_head"}
    assert set(params["lm_head"]) == {"bias", "dense", "layer_norm"}
    assert params["roberta"]["encoder"]["layer"]["0"]["attention"]["self"]["query"]["kernel"].shape == (24, 24)
    assert set(params["roberta"]["embeddings"]["LayerNorm"]) == {"scale", "bias"}
    assert set(FLAX.load("Model", folder, add_pooling_layer=False).params) == {"embeddings", "encoder"}


def test_the_module_alone_and_compiled(folder: Path) -> None:
    model = FLAX.load("ForMaskedLM", folder)
    wanted = np.asarray(model(**inputs()).logits)
    alone = model.module.apply({"params": model.params}, **{n: jax.numpy.asarray(a) for n, a in inputs().items()})
    assert_close(np.asarray(alone.logits), wanted, 1e-14)
    compiled = jax.jit(lambda params, ids, mask, types: model(ids, mask, types, params=params).logits)
    given = inputs()
    found = compiled(model.params, given["input_ids"], given["attention_mask"], given["token_type_ids"])
    assert_close(np.asarray(found), wanted)


def test_compiled_code_refuses_wrong_ids_or_makes_nan_of_them(folder: Path) -> None:
    from roberta.flax.layers import check_values

    model = FLAX.load("ForMaskedLM", folder)
    wrong = inputs()["input_ids"] + 100

    def run() -> None:
        jax.block_until_ready(jax.jit(lambda ids: model(ids).logits)(wrong))
        jax.effects_barrier()

    with pytest.raises(Exception, match="input_ids holds"):  # JAX's own type, raised from ours
        run()
    with check_values(False):
        found = jax.jit(lambda ids: model(ids).logits)(wrong)
    assert np.isnan(np.asarray(found)).any()


def test_a_train_state_learns(folder: Path) -> None:
    import optax
    from flax.training.train_state import TrainState

    model = FLAX.load("ForMaskedLM", folder)
    given = inputs()
    labels = given["input_ids"]
    state = TrainState.create(apply_fn=model.__call__, params=model.params, tx=optax.adam(1e-2))

    @jax.jit
    def step(state: TrainState, key: jax.Array) -> tuple[TrainState, jax.Array]:
        def loss(params: dict) -> jax.Array:
            return state.apply_fn(**given, params=params, dropout_rng=key, train=True, labels=labels).loss

        value, gradients = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=gradients), value

    losses = []
    for index in range(6):
        state, value = step(state, jax.random.fold_in(jax.random.key(0), index))
        losses.append(float(value))
    assert losses[-1] < losses[0]


def test_dropout_needs_a_key_and_follows_it(folder: Path) -> None:
    model = FLAX.load("ForMaskedLM", folder)
    ids = inputs()["input_ids"]
    with pytest.raises(ValueError, match="dropout_rng"):
        model(ids, train=True)
    one, same, other = (model(ids, train=True, dropout_rng=jax.random.key(k)).logits for k in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_without_initialisation_params_are_handed_over(folder: Path) -> None:
    model, params = FLAX.load("ForMaskedLM", folder, _do_init=False)
    with pytest.raises(ValueError, match="_do_init"):
        _ = model.params
    wanted = FLAX.load("ForMaskedLM", folder)(**inputs()).logits
    assert np.array_equal(model(**inputs(), params=params).logits, wanted)
    fresh = model.init_weights(jax.random.key(0), (1, 1))
    assert jax.tree_util.tree_structure(fresh) == jax.tree_util.tree_structure(params)


def test_types_of_parameters(folder: Path) -> None:
    model = FLAX.load("ForMaskedLM", folder, "float32")
    for name in ("bf16", "fp16", "fp32"):
        params = getattr(model, f"to_{name}")(model.params)
        wanted = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}[name]
        assert {str(leaf.dtype) for leaf in jax.tree_util.tree_leaves(params)} == {wanted}


def test_writing_behind_the_end_of_a_cache_is_an_error(tmp_path: Path) -> None:
    model = FLAX.load("ForCausalLM", checkpoints.make(tmp_path, "ForCausalLM", num_hidden_layers=1))
    with pytest.raises(ValueError, match="cache"):
        model(np.full((1, 5), 7), past_key_values=model.init_cache(1, 4))


@pytest.mark.parametrize("inputs", [7, 512, 513, 1300])
def test_a_product_in_parts_loses_no_more_than_one_sum(inputs: int) -> None:
    from roberta.flax.layers import product

    rng = np.random.default_rng(0)
    hidden, kernel = rng.normal(size=(4, 5, inputs)), rng.normal(size=(inputs, 40))
    assert_close(np.asarray(product(jax.numpy.asarray(hidden), jax.numpy.asarray(kernel))), hidden @ kernel, 1e-14)
    single, small = hidden.astype(np.float32), kernel.astype(np.float32)
    wanted = single.astype(np.float64) @ small
    found = np.asarray(product(jax.numpy.asarray(single), jax.numpy.asarray(small)))
    plain = np.asarray(jax.numpy.asarray(single) @ jax.numpy.asarray(small))
    assert found.dtype == np.float32
    assert np.square(found - wanted).mean() <= np.square(plain - wanted).mean()


@pytest.fixture(scope="module")
def model() -> Any:
    """A new float32 model, small enough to run at once."""
    return FLAX.classes("ForMaskedLM")(checkpoints.small_config("ForMaskedLM", num_hidden_layers=1))


def kinds(params: Any) -> set[str]:
    return {str(leaf.dtype) for leaf in jax.tree.leaves(params)}


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float32"])
def test_parameters_keep_the_dtype_they_were_saved_in(model: Any, name: str, tmp_path: Path) -> None:
    saved = jax.tree.map(lambda leaf: leaf.astype(name), model.params)
    model.save_pretrained(tmp_path, params=saved)
    for options in ({}, {"dtype": jax.numpy.float32}, {"dtype": "bfloat16"}, {"dtype": "auto"}):
        loaded = type(model).from_pretrained(tmp_path, **options)
        assert kinds(loaded.params) == {name}
        wanted = name if options.get("dtype") == "auto" else jax.numpy.dtype(options.get("dtype", "float32"))
        assert loaded.dtype == wanted
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded.params, saved))
    assert kinds(type(model).from_pretrained(tmp_path, dtype="float64").params) == {"float64"}
    again, params = type(model).from_pretrained(tmp_path, dtype="float16", _do_init=False)
    assert (kinds(params), again.dtype) == ({name}, "float16")


def test_a_file_of_float64_becomes_float32_unless_float64_is_asked_for(folder: Path) -> None:
    assert kinds(FLAX.classes("ForMaskedLM").from_pretrained(folder).params) == {"float32"}


def test_a_model_computes_in_its_dtype_whatever_its_parameters_are(folder: Path) -> None:
    half = FLAX.load("ForMaskedLM", folder, "bfloat16")
    ids, cast = inputs()["input_ids"], half.to_bf16(half.params)
    assert (kinds(half.params), kinds(cast)) == ({"float32"}, {"bfloat16"})
    found, wanted = half(ids).logits, half(ids, params=cast).logits
    assert (found.dtype, wanted.dtype) == ("bfloat16", "bfloat16")
    assert_close(np.asarray(found, np.float64), np.asarray(wanted, np.float64), 0.03)


def test_masks_choose_what_is_cast(model: Any) -> None:
    mask = jax.tree.map(lambda leaf: leaf.ndim > 1, model.params)
    for name, wanted in (("bf16", "bfloat16"), ("fp16", "float16")):
        found = getattr(model, f"to_{name}")(flax.core.freeze(model.params), mask)
        assert {(leaf.ndim > 1, str(leaf.dtype)) for leaf in jax.tree.leaves(found)} == {
            (True, wanted),
            (False, "float32"),
        }


@pytest.mark.parametrize("lost", ["roberta.embeddings.word_embeddings.embedding", "lm_head.bias"])
def test_params_that_lack_some_are_saved_loaded_and_filled_without_initialisation(
    lost: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from flax.traverse_util import flatten_dict, unflatten_dict

    kind = FLAX.classes("ForMaskedLM")
    model = kind(checkpoints.small_config("ForMaskedLM", num_hidden_layers=1), _do_init=False)
    whole = model.init_weights(model.key, model.input_shape)
    path = tuple(lost.split("."))
    partial = unflatten_dict({place: leaf for place, leaf in flatten_dict(whole).items() if place != path})
    model.save_pretrained(tmp_path, params=flax.core.freeze(partial))
    assert legacy_name(lost) in caplog.text
    with pytest.warns(UserWarning, match=legacy_name(lost)):
        loaded, params = kind.from_pretrained(tmp_path, _do_init=False)
    assert set(flatten_dict(params)) == set(flatten_dict(partial))
    assert loaded._missing_keys == {path}
    filled = loaded.init_weights(loaded.key, loaded.input_shape, params=params)
    assert jax.tree.all(jax.tree.map(np.array_equal, filled, whole))
    initialised = kind(model.config)
    with pytest.raises(ValueError, match="missing"):
        initialised.save_pretrained(tmp_path, params=partial)


def legacy_name(path: str) -> str:
    from roberta.common.formats.flax_msgpack import canonical_name

    return canonical_name(path)[0]


def test_a_file_of_another_model_has_nothing_to_fill(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    (tmp_path / "config.json").write_text(CONFIG.to_json_string())
    save_file({"bert.pooler.weight": np.zeros((2, 2), np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="missing: embeddings"):
        FLAX.classes("Model").from_pretrained(tmp_path, _do_init=False)


def test_weights_files_are_read_as_trees(model: Any, tmp_path: Path) -> None:
    for options, pattern in (
        ({}, "*.safetensors"),
        ({"safe_serialization": False, "max_shard_size": "5kB"}, "*.msgpack"),
    ):
        model.save_pretrained(tmp_path, **options)
        files = sorted(tmp_path.glob(pattern))
        found = type(model).load_flax_sharded_weights(map(str, files))
        assert jax.tree.all(jax.tree.map(np.array_equal, found, model.params))
        if len(files) == 1:
            alone = type(model).load_flax_weights(str(files[0]))
            assert jax.tree.structure(alone) == jax.tree.structure(found)


@pytest.mark.parametrize("head", checkpoints.HEADS)
def test_modules_have_the_names_of_transformers(head: str) -> None:
    import importlib

    from roberta import modeling_flax_roberta

    kind = FLAX.classes(head)
    name = "FlaxRobertaModule" if head == "Model" else f"FlaxRoberta{head}Module"
    assert getattr(importlib.import_module(kind.__module__), name) is kind.module_class
    assert getattr(modeling_flax_roberta, name) is kind.module_class
    assert getattr(modeling_flax_roberta, kind.__name__) is kind


def test_modules_take_their_fields_in_the_order_of_transformers() -> None:
    model = FLAX.classes("Model").module_class(CONFIG, np.float32, False)
    assert (model.add_pooling_layer, model.gradient_checkpointing) == (False, False)
    head = FLAX.classes("ForMaskedLM").module_class(CONFIG, np.float32, True)
    assert head.gradient_checkpointing


def test_whole_floats_are_ids(model: Any) -> None:
    assert np.array_equal(model(np.full((1, 2), 5.0)).logits, model(np.full((1, 2), 5)).logits)
    with pytest.raises(ValueError, match="input_ids is of type float"):
        model(np.full((1, 2), 5.5))


def test_a_model_says_what_it_is(model: Any) -> None:
    number = f"{model.num_parameters():,}"
    assert repr(model) == f"FlaxRobertaForMaskedLM({number} parameters of float32 on cpu:0; computes in float32)"
    held = type(model)(model.config, dtype="bfloat16", _do_init=False)
    assert repr(held) == f"FlaxRobertaForMaskedLM({number} parameters, held elsewhere; computes in bfloat16)"


def test_a_model_from_a_config_alone(model: Any) -> None:
    made = type(model)._from_config(model.config, seed=0, dtype="bfloat16")
    assert jax.tree.all(jax.tree.map(np.array_equal, made.params, model.params))
    assert made.dtype == "bfloat16"


def test_a_function_that_returns_an_output_is_exported_and_comes_back() -> None:
    def call(x: Any) -> MaskedLMOutput:
        return MaskedLMOutput(logits=2 * x, hidden_states=(x, x + 1))

    exported = jax.export.export(jax.jit(call))(jax.ShapeDtypeStruct((2,), np.float32))
    again = jax.export.deserialize(exported.serialize())
    output = again.call(np.ones(2, np.float32))
    assert type(output) is MaskedLMOutput
    np.testing.assert_array_equal(output.logits, [2, 2])
    np.testing.assert_array_equal(output.hidden_states[1], [2, 2])
