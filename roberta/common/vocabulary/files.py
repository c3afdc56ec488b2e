"""The files of a tokenizer: read and checked, and written as transformers reads them.

A vocabulary is `vocab.json` and `merges.txt`, or `tokenizer.json`, which holds both; what the tokens mean is in
`tokenizer_config.json`, and in older folders in `special_tokens_map.json` and `added_tokens.json`.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import tokenizers

from roberta.common.storage.folders import CheckpointError
from roberta.common.vocabulary.charsmap import check_charsmaps_of_json
from roberta.common.vocabulary.library_parts import library_errors, part_state
from roberta.common.vocabulary.special_tokens import FLAGS, AddedToken, flags
from roberta.common.vocabulary.template import Template, read_template

VOCAB_FILE = "vocab.json"
MERGES_FILE = "merges.txt"
TOKENIZER_FILE = "tokenizer.json"
SENTENCEPIECE_FILE = "sentencepiece.bpe.model"  # XLM-R's and CamemBERT's; a unigram model in spite of its name
T5_FILE = "spiece.model"
WORDPIECE_FILE = "vocab.txt"  # PhoBERT's and BERTweet's, too
CODES_FILE = "bpe.codes"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
SPECIAL_FILE = "special_tokens_map.json"
ADDED_FILE = "added_tokens.json"
CHAT_FILE = "chat_template.jinja"
CHAT_FOLDER = "additional_chat_templates"
TOKENIZER_FILES = (
    VOCAB_FILE, MERGES_FILE, TOKENIZER_FILE, SENTENCEPIECE_FILE, T5_FILE, WORDPIECE_FILE, CODES_FILE,
    TOKENIZER_CONFIG_FILE, SPECIAL_FILE, ADDED_FILE, CHAT_FILE,
)  # fmt: skip

_HEADER = "#version"


@runtime_checkable
class Readable(Protocol):
    """An open file."""

    def read(self) -> str | bytes:
        """All that it holds."""


TextFile = str | Path | Readable


@dataclass(frozen=True)
class Vocabulary:
    """Tokens, merges, and the rest of `tokenizer.json`.

    Args:
        merges: one "left right" per line, best first, without a newline at the end: one text, as a list of 50,000 takes
            4 MB.
        template: the special tokens around texts; None for RoBERTa's own.
        library: what splits texts, where that is not RoBERTa's byte-level BPE; its merges stay there.
    """

    tokens: dict[str, int]
    merges: str
    added: dict[int, AddedToken] = field(default_factory=dict)
    template: Template | None = None
    library: tokenizers.Tokenizer | None = None


# -- the vocabulary ------------------------------------------------------------------------------------------------


def read_vocabulary(vocab_file: TextFile, merges_file: TextFile, added_ids: Iterable[int] = ()) -> Vocabulary:
    """The vocabulary of `vocab.json` and `merges.txt`, checked.

    A header line, Windows line ends, and a missing or doubled final newline make no difference.

    Args:
        added_ids: ids that tokens beside the vocabulary have; they may fill gaps.

    Raises:
        CheckpointError: a file is missing or malformed; names it, and the line of a merge.
    """
    text = _decoded(merges_file, _read(merges_file, "merges")).replace("\r\n", "\n").rstrip("\n")
    header = 1 if text.startswith(_HEADER) else 0
    merges = text.partition("\n")[2] if header else text
    tokens = _read_json(vocab_file)
    if not isinstance(tokens, dict):
        raise CheckpointError(f"{vocab_file} holds a {type(tokens).__name__}, not a JSON object of token -> id")
    _check_tokens(tokens, str(vocab_file), set(added_ids))
    _check_merges(tokens, merges, str(vocab_file), lambda at: f"{merges_file}, line {at + 1 + header}")
    return Vocabulary(tokens, merges)


def read_tokenizer_json(path: TextFile, *, is_byte_level: bool = False) -> Vocabulary:
    """The vocabulary, added tokens and settings of a `tokenizer.json`, checked.

    Args:
        is_byte_level: refuse one that is not RoBERTa's byte-level BPE.

    Raises:
        CheckpointError: missing or truncated; malformed; refused.
    """
    if isinstance(path, Readable):
        return _vocabulary_of(path, _read(path, "vocabulary"), None, is_byte_level)
    try:
        # mapped, as megabytes that are read and freed stay with the process
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            # other models have no merges, and the library reads their vocabularies faster
            if not is_byte_level and _has_no_merges(raw):
                return library_vocabulary(str(path), _library_tokenizer(str(path), raw[:]))
            rest, merges = _without_merges(raw)
    except (OSError, ValueError):  # no such file, or an empty one: the error is the same as for other files
        rest, merges = _read(path, "vocabulary"), None
    return _vocabulary_of(path, rest, merges, is_byte_level)


def _has_no_merges(raw: mmap.mmap) -> bool:
    """Whether the model of a tokenizer.json is of a kind without merges; False where the file is unusual."""
    at = raw.find(_MODEL)
    return at >= 0 and _WITHOUT_MERGES.match(raw, at) is not None


_MODEL = b'"model"'  # within a text its quotation marks are escaped
_WITHOUT_MERGES = re.compile(rb'"model"\s*:\s*\{\s*"type"\s*:\s*"(?:Unigram|WordPiece|WordLevel)"')


def read_tokenizer_text(text: str) -> Vocabulary:
    """The same for the text of `tokenizers.Tokenizer.to_str`."""
    return _vocabulary_of("tokenizer_object", text.encode(), None, is_byte_level=False)


def _vocabulary_of(path: TextFile, raw: bytes, merges: str | None, is_byte_level: bool) -> Vocabulary:
    """The vocabulary of a tokenizer.json, whose merges may have been taken out."""
    # the content, whose kind decides who reads it
    content = _parse(path, raw)
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise CheckpointError(f"{path} has no model; it must be a file of the tokenizers library")
    model = content["model"]
    wrong = _other_kind(content, model)
    if wrong and is_byte_level:
        raise CheckpointError(
            f"{path} is not RoBERTa's byte-level BPE: {'; '.join(wrong)}; load it with RobertaTokenizerFast or "
            "AutoTokenizer"
        )
    # another kind is the library's
    if wrong:
        if prefix := model.get("continuing_subword_prefix"):
            _check_prefix(path, model, prefix, merges)
        if merges is not None:
            content["model"]["merges"] = merge_lines(merges)
            raw = json.dumps(content).encode()
        return library_vocabulary(str(path), _library_tokenizer(str(path), raw))
    del raw
    if not isinstance(model.get("vocab"), dict) or "merges" not in model:
        raise CheckpointError(f"{path} has no model with vocab and merges; it must be the file of a byte-level BPE")
    # byte-level BPE: tokens, added tokens, merges and rows, each checked
    tokens = model["vocab"]
    added, entries = {}, content.get("added_tokens") or []
    if not isinstance(entries, list):
        raise CheckpointError(f"{path}: added_tokens is a {type(entries).__name__}, not a list")
    for entry in entries:
        if not isinstance(entry, dict) or type(entry.get("id")) is not int or entry["id"] < 0:
            raise CheckpointError(f"{path}: added_tokens has {entry!r:.80}, which has no id of at least 0")
        added[entry["id"]] = _added_token(entry, f"{path}, added_tokens")
    _check_tokens(tokens, str(path), set(added))
    merges = "\n".join(_merges_of(path, model["merges"])) if merges is None else merges
    _check_merges(tokens, merges, str(path), lambda at: f"{path}, merge {at}")
    template = read_template(f"{path}: post_processor", content.get("post_processor"))
    return Vocabulary(tokens, merges, added, template)


def _check_prefix(path: TextFile, model: Mapping[str, Any], prefix: object, merges: str | None) -> None:
    """Raise where merges do not fit the prefix of tokens within words: the library ends the process then."""
    tokens, listed = model.get("vocab"), model.get("merges")
    if model.get("type", "BPE") != "BPE" or not isinstance(tokens, dict) or not isinstance(prefix, str):
        return  # the library has no merges to read, or says what is wrong
    for merge in _merges_of(path, listed) if merges is None else merge_lines(merges):
        left, _, right = merge.partition(" ")
        if left + right.removeprefix(prefix) not in tokens or not right.startswith(prefix):
            raise CheckpointError(
                f"{path}: the merge {merge!r} does not fit continuing_subword_prefix {prefix!r}: its second token must "
                "begin with it, and both together without it must be a token; correct the prefix, or copy the file again"
            )


def _library_tokenizer(path: str, raw: bytes) -> tokenizers.Tokenizer:
    """A tokenizer.json, read by the library."""
    check_charsmaps_of_json(path, raw)
    with library_errors(f"{path} cannot be read by the tokenizers library"):
        return tokenizers.Tokenizer.from_buffer(raw)


def library_vocabulary(where: str, library: tokenizers.Tokenizer) -> Vocabulary:
    """The vocabulary of a tokenizer of the library; `where` names it in errors."""
    template = read_template(f"{where}: post_processor", part_state(library.post_processor))
    tokens = library.get_vocab(with_added_tokens=False)
    return Vocabulary(tokens, "", library.get_added_tokens_decoder(), template, library)


def _without_merges(raw: mmap.mmap) -> tuple[bytes, str | None]:
    """A tokenizer.json with its merges taken out, when they are written as the library writes them.

    Merges are most of the file, and parsing them as JSON, two strings and a list each, takes twice the time and five
    times the memory. Where anything is unusual, the result is the whole file and None.
    """
    begin, end = raw.find(_BEGIN), raw.rfind(_END)
    if begin < 0 or end < begin:
        return raw[:], None
    merges: list[str] = []
    start = begin + len(_BEGIN)
    while start <= end:
        stop = raw.find(_BETWEEN, start + _CHUNK, end)
        stop = end if stop < 0 else stop
        part = raw[start:stop].replace(_INSIDE, b" ").replace(_BETWEEN, b"\n")
        if b"\\" in part:
            part = part.replace(b"\\\\", b"\0").replace(b'\\"', b'"')
            if b"\\" in part:
                return raw[:], None
            part = part.replace(b"\0", b"\\")
        try:
            merges.append(part.decode())
        except UnicodeDecodeError:
            return raw[:], None
        start = stop + len(_BETWEEN)
    return raw[:begin] + b'"merges": []' + raw[end + len(_END) :], "\n".join(merges)


_CHUNK = 1 << 16  # bytes processed at a time
_BEGIN = b'"merges": [\n      [\n        "'
_INSIDE = b'",\n        "'
_BETWEEN = b'"\n      ],\n      [\n        "'
_END = b'"\n      ]\n    ]'


def _merges_of(path: TextFile, merges: object) -> list[str]:
    """Merges "left right" of merges as JSON has them: all strings, or all pairs."""
    if not isinstance(merges, list):
        raise CheckpointError(f"{path}: merges is a {type(merges).__name__}, not a list")
    kinds = set(map(type, merges))
    if kinds <= {str}:
        return merges
    are_pairs = kinds == {list} and set(map(len, merges)) == {2}
    if are_pairs and all(isinstance(token, str) and " " not in token for token in chain.from_iterable(merges)):
        return list(map(" ".join, merges))
    raise CheckpointError(f"{path}: merges must all be strings, or all be pairs of tokens without spaces")


def _other_kind(content: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    """What of a tokenizer.json is not as in RoBERTa's byte-level BPE."""
    pre = content.get("pre_tokenizer")
    return [
        f"{name} is {json.dumps(value)[:80]}, which must be {rule}"
        for name, value, holds, rule in (
            ("model.type", model.get("type", "BPE"), model.get("type", "BPE") == "BPE", '"BPE"'),
            ("model.dropout", model.get("dropout"), not model.get("dropout"), "null"),
            *(
                (f"model.{name}", model.get(name), not model.get(name), "empty or false")
                for name in ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges")
            ),
            ("normalizer", content.get("normalizer"), content.get("normalizer") is None, "null"),
            (
                "pre_tokenizer",
                pre,
                isinstance(pre, dict) and pre.get("type") == "ByteLevel" and pre.get("use_regex", True),
                "ByteLevel with use_regex",
            ),
        )
        if not holds
    ]


