"""PhoBERT's and BERTweet's tokenizers beside transformers' slow classes, on random texts; saved files load there."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peers import environment

import roberta

FOLDERS = ("phobert", "bertweet-raw", "bertweet-norm")
# what the rules of tweets, of words and of parts look for
PARTS = (
    "@user", "@a_b", "http://t.co/x", "https://example.org/a?b=1", "www.x.com", "example.com/", "it's", "don't", "cannot",
    "ca n't", "I'm", "we're", "he'll", "you'd", "I've", "p.m.", "p . m .", "a . m", "&amp;", "&#39;", "&#x1F600;", "&bogus;",
    "&nbsp;", "…", "’", "!!!!!", "????", ":)", ":-D", "<3", "->", "<b>", "#tag", "555-1234567", "a@b.co", "1,000.5", "ééééé",
    "😀", "❤️", "👍🏽", "👨‍👩‍👧", "🇫🇷", "©", "½", "中文", "Sinh_viên", "đi", "\n", "\x85",
    "\x1c", "\xa0", "\u3000", "\u200d", "\ufe0f",
    "<mask>", "<s>", "@@", "</w>", "e\u0301", ". . .", "'s ", "n't ", "_", "=D", " ", "  ",
)  # fmt: skip

PEER = """
import json, sys, warnings
warnings.simplefilter("ignore")
import transformers
transformers.logging.set_verbosity_error()
tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
for line in sys.stdin:
    text = json.loads(line)
    ids = tokenizer(text)["input_ids"]
    print(json.dumps([ids, tokenizer.tokenize(text), tokenizer.decode(ids)]), flush=True)
"""


class Peer:
    """A child process with transformers' tokenizer of a folder."""

    def __init__(self, folder: Path) -> None:
        settings = environment(4)
        # its own packages first; NLTK and emoji, of which it reads the second, are ours
        settings["PYTHONPATH"] = os.pathsep.join([settings["PYTHONPATH"], *filter(None, map(str, sys.path))])
        self.child = subprocess.Popen(
            [sys.executable, "-c", PEER, str(folder)],
            env={**settings, "USE_TORCH": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __call__(self, text: str) -> Any:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(json.dumps(text) + "\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())

    def close(self) -> None:
        self.child.communicate()


@pytest.fixture(scope="module", params=FOLDERS)
def both(request: pytest.FixtureRequest, golden: Path) -> Any:
    """Our tokenizer of a folder, and transformers'."""
    folder = golden / "family" / "tokenizers" / request.param
    if not folder.is_dir():
        pytest.skip("the folders of the family are not beside the project")
    if request.param == "bertweet-norm":
        for package in ("nltk", "emoji"):
            pytest.importorskip(package)
    peer = Peer(folder)
    yield roberta.AutoTokenizer.from_pretrained(folder), peer
    peer.close()


texts = st.lists(
    st.one_of(
        st.sampled_from(PARTS), st.text(st.characters(exclude_categories=["Cs"]), max_size=6), st.text("atinh !?'’é")
    ),
    max_size=10,
).map("".join)


def same(ours: Any, peer: Peer, text: str) -> None:
    found = ours(text, return_offsets_mapping=True)
    assert [found["input_ids"], ours.tokenize(text), ours.decode(found["input_ids"])] == peer(text)
    assert ours(text)["input_ids"] == found["input_ids"]
    assert all(0 <= start <= end <= len(text) for start, end in found["offset_mapping"])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts)
def test_any_text(text: str, both: Any) -> None:
    same(*both, text)


def test_pairs_of_parts(both: Any) -> None:
    """Neighbours that one rule changes for another, which random texts seldom have."""
    draw = random.Random(3)
    for first in PARTS:
        for second in draw.sample(PARTS, 12):
            same(*both, f"{first}{second} x{second} {first}")


def test_saved_files_load_in_transformers(both: Any, tmp_path: Path) -> None:
    ours, _ = both
    ours.add_tokens(["NEW"])
    ours.save_pretrained(tmp_path / "saved")
    peer = Peer(tmp_path / "saved")
    for text in ("a NEW@user it's <mask>", "Sinh_viên NEWNEW"):
        same(roberta.AutoTokenizer.from_pretrained(tmp_path / "saved"), peer, text)
    peer.close()
