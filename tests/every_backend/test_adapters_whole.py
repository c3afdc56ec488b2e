"""An adapter's file must hold all that its config names; and what was loaded is saved as it was read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import adapters
import checkpoints
import numpy as np
import pytest
from backends import Backend, assert_close
from safetensors.numpy import load_file

from roberta.common.adapters.adapter_files import open_adapter
from roberta.common.parameters import parameters
from roberta.common.storage.folders import CheckpointError

HEAD = "ForSequenceClassification"
KEY = "roberta.encoder.layer.1.attention.self.key"


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    root = tmp_path_factory.mktemp("whole")
    return {head: checkpoints.make(root / head, head) for head in (HEAD, "Model", "ForTokenClassification")}


def queries(*layers: int, prefix: str = "roberta.") -> dict[str, np.ndarray]:
    names = [f"{prefix}encoder.layer.{layer}.attention.self.query" for layer in layers]
    return adapters.draw({name: shape for one in names for name, shape in adapters.pair(one, 24, 24).items()})


def test_a_layer_that_the_file_lacks_is_named(backend: Backend, bases: Mapping[str, Path], tmp_path: Path) -> None:
    folder = adapters.write(tmp_path, queries(0), target_modules=["query"], base_model_name_or_path="a/base")
    lacks = r"adapter_model\.safetensors does not hold all .*\n  missing: roberta\.encoder\.layer\.1\.attention\.self\."
    lacks += r"query\.lora_A and lora_B, as target_modules=\['query'\] names it\n.*'a/base'"
    with pytest.raises(CheckpointError, match=lacks):
        backend.load(HEAD, bases[HEAD], adapter=folder)
    model = backend.load(HEAD, bases[HEAD])
    with pytest.raises(CheckpointError, match=lacks):
        model.load_adapter(folder)
    assert not model.has_live_adapters
    # the way out: only what was trained is named
    adapters.write(tmp_path, queries(0), target_modules=["query"], layers_to_transform=[0])
    model.load_adapter(folder)


@pytest.mark.parametrize(
    ("tensors", "config", "missing"),
    [
        (queries(0, 1), {"target_modules": ["query", "key"]}, r"layer\.0\.attention\.self\.key\.lora_A .*\n.*layer\.1"),
        (queries(0, 1), {"target_modules": r".*\.layer\.\d\..*(query|key)"}, r"layer\.0\.attention\.self\.key\.lora_A"),
        (queries(0, 1), {"target_modules": "all-linear"}, r"layer\.0\.attention\.output\.dense\.lora_A"),
        (queries(0), {"target_modules": ["query"], "layers_to_transform": [0, 1]}, r"layer\.1\.attention\.self\.query"),
        (queries(0, 1), {"modules_to_save": ["classifier"]}, r"classifier\.dense\.weight, as modules_to_save=\['class"),
        (queries(0, 1), {"bias": "all"}, r"layer\.1\.output\.LayerNorm\.bias, as bias='all' names it"),
        (
            queries(0, 1) | adapters.draw(adapters.pair(adapters.OUT_PROJ, 5, 24)),
            {"target_modules": ["query", "dense", "out_proj"], "exclude_modules": ["output.dense", "intermediate.dense"]},
            r"missing: classifier\.dense\.lora_A",
        ),
    ],
)  # fmt: skip
def test_whatever_the_config_names_must_be_there(
    tensors: dict[str, np.ndarray], config: dict[str, Any], missing: str, tmp_path: Path
) -> None:
    table = parameters(checkpoints.small_config(HEAD), HEAD)
    with pytest.raises(CheckpointError, match=f"missing: .*{missing}" if "missing" not in missing else missing):
        open_adapter(adapters.write(tmp_path, tensors, **config)).fitted(table)


@pytest.mark.parametrize(
    ("head", "tensors", "config"),
    [
        # an encoder's adapter: names and expressions without `roberta.`, and a pooler that this class lacks
        (HEAD, queries(0, 1, prefix=""), {"target_modules": r"encoder\.layer\.\d+\.attention\.self\.query"}),
        # a classifier's adapter in classes with another head, or with none
        ("ForTokenClassification", queries(0, 1) | adapters.head(2), {"modules_to_save": ["classifier", "score"]}),
        ("Model", queries(0, 1) | adapters.head(2), {"modules_to_save": ["classifier", "score"]}),
        # targets of another head, and a pooler that the adapter's class did not have
        ("Model", queries(0, 1), {"target_modules": ["query", "pooler.dense", "out_proj"]}),
        # cross-attention is new in a decoder
        (HEAD, queries(0, 1), {"target_modules": ["query"]}),
    ],
)
def test_what_another_class_has_need_not_be_there(
    head: Any, tensors: dict[str, np.ndarray], config: dict[str, Any], tmp_path: Path
) -> None:
    base = checkpoints.small_config(head, is_decoder=True, add_cross_attention=True)
    adapter = open_adapter(adapters.write(tmp_path, tensors, **config)).fitted(parameters(base, head))
    assert len(adapter.changes) == 2


def test_an_adapter_that_was_loaded_into_another_class_is_saved_whole(
    backend: Backend, bases: Mapping[str, Path], tmp_path: Path
) -> None:
    """The encoder has no place for the head; what is saved has it, and fits its config."""
    tensors = queries(0, 1) | adapters.head(5)
    config = {"target_modules": r"roberta\..*query", "modules_to_save": ["classifier", "score"], "task_type": "SEQ_CLS"}
    first = adapters.write(tmp_path / "first", tensors, **config)
    for head in ("Model", "ForTokenClassification"):
        model = backend.load(head, bases[head])
        model.load_adapter(first)
        model.save_adapter(tmp_path / head)
        saved = load_file(tmp_path / head / "adapter_model.safetensors")
        assert saved.keys() == tensors.keys()
        assert all(np.array_equal(saved[name], value) for name, value in tensors.items())
        written = json.loads((tmp_path / head / "adapter_config.json").read_text())
        assert {name: written[name] for name in config} == config
        found, wanted = (
            backend.parameters(backend.load(HEAD, bases[HEAD], adapter=folder)) for folder in (tmp_path / head, first)
        )
        assert all(np.array_equal(found[name], value) for name, value in wanted.items())
        backend.load(head, bases[head], adapter=tmp_path / head)


@pytest.mark.parametrize("labels", [1, 3])
def test_the_head_that_an_adapter_brings_says_how_many_labels(backend: Backend, tmp_path: Path, labels: int) -> None:
    tensors = queries(0, 1) | adapters.head(labels)
    folder = adapters.write(tmp_path, tensors, modules_to_save=["classifier"])
    base = checkpoints.make(tmp_path / "base", HEAD, problem_type="single_label_classification")
    model = backend.load(HEAD, base, adapter=folder)
    assert (model.config.num_labels, len(model.config.id2label), model.config.problem_type) == (labels, labels, None)
    found = backend.parameters(model)[f"{adapters.OUT_PROJ}.weight"]
    assert_close(found, tensors[f"{adapters.PREFIX}{adapters.OUT_PROJ}.weight"])


@pytest.mark.parametrize(("task", "labels"), [("TOKEN_CLS", 1), (None, None)])
def test_one_row_of_a_flat_classifier_counts_tokens_labels_only_where_the_config_says_so(
    backend: Backend, bases: Mapping[str, Path], tmp_path: Path, task: str | None, labels: int | None
) -> None:
    """Multiple choice has such a row too."""
    flat = adapters.draw({"classifier.weight": (1, 24), "classifier.bias": (1,)}, seed=3)
    folder = adapters.write(tmp_path, queries(0, 1) | flat, modules_to_save=["classifier"], task_type=task)
    base = bases["ForTokenClassification"]
    if labels is None:
        with pytest.raises(
            CheckpointError, match=r"classifier\.weight is \[1, 24\] in the adapter .*\n.*its num_labels"
        ):
            backend.load("ForTokenClassification", base, adapter=folder)
        model = backend.load("ForTokenClassification", base, adapter=folder, num_labels=1)  # the way out
    else:
        model = backend.load("ForTokenClassification", base, adapter=folder)
    assert model.config.num_labels == 1
