"""The tokenizers compared with transformers 4.57's two classes and with the `tokenizers` library itself.

    python -m benchmarks.tokenizers [--rounds 7] [--json FILE]

There is one run with 10,000 sentences and RoBERTa's real vocabulary. Every side is a separate process; each round runs
every side once, so that a busy machine affects all of them equally. Figures are medians of wall time and of CPU time
(all threads). Cold starts (load, memory, first call) use fresh processes. transformers is fetched into a separate
folder.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("ROBERTA_SHARED", ROOT.parent / "shared"))
VOCABULARY = SHARED / "golden" / "roberta-base-tokenizer"
PACKAGES = ["transformers==4.57.6", "tokenizers==0.22.2", "huggingface_hub==0.36.0", "requests"]
SENTENCES = 10_000
SIDES = ("our fast", "our slow", "library", "peer fast", "peer slow")
LONG = 1_000_000

# (what, our side, its job, other side, its job, the largest ratio of CPU seconds, or of MB)
GOALS = [
    ("arrays, one batch", "our fast", "arrays", "library", "encode_batch_fast", 1.2),
    ("arrays, batches of 64", "our fast", "arrays of 64", "library", "encode_batch_fast of 64", 1.2),
    ("arrays and offsets, one batch", "our fast", "offsets", "library", "encode_batch", 1.2),
    ("arrays and offsets, of 64", "our fast", "offsets of 64", "library", "encode_batch of 64", 1.2),
    ("arrays, one batch", "our fast", "arrays", "peer fast", "arrays", 0.5),
    ("arrays, batches of 64", "our fast", "arrays of 64", "peer fast", "arrays of 64", 0.5),
    ("arrays and offsets, one batch", "our fast", "offsets", "peer fast", "offsets", 0.5),
    ("ids and mask, cold", "our slow", "first", "library", "first", 1 / 1.2),
    ("ids and mask, warm", "our slow", "lists", "library", "encode_batch", 1 / 3),
    ("ids and mask, warm", "our slow", "lists", "peer slow", "lists", 1 / 5),
    ("import and load", "our fast", "start", "peer fast", "start", 0.5),
    ("import and load", "our slow", "start", "peer fast", "start", 0.5),
    ("load", "our fast", "load", "peer fast", "load", 0.5),
    ("load", "our slow", "load", "peer fast", "load", 0.5),
    ("memory", "our fast", "memory", "peer fast", "memory", 0.5),
    ("memory", "our slow", "memory", "peer fast", "memory", 0.5),
]


# -- one side, in its own process ------------------------------------------------------------------------------


def loader(side: str) -> Callable[[], Any]:
    """Import the library of a side, and return a function that loads its tokenizer."""
    if side == "library":
        from tokenizers import Tokenizer

        return lambda: Tokenizer.from_file(str(VOCABULARY / "tokenizer.json"))
    if side.startswith("our"):
        import roberta as package
    else:
        import transformers as package
    cls = package.RobertaTokenizerFast if side.endswith("fast") else package.RobertaTokenizer
    return lambda: cls.from_pretrained(str(VOCABULARY))


def jobs(side: str, tokenizer: Any, texts: list[str]) -> dict[str, Callable[[], Any]]:
    """The measured calls of a side."""
    batches = [texts[start : start + 64] for start in range(0, len(texts), 64)]
    letters = "".join(char for text in texts for char in text if char.isalpha())
    hostile = {"no space": (letters * 2)[:LONG], "one letter": "a" * LONG}
    if side == "library":
        fast, full = tokenizer.encode_batch_fast, tokenizer.encode_batch
        return {
            "first": lambda: full(texts),
            "encode_batch_fast": lambda: fast(texts),
            "encode_batch_fast of 64": lambda: [fast(batch) and None for batch in batches],
            "encode_batch": lambda: full(texts),
            "encode_batch of 64": lambda: [full(batch) and None for batch in batches],
            **{name: lambda text=text: tokenizer.encode(text) for name, text in hostile.items()},
        }
    found = {
        "first": lambda: tokenizer(texts),
        "lists": lambda: tokenizer(texts),
        **{name: lambda text=text: tokenizer(text) for name, text in hostile.items()},
    }
    if side == "peer slow":  # quadratic in the length of texts without spaces
        return {name: job for name, job in found.items() if name not in hostile}
    arrays = {"padding": True, "return_tensors": "np"}
    offsets = {**arrays, "return_offsets_mapping": True}
    if side.endswith("fast"):
        found |= {
            "arrays": lambda: tokenizer(texts, **arrays),
            "arrays of 64": lambda: [tokenizer(batch, **arrays) and None for batch in batches],
            "offsets": lambda: tokenizer(texts, **offsets),
            "offsets of 64": lambda: [tokenizer(batch, **offsets) and None for batch in batches],
        }
    return found


def measured(job: Callable[[], Any]) -> dict[str, float]:
    """Wall and CPU seconds of a call, including the release of its result."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    result = job()
    del result
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def resident() -> float:
    """Resident memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def serve(side: str, texts_file: str) -> None:
    """Load, report time and memory of that, and then run the jobs that are requested on stdin, one per line."""
    kept: list[Any] = []
    memory = [resident()]
    times = [measured(lambda: kept.append(loader(side)))]
    memory.append(resident())
    times.append(measured(lambda: kept.append(kept[0]())))
    memory.append(resident())
    start = {
        "load": times[1],
        "start": {name: times[0][name] + times[1][name] for name in times[0]},
        "memory": {"MB": memory[2] - memory[1], "MB with imports": memory[2] - memory[0]},
    }
    there = jobs(side, kept[1], json.loads(Path(texts_file).read_text()))
    print(json.dumps({"start": start, "jobs": list(there)}), flush=True)
    for line in sys.stdin:
        print(json.dumps(measured(there[line.strip()])), flush=True)


# -- the run -------------------------------------------------------------------------------------------------


class Side:
    """A process that serves one side."""

    def __init__(self, name: str, texts_file: Path, peer: Path) -> None:
        environment = {**os.environ, "USE_TF": "0", "USE_FLAX": "0", "USE_TORCH": "0", "PYTHONPATH": str(ROOT)}
        if name.startswith("peer"):
            environment["PYTHONPATH"] = str(peer)
        command = [sys.executable, "-m", "benchmarks.tokenizers", "--serve", name, str(texts_file)]
        self.process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.start = self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended with {self.process.wait()}")
        return json.loads(line)

    def run(self, job: str) -> dict[str, float]:
        assert self.process.stdin is not None
        print(job, file=self.process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def peer_folder() -> Path:
    """A folder with transformers 4.57 and its dependencies, fetched if it does not exist."""
    folder = Path(os.environ.get("ROBERTA_ORACLE4", ROOT / ".oracle" / "transformers4"))
    if not folder.is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PACKAGES]
        subprocess.run(command, check=True)
    return folder


def sentences() -> list[str]:
    """10,000 sentences: SST-2, and WikiText-2 split at its full stops."""
    found = []
    for name in ("train.tsv", "dev.tsv", "test.tsv"):
        lines = (SHARED / "data" / "sst2" / name).read_text(encoding="utf-8").splitlines()
        found += [line.partition("\t")[0] for line in lines]
    wiki = (SHARED / "data" / "wikitext2" / "valid.txt").read_text(encoding="utf-8")
    found[SENTENCES // 2 :] = [text.strip() for text in wiki.replace("\n", " . ").split(" . ") if len(text) > 20]
    return found[:SENTENCES]


def rounds(texts_file: Path, peer: Path, count: int) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Yield (side, job, measurement): first cold starts, then all jobs of all sides in turn."""
    for number in range(count):
        for name in SIDES:
            side = Side(name, texts_file, peer)
            for job, value in side.start["start"].items():
                yield name, job, value
            if name != "peer slow" or number == 0:
                yield name, "first", side.run("first")
            side.close()
    sides = {name: Side(name, texts_file, peer) for name in SIDES}
    for side in sides.values():
        side.run("first")  # caches are full from here on
    every = list(dict.fromkeys(job for side in sides.values() for job in side.start["jobs"] if job != "first"))
    for number in range(count):
        print(f"round {number + 1} of {count}", file=sys.stderr)
        for job in every:
            for name, side in sides.items():
                is_slow = name == "peer slow" or job in ("no space", "one letter")
                if job in side.start["jobs"] and (number < 3 or not is_slow):
                    yield name, job, side.run(job)
    for side in sides.values():
        side.close()


