"""SavedModels, data sets and `.keras` files as scripts for transformers make them, read by TensorFlow and Keras alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import assert_close, backend

from roberta.tf import keras_names

tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
keras = pytest.importorskip("keras", reason="keras is not installed")
TF = backend("tf")
SMALL = {"num_hidden_layers": 1}


def tensors(head: Any, model: Any, dtype: Any = tf.int32) -> dict[str, Any]:
    return {name: tf.constant(value, dtype) for name, value in checkpoints.batch(head, model.config).items()}


def test_a_saved_model_gives_the_same_numbers(tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path / "model", "ForCausalLM", **SMALL, output_hidden_states=True)
    model = TF.load("ForCausalLM", folder)
    model.save_pretrained(tmp_path / "out", saved_model=True, version=3)
    served = tf.saved_model.load(tmp_path / "out" / "saved_model" / "3").signatures
    wanted = model(**tensors("ForCausalLM", model))
    for name, dtype in (("serving_default", tf.int32), ("int64_serving", tf.int64)):
        found = served[name](**tensors("ForCausalLM", model, dtype))
        assert set(found) == {"logits", "hidden_states", "past_key_values"}
        assert_close(found["logits"].numpy(), wanted.logits.numpy())
        assert_close(found["hidden_states"].numpy(), np.stack(wanted.hidden_states))
        assert_close(found["past_key_values"].numpy(), np.array([[part.numpy() for part in wanted.past_key_values[0]]]))
    TF.load("ForCausalLM", tmp_path / "out")


def test_a_saved_model_of_a_function_of_ones_own(tmp_path: Path) -> None:
    model = TF.load("Model", checkpoints.make(tmp_path / "model", "Model", **SMALL))

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32, name="ids")])
    def first(ids: Any) -> dict[str, Any]:
        return {"first": model(ids).last_hidden_state[:, 0]}

    model.save_pretrained(tmp_path / "out", saved_model=True, signatures=first)
    found = tf.saved_model.load(tmp_path / "out" / "saved_model" / "1").signatures["serving_default"]
    ids = tf.constant([[0, 5, 7, 2]])
    assert_close(found(ids=ids)["first"].numpy(), model(ids).last_hidden_state[:, 0].numpy())


def test_serving_follows_a_new_vocabulary(tmp_path: Path) -> None:
    model = TF.load("ForMaskedLM", checkpoints.make(tmp_path, "ForMaskedLM", **SMALL))
    before = model.serving
    assert model.serving is before
    model.resize_token_embeddings(70)
    given = tensors("ForMaskedLM", model)
    assert_close(model.serving(given).logits.numpy(), model(**given).logits.numpy())
    assert model.serving is not before


class Table:
    """Rows and columns as `datasets.Dataset` returns them."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.columns, self.column_names = columns, list(columns)

    def __len__(self) -> int:
        return len(self.columns["label"])

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {name: values[number] for name, values in self.columns.items()}


def rows() -> dict[str, list[Any]]:
    return {"input_ids": [[0, 5, 2], [0, 5, 7, 8, 2], [0, 2]], "label": [1, 0, 2], "text": ["a", "b", "c"]}


class Tokenizer:
    """A tokenizer that only pads."""

    model_input_names = ("input_ids", "attention_mask")

    def pad(self, texts: list[dict[str, Any]], return_tensors: str) -> dict[str, np.ndarray]:
        width = max(len(text["input_ids"]) for text in texts)
        filled = [text["input_ids"] + [1] * (width - len(text["input_ids"])) for text in texts]
        return {"input_ids": np.array(filled), "attention_mask": (np.array(filled) != 1).astype(np.int64)}


