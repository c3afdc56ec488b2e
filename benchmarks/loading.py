"""Memory that `from_pretrained` needs beyond the model, at roberta-base size, in each framework and format.

    python -m benchmarks.loading [--frameworks pt tf flax] [--layers 12]

Each load runs in a fresh process, after the framework's import and a small computation with every kind of array that a
load creates. Two peaks are measured from that point on, minus the bytes of the model and of its largest tensor:

    resident   VmHWM: all pages, including those of the mapped file, which the kernel may drop at any time
    own        RssAnon: memory that the process itself holds; observed from outside, every 2 ms

The limit of 64 MB is for `own`. Linux only.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import threading
from math import prod
from pathlib import Path

import numpy as np

CLASSES = {"pt": "RobertaForMaskedLM", "tf": "TFRobertaForMaskedLM", "flax": "FlaxRobertaForMaskedLM"}
OLDER = {"pt": "pytorch_model.bin", "tf": "tf_model.h5", "flax": "flax_model.msgpack"}
LIMIT = 64.0  # MB
MB = 2**20


def make(root: Path, layers: int) -> tuple[int, int]:
    """Write one random model in every format; return the bytes of the model and of its largest tensor."""
    from roberta import RobertaConfig
    from roberta.common.checkpoint.checkpoint import save_checkpoint
    from roberta.common.parameters import parameters
    from roberta.conversion import convert

    config = RobertaConfig.base(architectures=["RobertaForMaskedLM"], num_hidden_layers=layers)
    table = parameters(config, "ForMaskedLM")
    rng = np.random.default_rng(0)
    tensors = {p.name: (p.shape, "float32", lambda p=p: rng.random(p.shape, np.float32)) for p in table.values()}
    save_checkpoint(root / "safetensors", {"config.json": config.to_json_string()}, tensors)
    convert(root / "safetensors", root / "shards", to="safetensors", max_shard_size="100MB")
    for framework in CLASSES:
        convert(root / "safetensors", root / framework, to=framework)  # type: ignore[arg-type]
    sizes = [4 * prod(p.shape) for p in table.values()]
    return sum(sizes), max(sizes)


def warm(framework: str) -> None:
    """Import a framework and compute with it."""
    import roberta

    getattr(roberta, CLASSES[framework])
    if framework == "pt":
        import torch

        (torch.from_numpy(np.ones((8, 8), np.float32)) @ torch.ones(8, 8)).sum().item()
    elif framework == "tf":
        import keras
        import tensorflow as tf

        variable = keras.Variable(np.ones((8, 8), np.float32))
        variable.assign(np.zeros((8, 8), np.float32))
        tf.reduce_sum(variable.value @ tf.ones((8, 8))).numpy()
    else:
        import jax.numpy as jnp

        np.asarray((jnp.array(np.ones((8, 8), np.float32), copy=True) @ jnp.ones((8, 8))).sum())


def load(framework: str, folder: str) -> None:
    """Run in the fresh process: report that it is ready, wait, load, report that it is done, and wait again."""
    import roberta

    warm(framework)
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    print("ready", flush=True)
    sys.stdin.readline()
    model = getattr(roberta, CLASSES[framework]).from_pretrained(folder)
    print("loaded", type(model).__name__, flush=True)
    sys.stdin.readline()


def pages(process: int) -> dict[str, int]:
    """Bytes by their names in /proc/PID/status: VmHWM, VmRSS, RssAnon."""
    text = Path(f"/proc/{process}/status").read_text()
    return {name: int(size) * 1024 for name, size in re.findall(r"(\w+):\s*(\d+) kB", text)}


def measure(framework: str, folder: Path) -> tuple[int, int]:
    """The two peaks of one load, resident and own, above the memory that the process had before."""
    command = [sys.executable, "-P", "-m", "benchmarks.loading", "--load", framework, str(folder)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin
    assert child.stdout
    if child.stdout.readline() != "ready\n":
        raise RuntimeError(f"{framework} did not start")
    before, own, ended = pages(child.pid), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.002):
            own[0] = max(own[0], pages(child.pid)["RssAnon"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    child.stdin.write("go\n")
    child.stdin.flush()
    loaded = child.stdout.readline()
    ended.set()
    watcher.join()
    if not loaded.startswith("loaded"):
        raise RuntimeError(f"{framework} did not load {folder.name}")
    after = pages(child.pid)
    child.communicate("end\n")
    return after["VmHWM"] - before["VmRSS"], max(own[0], after["RssAnon"]) - before["RssAnon"]


def main() -> None:
    """Print a row for each framework and format; exit with 1 if one is over the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frameworks", nargs="+", choices=CLASSES, default=list(CLASSES))
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--load", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        load(*arguments.load)
        return
    worst = 0.0
    with tempfile.TemporaryDirectory() as root:
        model, largest = make(Path(root), arguments.layers)
        print(f"model {model / MB:.0f} MB, largest tensor {largest / MB:.0f} MB; above both, in MB:")
        print(f"{'framework':10s} {'file':20s} {'resident':>9s} {'own':>9s}")
        for framework in arguments.frameworks:
            for folder, file in (("safetensors", "safetensors"), ("shards", "shards"), (framework, OLDER[framework])):
                peaks = [(peak - model - largest) / MB for peak in measure(framework, Path(root) / folder)]
                worst = max(worst, peaks[1])
                print(f"{framework:10s} {file:20s} {peaks[0]:9.0f} {peaks[1]:9.0f}", flush=True)
    sys.exit(worst > LIMIT)


if __name__ == "__main__":
    main()
