"""Import, load and a first answer in a fresh process, compared with the possible minimum and with transformers 4.57.

    python -m benchmarks.first_answer [--rounds 5] [--threads 2]

The model has roberta-base size; the answer is the last hidden state of one row of 16 tokens. Each run is a separate
process, measured from start to end; each round runs all of them once; figures are medians. `bare` imports the framework,
maps the file, hands over the tensors and runs one forward pass (benchmarks/bare.py).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks import peers

OURS = """
import sys, numpy as np, roberta
model = getattr(roberta, sys.argv[2] + "RobertaModel").from_pretrained(sys.argv[1])
print(np.abs(model.infer({"input_ids": np.arange(5, 21).reshape(1, 16)})["last_hidden_state"]).sum())
"""
PEER = """
import sys, numpy as np, transformers
ids = np.arange(5, 21).reshape(1, 16)
if sys.argv[2]:
    model = transformers.TFRobertaModel.from_pretrained(sys.argv[1], from_pt=True)
    states = model(ids).last_hidden_state.numpy()
else:
    import torch
    model = transformers.RobertaModel.from_pretrained(sys.argv[1])
    with torch.inference_mode():
        states = model(torch.from_numpy(ids)).last_hidden_state.numpy()
print(np.abs(states).sum())
"""
PREFIXES = {"pt": "", "tf": "TF", "flax": "Flax"}


def command(kind: str, framework: str, folder: Path) -> list[str]:
    """The command that is started."""
    if kind == "bare":
        return [sys.executable, str(Path(__file__).with_name("bare.py")), framework, str(folder)]
    return [sys.executable, "-c", OURS if kind == "ours" else PEER, str(folder), PREFIXES[framework]]


def environment(kind: str, framework: str, threads: int) -> dict[str, str]:
    """The environment of a run: the packages that it sees, and its number of threads."""
    settings = {"OMP_NUM_THREADS": str(threads), "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    if kind != "peer":
        return peers.environment(None, **settings)
    tensorflow = {"USE_TF": "AUTO" if framework == "tf" else "0", "USE_FLAX": "0", "TF_USE_LEGACY_KERAS": "1"}
    return peers.environment("transformers4", **settings, **tensorflow)


def measured(kind: str, framework: str, folder: Path, threads: int) -> tuple[dict[str, float], float]:
    """Wall and CPU seconds and peak MB of one run, and the sum that it printed."""
    figures, text = peers.measured(command(kind, framework, folder), environment(kind, framework, threads))
    return figures, float(text.split()[-1])


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    # transformers 4.57's Flax does not run on today's JAX
    sides = [(kind, name) for name in PREFIXES for kind in ("ours", "bare", "peer") if (kind, name) != ("peer", "flax")]
    found: dict[tuple[str, str], list[dict[str, float]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "base"
        make = [sys.executable, "-m", "benchmarks.checkpoints", "base", "Model", str(folder)]
        subprocess.run(make, env=peers.environment(None), check=True)
        for number in range(options.rounds + 1):
            for kind, name in sides:
                figures, total = measured(kind, name, folder, options.threads)
                if number:  # round 0 fills the caches
                    found[kind, name].append(figures)
                else:
                    print(f"{kind} in {name} answers {total:.3f}", file=sys.stderr)
    for name in PREFIXES:
        middle = {
            kind: {unit: median(run[unit] for run in found[kind, name]) for unit in ("wall", "cpu", "MB")}
            for kind in ("ours", "bare", "peer")
            if (kind, name) in found
        }
        for kind, units in middle.items():
            ratios = ", ".join(f"{unit} {middle['ours'][unit] / units[unit]:.2f}" for unit in units)
            print(
                f"{name} {kind}: {units['wall']:.2f} s, CPU {units['cpu']:.2f} s, {units['MB']:.0f} MB; ours / it: {ratios}"
            )


if __name__ == "__main__":
    main()
