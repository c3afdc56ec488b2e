"""A LoRA adapter merged into the weights when a model is loaded: W + (alpha / r) B A, computed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import adapters
import checkpoints
import numpy as np
import pytest
from backends import Arrays, Backend, assert_close

from roberta.common.storage.folders import CheckpointError

HEAD = "ForSequenceClassification"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapters")


@pytest.fixture(scope="module")
def base(root: Path) -> Path:
    return checkpoints.make(root / "base", HEAD)


def weights(backend: Backend, *arguments: Any, **options: Any) -> Arrays:
    return backend.parameters(backend.load(HEAD, *arguments, **options))


def check(found: Arrays, plain: Arrays, changes: dict[str, np.ndarray]) -> None:
    """Each named tensor has changed by that much, and all others are as they were."""
    for name, value in plain.items():
        assert_close(found[name], value + changes.get(name, 0.0), 1e-13, name)
    assert changes.keys() <= plain.keys()


def test_the_weights_are_changed_by_the_product(backend: Backend, base: Path, tmp_path: Path) -> None:
    tensors = adapters.two_layers()
    folder = adapters.write(tmp_path, tensors)
    names = (adapters.QUERY, adapters.DENSE)
    changes = {f"{name}.weight": adapters.change(tensors, name, 6 / 2) for name in names}
    check(weights(backend, base, adapter=folder), weights(backend, base), changes)


def test_scales_ranks_and_names_are_read_as_peft_has_them(backend: Backend, base: Path, tmp_path: Path) -> None:
    """rslora, patterns, the adapter's name in the tensors' names, an embedding, biases and a whole head."""
    shapes = {
        "roberta.embeddings.word_embeddings.lora_embedding_A.mine": (2, 61),
        "roberta.embeddings.word_embeddings.lora_embedding_B.mine": (24, 2),
        f"{adapters.QUERY}.lora_A.mine.weight": (3, 24),
        f"{adapters.QUERY}.lora_B.mine.weight": (24, 3),
        f"{adapters.QUERY}.base_layer.bias": (24,),
        "roberta.embeddings.LayerNorm.bias": (24,),
        "classifier.out_proj.modules_to_save.mine.weight": (5, 24),
        "classifier.out_proj.modules_to_save.mine.bias": (5,),
    }
    tensors = adapters.draw(shapes)
    folder = adapters.write(
        tmp_path, tensors,
        use_rslora=True, bias="lora_only", modules_to_save=["out_proj"], fan_in_fan_out=True, layers_to_transform=0,
        rank_pattern={"layer.0.attention.self.query": 3}, alpha_pattern={".*query": 5},
        target_modules=r".*(0\..*self\.query|word_embeddings)",
    )  # fmt: skip
    t = {name.removeprefix(adapters.PREFIX): value for name, value in tensors.items()}
    words = (t[f"{adapters.WORDS}.lora_embedding_B.mine"] @ t[f"{adapters.WORDS}.lora_embedding_A.mine"]).T
    query = t[f"{adapters.QUERY}.lora_B.mine.weight"] @ t[f"{adapters.QUERY}.lora_A.mine.weight"]
    plain = weights(backend, base)
    replaced = {
        f"{adapters.QUERY}.bias": t[f"{adapters.QUERY}.base_layer.bias"],
        "roberta.embeddings.LayerNorm.bias": t["roberta.embeddings.LayerNorm.bias"],
        "classifier.out_proj.weight": t["classifier.out_proj.modules_to_save.mine.weight"],
        "classifier.out_proj.bias": t["classifier.out_proj.modules_to_save.mine.bias"],
    }
    changes = {name: value - plain[name] for name, value in replaced.items()}
    changes[f"{adapters.WORDS}.weight"] = words * 6 / np.sqrt(2)
    changes[f"{adapters.QUERY}.weight"] = query * 5 / np.sqrt(3)
    check(weights(backend, base, adapter=folder), plain, changes)


def test_a_folder_with_an_adapter_alone_names_its_base(backend: Backend, base: Path, tmp_path: Path) -> None:
    """Alone or beside the base's own files, the adapter is merged; a head of three labels brings their number."""
    tensors = adapters.two_layers() | adapters.head(3)
    alone = adapters.write(
        tmp_path / "alone", tensors, modules_to_save=["classifier"], base_model_name_or_path=str(base)
    )
    model = backend.load(HEAD, alone)
    assert (model.config.num_labels, model.name_or_path) == (3, str(alone))
    found = backend.parameters(model)
    assert_close(found[f"{adapters.OUT_PROJ}.bias"], tensors[f"{adapters.PREFIX}{adapters.OUT_PROJ}.bias"])
    beside = checkpoints.make(tmp_path / "beside", HEAD)
    adapters.write(beside, adapters.two_layers())
    name = f"{adapters.QUERY}.weight"
    assert_close(weights(backend, beside)[name], found[name], 1e-13)
    assert np.abs(found[name] - weights(backend, base)[name]).max() > 0.1
    with pytest.raises(CheckpointError, match="has an adapter of its own beside adapter="):
        backend.load(HEAD, beside, adapter=alone)


def test_float64_is_not_rounded_to_the_file(backend: Backend, tmp_path: Path) -> None:
    narrow = checkpoints.make(tmp_path / "narrow", HEAD, dtype="float32")
    tensors = adapters.two_layers()
    folder = adapters.write(tmp_path / "adapter", tensors)
    name = f"{adapters.QUERY}.weight"
    if backend.name == "flax":  # its parameters are of float64 where that is asked for
        assert str(backend.load(HEAD, narrow, adapter=folder).dtype) == "float64"
    change = weights(backend, narrow, adapter=folder)[name] - weights(backend, narrow)[name]
    assert_close(change, adapters.change(tensors, adapters.QUERY, 3.0), 1e-13)


