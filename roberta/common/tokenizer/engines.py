"""How the tokenizers library splits texts for us: RoBERTa's byte-level BPE, and anything else that it knows."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from itertools import groupby
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

from roberta.common.tokenizer.base import Engine, refuse_surrogate
from roberta.common.tokenizer.encoding import Span
from roberta.common.tokenizer.offsets import exact_spans
from roberta.common.vocabulary.bpe import SPACE
from roberta.common.vocabulary.library_parts import PARTS, is_panic, part_of_state, part_state, with_prefix
from roberta.common.vocabulary.special_tokens import AddedToken


class AlignedEncoding:
    """A library encoding with the interface `padding.Aligned`; each list is made when it is first read."""

    def __init__(self, encoding: tokenizers.Encoding) -> None:
        self.encoding = encoding

    @property
    def ids(self) -> list[int]:
        """The id of each token."""
        ids: list[int] = self.encoding.ids
        return ids

    @cached_property
    def tokens(self) -> list[str]:
        """Each token; of an added token the text that it took, white space included."""
        tokens: list[str] = self.encoding.tokens
        return tokens

    @cached_property
    def offsets(self) -> list[Span]:
        """The characters of each token."""
        return self.spans()

    @cached_property
    def words(self) -> list[int | None]:
        """The number of the word, or pre-token, of each token."""
        words: list[int | None] = self.encoding.word_ids
        return words

    def spans(self) -> list[Span]:
        """The same as `offsets`, not kept."""
        offsets: list[Span] = self.encoding.offsets
        return offsets


class ExactEncoding(AlignedEncoding):
    """The same, where the library's offsets are wrong: its trimming removes a space that was put before a text.

    Args:
        text: a text, or the words of one.
        added: the ids of added tokens.
    """

    def __init__(
        self,
        encoding: tokenizers.Encoding,
        text: str | Sequence[str],
        added: Container[int],
        *,
        trim: bool,
        prefixed: bool,
    ) -> None:
        super().__init__(encoding)
        self.text = text
        self.exact = partial(exact_spans, added=added, trim=trim, prefixed=prefixed)

    def spans(self) -> list[Span]:
        """The same as `offsets`, not kept."""
        return self.exact(self.text, self.words, self.ids, self.tokens, super().spans())


class ByteLevelEngine(Engine):
    """Texts to ids and alignments, by the library's byte-level BPE.

    The library's own truncation, padding and templates are not used: they panic at odd options or ignore them, and
    without them an engine has no state that two threads could change.
    """

    def __init__(
        self,
        model: models.BPE,
        added: Mapping[int, AddedToken],
        add_prefix_space: bool,
        *,
        words_take_spaces: bool = True,
    ) -> None:
        self.words_take_spaces = words_take_spaces
        self.model = model
        self.added = dict(added)
        self.add_prefix_space = add_prefix_space
        # the library treats this letter as a space wherever it stands
        self.has_odd = any(SPACE in token.content for token in added.values())
        self._tokenizers: dict[tuple[bool, bool], tokenizers.Tokenizer] = {}

    def _is_prefixed(self, is_words: bool) -> bool:
        """Whether a space goes before each text, or before each word where the texts are words."""
        return self.add_prefix_space or (is_words and self.words_take_spaces)

    def tokenizer(self, is_words: bool, trim: bool) -> tokenizers.Tokenizer:
        """The library's tokenizer: with or without a space before each word, and trimming offsets or not."""
        key = (self._is_prefixed(is_words), trim)
        if key not in self._tokenizers:
            self._tokenizers[key] = _byte_level_tokenizer(self.model, self.added, *key)
        return self._tokenizers[key]

    def ids(self, texts: Sequence[Any], is_words: bool) -> list[list[int]]:
        """The ids of each text, without special tokens around."""
        encode = self.tokenizer(is_words, False).encode_batch_fast
        try:
            return [row.ids for row in encode(texts, is_pretokenized=is_words, add_special_tokens=False)]
        except TypeError:
            refuse_surrogate(texts)
            raise

    def align(self, texts: Sequence[Any], is_words: bool, trim: bool) -> Sequence[AlignedEncoding]:
        """The ids, tokens, offsets and words of each text; offsets with `trim` without the white space at the ends."""
        prefixed = self._is_prefixed(is_words)
        is_exact = not (prefixed or self.has_odd)
        encode = self.tokenizer(is_words, trim and is_exact).encode_batch
        try:
            rows = encode(texts, is_pretokenized=is_words, add_special_tokens=False)
        except TypeError:
            refuse_surrogate(texts)
            raise
        if is_exact:
            return list(map(AlignedEncoding, rows))
        return [
            ExactEncoding(row, text, self.added, trim=trim, prefixed=prefixed)
            for row, text in zip(rows, texts, strict=True)
        ]