def _check_tokens(tokens: Mapping[str, Any], name: str, added_ids: set[int]) -> None:
    """Ids must be 0, 1, 2, ..., each once; those of added tokens count."""
    if set(map(type, tokens.values())) - {int}:
        token = next(token for token, index in tokens.items() if type(index) is not int)
        raise CheckpointError(f"{name}: the id of {token!r} is {tokens[token]!r}; it must be an int")
    ids = set(tokens.values())
    if not tokens:
        raise CheckpointError(f"{name} has no tokens")
    try:
        "".join(tokens).encode()
    except UnicodeEncodeError:  # JSON can spell halves of characters
        token = next(token for token in tokens if not _is_token(token) and token)
        raise CheckpointError(f"{name}: the token {token!r} is half a character, which UTF-8 cannot write") from None
    if len(ids) < len(tokens):
        owner: dict[int, str] = {}
        for token, index in tokens.items():
            if index in owner:
                raise CheckpointError(
                    f"{name}: {owner[index]!r} and {token!r} have the same id {index}; ids are unique"
                )
            owner[index] = token
    if min(ids) < 0 or max(ids) >= len(ids):
        ids |= added_ids
        if min(ids) < 0:
            raise CheckpointError(f"{name}: the id {min(ids)} is negative; ids are 0, 1, 2, ...")
        gap = next((index for index in range(len(ids)) if index not in ids), None)
        if gap is not None:
            raise CheckpointError(
                f"{name}: no token has the id {gap}, though ids go up to {max(ids)}; ids have no gaps"
            )


