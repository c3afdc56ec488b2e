"""Where results go: JSON files beside the benchmarks, and the marked parts of the pages in docs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def keep(name: str, results: dict[str, Any]) -> None:
    """Write results as benchmarks/results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")


def put(page: str, mark: str, text: str) -> None:
    """Replace the text between `<!-- MARK -->` and `<!-- /MARK -->` in docs/PAGE.

    Raises:
        ValueError: if the page lacks one of the marks.
    """
    file = ROOT / "docs" / page
    before, opening, rest = file.read_text(encoding="utf-8").partition(f"<!-- {mark} -->\n")
    _, closing, after = rest.partition(f"<!-- /{mark} -->")
    if not opening or not closing:
        raise ValueError(f"{file} has no part between <!-- {mark} --> and <!-- /{mark} -->; add both lines")
    file.write_text(f"{before}{opening}{text}\n{closing}{after}", encoding="utf-8")
