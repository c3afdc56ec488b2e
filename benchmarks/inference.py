"""The encoder at roberta-base size compared with every named peer, on a CPU, in one run.

    python -m benchmarks.inference [--sides WORD ...] [--works WORK ...] [--rounds 5] [--sequences 512] [--docs]

Each side runs in a separate process for each of its dtypes, with the same number of threads. All sides take part in each
round, one after the other, while the others wait for input; they stop spinning after a millisecond. Weights are those of
a new model (see benchmarks/checkpoints.py). The result is RobertaModel's last hidden state, without a pooler: a head for
masked tokens would take most of the time, and the same time on every side. Every side's values are compared with those
of the first side.

Peers run the ragged job in the given order with batches of 32, and sorted with a budget of 1,024 tokens including
padding; our sides receive the whole job unsorted in both cases. Only transformers 4.57 and our sides run it in the given
order, in float32, which takes minutes. Its first run counts, including compilation. Goals are about wall time; CPU
seconds, summed over all threads, are shown too.
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
from statistics import quantiles
from typing import Any

import numpy as np

from benchmarks import jobs, pages, peers, performance
from benchmarks.children import Child
from benchmarks.engines import ENGINES


def worker(name: str, dtype: str, folder: Path, sequences: int, threads: int) -> Child:
    """Start a process of benchmarks.worker."""
    engine = ENGINES.get(name)
    paths, settings = (engine.paths, dict(engine.environment)) if engine else ((), {})
    settings |= peers.quiet(threads) | {"TRANSFORMERS_VERBOSITY": "error"}
    return Child(
        [sys.executable, "-m", "benchmarks.worker", name, dtype, str(folder), str(sequences)],
        peers.environment(*paths, **settings),
        folder.parent / f"{name}-{dtype}.log",
    )


def started(
    wanted: list[tuple[str, str]], folder: Path, sequences: int, threads: int
) -> tuple[dict[tuple[str, str], Child], dict[str, str]]:
    """Start the sides; return those that run, and the reasons why others do not."""
    workers, failures = {}, {}
    for name, dtype in wanted:
        print(f"start {name}, {dtype}", file=sys.stderr)
        try:
            child = worker(name, dtype, folder, sequences, threads)
            child.ask(work="1 x 16")
            workers[name, dtype] = child
        except RuntimeError as error:
            failures[f"{name}, {dtype}"] = str(error).strip().splitlines()[-1]
            print(f"{name}, {dtype}: {error}", file=sys.stderr)
    return workers, failures


def first_runs(
    workers: dict[tuple[str, str], Child], folder: Path, works: list[str]
) -> tuple[dict[str, dict[str, dict[str, float]]], dict[str, float]]:
    """Seconds of the first run of every work and side, and the largest difference from the first side's numbers."""
    seconds: dict[str, dict[str, dict[str, float]]] = {work: {} for work in works}
    differences: dict[str, float] = {}
    for work in works:
        truth = None
        for (name, dtype), child in workers.items():
            if not runs(name, dtype, work):
                continue
            key = f"{name}, {dtype}"
            seconds[work][key] = child.ask(work=work, first=str(folder / "first.npy"))
            values = np.load(folder / "first.npy")
            truth = values if truth is None else truth
            differences[key] = max(differences.get(key, 0.0), float(np.abs(values - truth).max()))
            print(
                f"{work}: {key}: first run {seconds[work][key]['wall']:.2f} s, "
                f"differs by {differences[key]:.1e} of {np.abs(truth).max():.1f}",
                file=sys.stderr,
            )
    return seconds, differences


def runs(name: str, dtype: str, work: str) -> bool:
    """Whether a side runs a work."""
    return work != jobs.GIVEN or (dtype == "float32" and name.startswith(("ours", "transformers 4.57")))


def summary(values: list[dict[str, float]]) -> dict[str, float]:
    """Medians and quartiles."""
    walls = [value["wall"] for value in values]
    low, middle, high = quantiles(walls, n=4, method="inclusive") if len(walls) > 1 else walls * 3
    cpu = sorted(value["cpu"] for value in values)[len(values) // 2]
    return {"wall": middle, "low": low, "high": high, "cpu": cpu}


def measure(
    wanted: list[tuple[str, str]],
    works: list[str],
    folder: Path,
    count: int,
    job_runs: int,
    sequences: int,
    threads: int,
) -> dict[str, Any]:
    """Measure everything that the page shows."""
    workers, failures = started(wanted, folder, sequences, threads)
    ceiling = worker("machine", "-", folder, 0, threads)
    speeds = [ceiling.ask()]
    first, checked = first_runs(workers, folder.parent, works)
    values = {
        work: {key: [value] if work in jobs.JOBS else [] for key, value in sides.items()}
        for work, sides in first.items()
    }
    for number in range(count):
        for work in works:
            if work in jobs.JOBS and number + 1 >= job_runs:  # the first run of a job counts as one
                continue
            print(f"round {number + 1} of {count}: {work}", file=sys.stderr)
            speeds.append(ceiling.ask())
            for (name, dtype), child in workers.items():
                if runs(name, dtype, work):
                    values[work][f"{name}, {dtype}"].append(child.ask(work=work))
    for child in [*workers.values(), ceiling]:
        child.close()
    return {
        "machine": {kind: max(speed[kind] for speed in speeds) for kind in speeds[0]},
        "GFLOP": {work: jobs.flops(work, sequences) / 1e9 for work in works},
        "started": {f"{name}, {dtype}": child.started for (name, dtype), child in workers.items()},
        "failed": failures,
        "differences": checked,
        "first": first,
        "works": {work: {key: summary(many) for key, many in sides.items()} for work, sides in values.items()},
    }


def main() -> None:
    """Measure, print, and with --docs write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", nargs="+", default=[""], help="words of the names of the sides to run")
    parser.add_argument(
        "--dtypes", nargs="+", default=list(jobs.dtypes()), help="by default those that this processor computes in"
    )
    parser.add_argument("--works", nargs="+", choices=jobs.WORKS, default=list(jobs.WORKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--job-runs", type=int, default=1, help="runs of a ragged job, which takes minutes; at most one per round"
    )
    parser.add_argument("--sequences", type=int, default=512, help="sequences of the ragged job")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--docs", action="store_true", help="keep the results, draw the plot and write the page")
    arguments = parser.parse_args()
    wanted = [
        (name, dtype)
        for name, engine in ENGINES.items()
        for dtype in engine.dtypes
        if dtype in arguments.dtypes and any(word in name for word in arguments.sides)
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "base"
        make = [sys.executable, "-m", "benchmarks.checkpoints", "base", "Model", str(folder)]
        subprocess.run(make, env=peers.environment(), check=True)
        jobs.vocabulary(folder)
        found = measure(
            wanted, arguments.works, folder, arguments.rounds, arguments.job_runs, arguments.sequences,
            arguments.threads,
        )  # fmt: skip
    command = shlex.join(["python", "-m", "benchmarks", "inference", *sys.argv[1:]])
    head = {"date": date.today().isoformat(), "cores": os.cpu_count(), "command": command}
    settings = {"rounds": arguments.rounds, "sequences": arguments.sequences, "threads": arguments.threads}
    results = {**head, **settings, **found}
    print(performance.tables(results))
    if arguments.docs:
        pages.keep("inference", results)
        performance.write()


if __name__ == "__main__":
    main()
