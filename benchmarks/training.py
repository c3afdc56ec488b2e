"""One update of a masked language model of roberta-base size beside transformers' own, on a CPU, in one run.

    python -m benchmarks.training [--sides WORD ...] [--rounds 5] [--threads 2]

A batch of 8 x 128 tokens without padding, 15 % of them masked, dropout of 0.1, AdamW, in float32, and in bfloat16 where
the processor computes in it. Each side is a process of its own with the same number of threads; rounds go around all
sides in turn. The first update of each side, which may compile, is told apart. The fraction of the machine's speed
counts the products of the layers and of the head at masked tokens: what has to be computed, whatever a side computes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import jobs, peers
from benchmarks.inference import Worker as Machine
from benchmarks.trainers import MASKED, ROWS, SEQ, SIDES, VOCABULARY

HIDDEN, WIDE, LAYERS = 768, 3072, 12


class Worker:
    """A process of benchmarks.trainers."""

    def __init__(self, name: str, dtype: str, folder: Path, threads: int) -> None:
        side = SIDES[name]
        settings = dict(side.environment) | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
        settings |= {"KMP_BLOCKTIME": "0", "TF_CPP_MIN_LOG_LEVEL": "3", "HF_HUB_OFFLINE": "1"}
        self.log = (folder.parent / f"{name}-{dtype}.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.trainers", name, dtype, str(folder)],
            env=peers.environment(*side.paths, **settings),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
        )  # fmt: skip
        self.started = self._answer()

    def ask(self, seed: int) -> dict[str, float]:
        """Wall and CPU seconds, loss and peak memory of an update.

        Raises:
            RuntimeError: the process has ended; with the end of what it printed.
        """
        assert self.process.stdin is not None
        print(json.dumps({"seed": seed}), file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.log.seek(0)
            raise RuntimeError(f"ended with {code}: {self.log.read()[-1500:]}")
        answer: dict[str, float] = json.loads(line)
        return answer

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.log.close()


def flops() -> float:
    """Operations of the products of an update: forwards, and twice as many backwards."""
    tokens = ROWS * SEQ
    layer = tokens * HIDDEN * (4 * HIDDEN + 2 * WIDE) + 2 * tokens * SEQ * HIDDEN
    head = round(MASKED * tokens) * HIDDEN * (HIDDEN + VOCABULARY)
    return 3 * 2.0 * (LAYERS * layer + head)


def measure(wanted: list[tuple[str, str]], folder: Path, rounds: int, threads: int) -> dict[str, Any]:
    """Medians of every side, the first update apart, and the largest speed of the machine."""
    workers, failed = {}, {}
    first: dict[str, dict[str, float]] = {}
    for name, dtype in wanted:
        try:
            worker = Worker(name, dtype, folder, threads)
            first[f"{name}, {dtype}"] = worker.ask(0)
            workers[f"{name}, {dtype}"] = worker
        except RuntimeError as error:
            failed[f"{name}, {dtype}"] = str(error).strip().splitlines()[-1]
    machine = Machine("machine", "-", folder, 0, threads)
    speeds, values = [], {key: [] for key in workers}
    for number in range(1, rounds + 1):
        speeds.append(machine.ask())
        for key, worker in workers.items():
            values[key].append(worker.ask(number))
            print(f"round {number}: {key}: {values[key][-1]}", file=sys.stderr)
    for worker in [*workers.values(), machine]:
        worker.close()
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
    """A line a side: seconds, fraction of the machine, and how often faster than transformers in float32."""
    lines = ["| update of 8 x 128 | wall s | CPU s | of the machine | times transformers (wall, CPU) | peak MB |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for key, value in found["updates"].items():
        framework = key.split(", ")[1]
        peer = found["updates"].get(f"transformers 4.57, {framework}, float32")
        ratio = "" if peer is None else f"{peer['wall'] / value['wall']:.2f}, {peer['cpu'] / value['cpu']:.2f}"
        share = flops() / value["wall"] / 1e9 / found["GFLOP/s"][key.split(", ")[2]]
        lines.append(
            f"| {key} | {value['wall']:.2f} | {value['cpu']:.2f} | {share:.0%} | {ratio} | {value['MB']:.0f} |"
        )
    return "\n".join(lines + [f"{key} did not run: {why}" for key, why in found["failed"].items()])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", nargs="+", default=[""], help="words of the names of the sides to run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    known = jobs.dtypes()
    wanted = [
        (name, dtype)
        for name, side in SIDES.items()
        for dtype in side.dtypes
        if dtype in known and any(word in name for word in arguments.sides)
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "base"
        make = [sys.executable, "-m", "benchmarks.checkpoints", "base", "ForMaskedLM", str(folder)]
        subprocess.run(make, env=peers.environment(), check=True)
        found = measure(wanted, folder, arguments.rounds, arguments.threads)
    print(json.dumps({"cores": os.cpu_count(), "threads": arguments.threads, "rounds": arguments.rounds, **found}))
    print(table(found))


if __name__ == "__main__":
    main()
