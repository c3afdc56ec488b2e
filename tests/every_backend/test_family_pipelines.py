"""Pipelines on models of RoBERTa's family with the tokenizers that they carry: all recorded calls, in every framework.

Recorded with transformers 4.57.6 in float64, scores to six digits.
"""

from __future__ import annotations

import json
from typing import Any

from conftest import SHARED

FAMILY = SHARED / "golden" / "family"
RECORDED = json.loads((FAMILY / "pipelines.json").read_text()) if FAMILY.is_dir() else []
# Those whose classes of other frameworks would show the same once more, and that JAX would compile for seconds.
MODELS = {entry["name"]: entry for entry in RECORDED if entry["task"] != "zero-shot-classification"}
# Calls that differ on purpose (docs/differences.md), by model and what identifies the call.
OTHER = {
    ("tc-metaspace", "first"): "white space between two words belongs to the words around it",
    ("tc-xlmr", "average"): "a token that is white space alone is not a word",
}


def is_other(name: str, case: dict[str, Any], windows: int) -> bool:
    """Whether a call differs on purpose: so do scores of questions whose texts have several windows."""
    strategy = case.get("kwargs", {}).get("aggregation_strategy")
    return windows > 1 or ((name, strategy) in OTHER and case["id"] in KNOWN)


KNOWN: set[str] = set()


def close(found: Any, wanted: Any) -> bool:
    """Whether two results are the same but for rounding."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(close(found[key], value) for key, value in wanted.items())
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(close, found, wanted))
    if isinstance(found, float) and isinstance(wanted, float | int):
        return abs(found - wanted) <= 1e-6 * max(1.0, abs(wanted))
    return bool(found == wanted)