def _check_merges(tokens: Mapping[str, int], merges: str, name: str, where: Callable[[int], str]) -> None:
    """Each merge must be two tokens of the vocabulary that make a token of the vocabulary."""
    if all(_are_merges(tokens, part) for part in _parts(merges)):
        return
    for at, merge in enumerate(merge_lines(merges)):
        parts = merge.split(" ")
        if len(parts) != 2 or not all(parts):
            raise CheckpointError(f"{where(at)}: {merge!r} is not two tokens with one space between")
        for token in (*parts, "".join(parts)):
            if token not in tokens:
                what = "makes" if token == "".join(parts) else "needs"
                raise CheckpointError(
                    f"{where(at)}: the merge {merge!r} {what} {token!r}, which is not in {name}; "
                    "the two files must be of one tokenizer"
                )


def _parts(text: str) -> Iterator[str]:
    """The lines of a text, some thousand at a time, so that intermediate results stay small."""
    start = 0
    while start < len(text):
        stop = text.find("\n", start + _CHUNK)
        stop = len(text) if stop < 0 else stop
        yield text[start:stop]
        start = stop + 1


def _are_merges(tokens: Mapping[str, int], text: str) -> bool:
    """Whether all are valid, in a few passes of C code; checking 50,000 merges one by one would double the loading time."""
    separators = text.encode("utf-8", "surrogatepass").translate(None, _NO_SEPARATORS)
    return (
        separators == (b" \n" * (text.count("\n") + 1))[:-1]
        and tokens.keys() >= set(text.replace(" ", "\n").split("\n"))
        and all(map(tokens.__contains__, text.replace(" ", "").split("\n")))
    )


