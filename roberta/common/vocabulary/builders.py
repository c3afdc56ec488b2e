"""Tokenizers of the tokenizers library from the files that other programs write: `.model`, `vocab.txt`.

Each function returns what transformers' fast class makes of the same file.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from roberta.common.storage.folders import CheckpointError
from roberta.common.vocabulary.charsmap import check_charsmap
from roberta.common.vocabulary.library_parts import library_errors
from roberta.common.vocabulary.sentencepiece_file import (
    CONTROL,
    USER_DEFINED,
    SentencePieceModel,
    read_sentencepiece,
)

_logger = logging.getLogger(__name__)

WORD_START = "▁"
MASK = "<mask>"


def xlm_roberta_tokenizer(path: Path) -> tokenizers.Tokenizer:
    """XLM-R's ids: fairseq's four special tokens, the pieces without SentencePiece's own three, the mask token."""
    model = read_sentencepiece(path)
    _check_head(path, model, {"<unk>", "<s>", "</s>"}, 3)
    head = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocab = [*head, *((text, score) for text, score, _ in model.pieces[3:]), (MASK, 0.0)]
    tokenizer = _unigram_tokenizer(path, model, vocab, unk_id=3)
    tokenizer.post_processor = _fairseq_rows(0, 2)
    return tokenizer


def camembert_tokenizer(path: Path) -> tokenizers.Tokenizer:
    """CamemBERT's ids: fairseq's four and SentencePiece's unknown token, which is not used, the pieces, the mask token."""
    model = read_sentencepiece(path)
    _check_head(path, model, {"<unk>", "<s>", "</s>"}, 3)
    head = [("<s>NOTUSED", 0.0), ("<pad>", 0.0), ("</s>NOTUSED", 0.0), ("<unk>", 0.0), ("<unk>NOTUSED", -100.0)]
    vocab = [*head, *((text, score) for text, score, _ in model.pieces[1:]), (MASK, 0.0)]
    tokenizer = _unigram_tokenizer(path, model, vocab, unk_id=3)
    ids = {text: index for index, (text, _) in enumerate(vocab)}
    tokenizer.post_processor = _fairseq_rows(ids["<s>"], ids["</s>"])
    return tokenizer


def t5_tokenizer(path: Path, extra_ids: int, prepend_scheme: str = "always") -> tokenizers.Tokenizer:
    """T5's ids: those of the pieces, and `<extra_id_0>` last; only `</s>` goes after each text."""
    model = read_sentencepiece(path)
    extra = [(f"<extra_id_{number}>", 0.0) for number in range(extra_ids - 1, -1, -1)]
    vocab = [*((text, score) for text, score, _ in model.pieces), *extra]
    tokenizer = _unigram_tokenizer(path, model, vocab, unk_id=model.unk_id, prepend_scheme=prepend_scheme)
    end = tokenizer.token_to_id("</s>")
    if end is None:
        raise CheckpointError(f"{path} has no piece </s>, which T5 puts after each text; load it with another class")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=["$A", "</s>"], pair=["$A", "</s>", "$B", "</s>"], special_tokens=[("</s>", end)]
    )
    return tokenizer


def _check_head(path: Path, model: SentencePieceModel, wanted: set[str], count: int) -> None:
    """Raise unless the first pieces are the special tokens that fairseq's ids replace."""
    first = [text for text, _, _ in model.pieces[:count]]
    if set(first) != wanted:
        raise CheckpointError(
            f"{path} begins with the pieces {', '.join(map(repr, first))}; those of XLM-R and CamemBERT are <unk>, <s> and "
            "</s>. Load it with T5Tokenizer, which keeps the ids of the file, or convert it to tokenizer.json"
        )


