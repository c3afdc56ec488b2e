"""`verify` agrees where it should, and finds a seeded fault in one framework or in a second checkpoint."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import NEEDS, Backend, backend

from roberta.common.parameters import HEADS_WITH_POOLER, Head
from roberta.conversion.verify import Report, verify
from roberta.conversion.verify import inputs as verify_inputs
from roberta.conversion.verify.frameworks import Subject, trace

FRAMEWORKS = ("pt", "tf", "flax")
ALL = ["embedding", "layer 0 attention", "layer 0 feed-forward", "layer 1 attention", "layer 1 feed-forward"]
HEAD_PLACES = {"Model": [], "ForQuestionAnswering": ["head start", "head end"]}


def have(*frameworks: str) -> None:
    for module in (module for name in frameworks for module in NEEDS[name]):
        pytest.importorskip(module)


# -- agreement ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", checkpoints.HEADS)
def test_three_frameworks_agree_on_every_head(head: Head, tmp_path: Path) -> None:
    have(*FRAMEWORKS)
    report = verify(checkpoints.make(tmp_path / "model", head))
    assert report.agree, str(report)
    assert report.exit_code == 0
    assert report.first == {"tf": None, "flax": None}
    pooler = ["pooler"] if head in HEADS_WITH_POOLER else []
    assert [row.place for row in report.places] == [*ALL, *pooler, *HEAD_PLACES.get(head, ["head"])]
    for row in report.places:  # in float64, and really two runs, not one array compared with itself
        assert all(one.relative < 1e-13 for one in row.differences.values()), row
    assert any(one.absolute > 0 for row in report.places for one in row.differences.values())


def test_gradients_of_every_parameter_agree(tmp_path: Path) -> None:
    have(*FRAMEWORKS)
    folder = checkpoints.make(tmp_path / "model", "ForMaskedLM")
    report = verify(folder, gradients=True)
    assert report.agree, str(report)
    names = checkpoints.draw(checkpoints.small_config("ForMaskedLM"), "ForMaskedLM").keys()
    assert [row.place for row in report.gradients] == list(names)
    assert "THE SAME" in str(report)


def test_a_decoder_with_cross_attention_has_a_place_for_it(tmp_path: Path) -> None:
    have("pt", "tf")
    report = verify(checkpoints.make(tmp_path, "ForCausalLM", add_cross_attention=True), frameworks=["pt", "tf"])
    assert report.agree, str(report)
    assert "layer 1 cross-attention" in [row.place for row in report.places]


def test_float32_agrees_within_its_own_rounding(tmp_path: Path) -> None:
    have("pt", "tf")
    report = verify(checkpoints.make(tmp_path, "ForMaskedLM"), frameworks=["pt", "tf"], dtype="float32")
    assert report.agree, str(report)
    assert all(1e-8 < row.rounding / row.largest < 1e-5 for row in report.places)


def test_the_numbers_are_those_of_the_models_themselves(tmp_path: Path) -> None:
    """The row of the head equals a difference of logits computed by the tests' own backends."""
    have("pt", "tf")
    folder = checkpoints.make(tmp_path, "ForMaskedLM")
    ids = [[0, 5, 6, 7, 2], [0, 8, 2]]
    report = verify(folder, frameworks=["pt", "tf"], ids=ids, dtype="float32")
    given = {"input_ids": np.array([[0, 5, 6, 7, 2], [0, 8, 2, 1, 1]])}
    given["attention_mask"] = (given["input_ids"] != 1).astype(np.int64)
    logits = {
        (name, dtype): backend(name).run(backend(name).load("ForMaskedLM", folder, dtype), given)["logits"]
        for name, dtype in [("pt", "float32"), ("pt", "float64"), ("tf", "float32")]
    }
    row = report.places[-1]
    assert row.place == "head"
    assert row.largest == np.abs(logits["pt", "float32"]).max()
    apart = np.abs(logits["tf", "float32"].astype(np.float64) - logits["pt", "float32"]).max()
    assert row.differences["tf"].absolute == pytest.approx(apart, rel=0.5)  # another kernel computes the attention
    assert row.rounding == pytest.approx(np.abs(logits["pt", "float32"] - logits["pt", "float64"]).max(), rel=0.5)


