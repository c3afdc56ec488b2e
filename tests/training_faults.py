"""Kill trainings at random moments and resume each: the result must equal that of an undisturbed training, to the bit.

The moments are of every kind: before the first update, between updates, while a checkpoint is written, after the last
update. `training_server.py` starts the many trainings.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import training_cases
from training_server import PATIENCE, Trainings

UPDATES = 30
SETTINGS = [
    "--updates", str(UPDATES), "--batch-size", "4", "--micro-batch-size", "2", "--warmup", "5", "--learning-rate", "1e-3",
    "--dropout", "0.1", "--save-every", "4", "--evaluate-every", "15", "--keep", "2", "--seed", "3", "--no-tensorboard",
    "--resume",
]  # fmt: skip
ONE_SHAPE = {"max_length": 16}  # all rows are in one bucket: XLA compiles one program


# -- moments ---------------------------------------------------------------------------------------------------------


def newest(output: Path) -> tuple[int, int]:
    """The size of a training's log in bytes, and the last update in it."""
    log = output / "timing.jsonl"
    content = log.read_bytes() if log.exists() else b""
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    return len(content), json.loads(lines[-1])["update"] if lines else 0


def wait(trainings: Trainings, there: Callable[[], bool]) -> None:
    """Wait until a condition holds, or the training has ended."""
    end = time.monotonic() + PATIENCE
    while not there() and not trainings.has_ended(0.002):
        assert time.monotonic() < end, "a training hangs"


def begins(trainings: Trainings, output: Path) -> None:
    """Wait for the first update: the log is cut where the training resumes, and then it grows."""
    before = [newest(output)[0]]

    def there() -> bool:
        size = newest(output)[0]
        grows, before[0] = size > before[0], size
        return grows

    wait(trainings, there)


def updating(trainings: Trainings, output: Path) -> None:
    """Wait until updates are being made."""
    begins(trainings, output)


def saving(trainings: Trainings, output: Path) -> None:
    """Wait until a checkpoint is being written."""
    begins(trainings, output)
    wait(trainings, lambda: any(output.glob("checkpoints/.step-*.tmp")))


def ending(trainings: Trainings, output: Path) -> None:
    """Wait for the last update; evaluation, the last checkpoint and the model itself follow."""
    begins(trainings, output)
    wait(trainings, lambda: newest(output)[1] == UPDATES)


def starting(trainings: Trainings, output: Path) -> None:
    """Do not wait."""


# The function that waits, in how many of ten kills it is used, and the span of training in which the kill then falls.
MOMENTS = (
    (starting, 2, "start"),
    (updating, 4, "updates"),
    (saving, 2, "save"),
    (ending, 2, "end"),
)


def moments(count: int, rng: random.Random) -> list[tuple[Callable[[Trainings, Path], None], str]]:
    """The function that waits before each kill, in a random order, and the name of the span that follows."""
    some = [(what, span) for what, share, span in MOMENTS for _ in range(share)]
    whole, rest = divmod(count, len(some))
    chosen = some * whole + rng.sample(some, rest)
    rng.shuffle(chosen)
    return chosen


def spans(trainings: Trainings, output: Path) -> dict[str, float]:
    """Measure the seconds of the start, of 10 updates, of a save and of the steps after the last update."""
    start = time.monotonic()
    begins(trainings, output)
    first = time.monotonic()
    wait(trainings, lambda: any(output.glob("checkpoints/.step-*.tmp")))
    save = time.monotonic()
    wait(trainings, lambda: not any(output.glob("checkpoints/.step-*.tmp")))
    saved = time.monotonic()
    wait(trainings, lambda: newest(output)[1] == UPDATES)
    last = time.monotonic()
    wait(trainings, lambda: False)
    seconds = {"start": first - start, "updates": 10 * (last - first) / UPDATES, "save": 2 * (saved - save)}
    return seconds | {"end": time.monotonic() - last}


# -- kills -----------------------------------------------------------------------------------------------------------


def command(framework: str, arguments: dict, output: Path) -> list[str]:
    """The training that is running, or a new one."""
    return ["train", *training_cases.flags(arguments), "--framework", framework, "--output", str(output), *SETTINGS]


def digests(output: Path) -> dict[str, str]:
    """SHA-256 of weights, optimizer and log."""
    last = output / "checkpoints" / f"step-{UPDATES:06}"
    files = [
        output / "model.safetensors",
        output / "metrics.jsonl",
        last / "optimizer.safetensors",
        last / "trainer.json",
    ]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def kills(framework: str, count: int, folder: Path, rng: random.Random) -> Counter[str]:
    """Kill trainings of one framework at `count` random moments; each ends undisturbed after its last kill."""
    arguments = training_cases.make(folder, "mlm", num_hidden_layers=1) | ONE_SHAPE
    with Trainings(framework, folder) as trainings:
        for name in ("compiled", "whole"):  # the first one fills the cache of programs
            trainings.start(command(framework, arguments, folder / name))
            seconds = spans(trainings, folder / name)
            if failure := trainings.failure():
                return Counter({failure: 1})
        whole, counts = digests(folder / "whole"), Counter(kills=0)
        counts["different without a kill"] += digests(folder / "compiled") != whole
        left = moments(count, rng)
        while left:
            output = folder / f"run-{counts['runs']}"
            counts["runs"] += 1
            words = command(framework, arguments, output)
            while left and killed(trainings, words, output, left[-1], seconds, rng, counts):
                left.pop()
            counts[verdict(trainings, words, output, whole)] += 1
    return +counts


def killed(
    trainings: Trainings,
    words: list[str],
    output: Path,
    moment: tuple[Callable[[Trainings, Path], None], str],
    seconds: dict[str, float],
    rng: random.Random,
    counts: Counter[str],
) -> bool:
    """Start a training, kill it, and count what was found; return False if it ended before."""
    reach, span = moment
    trainings.start(words)
    reach(trainings, output)
    if trainings.has_ended(rng.uniform(0, seconds[span])):
        return False
    trainings.kill()
    counts["kills"] += 1
    counts[f"at {reach.__name__}"] += 1
    counts["before any checkpoint"] += not list(output.glob("checkpoints/step-*"))
    counts["amid a save"] += bool(list(output.glob("checkpoints/.step-*.tmp")) or list(output.glob(".*.tmp")))
    return True


def verdict(trainings: Trainings, words: list[str], output: Path, whole: dict[str, str]) -> str:
    """The result of the training, after it has been finished if necessary."""
    failure = trainings.failure()
    if failure.startswith("ended with -9"):
        trainings.start(words)
        failure = trainings.failure()
    if failure:
        return failure
    litter = [path.name for path in output.rglob(".*") if path.name.endswith((".tmp", ".lock"))]
    if litter:
        return f"litter: {litter}"
    found = digests(output)
    return "the same" if found == whole else f"DIFFERENT: {[name for name in whole if found[name] != whole[name]]}"


def good(counts: Counter[str]) -> bool:
    """Whether every training ended with the same bytes and nothing else was left."""
    known = {"kills", "runs", "before any checkpoint", "amid a save", "the same"}
    known |= {f"at {what.__name__}" for what, *_ in MOMENTS}
    return counts["the same"] == counts["runs"] > 0 and set(counts) <= known
