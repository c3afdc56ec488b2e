"""docs/performance.md and its plot, from benchmarks/results/inference.json.

    python -m benchmarks.performance

The plot is drawn in a separate process whose path includes matplotlib.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks import jobs, pages, peers

IMAGE = "performance.svg"
PEER = "transformers 4.57, PyTorch"
ENGINES = ("ONNX Runtime", "OpenVINO", "CTranslate2")
OURS = "ours, PyTorch"

# Goals: our side, its work, the other sides (the fastest of them counts), their work, and the smallest ratio that meets
# the goal.
GOALS: list[tuple[str, str, list[str], str, float]] = [
    *(
        (f"{OURS}, float32", work, [f"{PEER}, float32"], work, least)
        for work, least in (("8 x 128", 1.25), ("1 x 128", 1.5), ("1 x 16", 2.6), (jobs.GIVEN, 5.5), (jobs.SORTED, 1.7))
    ),
    *(
        (f"{OURS}, float32", work, [f"{name}, float32" for name in ENGINES], work, least)
        for work, least in (("8 x 128", 1.0), ("1 x 128", 1.0), ("1 x 16", 1.0), (jobs.SORTED, 1.3))
    ),
    (f"{OURS}, bfloat16", jobs.SORTED, [f"{PEER}, bfloat16"], jobs.SORTED, 1.05),
    (f"{OURS}, bfloat16", jobs.SORTED, [f"{PEER}, float32"], jobs.GIVEN, 10),
    (f"{OURS}, bfloat16", jobs.SORTED, ["OpenVINO, bfloat16"], jobs.SORTED, 1.0),
    (f"{OURS}, int8", jobs.SORTED, [f"{PEER}, int8"], jobs.SORTED, 1.0),
    (f"{OURS}, int8", jobs.SORTED, ["CTranslate2, int8"], jobs.SORTED, 1.0),
    *(
        (f"ours, {name}, float32", jobs.GIVEN, [f"{peer}, float32"], work, least)
        for name, backend in (("TensorFlow", "TensorFlow"), ("Flax", "JAX"))
        for peer, work, least in (
            (f"transformers 4.57, {name}", jobs.GIVEN, 3.0),
            (f"KerasHub, {backend}", jobs.SORTED, 1.0),
            (OURS, jobs.GIVEN, 1 / 1.4),
        )
    ),
]

TEXT = """# Performance on a CPU

This page is written by `make bench` from `benchmarks/results/inference.json`; do not edit it.

We measure the encoder at roberta-base size: RobertaModel's last hidden state, without a pooler. (A head for masked
tokens would take most of the time, and the same time on every side.) The weights are those of a new model, N(0, 0.02),
which keep their accuracy under reduced precision, as trained weights do. Each side runs in its own process with the
same number of threads; all sides take part in each round, one after the other. The ragged job has lognormal lengths
(median 40, mean 64, longest 512 tokens). Peers run it in the given order with batches of 32, and sorted with a budget
of 1,024 tokens; our sides receive the whole job unsorted in both cases.

On a GPU, PyTorch runs other code, on packed tokens; [devices.md](devices.md#without-padding) says what, and `make gpu`
measures it. It has never been run on a real GPU, so this page has no numbers of one.
"""


def ceiling(results: dict[str, Any], key: str) -> float:
    """GFLOP/s of the machine in the dtype of a side; int8 sides are compared with float32."""
    machine = results["machine"]
    speed: float = machine.get("bfloat16" if key.endswith("bfloat16") else "float32", machine["float32"])
    return speed


def work_table(results: dict[str, Any], work: str) -> list[str]:
    """The table of one work: one row per side, the fastest first."""
    lines = [
        f"### {work}", "",
        "| side | ms | quartiles | CPU ms | GFLOP/s of real tokens, share of the machine's | first run, s | difference |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for key, value in sorted(results["works"][work].items(), key=lambda item: item[1]["wall"]):
        speed = results["GFLOP"][work] / value["wall"]
        difference = results["differences"].get(key)
        lines.append(
            f"| {key} | {value['wall'] * 1e3:.1f} | {value['low'] * 1e3:.1f} to {value['high'] * 1e3:.1f} | "
            f"{value['cpu'] * 1e3:.1f} | {speed:.0f}, {speed / ceiling(results, key):.0%} | "
            f"{results['first'][work][key]['wall']:.2f} | {'-' if difference is None else f'{difference:.1e}'} |"
        )
    return [*lines, ""]


def goal_table(results: dict[str, Any]) -> list[str]:
    """The goals, and what was reached; goals whose sides were not run are left out."""
    lines = ["| work | ours | against | times as fast (by CPU) | goal | |", "| --- | --- | --- | --- | --- | --- |"]
    works = results["works"]
    for ours, work, others, their_work, least in GOALS:
        mine = works.get(work, {}).get(ours)
        there = {key: works[their_work][key] for key in others if key in works.get(their_work, {})}
        if mine is None or not there:
            continue
        best = min(there, key=lambda key: there[key]["wall"])
        ratio, cpu = (there[best][name] / mine[name] for name in ("wall", "cpu"))
        against = best if their_work == work else f"{best}, {their_work}"
        verdict = "" if ratio >= least else "missed"
        lines.append(f"| {work} | {ours} | {against} | {ratio:.2f} ({cpu:.2f}) | {least:.2f} | {verdict} |")
    return [*lines, ""]


def tables(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    machine = results["machine"]
    lines = [
        f"{results['date']}, {results['cores']} cores, {results['threads']} threads per side, {results['rounds']} rounds, "
        f"{results['sequences']} sequences in the job; `{results['command']}`. The highest speed of this model's matrix "
        f"products in the same run, in GFLOP/s: {', '.join(f'{kind} {speed:.0f}' for kind, speed in machine.items())}.",
        "", "## Goals", "", *goal_table(results), "## All sides", "",
    ]  # fmt: skip
    for work in results["works"]:
        lines += work_table(results, work)
    lines += [f"Did not run: {key}: {why}" for key, why in results["failed"].items()]
    return "\n".join(lines).rstrip()


def write() -> None:
    """Write the page and the plot."""
    results = json.loads((pages.RESULTS / "inference.json").read_text())
    subprocess.run([sys.executable, "-m", "benchmarks.plot"], env=peers.environment("matplotlib"), check=True)
    page = f"{TEXT}\n![Seconds of every side]({IMAGE})\n\n{tables(results)}\n"
    (pages.ROOT / "docs" / "performance.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    write()