def report(found: dict[str, dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    """Print every median and every goal, and return the goals as data."""
    print(f"{'side':10s} {'job':24s} {'wall':>9s} {'CPU':>9s}")
    for side, medians in found.items():
        for job, values in medians.items():
            numbers = [
                f"{value:9.3f}" if name in ("wall", "cpu") else f"{value:.1f} {name}" for name, value in values.items()
            ]
            print(f"{side:10s} {job:24s} {' '.join(numbers)}")
    goals = []
    print(
        f"\n{'goal':30s} {'ours / other':48s} {'CPU':>6s} {'wall':>6s} {'at most':>8s}   (memory: MB, MB with imports)"
    )
    for what, ours, job, other, their_job, bound in GOALS:
        mine, theirs = found[ours][job], found[other][their_job]
        names = ("MB", "MB with imports") if job == "memory" else ("cpu", "wall")
        ratios = {name: mine[name] / theirs[name] for name in names}
        first, second = ratios.values()
        verdict = "" if first <= bound else "  MISSED"
        print(
            f"{what:30s} {f'{ours} {job} / {other} {their_job}':48s} {first:6.2f} {second:6.2f} {bound:8.2f}{verdict}"
        )
        goals.append({"what": what, "ours": [ours, job], "other": [other, their_job], **ratios, "at most": bound})
    return goals


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the medians and ratios to this file")
    parser.add_argument("--serve", nargs=2, metavar=("SIDE", "TEXTS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(*arguments.serve)
        return
    values: dict[str, dict[str, list[dict[str, float]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        texts_file = Path(folder) / "texts.json"
        texts_file.write_text(json.dumps(sentences()))
        for side, job, value in rounds(texts_file, peer_folder(), arguments.rounds):
            values.setdefault(side, {}).setdefault(job, []).append(value)
    found = {
        side: {job: {name: median(v[name] for v in many) for name in many[0]} for job, many in of_side.items()}
        for side, of_side in values.items()
    }
    goals = report(found)
    if arguments.json:
        arguments.json.write_text(json.dumps({"rounds": arguments.rounds, "medians": found, "goals": goals}, indent=1))


if __name__ == "__main__":
    main()
