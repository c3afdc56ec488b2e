"""A `.model` file of SentencePiece and fairseq's dict.txt, as the tokenizer.json of the tokenizers library.

The file has the pieces with their scores, and how texts are normalised; the dictionary has the id of each piece.
Source: sentencepiece_model.proto for the numbers of the fields; XLM-R's and CamemBERT's files for the layouts.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roberta.common.storage.folders import CheckpointError
from roberta.conversion.model import as_json

SENTENCEPIECE_FILE = "sentencepiece.bpe.model"  # XLM-R's and CamemBERT's; a unigram model in spite of its name
WORD_START = "▁"
UNUSED = "NOTUSED"  # ends the name of a row whose token has another row
MASK = "<mask>"
_LARGEST = 2**27  # bytes; XLM-R's has 5 MB
_UNIGRAM = 1
_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", MASK)


@dataclass(frozen=True)
class Sentencepiece:
    """The content of a model file.

    Attributes:
        pieces: all pieces in order, with their scores; texts are split into the `normal` ones.
        charsmap: the compiled rules of normalisation; empty for none.
    """

    pieces: tuple[tuple[str, float], ...]
    normal: frozenset[str]
    charsmap: bytes


def read_sentencepiece(path: Path) -> Sentencepiece:
    """The unigram model in a file.

    Raises:
        CheckpointError: it is damaged, or is not of the kind that XLM-R uses.
    """
    if path.stat().st_size > _LARGEST:
        raise CheckpointError(f"{path} is too large for a SentencePiece model")
    try:
        model = _fields(path.read_bytes())
        pieces = [_piece(content) for content in model.get(1, [])]
        trainer, normalizer = (_fields(model.get(number, [b""])[-1]) for number in (2, 3))
    except (ValueError, IndexError, TypeError, AttributeError, struct.error) as error:
        raise CheckpointError(f"{path} is not a SentencePiece model, or is damaged: {error}") from None
    if not pieces:
        raise CheckpointError(f"{path} is not a SentencePiece model: it has no pieces")
    kinds = {kind for _, _, kind in pieces}
    wrong = [
        text
        for text, holds in (
            ("it is not a unigram model", trainer.get(3, [_UNIGRAM])[-1] == _UNIGRAM),
            ("it has byte pieces, or user-defined ones", kinds <= {_NORMAL, _UNKNOWN, _CONTROL}),
            ("it puts no space before a text", normalizer.get(3, [1])[-1] == 1),
            ("it keeps spaces as they are", normalizer.get(4, [1])[-1] == 1),
        )
        if not holds
    ]
    if wrong:
        raise CheckpointError(f"{path} is not like XLM-R's SentencePiece model: {'; '.join(wrong)}")
    normal = frozenset(text for text, _, kind in pieces if kind == _NORMAL)
    charsmap = bytes(normalizer.get(2, [b""])[-1])
    return Sentencepiece(tuple((text, score) for text, score, _ in pieces), normal, charsmap)


def sentencepiece_tokenizer(
    model: Sentencepiece, names: Sequence[str], longest: int, content: bytes, where: str
) -> dict[str, bytes]:
    """tokenizer.json and tokenizer_config.json; also the model file where transformers' slow class gives the same ids.

    Args:
        names: of the rows of the embedding, from the dictionary.
        longest: tokens of a sequence, at most.
        content: of the model file.
        where: the two files, for errors.

    Raises:
        CheckpointError: the dictionary and the model belong to different tokenizers.
    """
    strange = [name for name in names if name not in model.normal and not _is_filler(name)]
    lost = sorted(model.normal - set(names))
    for what, some in (("of the symbols are not pieces", strange), ("of the pieces are not symbols", lost)):
        if some:
            raise CheckpointError(
                f"{where} belong to different tokenizers: {len(some)} {what}, such as {', '.join(map(repr, some[:5]))}"
            )
    layout = _layout(model, names)
    files = {"tokenizer.json": as_json(_tokenizer(model, names, layout != "CamembertTokenizer"))}
    if layout != "PreTrainedTokenizerFast":
        files[SENTENCEPIECE_FILE] = content
    files["tokenizer_config.json"] = as_json(_settings(names, layout, longest))
    return files


def _layout(model: Sentencepiece, names: Sequence[str]) -> str:
    """transformers' class that numbers the pieces this way; the library's own for any other order."""
    pieces = [text for text, _ in model.pieces[3:]]
    heads = {
        "XLMRobertaTokenizer": ["<s>", "<pad>", "</s>", "<unk>"],
        "CamembertTokenizer": ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"],
    }
    for class_, head in heads.items():
        if list(names) == [*head, *pieces, MASK]:
            return class_
    return "PreTrainedTokenizerFast"


def _tokenizer(model: Sentencepiece, names: Sequence[str], mask_is_normalised: bool) -> dict[str, Any]:
    """The content of tokenizer.json: a unigram model with the rows of the embedding as its pieces."""
    scores, ids = dict(model.pieces), {name: index for index, name in enumerate(names)}
    # fillers get the lowest score, as the cost of an unknown character is counted from the lowest one
    lowest = min(score for text, score in model.pieces if text in model.normal)
    vocab = [[n, scores[n] if n in model.normal else 0.0 if n in _SPECIAL else lowest] for n in names]
    normalizers: list[dict[str, Any]] = [
        {"type": "Strip", "strip_left": False, "strip_right": True},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": WORD_START},
    ]
    if model.charsmap:
        charsmap = base64.b64encode(model.charsmap).decode()
        normalizers.insert(0, {"type": "Precompiled", "precompiled_charsmap": charsmap})
    space = {"type": "Metaspace", "replacement": WORD_START, "prepend_scheme": "always", "split": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(name, ids[name], mask_is_normalised) for name in names if _is_added(name)],
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": space,
        "post_processor": _template(ids),
        "decoder": space,
        "model": {"type": "Unigram", "unk_id": ids["<unk>"], "vocab": vocab, "byte_fallback": False},
    }


def _template(ids: Mapping[str, int]) -> dict[str, Any]:
    """`<s> A </s>` and `<s> A </s> </s> B </s>`, all of type 0."""
    begin, end = ({"SpecialToken": {"id": mark, "type_id": 0}} for mark in ("<s>", "</s>"))
    first, second = ({"Sequence": {"id": letter, "type_id": 0}} for letter in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [begin, first, end],
        "pair": [begin, first, end, end, second, end],
        "special_tokens": {mark: {"id": mark, "ids": [ids[mark]], "tokens": [mark]} for mark in ("</s>", "<s>")},
    }


def _settings(names: Sequence[str], class_: str, longest: int) -> dict[str, Any]:
    marks = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "unk_token": "<unk>"}
    marks |= {"pad_token": "<pad>"} | ({"mask_token": MASK} if MASK in names else {})
    unused = [name for name in names if _is_added(name) and name.endswith(UNUSED)]
    more = {"additional_special_tokens": unused} if unused else {}
    return {"tokenizer_class": class_, "model_max_length": longest, **marks, **more}


def _added(name: str, index: int, mask_is_normalised: bool) -> dict[str, Any]:
    is_mask = name == MASK
    flags = {"single_word": False, "lstrip": is_mask, "rstrip": False, "normalized": is_mask and mask_is_normalised}
    return {"id": index, "content": name, **flags, "special": True}


def _is_added(name: str) -> bool:
    return name in _SPECIAL or name.removesuffix(UNUSED) in _SPECIAL


def _is_filler(name: str) -> bool:
    """Whether a row need not be a piece: a special token, or padding to a round number."""
    return _is_added(name) or name.startswith("madeupword")


# -- protocol buffers ----------------------------------------------------------------------------------------------


def _piece(content: bytes) -> tuple[str, float, int]:
    """Text, score and type of a piece."""
    fields = _fields(content)
    (score,) = struct.unpack("<f", fields[2][-1]) if 2 in fields else (0.0,)
    return fields[1][-1].decode(), score, fields.get(3, [_NORMAL])[-1]


def _fields(content: bytes) -> dict[int, list[Any]]:
    """The values of a message by the numbers of their fields: ints and bytes."""
    result: dict[int, list[Any]] = {}
    for number, value in _values(content):
        result.setdefault(number, []).append(value)
    return result


def _values(content: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(content, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = _varint(content, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"it has a field of wire type {kind}")
        if at + size > len(content):
            raise ValueError("it ends within a field")
        yield tag >> 3, content[at : at + size]
        at += size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = content[at]
        result |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return result, at
        if shift > 63:
            raise ValueError("it has a number of more than 64 bits")
