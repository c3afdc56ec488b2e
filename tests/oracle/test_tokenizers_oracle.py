"""Our saved tokenizers load in transformers 4.57 and 5 with equal results, and theirs load here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from peers import environment

import roberta

ROOT = Path(__file__).parents[2]
CLASSES = ("RobertaTokenizer", "RobertaTokenizerFast")
TEXTS = [
    "Hello world!", "", " The <mask> fox's\n\n naïve café", "日本 😀 <e1>x", "newtok a newtoken <e2>", "<s>a</s> <pad>",
    "They'll say: 'I'M here'; 3.14 ½ —\u00a0\u3000 x", "  ",
]  # fmt: skip

PEER = """
import json, sys, warnings
warnings.simplefilter("ignore")
import transformers
transformers.logging.set_verbosity_error()
source, texts, target = sys.argv[1:4]
report = {}
for name in ("RobertaTokenizer", "RobertaTokenizerFast"):
    tokenizer = getattr(transformers, name).from_pretrained(source)
    ids = [tokenizer(text)["input_ids"] for text in json.loads(texts)]
    pair = tokenizer("Hello", "newtok", padding="max_length", max_length=20)["input_ids"]
    decoded = [tokenizer.decode(row, skip_special_tokens=True) for row in ids] if tokenizer.is_fast else None
    report[name] = [ids, pair, decoded, len(tokenizer), tokenizer.model_max_length, tokenizer.mask_token_id]
    tokenizer.save_pretrained(f"{target}/{name}")
print(json.dumps(report))
"""


def run(version: int, code: str, *arguments: str) -> str:
    settings = {**environment(version), "USE_TORCH": "0"}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


def ours(tokenizer: Any) -> list[Any]:
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]
    pair = tokenizer("Hello", "newtok", padding="max_length", max_length=20)["input_ids"]
    decoded = [tokenizer.decode(row, skip_special_tokens=True) for row in ids]
    return [ids, pair, decoded, len(tokenizer), tokenizer.model_max_length, tokenizer.mask_token_id]


@pytest.mark.parametrize("is_grown", [False, True], ids=["plain", "grown"])
@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("name", CLASSES)
def test_both_ways(name: str, version: int, is_grown: bool, golden: Path, tmp_path: Path) -> None:
    tokenizer = getattr(roberta, name).from_pretrained(golden / "tiny-bpe-a")
    if is_grown:
        tokenizer.add_tokens(["newtok"])
        tokenizer.add_special_tokens({"additional_special_tokens": ["<e1>", "<e2>"]})
        tokenizer.padding_side = "left"
        tokenizer.model_max_length = 99
    tokenizer.save_pretrained(tmp_path / "ours")
    report = json.loads(run(version, PEER, str(tmp_path / "ours"), json.dumps(TEXTS), str(tmp_path)))
    wanted = ours(tokenizer)
    for peer, found in report.items():
        if found[2] is None:  # its slow class puts spaces around added tokens
            found[2] = wanted[2]
        assert found == wanted, peer
    for peer in CLASSES:
        for again in CLASSES:
            assert ours(getattr(roberta, again).from_pretrained(tmp_path / peer)) == wanted, (peer, again)


CHECK = """
import sys
from pathlib import Path
import transformers
transformers.logging.set_verbosity_error()
sys.path[:0] = sys.argv[1:3]
import test_tokenizer_golden as module
print(list(module.checked(transformers.RobertaTokenizerFast, Path(sys.argv[3]), Path(sys.argv[4]))))
"""


def test_the_executor_of_the_recorded_cases_gives_what_was_recorded(golden: Path, tmp_path: Path) -> None:
    """Show that a failing case would be our tokenizer's fault, and not that of how the test reads the case."""
    folders = [str(ROOT), str(ROOT / "tests" / "common")]
    assert run(4, CHECK, *folders, str(golden), str(tmp_path)) == "[]"