def _unigram_tokenizer(
    path: Path,
    model: SentencePieceModel,
    vocab: Sequence[tuple[str, float]],
    *,
    unk_id: int,
    prepend_scheme: str = "always",
) -> tokenizers.Tokenizer:
    """A tokenizer with SentencePiece's normalisation around pieces with their scores."""
    if not (model.adds_space and model.removes_spaces):
        _logger.warning(
            "%s puts no space before a text, or keeps several spaces; transformers' fast classes do both all the same, "
            "and so does this one",
            path,
        )
    check_charsmap(str(path), model.charsmap)
    if not (model.is_unigram or model.has_byte_fallback) and model.unk_piece not in dict(vocab):
        raise CheckpointError(
            f"{path} has no piece {model.unk_piece!r}, which its trainer_spec names for characters that no piece has; copy "
            "the file again"
        )
    with library_errors(f"{path} cannot be used by the tokenizers library"):
        if model.is_unigram:
            tokenizer = tokenizers.Tokenizer(models.Unigram(list(vocab), unk_id, model.has_byte_fallback))
        else:
            tokenizer = tokenizers.Tokenizer(_merging_model(model, vocab))
        steps = [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), WORD_START)]
        if model.charsmap:
            steps.insert(0, normalizers.Precompiled(model.charsmap))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=WORD_START, prepend_scheme=prepend_scheme)
    tokenizer.decoder = decoders.Metaspace(replacement=WORD_START, prepend_scheme=prepend_scheme)
    # symbols that SentencePiece finds before it splits a text
    for text, _, kind in model.pieces:
        if kind == CONTROL:
            tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True)])
        elif kind == USER_DEFINED:
            tokenizer.add_tokens([AddedToken(text, normalized=False, special=False)])
    return tokenizer


def _merging_model(model: SentencePieceModel, vocab: Sequence[tuple[str, float]]) -> models.BPE:
    """The BPE of a file, which has no merges: two pieces merge where their text is a piece, best score first."""
    ids = {text: index for index, (text, _) in enumerate(vocab)}
    ranked = []
    for text, score in vocab:
        parts = [(text[:at], text[at:]) for at in range(1, len(text))]
        known = [(left, right) for left, right in parts if left in ids and right in ids]
        ranked += [(-score, ids[left], ids[right], left, right) for left, right in known]
    merges = [(left, right) for *_, left, right in sorted(ranked)]
    return models.BPE(
        ids, merges, unk_token=model.unk_piece, fuse_unk=True, byte_fallback=model.has_byte_fallback, dropout=None
    )


def _fairseq_rows(begin: int, end: int) -> processors.TemplateProcessing:
    """`<s> A </s>` and `<s> A </s> </s> B </s>`, all of type 0."""
    return processors.TemplateProcessing(
        single=["<s>", "$A", "</s>"],
        pair=["<s>", "$A", "</s>", "</s>", "$B", "</s>"],
        special_tokens=[("<s>", begin), ("</s>", end)],
    )


# -- WordPiece -----------------------------------------------------------------------------------------------------


def wordpiece_tokenizer(
    path: Path,
    *,
    unk_token: str,
    cls_token: str,
    sep_token: str,
    lowercase: bool,
    strip_accents: bool | None,
    splits_chinese: bool,
) -> tokenizers.Tokenizer:
    """BERT's tokenizer of a vocab.txt: a token a line; rows are `[CLS] A [SEP]` and `[CLS] A [SEP] B [SEP]`.

    Raises:
        CheckpointError: the file is missing, is not text, or lacks a special token.
    """
    tokens = read_token_lines(path)
    missing = [token for token in (unk_token, cls_token, sep_token) if token not in tokens]
    if missing:
        raise CheckpointError(
            f"{path} has no {' and no '.join(missing)}, which a WordPiece tokenizer needs; add them to the file, or give "
            "unk_token, cls_token and sep_token the names that they have there"
        )
    tokenizer = tokenizers.Tokenizer(models.WordPiece(tokens, unk_token=unk_token))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=splits_chinese, strip_accents=strip_accents, lowercase=lowercase
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls_token}:0 $A:0 {sep_token}:0",
        pair=f"{cls_token}:0 $A:0 {sep_token}:0 $B:1 {sep_token}:1",
        special_tokens=[(cls_token, tokens[cls_token]), (sep_token, tokens[sep_token])],
    )
    return tokenizer


def read_token_lines(path: Path) -> dict[str, int]:
    """The tokens of a vocab.txt, which has one per line; where one stands twice, its last line is its id.

    Raises:
        CheckpointError: the file is missing, is not text, or is empty.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise CheckpointError(f"{path} is not a file; it must have a token a line") from None
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8 text: {error}; it must have a token a line") from None
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise CheckpointError(f"{path} is empty; it must have a token a line")
    return {line.removesuffix("\r"): index for index, line in enumerate(lines)}