class PipelineEngine(Engine):
    """Texts to ids and alignments, by the normalizer, pre_tokenizer and model of any tokenizer of the library.

    Args:
        library: the tokenizer; its own added tokens, template, truncation and padding are not used.
        added: the tokens that are found before a text is split.
        add_prefix_space: in place of what its pre_tokenizer and decoder say, where they have that setting.
        place: its folder or file, for the texts of errors.
    """

    def __init__(
        self,
        library: tokenizers.Tokenizer,
        added: Mapping[int, AddedToken],
        add_prefix_space: bool,
        *,
        words_take_spaces: bool = False,
        place: str = "",
    ) -> None:
        self.library = library
        self.place = place
        self.added = dict(added)
        self.add_prefix_space = add_prefix_space
        pre_tokenizer = part_state(library.pre_tokenizer)
        is_byte_level = pre_tokenizer is not None and pre_tokenizer["type"] == "ByteLevel"
        self.words_take_spaces = words_take_spaces and is_byte_level
        self._tokenizers: dict[tuple[bool, bool], tokenizers.Tokenizer] = {}

    def tokenizer(self, is_words: bool = False, trim: bool = False) -> tokenizers.Tokenizer:
        """The library's tokenizer, without a template: for texts or words, trimming offsets or not."""
        add_prefix_space = self.add_prefix_space or (is_words and self.words_take_spaces)
        key = (add_prefix_space, trim)
        if key not in self._tokenizers:
            made = tokenizers.Tokenizer(self.library.model)
            if self.library.normalizer is not None:
                made.normalizer = self.library.normalizer
            for name in ("pre_tokenizer", "decoder"):
                state = part_state(getattr(self.library, name))
                # a decoder of bytes has the setting, too, and does not read it
                if state is not None and not (name == "decoder" and state["type"] == "ByteLevel"):
                    state = with_prefix(state, add_prefix_space)
                if state is not None:
                    setattr(made, name, part_of_state(name, state))
            if trim:
                made.post_processor = processors.RobertaProcessing(
                    ("", 0), ("", 0), trim_offsets=True, add_prefix_space=add_prefix_space
                )
            _add(made, self.added)
            self._tokenizers[key] = made
        return self._tokenizers[key]

    def ids(self, texts: Sequence[Any], is_words: bool) -> list[list[int]]:
        """The ids of each text, without special tokens around."""
        with _named_failure(texts, self.place):
            rows = self.tokenizer(is_words).encode_batch_fast(texts, is_pretokenized=is_words, add_special_tokens=False)
        return [row.ids for row in rows]

    def align(self, texts: Sequence[Any], is_words: bool, trim: bool) -> Sequence[AlignedEncoding]:
        """The ids, tokens, offsets and words of each text; offsets with `trim` without the white space at the ends."""
        with _named_failure(texts, self.place):
            rows = self.tokenizer(is_words, trim).encode_batch(
                texts, is_pretokenized=is_words, add_special_tokens=False
            )
        return list(map(AlignedEncoding, rows))


# As the library says it: "Missing [UNK] token", "unk_id is missing", "Unk token `<unk>` not found".
_NO_UNKNOWN = re.compile(r"\bunk(?:_|\b)", re.IGNORECASE)


@contextmanager
def _named_failure(texts: Sequence[Any], place: str) -> Iterator[None]:
    """Errors and panics of the library as `ValueError`.

    Args:
        place: the tokenizer's folder or file.
    """
    try:
        yield
    except TypeError:
        refuse_surrogate(texts)
        raise
    except Exception as error:
        if _NO_UNKNOWN.search(str(error)):
            raise ValueError(
                f"{place or 'the tokenizer'}: a text has a symbol that the vocabulary lacks, and the model has no token for "
                f"unknown symbols ({error}); put one into tokenizer.json, in model.vocab, and name it in model.unk_token "
                "(of a Unigram by its id, model.unk_id), or give texts of known symbols"
            ) from error
        raise ValueError(f"the tokenizers library cannot encode this text: {error}") from error
    except BaseException as error:
        if not is_panic(error):
            raise
        raise ValueError(f"the tokenizers library panics at this text, which is its fault: {error}") from error


def _byte_level_tokenizer(
    model: models.BPE, added: Mapping[int, AddedToken], add_prefix_space: bool, trim: bool
) -> tokenizers.Tokenizer:
    """A tokenizer of the library around a model (which is shared, not copied), without a template."""
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    if trim:
        # the template of this processor is never applied, only its trimming
        tokenizer.post_processor = processors.RobertaProcessing(
            ("", 0), ("", 0), trim_offsets=True, add_prefix_space=False
        )
    _add(tokenizer, added)
    return tokenizer


def _add(tokenizer: tokenizers.Tokenizer, added: Mapping[int, AddedToken]) -> None:
    """Add tokens, which must get the ids that they have here."""
    # one call for each run of a kind: every call makes the library build its matcher again
    for is_special, tokens in groupby((token for _, token in sorted(added.items())), lambda token: token.special):
        (tokenizer.add_special_tokens if is_special else tokenizer.add_tokens)(list(tokens))
    for index, token in added.items():
        if tokenizer.token_to_id(token.content) != index:
            raise _wrong_id(token, index, tokenizer.token_to_id(token.content))


def check_added(tokens: Mapping[str, int], added: Mapping[int, AddedToken]) -> None:
    """Raise `ValueError` unless the library, which numbers added tokens itself, gives each the id it has here."""
    free, own = len(tokens), {}
    for index, token in sorted(added.items()):
        if token.content not in own:
            own[token.content] = tokens.get(token.content, free)
            free += own[token.content] == free
        if own[token.content] != index:
            raise _wrong_id(token, index, own[token.content])


def _wrong_id(token: AddedToken, index: int, own: int | None) -> ValueError:
    return ValueError(
        f"the added token {token.content!r} has the id {index}, but the next free id, or its own in the vocabulary, "
        f"is {own}; ids of added tokens follow the vocabulary without a gap"
    )


class Backend:
    """A tokenizer of the library that the user holds, and may change.

    Args:
        made_of: what it was made of; when that changes, it is replaced.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, made_of: object) -> None:
        self.tokenizer = tokenizer
        self.made_of = made_of
        self.seen = {part: self._state(part) for part in PARTS}

    def _state(self, part: str) -> Any:
        return part_state(getattr(self.tokenizer, part))

    def changes(self) -> Iterator[tuple[str, Any]]:
        """Each part that has changed since the last call, as tokenizer.json writes it."""
        for part in PARTS:
            state = self._state(part)
            if state != self.seen[part]:
                yield part, state
                self.seen[part] = state
