"""`tf_model.h5` and the names of TensorFlow's variables: read without libhdf5 in this process, and write.

Only h5py is needed, not TensorFlow.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import h5py

from roberta.common.formats import h5_file, h5_writer
from roberta.common.formats.safetensors_file import Source, StoredTensor, check_count
from roberta.common.parameters import HEAD_PARTS, Kind, kind_of

FORMAT = "tf"

# The leaf name of each kind, and back; a kernel is stored (in, out).
TF_LEAVES: dict[Kind, str] = {
    "embedding": "embeddings",
    "dense": "kernel",
    "bias": "bias",
    "norm": "gamma",
    "norm_bias": "beta",
}
_CANONICAL_LEAVES = {"embeddings": "weight", "kernel": "weight", "gamma": "weight", "beta": "bias"}
_SCOPE = "tf_roberta"  # readers drop the first component of a name, whatever it is
_PARTS = ("roberta", *HEAD_PARTS, "embeddings", "encoder")  # what a name may begin with, after the scope


def read_tensors(path: Path, remarks: list[str]) -> dict[str, StoredTensor]:
    """The tensors of a file by variable name, mapped from the disk.

    Args:
        remarks: gets nothing: every dataset of such a file is a tensor of the model.

    Raises:
        CheckpointError: names the file, and what in it cannot be read.
    """
    held, found = h5_file.open_h5(path)
    entries = found["tensors"]
    check_count(path, entries)
    # a whole file: group of the layer, scopes, name; a shard: the name alone
    paths = {where: where.split("/", 1)[-1] if found["is_grouped"] else where for where in entries}
    scope = 1 if found["is_grouped"] and _have_scope(paths.values()) else 0
    result: dict[str, StoredTensor] = {}
    for where, entry in entries.items():
        name = paths[where].split("/", scope)[-1]
        if name not in result:  # the group of a tied LM head repeats the embeddings
            result[name] = h5_file.stored_in_h5(held, name, entry)
    return result


def _have_scope(paths: Iterable[str]) -> bool:
    """Whether every name begins with the model's own scope, whatever it is, and then one of the model's parts.

    Names with other scopes (of a model around it, or none) stay whole: what they share is removed where all formats are.
    """
    return all(path.split("/", 2)[1:2] and path.split("/", 2)[1] in _PARTS for path in paths)


def canonical_name(native: str) -> tuple[str, bool]:
    """The canonical name of a variable, and whether it is stored transposed.

    Example: roberta/encoder/layer_._0/output/dense/kernel:0 -> roberta.encoder.layer.0.output.dense.weight, True.
    """
    module, _, leaf = native.removesuffix(":0").replace("_._", "/").replace("/", ".").rpartition(".")
    return f"{module}.{_CANONICAL_LEAVES.get(leaf, leaf)}", leaf == "kernel"


def native_name(name: str) -> str:
    """The variable's name, with a scope."""
    module, _, _ = name.rpartition(".")
    path = module if module.partition(".")[0] in ("roberta", *HEAD_PARTS) else f"roberta.{module}"
    path = f"roberta.{module}" if name.startswith("pooler.") else path  # of the model without head
    leaf = "weight" if path.endswith(".word_embeddings") else TF_LEAVES[kind_of(name)]
    return f"{_SCOPE}/{path.replace('.', '/').replace('/layer/', '/layer_._')}/{leaf}:0"


def single(tensors: Mapping[str, Source]) -> Iterator[bytes | memoryview]:
    """The bytes of a file with all tensors of a model, as transformers' Keras classes lay it out."""
    groups: dict[str, list[str]] = {}
    datasets: dict[str, Source] = {}
    for name, source in tensors.items():
        native = native_name(name)
        layer = native.split("/")[1]
        groups.setdefault(layer, []).append(native)
        datasets[f"{layer}/{native}"] = _turned(name, source)

    def finish(file: h5py.File) -> None:
        if "lm_head" in groups:  # a layer with the shared embeddings: transformers reports as new what it does not list
            shared = [native for native in groups["roberta"] if "/roberta/embeddings/" in native]
            for native in shared:
                file[f"lm_head/{native}"] = file[f"roberta/{native}"]  # a second name of the same values
            groups["lm_head"] = [*shared, *groups["lm_head"]]
        for layer, names in groups.items():
            _save_names(file[layer].attrs, "weight_names", names)
        _save_names(file.create_group("top_level_model_weights").attrs, "weight_names", [])
        _save_names(file.attrs, "layer_names", list(groups))
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.15.0"  # the last whose classes of transformers wrote such files

    return h5_writer.h5_pieces(datasets, finish)


def shard(tensors: Mapping[str, Source]) -> Iterator[bytes | memoryview]:
    """The bytes of a file with some tensors of a model: no groups, no scope."""
    datasets = {native_name(name).removeprefix(f"{_SCOPE}/"): _turned(name, tensors[name]) for name in tensors}
    return h5_writer.h5_pieces(datasets, lambda file: _save_names(file.attrs, "layer_names", list(datasets)))


def _turned(name: str, source: Source) -> Source:
    """A tensor as Keras stores it: dense weights (in, out)."""
    shape, dtype, load = source
    if dtype == "bfloat16":
        raise ValueError("tf_model.h5 cannot hold bfloat16; save safetensors, or another dtype")
    return (shape[::-1], dtype, lambda: load().T) if kind_of(name) == "dense" else source


def _save_names(attributes: h5py.AttributeManager, key: str, names: list[str]) -> None:
    """A list of names as one attribute, or as key0, key1, ... where it is over HDF5's 64 kB."""
    encoded = [name.encode() for name in names]
    per_chunk = max(1, 60_000 // max([1, *map(len, encoded)]))
    if len(encoded) <= per_chunk:
        attributes[key] = encoded
    for index in range(0, len(encoded) if len(encoded) > per_chunk else 0, per_chunk):
        attributes[f"{key}{index // per_chunk}"] = encoded[index : index + per_chunk]
