"""`adapter_config.json` and the tensors beside it: what is read, and what is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import adapters
import pytest

from roberta.common.adapters.adapter_files import open_adapter, write_adapter
from roberta.common.adapters.lora_config import LoraConfig, UnsupportedAdapterError
from roberta.common.storage.folders import CheckpointError


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    tensors = adapters.two_layers() | adapters.draw({"classifier.dense.weight": (24, 24)}, seed=7)
    first = open_adapter(adapters.write(tmp_path / "first", tensors, modules_to_save=["classifier"]))
    write_adapter(tmp_path / "second", first)
    second = open_adapter(tmp_path / "second")
    assert second.config == first.config
    names = sorted(second.tensors())
    assert names == sorted(tensors)
    for name in names:
        assert (second.tensors()[name][2]() == tensors[name]).all()


def test_an_older_bin_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensors = adapters.two_layers()
    folder = adapters.write(tmp_path, tensors)
    (folder / "adapter_model.safetensors").unlink()
    torch.save({name: torch.from_numpy(value) for name, value in tensors.items()}, folder / "adapter_model.bin")
    assert set(open_adapter(folder).tensors()) == set(tensors)


@pytest.mark.parametrize(
    ("config", "module", "expected"),
    [
        ({"target_modules": ("query",)}, "roberta.encoder.layer.3.attention.self.query", True),
        ({"target_modules": ("uery",)}, "roberta.encoder.layer.3.attention.self.query", False),
        ({"target_modules": r".*\.layer\.[0-2]\..*query"}, "encoder.layer.3.attention.self.query", False),
        ({"target_modules": r".*\.layer\.[0-3]\..*query"}, "encoder.layer.3.attention.self.query", True),
        ({"target_modules": "all-linear"}, "encoder.layer.3.output.dense", True),
        ({"target_modules": "all-linear"}, "embeddings.word_embeddings", False),
        ({"target_modules": ("query",), "layers_to_transform": (1, 3)}, "roberta.encoder.layer.3.self.query", True),
        ({"target_modules": ("query",), "layers_to_transform": (1, 3)}, "roberta.encoder.layer.2.self.query", False),
        ({"target_modules": ("dense",), "exclude_modules": ("output.dense",)}, "encoder.layer.0.output.dense", False),
        ({"target_modules": ("dense",), "modules_to_save": ("classifier",)}, "classifier.dense", False),
    ],
)  # fmt: skip
def test_targets_are_peft_s(config: dict[str, Any], module: str, expected: bool) -> None:
    assert LoraConfig(**config).is_target(module) is expected


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            {"peft_type": "IA3"},
            "peft_type='IA3' changes the numbers, and is not supported; merge the adapter with PEFT",
        ),
        ({"peft_type": "PREFIX_TUNING"}, "cannot be merged into weights; run it with PEFT around the PyTorch class"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights='pissa_niter_4' changes the numbers"),
        ({"layer_replication": [[0, 4], [2, 5]]}, "layer_replication=.* changes the numbers"),
        ({"trainable_token_indices": [5]}, "trainable_token_indices=.5. changes the numbers"),
        ({"alora_invocation_tokens": [5]}, "alora_invocation_tokens=.5. changes the numbers"),
        ({"a_new_switch": True}, "a_new_switch=True changes the numbers"),
        ({"r": 0}, "r=0 must be an int of at least 1"),
        ({"bias": "some"}, "bias='some' must be one of none, all, lora_only"),
        ({"target_modules": "(query"}, "is not a regular expression"),
        ({"rank_pattern": {"query": 1.5}}, "rank_pattern=.* must have a number for each module"),
        ({"use_rslora": "yes"}, "use_rslora='yes' must be true or false"),
    ],
)
def test_what_changes_numbers_is_named(config: dict[str, Any], text: str, tmp_path: Path) -> None:
    folder = adapters.write(tmp_path, adapters.two_layers(), **config)
    with pytest.raises(CheckpointError, match=text) as raised:
        open_adapter(folder)
    assert str(folder / "adapter_config.json") in str(raised.value)
    assert isinstance(raised.value, UnsupportedAdapterError) == ("changes" in text or "merged" in text)


def test_new_numbers_of_switches_that_are_off_are_read(tmp_path: Path) -> None:
    folder = adapters.write(tmp_path, adapters.two_layers(), new_size=16, new_switch=False, new_table={}, other=None)
    assert open_adapter(folder).config.r == 2


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"r": 4}, r"lora_A is \[2, 24\] and lora_B \[24, 2\], and r is 4"),
        ({"target_modules": ["value"]}, r"self.query is not among target_modules=\('value',\)"),
        ({"use_dora": True}, "missing: .*self.query.lora_magnitude_vector"),
    ],
)
def test_tensors_that_contradict_the_config_are_named(change: dict[str, Any], text: str, tmp_path: Path) -> None:
    folder = adapters.write(tmp_path, adapters.two_layers(), **change)
    with pytest.raises(CheckpointError, match=text):
        open_adapter(folder)


def test_a_part_without_its_partner_is_named(tmp_path: Path) -> None:
    tensors = adapters.two_layers()
    del tensors[f"{adapters.PREFIX}{adapters.DENSE}.lora_B.weight"]
    with pytest.raises(CheckpointError, match=f"missing: {adapters.DENSE}.lora_B"):
        open_adapter(adapters.write(tmp_path, tensors))


def test_a_folder_without_its_files_is_named(tmp_path: Path) -> None:
    folder = adapters.write(tmp_path / "adapter", adapters.two_layers())
    shutil.move(folder / "adapter_model.safetensors", tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=r"has adapter_config\.json, and none of adapter_model\.safetensors"):
        open_adapter(folder)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no adapter_config\.json"):
        open_adapter(folder)
    (folder / "adapter_config.json").write_text(json.dumps([]))
    with pytest.raises(CheckpointError, match="not a JSON object"):
        open_adapter(folder)
