"""From ids back to text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from roberta.common.tokenizer.settings import TokenizerSettings, first_given
from roberta.common.vocabulary.bpe import token_bytes
from roberta.common.vocabulary.special_tokens import as_ids

# What `clean_up_tokenization_spaces` replaces, in this order.
_CLEAN_UP = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"),
    (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


class Decoding(TokenizerSettings):
    """From ids to text."""

    def _changed(self) -> None:
        super()._changed()
        self._bytes: dict[int, bytes] = {}

    def decode(
        self,
        token_ids: object,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **kwargs: Any,
    ) -> str:
        """The text of ids (an int, a list, an array or a tensor); an id without a token is skipped.

        Args:
            skip_special_tokens: omit special tokens.
            clean_up_tokenization_spaces: remove the space before punctuation; None for the tokenizer's own setting.
            kwargs: `spaces_between_special_tokens=True` puts a space around each added token that has no name of its
                own. False is the default; of PhoBERT's and BERTweet's tokenizers it is True, and other fast tokenizers
                always take it as False, as in transformers. Others are ignored, as there.

        Raises:
            UnicodeDecodeError: with errors="strict", bytes that are not valid UTF-8.
        """
        ids = as_ids(token_ids)
        if isinstance(ids, int):
            ids = [ids]
        if skip_special_tokens:
            skipped = self._skipped_ids()
            ids = [index for index in ids if index not in skipped]
        text = self._text_of_ids(ids, kwargs.get("spaces_between_special_tokens"))
        cleans = first_given(clean_up_tokenization_spaces, self.clean_up_tokenization_spaces)
        return self.clean_up_tokenization(text) if cleans else text

    def _text_of_ids(self, ids: list[int], has_spaces: bool | None) -> str:
        """The text of ids; `has_spaces` is `spaces_between_special_tokens`, or None where it was not given."""
        if has_spaces and not self.is_fast:
            return " ".join(self._decoded_parts(ids))
        return b"".join(map(self._bytes_of, ids)).decode("utf-8", self.errors)

    def batch_decode(
        self,
        sequences: Iterable[object],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """The text of each row of ids; options as in `decode`."""
        return [self.decode(ids, skip_special_tokens, clean_up_tokenization_spaces, **kwargs) for ids in sequences]

    def _decode(
        self,
        token_ids: object,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        spaces_between_special_tokens: bool = True,
        **kwargs: Any,
    ) -> str:
        """`decode` with the default of transformers' own method: spaces around added tokens."""
        return self.decode(
            token_ids,
            skip_special_tokens,
            clean_up_tokenization_spaces,
            spaces_between_special_tokens=spaces_between_special_tokens,
        )

    def _decoded_parts(self, ids: list[int]) -> Iterator[str]:
        """Each added token that has no name of its own, and the text between two of them."""
        named = {str(token) for token in self._named.values()} | set(self._extra.values())
        spaced = {index for index, token in self._added.items() if token.content not in named}
        for is_spaced, group in groupby(ids, spaced.__contains__):
            parts = list(map(self._bytes_of, group))
            for part in parts if is_spaced else [b"".join(parts)]:
                yield part.decode("utf-8", self.errors)

    def _bytes_of(self, index: int) -> bytes:
        known = self._bytes.get(index)
        if known is None:
            token = self._token_of_id(index)
            known = self._bytes[index] = b"" if token is None else token_bytes(token)
        return known

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """The text of tokens."""
        return b"".join(map(token_bytes, tokens)).decode("utf-8", self.errors)

    @staticmethod
    def clean_up_tokenization(out_string: str) -> str:
        """A text without the spaces that English does not write: before punctuation and in contractions."""
        for spaced, joined in _CLEAN_UP:
            out_string = out_string.replace(spaced, joined)
        return out_string