def merge_lines(merges: str) -> list[str]:
    """The merges of a text of them."""
    return merges.split("\n") if merges else []


_NO_SEPARATORS = bytes(byte for byte in range(256) if byte not in b" \n")


# -- settings ------------------------------------------------------------------------------------------------------


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings in the small files of a folder: the keys of `tokenizer_config.json`, tokens as `AddedToken`.

    `added_tokens_decoder` has the added tokens by id. Where the config does not list them, the older
    `special_tokens_map.json` and `added_tokens.json` are read.
    """
    settings = _read_object(folder / TOKENIZER_CONFIG_FILE)
    decoder = settings.pop("added_tokens_decoder", None)
    added: dict[int, AddedToken] = {}
    if isinstance(decoder, dict):
        for index, entry in decoder.items():
            if not str(index).isdigit() or not isinstance(entry, dict):
                raise CheckpointError(
                    f"{folder / TOKENIZER_CONFIG_FILE}: added_tokens_decoder has {index!r}: {entry!r:.80}"
                )
            added[int(index)] = _added_token(entry, f"{folder / TOKENIZER_CONFIG_FILE}, added_tokens_decoder")
    else:
        settings.update(_read_object(folder / SPECIAL_FILE))
        for content, index in _read_object(folder / ADDED_FILE).items():
            if type(index) is not int or index < 0 or not _is_token(content):
                raise CheckpointError(
                    f"{folder / ADDED_FILE}: the id of {content!r} is {index!r}; ids are 0, 1, 2, ..., and the token a text"
                )
            added[index] = AddedToken(content, normalized=True, special=False)
    named = {name: _token_value(value, name, folder) for name, value in settings.items() if _names_tokens(name)}
    return {**settings, **named, **_read_chat_template(folder), "added_tokens_decoder": added}


def _read_chat_template(folder: Path) -> dict[str, str | dict[str, str]]:
    """`chat_template` of a folder's files, which take precedence over its config: one, or several by name."""
    named = {"default": folder / CHAT_FILE}
    named |= {path.stem: path for path in sorted(folder.glob(f"{CHAT_FOLDER}/*.jinja"))}
    templates = {name: _decoded(path, _read(path, "chat template")) for name, path in named.items() if path.is_file()}
    if not templates:
        return {}
    return {"chat_template": templates["default"] if list(templates) == ["default"] else templates}


