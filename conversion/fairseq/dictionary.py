"""fairseq's `dict.txt`, and the tokenizer that its symbols come from.

A dictionary lists one symbol and its count a line. Ids are four special symbols, the lines in order, and `<mask>`,
which the task adds last. It does not say how texts are split into symbols: they are GPT-2's ids as numbers (RoBERTa's own
models), pieces of SentencePiece (XLM-R, CamemBERT), the tokens of a byte-level BPE, parts of subword-nmt (PhoBERT,
BERTweet), characters (Sapiens) or words. Source: roberta-base's files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from roberta.common.storage.folders import CheckpointError
from roberta.common.vocabulary.builders import MASK, WORD_START
from roberta.conversion import probe
from roberta.conversion.fairseq import sentencepiece
from roberta.conversion.model import as_json

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
DICTIONARY_FILE = "dict.txt"
_NO_MERGES = b"#version: 0.2\n"
_LARGEST = 2**26  # bytes; roberta-base's has 0.6 MB
_OVERWRITE = " #fairseq:overwrite"  # ends a line that repeats a symbol, which gets a new id

SymbolKind = Literal["numbers", "sentencepiece", "byte-level", "subword-nmt", "characters", "words"]
# SymbolKind -> what its symbols are, and what a tokenizer of them still needs.
MISSING: dict[SymbolKind, tuple[str, str]] = {
    "numbers": ("GPT-2's ids", "give encoder.json and vocab.bpe of GPT-2 (--encoder-json, --vocab-bpe)"),
    "sentencepiece": ("pieces of SentencePiece", "give their model, sentencepiece.bpe.model (--sentencepiece)"),
    "byte-level": ("tokens of a byte-level BPE", "give its merges, merges.txt or vocab.bpe (--vocab-bpe)"),
    "subword-nmt": (
        "parts of words by subword-nmt",
        "only PhoBERT's and BERTweet's own classes split texts by its codes",
    ),
    "characters": ("characters, not all of them printable ASCII", "split texts as the training data was"),
    "words": ("words", "split texts as the training data was, and take the ids from dict.txt"),
}


@dataclass(frozen=True)
class Beside:
    """Files that say how texts are split into the symbols of a dictionary.

    Attributes:
        encoder, merges: GPT-2's encoder.json and vocab.bpe; or the merges of another byte-level BPE.
        sentencepiece: the SentencePiece model.
    """

    encoder: Path | None = None
    merges: Path | None = None
    sentencepiece: Path | None = None


def symbols(path: Path) -> list[str]:
    """The symbols of a dictionary in order, without the special ones.

    Raises:
        CheckpointError: a line is not "symbol count", or repeats a symbol.
    """
    if path.stat().st_size > _LARGEST:
        raise CheckpointError(f"{path} is too large for a dictionary")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8 text: {error}") from None
    found: list[str] = []
    seen: set[str] = set()
    for number, line in enumerate(line.rstrip("\r") for line in lines):
        symbol, _, count = line.removesuffix(_OVERWRITE).rpartition(" ")
        if not line:
            continue
        if not symbol or not count.isdecimal() or (symbol in seen and not line.endswith(_OVERWRITE)):
            raise CheckpointError(f"{path}, line {number + 1}: {line[:80]!r} is not a new symbol and its count")
        found.append(symbol)
        seen.add(symbol)
    return found


def names_of_rows(path: Path, rows: int) -> list[str]:
    """The symbol of each row of the word embedding, each once.

    Where a symbol has two rows, as CamemBERT's special ones do, the row that fairseq looks up keeps the name, and the
    other name ends in NOTUSED: fairseq looks up the later one, except that `<unk>` and `<pad>` have fixed numbers.

    Args:
        rows: one for each symbol, and one for `<mask>`.

    Raises:
        CheckpointError: the dictionary belongs to another model.
    """
    listed = symbols(path)
    names = [*SPECIAL, *listed]
    if MASK not in listed and len(names) + 1 == rows:
        names.append(MASK)
    if len(names) != rows:
        raise CheckpointError(
            f"{path} has {len(listed)} symbols, with the special ones {len(names)}, and the model {rows} embeddings; "
            "it belongs to another model"
        )
    places = {name: index for index, name in enumerate(names)} | {"<pad>": 1, "<unk>": 3}
    return [name if places[name] == index else name + sentencepiece.UNUSED for index, name in enumerate(names)]


def vocabulary(path: Path, rows: int, encoder: Path | None = None) -> dict[str, int] | None:
    """Token -> id, as vocab.json has it; None where the symbols are GPT-2's ids and no encoder.json says their texts.

    Args:
        rows: of the word embedding: one for each symbol, and one for `<mask>`.

    Raises:
        CheckpointError: the dictionary belongs to another model, or encoder.json lacks some of its ids.
    """
    names = names_of_rows(path, rows)
    listed = names[len(SPECIAL) :]
    if kind_of_symbols(listed) != "numbers":
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


def kind_of_symbols(listed: Sequence[str]) -> SymbolKind:
    """What the symbols of a dictionary are; fillers such as madeupword0000 and special tokens do not count."""
    plain = [name for name in listed if not name.startswith(("madeupword", *SPECIAL, MASK))]
    if all(name.isdecimal() for name in plain):
        return "numbers"
    if any(name.startswith(WORD_START) for name in plain):
        return "sentencepiece"
    if any(name.endswith("@@") and len(name) > 2 for name in plain):
        return "subword-nmt"
    if any("Ġ" in name for name in plain):
        return "byte-level"
    return "characters" if all(len(name) == 1 for name in plain) else "words"


def dictionary_tokenizer(path: Path, rows: int, longest: int, beside: Beside) -> tuple[dict[str, bytes], list[str]]:
    """The files of a tokenizer that passed its test, dict.txt beside them, and notes; dict.txt alone without one.

    Args:
        rows: of the word embedding.
        longest: tokens of a sequence.

    Raises:
        CheckpointError: the dictionary belongs to another model, or the files beside it to another dictionary.
    """
    names = names_of_rows(path, rows)
    kind = kind_of_symbols(names[len(SPECIAL) :])
    files = _files_of(kind, path, names, longest, beside)
    found = {} if files is None else files
    problem = "; ".join(MISSING[kind]) if files is None else probe.problem(found, rows)
    if kind == "characters" and files is not None and problem is None:
        problem = probe.not_as_tokens(found, [name for name in names if len(name) == 1])
    if problem is None:
        return {DICTIONARY_FILE: path.read_bytes(), **found}, []
    what = (
        f"the symbols of {path.name} are {problem}"
        if files is None
        else f"the one of {path.name} does not work: {problem}"
    )
    return {DICTIONARY_FILE: path.read_bytes()}, [f"no tokenizer: {what}"]


def _files_of(
    kind: SymbolKind, path: Path, names: Sequence[str], longest: int, beside: Beside
) -> dict[str, bytes] | None:
    """The files of a tokenizer of one kind; None where something it needs is missing."""
    if kind == "sentencepiece" and beside.sentencepiece is not None:
        model, where = sentencepiece.read_unigram(beside.sentencepiece), f"{path} and {beside.sentencepiece}"
        return sentencepiece.sentencepiece_tokenizer(model, names, longest, beside.sentencepiece.read_bytes(), where)
    is_ascii = kind == "characters" and all("!" <= name <= "~" for name in names if len(name) == 1)
    if is_ascii or (kind == "byte-level" and beside.merges) or (kind == "numbers" and beside.encoder and beside.merges):
        vocab = vocabulary(path, len(names), beside.encoder)
        settings = {"tokenizer_class": "RobertaTokenizer", "model_max_length": longest}
        merges = _NO_MERGES if is_ascii or beside.merges is None else beside.merges.read_bytes()
        return {
            "vocab.json": json.dumps(vocab, ensure_ascii=False).encode(),
            "merges.txt": merges,
            "tokenizer_config.json": as_json(settings),
        }
    return None


def dictionary_of(files: Mapping[str, bytes], rows: int, encoder: Path | None) -> tuple[bytes | None, str | None]:
    """dict.txt from a model's files, its own or made from vocab.json; or a note why there is none.

    Args:
        rows: of the word embedding.

    Raises:
        CheckpointError: vocab.json is not a vocabulary of RoBERTa, or encoder.json lacks some of its tokens.
    """
    if DICTIONARY_FILE in files:
        lines = sum(bool(line.strip()) for line in files[DICTIONARY_FILE].splitlines())
        if rows - len(SPECIAL) - lines in (0, 1):
            return files[DICTIONARY_FILE], None
        return None, f"no {DICTIONARY_FILE}: the source's has {lines} symbols, which do not fit {rows} embeddings"
    if "vocab.json" not in files:
        return None, f"no {DICTIONARY_FILE}: there is no vocab.json"
    vocab = _object(files["vocab.json"], "vocab.json")
    tokens = sorted(vocab, key=vocab.__getitem__)
    if tuple(tokens[:4]) != SPECIAL or sorted(vocab.values()) != list(range(len(tokens))):
        raise CheckpointError(f"vocab.json does not begin with {', '.join(SPECIAL)}, as fairseq's ids do")
    body = [token for token in tokens[4:] if token != MASK] if tokens[-1] == MASK else tokens[4:]
    has_merges = len(files.get("merges.txt", b"").splitlines()) > 1
    if has_merges and encoder is None:
        return (
            None,
            f"no {DICTIONARY_FILE}: fairseq's symbols are GPT-2's ids; give encoder.json of GPT-2 (--encoder-json)",
        )
    ids = _encoder(encoder) if has_merges and encoder is not None else {}
    missing = [token for token in body if token not in ids and not token.startswith("madeupword")] if ids else []
    if missing:
        raise CheckpointError(
            f"{encoder} has no ids for {len(missing)} tokens of vocab.json, such as {missing[0]!r}; give the one "
            "of the same tokenizer, or omit it"
        )
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
        raise CheckpointError(f"{name} is not a vocabulary: it needs {{token: id}}")
    return found
