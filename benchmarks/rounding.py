"""The error of float32 at roberta-base size, against float64: each framework, and transformers 4.57's PyTorch.

    python -m benchmarks.rounding        (needs transformers from `make oracle`)

Every side runs in a separate process with the same random weights and ids; the error is the largest difference from our
float64 run, relative to the largest logit.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from math import sqrt
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
PEER = ROOT / ".oracle" / "transformers4"
CLASSES = {"pt": "RobertaForMaskedLM", "tf": "TFRobertaForMaskedLM", "flax": "FlaxRobertaForMaskedLM"}


def make(folder: Path) -> None:
    """Write a checkpoint in float32 whose activations neither vanish nor explode."""
    from roberta import RobertaConfig
    from roberta.common.checkpoint.checkpoint import save_checkpoint
    from roberta.common.parameters import parameters

    config = RobertaConfig.base(architectures=["RobertaForMaskedLM"])
    rng = np.random.default_rng(0)
    tensors = {}
    for p in parameters(config, "ForMaskedLM").values():
        scale = {"dense": 1.2 / sqrt(p.shape[-1]), "embedding": 0.5}.get(p.kind, 0.15)
        array = rng.normal(p.kind == "norm", scale, p.shape).astype(np.float32)
        tensors[p.name] = (p.shape, "float32", lambda array=array: array)
    save_checkpoint(folder, {"config.json": config.to_json_string()}, tensors)


def logits(side: str, folder: Path) -> np.ndarray:
    """Logits of real tokens by one side: "pt float64", "tf float32", "peer sdpa", ..."""
    ids = np.random.default_rng(1).integers(4, 50_000, (2, 64))
    ids[1, 40:] = 1
    mask = (ids != 1).astype(np.int64)
    framework, option = side.split()
    if framework in ("pt", "peer"):
        import torch

        inputs = [torch.from_numpy(ids), torch.from_numpy(mask)]
    else:
        inputs = [ids, mask]
    if framework == "peer":
        import transformers

        model = transformers.RobertaForMaskedLM.from_pretrained(folder, attn_implementation=option)
    else:
        import roberta

        model = getattr(roberta, CLASSES[framework]).from_pretrained(folder, dtype=option)
    values = model(*inputs).logits
    return np.asarray(values.detach() if framework in ("pt", "peer") else values)[mask > 0]


def main() -> None:
    """Run every side and print its error and the ratio to the peer's."""
    sides = ["pt float64", "peer sdpa", "pt float32", "tf float32", "flax float32"]
    if not PEER.is_dir():
        sys.exit("transformers 4.57 is not installed; run `make oracle`")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / "model")
        found = {}
        for side in sides:
            environment = {**os.environ, "USE_TF": "0", "USE_FLAX": "0"}
            if side.startswith("peer"):
                environment["PYTHONPATH"] = str(PEER)
            subprocess.run([sys.executable, __file__, side, name], env=environment, check=True, cwd=ROOT)
            found[side] = np.load(folder / f"{side}.npy").astype(np.float64)
        exact = found.pop("pt float64")
        errors = {side: np.abs(value - exact).max() / np.abs(exact).max() for side, value in found.items()}
        for side, error in errors.items():
            print(f"{side:14s} {error:.2e}  {error / errors['peer sdpa']:.2f} of transformers'")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        np.save(Path(sys.argv[2]) / f"{sys.argv[1]}.npy", logits(sys.argv[1], Path(sys.argv[2]) / "model"))
    else:
        main()