def test_attention_is_what_the_feed_forward_block_reads(backend: Backend, tmp_path: Path) -> None:
    """numpy computes each layer's hidden state from the observed attention."""
    folder = checkpoints.make(tmp_path, "Model", hidden_act="relu")
    config = checkpoints.small_config("Model", hidden_act="relu")
    tensors = checkpoints.draw(config, "Model")
    given = verify_inputs.make_inputs(config, "Model", folder, texts=None, ids=None, seed=3, tokens=9)
    places = trace(backend.name, Subject(folder, "Model"), given, "float64").places
    for layer in range(2):
        attended = places[f"layer {layer} attention"]
        name = f"encoder.layer.{layer}"

        def dense(x: np.ndarray, part: str) -> np.ndarray:
            return x @ tensors[f"{part}.weight"].T + tensors[f"{part}.bias"]

        x = attended + dense(np.maximum(dense(attended, f"{name}.intermediate.dense"), 0), f"{name}.output.dense")
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        x = x * tensors[f"{name}.output.LayerNorm.weight"] + tensors[f"{name}.output.LayerNorm.bias"]
        assert np.abs(x - places[f"layer {layer} feed-forward"]).max() < 1e-12


def test_given_rows_are_padded_and_masked() -> None:
    config = checkpoints.small_config("ForMultipleChoice", pad_token_id=3)
    given = verify_inputs.make_inputs(
        config, "ForMultipleChoice", Path(), texts=None, ids=[[0, 5, 2], [7]], seed=0, tokens=9
    )
    assert given["input_ids"].tolist() == [[[0, 5, 2], [7, 3, 3]]]  # one example of two choices
    assert given["attention_mask"].tolist() == [[[1, 1, 1], [1, 0, 0]]]


def test_drawn_rows_hold_padding_at_their_ends_only_and_every_type() -> None:
    config = checkpoints.small_config("Model")
    given = verify_inputs.make_inputs(config, "Model", Path(), texts=None, ids=None, seed=0, tokens=20)
    assert given["attention_mask"].sum(axis=1).tolist() == [20, 15, 10, 5]
    assert ((given["input_ids"] == config.pad_token_id) == (given["attention_mask"] == 0)).all()
    assert set(given["token_type_ids"].flat) == {0, 1}


# -- faults in a second checkpoint ----------------------------------------------------------------------------------


def transposed(array: np.ndarray) -> np.ndarray:
    return array.T.copy()


def dropped(array: np.ndarray) -> np.ndarray:
    return array * 0


def shifted(array: np.ndarray) -> np.ndarray:
    return np.roll(array, 1, axis=0)


