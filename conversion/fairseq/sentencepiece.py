"""A `.model` file of SentencePiece and fairseq's dict.txt, as the tokenizer.json of the tokenizers library.

The file has the pieces with their scores, and how texts are normalised; the dictionary has the id of each piece.
Source: XLM-R's and CamemBERT's files for the layouts.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from roberta.common.storage.folders import CheckpointError
from roberta.common.vocabulary.builders import MASK, WORD_START
from roberta.common.vocabulary.files import SENTENCEPIECE_FILE
from roberta.common.vocabulary.sentencepiece_file import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    SentencePieceModel,
    read_sentencepiece,
)
from roberta.conversion.model import as_json

UNUSED = "NOTUSED"  # ends the name of a row whose token has another row
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", MASK)


def read_unigram(path: Path) -> SentencePieceModel:
    """The unigram model in a file.

    Raises:
        CheckpointError: it is damaged, or is not of the kind that XLM-R uses.
    """
    model = read_sentencepiece(path)
    kinds = {kind for _, _, kind in model.pieces}
    wrong = [
        text
        for text, holds in (
            ("it is not a unigram model", model.is_unigram),
            ("it has byte pieces, or user-defined ones", kinds <= {NORMAL, UNKNOWN, CONTROL}),
            ("it puts no space before a text", model.adds_space),
            ("it keeps spaces as they are", model.removes_spaces),
        )
        if not holds
    ]
    if wrong:
        raise CheckpointError(f"{path} is not like XLM-R's SentencePiece model: {'; '.join(wrong)}")
    return model


def sentencepiece_tokenizer(
    model: SentencePieceModel, names: Sequence[str], longest: int, content: bytes, where: str
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
    normal = model.texts_of(NORMAL)
    strange = [name for name in names if name not in normal and not _is_filler(name)]
    lost = sorted(normal - set(names))
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


def _layout(model: SentencePieceModel, names: Sequence[str]) -> str:
    """transformers' class that numbers the pieces this way; the library's own for any other order."""
    pieces = [text for text, _, _ in model.pieces[3:]]
    heads = {
        "XLMRobertaTokenizer": ["<s>", "<pad>", "</s>", "<unk>"],
        "CamembertTokenizer": ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"],
    }
    for class_, head in heads.items():
        if list(names) == [*head, *pieces, MASK]:
            return class_
    return "PreTrainedTokenizerFast"


def _tokenizer(model: SentencePieceModel, names: Sequence[str], mask_is_normalised: bool) -> dict[str, Any]:
    """The content of tokenizer.json: a unigram model with the rows of the embedding as its pieces."""
    normal, scores = model.texts_of(NORMAL), {text: score for text, score, _ in model.pieces}
    ids = {name: index for index, name in enumerate(names)}
    # fillers get the lowest score, as the cost of an unknown character is counted from the lowest one
    lowest = min(score for text, score, kind in model.pieces if kind == NORMAL)
    vocab = [[n, scores[n] if n in normal else 0.0 if n in _SPECIAL else lowest] for n in names]
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
