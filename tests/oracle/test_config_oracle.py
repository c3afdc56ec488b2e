"""The configs of the three families compared with transformers' own; each reads the files of the other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from peers import environment

from roberta import CamembertConfig, RobertaConfig, XLMRobertaConfig

PEER = """
import json, sys, warnings
warnings.simplefilter("ignore")
import transformers
name, target, ours, *cases = sys.argv[1:]
kind = getattr(transformers, name)
found = []
for case in cases:
    config = kind(**json.loads(case))
    config.save_pretrained(f"{target}/{len(found)}")
    found.append(config.to_dict())
read = [kind.from_pretrained(f"{ours}/{i}").to_dict() for i in range(len(cases))]
print(json.dumps([found, read]))
"""

CASES: list[dict[str, Any]] = [
    {},
    {"num_labels": 3, "layer_norm_eps": 1e-5, "classifier_dropout": 0.3},
    {"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}, "problem_type": "single_label_classification"},
    {"is_decoder": True, "add_cross_attention": True, "use_cache": False, "tie_word_embeddings": False},
    {"pruned_heads": {"1": [0, 3]}, "chunk_size_feed_forward": 2, "position_embedding_type": "relative_key"},
    {"of_another_program": {"a": [1, 2]}, "architectures": ["RobertaForMaskedLM"], "output_hidden_states": True},
]  # fmt: skip

# Fields about transformers' own process or release, not about the model.
OTHERS = {"transformers_version", "_name_or_path", "_attn_implementation_autoset", "torch_dtype"}


def fields(config: dict[str, Any]) -> dict[str, Any]:
    """The fields in the form of JSON."""
    return {name: value for name, value in json.loads(json.dumps(config)).items() if name not in OTHERS}


@pytest.mark.parametrize("kind", [RobertaConfig, CamembertConfig, XLMRobertaConfig])
def test_fields_and_files_are_those_of_transformers(kind: type[RobertaConfig], tmp_path: Path) -> None:
    for index, case in enumerate(CASES):
        kind(**case).save_pretrained(tmp_path / "ours" / str(index))
    command = [
        sys.executable,
        "-c",
        PEER,
        kind.__name__,
        str(tmp_path / "theirs"),
        str(tmp_path / "ours"),
        *map(json.dumps, CASES),
    ]
    done = subprocess.run(command, env=environment(4), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    built, read = json.loads(done.stdout.splitlines()[-1])
    for index, case in enumerate(CASES):
        wanted = fields(built[index])
        assert fields(read[index]) == wanted, "what we write, read there"
        assert fields(kind(**case).to_dict()) == wanted
        assert fields(kind.from_pretrained(tmp_path / "theirs" / str(index)).to_dict()) == wanted
