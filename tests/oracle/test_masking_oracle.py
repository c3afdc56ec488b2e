"""Masking compared with the collators of transformers 4.57: the same rows give the same shares.

Run as a program, this file is the peer: `python test_masking_oracle.py FOLDER` in an environment with transformers
4.57 masks FOLDER/rows.npy many times and writes how often each position got each outcome.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

SIZE, PAD, MASK, SPECIALS = 60, 1, 59, [0, 1, 2, 3, 59]
TIMES = 3000
WORDS = [[10, 11, 12], [13], [14, 15], [16], [17, 18, 19, 20], [21], [22, 23], [24]]
ROW = [0, *[token for word in WORDS for token in word], 2]


def counts(rows: np.ndarray, is_chosen: np.ndarray) -> dict[str, Any]:
    """By position: how often it was chosen, became <mask>, or stayed as it was; and the numbers of chosen positions."""
    row = np.array(ROW)
    return {
        "chosen": is_chosen.sum(axis=0).tolist(),
        "mask": (is_chosen & (rows == MASK)).sum(axis=0).tolist(),
        "same": (is_chosen & (rows == row)).sum(axis=0).tolist(),
        "drawn": np.bincount(rows[is_chosen & (rows != row) & (rows != MASK)], minlength=SIZE).tolist(),
        "numbers": np.bincount(is_chosen.sum(axis=1), minlength=len(ROW) + 1).tolist(),
    }


def peer(folder: Path) -> None:
    """Writes FOLDER/peer.json; imports transformers, so only in its own environment."""
    import warnings

    warnings.simplefilter("ignore")
    import torch
    import transformers
    from transformers import BertTokenizer

    starts = {word[0] for word in WORDS}
    names = {0: "[CLS]", 1: "[PAD]", 2: "[SEP]", 3: "[UNK]", 59: "[MASK]"}
    tokens = [names.get(id_, ("" if id_ in starts else "##") + f"t{id_}") for id_ in range(SIZE)]
    (folder / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    torch.manual_seed(0)
    found = {}
    for name in ("DataCollatorForLanguageModeling", "DataCollatorForWholeWordMask"):
        collated = getattr(transformers, name)(tokenizer)([{"input_ids": ROW} for _ in range(TIMES)])
        found[name] = counts(collated["input_ids"].numpy(), collated["labels"].numpy() != -100)
    (folder / "peer.json").write_text(json.dumps(found), encoding="utf-8")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from peers import environment

    folder = tmp_path_factory.mktemp("masking")
    done = subprocess.run(
        [sys.executable, __file__, str(folder)], env=environment(4), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads((folder / "peer.json").read_text(encoding="utf-8"))
    return found


def ours(*, whole_words: bool) -> dict[str, Any]:
    from roberta.common.training.data.masking import Masker, Masking, MaskingVocabulary

    starts = np.isin(np.arange(SIZE), [*SPECIALS, *(word[0] for word in WORDS)])
    vocabulary = MaskingVocabulary(SIZE, MASK, tuple(SPECIALS), (0, 1, 2, 3), starts)
    masker = Masker(vocabulary, Masking(method="bernoulli", whole_words=whole_words))
    masked = [masker(np.array(ROW), (0, epoch, 0)) for epoch in range(TIMES)]
    is_chosen = np.zeros((TIMES, len(ROW)), bool)
    for number, (_, places) in enumerate(masked):
        is_chosen[number, places] = True
    return counts(np.stack([row for row, _ in masked]), is_chosen)


def assert_alike(one: list[int], other: list[int], trials: list[int] | int, trials2: list[int] | int) -> None:
    """Assert position by position that two binomial shares are within five standard deviations of their difference."""
    first, second = np.array(one), np.array(other)
    both = (first + second) / (np.array(trials) + np.array(trials2)).clip(1)
    sigma = np.sqrt(both * (1 - both) * (1 / np.array(trials).clip(1) + 1 / np.array(trials2).clip(1)))
    assert (np.abs(first / np.array(trials).clip(1) - second / np.array(trials2).clip(1)) <= 5 * sigma).all()


def test_the_bernoulli_method_masks_as_the_collator_of_transformers(theirs: dict[str, Any]) -> None:
    peer, own = theirs["DataCollatorForLanguageModeling"], ours(whole_words=False)
    assert_alike(own["chosen"], peer["chosen"], TIMES, TIMES)
    assert_alike(own["mask"], peer["mask"], own["chosen"], peer["chosen"])
    assert_alike(own["same"], peer["same"], own["chosen"], peer["chosen"])
    assert_alike(own["drawn"], peer["drawn"], sum(own["drawn"]), sum(peer["drawn"]))
    assert_alike(own["numbers"], peer["numbers"], TIMES, TIMES)


def test_whole_words_are_replaced_at_the_shares_of_transformers_but_chosen_by_words(theirs: dict[str, Any]) -> None:
    """Its collator chooses words until it reaches 0.15 of the tokens, so it chooses long words less often."""
    peer, own = theirs["DataCollatorForWholeWordMask"], ours(whole_words=True)
    for found in (peer, own):
        for word in WORDS:
            start = ROW.index(word[0])
            assert len(set(found["chosen"][start : start + len(word)])) == 1, "all of a word or none of it"
    starts = [ROW.index(word[0]) for word in WORDS]  # one token per word: here the tokens of a word are treated alike
    mine, other = (
        {name: [sum(np.array(found[name])[starts])] for name in ("chosen", "mask", "same")} for found in (own, peer)
    )
    for name in ("mask", "same"):
        assert_alike(mine[name], other[name], mine["chosen"], other["chosen"])


if __name__ == "__main__":
    peer(Path(sys.argv[1]))
