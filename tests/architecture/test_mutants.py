"""The list of seeded mistakes fits the code: the text that each replaces occurs exactly once."""

from __future__ import annotations

import mutants


def test_what_a_seeded_mistake_replaces_is_there_once() -> None:
    counts = {
        (name, old): (mutants.ROOT / "roberta" / name).read_text(encoding="utf-8").count(old)
        for name, old, *_ in mutants.MUTANTS
    }
    assert {needle: count for needle, count in counts.items() if count != 1} == {}
