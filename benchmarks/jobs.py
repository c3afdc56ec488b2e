"""The work that is measured: batches of random ids, the same in every process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import log, sqrt
from pathlib import Path

import numpy as np

VOCABULARY = 50_265
MEDIAN, MEAN, LONGEST = 40, 64, 512  # tokens of the ragged job
BATCH = 32  # rows, where a job is not sorted
PAD = 1


@dataclass(frozen=True)
class Batch:
    """Some rows of a work: their numbers in it, and their ids and mask, each int64 (rows, seq)."""

    rows: np.ndarray
    ids: np.ndarray
    mask: np.ndarray


# Work -> rows and tokens of a batch of equal lengths, and how many times one measurement runs it.
FIXED = {"8 x 128": (8, 128, 2), "1 x 128": (1, 128, 8), "1 x 16": (1, 16, 30)}
GIVEN, SORTED = "job, given order", "job, sorted"
JOBS = GIVEN, SORTED
WORKS = (*FIXED, *JOBS)


def lengths(sequences: int) -> np.ndarray:
    """Lognormal lengths with `MEDIAN` and `MEAN`; the longest is `LONGEST`."""
    sigma = sqrt(2 * log(MEAN / MEDIAN))
    drawn = np.random.default_rng(0).lognormal(log(MEDIAN), sigma, sequences)
    found = drawn.clip(4, LONGEST).astype(int)
    found[found.argmax()] = LONGEST
    return found


def batches(work: str, sequences: int, *, budget: int | None) -> list[Batch]:
    """The batches of a work.

    Args:
        sequences: number of sequences of the ragged job.
        budget: tokens, including padding, of a batch of the sorted job; None for the whole work as one batch, for a
            side that sorts the rows itself.
    """
    if work in FIXED:
        rows, seq, _ = FIXED[work]
        return [_batch(np.full(rows, seq), np.arange(rows))]
    found = lengths(sequences)
    if budget is None:
        return [_batch(found, np.arange(sequences))]
    if work == GIVEN:
        return [_batch(found, np.arange(start, min(start + BATCH, sequences))) for start in range(0, sequences, BATCH)]
    groups: list[list[int]] = [[]]
    for row in np.argsort(-found, kind="stable"):
        longest = found[groups[-1][0]] if groups[-1] else 0
        if groups[-1] and (len(groups[-1]) + 1) * longest > budget:
            groups.append([])
        groups[-1].append(int(row))
    return [_batch(found, np.array(group)) for group in groups]


def _batch(found: np.ndarray, rows: np.ndarray) -> Batch:
    mask = (np.arange(found[rows].max()) < found[rows][:, None]).astype(np.int64)
    ids = np.full(mask.shape, PAD)
    for place, row in enumerate(rows):
        ids[place, : found[row]] = np.random.default_rng(int(row)).integers(4, VOCABULARY - 1, found[row])
    return Batch(rows, ids, mask)


def flops(work: str, sequences: int, *, hidden: int = 768, inner: int = 3072, layers: int = 12) -> float:
    """Multiplications and additions in the encoder's matrix products, for the real tokens."""
    found = np.full(FIXED[work][0], FIXED[work][1]) if work in FIXED else lengths(sequences)
    linear = 2 * found.sum() * (4 * hidden**2 + 2 * hidden * inner)
    attention = 4 * (found.astype(float) ** 2).sum() * hidden
    return float(layers * (linear + attention))


def dtypes() -> tuple[str, ...]:
    """The dtypes that this processor computes in; others are emulated, and up to a hundred times slower."""
    words = set(Path("/proc/cpuinfo").read_text().split())
    has_bfloat16 = bool(words & {"avx512_bf16", "amx_bf16", "bf16"})
    return ("float32", "bfloat16", "int8") if has_bfloat16 else ("float32", "int8")


def vocabulary(folder: Path) -> None:
    """Write the files of a tokenizer with made-up tokens, for converters that need one."""
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *(f"t{number}" for number in range(4, VOCABULARY - 1)), "<mask>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
