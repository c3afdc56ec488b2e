"""The formats of `fuzz_files`: for each a small good folder, the functions that damage it, and its reader."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz_damage import header, packed, plain, program, text, zipped
from fuzz_tokenizer_formats import OF_FAMILY, family_tokenizer

from roberta import RobertaTokenizer, RobertaTokenizerFast
from roberta.common.formats.safetensors_file import numpy_dtype
from roberta.common.vocabulary import files
from roberta.common.vocabulary.special_tokens import AddedToken
from roberta.conversion import convert
from roberta.conversion.formats import SourceOptions, read_model

FORMATS = (
    "safetensors", "index", "config", "tokenizer", "vocab", "settings", "old-settings", "pt", "pt-old", "flax", "tf",
    "fairseq", *OF_FAMILY,
)  # fmt: skip
SIZES = {
    "vocab_size": 13, "hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 10,
    "max_position_embeddings": 8,
}  # fmt: skip
TEXT = "low lower <mask> new 1 é\n"


@dataclass
class Format:
    """A good folder, the files in it to damage, how to damage them, and their reader.

    Attributes:
        reader: returns facts that are the same for every file that is read successfully.
    """

    folder: Path
    files: tuple[str, ...]
    damage: Callable[[random.Random, bytes], bytes]
    reader: Callable[[Path], Any]
    good: dict[str, bytes] = field(default_factory=dict)
    wanted: Any = None

    def __post_init__(self) -> None:
        self.good = {name: (self.folder / name).read_bytes() for name in self.files}
        self.wanted = self.reader(self.folder)


def weights(folder: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Names, shapes and dtypes of a model read by the way of `convert`; every tensor is loaded."""
    model = read_model(folder, None, SourceOptions())
    for tensor in model.tensors.values():
        array = tensor.load()
        assert array.shape == tensor.shape, f"{tensor.name}: {array.shape}, not {tensor.shape}"
        assert array.dtype == numpy_dtype(tensor.dtype), f"{tensor.name}: {array.dtype}, not {tensor.dtype}"
        array.sum()  # every page is touched
    return {name: (tensor.shape, tensor.dtype) for name, tensor in model.tensors.items()}


def fairseq_weights(folder: Path) -> dict[str, Any]:
    """Like `weights`, without tensors that only our own part of the file or only an untied head holds.

    Both results are correct: without our part it is a plain fairseq file, and a different matrix in the head is untied.
    """
    own = ("roberta.embeddings.token_type_embeddings.weight", "lm_head.decoder.weight")
    return {name: found for name, found in weights(folder).items() if name not in own}


def tokenizers(folder: Path) -> bool:
    """Whether both tokenizers read a folder and encode a text to ids within their range."""
    for kind in (RobertaTokenizer, RobertaTokenizerFast):
        tokenizer = kind.from_pretrained(folder)
        ids = tokenizer(TEXT)["input_ids"]
        assert all(type(index) is int and index >= 0 for index in ids), f"{kind.__name__}: {ids}"
    return True


ROBERTA_ROWS = {
    "type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": True, "add_prefix_space": False,
}  # fmt: skip


def write_tokenizer(folder: Path, names: tuple[str, ...]) -> Path:
    """Write a small vocabulary to the named files."""
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    merges = ["l o", "lo w", "e r", "Ġ low", "n e", "ne w"]
    tokens = [*specials, *"lowern1", "Ġ", "Ċ", "Ã", "©", *(merge.replace(" ", "") for merge in merges), "<mask>"]
    vocabulary = files.Vocabulary({name: index for index, name in enumerate(tokens)}, "\n".join(merges))
    added = {vocabulary.tokens[name]: AddedToken(name, special=True) for name in (*specials, "<mask>")}
    entries = {
        str(index): files.token_object(token, special=True) for index, token in added.items()
    }  # fmt: skip
    contents = {
        "vocab.json": files.vocab_text(vocabulary.tokens),
        "merges.txt": files.merges_text(vocabulary.merges),
        "tokenizer.json": files.tokenizer_json(vocabulary, added, post_processor=ROBERTA_ROWS, add_prefix_space=False),
        "tokenizer_config.json": files.json_text(
            {"added_tokens_decoder": entries, "mask_token": entries[str(len(tokens) - 1)], "model_max_length": 512}
        ),
        "special_tokens_map.json": files.json_text({"bos_token": "<s>", "mask_token": {"content": "<mask>"}}),
        "added_tokens.json": files.json_text({"<new>": len(tokens)}),
    }
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(contents[name])
    return folder


OLD_FORM = """
import sys, torch
state = torch.load(sys.argv[1], weights_only=True)
torch.save(state, sys.argv[1], _use_new_zipfile_serialization=False)
"""


def make(name: str, root: Path, source: Path) -> Format:
    """Write the good folder of a format; raises ImportError if its library is not installed."""
    folder = root / name
    tokenizer_names = {
        "tokenizer": ("tokenizer.json",),
        "vocab": ("vocab.json", "merges.txt"),
        "settings": ("tokenizer.json", "tokenizer_config.json"),
        "old-settings": ("vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json"),
    }
    if name in tokenizer_names:
        names = tokenizer_names[name]
        damage = names[-2:] if name == "old-settings" else names[-1:] if name == "settings" else names
        return Format(write_tokenizer(folder, names), damage, text, tokenizers)
    if name in OF_FAMILY:
        return Format(folder, *family_tokenizer(name, folder))
    to: Any = {"pt-old": "pt", "index": "safetensors", "config": "safetensors"}.get(name, name)
    convert(source, folder, to=to, overwrite=True, max_shard_size="1kB" if name == "index" else "5GB")
    if name == "pt-old":
        if not importlib.util.find_spec("torch"):
            raise ImportError("torch writes the old form", name="torch")
        subprocess.run([sys.executable, "-c", OLD_FORM, str(folder / "pytorch_model.bin")], check=True)
    file, damage_of = {
        "safetensors": ("model.safetensors", header),
        "index": ("model.safetensors.index.json", text),
        "config": ("config.json", text),
        "pt": ("pytorch_model.bin", zipped),
        "pt-old": ("pytorch_model.bin", program),
        "flax": ("flax_model.msgpack", packed),
        "tf": ("tf_model.h5", plain),
        "fairseq": ("model.pt", zipped),
    }[name]
    return Format(folder, (file,), damage_of, fairseq_weights if name == "fairseq" else weights)
