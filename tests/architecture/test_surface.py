"""Each difference in public names from transformers 4.57.6 has a reason, and the page lists them all."""

from __future__ import annotations

from typing import Any

import pytest
from surface import compare
from surface.walk import surface

import roberta


@pytest.fixture(scope="module")
def ours() -> dict[str, dict[str, Any]]:
    return surface(roberta)


@pytest.mark.parametrize("family", list(compare.FAMILIES))
def test_every_difference_has_a_reason_and_every_reason_a_difference(ours: dict[str, Any], family: str) -> None:
    assert set(compare.all_differences(ours)[family]) == set(compare.reasons(family))


def test_the_page_has_the_table(ours: dict[str, Any]) -> None:
    text = compare.DOCS.read_text(encoding="utf-8")
    assert compare.page(text, compare.table(ours)) == text, "python -m tests.surface.compare --docs"
