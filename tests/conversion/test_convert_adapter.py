"""`roberta convert --adapter`: the merged weights are written, tensor by tensor."""

from __future__ import annotations

import json
from pathlib import Path

import adapters
import checkpoints
import numpy as np
import pytest

from roberta.cli import main
from roberta.common.checkpoint.checkpoint import open_checkpoint
from roberta.common.storage.folders import CheckpointError
from roberta.conversion import convert

NAME = f"{adapters.QUERY}.weight"


def values(folder: Path, name: str = NAME) -> np.ndarray:
    return open_checkpoint(folder).tensors[name].load()


@pytest.mark.parametrize("to", ["safetensors", "pt", "tf", "flax"])
def test_the_product_is_in_the_weights_that_are_written(to: str, tmp_path: Path) -> None:
    base = checkpoints.make(tmp_path / "base", "ForSequenceClassification")
    tensors = adapters.two_layers()
    folder = adapters.write(tmp_path / "adapter", tensors)
    assert main(["convert", str(base), str(tmp_path / to), "--to", to, "--adapter", str(folder)]) == 0
    change = values(tmp_path / to) - values(base)
    assert np.abs(change - adapters.change(tensors, adapters.QUERY, 3.0)).max() < 1e-13
    other = "roberta.encoder.layer.1.attention.self.key.weight"
    assert (values(tmp_path / to, other) == values(base, other)).all()


def test_a_half_is_rounded_once(tmp_path: Path) -> None:
    base = checkpoints.make(tmp_path / "base", "Model", dtype="float16")
    name = "encoder.layer.0.attention.self.query"
    tensors = adapters.draw(adapters.pair(name, 24, 24))
    folder = adapters.write(tmp_path / "adapter", tensors)
    report = convert(base, tmp_path / "merged", to="safetensors", adapter=folder)
    wide = values(base, f"{name}.weight").astype(np.float64) + adapters.change(tensors, name, 3.0)
    assert (values(tmp_path / "merged", f"{name}.weight") == wide.astype(np.float16)).all()
    assert any(note.startswith(f"merged: {folder}") for note in report.notes)


def test_a_head_that_the_adapter_brings_is_the_model_s(tmp_path: Path) -> None:
    """The base has a language model's head, which is left out; labels are counted by the head."""
    base = checkpoints.make(tmp_path / "base", "ForMaskedLM")
    whole = {f"classifier.{name}": shape for name, shape in (
        ("dense.weight", (24, 24)), ("dense.bias", (24,)), ("out_proj.weight", (3, 24)), ("out_proj.bias", (3,)),
    )}  # fmt: skip
    tensors = adapters.two_layers() | adapters.draw(whole, seed=8)
    folder = adapters.write(
        tmp_path / "adapter", tensors, modules_to_save=["classifier"], base_model_name_or_path=str(base)
    )
    report = convert(folder, tmp_path / "merged", to="safetensors")
    assert report.head == "ForSequenceClassification"
    assert "left out: lm_head.bias" in report.notes
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert (config["architectures"], len(config["id2label"])) == (["RobertaForSequenceClassification"], 3)
    assert (
        values(tmp_path / "merged", "classifier.dense.bias") == tensors[f"{adapters.PREFIX}classifier.dense.bias"]
    ).all()


def test_fairseq_has_no_place_for_it(tmp_path: Path) -> None:
    base = checkpoints.make(tmp_path / "base", "ForMaskedLM")
    convert(base, tmp_path / "fairseq", to="fairseq")
    folder = adapters.write(tmp_path / "adapter", adapters.two_layers())
    with pytest.raises(CheckpointError, match="convert it to safetensors first, and then with --adapter"):
        convert(tmp_path / "fairseq", tmp_path / "merged", to="safetensors", adapter=folder)
