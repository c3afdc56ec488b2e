"""from_pretrained and save_pretrained: what is found, refused and reported, the same in the three frameworks."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import Backend, assert_close
from backends import backend as get_backend
from safetensors.numpy import load_file

from roberta import CheckpointError, RobertaConfig
from roberta.common.parameters import Head, parameters

TOKENS = {"input_ids": np.array([[0, 5, 6, 2]])}


def equal(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> bool:
    return found.keys() == wanted.keys() and all(np.array_equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("head", checkpoints.HEADS)
@pytest.mark.parametrize("source", ["pt", "tf", "flax"], ids="from_{}".format)
def test_what_one_framework_saves_the_others_load(backend: Backend, source: str, head: Head, tmp_path: Path) -> None:
    saver = get_backend(source)
    wanted = checkpoints.make(tmp_path / "first", head)
    saver.load(head, wanted).save_pretrained(tmp_path / "second")
    model, report = backend.load(head, tmp_path / "second", output_loading_info=True)
    assert not any(report.values())
    assert equal(backend.parameters(model), load_file(wanted / "model.safetensors"))
    config = json.loads((tmp_path / "second" / "config.json").read_text())
    assert config["architectures"] == [f"Roberta{head}"]


@pytest.mark.parametrize("shards", ["5GB", "8KB"])
@pytest.mark.parametrize("source", ["pt", "tf", "flax"], ids="from_{}".format)
def test_the_older_file_of_each_framework_loads_in_the_others(
    backend: Backend, source: str, shards: str, tmp_path: Path
) -> None:
    first = checkpoints.make(tmp_path / "first", "ForMaskedLM", dtype="float32")
    saver = get_backend(source)
    model = saver.load("ForMaskedLM", first, "float32")
    model.save_pretrained(tmp_path / "second", safe_serialization=False, max_shard_size=shards)
    assert not list((tmp_path / "second").glob("*.safetensors"))
    found = backend.load("ForMaskedLM", tmp_path / "second", "float32")
    assert equal(backend.parameters(found), load_file(first / "model.safetensors"))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_dtype_on_load(backend: Backend, dtype: str, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "ForMaskedLM", dtype=dtype)
    assert str(backend.load("ForMaskedLM", folder, "auto").dtype).endswith(dtype)
    assert str(backend.load("ForMaskedLM", folder, None).dtype).endswith("float32")
    backend.load("ForMaskedLM", folder, dtype).save_pretrained(tmp_path / "again")
    assert equal_bits(tmp_path / "again", folder)


def equal_bits(one: Path, other: Path) -> bool:
    first, second = (load_file(path / "model.safetensors") for path in (one, other))
    return first.keys() == second.keys() and all(
        first[n].dtype == second[n].dtype and first[n].tobytes() == second[n].tobytes() for n in first
    )


NEW = {
    "Model": {"pooler.dense.weight", "pooler.dense.bias"},
    "ForSequenceClassification": {
        f"classifier.{part}.{leaf}" for part in ("dense", "out_proj") for leaf in ("weight", "bias")
    },
    "ForTokenClassification": {"classifier.weight", "classifier.bias"},
    "ForQuestionAnswering": {"qa_outputs.weight", "qa_outputs.bias"},
    "ForMultipleChoice": {
        "classifier.weight", "classifier.bias", "roberta.pooler.dense.weight", "roberta.pooler.dense.bias"
    },
    "ForCausalLM": set(),
}  # fmt: skip


@pytest.mark.parametrize("head", NEW)
def test_another_head_is_new_and_reported(backend: Backend, head: Head, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "ForMaskedLM", num_labels=2)
    if NEW[head]:
        with pytest.warns(UserWarning, match="Train the model"):
            model, report = backend.load(head, folder, output_loading_info=True)
    else:
        model, report = backend.load(head, folder, output_loading_info=True)
    assert set(report["missing_keys"]) == NEW[head]
    found = backend.parameters(model)
    stored = load_file(folder / "model.safetensors")
    for name, value in found.items():
        if name in NEW[head]:
            assert np.abs(value).max() < 0.2, "new weights are drawn with initializer_range"
            assert name.endswith("bias") == (np.abs(value).max() == 0)
        else:
            assert np.array_equal(value, stored.get(name, stored.get(f"roberta.{name}")))


def test_a_base_checkpoint_loads_into_a_head(backend: Backend, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "Model")
    with pytest.warns(UserWarning, match=r"lm_head\.dense\.weight"):
        model, report = backend.load("ForMaskedLM", folder, output_loading_info=True)
    assert set(report["unexpected_keys"]) == {"roberta.pooler.dense.weight", "roberta.pooler.dense.bias"}
    stored = load_file(folder / "model.safetensors")
    name = "encoder.layer.1.output.dense.weight"
    assert np.array_equal(backend.parameters(model)[f"roberta.{name}"], stored[name])


@pytest.mark.parametrize("has_some", [True, False])
def test_what_a_file_lacks_is_an_error_unless_a_report_is_asked_for(
    backend: Backend, has_some: bool, tmp_path: Path
) -> None:
    config, head = checkpoints.small_config("ForMaskedLM"), "ForMaskedLM"
    tensors = {name: value for name, value in checkpoints.draw(config, head).items() if "layer.1." not in name}
    checkpoints.save(tmp_path, config, tensors if has_some else {"else": np.ones((2, 2), np.float32)})
    with pytest.raises(RuntimeError, match=r"missing: roberta.encoder.layer.1") as raised:
        backend.load(head, tmp_path)
    assert isinstance(raised.value, CheckpointError)
    with pytest.warns(UserWarning, match="new, as the checkpoint does not have them"):
        model, report = backend.load(head, tmp_path, output_loading_info=True)
    found = backend.parameters(model)
    assert set(report["missing_keys"]) == {name for name in found if "layer.1." in name or not has_some}
    assert report["unexpected_keys"] == ([] if has_some else ["else"])
    for name, value in found.items():
        if has_some and name in tensors:
            assert np.array_equal(value, tensors[name])
        elif name.endswith("bias"):
            assert not value.any()
        elif value.ndim == 2:
            assert 0 < value.std() < 0.03, "drawn with initializer_range"


def test_a_head_of_another_size(backend: Backend, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "ForTokenClassification")
    with pytest.raises(CheckpointError, match=r"classifier.weight is \[5, 24\] in the file and \[3, 24\]"):
        backend.load("ForTokenClassification", folder, num_labels=3)
    with pytest.warns(UserWarning, match=r"classifier.weight is \[5, 24\]"):
        model, report = backend.load(
            "ForTokenClassification",
            folder,
            num_labels=3,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    assert {name for name, *_ in report["mismatched_keys"]} == {"classifier.weight", "classifier.bias"}
    assert backend.run(model, TOKENS)["logits"].shape == (1, 4, 3)


def respell(folder: Path, names: dict[str, str], drop: tuple[str, ...] = (), **extra: np.ndarray) -> Path:
    """A checkpoint under other names, in pytorch_model.bin so that repeated names are possible."""
    config = checkpoints.small_config("ForMaskedLM", tie_word_embeddings=True)
    tensors = checkpoints.draw(config, "ForMaskedLM")
    spelled = {names.get(name, name): array for name, array in tensors.items() if name not in drop}
    return checkpoints.save(folder, config, {**spelled, **extra})


TABLE = list(parameters(checkpoints.small_config("ForMaskedLM"), "ForMaskedLM"))
WORDS = "roberta.embeddings.word_embeddings.weight"
DRAWN = checkpoints.draw(checkpoints.small_config("ForMaskedLM"), "ForMaskedLM")
SPELLINGS: dict[str, dict[str, Any]] = {
    "module.": {"names": {name: f"module.{name}" for name in TABLE}},
    "model.": {"names": {name: f"model.{name}" for name in TABLE}},
    "module._orig_mod.": {"names": {name: f"module._orig_mod.{name}" for name in TABLE}},
    "gamma and beta": {
        "names": {
            name: name.replace(".weight", ".gamma").replace(".bias", ".beta")
            for name in TABLE
            if "norm" in name.lower().rsplit(".", 1)[0].rsplit(".", 1)[-1]
        }
    },
    "no roberta.": {"names": {name: name.removeprefix("roberta.") for name in TABLE}},
    "position_ids": {"names": {}, "roberta.embeddings.position_ids": np.arange(30)[None].astype(float)},
    "decoder.bias": {"names": {"lm_head.bias": "lm_head.decoder.bias"}},
    "decoder repeated": {
        "names": {}, "lm_head.decoder.weight": DRAWN[WORDS], "lm_head.decoder.bias": DRAWN["lm_head.bias"]
    },
    "decoder alone": {"names": {WORDS: "lm_head.decoder.weight"}},
    "lm_head.weight of 2019": {"names": {}, "lm_head.weight": DRAWN[WORDS]},
    "another bias": {"names": {}, "lm_head.decoder.bias": DRAWN["lm_head.bias"], "drop": ("lm_head.bias",)},
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_known_spelling_gives_the_same_model(backend: Backend, name: str, tmp_path: Path) -> None:
    model, report = backend.load("ForMaskedLM", respell(tmp_path, **SPELLINGS[name]), output_loading_info=True)
    assert not any(report.values())
    assert equal(backend.parameters(model), DRAWN)


def test_an_untied_head_keeps_its_own_matrix(backend: Backend, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "ForMaskedLM", tie_word_embeddings=False)
    model = backend.load("ForMaskedLM", folder)
    stored = load_file(folder / "model.safetensors")
    assert not np.array_equal(stored["lm_head.decoder.weight"], stored[WORDS])
    assert equal(backend.parameters(model), stored)
    pruned = {name: array for name, array in stored.items() if name != "lm_head.decoder.weight"}
    config = checkpoints.small_config("ForMaskedLM", tie_word_embeddings=False)
    tied = backend.load("ForMaskedLM", checkpoints.save(tmp_path / "tied", config, pruned))
    assert np.array_equal(backend.parameters(tied)["lm_head.decoder.weight"], stored[WORDS])


def test_layers_are_left_out_when_the_caller_says_so(backend: Backend, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "Model")
    assert backend.load("Model", folder, num_hidden_layers=1).config.num_hidden_layers == 1
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.raises(CheckpointError, match=r"not of this model: encoder\.layer\.1"):
        backend.load("Model", folder)


def broken(kind: str, folder: Path) -> Path:
    """A folder with one thing wrong."""
    checkpoints.make(folder, "ForMaskedLM", dtype="float32")
    weights = folder / "model.safetensors"
    match kind:
        case "no folder":
            shutil.rmtree(folder)
        case "no config":
            (folder / "config.json").unlink()
        case "no weights":
            weights.unlink()
        case "config is no JSON":
            (folder / "config.json").write_text("{")
        case "cut short":
            os.truncate(weights, weights.stat().st_size - 100)
        case "missing tensor":
            tensors = {name: value for name, value in DRAWN.items() if "layer.1.output.dense.bias" not in name}
            checkpoints.save(folder, checkpoints.small_config("ForMaskedLM"), tensors)
        case "missing shard" | "shard elsewhere" | "index is no index":
            config = checkpoints.small_config("ForMaskedLM")
            checkpoints.save(folder, config, DRAWN, max_shard_size="20KB")
            index = folder / "model.safetensors.index.json"
            if kind == "missing shard":
                sorted(folder.glob("model-*"))[1].unlink()
            elif kind == "shard elsewhere":
                shutil.copytree(folder, folder.parent / "elsewhere")
                index.write_text(index.read_text().replace("model-00001", "../elsewhere/model-00001"))
            else:
                index.write_text("[]")
    return folder


BROKEN = {
    "no folder": "broken",
    "no config": "config.json",
    "no weights": "model.safetensors",
    "config is no JSON": "config.json is not a valid JSON file",
    "cut short": r"model\.safetensors is cut short",
    "missing tensor": r"missing: roberta\.encoder\.layer\.1\.output\.dense\.bias \[24\]",
    "missing shard": r"names model-00002-of-\d+\.safetensors, which is not in",
    "shard elsewhere": "elsewhere.*not opened",
    "index is no index": "is not an index of shards",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_checkpoint_is_one_error_that_names_what_is_wrong(backend: Backend, kind: str, tmp_path: Path) -> None:
    folder = broken(kind, tmp_path / "broken")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CheckpointError, match=BROKEN[kind]):
        backend.load("ForMaskedLM", folder)
    assert sorted(tmp_path.rglob("*")) == before


def test_another_model_type_is_warned_of(backend: Backend, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "Model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "xlm-roberta"}))
    with pytest.warns(UserWarning, match="xlm-roberta"):
        backend.load("Model", folder)


def test_malformed_inputs_of_the_reference_set(
    backend: Backend, golden: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    marker = tmp_path / "executed"
    monkeypatch.setenv("ORACLE_MARKER", str(marker))
    for case in json.loads((golden / "malformed" / "cases.json").read_text())["cases"]:
        for framework, name in case["loads"]:
            if framework == backend.name and case["kind"] == "model":
                with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are checked below
                    backend.load(name.split("Roberta")[1], golden / "malformed" / case["folder"])
                assert any(word in str(caught.value) for word in case["names"]), case["id"]
    assert not marker.exists()


def test_saving_replaces_older_weights(backend: Backend, tmp_path: Path) -> None:
    config = checkpoints.small_config("ForMaskedLM")
    folder = checkpoints.save(tmp_path / "model", config, DRAWN, max_shard_size="20KB")
    (folder / "notes.txt").write_text("kept")
    model = backend.load("ForMaskedLM", folder)
    model.save_pretrained(folder)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "notes.txt"}
    assert equal(backend.parameters(backend.load("ForMaskedLM", folder)), DRAWN)


def test_unknown_arguments_are_refused(backend: Backend, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "Model")
    with pytest.raises(TypeError, match="not_a_field"):
        backend.load("Model", folder, not_a_field=1)
    with pytest.raises(ValueError, match="is not one of float32"):
        backend.load("Model", folder, "float8")
    assert backend.load("Model", folder, hidden_dropout_prob=0.7).config.hidden_dropout_prob == 0.7


def test_new_models_are_drawn_as_bert_was(backend: Backend) -> None:
    config = checkpoints.small_config("ForMaskedLM", vocab_size=400, hidden_size=60, initializer_range=0.05)
    found = backend.parameters(backend.classes("ForMaskedLM")(config))
    assert found.keys() == parameters(config, "ForMaskedLM").keys()
    for name, parameter in parameters(config, "ForMaskedLM").items():
        value = found[name]
        if parameter.kind in ("dense", "embedding"):
            if "token_type" in name:
                continue
            assert 0.045 < value.std() < 0.055, name
            assert np.abs(value).max() > 0.11, "a normal distribution that is not cut off"
        else:
            assert (value == (1 if parameter.kind == "norm" else 0)).all(), name
    assert not found[WORDS][1].any()
    assert not found["roberta.embeddings.position_embeddings.weight"][1].any()


@pytest.mark.parametrize("size", [50, 70])
@pytest.mark.parametrize("is_tied", [True, False])
def test_resizing_keeps_old_rows(backend: Backend, size: int, is_tied: bool, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path / "old", "ForMaskedLM", tie_word_embeddings=is_tied)
    model = backend.load("ForMaskedLM", folder)
    wanted = backend.run(model, TOKENS)["logits"]
    model.resize_token_embeddings(size)
    assert model.config.vocab_size == size
    found = backend.run(model, TOKENS | {"labels": np.array([[0, 5, 6, 49]])})
    assert found["logits"].shape == (1, 4, size)
    kept = min(size, 61)
    assert_close(found["logits"][..., :kept], wanted[..., :kept])
    assert np.isfinite(found["loss"])
    model.save_pretrained(tmp_path / "new")
    again = backend.load("ForMaskedLM", tmp_path / "new")
    assert_close(backend.run(again, TOKENS)["logits"], found["logits"], 1e-14)
    assert backend.parameters(model)["lm_head.bias"].shape == (size,)
    assert not backend.parameters(model)["lm_head.bias"][61:].any()


def test_a_class_with_a_config_of_its_own_gets_that(backend: Backend, tmp_path: Path) -> None:
    class OwnConfig(RobertaConfig):
        def __init__(self, scale: int = 3, **fields: Any) -> None:
            super().__init__(**fields)
            self.scale = scale

    folder = checkpoints.make(tmp_path / "folder", "ForMaskedLM", dtype="float32")
    own = type("Own", (backend.classes("ForMaskedLM"),), {"config_class": OwnConfig})
    model = own.from_pretrained(folder)
    assert type(model.config) is OwnConfig
    assert model.config.scale == 3
    model.config.scale = 5
    model.save_pretrained(tmp_path / "saved")
    assert own.from_pretrained(tmp_path / "saved").config.scale == 5
    assert own.from_pretrained(tmp_path / "saved", scale=7).config.scale == 7
