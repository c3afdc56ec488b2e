"""Calls that scripts make to a tokenizer, from attributes to chat templates and the bytes of files, as in transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from peers import environment

import roberta

sys.path.insert(0, str(Path(__file__).parent))
import tokenizer_calls

HERE = Path(__file__).parent

PEER = """
import importlib, json, sys, warnings
warnings.simplefilter("ignore")
import transformers
sys.path.insert(0, sys.argv[1])
import tokenizer_calls
print(json.dumps(tokenizer_calls.run(transformers, sys.argv[2])))
"""


@pytest.fixture(scope="module")
def theirs(golden: Path) -> dict[str, dict[str, Any]]:
    command = [sys.executable, "-c", PEER, str(HERE), str(golden / "tiny-bpe-a")]
    done = subprocess.run(
        command, env={**environment(4), "USE_TORCH": "0"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def same(their: Any, our: Any) -> bool:
    """Whether results are equal; for exceptions, whether a handler for theirs catches ours."""
    if isinstance(their, dict) and "raises" in their:
        return isinstance(our, dict) and their["raises"][0] in our.get("raises", ())
    return their == our


def test_every_call_gives_what_transformers_gives(theirs: dict[str, dict[str, Any]], golden: Path) -> None:
    ours = json.loads(json.dumps(tokenizer_calls.run(roberta, str(golden / "tiny-bpe-a"))))
    other = {
        f"{cls}, {call}": (result, ours[cls][call])
        for cls, results in theirs.items()
        for call, result in results.items()
        if not same(result, ours[cls][call])
    }
    assert not other
    assert sum(map(len, ours.values())) > 280
