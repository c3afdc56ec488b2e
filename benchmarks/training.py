"""One update of a masked language model of roberta-base size compared with transformers, on a CPU, in one run.

    python -m benchmarks.training [--frameworks PyTorch TensorFlow Flax] [--rounds 5] [--threads 2] [--docs]

An update uses a batch of 8 x 128 tokens without padding, 15 % of them masked, dropout of 0.1 and AdamW, in float32, and
in bfloat16 if the processor computes in it. Each side is a separate process with the same number of threads; each round
runs all sides once. The first update of each side, which may compile, is reported separately. The share of the machine's
speed counts the matrix products of the layers and of the head at masked tokens, which are necessary on every side,
whatever else a side computes.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import inference, jobs, pages, peers
from benchmarks.children import Child
from benchmarks.trainers import MASKED, ROWS, SEQ, SIDES, VOCABULARY

HIDDEN, WIDE, LAYERS = 768, 3072, 12


def worker(name: str, dtype: str, folder: Path, threads: int) -> Child:
    """Start a process of benchmarks.trainers."""
    side = SIDES[name]
    return Child(
        [sys.executable, "-m", "benchmarks.trainers", name, dtype, str(folder)],
        peers.environment(*side.paths, **dict(side.environment), **peers.quiet(threads)),
        folder.parent / f"{name}-{dtype}.log",
    )


def flops() -> float:
    """Operations in the matrix products of an update: forward, and twice as many backward."""
    tokens = ROWS * SEQ
    layer = tokens * HIDDEN * (4 * HIDDEN + 2 * WIDE) + 2 * tokens * SEQ * HIDDEN
    head = round(MASKED * tokens) * HIDDEN * (HIDDEN + VOCABULARY)
    return 3 * 2.0 * (LAYERS * layer + head)


def measure(wanted: list[tuple[str, str]], folder: Path, rounds: int, threads: int) -> dict[str, Any]:
    """Medians of every side, the first update separately, and the highest speed of the machine."""
    workers, failed = {}, {}
    first: dict[str, dict[str, float]] = {}
    for name, dtype in wanted:
        try:
            child = worker(name, dtype, folder, threads)
            first[f"{name}, {dtype}"] = child.ask(seed=0)
            workers[f"{name}, {dtype}"] = child
        except RuntimeError as error:
            failed[f"{name}, {dtype}"] = str(error).strip().splitlines()[-1]
    machine = inference.worker("machine", "-", folder, 0, threads)
    speeds, values = [], {key: [] for key in workers}
    for number in range(1, rounds + 1):
        speeds.append(machine.ask())
        for key, child in workers.items():
            values[key].append(child.ask(seed=number))
            print(f"round {number}: {key}: {values[key][-1]}", file=sys.stderr)
    for child in [*workers.values(), machine]:
        child.close()
    return {
        "GFLOP/s": {kind: max(speed[kind] for speed in speeds) for kind in speeds[0]},
        "first": first,
        "failed": failed,
        "updates": {
            key: {name: median(value[name] for value in many) for name in ("wall", "cpu", "MB")}
            for key, many in values.items()
        },
    }


def table(found: dict[str, Any]) -> str:
    """One row per side: seconds, share of the machine, and how many times as fast as transformers and our PyTorch."""
    lines = [
        "| update of 8 x 128 | wall s | CPU s | of the machine | times transformers | times our PyTorch | peak MB |"
    ]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    updates = found["updates"]
    for key, value in updates.items():
        _, framework, dtype = key.split(", ")
        share = flops() / value["wall"] / 1e9 / found["GFLOP/s"][dtype]
        against = [
            ""
            if peer is None or peer is value
            else f"{peer['wall'] / value['wall']:.2f} ({peer['cpu'] / value['cpu']:.2f})"
            for peer in (updates.get(f"transformers 4.57, {framework}, float32"), updates.get("ours, PyTorch, float32"))
        ]
        lines.append(
            f"| {key} | {value['wall']:.2f} | {value['cpu']:.2f} | {share:.0%} | {' | '.join(against)} | {value['MB']:.0f} |"
        )
    return "\n".join(lines + [f"{key} did not run: {why}" for key, why in found["failed"].items()])


def text(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        f"{results['date']}, {results['cores']} cores, {results['threads']} threads a side, {results['rounds']} rounds; "
        f"`{results['command']}`. Ratios are of medians by wall time, in brackets by CPU time.",
    ]
    return "\n\n".join([*lines, *(table(found) for found in results["frameworks"].values())])


def sides_of(framework: str) -> list[tuple[str, str]]:
    """The sides of a framework in the dtypes that this processor computes in, and our PyTorch."""
    return [
        (name, dtype)
        for name, side in SIDES.items()
        for dtype in side.dtypes
        if dtype in jobs.dtypes() and (framework in name or (name, dtype) == ("ours, PyTorch", "float32"))
    ]


def main() -> None:
    """Measure and print, and with --docs write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["PyTorch", "TensorFlow", "Flax"]
    parser.add_argument("--frameworks", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--docs", action="store_true", help="keep the results, and put them into docs/training.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "base"
        make = [sys.executable, "-m", "benchmarks.checkpoints", "base", "ForMaskedLM", str(folder)]
        subprocess.run(make, env=peers.environment(), check=True)
        found = {
            name: measure(sides_of(name), folder, arguments.rounds, arguments.threads) for name in arguments.frameworks
        }
    command = shlex.join(["python", "-m", "benchmarks", "training", *sys.argv[1:]])
    head = {"date": date.today().isoformat(), "cores": os.cpu_count(), "command": command}
    results = {**head, "threads": arguments.threads, "rounds": arguments.rounds, "frameworks": found}
    print(text(results))
    if arguments.docs:
        pages.keep("training", results)
        pages.put("training.md", "speed", text(results))


if __name__ == "__main__":
    main()
