"""What a tokenizer of the family saves loads in transformers 4 and 5 with the same ids; new vocabularies are theirs.

Run as a program, this file is the peer: it loads folders by AutoTokenizer and prints the ids of the texts, or with
`train` before them the vocabularies that it makes of a corpus.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TEXTS = [
    "The quick brown fox didn't jump over 3.14 lazy dogs.", "Hà Nội mùa thu", "C'est l'été à Besançon, n'est-ce pas ?",
    "東京は日本の首都です。", "서울은 대한민국의 수도이다.", "  two  spaces\nand a line ", "<mask> emoji 😀👍🏽", "",
]  # fmt: skip
NAMES = (
    "bytelevel-added", "bytelevel-normalizer", "bytelevel-specials", "bytelevel-template", "camembert-full", "xlmr-full",
    "camembert-fast-only", "xlmr-fast-only", "metaspace-unigram", "wordpiece-cased", "wordpiece-uncased", "phobert",
    "bertweet-raw",
)  # fmt: skip
# Version -> folder -> why it gives other ids.
OTHERS: dict[int, dict[str, str]] = {
    4: {},
    5: {"bytelevel-normalizer": "its RobertaTokenizer leaves out the normalizer, of the original folder too"},
}
# The library's trainers of other kinds break ties by chance, so that transformers differs from itself: Unigram in the
# order of pieces, WordPiece in pieces too.
TRAINED = {
    "bytelevel-specials": list,
    "bytelevel-normalizer": list,
    "camembert-full": sorted,
    "metaspace-unigram": sorted,
}


def vocabularies(tokenizers: Any) -> list[list[str]]:
    """The tokens of new vocabularies, in the order of their ids."""
    words = ["the", "quick", "fox", "été", "naïve", "straße", "3.14", "it's", "can't", "running", "runner", "tokens",
             "tokenizer", "東京", "서울", "mùa"]  # fmt: skip
    chosen = random.Random(3)
    corpus = [" ".join(chosen.choices(words, k=12)) for _ in range(200)]
    found = (tokenizer.train_new_from_iterator([corpus], vocab_size=400).get_vocab() for tokenizer in tokenizers)
    return [sorted(vocabulary, key=vocabulary.get) for vocabulary in found]


@pytest.fixture(scope="module")
def saved(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """Folder and ids of each tokenizer, saved by us beside a config with the type of its model."""
    import roberta

    found = {}
    for name in NAMES:
        source, folder = golden / "family" / "tokenizers" / name, tmp_path_factory.mktemp(name)
        tokenizer = roberta.AutoTokenizer.from_pretrained(source)
        tokenizer.save_pretrained(folder)
        kind = "camembert" if name.startswith("camembert") else "xlm-roberta" if name.startswith("xlmr") else "roberta"
        (folder / "config.json").write_text(json.dumps({"model_type": kind}))
        found[name] = folder, tokenizer(TEXTS)["input_ids"]
    return found


@pytest.mark.parametrize("version", [4, 5])
def test_transformers_reads_what_is_saved(saved: dict[str, tuple[Path, Any]], version: int) -> None:
    import peers

    command = [sys.executable, __file__, *(str(folder) for folder, _ in saved.values())]
    done = subprocess.run(command, env=peers.environment(version), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = dict(zip(saved, json.loads(done.stdout.splitlines()[-1]), strict=True))
    other = {name: theirs[name] for name, (_, ids) in saved.items() if theirs[name] != ids}
    assert set(other) == set(OTHERS[version]), other


def test_new_vocabularies_are_those_of_transformers(golden: Path) -> None:
    import peers

    import roberta

    folders = [golden / "family" / "tokenizers" / name for name in TRAINED]
    command = [sys.executable, __file__, "train", *map(str, folders)]
    done = subprocess.run(command, env=peers.environment(4), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    ours = vocabularies(roberta.AutoTokenizer.from_pretrained(folder) for folder in folders)
    for (name, order), our, their in zip(TRAINED.items(), ours, json.loads(done.stdout.splitlines()[-1]), strict=True):
        assert order(our) == order(their), name


if __name__ == "__main__":
    from transformers import AutoTokenizer

    if sys.argv[1] == "train":
        print(json.dumps(vocabularies(map(AutoTokenizer.from_pretrained, sys.argv[2:]))))
        sys.exit()
    results = []
    for place in sys.argv[1:]:
        try:
            results.append(AutoTokenizer.from_pretrained(place)(TEXTS)["input_ids"])
        except Exception as error:  # as a result, to be compared
            results.append(f"{type(error).__name__}: {error}"[:300])
    print(json.dumps(results))
