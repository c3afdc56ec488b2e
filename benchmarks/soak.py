"""Does memory stay bounded? Thousands of calls with random lengths, and models created and deleted, in each framework.

    python -m benchmarks.soak [--calls 5000] [--lengths 60] [--models 100] [--frameworks pt tf flax]

Each work runs in a separate process for each framework. `infer` is called with one to four rows of 1 to 500 tokens;
`forward` is the plain call with a new length each time; `models` creates a model, calls it, and deletes it. The model is
small (4 layers of 128), so that memory kept for each length stands out. Figures are resident MB. With another folder in
front of PYTHONPATH they are those of another version of this library.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import peers

PREFIXES = {"pt": "", "tf": "TF", "flax": "Flax"}
LONGEST = 500


def resident() -> float:
    """Resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def give_back() -> None:
    """Make glibc return freed memory to the system, so that only memory in use counts; other C libraries do so anyway."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def new_model(framework: str) -> Any:
    """A small model with a head for masked tokens."""
    import roberta

    sizes = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
    config = roberta.RobertaConfig(vocab_size=1000, **sizes)
    return getattr(roberta, f"{PREFIXES[framework]}RobertaForMaskedLM")(config)


def rows(rng: np.random.Generator, longest: int) -> dict[str, np.ndarray]:
    """One to four rows of random lengths."""
    lengths = rng.integers(1, longest + 1, rng.integers(1, 5))
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.where(mask, rng.integers(5, 1000, mask.shape), 1)
    return {"input_ids": ids, "attention_mask": mask.astype(np.int64)}


def forward(framework: str, model: Any, seq: int) -> None:
    """The plain call on one row."""
    ids = np.full((1, seq), 7)
    if framework == "pt":
        import torch

        with torch.no_grad():
            model(torch.from_numpy(ids))
    else:
        np.asarray(model(ids).logits)


def work(framework: str, name: str) -> Callable[[int], None]:
    """The function that is called repeatedly, with the number of the call."""
    rng = np.random.default_rng(0)
    model = None if name == "models" else new_model(framework)
    lengths = rng.permutation(np.arange(2, LONGEST))

    def infer(_number: int) -> None:
        batch = rows(rng, LONGEST)
        assert model is not None
        model.infer(batch, where=(batch["attention_mask"] > 0) & (rng.random(batch["input_ids"].shape) < 0.15))

    def drop(_number: int) -> None:
        forward(framework, new_model(framework), 8)
        gc.collect()

    plain = {"forward": lambda number: forward(framework, model, int(lengths[number % len(lengths)]))}
    return {"infer": infer, "models": drop, **plain}[name]


def child(framework: str, name: str, times: int) -> None:
    """Do one work, and print the memory at several points as JSON."""
    marks = sorted({0, 1, *(max(1, int(times * part)) for part in (0.02, 0.1, 0.2, 0.5, 0.75, 1))})
    run, found = work(framework, name), {}
    for number in range(times + 1):
        if number in marks:
            found[number] = resident()
        if number < times:
            run(number)
    give_back()
    print(json.dumps({**found, "the end, when glibc has returned freed memory": resident()}))


def main() -> None:
    """Run every work in a separate process, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=5000, help="calls of infer")
    parser.add_argument("--lengths", type=int, default=60, help="lengths of the plain call")
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--frameworks", nargs="+", choices=PREFIXES, default=list(PREFIXES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], options.child[1], int(options.child[2]))
        return
    counts = {"infer": options.calls, "forward": options.lengths, "models": options.models}
    for framework in options.frameworks:
        for name, times in counts.items():
            if not times:
                continue
            command = [sys.executable, "-m", "benchmarks.soak", "--child", framework, name, str(times)]
            environment = peers.environment(None, **peers.quiet(options.threads))
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{framework} {name}: {done.stderr[-2000:]}")
            figures = json.loads(done.stdout.splitlines()[-1])
            print(f"{framework} {name}:", ", ".join(f"{mb:.0f} MB after {n}" for n, mb in figures.items()), flush=True)


if __name__ == "__main__":
    main()
