"""The three backends have the same files, with the same definitions in the same order."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "roberta"
MIRRORED = (
    "layers.py", "models.py", "losses.py", "cache.py", "generation.py", "weights.py", "pretrained.py",
    "optimizers.py", "saving.py", "families.py", "devices.py",
)  # fmt: skip
# (backend, file) -> definitions that the others do not need, and why.
ALLOWED: dict[tuple[str, str], set[str]] = {
    # PyTorch: its own layers have the correct, dense gradient, initial values and dtype
    ("tf", "layers.py"): {
        "check_when_run", "size", "blank", "lookup", "Embedding", "embedding", "dense", "norm", "dropout", "_Block",
        "_HasOutput",
    },
    # Flax: compiled code checks through callbacks; its tree has a level between `layer` and the number; XLA's sums;
    # linen draws twice the random words
    ("flax", "layers.py"): {
        "check_values", "split_sums", "are_sums_split", "check_when_run", "Embedding", "normal", "embedding", "product",
        "dense", "norm", "Dropout", "_Block", "Layers",
    },
    # Flax: a linen module beside each public class
    ("flax", "models.py"): {
        f"Roberta{head}Module"
        for head in (
            "", "Head", "Model", "ForCausalLM", "ForMaskedLM", "ForSequenceClassification", "ForMultipleChoice",
            "ForTokenClassification", "ForQuestionAnswering",
        )
    },
    # PyTorch: users import its layers by transformers' names; vmap and traces hide values
    ("pt", "layers.py"): {"create_position_ids_from_input_ids", "has_values"},
    # PyTorch has a cross entropy that ignores labels
    ("pt", "losses.py"): {"narrowed"},
    # PyTorch's own cross entropy knows label smoothing and class weights
    ("tf", "losses.py"): {"changed_cross_entropy"},
    ("flax", "losses.py"): {"changed_cross_entropy"},
    # Flax: a cache is a tree of dictionaries, which JAX knows
    ("pt", "cache.py"): {"Cache", "check_position"},
    ("tf", "cache.py"): {"Cache"},
    # Flax: the cache has a fixed size, and is not the tuple that the others have (common.generation.tuple_cache)
    ("flax", "cache.py"): {"empty", "as_cache", "first_layer", "max_length", "widen", "with_room", "cut"},
    # PyTorch shares and splits parameters and has state dicts; Keras assigns to variables; Flax builds a tree
    ("pt", "weights.py"): {
        "gathered", "to_tensor", "split_like", "drop_repeated", "restore_repeated", "tie_again", "as_state",
    },
    ("tf", "weights.py"): {"assign", "canonical_array", "replace"},
    ("flax", "weights.py"): {"to_array", "checked_dtype", "kept", "to_native", "from_native"},
    # Flax: Orbax reads moments where they belong, and a tree is made of them
    ("flax", "optimizers.py"): {"with_moments", "moments_of"},
    # PyTorch has the meta device, where drawing has to be left out; Flax has shapes without values
    ("pt", "pretrained.py"): {"NoDraws"},
    ("tf", "pretrained.py"): {"no_initialisation"},
    # PyTorch copies inputs and keeps its generators by device; the others do so themselves
    ("pt", "devices.py"): {"put", "forked_generators"},
}  # fmt: skip


def outline(file: Path) -> list[str]:
    """The public definitions of a file, in order: `Class`, `Class.method`, `function`."""
    names = []
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            names.append(node.name)
        elif isinstance(node, ast.ClassDef):
            names.append(bare(node.name))
    return names


def bare(name: str) -> str:
    for prefix in ("TF", "Flax"):
        name = name.removeprefix(prefix) if name.startswith(f"{prefix}Roberta") else name
    return name


@pytest.mark.parametrize("family", ["tf", "flax"], ids="in_{}".format)
@pytest.mark.parametrize("name", MIRRORED)
def test_same_definitions_in_the_same_order(family: str, name: str) -> None:
    wanted, found = (
        [item for item in outline(PACKAGE / backend / name) if item not in ALLOWED.get((backend, name), set())]
        for backend in ("pt", family)
    )
    assert found == wanted


@pytest.mark.parametrize(("family", "name"), ALLOWED)
def test_what_is_allowed_is_there(family: str, name: str) -> None:
    assert ALLOWED[family, name] <= set(outline(PACKAGE / family / name))


@pytest.mark.parametrize("family", ["pt", "tf", "flax"], ids="in_{}".format)
def test_a_backend_has_no_other_files(family: str) -> None:
    # PyTorch: attributes that tools read from it and from no other framework; int8, which the others cannot have
    # (docs/inference.md), and rows that lie end to end, which programs of fixed shapes are not for; Flax: a tree divides
    # into what is trained and what is not; TensorFlow: a model that is built keeps its dtype, so that of another one is
    # trained
    own = {
        "pt": {
            "facts.py", "masks.py", "checkpointing.py", "adapters.py", "sources.py", "trainer_folders.py", "int8.py",
            "packed.py", "packed_training.py",
        },
        "tf": {
            "adamw.py", "symbols.py", "trained_copy.py", "metrics.py", "fitting.py",
            "weighing.py", "serving.py", "datasets.py", "keras_names.py", "quantised.py", "model_card.py",
        },
        "flax": {"programs.py", "freezing.py"},
    }  # fmt: skip
    # infer.py is each framework's own fastest way: kernels for packed tokens, or programs for buckets;
    # parts.py is about what a caller can change in its models;
    # sharding.py is its own way to shard a training: processes, or a mesh of devices;
    # lora.py holds what is trained of an adapter, averaging.py averages of it: parameters, variables, or a tree;
    # parts_files.py is how processes write parts of a checkpoint, where they hold parts
    extra = {
        "__init__.py", "training.py", "infer.py", "parts.py", "sharding.py", "lora.py", "averaging.py", "parts_files.py",
    } | own.get(family, set())  # fmt: skip
    assert {file.name for file in (PACKAGE / family).glob("*.py")} - extra <= set(MIRRORED)


@pytest.mark.parametrize("name", ["infer.py", "training.py"])
def test_what_each_backend_does_its_own_way_has_the_same_entries(name: str) -> None:
    """Kernels and engines differ; shared definitions are in the same order, and are those that others call."""
    outlines = {family: outline(PACKAGE / family / name) for family in ("pt", "tf", "flax")}
    shared = set.intersection(*map(set, outlines.values()))
    assert (
        shared
        >= {
            "infer.py": {"FastModel", "HeadKernels", "infer", "run_plain", "release"},
            "training.py": {"Trainer", "train"},
        }[name]
    )
    orders = {tuple(item for item in names if item in shared) for names in outlines.values()}
    assert len(orders) == 1, orders