def _names_tokens(name: str) -> bool:
    return name.endswith("_token") or name in ("additional_special_tokens", "extra_special_tokens")


def _token_value(value: object, name: str, folder: Path) -> Any:
    """A token as files write it (text, object, or several of them in a list or object) with objects as `AddedToken`."""
    where = f"{folder}, {name}"
    if isinstance(value, dict) and "content" in value:
        return _added_token(value, where)
    if isinstance(value, dict) and name == "extra_special_tokens":
        return {key: _token_value(token, key, folder) for key, token in value.items()}
    if isinstance(value, list):
        return [_token_value(token, name, folder) for token in value]
    if value is None or isinstance(value, bool) or _is_token(value):
        return value
    raise CheckpointError(
        f"{where}: {value!r:.80} is not a token; it must be a text of at least one character, or an object with content"
    )


def _is_token(content: object) -> bool:
    """Whether it is a text that UTF-8 can write: JSON can also spell halves of characters."""
    return isinstance(content, str) and content != "" and content.encode("utf-8", "ignore").decode() == content


def _added_token(entry: Mapping[str, Any], where: str) -> AddedToken:
    content = entry.get("content")
    if not _is_token(content):
        raise CheckpointError(
            f"{where}: {dict(entry)!r:.80} has no content; a token is a text of at least one character"
        )
    defaults = {**dict.fromkeys(FLAGS, False), "normalized": not entry.get("special", False)}
    return AddedToken(content, **{name: bool(entry.get(name, default)) for name, default in defaults.items()})


# -- reading -------------------------------------------------------------------------------------------------------


def _read(path: TextFile, what: str) -> bytes:
    if isinstance(path, Readable):
        content = path.read()
        return content.encode() if isinstance(content, str) else bytes(content)
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{path} does not exist; a tokenizer needs its {what}") from None
    except IsADirectoryError:
        raise CheckpointError(f"{path} is a folder; give the file") from None


def _decoded(path: TextFile, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8 text: {error}") from None


def _parse(path: TextFile, raw: bytes) -> Any:
    text = _decoded(path, raw)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # not JSON, or a number of thousands of digits
        raise CheckpointError(f"{path} is not valid JSON (truncated?): {error}") from None


def _read_json(path: TextFile) -> Any:
    return _parse(path, _read(path, "vocabulary"))


def _read_object(path: Path) -> dict[str, Any]:
    """The object of a small JSON file; empty when there is no such file."""
    value = _read_json(path) if path.is_file() else {}
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}, not a JSON object")
    return value


# -- writing -------------------------------------------------------------------------------------------------------


def vocab_text(tokens: Mapping[str, int], *, indented: bool = False) -> bytes:
    """`vocab.json`: on one line in the order of the ids, or one line per token in the order of the tokens."""
    if indented:
        return json_text(tokens)
    by_id = dict(sorted(tokens.items(), key=lambda item: item[1]))
    return json.dumps(by_id, ensure_ascii=False, separators=(",", ":")).encode()


def merges_text(merges: str) -> bytes:
    """`merges.txt`: a header, one merge per line, a final newline."""
    return ("#version: 0.2\n" + (merges + "\n" if merges else "")).encode()


def json_text(value: object) -> bytes:
    """One of the small files, readable."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def token_object(token: AddedToken, *, special: bool) -> dict[str, Any]:
    """A token as the small files write it, with or without the key `special`."""
    return {"content": token.content, **{n: v for n, v in flags(token).items() if special or n != "special"}}


def tokenizer_json(
    vocabulary: Vocabulary,
    added: Mapping[int, AddedToken],
    *,
    post_processor: Any,
    add_prefix_space: bool,
) -> bytes:
    """The bytes of `tokenizer.json`."""
    # Every key that the library writes, in its order, so that our file equals the one that it would write.
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": index, "content": token.content, "single_word": token.single_word}  # in the order of the library
            | token_object(token, special=True)
            for index, token in sorted(added.items())
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": add_prefix_space,
            "trim_offsets": True,
            "use_regex": True,
        },
        "post_processor": post_processor,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        # Byte-level BPE has a symbol for every byte: it needs no unknown token.
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": dict(sorted(vocabulary.tokens.items(), key=lambda item: item[1])),
            "merges": [merge.split(" ") for merge in merge_lines(vocabulary.merges)],
        },
    }
    return json.dumps(content, indent=2, ensure_ascii=False).encode()
