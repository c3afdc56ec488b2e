"""Messages, docstrings and pages avoid phrases that a native speaker would not write."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(
    {
        *(ROOT / "roberta").glob("**/*.py"),
        *(ROOT / "conversion").glob("**/*.py"),
        *(ROOT / "benchmarks").glob("*.py"),
        *(ROOT / "tests").glob("**/*.py"),
        *(ROOT / "tests" / "surface").glob("*.toml"),
        *(ROOT / "docs").glob("*.md"),
        *ROOT.glob("*.md"),
    }
    - {Path(__file__)}  # and scripts as users write them, recorded by their text
    - {*(ROOT / "tests" / "oracle" / "scripts").glob("*.py")}
)
# A phrase -> what to write instead. A space matches a line break too, because phrases may be wrapped.
PHRASES = {
    r"cannot be had|\bto be had\b": "is not supported; omit it",
    r"\bcomes? along|\bcarr(?:y|ies|ied) \w+ along": "the bundled model; copies",
    r"nobody's business": "say what happens",
    r"\bMeasured is\b": "we measure",
    r"(?<!here\s)\b(?:is|are|was|were) no (?!longer\b|more\b|less\b|\w+er\b|different\b)": "is not a",
    r"\b(?:is|are) none of\b": "is not one of",
    r"(?<!here\s)\b(?:is|are) none\b(?! of)": "is not one; does not exist",
    r"\bof no effect\b": "has no effect",
    r"\banew\b": "again; from the beginning",
    r"(?<!both\s)\bof ours\b": "our model, one of our classes",
    r"\bsuch as are\b": "those that are",
    r"\b(?:goes|going|gone) on\b(?! (?:the|its|a|to)\b)|\bgo on (?:with|from|over)\b": "continues, resumes",
    r"\bha(?:s|ve) (?:it|them|this|these) not\b": "lacks them",
    r"\bhas not (?:a|the|any|all|both|one)\b": "lacks; does not have",
    r"makes dropout": "enables dropout",
    r"\b(?:for|whether|by|to|of) who\b": "'who' only of people, after a noun",
    r"\bin silence\b|\b(?:taken|lost|wrong|\w+ed) without a word\b": "silently",
    r"\bin the place of\b": "instead of, in place of",
    r"\b(?:is|are|was|were) not there\b": "does not exist, is missing, is not installed",
    r"\bmisshapen\b": "has the wrong shape",
    r"\bof one's own\b": "your own, the user's own",
    r"\brightly\b": "correctly",
    r"\bso often\b": "that many times",
    r"(?<!the\s)\bone a (?:line|row|token|window)\b": "one per",
    r"\bonce a (?:process|model|line|row|file|test)\b": "once per",
    r"\ba (?:row|line|label|panel|column) a (?:line|row|window|token|file|task|side|mistake|training)\b": "one per",
    r"\bbehind (?:the|its|a|every|each|another|what) "
    r"(?:prompt|texts?|words?|names?|sequences?|norm|last|spaces?|updates?|tokens?|questions?|first|four)\b": "after",
    r"\botherwise than\b": "differently from",
    r"\b(?:an)?other \w+ than\b": "a different ... from, a ... other than",
    r"\bnobody (?:knows|reads|asks|named|gave|killed|stopped|expects)\b": "unknown, unused, unnamed",
    r"\bof like (?:length|size|kind)\b": "of similar length",
    r"\bnear to\b": "close to",
    r"\bwhat stands\b|\bstands? (?:beside|behind|under)\b": "the text before, after, between; is beside",
    r"\bCONTRACT\b": "cite the paper, transformers 4.57 or our docs",
    r'"""(?:Of|That of|Those of|Those that)\b': "give the docstring a subject",
    r'"""What (?:is|are|was|were)\b': "name the thing with a noun",
    r"\b(?:thereof|whereof|wherein|therein|hereof|whereby|whereupon)\b": "of it, in which",
}


def unindented(text: str) -> str:
    """The lines of a text without indentation and the marks of comments."""
    return re.sub(r"^[ \t]*(?:#[ \t]*)?", "", text, flags=re.MULTILINE)


TEXTS = {file.relative_to(ROOT): unindented(file.read_text(encoding="utf-8")) for file in FILES}


@pytest.mark.parametrize("phrase", PHRASES)
def test_a_phrase_is_not_used(phrase: str) -> None:
    pattern = re.compile(phrase.replace(" ", r"\s"))
    found = [
        f"{file}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]!r}"
        for file, text in TEXTS.items()
        for match in pattern.finditer(text)
    ]
    assert not found, f"write: {PHRASES[phrase]}\n" + "\n".join(found)
