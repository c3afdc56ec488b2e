"""`vocab.txt` and `bpe.codes` of PhoBERT and BERTweet: parts of words, in the notation of subword-nmt and fastBPE.

A token `xx@@` is continued by the next one, a token without `@@` ends a word. The merges have symbols instead: `xx`
inside of a word, `xx</w>` at its end.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tokenizers
from tokenizers import Regex, models, pre_tokenizers

from roberta.common.storage.folders import CheckpointError
from roberta.common.vocabulary.files import CODES_FILE, WORDPIECE_FILE
from roberta.common.vocabulary.library_parts import library_errors

_logger = logging.getLogger(__name__)

CONTINUES = "@@"  # after a token that the next one continues
WORD_END = "</w>"  # after a symbol that ends a word

# What Python's \s matches; the library's own \s matches fewer characters.
_BLANKS = r"\x{09}-\x{0d}\x{1c}-\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
_WORDS = Regex(f"[^{_BLANKS}]+\\n?")  # a newline right after a word is the last character of it

# The library's unknown token: no symbol, as symbols have no spaces.
_UNKNOWN = " "

Merges = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class SubwordModel:
    """The library's BPE of such a vocabulary, whose ids are not all ids of the vocabulary.

    Args:
        library: splits texts into words and those into symbols.
        symbols: the library's ids of symbols.
        ids: the id in the vocabulary by the library's; the unknown token's for a symbol that the vocabulary lacks, which
            is merged all the same.
        pieces: the token by the library's id, known or not; None where the text alone tells.
        size: the library's ids below it are those of the vocabulary.
    """

    library: tokenizers.Tokenizer
    symbols: Mapping[str, int]
    ids: Sequence[int]
    pieces: Sequence[str | None]
    size: int


def subword_model(tokens: Mapping[str, int], merges: Merges, unk_id: int) -> SubwordModel:
    """The model of a vocabulary and its merges, best first."""
    size = max(tokens.values()) + 1
    pieces: list[str | None] = [None] * size
    symbols = {_UNKNOWN: unk_id}
    free = [index != unk_id for index in range(size)]
    # a symbol has the id of its token, unless another symbol has that
    later = []
    for token, index in tokens.items():
        symbol = token.removesuffix(CONTINUES) if token.endswith(CONTINUES) else token + WORD_END
        if free[index] and symbol:
            symbols[symbol], pieces[index], free[index] = index, token, False
        elif symbol:
            later.append(symbol)
    for index, is_free in enumerate(free):  # the library numbers tokens without a gap
        if is_free:
            symbols[f"{_UNKNOWN}{index}"] = index
    # all others follow
    ids = list(range(size))
    later += [symbol for left, right in merges for symbol in (left, right, left + right)]
    for symbol in later:
        if symbol not in symbols:
            piece = symbol.removesuffix(WORD_END) if symbol.endswith(WORD_END) else symbol + CONTINUES
            symbols[symbol] = len(ids)
            ids.append(tokens.get(piece, unk_id))
            pieces.append(piece)
    with library_errors("the tokenizers library refuses this vocabulary"):
        model = models.BPE(
            vocab=symbols, merges=list(merges), unk_token=_UNKNOWN, end_of_word_suffix=WORD_END, fuse_unk=False
        )
    library = tokenizers.Tokenizer(model)
    library.pre_tokenizer = word_splitter()
    return SubwordModel(library, symbols, ids, pieces, size)


def word_splitter() -> pre_tokenizers.PreTokenizer:
    """Splits a text into words: all but white space, and the newline right after."""
    return pre_tokenizers.Split(_WORDS, behavior="removed", invert=True)


# -- files ---------------------------------------------------------------------------------------------------------


def read_counted_tokens(path: Path, first: Sequence[str]) -> dict[str, int]:
    """The ids of a vocab.txt, a `token count` a line; where a token stands twice, ids are as in transformers.

    Args:
        first: the tokens with the ids 0, 1, ..., which the file does not have.

    Raises:
        CheckpointError: missing, not text, empty, or malformed; names the line.
    """
    tokens = {token: index for index, token in enumerate(first)}
    reserved = frozenset(tokens)
    lines = _lines(path, "a token and its count a line").rstrip("\n").split("\n")
    if lines == [""]:
        raise CheckpointError(f"{path} is empty; it must have a token and its count a line, as in 'word 12'")
    for number, line in enumerate(lines, 1):
        token, _, _ = line.strip().rpartition(" ")
        if not token:
            raise CheckpointError(
                f"{path}, line {number}: {line!r:.80} is not a token and its count, as in 'word 12'; a file with tokens "
                "alone is BertTokenizer's"
            )
        if token in tokens:
            if token in reserved:
                raise CheckpointError(
                    f"{path}, line {number}: {token!r} has the id {tokens[token]} already, and a second one would be that "
                    "of the next token, too; remove the line, or load it with another text for that special token"
                )
            _logger.warning(
                "%s, line %d: %r stands there twice; it shares the id %d with the next token, as in transformers",
                path,
                number,
                token,
                len(tokens),
            )
        tokens[token] = len(tokens)
    return tokens


def read_codes(path: Path) -> Merges:
    """The merges of a bpe.codes, `left right count` a line, best first.

    Raises:
        CheckpointError: missing, not text, or malformed; names the line.
    """
    # a line without an end is left out, as in transformers
    lines = _lines(path, "a merge and its count a line").split("\n")
    last = lines.pop()
    if last:
        _logger.warning("%s has no line end after its last line, %r, which is left out, as in transformers", path, last)
    while lines and not lines[-1]:
        lines.pop()
    merges = []
    for number, line in enumerate(lines, 1):
        parts = line.split()
        if len(parts) == 3:
            merges.append((parts[0], parts[1]))
        elif len(line.split(" ")) != 3:  # else a symbol has a rare white space, which no word has
            raise CheckpointError(
                f"{path}, line {number}: {line!r:.80} is not two symbols and their count, as in 't h 12'; take the file "
                "that was learned together with vocab.txt"
            )
    return merges


def _lines(path: Path, content: str) -> str:
    """The text of a file with Unix line ends."""
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise CheckpointError(f"{path} is not a file; it must have {content}") from None
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        number = raw.count(b"\n", 0, error.start) + 1
        raise CheckpointError(
            f"{path}, line {number}: not UTF-8 text: {error}; it must have {content}, in UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def subword_texts(tokens: Mapping[str, int], first: int, merges: Merges) -> dict[str, bytes]:
    """vocab.txt and bpe.codes of a vocabulary that has no files yet; counts, which nothing reads, fall from line to line.

    Args:
        first: the number of tokens that are not written.
    """
    listed = list(tokens)[first:]
    vocab = "".join(f"{token} {len(listed) - at}\n" for at, token in enumerate(listed))
    codes = "".join(f"{left} {right} {len(merges) - at}\n" for at, (left, right) in enumerate(merges))
    return {WORDPIECE_FILE: vocab.encode(), CODES_FILE: codes.encode()}
