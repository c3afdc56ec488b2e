"""`roberta convert` compared with a plain copy of the same bytes, and with transformers 4.57.

    python -m benchmarks.conversion [--size base large] [--rounds 5] [--docs]

Each run is a fresh process, measured from start to end, including imports. Each round runs all of them once, in a folder
on the disk and in one in memory (/dev/shm) if it has room; the files are deleted after each run. Figures are medians;
CPU seconds are summed over all threads; MB are the peak resident memory (ru_maxrss), which includes mapped pages of the
source. transformers is fetched into a separate folder.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import pages, peers

# Format -> the copy that is its floor: Keras and Flax store dense weights transposed.
FLOORS = {
    "safetensors": "straight",
    "pt": "straight",
    "fairseq": "straight",
    "tf": "turned",
    "flax": "turned",
    "keras-hub": "turned",
}
PEER_CLASSES = {"pt": "RobertaForMaskedLM", "tf": "TFRobertaForMaskedLM"}
PEER_ROUNDS = 3  # their runs take long
LARGEST = {"base": 50_265 * 768 * 4 / 1e6, "large": 50_265 * 1024 * 4 / 1e6}  # MB; the word embedding
ROOM = 5  # how many times the size of the source must be free in a folder
MEMORY = Path("/dev/shm")

OURS = """
import sys, roberta.conversion as c
c.convert(sys.argv[1], sys.argv[2], to=sys.argv[3], overwrite=True, progress=False)
"""
PEER = """
import sys, transformers
options = {"from_pt": True} if sys.argv[3].startswith("TF") else {}  # its own reader of safetensors fails in TensorFlow
model = getattr(transformers, sys.argv[3]).from_pretrained(sys.argv[1], **options)
model.save_pretrained(sys.argv[2], safe_serialization=False)
"""


@dataclass(frozen=True)
class Side:
    """One kind of run: its kind, and its format or copy."""

    kind: str
    what: str

    def command(self, source: Path, target: Path) -> list[str]:
        """The command that is started."""
        match self.kind:
            case "ours":
                return [sys.executable, "-c", OURS, str(source), str(target), self.what]
            case "peer":
                return [sys.executable, "-c", PEER, str(source), str(target), PEER_CLASSES[self.what]]
        script = str(Path(__file__).with_name("floor.py"))
        sync = "fsync" if self.kind == "floor" else "none"
        return [sys.executable, script, str(source / "model.safetensors"), str(target), self.what, sync]

    def environment(self) -> dict[str, str]:
        """The environment of the run, which decides the packages that it sees."""
        if self.kind != "peer":
            return peers.environment()
        tensorflow = "AUTO" if self.what == "tf" else "0"
        return peers.environment("transformers4", USE_FLAX="0", USE_TF=tensorflow, TF_USE_LEGACY_KERAS="1")


SIDES = [
    *(Side("ours", format_) for format_ in FLOORS),
    *(Side(kind, copy) for copy in ("straight", "turned") for kind in ("floor", "floor without fsync")),
    *(Side("peer", format_) for format_ in PEER_CLASSES),
]


def measured(side: Side, source: Path, target: Path) -> dict[str, float]:
    """Wall and CPU seconds and peak MB of one run; its result is deleted."""
    figures, _ = peers.measured(side.command(source, target), side.environment())
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    return figures


def rounds(size: str, folder: Path, count: int) -> Iterator[tuple[Side, dict[str, float]]]:
    """Yield every run of one size in one folder, with its figures."""
    source = folder / size
    subprocess.run(
        [sys.executable, "-m", "benchmarks.checkpoints", size, "ForMaskedLM", str(source)],
        env=peers.environment(),
        check=True,
    )
    for number in range(count + 1):
        print(f"{size}, {folder}: round {number} of {count}", file=sys.stderr)
        for side in SIDES:
            if side.kind == "peer" and not 0 < number <= PEER_ROUNDS:
                continue
            value = measured(side, source, folder / "target")
            if number:  # round 0 fills the caches
                yield side, value
    shutil.rmtree(source)


def medians(values: list[tuple[Side, dict[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Kind -> format or copy -> medians, and all wall times."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for side in dict.fromkeys(side for side, _ in values):
        many = [value for other, value in values if other == side]
        figures: dict[str, Any] = {name: round(median(value[name] for value in many), 3) for name in many[0]}
        figures["walls"] = [round(value["wall"], 3) for value in many]
        found.setdefault(side.kind, {})[side.what] = figures
    return found


def folders(size: str, wanted: list[Path]) -> Iterator[tuple[str, Path]]:
    """Yield each folder that has room, with its kind: "memory" or "disk"."""
    for place in wanted:
        free = shutil.disk_usage(place).free / 1e6
        if free < ROOM * LARGEST[size] * 7:
            print(f"{place} has {free:.0f} MB free, which is too little for {size}", file=sys.stderr)
            continue
        yield ("memory" if place == MEMORY else "disk"), place


def row(run: dict[str, Any], format_: str) -> str:
    """The row of the table for one format."""
    kinds, largest = run["medians"], LARGEST[run["size"]]
    mine, theirs = kinds["ours"][format_], kinds["peer"].get(format_)
    floor, bare = kinds["floor"][FLOORS[format_]], kinds["floor without fsync"][FLOORS[format_]]
    cells = [
        f"{run['size']}, {run['place']}",
        format_,
        f"{mine['wall']:.2f} ({mine['cpu']:.2f})",
        f"{mine['wall'] / floor['wall']:.2f} ({mine['cpu'] / floor['cpu']:.2f})",
        f"{mine['wall'] / bare['wall']:.2f}",
        f"{theirs['wall'] / mine['wall']:.1f} ({theirs['cpu'] / mine['cpu']:.1f}; {theirs['MB']:.0f})"
        if theirs
        else "-",
        f"{mine['MB']:.0f}, {mine['MB'] - largest:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        f"{results['date']}, {results['cores']} cores, {results['rounds']} rounds: `{results['command']}`", "",
        "| size, in | to | seconds (CPU) | of the plain copy (CPU) | of one without fsync | transformers / ours "
        "(CPU; its MB) | peak MB, above the largest tensor |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for run in results["runs"]:
        lines += [row(run, format_) for format_ in run["medians"]["ours"]]
    return "\n".join(lines)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=list(LARGEST), default=list(LARGEST))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--places", nargs="+", type=Path, default=[Path(tempfile.gettempdir()), MEMORY])
    parser.add_argument(
        "--docs", action="store_true", help="keep the results, and put the table into docs/conversion.md"
    )
    arguments = parser.parse_args()
    runs = []
    for size in arguments.size:
        for place, parent in folders(size, arguments.places):
            with tempfile.TemporaryDirectory(dir=parent) as folder:
                values = list(rounds(size, Path(folder), arguments.rounds))
            runs.append({"size": size, "place": place, "medians": medians(values)})
    command = f"python -m benchmarks.conversion --size {' '.join(arguments.size)} --rounds {arguments.rounds}"
    head = {"date": date.today().isoformat(), "cores": os.cpu_count(), "rounds": arguments.rounds, "command": command}
    results = {**head, "runs": runs}
    print(table(results))
    if arguments.docs:
        pages.keep("conversion", results)
        pages.put("conversion.md", "benchmark", table(results))


if __name__ == "__main__":
    main()
