"""What identifies the data of a training: a resumed one must have the same."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from roberta.common.tokenizer.base import TokenizerBase
from roberta.common.training.data.batches import Feature
from roberta.common.training.data.stored_rows import StoredRows
from roberta.common.vocabulary.files import VOCAB_FILE, vocab_text


def fingerprint(name: str, source: Any, features: Sequence[Feature]) -> dict[str, str]:
    """Size and SHA-256 of each file, or of the features of data that is not a file, by a name such as "train 1".

    A token store has those of the files that it was prepared from.
    """
    if isinstance(features, StoredRows):
        return features.store.fingerprint(name)
    paths = paths_of(source)
    if paths is None:
        found = hashlib.sha256()
        for feature in features:
            for key in sorted(feature):
                if key not in ("window", "offsets"):  # they follow from the others
                    values = feature[key] if isinstance(feature[key], list) else [feature[key]]
                    found.update(b"".join(np.asarray(value).tobytes() for value in values))
        return {name: f"{len(features)} rows, sha256 {found.hexdigest()}"}
    result = {}
    for number, path in enumerate(paths, 1):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            result[f"{name} {number}"] = f"{path.stat().st_size} bytes, sha256 {digest}"
    return result


def tokenizer_hash(tokenizer: TokenizerBase) -> str:
    """SHA-256 of the files of a tokenizer."""
    found = hashlib.sha256()
    for name, content in sorted(tokenizer.files_to_save().items()):
        found.update(name.encode() + content)
    return found.hexdigest()


# Settings of a tokenizer that do not affect the ids of a text without special tokens.
_NOT_OF_IDS = (
    "model_max_length", "padding_side", "truncation_side", "clean_up_tokenization_spaces", "name_or_path",
    "chat_template", "model_input_names", "trim_offsets",
)  # fmt: skip


def hash_of_ids(tokenizer: TokenizerBase) -> str:
    """The same without what does not affect ids, such as the longest input, or the class of `RobertaTokenizer`."""
    files = tokenizer.files_to_save()
    if not tokenizer.is_fast and VOCAB_FILE in files:  # as the fast class would write them
        files |= tokenizer.files_to_save(legacy_format=False)
        files[VOCAB_FILE] = vocab_text(json.loads(files[VOCAB_FILE]), indented=False)
    found = hashlib.sha256()
    for name, content in sorted(files.items()):
        if name == "tokenizer_config.json":
            config = {key: value for key, value in json.loads(content).items() if key not in _NOT_OF_IDS}
            content = json.dumps(config, sort_keys=True).encode()
        found.update(name.encode() + content)
    return found.hexdigest()


def weights_checksum(model: Any) -> int:
    """CRC-32 of the weights of a model, as it would be saved."""
    found = 0
    for name, (_, _, load) in sorted(model.to_save()[1].items()):
        found = zlib.crc32(np.asarray(load()).tobytes(), zlib.crc32(name.encode(), found))
    return found


def paths_of(source: Any) -> list[Path] | None:
    """The files that a source names; None for data that is not files."""
    if isinstance(source, str | PathLike):
        return [Path(source)]
    is_files = isinstance(source, list | tuple) and all(isinstance(one, str | PathLike) for one in source)
    return [Path(one) for one in source] if is_files else None
