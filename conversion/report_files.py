"""The report of a verification as a file: JSON for programs, or one HTML page."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roberta.conversion.report_html import as_html

if TYPE_CHECKING:
    from roberta.conversion.judgement import Row
    from roberta.conversion.verify import Report

SUFFIXES = (".json", ".html")


def check_path(path: Path) -> None:
    """Raise `ValueError` unless a report can be written there."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"a report is written to a file that ends in {' or '.join(SUFFIXES)}, not {path}")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent}, where the report is to go, is not a folder; make it first")


def write(report: Report, path: Path) -> None:
    """Write the report in the format that the suffix says."""
    check_path(path)
    text = as_html(report) if path.suffix == ".html" else json.dumps(as_dict(report), indent=2, allow_nan=False) + "\n"
    path.write_text(text, encoding="utf-8")


def as_dict(report: Report) -> dict[str, Any]:
    """The report as JSON has it; a number that is not finite is null."""
    return {
        "source": report.source,
        "against": report.against,
        "class": f"Roberta{report.head}",
        "layers": report.layers,
        "dtype": report.dtype,
        "stored": list(report.stored),
        "inputs": {name: list(shape) for name, shape in report.inputs.items()},
        "origin": report.origin,
        "reference": report.reference,
        "runs": list(report.runs),
        "agree": report.agree,
        "first": dict(report.first),
        "suspect": report.suspect,
        "places": [_row(row) for row in report.places],
        "gradients": [_row(row) for row in report.gradients],
        "tensors": [{"name": one.name, "absolute": _number(one.absolute)} for one in report.tensors],
        "settings": list(report.settings),
        "not_finite": list(report.not_finite),
    }


def _row(row: Row) -> dict[str, Any]:
    numbers = {name: _number(getattr(row, name)) for name in ("largest", "rounding", "bound")}
    differences = {run: dataclasses.asdict(difference) for run, difference in row.differences.items()}
    return {
        "place": row.place,
        **numbers,
        "differences": {
            run: {key: value if isinstance(value, bool) else _number(value) for key, value in fields.items()}
            for run, fields in differences.items()
        },
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