def nudged(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flat[0] *= 1 + 1e-9  # far below what float32 can hold
    return array


FAULTY_TENSORS: list[tuple[Head, str, Callable[[np.ndarray], np.ndarray], str]] = [
    ("ForMaskedLM", "roberta.embeddings.position_embeddings.weight", shifted, "embedding"),
    ("ForMaskedLM", "roberta.embeddings.LayerNorm.bias", dropped, "embedding"),
    ("ForMaskedLM", "roberta.encoder.layer.0.attention.self.query.weight", transposed, "layer 0 attention"),
    ("ForMaskedLM", "roberta.encoder.layer.1.attention.self.value.bias", dropped, "layer 1 attention"),
    ("ForMaskedLM", "roberta.encoder.layer.1.attention.output.dense.weight", transposed, "layer 1 attention"),
    ("ForMaskedLM", "roberta.encoder.layer.0.intermediate.dense.bias", dropped, "layer 0 feed-forward"),
    ("ForMaskedLM", "roberta.encoder.layer.1.output.LayerNorm.weight", nudged, "layer 1 feed-forward"),
    ("ForMaskedLM", "lm_head.dense.weight", transposed, "head"),
    ("ForMaskedLM", "lm_head.bias", nudged, "head"),
    ("ForMultipleChoice", "roberta.pooler.dense.weight", transposed, "pooler"),
    ("ForMultipleChoice", "classifier.bias", dropped, "head"),
    ("ForQuestionAnswering", "qa_outputs.bias", dropped, "head start"),
    ("ForSequenceClassification", "classifier.dense.weight", transposed, "head"),
    ("ForTokenClassification", "classifier.bias", nudged, "head"),
]


@pytest.mark.parametrize(("head", "name", "fault", "place"), FAULTY_TENSORS)
def test_a_wrong_tensor_of_the_second_checkpoint_is_found(
    head: Head, name: str, fault: Callable[[np.ndarray], np.ndarray], place: str, tmp_path: Path
) -> None:
    have("pt")
    config = checkpoints.small_config(head)
    tensors = checkpoints.draw(config, head)
    one = checkpoints.save(tmp_path / "one", config, tensors)
    other = checkpoints.save(tmp_path / "other", config, {**tensors, name: fault(tensors[name])})
    report = verify(one, against=other, frameworks=["pt"])
    assert report.exit_code == 1
    assert report.first == {"against pt": place}
    assert [stored.name for stored in report.tensors] == [name]
    assert f"> {place} " in str(report)
    assert not report.settings


def test_a_checkpoint_beside_its_copy_is_the_same(tmp_path: Path) -> None:
    have("pt")
    one, other = (checkpoints.make(tmp_path / name, "ForMaskedLM") for name in ("one", "other"))
    report = verify(one, against=other, frameworks=["pt"])
    assert report.agree
    assert not report.tensors
    assert not report.settings


@pytest.mark.parametrize(
    ("change", "place"),
    [({"layer_norm_eps": 1e-12}, "embedding"), ({"hidden_act": "gelu_new"}, "layer 0 feed-forward")],
)
def test_a_wrong_setting_of_the_second_checkpoint_is_found(change: dict[str, Any], place: str, tmp_path: Path) -> None:
    have("pt")
    one = checkpoints.make(tmp_path / "one", "ForMaskedLM")
    other = checkpoints.make(tmp_path / "other", "ForMaskedLM", **change)
    report = verify(one, against=other, frameworks=["pt"])
    assert report.first == {"against pt": place}
    assert [setting.partition(":")[0] for setting in report.settings] == list(change)
    assert not report.tensors


@pytest.mark.parametrize(
    ("name", "row", "dtype"),
    [
        ("roberta.embeddings.word_embeddings.weight", -1, "float32"),
        ("roberta.embeddings.position_embeddings.weight", -1, "float16"),
    ],
)
def test_a_fault_in_a_row_that_no_input_reaches_is_not_the_same(
    name: str, row: int, dtype: str, tmp_path: Path
) -> None:
    have("pt")
    config = checkpoints.small_config("ForMaskedLM")
    tensors = checkpoints.draw(config, "ForMaskedLM")
    one = checkpoints.save(tmp_path / "one", config, tensors, "float32")
    changed = tensors[name].copy()
    changed[row] += 0.01
    other = checkpoints.save(tmp_path / "other", config, {**tensors, name: changed}, dtype)
    report = verify(one, against=other, frameworks=["pt"], ids=[[0, 5, 2]])
    assert report.exit_code == 1
    assert f"NOT THE SAME: stored tensors differ by more than a type rounds off: 1\n  {name}" in str(report)


def test_other_names_of_labels_are_not_the_same(tmp_path: Path) -> None:
    have("pt")
    heads = {"one": {0: "good", 1: "bad"}, "other": {0: "bad", 1: "good"}}
    one, other = (
        checkpoints.make(tmp_path / name, "ForSequenceClassification", num_labels=None, id2label=names)
        for name, names in heads.items()
    )
    report = verify(one, against=other, frameworks=["pt"])
    assert not report.agree
    assert "NOT THE SAME: the labels have other names (id2label)." in str(report)
    assert "id2label: {0: 'good', 1: 'bad'} and {0: 'bad', 1: 'good'}" in str(report)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounding_to_a_narrower_file_is_no_fault(dtype: str, tmp_path: Path) -> None:
    have("pt")
    one = checkpoints.make(tmp_path / "one", "ForMaskedLM", dtype="float32")
    other = checkpoints.make(tmp_path / "other", "ForMaskedLM", dtype=dtype)
    report = verify(one, against=other, frameworks=["pt"])
    assert report.agree, str(report)
    assert report.tensors  # they do differ, and are listed
    assert f"float32 and {dtype}" in str(report)


def test_a_fault_shows_beside_the_rounding_of_a_narrower_file(tmp_path: Path) -> None:
    have("pt")
    config = checkpoints.small_config("ForMaskedLM")
    tensors = checkpoints.draw(config, "ForMaskedLM")
    one = checkpoints.save(tmp_path / "one", config, tensors, "float32")
    name = "roberta.encoder.layer.1.attention.output.dense.weight"
    other = checkpoints.save(tmp_path / "other", config, {**tensors, name: tensors[name].T.copy()}, "float16")
    assert verify(one, against=other, frameworks=["pt"]).first == {"against pt": "layer 1 attention"}


def test_a_value_that_is_not_finite_is_never_the_same(tmp_path: Path) -> None:
    have("pt")
    config = checkpoints.small_config("ForMaskedLM")
    tensors = checkpoints.draw(config, "ForMaskedLM")
    tensors["roberta.encoder.layer.1.output.dense.bias"][0] = np.nan
    one = checkpoints.save(tmp_path / "one", config, tensors)
    report = verify(one, against=checkpoints.save(tmp_path / "other", config, tensors), frameworks=["pt"])
    assert report.first == {"against pt": "layer 1 feed-forward"}
    text = str(report)
    for name in ("one", "other"):
        assert f"{tmp_path / name} holds roberta.encoder.layer.1.output.dense.bias (nan in 1 of 24 values)" in text
    assert "rounding explains nan" not in text
    assert report.exit_code == 1


def test_a_value_that_is_not_finite_fails_where_no_input_meets_it(tmp_path: Path) -> None:
    have("pt")
    config = checkpoints.small_config("ForMaskedLM")
    tensors = checkpoints.draw(config, "ForMaskedLM")
    tensors["roberta.embeddings.position_embeddings.weight"][-1] = -np.inf
    one = checkpoints.save(tmp_path / "one", config, tensors)
    report = verify(one, against=one, frameworks=["pt"], ids=[[0, 5, 2]])
    assert not report.agree
    assert "NOT COMPARABLE" in str(report)


# -- faults in one framework ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """A mistake in a loaded model of one framework, and the place where it shows first."""

    framework: str
    place: str
    make: Callable[[Any], None]


def wrong_epsilon(model: Any) -> None:
    model.base_model.encoder.layer[1].output.LayerNorm.eps = 1e-12


def wrong_keras_epsilon(model: Any) -> None:
    model.base_model.encoder.layer[0].attention.output.LayerNorm.epsilon = 1e-12


def tanh_gelu(model: Any) -> None:
    table = importlib.import_module(f"roberta.{model.framework}.layers").ACTIVATION_FUNCTIONS
    intermediate = model.base_model.encoder.layer[1].intermediate
    intermediate.activation = "gelu_new" if isinstance(intermediate.activation, str) else table["gelu_new"]


def transposed_keras_kernel(model: Any) -> None:
    kernel = model.base_model.encoder.layer[1].attention.self.query.kernel
    kernel.assign(kernel.numpy().T)


def dropped_flax_bias(model: Any) -> None:
    layer = model.params["roberta"]["encoder"]["layer"]["1"]
    layer["intermediate"]["dense"]["bias"] = layer["intermediate"]["dense"]["bias"] * 0


def transposed_flax_kernel(model: Any) -> None:
    head = model.params["lm_head"]["dense"]
    head["kernel"] = head["kernel"].T


FAULTS = {
    "epsilon in PyTorch": Fault("pt", "layer 1 feed-forward", wrong_epsilon),
    "tanh GELU in PyTorch": Fault("pt", "layer 1 feed-forward", tanh_gelu),
    "epsilon in Keras": Fault("tf", "layer 0 attention", wrong_keras_epsilon),
    "tanh GELU in Keras": Fault("tf", "layer 1 feed-forward", tanh_gelu),
    "kernel in Keras": Fault("tf", "layer 1 attention", transposed_keras_kernel),
    "bias in Flax": Fault("flax", "layer 1 feed-forward", dropped_flax_bias),
    "kernel in Flax": Fault("flax", "head", transposed_flax_kernel),
}


def seed_fault(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant the mistake in every model that the framework loads from now on."""
    class_ = backend(fault.framework).classes("ForMaskedLM")
    right = class_.from_pretrained.__func__

    def load(cls: Any, *args: Any, **kwargs: Any) -> Any:
        model = right(cls, *args, **kwargs)
        fault.make(model)
        return model

    monkeypatch.setattr(class_, "from_pretrained", classmethod(load))


@pytest.mark.parametrize("name", FAULTS)
def test_a_mistake_in_one_framework_is_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    have(*FRAMEWORKS)
    fault = FAULTS[name]
    seed_fault(fault, monkeypatch)
    report = verify(checkpoints.make(tmp_path / "model", "ForMaskedLM"), tokens=10)
    wrong = {"tf", "flax"} if fault.framework == "pt" else {fault.framework}  # pt is the reference
    assert report.first == {other: fault.place if other in wrong else None for other in ("tf", "flax")}, str(report)
    assert report.suspect == fault.framework
    assert f"{fault.framework} is the odd one out" in str(report)
    assert report.exit_code == 1


def test_shifted_positions_in_one_framework_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    have("pt", "tf")
    layers = importlib.import_module("roberta.tf.layers")
    right = layers.position_ids
    monkeypatch.setattr(layers, "position_ids", lambda *args: right(*args) + 1)
    report = verify(checkpoints.make(tmp_path, "ForMaskedLM"), frameworks=["pt", "tf"], tokens=10)
    assert report.first == {"tf": "embedding"}
    assert "roberta.embeddings.*" in str(report)


def test_float32_hides_an_epsilon_that_float64_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    have("pt", "tf")
    folder = checkpoints.make(tmp_path, "ForMaskedLM")

    def slightly(model: Any) -> None:
        model.base_model.encoder.layer[1].output.LayerNorm.eps = 1.001e-5

    seed_fault(Fault("pt", "layer 1 feed-forward", slightly), monkeypatch)
    assert verify(folder, frameworks=["pt", "tf"], dtype="float32").agree
    assert verify(folder, frameworks=["pt", "tf"]).first == {"tf": "layer 1 feed-forward"}


def test_a_mistake_in_gradients_alone_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lookup that trains the padding row: the same values, but a different gradient."""
    have("pt", "tf")

    def learning_padding(model: Any) -> None:
        model.base_model.embeddings.word_embeddings.padding_id = None

    seed_fault(Fault("tf", "", learning_padding), monkeypatch)
    folder = checkpoints.make(tmp_path, "ForMaskedLM")
    assert verify(folder, frameworks=["pt", "tf"]).agree
    report = verify(folder, frameworks=["pt", "tf"], gradients=True)
    assert report.exit_code == 1
    assert report.first == {"tf": None}
    wrong = [row.place for row in report.gradients if not row.differences["tf"].is_explained]
    assert wrong == ["roberta.embeddings.word_embeddings.weight"]
    assert "the values agree, the gradients do not" in str(report)


def test_float64_of_jax_is_as_it_was_before(tmp_path: Path) -> None:
    have("pt", "flax")
    import jax

    before = jax.config.jax_enable_x64
    try:
        for value in (False, True):
            jax.config.update("jax_enable_x64", value)
            report: Report = verify(checkpoints.make(tmp_path, "ForMaskedLM"), frameworks=["pt", "flax"], tokens=4)
            assert report.agree, str(report)
            assert jax.config.jax_enable_x64 is value
    finally:
        jax.config.update("jax_enable_x64", before)
