"""The public names and the order of arguments, which are those of transformers 4.57."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from backends import backend as get_backend
from checkpoints import HEADS

import roberta

ENDS = ["output_attentions", "output_hidden_states", "return_dict"]
START = ["input_ids", "attention_mask", "token_type_ids", "position_ids", "head_mask", "inputs_embeds"]
ENCODER = ["encoder_hidden_states", "encoder_attention_mask"]
CACHE = ["past_key_values", "use_cache"]
CHOICES = [
    "input_ids",
    "token_type_ids",
    "attention_mask",
    "labels",
    "position_ids",
    "head_mask",
    "inputs_embeds",
]
SPAN = ["start_positions", "end_positions"]
ORDER = {
    ("pt", "Model"): [*START, *ENCODER, *CACHE, *ENDS],
    ("pt", "ForCausalLM"): [*START, *ENCODER, "labels", *CACHE, *ENDS],
    ("pt", "ForMaskedLM"): [*START, *ENCODER, "labels", *ENDS],
    ("pt", "ForSequenceClassification"): [*START, "labels", *ENDS],
    ("pt", "ForTokenClassification"): [*START, "labels", *ENDS],
    ("pt", "ForMultipleChoice"): [*CHOICES, *ENDS],
    ("pt", "ForQuestionAnswering"): [*START, *SPAN, *ENDS],
    ("tf", "Model"): [*START, *ENCODER, *CACHE, *ENDS],
    ("tf", "ForCausalLM"): [*START, *ENCODER, *CACHE, *ENDS, "labels"],
    ("tf", "ForMaskedLM"): [*START, *ENDS, "labels"],
    ("tf", "ForSequenceClassification"): [*START, *ENDS, "labels"],
    ("tf", "ForTokenClassification"): [*START, *ENDS, "labels"],
    ("tf", "ForMultipleChoice"): [*START, *ENDS, "labels"],
    ("tf", "ForQuestionAnswering"): [*START, *ENDS, *SPAN],
}
FLAX = [
    "input_ids", "attention_mask", "token_type_ids", "position_ids", "head_mask", *ENCODER, "params", "dropout_rng",
    "train", *ENDS, "past_key_values",
]  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
def test_arguments_come_in_the_order_of_transformers(backend, head: str) -> None:
    method = {"pt": "forward", "tf": "call", "flax": "__call__"}[backend.name]
    found = list(inspect.signature(getattr(backend.classes(head), method)).parameters)[1:]
    wanted = FLAX if backend.name == "flax" else ORDER[backend.name, head]
    assert found[: len(wanted)] == wanted


@pytest.mark.parametrize("prefix", ["", "TF", "Flax"])
def test_the_public_names(prefix: str) -> None:
    names = {f"{prefix}Roberta{head}" for head in (*HEADS, "PreTrainedModel")}
    assert names <= set(roberta.__all__)
    get_backend({"": "pt", "TF": "tf", "Flax": "flax"}[prefix])
    for name in names:
        assert getattr(roberta, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'RobertaForEverything'"):
        roberta.RobertaForEverything  # noqa: B018


def test_type_checkers_see_the_same_names_from_the_same_modules() -> None:
    tree = ast.parse(Path(roberta.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    found = {alias.asname: node.module for node in block.body for alias in node.names}
    assert found == roberta._MODULES


@pytest.mark.parametrize("absent", [("tensorflow", "keras"), ("jax", "flax"), ("torch", "jax")])
def test_everything_is_imported_with_the_installed_frameworks_alone(absent: tuple[str, ...]) -> None:
    code = (
        "import importlib.util as util; find = util.find_spec\n"
        f"util.find_spec = lambda name, package=None: None if name in {absent} else find(name, package)\n"
        "import roberta; names = roberta.__all__\n"
        "print(*names)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = set(done.stdout.split())
    assert {"RobertaConfig", "pipeline"} <= names
    assert ("RobertaModel" in names) == ("torch" not in absent)
    assert ("TFRobertaModel" in names) == ("keras" not in absent)
    assert ("FlaxRobertaModel" in names) == ("jax" not in absent)
