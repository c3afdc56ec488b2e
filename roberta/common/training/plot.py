"""The curves of trainings as a picture: `python -m roberta.common.training.plot RUN [RUN ...]`.

It is drawn from `metrics.jsonl` alone, so it is the same for a training that was stopped and resumed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from roberta.common.libraries import library
from roberta.common.training.journal import METRICS_FILE

CURVES_FILE = "curves.svg"
_Log = tuple[dict[str, list[float]], dict[str, list[float]]]
_SMOOTH_FROM = 500  # losses; a curve of so many gets its running mean over a hundredth of them drawn over it


def read_log(run: str | Path) -> _Log:
    """The losses of a training, "update" and "loss", and its evaluations, "update" and each metric; lists of equal length.

    Raises:
        ValueError: there is no log, or a line does not belong to one; names file and line.
    """
    file = Path(run) / METRICS_FILE if Path(run).is_dir() else Path(run)
    losses: dict[str, list[float]] = {"update": [], "loss": []}
    evaluations: dict[str, list[float]] = {"update": []}
    if not file.is_file():
        raise ValueError(f"{run} has no {METRICS_FILE}: it is not the folder of a training")
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        try:
            entry = json.loads(line)
            found = entry.get("evaluation")
            row = {"update": entry["update"], **({"loss": entry["loss"]} if found is None else found)}
        except (ValueError, KeyError, AttributeError, TypeError):
            raise ValueError(f"{file}:{number} is not a line of a roberta metrics.jsonl: {line[:80]!r}") from None
        for name, value in row.items():
            (losses if found is None else evaluations).setdefault(name, []).append(
                float("nan") if value is None else value
            )
    return losses, evaluations


def _smoothed(values: Sequence[float]) -> list[float]:
    """The running mean of some values, which begins at the first."""
    width = max(len(values) // 100, 1)
    result, mean = [], values[0]
    for value in values:
        mean += (value - mean) / width
        result.append(mean)
    return result


def draw(runs: Sequence[str | Path], picture: str | Path) -> None:
    """Write a picture of the losses and of every metric, with a colour for each run.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    pyplot = library("matplotlib.pyplot", "curves", "pip install matplotlib")
    logs = {str(run): read_log(run) for run in runs}
    metrics = list(dict.fromkeys(name for _, evaluations in logs.values() for name in evaluations if name != "update"))
    rows = 1 + -(-len(metrics) // 2)
    figure = pyplot.figure(figsize=(8, 3 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, 2)
    _losses(figure.add_subplot(grid[0, :]), logs)
    for place, metric in enumerate(metrics):
        axes = figure.add_subplot(grid[1 + place // 2, place % 2])
        axes.set(title=f"validation {metric}", xlabel="update")
        for number, (_, evaluations) in enumerate(logs.values()):
            if metric in evaluations:
                axes.plot(evaluations["update"], evaluations[metric], ".-", color=f"C{number}")
    with pyplot.rc_context({"svg.hashsalt": "roberta"}):  # the same file for the same logs
        figure.savefig(picture, metadata={"Date": None} if str(picture).endswith(".svg") else None)
    pyplot.close(figure)


def _losses(axes: Any, logs: dict[str, _Log]) -> None:
    axes.set(title="training loss", xlabel="update")
    for number, (name, (losses, _)) in enumerate(logs.items()):
        many = len(losses["loss"]) >= _SMOOTH_FROM
        width = 1.5 * (len(logs) - number)  # the first ones are wider, so that all are seen where curves coincide
        style = {"color": f"C{number}", "alpha": 0.3 if many else 1.0, "linewidth": width}
        axes.plot(losses["update"], losses["loss"], label=None if many else name, **style)
        if many:
            axes.plot(losses["update"], _smoothed(losses["loss"]), label=name, color=f"C{number}", linewidth=width)
    if len(logs) > 1:
        axes.legend()


def draw_beside(output: Path) -> None:
    """Draw the curves of a training in its own folder, or print what is missing for them."""
    try:
        draw([output], output / CURVES_FILE)
    except ModuleNotFoundError as error:
        print(f"{output / CURVES_FILE} is not drawn: {error}", file=sys.stderr)


def draw_command(arguments: Sequence[str] | None = None) -> int:
    """Draw what the command line says; 1 if that fails."""
    parser = argparse.ArgumentParser(prog="python -m roberta.common.training.plot", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a training, or a metrics.jsonl")
    parser.add_argument("--output", default=CURVES_FILE, metavar="FILE", help=".svg, .png or .pdf (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        draw(options.runs, options.output)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        print(f"plot: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(draw_command())
