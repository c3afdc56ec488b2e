"""How texts are split into the parts of words that PhoBERT and BERTweet have, with or without normalisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import tokenizers

from roberta.common.tokenizer.base import Engine, refuse_surrogate
from roberta.common.tokenizer.engines import AlignedEncoding
from roberta.common.tokenizer.python import AddedMatcher, AlignedText
from roberta.common.tokenizer.traced import TracedText
from roberta.common.vocabulary.special_tokens import AddedToken, flags
from roberta.common.vocabulary.subword_files import CONTINUES, SubwordModel

Normalize = Callable[[TracedText], TracedText]


class SubwordEncoding(AlignedEncoding):
    """A library encoding, with the ids and tokens of the vocabulary.

    Args:
        text: the text, or the words of one.
        added: the text of an added token by the library's id.
    """

    def __init__(
        self,
        encoding: tokenizers.Encoding,
        text: str | Sequence[str],
        model: SubwordModel,
        added: Mapping[int, tuple[int, str]],
    ) -> None:
        super().__init__(encoding)
        self.text = text
        self.model = model
        self.added = added

    @cached_property
    def ids(self) -> list[int]:
        """The id of each token."""
        indices: list[int] = self.encoding.ids
        if max(indices, default=0) < self.model.size:  # as in most rows
            return indices
        table, added = self.model.ids, self.added
        return [table[index] if index < len(table) else added[index][0] for index in indices]

    @cached_property
    def tokens(self) -> list[str]:
        """Each token, of the vocabulary or not; of an added token its text."""
        known, spans, words = self.model.pieces, self.encoding.offsets, self.encoding.word_ids
        indices: list[int] = self.encoding.ids
        result = []
        for at, index in enumerate(indices):
            token = self.added[index][1] if index >= len(known) else known[index]
            if token is None:  # a character that no symbol has: the next token continues it where the two touch
                start, end = spans[at]
                text = self.text if isinstance(self.text, str) else self.text[words[at] or 0]
                token = text[start:end]
                is_continued = (
                    token != "\n"
                    and at + 1 < len(indices)
                    and indices[at + 1] < len(known)
                    and words[at + 1] == words[at]
                    and spans[at + 1][0] == end
                )
                token += CONTINUES if is_continued else ""
            result.append(token)
        return result


class SubwordEngine(Engine):
    """Texts to ids and alignments.

    Args:
        added: the tokens that are found before a text is split.
        normalize: what is done to each text between them; None for nothing.
    """

    def __init__(self, model: SubwordModel, added: Mapping[int, AddedToken], normalize: Normalize | None) -> None:
        self.model = model
        self.normalize = normalize
        self.names = {index: token.content for index, token in added.items()}
        # found all in one pass, whether `normalized` or not
        plain = {index: AddedToken(t.content, **{**flags(t), "normalized": False}) for index, t in added.items()}
        self.matcher = AddedMatcher(plain)
        self.library = tokenizers.Tokenizer(model.library.model)
        self.library.pre_tokenizer = model.library.pre_tokenizer
        # the library cannot tell an added token from a symbol of the same text, so then it gets the texts in parts
        self.is_whole = normalize is None and not any(token.content in model.symbols for token in plain.values())
        self.added: dict[int, tuple[int, str]] = {}
        if self.is_whole and plain:
            self.library.add_tokens(list(plain.values()))
            for index, token in plain.items():
                own = self.library.token_to_id(token.content)
                assert own is not None
                self.added[own] = (index, token.content)
        self.ids_of_library = [*model.ids, *(index for _, (index, _) in sorted(self.added.items()))]
        if self.is_whole:
            self.table = np.array(self.ids_of_library, dtype=np.int64)

    def ids(self, texts: Sequence[Any], is_words: bool) -> list[list[int]]:
        """The ids of each text, without special tokens around."""
        if not self.is_whole:
            return self._ids_in_parts(texts, is_words)
        return list(map(self._own, self.raw_ids(texts, is_words)))

    def raw_ids(self, texts: Sequence[Any], is_words: bool) -> list[list[int]]:
        """The library's ids of each text, to be looked up in `table`; where there is none, the same as `ids`."""
        if not self.is_whole:
            return self._ids_in_parts(texts, is_words)
        try:
            rows = self.library.encode_batch_fast(texts, is_pretokenized=is_words, add_special_tokens=False)
        except TypeError:
            refuse_surrogate(texts)
            raise
        return [row.ids for row in rows]

    def _own(self, ids: list[int]) -> list[int]:
        """Ids of the library as ids of the vocabulary; most rows are the same."""
        if max(ids, default=0) < self.model.size:
            return ids
        table = self.ids_of_library
        return [table[index] for index in ids]

    def align(
        self, texts: Sequence[Any], is_words: bool, trim: bool
    ) -> Sequence[SubwordEncoding] | Sequence[AlignedText]:
        """The ids, tokens, offsets and words of each text; a token has no white space at its ends but a newline."""
        if not self.is_whole:
            return [self._align_in_parts(text, is_words) for text in texts]
        try:
            rows = self.library.encode_batch(texts, is_pretokenized=is_words, add_special_tokens=False)
        except TypeError:
            refuse_surrogate(texts)
            raise
        return [SubwordEncoding(row, text, self.model, self.added) for row, text in zip(rows, texts, strict=True)]

    # -- texts in parts ----------------------------------------------------------------------------------------------

    def _split(self, text: str) -> list[tuple[int | None, int, int]]:
        """(id of the added token, or None for text between, start, end), in order."""
        return self.matcher.split(text) if self.matcher.may_match(text) else [(None, 0, len(text))]

    def _ids_in_parts(self, texts: Sequence[Any], is_words: bool) -> list[list[int]]:
        parts: list[str] = []
        plans: list[list[int | None]] = []  # of each text its added tokens, and None for a part
        refuse_surrogate(texts)
        for text in texts:
            plan: list[int | None] = []
            for word in text if is_words else [text]:
                for index, start, end in self._split(word):
                    plan.append(index)
                    if index is None:
                        part = word[start:end]
                        parts.append(part if self.normalize is None else self.normalize(TracedText(part)).text)
            plans.append(plan)
        rows = iter(self.library.encode_batch_fast(parts, add_special_tokens=False))
        return [
            list(chain.from_iterable(self._own(next(rows).ids) if index is None else [index] for index in plan))
            for plan in plans
        ]

    def _align_in_parts(self, text: str | Sequence[str], is_words: bool) -> AlignedText:
        row, number = AlignedText([], [], [], []), 0
        refuse_surrogate([text])
        for at, word in enumerate([text] if isinstance(text, str) else text):
            for index, start, end in self._split(word):
                if index is not None:
                    row.ids.append(index)
                    row.tokens.append(self.names[index])
                    row.offsets.append((start, end))
                    row.words.append(at if is_words else number)
                    number += 1
                    continue
                part = TracedText.of(word, start, end)
                made = part if self.normalize is None else self.normalize(part)
                encoding = self.library.encode(made.text, add_special_tokens=False)
                found = SubwordEncoding(encoding, made.text, self.model, {})
                row.ids.extend(found.ids)
                row.tokens.extend(found.tokens)
                row.offsets.extend(map(made.source, found.offsets))
                row.words.extend(at if is_words else number + (one or 0) for one in found.words)
                number += 1 + max((one or 0 for one in found.words), default=-1)
        return row
