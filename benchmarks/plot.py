"""docs/performance.svg: one panel per work, one bar per side, with quartiles. Needs matplotlib on the path."""

from __future__ import annotations

import json
from typing import Any

from benchmarks import pages

COLOURS = {"float32": "#4c72b0", "bfloat16": "#dd8452", "int8": "#55a868"}


def draw(results: dict[str, Any]) -> None:
    """Draw the results."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "roberta"  # the same file for the same results
    from matplotlib import pyplot

    works = results["works"]
    most = max(len(sides) for sides in works.values())
    figure, panels = pyplot.subplots(len(works), 1, figsize=(9, len(works) * (0.8 + 0.24 * most)), squeeze=False)
    for panel, (work, sides) in zip(panels[:, 0], works.items(), strict=True):
        order = sorted(sides, key=lambda key: -sides[key]["wall"])
        walls = [sides[key]["wall"] * 1e3 for key in order]
        spread = [[(sides[key]["wall"] - sides[key]["low"]) * 1e3 for key in order]]
        spread.append([(sides[key]["high"] - sides[key]["wall"]) * 1e3 for key in order])
        colours = [COLOURS[key.rpartition(", ")[2]] for key in order]
        panel.barh(order, walls, xerr=spread, color=colours, ecolor="#333333", height=0.7)
        for label in panel.get_yticklabels():
            label.set_fontweight("bold" if label.get_text().startswith("ours") else "normal")
        panel.set_title(f"{work} (ms, shorter is better)", fontsize=10)
        panel.tick_params(labelsize=8)
    figure.tight_layout()
    figure.savefig(pages.ROOT / "docs" / "performance.svg", metadata={"Date": None})


if __name__ == "__main__":
    draw(json.loads((pages.RESULTS / "inference.json").read_text()))
