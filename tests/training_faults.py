"""Kill trainings at random moments and go on with each: the end has to be that of a training nobody killed, to the bit."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import training_cases

UPDATES = 60
SETTINGS = [
    "--updates", str(UPDATES), "--batch-size", "4", "--micro-batch-size", "3", "--warmup", "5", "--learning-rate", "1e-3",
    "--dropout", "0.1", "--save-every", "7", "--evaluate-every", "20", "--keep", "2", "--seed", "3", "--no-tensorboard",
]  # fmt: skip
PATIENCE = 600  # seconds for a child to begin


def command(framework: str, arguments: dict, output: Path) -> list[str]:
    """A training on its way, or a new one."""
    words = [*training_cases.flags(arguments), "--framework", framework, "--output", str(output), *SETTINGS, "--resume"]
    return [sys.executable, "-P", "-m", "roberta", "train", *words]


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


def begin(framework: str, arguments: dict, output: Path) -> subprocess.Popen:
    """A child that has made an update, or is at its end."""
    log, last = output / "timing.jsonl", None
    child = subprocess.Popen(
        command(framework, arguments, output), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=dict(os.environ)
    )
    end = time.monotonic() + PATIENCE
    while child.poll() is None and time.monotonic() < end:
        size = log.stat().st_size if log.exists() else 0
        if last is not None and size > last:  # it is cut first, and then it grows
            break
        last = size
        time.sleep(0.005)
    return child


def ended(child: subprocess.Popen) -> str:
    """Nothing where a child ended well, else its last words."""
    words = child.communicate()[1].decode()
    return "" if child.returncode == 0 else f"ended with {child.returncode}: {words.strip().splitlines()[-1:]}"


def kills(framework: str, count: int, folder: Path, rng: random.Random) -> Counter[str]:
    """Kill trainings of one framework at `count` random moments after their first update."""
    arguments = training_cases.make(folder, "mlm")
    child = begin(framework, arguments, folder / "whole")
    start = time.monotonic()
    failure = ended(child)
    seconds = time.monotonic() - start  # of all updates
    if failure:
        return Counter({failure: 1})
    whole, counts = digests(folder / "whole"), Counter(kills=0)
    while counts["kills"] < count:
        output = folder / f"run-{counts['runs']}"
        counts["runs"] += 1
        while counts["kills"] < count:
            child = begin(framework, arguments, output)
            time.sleep(rng.uniform(0, seconds / 2))
            if child.poll() is not None:
                break
            child.kill()
            child.communicate()
            counts["kills"] += 1
            there = len(list(output.glob("checkpoints/step-*")))
            counts["before any checkpoint" if not there else "after one"] += 1
            counts["amid a save"] += bool(list(output.glob("checkpoints/.step-*.tmp")))
        failure = ended(child) if child.returncode >= 0 else ""
        failure = failure or ended(begin(framework, arguments, output))
        litter = [path.name for path in output.rglob(".*") if path.name.endswith((".tmp", ".lock"))]
        same = not failure and digests(output) == whole
        counts[failure or (f"litter: {litter}" if litter else "the same" if same else "DIFFERENT")] += 1
    return counts


def good(counts: Counter[str]) -> bool:
    """Whether every training ended with the same bytes and nothing else was left."""
    known = {"kills", "runs", "before any checkpoint", "after one", "amid a save", "the same"}
    return counts["the same"] == counts["runs"] > 0 and set(counts) <= known
