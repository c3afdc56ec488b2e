"""From ids back to text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from roberta.common.bpe import token_bytes
from roberta.common.special_tokens import as_ids
from roberta.common.tokenizer_surrounding import Surrounding

# What `clean_up_tokenization_spaces` replaces, in this order.
CLEAN_UP = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"),
    (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


class Decoding(Surrounding):
    """From ids to text."""

    errors: str
    clean_up_tokenization_spaces: bool
    _bytes: dict[int, bytes]

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> str:
        """The text of ids (an int, a list, an array or a tensor); an id without a token is left out.

        Args:
            skip_special_tokens: leave special tokens out.
            clean_up_tokenization_spaces: take the space before punctuation out; None for the tokenizer's own setting.

        Raises:
            UnicodeDecodeError: with errors="strict", bytes that are no UTF-8.
        """
        ids = as_ids(token_ids)
        if isinstance(ids, int):
            ids = [ids]
        if skip_special_tokens:
            skipped = self._skipped_ids()
            ids = [index for index in ids if index not in skipped]
        text = b"".join(map(self._bytes_of, ids)).decode("utf-8", self.errors)
        clean = (
            self.clean_up_tokenization_spaces if clean_up_tokenization_spaces is None else clean_up_tokenization_spaces
        )
        return self.clean_up_tokenization(text) if clean else text

    def batch_decode(
        self,
        sequences: Iterable[Any],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> list[str]:
        """The text of each row of ids."""
        return [self.decode(ids, skip_special_tokens, clean_up_tokenization_spaces) for ids in sequences]

    def _bytes_of(self, index: int) -> bytes:
        found = self._bytes.get(index)
        if found is None:
            token = self._token_of_id(index)
            found = b"" if token is None else token_bytes(token)
            self._bytes[index] = found
        return found

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """The text of tokens."""
        return b"".join(map(token_bytes, tokens)).decode("utf-8", self.errors)

    @staticmethod
    def clean_up_tokenization(out_string: str) -> str:
        """A text without the spaces that English has not: before punctuation and in contractions."""
        for spaced, joined in CLEAN_UP:
            out_string = out_string.replace(spaced, joined)
        return out_string
