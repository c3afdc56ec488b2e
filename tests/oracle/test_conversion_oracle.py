"""transformers 4.57 loads the files that `convert` writes, in each format, with the same tensors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from peers import environment

from roberta.common.formats.safetensors_file import numpy_dtype
from roberta.conversion import convert
from roberta.conversion.formats import CheckpointFormat

TORCH = """
import sys, numpy as np, transformers
head, folder, target, safe = sys.argv[1:5]
model, report = getattr(transformers, "Roberta" + head).from_pretrained(
    folder, output_loading_info=True, dtype="auto", use_safetensors=safe == "True")
assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
np.savez(target, **{name: tensor.float().numpy() for name, tensor in model.state_dict().items()})
print(model.dtype)
"""
FLAX = """
import sys, numpy as np, transformers
from flax.traverse_util import flatten_dict
head, folder, target = sys.argv[1:4]
model = getattr(transformers, "Flax" + head).from_pretrained(folder)
np.savez(target, **{name: np.asarray(leaf) for name, leaf in flatten_dict(model.params, sep=".").items()})
"""


SETTINGS = {
    "pt": {},
    "tf": {"USE_TF": "1", "USE_TORCH": "0", "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
    "flax": {"USE_FLAX": "1", "JAX_PLATFORMS": "cpu"},
}


def run(code: str, *arguments: Any, framework: str = "pt") -> str:
    settings = {**environment(4), **SETTINGS[framework]}
    if framework == "tf":
        settings.pop("KERAS_BACKEND", None)
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("size", ["5GB", "10kB"], ids=["whole", "sharded"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("to", ["safetensors", "pt"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_torch_files_load_there(to: CheckpointFormat, dtype: str, size: str, tied: bool, tmp_path: Path) -> None:
    source = checkpoints.make(tmp_path / "source", "ForMaskedLM", dtype=dtype, tie_word_embeddings=tied)
    convert(source, tmp_path / "out", to=to, max_shard_size=size)
    printed = run(TORCH, "ForMaskedLM", tmp_path / "out", tmp_path / "peer.npz", to == "safetensors")
    assert printed.strip().endswith(dtype)
    found = np.load(tmp_path / "peer.npz")
    config = checkpoints.small_config("ForMaskedLM", tie_word_embeddings=tied)
    for name, array in checkpoints.draw(config, "ForMaskedLM").items():
        assert np.array_equal(found[name], array.astype(numpy_dtype(dtype)).astype(np.float32)), name


@pytest.mark.parametrize("head", checkpoints.HEADS)
def test_flax_files_load_there(head: Any, tmp_path: Path) -> None:
    pytest.importorskip("flax", reason="flax is not installed")
    source = checkpoints.make(tmp_path / "source", head, dtype="float32")
    convert(source, tmp_path / "out", to="flax")
    run(FLAX, f"Roberta{head}", tmp_path / "out", tmp_path / "peer.npz", framework="flax")
    found = dict(np.load(tmp_path / "peer.npz"))
    drawn = checkpoints.draw(checkpoints.small_config(head), head)
    assert len(found) == len(drawn)
    kernel = next(name for name in found if name.endswith("encoder.layer.1.output.dense.kernel"))
    assert np.array_equal(found[kernel], drawn[kernel.replace("kernel", "weight")].astype(np.float32).T)
    assert sorted(float(np.abs(a).sum(dtype=np.float64)) for a in found.values()) == pytest.approx(
        sorted(float(np.abs(a.astype(np.float32)).sum(dtype=np.float64)) for a in drawn.values())
    )


TF = """
import sys, numpy as np, transformers
head, folder, target = sys.argv[1:4]
model, report = getattr(transformers, "TF" + head).from_pretrained(folder, output_loading_info=True)
assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
np.savez(target, **{v.name.split("/", 1)[1].replace("/", "|"): v.numpy() for v in model.weights})
"""


@pytest.mark.parametrize("size", ["5GB", "10kB"], ids=["whole", "sharded"])
@pytest.mark.parametrize("head", ["ForMaskedLM", "ForSequenceClassification"])
def test_tensorflow_files_load_there(head: Any, size: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    source = checkpoints.make(tmp_path / "source", head, dtype="float32")
    convert(source, tmp_path / "out", to="tf", max_shard_size=size)
    run(TF, f"Roberta{head}", tmp_path / "out", tmp_path / "peer.npz", framework="tf")
    found = np.load(tmp_path / "peer.npz")
    drawn = checkpoints.draw(checkpoints.small_config(head), head)
    assert len(found.files) == len(drawn)
    kernel = "roberta|encoder|layer_._1|output|dense|kernel:0"
    assert np.array_equal(found[kernel], drawn["roberta.encoder.layer.1.output.dense.weight"].astype(np.float32).T)


@pytest.mark.parametrize(
    ("to", "name", "model_type"),
    [
        ("tf", "CamembertForMaskedLM", "camembert"), ("tf", "XLMRobertaForTokenClassification", "xlm-roberta"),
        ("flax", "XLMRobertaForMaskedLM", "xlm-roberta"),
    ],
)  # fmt: skip
def test_files_of_other_families_load_there_in_their_class(to: Any, name: str, model_type: str, tmp_path: Path) -> None:
    pytest.importorskip({"tf": "tensorflow", "flax": "flax"}[to])
    head: Any = name.removeprefix("XLMRoberta").removeprefix("Camembert")
    source = checkpoints.make(tmp_path / "source", head, dtype="float32")
    fields = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**fields, "model_type": model_type, "architectures": [name]}))
    convert(source, tmp_path / "out", to=to)
    run({"tf": TF, "flax": FLAX}[to], name, tmp_path / "out", tmp_path / "peer.npz", framework=to)
    found = dict(np.load(tmp_path / "peer.npz"))
    drawn = checkpoints.draw(checkpoints.small_config(head), head)
    assert len(found) == len(drawn)
    sums = [float(np.abs(array.astype(np.float32)).sum(dtype=np.float64)) for array in drawn.values()]
    assert sorted(float(np.abs(a).sum(dtype=np.float64)) for a in found.values()) == pytest.approx(sorted(sums))
