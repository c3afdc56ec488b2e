"""Prepare a token store, and kill it at random moments: what comes out in the end must be the store of an undisturbed run.

A child is forked for each run, as in `syscall_faults`; small chunks and steps make many moments between two of them.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

import syscall_faults

from roberta.common.tokenizer.base import TokenizerBase
from roberta.common.training.data import source_chunks
from roberta.common.training.data.source_chunks import ReadingOptions
from roberta.common.training.preparation import prepare_store

STEP = 500  # tokens
WORDS = ["ship", "sea", "harbour", "book", "the", "of", "railway", "station", "café", "tide"]


def write_sources(folder: Path, rng: random.Random, documents: int = 100) -> list[Path]:
    """A text, and lines of JSON, whose documents all have a number, so that one that is lost or doubled shows."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = []
    for number in range(2 * documents):
        sentences = [" ".join(rng.choices(WORDS, k=rng.randint(1, 12))) for _ in range(rng.randint(1, 5))]
        texts.append([f"document {number}", *sentences])
    (folder / "a.txt").write_text("\n\n".join("\n".join(text) for text in texts[:documents]))
    lines = ['{"text": "' + "\\n".join(text) + '"}\n' for text in texts[documents:]]
    (folder / "b.jsonl").write_text("".join(lines))
    return [folder / "a.txt", folder / "b.jsonl"]


def prepare_small(sources: list[Path], tokenizer: TokenizerBase, output: Path) -> None:
    """Prepare in small chunks and steps, in one thread: a child that was forked has no others."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    before, source_chunks._SIZE = source_chunks._SIZE, 400
    try:
        prepare_store(sources, tokenizer, output, ReadingOptions(), progress=False, step_tokens=STEP)
    finally:
        source_chunks._SIZE = before


def content(store: Path) -> dict[str, bytes]:
    """All files of a store."""
    return {path.name: path.read_bytes() for path in store.iterdir()}


def kills(count: int, sources: list[Path], tokenizer: TokenizerBase, folder: Path, rng: random.Random) -> Counter[str]:
    """Kill preparations at `count` random moments; each store is finished by a run that is not."""
    begin = time.monotonic()
    prepare_small(sources, tokenizer, folder / "whole")
    seconds = time.monotonic() - begin
    whole, counts = content(folder / "whole"), Counter(kills=0)
    while counts["kills"] < count:
        output = folder / f"store-{counts['stores']}"
        counts["stores"] += 1
        # one store is killed several times, each time later in what is left of it
        for _ in range(min(4, count - counts["kills"])):
            child = syscall_faults.FORK.Process(target=prepare_small, args=(sources, tokenizer, output), daemon=True)
            child.start()
            child.join(rng.uniform(0, seconds / 2))
            was_running = child.is_alive()
            child.kill()
            child.join()
            counts["kills"] += was_running
            counts["resumed"] += (output / "progress.jsonl").is_file()
            if not was_running:
                break
        prepare_small(sources, tokenizer, output)
        counts["the same" if content(output) == whole else "DIFFERENT"] += 1
    return counts
