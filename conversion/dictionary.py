"""fairseq's `dict.txt` beside `vocab.json` and `merges.txt`.

A dictionary lists one symbol and its count a line. Ids are four special symbols, the lines in order, and `<mask>`,
which the task adds last. Of published models the symbols are GPT-2's ids as numbers (in order of frequency), whose
texts are in GPT-2's encoder.json; elsewhere they are the tokens themselves. Source: roberta-base's files, and CONTRACT
of the project's tests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from roberta.common.files import CheckpointError

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
MASK = "<mask>"
FILE = "dict.txt"
NO_MERGES = b"#version: 0.2\n"
_LARGEST = 2**26  # bytes; the one of roberta-base has 0.6 MB


def symbols(path: Path) -> list[str]:
    """The symbols of a dictionary in order, without the special ones.

    Raises:
        CheckpointError: a line that is not "symbol count", or a symbol that is there twice.
    """
    if path.stat().st_size > _LARGEST:
        raise CheckpointError(f"{path} is too large for a dictionary")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not a text in UTF-8: {error}") from None
    found: dict[str, None] = {}
    for number, line in enumerate(line.rstrip("\r") for line in lines):
        symbol, _, count = line.removesuffix(" #fairseq:overwrite").rpartition(" ")
        if not line:
            continue
        if not symbol or not count.isdecimal() or (symbol in found and "#fairseq:overwrite" not in line):
            raise CheckpointError(f"{path}, line {number + 1}: {line[:80]!r} is not a new symbol and its count")
        found[symbol] = None
    return list(found)


def vocabulary(path: Path, rows: int, encoder: Path | None = None) -> dict[str, int] | None:
    """Token -> id, as vocab.json has it; None where the symbols are GPT-2's ids and no encoder.json says their texts.

    Args:
        rows: of the word embedding: one for each symbol, and one for `<mask>`.

    Raises:
        CheckpointError: the dictionary is of another model, or encoder.json has not all of its ids.
    """
    listed = symbols(path)
    names = [*SPECIAL, *listed]
    if MASK not in listed and len(names) + 1 == rows:
        names.append(MASK)
    if len(names) != rows:
        raise CheckpointError(
            f"{path} has {len(listed)} symbols, with the special ones {len(names)}, and the model {rows} embeddings; "
            "it is another model's"
        )
    if not is_numbers(listed):
        texts = names
    elif encoder is None:
        return None
    else:
        by_id = {str(number): token for token, number in _encoder(encoder).items()}
        missing = [name for name in listed if name.isdecimal() and name not in by_id]
        if missing:
            raise CheckpointError(f"{encoder} has no tokens for the ids {', '.join(missing[:10])} of {path}")
        texts = [by_id.get(name, name) for name in names]
    result = {token: index for index, token in enumerate(texts)}
    if len(result) < len(texts):
        raise CheckpointError(f"{path} has a token twice, of {len(texts)} only {len(result)} differ")
    return result


def is_numbers(listed: list[str]) -> bool:
    """Whether symbols are GPT-2's ids; fillers such as madeupword0000 are beside them."""
    return all(name.isdecimal() or name.startswith("madeupword") or name == MASK for name in listed)


def tokenizer_files(
    path: Path, rows: int, longest: int, encoder: Path | None, merges: Path | None
) -> tuple[dict[str, bytes], list[str]]:
    """vocab.json, merges.txt and tokenizer_config.json, dict.txt beside them, and notes.

    Args:
        longest: tokens of a sequence.
        encoder: GPT-2's encoder.json.
        merges: GPT-2's vocab.bpe.
    """
    files = {FILE: path.read_bytes()}
    vocab = vocabulary(path, rows, encoder)
    if vocab is None or (encoder is not None and merges is None):
        return files, [
            f"no vocab.json: the symbols of {path.name} are GPT-2's ids; give encoder.json and vocab.bpe of GPT-2 "
            "(--encoder-json, --vocab-bpe)"
        ]
    settings = {"tokenizer_class": "RobertaTokenizer", "model_max_length": longest}
    files["vocab.json"] = json.dumps(vocab, ensure_ascii=False).encode()
    files["merges.txt"] = NO_MERGES if merges is None else merges.read_bytes()
    files["tokenizer_config.json"] = (json.dumps(settings, indent=2) + "\n").encode()
    return files, []


def dictionary(files: Mapping[str, bytes], encoder: Path | None) -> tuple[bytes | None, str | None]:
    """dict.txt from a model's files, or a note why there is none: its own, or made from vocab.json.

    Raises:
        CheckpointError: vocab.json is no vocabulary of RoBERTa.
    """
    if FILE in files:
        return files[FILE], None
    if "vocab.json" not in files:
        return None, "no dict.txt: there is no vocab.json"
    vocab = _object(files["vocab.json"], "vocab.json")
    tokens = sorted(vocab, key=vocab.__getitem__)
    if tuple(tokens[:4]) != SPECIAL or sorted(vocab.values()) != list(range(len(tokens))):
        raise CheckpointError(f"vocab.json does not begin with {', '.join(SPECIAL)}, which fairseq's ids do")
    body = [token for token in tokens[4:] if token != MASK] if tokens[-1] == MASK else tokens[4:]
    has_merges = len(files.get("merges.txt", b"").splitlines()) > 1
    if has_merges and encoder is None:
        return None, "no dict.txt: fairseq's symbols are GPT-2's ids; give encoder.json of GPT-2 (--encoder-json)"
    ids = _encoder(encoder) if has_merges and encoder is not None else {}
    return "".join(f"{ids.get(token, token)} 1\n" for token in body).encode(), None


def _encoder(path: Path) -> dict[str, int]:
    return _object(path.read_bytes(), str(path))


def _object(content: bytes, name: str) -> dict[str, int]:
    """Token -> id of a JSON file."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} is not a valid JSON file: {error}") from None
    if not isinstance(found, dict) or any(type(number) is not int for number in found.values()):
        raise CheckpointError(f"{name} is no vocabulary: it needs {{token: id}}")
    return found
