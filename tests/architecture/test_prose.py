"""Messages, docstrings and pages avoid phrases that a native speaker would not write."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(
    [
        *(ROOT / "roberta").glob("**/*.py"),
        *(ROOT / "conversion").glob("**/*.py"),
        *(ROOT / "docs").glob("*.md"),
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
    ]
)
# A phrase -> what to write instead.
PHRASES = {
    r"cannot be had": "is not supported; omit it",
    r"comes along": "the bundled model",
    r"nobody's business": "say what happens",
    r"\bMeasured is\b": "We measure",
    r"is no JSON|is no line of": "is not valid JSON, is not a line of",
    r"makes dropout": "enables dropout",
    r"\bhas them not\b": "lacks them",
    r"\bwho (waits|asks|calls) (for it|once)\b": "'who' only of people",
}


@pytest.mark.parametrize("phrase", PHRASES)
def test_a_phrase_is_not_used(phrase: str) -> None:
    found = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in FILES
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if re.search(phrase, line)
    ]
    assert not found, f"write: {PHRASES[phrase]}; in {found}"
