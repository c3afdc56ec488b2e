"""Ten typical scripts give the same results as with transformers 4.57, with one import changed.

They are in `scripts`, with the recorded results of transformers (`scripts/record.py`). Tools such as its Trainer
come from an installed one.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from oracle.scripts import record, run

CASES = [(framework, name) for framework, names in run.BY_FRAMEWORK.items() for name in names]


@cache
def recorded() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(record.RECORDED.read_text(encoding="utf-8"))
    return found


@cache
def ours(framework: str) -> dict[str, Any]:
    return record.results("roberta", framework)


def test_what_is_recorded_is_of_these_scripts() -> None:
    assert recorded()["signature"] == record.signature(), "run `python tests/oracle/scripts/record.py`"


@pytest.mark.parametrize(("framework", "name"), CASES, ids=[f"{name} in {framework}" for framework, name in CASES])
def test_a_script_gives_the_same_with_one_import_changed(framework: str, name: str) -> None:
    found = ours(framework)[name]
    if "skipped" in found:
        pytest.skip(found["skipped"])
    assert "error" not in found, found["error"]
    assert_same(found, recorded()[framework][name], name)


def assert_same(found: Any, wanted: Any, what: str) -> None:
    """Compare numbers to the rounding of float32, and everything else exactly."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), what
        for key, value in wanted.items():
            assert_same(found[key], value, f"{what}/{key}")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=2e-4, abs=2e-5), what
    elif isinstance(wanted, list) and is_number(wanted):
        np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-4, err_msg=what)
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), what
        for index, (one, other) in enumerate(zip(found, wanted, strict=True)):
            assert_same(one, other, f"{what}[{index}]")
    else:
        assert found == wanted, what


def is_number(values: Any) -> bool:
    """Whether nested lists hold only floats."""
    return all(is_number(value) if isinstance(value, list) else isinstance(value, float) for value in values)
