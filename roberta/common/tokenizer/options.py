"""The options of a call: checked, and filled in from the tokenizer's own settings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from operator import index
from typing import Any, cast

from roberta.common.tokenizer.rows import PADDINGS, TRUNCATIONS, Padding, Shape, Side, Truncation
from roberta.common.tokenizer.surrounding import Surrounding

logger = logging.getLogger(__name__)

UNLIMITED = int(1e30)  # model_max_length when nothing says otherwise: what transformers writes
MODEL_INPUT_NAMES = ("input_ids", "attention_mask")  # what a call returns when nothing says otherwise
_LARGE = 10**20


class Options(Surrounding):
    """A tokenizer's settings of length, padding and truncation, and what a call makes of them."""

    model_max_length: int
    padding_side: str
    truncation_side: str
    pad_token_type_id: int
    model_input_names: list[str]
    deprecation_warnings: dict[str, bool]  # by kind: those that were logged, or are not to be

    def _shape(
        self,
        *,
        add_special_tokens: bool,
        padding: bool | str,
        truncation: bool | str | None,
        max_length: int | None,
        stride: int,
        overflow: bool,
        pad_to_multiple_of: int | None,
        padding_side: str | None,
        verbose: bool,
    ) -> Shape:
        """The options of a call, checked, with the tokenizer's own where they are left out."""
        how = _padding(padding)
        cut = _truncation(truncation, max_length, how)
        max_length = None if max_length is None else _count("max_length", max_length, 0)
        pad_to_multiple_of = None if pad_to_multiple_of is None else _count("pad_to_multiple_of", pad_to_multiple_of, 1)
        stride = _count("stride", stride, 0)
        if truncation is None and cut != "do_not_truncate" and verbose:
            self._warn(
                "Truncation-not-explicitly-activated",
                "max_length is given without truncation: texts are cut as with truncation=True, which says so",
            )
        if how == "longest" and max_length is not None and cut == "do_not_truncate" and verbose:
            self._warn(
                "Longest-with-max_length",
                "max_length has no effect with padding=True and without truncation; use padding='max_length'",
            )
        if max_length is None and (how == "max_length" or cut != "do_not_truncate"):
            if self.model_max_length < _LARGE:
                max_length = self.model_max_length
            else:
                how = "do_not_pad" if how == "max_length" else how
                cut = "do_not_truncate"
                if verbose:
                    self._warn(
                        "Asking-to-truncate-to-max_length",
                        "no max_length and no model_max_length: no truncation, nor padding to it",
                    )
        pad_id = self._pad_id(how)
        multiple = pad_to_multiple_of
        if multiple and how != "do_not_pad" and cut != "do_not_truncate" and max_length and max_length % multiple:
            raise ValueError(
                f"max_length={max_length} is no multiple of pad_to_multiple_of={multiple}, so that truncated and padded "
                "rows would differ in length; give a max_length that is one"
            )
        single, pair = self._layouts(add_special_tokens)
        return Shape(
            add_special_tokens=add_special_tokens,
            truncation=cut,
            truncation_side=cast(Side, one_of("truncation_side", self.truncation_side, ("right", "left"))),
            max_length=max_length,
            stride=stride,
            overflow=overflow,
            padding=how,
            padding_side=cast(Side, one_of("padding_side", padding_side or self.padding_side, ("right", "left"))),
            pad_to_multiple_of=multiple,
            single=single,
            pair=pair,
            pad_id=pad_id,
            pad_type_id=self.pad_token_type_id,
            pad_token=self.pad_token or "",
        )

    def _pad_id(self, how: Padding) -> int:
        """The id of the padding token; refused when rows are to be padded and there is none."""
        if how == "do_not_pad":
            return self.pad_token_id or 0
        if self.pad_token is None or self.pad_token_id is None:
            raise ValueError(
                "padding needs a pad_token, and this tokenizer has none; set tokenizer.pad_token to one of its tokens, "
                "for instance tokenizer.eos_token, or tokenizer.add_special_tokens({'pad_token': '<pad>'})"
            )
        return int(self.pad_token_id)

    def _warn(self, kind: str, text: str) -> None:
        """Log a warning, once for each kind."""
        if not self.deprecation_warnings.get(kind, False):
            self.deprecation_warnings[kind] = True
            logger.warning(text)

    def _warn_too_long(self, length: int, shape: Shape) -> None:
        if shape.max_length is None and length > self.model_max_length:
            self._warn(
                "sequence-length-is-longer-than-the-specified-maximum",
                # the begin of this line is what filters of logs look for
                "Token indices sequence length is longer than the specified maximum sequence length for this model "
                f"({length} > {self.model_max_length}); cut the text with truncation=True",
            )

    @property
    def max_len_single_sentence(self) -> int:
        """How many tokens of a text fit."""
        return self.model_max_length - self.num_special_tokens_to_add()

    @property
    def max_len_sentences_pair(self) -> int:
        """How many tokens of a pair fit, together."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=True)


# -- small checks --------------------------------------------------------------------------------------------------


def first_given(*values: Any) -> Any:
    """The first value that is not None."""
    return next((value for value in values if value is not None), None)


def one_of(name: str, value: str, allowed: Sequence[str]) -> str:
    """The value; `ValueError` that names the argument when it is none of those allowed."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, allowed))}")
    return value


def _count(name: str, value: Any, least: int) -> int:
    """An int, of numpy or a framework too; `ValueError` that names the argument when it is none of at least that."""
    try:
        count = -1 if isinstance(value, bool) else index(value)
    except TypeError:
        count = -1
    if count < least:
        raise ValueError(f"{name}={value!r} must be an int of at least {least}")
    return count


def length_limit(value: Any) -> int:
    """A `model_max_length`, as files have it (1e30 too); `ValueError` when it is no positive number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"model_max_length={value!r} must be a positive int")
    return int(value)


def _padding(padding: bool | str | None) -> Padding:
    if padding is True:
        return "longest"
    if padding is False or padding is None:
        return "do_not_pad"
    return cast(Padding, str(getattr(padding, "value", one_of("padding", padding, PADDINGS))))


def _truncation(truncation: bool | str | None, max_length: int | None, padding: Padding) -> Truncation:
    if truncation is True or (truncation is None and max_length is not None and padding == "do_not_pad"):
        return "longest_first"
    if truncation is False or truncation is None:
        return "do_not_truncate"
    return cast(Truncation, str(getattr(truncation, "value", one_of("truncation", truncation, TRUNCATIONS))))
