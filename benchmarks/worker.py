"""One side in its own process: it loads, then answers requests on standard input, one line of JSON each.

    python -m benchmarks.worker SIDE DTYPE FOLDER SEQUENCES
    python -m benchmarks.worker machine - - 0

The side "machine" measures the highest speed at which matrices of this model's shapes are multiplied.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engines import BUDGET, ENGINES
from benchmarks.jobs import FIXED, Batch, batches, dtypes

SHAPES = ((1024, 768, 768), (1024, 768, 3072), (1024, 3072, 768))  # rows of 8 x 128, in, out


def timed(call: Callable[[], object], times: int) -> dict[str, float]:
    """Wall and CPU seconds of one of `times` calls."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        call()
    return {"wall": (time.perf_counter() - wall) / times, "cpu": (time.process_time() - cpu) / times}


def hidden_states(results: list[np.ndarray], some: list[Batch]) -> np.ndarray:
    """The hidden states of the real tokens, (tokens, hidden), in the order of the work's rows, from results of batches."""
    found: dict[int, np.ndarray] = {}
    for batch, result in zip(some, results, strict=True):
        counts = batch.mask.sum(axis=1)
        tokens = result if result.ndim == 2 else result[batch.mask > 0]
        found |= dict(zip(batch.rows.tolist(), np.split(tokens, counts.cumsum()[:-1]), strict=True))
    return np.concatenate([found[row] for row in sorted(found)])


def side(name: str, dtype: str, folder: Path, sequences: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Load one side, and return the function that answers its requests."""
    engine = ENGINES[name]
    run = engine.load(folder, dtype)
    budget = None if engine.is_ours else BUDGET
    made: dict[str, list[Batch]] = {}

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        work = request["work"]
        some = made.setdefault(work, batches(work, sequences, budget=budget))
        if "first" in request:
            results: list[np.ndarray] = []
            seconds = timed(lambda: results.extend(run(batch.ids, batch.mask) for batch in some), 1)
            np.save(request["first"], hidden_states(results, some))
            return seconds
        times = FIXED[work][2] if work in FIXED else 1
        return timed(lambda: [run(batch.ids, batch.mask) is None for batch in some], times)

    return answer


def machine() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return the function that measures the highest speed of matrix products, in GFLOP/s."""
    import torch

    work = 2 * sum(rows * inner * outer for rows, inner, outer in SHAPES)

    def speed(kind: torch.dtype) -> float:
        pairs = [(torch.rand(rows, inner).to(kind), torch.rand(inner, outer).to(kind)) for rows, inner, outer in SHAPES]
        return max(work / timed(lambda: [a @ b is None for a, b in pairs], 5)["wall"] / 1e9 for _ in range(3))

    return lambda request: {name: speed(getattr(torch, name)) for name in dtypes() if name != "int8"}


@contextmanager
def answers() -> Iterator[Any]:
    """Reserve standard output for answers: whatever libraries print goes to standard error."""
    with os.fdopen(os.dup(1), "w") as stream:
        os.dup2(2, 1)
        yield stream


def main() -> None:
    """Serve until standard input ends."""
    name, dtype, folder, sequences = sys.argv[1:]
    with answers() as stream:
        start = time.perf_counter()
        answer = machine() if name == "machine" else side(name, dtype, Path(folder), int(sequences))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        print(json.dumps({"seconds": time.perf_counter() - start, "MB": peak}), file=stream, flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(json.loads(line))), file=stream, flush=True)


if __name__ == "__main__":
    main()
