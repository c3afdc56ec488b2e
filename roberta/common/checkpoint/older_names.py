"""Other spellings of the canonical names: the names of 2018, buffers, and the repeats of tied heads.

Each rule adds a note of what it did; the notes are in the report of a load. Source: checkpoints written by
transformers 2 to 5. Prefixes of other models around this one are removed before, in `wrappers`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from roberta.common.formats.safetensors_file import StoredTensor
from roberta.common.storage.folders import CheckpointError

Tensors = dict[str, StoredTensor]

OLD_LEAVES = {"gamma": "weight", "beta": "bias"}  # the names of the first BERT release
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")  # constants that old versions saved
ENCODER_PARTS = ("embeddings", "encoder", "pooler")


def canonical(tensors: Mapping[str, StoredTensor], *, has_prefix: bool) -> tuple[Tensors, list[str]]:
    """Tensors by their canonical names, and a note for each thing that was spelled otherwise.

    Args:
        has_prefix: whether the names wanted have `roberta.` before the encoder's parts (those of the heads do).

    Raises:
        CheckpointError: two tensors of a file have the same canonical name.
    """
    notes: list[str] = []
    result = _with_new_leaves(dict(tensors), notes)
    result = _without_buffers(result, notes)
    result = _with_one_bias(result, notes)
    return _with_prefix(result, has_prefix), notes


def _with_new_leaves(tensors: Tensors, notes: list[str]) -> Tensors:
    names = {}
    for name in tensors:
        module, _, leaf = name.rpartition(".")
        names[name] = f"{module}.{OLD_LEAVES[leaf]}" if leaf in OLD_LEAVES else name
    if any(name != new for name, new in names.items()):
        notes.append("gamma and beta were read as weight and bias")
    return _renamed(tensors, names)


def _without_buffers(tensors: Tensors, notes: list[str]) -> Tensors:
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith(BUFFERS)}
    if len(kept) < len(tensors):
        notes.append("position_ids, which is a constant, was left out")
    return kept


def _with_one_bias(tensors: Tensors, notes: list[str]) -> Tensors:
    """The LM head's bias and matrix under one name each."""
    tensors = dict(tensors)
    if "lm_head.weight" in tensors:  # files of 2019
        matrix = tensors.pop("lm_head.weight")
        tensors.setdefault("lm_head.decoder.weight", dataclasses.replace(matrix, name="lm_head.decoder.weight"))
        notes.append("lm_head.weight was read as lm_head.decoder.weight")
    bias = tensors.pop("lm_head.decoder.bias", None)
    if bias is not None:
        other = tensors.get("lm_head.bias")
        if other is not None and not same(bias, other):
            notes.append("lm_head.decoder.bias and lm_head.bias differ; the first was taken")
        tensors["lm_head.bias"] = dataclasses.replace(bias, name="lm_head.bias")
    return tensors


def _with_prefix(tensors: Tensors, has_prefix: bool) -> Tensors:
    names = {}
    for name in tensors:
        bare = name.removeprefix("roberta.")
        is_encoder = bare.partition(".")[0] in ENCODER_PARTS
        names[name] = f"roberta.{bare}" if is_encoder and has_prefix else bare if is_encoder else name
    return _renamed(tensors, names)


def same(one: StoredTensor, other: StoredTensor) -> bool:
    """Whether two tensors have the same values."""
    return one.shape == other.shape and np.array_equal(one.load(), other.load())


def _renamed(tensors: Tensors, names: Mapping[str, str]) -> Tensors:
    result: Tensors = {}
    for name, tensor in tensors.items():
        new = names[name]
        if new in result:
            raise CheckpointError(f"{tensor.file} has {new} twice, once as {name}; remove one of them")
        result[new] = dataclasses.replace(tensor, name=new)
    return result
