"""Our saves load in transformers 4.57 and 5 with equal outputs, and saves of transformers 4.57 load here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import checkpoints
import numpy as np
import pytest
from backends import Backend, assert_close
from peers import environment

from roberta.common.parameters import Head

PEER = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np, torch, transformers
head, source, inputs, target = sys.argv[1:5]
model, report = getattr(transformers, "Roberta" + head).from_pretrained(
    source, output_loading_info=True, dtype=torch.float64, attn_implementation="eager")
assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
tensors = {name: torch.from_numpy(array) for name, array in np.load(inputs).items()}
with torch.no_grad():
    output = model(**tensors)
keep = {name: value.numpy() for name, value in output.items() if hasattr(value, "numpy")}
np.savez(target, **keep)
for safe in (True, False) if transformers.__version__.startswith("4") else (True,):
    model.save_pretrained(f"{source}-{safe}", safe_serialization=safe)
"""


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("head", checkpoints.HEADS)
def test_both_ways(backend: Backend, head: Head, version: int, tmp_path: Path) -> None:
    model = backend.load(head, checkpoints.make(tmp_path / "first", head))
    model.save_pretrained(tmp_path / "ours")
    inputs = checkpoints.batch(head, model.config)
    if head == "ForCausalLM":  # transformers counts cached padding and the like only there
        inputs.pop("attention_mask")
    np.savez(tmp_path / "inputs.npz", **inputs)
    paths = [str(tmp_path / "ours"), str(tmp_path / "inputs.npz"), str(tmp_path / "peer.npz")]
    command = [sys.executable, "-c", PEER, head, *paths]
    done = subprocess.run(command, env=environment(version), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    wanted = dict(np.load(tmp_path / "peer.npz"))
    found = backend.run(model, inputs)
    for name, value in wanted.items():
        assert_close(found[name], value, 1e-10, name)
    for folder in tmp_path.glob("ours-*"):
        again, report = backend.load(head, folder, output_loading_info=True)
        assert not any(report.values())
        for name, value in backend.run(again, inputs).items():
            assert_close(value, found[name], 1e-14, f"{folder.name} {name}")
