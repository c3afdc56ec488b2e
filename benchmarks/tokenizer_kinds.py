"""Load times of each kind of tokenizer, ours and transformers 4.57's.

    python -m benchmarks.tokenizer_kinds FOLDER ... [--rounds 5]

Each side is a separate process in each round; figures are medians of CPU time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

from benchmarks.peers import environment

SIDE = """
import gc, importlib, json, sys, time
auto = importlib.import_module(sys.argv[1]).AutoTokenizer
for folder in sys.argv[2:]:
    times = []
    try:
        for _ in range(6):
            gc.collect()
            start = time.process_time()
            auto.from_pretrained(folder)
            times.append(time.process_time() - start)
    except Exception:  # a folder that this side cannot load
        times = []
    print(json.dumps(times[1:]))
"""


def load_times(package: str, peer: str | None, folders: list[str]) -> list[list[float]]:
    """CPU seconds of each further load of each folder, in a process of its own; none where a folder fails."""
    settings = environment(peer, TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1", USE_TORCH="0", USE_TF="0")
    command = [sys.executable, "-c", SIDE, package, *folders]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    ours: list[list[float]] = [[] for _ in arguments.folders]
    theirs: list[list[float]] = [[] for _ in arguments.folders]
    for _ in range(arguments.rounds):
        for found, package, peer in ((ours, "roberta", None), (theirs, "transformers", "transformers4")):
            for times, new in zip(found, load_times(package, peer, arguments.folders), strict=True):
                times += new
    print(f"{'folder':24s} {'ours':>9s} {'theirs':>9s} {'ratio':>6s}   (CPU milliseconds)")
    for folder, mine, other in zip(arguments.folders, ours, theirs, strict=True):
        if mine and other:
            first, second = 1000 * median(mine), 1000 * median(other)
            verdict = "" if first <= second else "  MISSED"
            print(f"{Path(folder).name:24s} {first:9.1f} {second:9.1f} {first / second:6.2f}{verdict}")
        else:
            print(f"{Path(folder).name:24s} not loaded by {'transformers' if mine else 'roberta'}")


if __name__ == "__main__":
    main()