def test_an_adapter_of_another_base_is_one_error(backend: Backend, base: Path, tmp_path: Path) -> None:
    third = "roberta.encoder.layer.7.attention.self.query"
    tensors = adapters.draw({**adapters.pair(third, 24, 24), **adapters.pair(adapters.QUERY, 32, 32)})
    folder = adapters.write(tmp_path, tensors, base_model_name_or_path="another/base")
    with pytest.raises(CheckpointError) as raised:
        backend.load(HEAD, base, adapter=folder)
    text = str(raised.value)
    assert f"{folder}/adapter_model.safetensors does not fit this model" in text
    assert f"{third}.weight: no such tensor in the base" in text
    assert f"{adapters.QUERY}.weight is [32, 32] in the adapter and [24, 24] in the base" in text
    assert "'another/base'" in text


def test_a_tied_word_embedding_is_changed_only_where_the_head_keeps_its_own(backend: Backend, tmp_path: Path) -> None:
    tied = checkpoints.make(tmp_path / "tied", "ForMaskedLM")
    tensors = adapters.draw(
        {f"{adapters.WORDS}.lora_embedding_A": (2, 61), f"{adapters.WORDS}.lora_embedding_B": (24, 2)}
    )
    folder = adapters.write(tmp_path / "adapter", tensors, target_modules=["word_embeddings"])
    with pytest.raises(CheckpointError, match="load the model with tie_word_embeddings=False"):
        backend.load("ForMaskedLM", tied, adapter=folder)
    found = backend.parameters(backend.load("ForMaskedLM", tied, adapter=folder, tie_word_embeddings=False))
    plain = backend.parameters(backend.load("ForMaskedLM", tied))[f"{adapters.WORDS}.weight"]
    assert_close(found["lm_head.decoder.weight"], plain, 1e-13)
    assert np.abs(found[f"{adapters.WORDS}.weight"] - plain).max() > 0.1


def test_dora_gives_each_row_its_length(backend: Backend, base: Path, tmp_path: Path) -> None:
    tensors = adapters.draw({**adapters.pair(adapters.QUERY, 24, 24), f"{adapters.QUERY}.lora_magnitude_vector": (24,)})
    folder = adapters.write(tmp_path, tensors, use_dora=True)
    name = f"{adapters.QUERY}.weight"
    wide = weights(backend, base)[name] + adapters.change(tensors, adapters.QUERY, 3.0)
    lengths = tensors[f"{adapters.PREFIX}{adapters.QUERY}.lora_magnitude_vector"]
    wanted = wide / np.linalg.norm(wide, axis=1, keepdims=True) * lengths[:, None]
    assert_close(weights(backend, base, adapter=folder)[name], wanted, 1e-12)


@pytest.mark.parametrize("lengths", [1, 3])
def test_doras_lengths_must_be_as_many_as_rows(backend: Backend, base: Path, tmp_path: Path, lengths: int) -> None:
    shapes = {**adapters.pair(adapters.QUERY, 24, 24), f"{adapters.QUERY}.lora_magnitude_vector": (lengths,)}
    folder = adapters.write(tmp_path, adapters.draw(shapes), use_dora=True)
    with pytest.raises(CheckpointError, match=rf"query\.weight: {lengths} lengths .*, and the base has 24"):
        backend.load(HEAD, base, adapter=folder)


def test_a_config_beside_an_adapter_has_the_labels(backend: Backend, base: Path, tmp_path: Path) -> None:
    folder = adapters.write(tmp_path, adapters.two_layers(), base_model_name_or_path=str(base))
    config = json.loads((base / "config.json").read_text())
    config["id2label"] = {str(index): f"name {index}" for index in range(5)}
    config["label2id"] = {name: int(index) for index, name in config["id2label"].items()}
    (folder / "config.json").write_text(json.dumps(config))
    assert backend.load(HEAD, folder).config.id2label[4] == "name 4"


def test_a_half_precision_file_is_merged_in_the_precision_that_is_loaded(backend: Backend, tmp_path: Path) -> None:
    base = checkpoints.make(tmp_path / "base", HEAD, dtype="float16")
    adapter = adapters.write(tmp_path / "adapter", adapters.two_layers())
    plain, merged = (backend.load(HEAD, base, dtype="float32", **more) for more in ({}, {"adapter": adapter}))
    change = adapters.change(adapters.two_layers(), adapters.QUERY, 3.0)
    name = f"{adapters.QUERY}.weight"
    found, wanted = backend.parameters(merged)[name], backend.parameters(plain)[name].astype(np.float64) + change
    assert np.abs(found - wanted).max() < 1e-6  # a file in float16 has steps of 1e-3 here


def test_a_decoder_of_its_own_is_refused_where_it_is_tied(backend: Backend, tmp_path: Path) -> None:
    base = checkpoints.make(tmp_path / "base", "ForMaskedLM")
    adapter = adapters.write(
        tmp_path / "adapter",
        adapters.draw(adapters.pair("lm_head.decoder", 61, 24)),
        target_modules=["decoder"],
    )
    with pytest.raises(CheckpointError, match=r"lm_head\.decoder\.weight.*tie_word_embeddings=False"):
        backend.load("ForMaskedLM", base, adapter=adapter)
