"""The special tokens around ids that are there already: what needs the vocabulary but no text."""

from __future__ import annotations

from roberta.common.vocabulary.special_tokens import SpecialTokens
from roberta.common.vocabulary.template import Layout, Template, roberta_template

_BARE = roberta_template(("", 0), ("", 0)).single.without_special_tokens()


class Surrounding(SpecialTokens):
    """What stands around the texts of a row: RoBERTa's own, or what the post_processor of tokenizer.json says."""

    _template: Template | None

    def layout(self, pair: bool = False) -> Layout:
        """The special tokens and the types of a row of one text, or of two.

        Raises:
            ValueError: there is no cls_token or no sep_token.
        """
        template = self._rows()
        return template.pair if pair else template.single

    def _rows(self) -> Template:
        if self._template is not None:
            return self._template
        cls, sep = (self.cls_token, self.cls_token_id), (self.sep_token, self.sep_token_id)
        if cls[0] is None or cls[1] is None or sep[0] is None or sep[1] is None:
            raise ValueError("add_special_tokens=True needs cls_token and sep_token; set them, or give False")
        return roberta_template((cls[0], cls[1]), (sep[0], sep[1]))

    def _layouts(self, add_special_tokens: bool) -> tuple[Layout, Layout]:
        """Those of a call, for one text and for two."""
        if add_special_tokens:
            rows = self._rows()
            return rows.single, rows.pair
        if self._template is None:
            return _BARE, _BARE
        return self._template.single.without_special_tokens(), self._template.pair.without_special_tokens()

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """How many special tokens a row has: RoBERTa's own 2, or 4 for a pair."""
        if self._template is None:
            return 4 if pair else 2
        return self.layout(pair).size

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int | None]:
        """`<s> A </s>`, or `<s> A </s></s> B </s>`, of bos and eos; the row of a call where tokenizer.json has another."""
        if self._template is not None:
            return [*self.layout(token_ids_1 is not None).row(token_ids_0, token_ids_1)]
        begin, end = self.bos_token_id, self.eos_token_id
        row = [begin, *token_ids_0, end]
        return row if token_ids_1 is None else [*row, end, *token_ids_1, end]

    def create_token_type_ids_from_sequences(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """The types of the row with special tokens: zeros, unless tokenizer.json has others."""
        begin, middle, end, (first, second) = self.layout(token_ids_1 is not None)
        texts = [first] * len(token_ids_0), [second] * len(token_ids_1 or ())
        return [*begin.types, *texts[0], *middle.types, *texts[1], *end.types]

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
        begin, middle, end = (len(special.ids) for special in self.layout(token_ids_1 is not None)[:3])
        texts = [0] * len(token_ids_0), [0] * len(token_ids_1 or ())
        return [*[1] * begin, *texts[0], *[1] * middle, *texts[1], *[1] * end]
