"""Does a tokenizer go with a model? It is loaded, its ids are compared with the embedding, and its own tokens encoded."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from roberta.common.storage.folders import CheckpointError

TRIED = 64  # tokens, evenly spread over the vocabulary
ENOUGH = 0.1  # of them come back as themselves; of a tokenizer without its merges, next to none do
_FILES = (
    "vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip


class Tried(NamedTuple):
    """What is asked of a tokenizer: its ids, and both ways between texts and ids, without special tokens around."""

    ids: Mapping[str, int]
    special: Collection[int]
    encode: Callable[[str], list[int]]
    decode: Callable[[list[int]], str]


def is_there(files: Mapping[str, bytes]) -> bool:
    """Whether there is a vocabulary that can be tried."""
    return "tokenizer.json" in files or {"vocab.json", "merges.txt"} <= set(files)


def problem(files: Mapping[str, bytes], rows: int) -> str | None:
    """Why the tokenizer in these files does not go with a model; None where it does.

    Args:
        files: name -> content, with a vocabulary.
        rows: of the model's word embedding.
    """
    try:
        tried = _load(files)
    except (CheckpointError, ValueError, TypeError) as error:
        return f"it cannot be loaded: {error}"
    highest = max(tried.ids.values(), default=-1)
    if highest >= rows:
        beyond = sum(index >= rows for index in tried.ids.values())
        return f"it has ids up to {highest} and the model {rows} embeddings: {beyond} of its tokens have none"
    texts = [
        (index, text) for index in _sample(tried) if (text := tried.decode([index])).strip() and "\ufffd" not in text
    ]
    back = sum(tried.encode(text) == [index] for index, text in texts)
    if texts and back < ENOUGH * len(texts):
        return f"of {len(texts)} of its tokens, such as {texts[0][1]!r}, {back} are encoded as themselves"
    return None


def apart(files: Mapping[str, bytes], tokens: Sequence[str]) -> str | None:
    """Why a text of these tokens, one behind the other, is not encoded as them; None where it is."""
    tried = _load(files)
    if tried.encode("".join(tokens)) == [tried.ids[token] for token in tokens]:
        return None
    return f"{''.join(tokens)[:80]!r} is not encoded as these characters"


def _sample(tried: Tried) -> list[int]:
    """Ids spread evenly over the vocabulary, of tokens that a text is cut into."""
    ids = sorted(set(tried.ids.values()) - set(tried.special))
    return [ids[at * len(ids) // TRIED] for at in range(TRIED)] if len(ids) > TRIED else ids


def _load(files: Mapping[str, bytes]) -> Tried:
    """Our own tokenizer where it is a byte-level BPE, else that of the library.

    Raises:
        CheckpointError, ValueError: a file is malformed; names it.
    """
    if _is_foreign(files):
        return _load_with_library(files["tokenizer.json"])
    from roberta.common.tokenizer.fast import RobertaTokenizerFast

    with tempfile.TemporaryDirectory() as folder:
        for name in _FILES:
            if name in files:
                (Path(folder) / name).write_bytes(files[name])
        try:
            tokenizer: Any = RobertaTokenizerFast.from_pretrained(folder)
        except ValueError as error:
            raise CheckpointError(str(error).replace(f"{folder}/", "")) from None

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
        return ids

    return Tried(tokenizer.get_vocab(), tokenizer.all_special_ids, encode, lambda ids: str(tokenizer.decode(ids)))


def _is_foreign(files: Mapping[str, bytes]) -> bool:
    """Whether tokenizer.json is of another kind than RoBERTa's own."""
    if "tokenizer.json" not in files:
        return False
    try:
        content = json.loads(files["tokenizer.json"])
    except (ValueError, RecursionError):
        return False
    before = content.get("pre_tokenizer") if isinstance(content, dict) else None
    return isinstance(before, dict) and before.get("type") != "ByteLevel"


def _load_with_library(content: bytes) -> Tried:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises plain Exception
        raise CheckpointError(f"tokenizer.json: {error}") from None

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    special = tokenizer.get_added_tokens_decoder()
    decode: Callable[[list[int]], str] = lambda ids: str(tokenizer.decode(ids, skip_special_tokens=False))  # noqa: E731
    return Tried(tokenizer.get_vocab(), special, encode, decode)