@pytest.mark.parametrize("kind", [Table, dict, lambda columns: [Table(columns)[number] for number in range(3)]])
def test_a_data_set_becomes_batches_that_fit_takes(kind: Any, tmp_path: Path) -> None:
    model = TF.load("ForSequenceClassification", checkpoints.make(tmp_path, "ForSequenceClassification", **SMALL))
    found = model.prepare_tf_dataset(kind(rows()), batch_size=2, shuffle=False, tokenizer=Tokenizer())
    assert len(found) == 2
    batches = list(found.as_numpy_iterator())
    assert batches[0][0]["input_ids"].tolist() == [[0, 5, 2, 1, 1], [0, 5, 7, 8, 2]]
    assert batches[0][0]["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert set(batches[0][0]) == {"input_ids", "attention_mask"}
    assert [batch[1].tolist() for batch in batches] == [[1, 0], [2]]
    model.compile(optimizer="sgd", run_eagerly=True)
    assert len(model.fit(found, epochs=2, verbose=0).history["loss"]) == 2


def test_a_shuffled_data_set_has_whole_batches_in_another_order_each_time(tmp_path: Path) -> None:
    model = TF.load("Model", checkpoints.make(tmp_path, "Model", **SMALL))
    ids = [[number, 2] for number in range(3, 53)]
    found = model.prepare_tf_dataset({"input_ids": ids}, batch_size=4)
    orders = [np.concatenate(list(found.as_numpy_iterator()))[:, 0].tolist() for _ in range(2)]
    assert len(orders[0]) == len(set(orders[0])) == 48
    assert orders[0] != orders[1]


def test_rows_that_need_padding_say_so(tmp_path: Path) -> None:
    model = TF.load("ForSequenceClassification", checkpoints.make(tmp_path, "ForSequenceClassification", **SMALL))
    with pytest.raises(ValueError, match="input_ids is of several lengths in one batch; give tokenizer="):
        model.prepare_tf_dataset(rows(), batch_size=3)
    with pytest.raises(ValueError, match=r"the columns \['text'\] has nothing that the model takes"):
        model.prepare_tf_dataset({"text": ["a"]}, batch_size=1)
    with pytest.raises(ValueError, match="3 rows fill no batch of 4; give a smaller batch_size, or drop_remainder"):
        model.prepare_tf_dataset(rows(), batch_size=4, tokenizer=Tokenizer())


def test_adapters_of_keras_are_saved_merged(tmp_path: Path) -> None:
    model = TF.load("Model", checkpoints.make(tmp_path / "model", "Model", dtype="float32", **SMALL), dtype="float32")
    query = model.encoder.layer[0].attention.self.query
    query.enable_lora(2)
    query.lora_kernel_b.assign(np.full(query.lora_kernel_b.shape, 0.3, np.float32))
    model.save_pretrained(tmp_path / "out")
    given = tensors("Model", model)
    merged = TF.load("Model", tmp_path / "out", dtype="float32")
    assert_close(merged(**given)[0].numpy(), model(**given)[0].numpy(), 1e-5)
    assert model.num_parameters() - model.num_parameters(only_trainable=True) == query.kernel.shape.num_elements()
    model.get_input_embeddings().enable_lora(2)
    for change in (lambda: model.resize_token_embeddings(70), lambda: model.set_input_embeddings(np.zeros((61, 24)))):
        with pytest.raises(ValueError, match=r"has an adapter.*save_pretrained writes it merged"):
            change()


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
def test_a_keras_file_of_a_quantised_model(tmp_path: Path) -> None:
    model = TF.load("Model", checkpoints.make(tmp_path / "model", "Model", dtype="float32", **SMALL), dtype="float32")
    given = tensors("Model", model)
    plain = model(**given)[0].numpy()
    model.quantize("int8")
    wanted = model(**given)[0].numpy()
    assert np.abs(wanted - plain).max() > 1e-4
    model.save(tmp_path / "it.keras")
    assert np.array_equal(keras.models.load_model(tmp_path / "it.keras")(**given)[0].numpy(), wanted)


def test_keras_loads_a_file_where_roberta_was_imported_alone(tmp_path: Path) -> None:
    model = TF.load("ForMaskedLM", checkpoints.make(tmp_path / "model", "ForMaskedLM", **SMALL))
    model.save(tmp_path / "it.keras")
    code = (
        "import roberta, keras, sys\n"
        "assert 'roberta.tf.models' not in sys.modules\n"
        f"model = keras.models.load_model({str(tmp_path / 'it.keras')!r})\n"
        "assert type(model) is roberta.TFRobertaForMaskedLM\n"
        "assert not [finder for finder in sys.meta_path if type(finder).__name__ == '_KerasWatch']\n"
        "print(model([[0, 5, 7, 2]]).logits.numpy().tolist())"
    )
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert np.allclose(json.loads(done.stdout), model([[0, 5, 7, 2]]).logits.numpy(), rtol=1e-12)


def test_the_classes_are_named_where_keras_was_imported_before(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"roberta>TFRobertaModel": "the class itself"}
    fake = SimpleNamespace(GLOBAL_CUSTOM_OBJECTS=table, get_registered_object=None)
    monkeypatch.setitem(sys.modules, keras_names.REGISTRY, fake)
    assert keras_names.register()
    assert table.pop("roberta>TFRobertaModel") == "the class itself"
    assert set(table) == {f"roberta>{name}" for name in keras_names.CLASS_NAMES[1:]}
    cls = TF.classes("ForMaskedLM")
    config = cls(checkpoints.small_config("ForMaskedLM", **SMALL)).get_config()
    assert type(table["roberta>TFRobertaForMaskedLM"].from_config(config)) is cls


def test_configs_of_every_kind_make_a_model() -> None:
    cls = TF.classes("Model")
    model = cls(checkpoints.small_config("Model", **SMALL), add_pooling_layer=False)
    copy = cls.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    assert copy.pooler is None
    assert np.array_equal(copy(model.dummy_inputs)[0], model(model.dummy_inputs)[0])
    for config in (model.config, model.config.to_dict()):
        assert cls.from_config(config).config.hidden_size == 24


def test_pruning_names_the_way_out() -> None:
    model = TF.classes("Model")(checkpoints.small_config("Model", **SMALL))
    with pytest.raises(NotImplementedError, match=r"cannot prune the heads \{0: \[1\]\}; prune a model of PyTorch"):
        model.prune_heads({0: [1]})


def test_layers_and_biases_are_found_by_name() -> None:
    model = TF.classes("ForMaskedLM")(checkpoints.small_config("ForMaskedLM", **SMALL))
    assert model.get_layer("lm_head") is model.get_lm_head() is model.get_output_layer_with_bias()
    assert isinstance(model.get_bias()["bias"], tf.Variable)
    matrix = model._get_word_embedding_weight(model.get_input_embeddings())
    assert isinstance(matrix, tf.Variable)
    assert np.array_equal(matrix.value(), model.word_embedding)
    masks = model.get_head_mask(tf.constant([1.0, 0.0, 1.0]), 1)
    assert [mask.shape for mask in masks] == [(1, 3, 1, 1)]


def test_onnx_has_both_axes_dynamic(tmp_path: Path) -> None:
    tf2onnx, runtime = pytest.importorskip("tf2onnx"), pytest.importorskip("onnxruntime")
    model = TF.load("Model", checkpoints.make(tmp_path, "Model", dtype="float32", **SMALL), dtype="float32")
    takes = [{name: tf.TensorSpec((None, None), tf.int32, name) for name in ("input_ids", "attention_mask")}]
    graph = tf.function(lambda inputs: {"hidden": model(inputs).last_hidden_state}, input_signature=takes)
    proto, _ = tf2onnx.convert.from_function(graph, input_signature=takes, opset=15)
    session = runtime.InferenceSession(proto.SerializeToString())
    for ids in ([[0, 5, 2]], [[0, 5, 7, 8, 2], [0, 9, 9, 9, 2]]):
        given = {"input_ids": np.array(ids, np.int32), "attention_mask": np.ones_like(ids, np.int32)}
        assert_close(session.run(None, given)[0], model(**given).last_hidden_state.numpy(), 1e-4)


def test_the_names_of_transformers_module() -> None:
    from roberta import modeling_tf_roberta as module

    model = TF.classes("ForMaskedLM")(checkpoints.small_config("ForMaskedLM", **SMALL))
    assert isinstance(model.roberta, module.TFRobertaMainLayer)
    assert isinstance(model.roberta.embeddings, module.TFRobertaEmbeddings)
    assert isinstance(model.roberta.encoder.layer[0], module.TFRobertaLayer)
    assert isinstance(model.lm_head, module.TFRobertaLMHead)
    names: dict[str, Any] = {}
    exec("from roberta.modeling_tf_roberta import *", names)
    assert {name[:9] for name in names} == {"__builtin", "TFRoberta"}
