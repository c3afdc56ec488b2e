"""From ids back to text, and rows from ids: what needs the vocabulary but no text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from roberta.common.bpe import token_bytes
from roberta.common.special_tokens import SpecialTokens, as_ids

# What `clean_up_tokenization_spaces` replaces, in this order.
CLEAN_UP = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"),
    (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


class Decoding(SpecialTokens):
    """Decoding, and the special tokens around ids that are there already."""

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

    # -- special tokens around ids -------------------------------------------------------------------------------

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int | None]:
        """`<s> A </s>`, or `<s> A </s></s> B </s>`."""
        begin, end = self.bos_token_id, self.eos_token_id
        row = [begin, *token_ids_0, end]
        return row if token_ids_1 is None else [*row, end, *token_ids_1, end]

    def create_token_type_ids_from_sequences(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """Zeros, as many as the row with special tokens has: RoBERTa has one token type."""
        return [0] * len(self.build_inputs_with_special_tokens(token_ids_0, token_ids_1))

    def get_special_tokens_mask(
        self,
        token_ids_0: list[int],
        token_ids_1: list[int] | None = None,
        already_has_special_tokens: bool = False,
    ) -> list[int]:
        """1 for special tokens, 0 for others: of the row the ids will be, or with the last argument are already."""
        if already_has_special_tokens:
            if token_ids_1 is not None:
                raise ValueError("already_has_special_tokens=True takes one row: leave token_ids_1 out")
            special = set(self.all_special_ids)
            return [int(index in special) for index in token_ids_0]
        row = [1, *([0] * len(token_ids_0)), 1]
        return row if token_ids_1 is None else [*row, 1, *([0] * len(token_ids_1)), 1]
