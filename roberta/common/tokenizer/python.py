"""RobertaTokenizer: the tokenizer in plain Python, with the same results as RobertaTokenizerFast."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar, NamedTuple

import regex

from roberta.common.tokenizer.base import Engine, TokenizerBase, refuse_surrogate
from roberta.common.tokenizer.encoding import Span
from roberta.common.tokenizer.offsets import exact_spans
from roberta.common.vocabulary.bpe import BYTE_TO_SYMBOL, SYMBOL_TO_BYTE, WORD_CHARACTER, BytePairEncoder, pre_tokens
from roberta.common.vocabulary.files import MERGES_FILE, VOCAB_FILE, TextFile, merge_lines
from roberta.common.vocabulary.special_tokens import SPECIAL_TOKEN_NAMES, AddedToken, Token

_is_word = regex.compile(WORD_CHARACTER).fullmatch
_blank_at_end = regex.compile(r"\p{White_Space}*\Z")
_blanks = regex.compile(r"\p{White_Space}*")


class AddedMatcher:
    """Finds added tokens in a text: those that are not `normalized` first, and the longest where several begin."""

    def __init__(self, tokens: Mapping[int, AddedToken]) -> None:
        self.groups = []
        for normalized in (False, True):
            group = {token.content: (index, token) for index, token in tokens.items() if token.normalized is normalized}
            if group:
                texts = sorted(group, key=len, reverse=True)
                self.groups.append((re.compile("|".join(map(re.escape, texts))), group))
        starts = {token.content[0] for token in tokens.values()}
        self.may_begin = re.compile(f"[{re.escape(''.join(sorted(starts)))}]").search if starts else None
        self.only_start = next(iter(starts)) if len(starts) == 1 else None

    def may_match(self, text: str) -> bool:
        """A fast check: False when the text has no added token."""
        if self.only_start is not None:
            return self.only_start in text
        return self.may_begin is not None and self.may_begin(text) is not None

    def split(self, text: str) -> list[tuple[int | None, int, int]]:
        """(id of the added token, or None for text between, start, end), in order, without empty ones."""
        parts: list[tuple[int | None, int, int]] = [(None, 0, len(text))] if text else []
        for pattern, group in self.groups:
            parts = list(
                chain.from_iterable(
                    [part] if part[0] is not None else _split(text[part[1] : part[2]], part[1], pattern, group)
                    for part in parts
                )
            )
        return parts


def _split(
    text: str, offset: int, pattern: re.Pattern[str], group: Mapping[str, tuple[int, AddedToken]]
) -> Iterator[tuple[int | None, int, int]]:
    done = 0
    for match in pattern.finditer(text):
        index, token = group[match[0]]
        start, end = match.span()
        if token.single_word and (
            (start > 0 and _is_word(text[start - 1])) or (end < len(text) and _is_word(text[end]))
        ):
            continue
        if token.lstrip:
            start = max(_last_blanks(text, start), done)
        if token.rstrip:
            end = _blanks.match(text, end).end()
        if start > done:
            yield None, offset + done, offset + start
        yield index, offset + start, offset + end
        done = end
    if done < len(text):
        yield None, offset + done, offset + len(text)


def _last_blanks(text: str, end: int) -> int:
    """Where the white space that ends at `end` begins."""
    while end and _blanks.fullmatch(text[end - 1]):
        end -= 1
    return end


class AlignedText(NamedTuple):
    """The tokens of one text, with the interface `padding.Aligned`."""

    ids: list[int]
    tokens: list[str]
    offsets: list[Span]
    words: list[int | None]

    def spans(self) -> list[Span]:
        """The same as `offsets`."""
        return self.offsets


class PythonEngine(Engine):
    """Texts to ids and alignments, by `BytePairEncoder`."""

    def __init__(self, encoder: BytePairEncoder, added: Mapping[int, AddedToken], add_prefix_space: bool) -> None:
        self.encoder = encoder
        self.matcher = AddedMatcher(added)
        self.added = frozenset(added)
        self.add_prefix_space = add_prefix_space

    def ids(self, texts: Sequence[Any], is_words: bool) -> list[list[int]]:
        """The ids of each text, without special tokens around."""
        one = self._ids_of_words if is_words else self._ids
        rows = []
        try:
            for text in texts:
                rows.append(one(text))
        except UnicodeEncodeError:
            refuse_surrogate(texts)
            raise
        return rows

    def _ids(self, text: str) -> list[int]:
        look_up = self.encoder.__getitem__
        if not self.matcher.may_match(text):
            if self.add_prefix_space and text and text[0] != " ":
                text = " " + text
            return list(chain.from_iterable(map(look_up, pre_tokens(text))))
        return self._split_ids(text, self.add_prefix_space)

    def _split_ids(self, text: str, prefix: bool) -> list[int]:
        look_up = self.encoder.__getitem__
        result: list[int] = []
        for index, start, end in self.matcher.split(text):
            if index is not None:
                result.append(index)
                continue
            part = text[start:end]
            result += chain.from_iterable(map(look_up, pre_tokens(f" {part}" if prefix and part[0] != " " else part)))
        return result

    def _ids_of_words(self, words: Sequence[str]) -> list[int]:
        return list(chain.from_iterable(self._split_ids(word, True) for word in words))

    def align(self, texts: Sequence[Any], is_words: bool, trim: bool) -> Sequence[AlignedText]:
        """The ids, tokens, offsets and words of each text; offsets with `trim` without the white space at the ends."""
        rows = []
        try:
            for text in texts:
                row = AlignedText([], [], [], [])
                if is_words:
                    for number, word in enumerate(text):
                        self._align(word, True, row, number)
                else:
                    self._align(text, self.add_prefix_space, row, None)
                rows.append(row._replace(offsets=self._trimmed(text, row, is_words=is_words)) if trim else row)
        except UnicodeEncodeError:
            refuse_surrogate(texts)
            raise
        return rows

    def _trimmed(self, text: str | Sequence[str], row: AlignedText, *, is_words: bool) -> list[Span]:
        prefixed = self.add_prefix_space or is_words
        return exact_spans(text, row.words, row.ids, row.tokens, row.offsets, self.added, trim=True, prefixed=prefixed)

    def _align(self, text: str, prefix: bool, row: AlignedText, word: int | None) -> None:
        """Append the tokens of a text to a row; `word` is the number of its word, None to count pre-tokens."""
        number, by_id = 0, self.encoder.by_id
        for index, start, end in self.matcher.split(text):
            if index is not None:
                row.ids.append(index)
                row.tokens.append(text[start:end])
                row.offsets.append((start, end))
                row.words.append(number if word is None else word)
                number += 1
                continue
            part = text[start:end]
            at = start
            if prefix and part[0] != " ":
                part, at = f" {part}", start - 1
            for piece in pre_tokens(part):
                ids = self.encoder[piece]
                tokens = [by_id[index] for index in ids]
                row.ids.extend(ids)
                row.tokens.extend(tokens)
                # an inserted space has no character
                row.offsets.extend(
                    (max(one + at, start), max(other + at, start)) for one, other in _spans(piece, tokens)
                )
                row.words.extend([number if word is None else word] * len(ids))
                number += 1
                at += len(piece)


def _spans(piece: str, tokens: Sequence[str]) -> list[Span]:
    """The characters of each token of a pre-token; tokens that share a character both have it."""
    if piece.isascii():
        owners: Sequence[int] = range(len(piece))
        lengths = [len(token) for token in tokens]
    if not piece.isascii() or sum(lengths) != len(piece):
        # a byte of a symbol -> its character: two bytes where the symbol is not ASCII itself
        owners = [
            at
            for at, character in enumerate(piece)
            for byte in character.encode()
            for _ in range(len(BYTE_TO_SYMBOL[byte].encode()))
        ]
        lengths = [len(token.encode()) for token in tokens]
    spans, done = [], 0
    for length in lengths:
        spans.append((owners[done], owners[done + length - 1] + 1))
        done += length
    return spans


class RobertaTokenizer(TokenizerBase):
    """RoBERTa's tokenizer in plain Python: a byte-level BPE, `<s> A </s>` and `<s> A </s></s> B </s>`.

    It returns the same as `RobertaTokenizerFast` for every text, alignment included.

    Args:
        vocab_file: vocab.json: token -> id.
        merges_file: merges.txt: a merge a line, best first.
        errors: how decoding treats bytes that are not valid UTF-8: "replace", "ignore" or "strict".
        bos_token, eos_token, sep_token, cls_token, unk_token, pad_token, mask_token: the special tokens; those the
            vocabulary lacks are added after it.
        add_prefix_space: begin each text, and what follows an added token, with a space where it has none.
        trim_offsets: exclude the space before a word from its offsets.
        tokenizer_file: tokenizer.json, in place of the two other files.
        settings: see `TokenizerSettings`.

    Raises:
        CheckpointError: a file is missing or malformed.
    """

    is_fast: ClassVar[bool] = False
    vocab_files_names: ClassVar[dict[str, str]] = {"vocab_file": VOCAB_FILE, "merges_file": MERGES_FILE}

    def __init__(
        self,
        vocab_file: TextFile | None = None,
        merges_file: TextFile | None = None,
        errors: str = "replace",
        bos_token: Token | None = "<s>",
        eos_token: Token | None = "</s>",
        sep_token: Token | None = "</s>",
        cls_token: Token | None = "<s>",
        unk_token: Token | None = "<unk>",
        pad_token: Token | None = "<pad>",
        mask_token: Token | None = "<mask>",
        add_prefix_space: bool | None = None,
        trim_offsets: bool | None = None,
        tokenizer_file: TextFile | None = None,
        **settings: Any,
    ) -> None:
        given = locals()
        super().__init__(
            files={
                "vocab_file": vocab_file,
                "merges_file": merges_file,
                "tokenizer_file": None if vocab_file and merges_file else tokenizer_file,
            },
            errors=errors,
            named={name: given[name] for name in SPECIAL_TOKEN_NAMES},
            add_prefix_space=add_prefix_space,
            trim_offsets=trim_offsets,
            **settings,
        )

    _encoder: BytePairEncoder | None = None
    byte_encoder: ClassVar[dict[int, str]] = BYTE_TO_SYMBOL
    byte_decoder: ClassVar[dict[str, int]] = SYMBOL_TO_BYTE

    def _pair_encoder(self) -> BytePairEncoder:
        if self._encoder is None:
            self._encoder = BytePairEncoder(self._vocabulary, merge_lines(self._merges))
        return self._encoder

    def _make_engine(self, added: Mapping[int, AddedToken], add_prefix_space: bool) -> PythonEngine:
        return PythonEngine(self._pair_encoder(), added, add_prefix_space)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_encoder": None}

    # -- the parts that transformers' class has as attributes ------------------------------------------------------

    @property
    def encoder(self) -> dict[str, int]:
        """Token -> id, without added tokens."""
        return dict(self._vocabulary)

    @property
    def decoder(self) -> dict[int, str]:
        """Id -> token, without added tokens."""
        return dict(self._pair_encoder().by_id)

    @property
    def bpe_ranks(self) -> dict[tuple[str, str], int]:
        """The two tokens of a merge -> its rank, 0 for the best."""
        pairs = (merge.split(" ") for merge in merge_lines(self._merges))
        return {(left, right): rank for rank, (left, right) in enumerate(pairs)}

    def bpe(self, token: str) -> str:
        """The tokens of a pre-token written in symbols of bytes ("Ġlower"), with spaces between them."""
        return " ".join(self._pair_encoder().merge(list(token)))

    def _tokenize(self, text: str) -> list[str]:
        """The tokens of a text without added tokens."""
        return list(chain.from_iterable(map(self._pair_encoder().tokens, pre_tokens(text))))

    def _convert_token_to_id(self, token: str) -> int | None:
        """The id of a token of the vocabulary; the unknown token's where there is none."""
        return self._vocabulary.get(token, self._vocabulary.get(self.unk_token or ""))

    def prepare_for_tokenization(
        self, text: str, is_split_into_words: bool = False, **kwargs: Any
    ) -> tuple[str, dict[str, Any]]:
        """The text with the space that `add_prefix_space` puts before it, and the options it did not use."""
        prefix = kwargs.pop("add_prefix_space", self.add_prefix_space)
        if (is_split_into_words or prefix) and text and not text[0].isspace():
            text = f" {text}"
        return text, kwargs
