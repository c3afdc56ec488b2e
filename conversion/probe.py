"""Does a tokenizer fit a model? We load it, compare its ids with the embedding, and encode its own tokens."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from roberta.common.storage.folders import CheckpointError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SAMPLED = 64  # tokens, evenly spread over the vocabulary
_ENOUGH = 0.1  # the share that must be encoded as themselves; without its merges, a tokenizer manages almost none
_FILES = (
    "vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip


class Probed(NamedTuple):
    """What we ask of a tokenizer: its ids, and both ways between texts and ids, without special tokens."""

    ids: Mapping[str, int]
    special: Collection[int | None]
    encode: Callable[[str], list[int]]
    decode: Callable[[list[int]], str]


def is_there(files: Mapping[str, bytes]) -> bool:
    """Whether there is a vocabulary that can be tested."""
    return "tokenizer.json" in files or {"vocab.json", "merges.txt"} <= set(files)


def problem(files: Mapping[str, bytes], rows: int) -> str | None:
    """Why the tokenizer in these files does not fit a model; None where it does.

    Args:
        files: name -> content, with a vocabulary.
        rows: of the model's word embedding.
    """
    try:
        probed = _load(files)
    except (CheckpointError, ValueError, TypeError) as error:
        return f"it cannot be loaded: {error}"
    highest = max(probed.ids.values(), default=-1)
    if highest >= rows:
        beyond = sum(index >= rows for index in probed.ids.values())
        return f"it has ids up to {highest} and the model {rows} embeddings: {beyond} of its tokens have none"
    texts = [
        (index, text) for index in _sample(probed) if (text := probed.decode([index])).strip() and "\ufffd" not in text
    ]
    back = sum(probed.encode(text) == [index] for index, text in texts)
    if texts and back < _ENOUGH * len(texts):
        return f"of {len(texts)} of its tokens, such as {texts[0][1]!r}, {back} are encoded as themselves"
    return None


def not_as_tokens(files: Mapping[str, bytes], tokens: Sequence[str]) -> str | None:
    """Why a text of these tokens, one after the other, is not encoded as them; None where it is."""
    probed = _load(files)
    if probed.encode("".join(tokens)) == [probed.ids[token] for token in tokens]:
        return None
    return f"{''.join(tokens)[:80]!r} is not encoded as these characters"


def _sample(probed: Probed) -> list[int]:
    """Ids spread evenly over the vocabulary, special tokens left out."""
    ids = sorted(set(probed.ids.values()) - set(probed.special))
    return [ids[at * len(ids) // _SAMPLED] for at in range(_SAMPLED)] if len(ids) > _SAMPLED else ids


def _load(files: Mapping[str, bytes]) -> Probed:
    """Our own tokenizer for a byte-level BPE, else the library's.

    Raises:
        CheckpointError, ValueError: a file is malformed; names it.
    """
    if is_foreign(files):
        library = foreign_tokenizer(files["tokenizer.json"])
        return Probed(
            library.get_vocab(),
            library.get_added_tokens_decoder(),
            lambda text: list(library.encode(text, add_special_tokens=False).ids),
            lambda ids: str(library.decode(ids, skip_special_tokens=False)),
        )
    from roberta.common.tokenizer.fast import RobertaTokenizerFast

    with tempfile.TemporaryDirectory() as folder:
        for name in _FILES:
            if name in files:
                (Path(folder) / name).write_bytes(files[name])
        try:
            tokenizer = RobertaTokenizerFast.from_pretrained(folder)
        except ValueError as error:
            raise CheckpointError(str(error).replace(f"{folder}/", "")) from None
    return Probed(
        tokenizer.get_vocab(),
        tokenizer.all_special_ids,
        lambda text: list(tokenizer.encode(text, add_special_tokens=False)),
        lambda ids: str(tokenizer.decode(ids)),
    )


def is_foreign(files: Mapping[str, bytes]) -> bool:
    """Whether tokenizer.json differs in kind from RoBERTa's own."""
    if "tokenizer.json" not in files:
        return False
    try:
        content = json.loads(files["tokenizer.json"])
    except (ValueError, RecursionError):
        return False
    before = content.get("pre_tokenizer") if isinstance(content, dict) else None
    return isinstance(before, dict) and before.get("type") != "ByteLevel"


def foreign_tokenizer(content: bytes) -> Tokenizer:
    """The tokenizers library's own tokenizer in a tokenizer.json."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises plain Exception
        raise CheckpointError(f"tokenizer.json: {error}") from None
