"""`CallOptions`: the settings of one call, checked, and filled in from the tokenizer's own."""

from __future__ import annotations

from dataclasses import dataclass
from operator import index
from typing import Literal, cast

from roberta.common.frameworks import tensor_maker
from roberta.common.tokenizer.settings import Side, TokenizerSettings, check_side, one_of
from roberta.common.vocabulary.template import Layout

Padding = Literal["do_not_pad", "longest", "max_length"]
Truncation = Literal["do_not_truncate", "longest_first", "only_first", "only_second"]

PADDINGS = ("longest", "max_length", "do_not_pad")
TRUNCATIONS = ("only_first", "only_second", "longest_first", "do_not_truncate")
_LARGE = 10**20  # a model_max_length of this size or more means no limit


@dataclass(frozen=True)
class CallOptions:
    """Every setting of a call. The arguments of the call have their names here; what was left out is the tokenizer's.

    Args:
        single, pair: the special tokens around one text and around two; none where none are to be added.
        cuts_second_first: of an odd room, a first text that is cut too has more than the second.
        max_length: tokens of a row, special tokens included; None for no limit.
        split_special_tokens, add_prefix_space: None for the tokenizer's own.
        verbose: whether warnings are logged.
    """

    single: Layout
    pair: Layout
    padding: Padding
    padding_side: Side
    pad_to_multiple_of: int | None
    pad_id: int
    pad_token: str
    pad_type_id: int
    truncation: Truncation
    truncation_side: Side
    cuts_second_first: bool
    max_length: int | None
    stride: int
    is_split_into_words: bool
    split_special_tokens: bool | None
    add_prefix_space: bool | None
    return_tensors: str | None
    return_token_type_ids: bool
    return_attention_mask: bool
    return_overflowing_tokens: bool
    return_special_tokens_mask: bool
    return_offsets_mapping: bool
    return_length: bool
    verbose: bool

    def layout(self, pair: bool) -> Layout:
        """What stands around the texts of a row."""
        return self.pair if pair else self.single


def call_options(
    tokenizer: TokenizerSettings,
    *,
    add_special_tokens: bool = True,
    padding: bool | str = False,
    truncation: bool | str | None = None,
    max_length: int | None = None,
    stride: int = 0,
    is_split_into_words: bool = False,
    pad_to_multiple_of: int | None = None,
    padding_side: str | None = None,
    return_tensors: str | None = None,
    return_token_type_ids: bool | None = None,
    return_attention_mask: bool | None = None,
    return_overflowing_tokens: bool = False,
    return_special_tokens_mask: bool = False,
    return_offsets_mapping: bool = False,
    return_length: bool = False,
    verbose: bool = True,
    split_special_tokens: bool | None = None,
    add_prefix_space: bool | None = None,
) -> CallOptions:
    """The options of a call of that tokenizer; arguments as in `TokenizerBase.__call__`.

    Raises:
        ValueError: an option of another kind, or options that contradict each other.
    """
    tokenizer._follow()
    verbose = verbose and tokenizer.verbose
    how = _padding(padding)
    cut = _truncation(truncation, max_length, how)
    max_length = None if max_length is None else _count("max_length", max_length, 0)
    multiple = None if pad_to_multiple_of is None else _count("pad_to_multiple_of", pad_to_multiple_of, 1)
    stride = _count("stride", stride, 0)
    # warn where an option does less, or more, than its name says
    if verbose and truncation is None and cut != "do_not_truncate":
        tokenizer._warn(
            "Truncation-not-explicitly-activated",
            "max_length is given without truncation: texts are cut as with truncation=True; give that to be explicit",
        )
    if verbose and how == "longest" and max_length is not None and cut == "do_not_truncate":
        tokenizer._warn(
            "Longest-with-max_length",
            "max_length has no effect with padding=True and without truncation; use padding='max_length'",
        )
    # without max_length the tokenizer's own limit holds; without either there is nothing to cut or to fill up to
    if max_length is None and (how == "max_length" or cut != "do_not_truncate"):
        if tokenizer.model_max_length < _LARGE:
            max_length = tokenizer.model_max_length
        else:
            how = "do_not_pad" if how == "max_length" else how
            cut = "do_not_truncate"
            if verbose:
                tokenizer._warn(
                    "Asking-to-truncate-to-max_length",
                    "neither max_length nor model_max_length is set: no truncation, and no padding to a length",
                )
    pad_id = _pad_id(tokenizer, how)
    if multiple and how != "do_not_pad" and cut != "do_not_truncate" and max_length and max_length % multiple:
        raise ValueError(
            f"max_length={max_length} is not a multiple of pad_to_multiple_of={multiple}, so truncated and padded "
            "rows would differ in length; give a max_length that is a multiple"
        )
    single, pair = tokenizer._layouts(add_special_tokens)
    # the sides are attributes that a user may have set since the constructor checked them
    truncation_side = check_side("truncation_side", tokenizer.truncation_side)
    padding_side = check_side("padding_side", padding_side or tokenizer.padding_side)
    if return_tensors is not None:
        tensor_maker(return_tensors)  # an unknown name is refused before the work
    if return_token_type_ids is None:
        return_token_type_ids = "token_type_ids" in tokenizer.model_input_names
    if return_attention_mask is None:
        return_attention_mask = "attention_mask" in tokenizer.model_input_names
    return CallOptions(
        single=single,
        pair=pair,
        padding=how,
        padding_side=padding_side,
        pad_to_multiple_of=multiple,
        pad_id=pad_id,
        pad_token=tokenizer.pad_token or "",
        pad_type_id=tokenizer.pad_token_type_id,
        truncation=cut,
        truncation_side=truncation_side,
        cuts_second_first=tokenizer.has_slow_calls,
        max_length=max_length,
        stride=stride,
        is_split_into_words=is_split_into_words,
        split_special_tokens=split_special_tokens,
        add_prefix_space=add_prefix_space,
        return_tensors=return_tensors,
        return_token_type_ids=return_token_type_ids,
        return_attention_mask=return_attention_mask,
        return_overflowing_tokens=return_overflowing_tokens,
        return_special_tokens_mask=return_special_tokens_mask,
        return_offsets_mapping=return_offsets_mapping,
        return_length=return_length,
        verbose=verbose,
    )


def _pad_id(tokenizer: TokenizerSettings, how: Padding) -> int:
    """The id of the padding token; `ValueError` when rows are to be padded and there is none."""
    pad_id = tokenizer.pad_token_id
    if how == "do_not_pad":
        return pad_id or 0
    if tokenizer.pad_token is None or pad_id is None:
        raise ValueError(
            "padding needs a pad_token, and this tokenizer has none; set tokenizer.pad_token to one of its tokens, "
            "for instance tokenizer.eos_token, or tokenizer.add_special_tokens({'pad_token': '<pad>'})"
        )
    return int(pad_id)


def _count(name: str, value: object, least: int) -> int:
    """The value as an int (a numpy or framework integer will do); `ValueError` that names the argument otherwise."""
    try:
        count = -1 if isinstance(value, bool) else index(value)  # type: ignore[arg-type]
    except TypeError:
        count = -1
    if count < least:
        raise ValueError(f"{name}={value!r} must be an int of at least {least}")
    return count


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
