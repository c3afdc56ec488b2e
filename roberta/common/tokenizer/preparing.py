"""Rows from ids that are there already: `pad`, `prepare_for_model` and `truncate_sequences`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from roberta.common.tokenizer.decoding import Decoding
from roberta.common.tokenizer.encoding import BatchEncoding
from roberta.common.tokenizer.options import Options, first_given
from roberta.common.tokenizer.padding import as_lists, gather, pad_batch, tensor_type_of
from roberta.common.tokenizer.rows import TRUNCATIONS, kept_lengths
from roberta.common.tokenizer.texts import Batch, Table, make_plan


class Preparing(Decoding, Options):
    """What turns ids into rows, and rows into batches."""

    verbose: bool

    @abstractmethod
    def _prefix_option(self, others: Mapping[str, Any]) -> bool | None:
        """`add_prefix_space` of a call, which is the one option beside those that its signature has."""

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        verbose: bool = True,
    ) -> BatchEncoding:
        """One batch of rows of different lengths.

        Args:
            encoded_inputs: a dict of rows, or a list of dicts of one row each; lists, arrays or tensors. What the
                model does not read (labels) is kept as it is.
            return_tensors: None for the kind that `encoded_inputs` has.

        Raises:
            ValueError: no `input_ids`; no padding token; rows that differ in their keys.
        """
        data = gather(encoded_inputs)
        main = self.model_input_names[0]
        if main not in data:
            raise ValueError(f"pad needs {main}, and was given {', '.join(data) or 'nothing'}")
        return_tensors = return_tensors or tensor_type_of(data[main])
        lists = {name: as_lists(value) for name, value in data.items()}
        if not lists[main]:
            return BatchEncoding(lists, tensor_type=None)
        is_row = not isinstance(lists[main][0], list)
        if is_row:
            lists = {name: [value] for name, value in lists.items()}
        shape = self._shape(
            add_special_tokens=False,
            padding=padding,
            truncation=False,
            max_length=max_length,
            stride=0,
            overflow=False,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side,
            verbose=verbose and self.verbose,
        )
        with_mask = first_given(return_attention_mask, "attention_mask" in self.model_input_names)
        padded = pad_batch(lists, main, shape, with_mask)
        if is_row:
            padded = {name: value[0] for name, value in padded.items()}
        return BatchEncoding(padded, tensor_type=return_tensors)

    def _pad(
        self,
        encoded_inputs: Mapping[str, Any],
        max_length: int | None = None,
        padding_strategy: str = "do_not_pad",
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
    ) -> dict[str, Any]:
        """`pad` of one row, under the names that transformers' own method gives its options."""
        padded = self.pad(
            encoded_inputs,
            padding=padding_strategy,
            max_length=max_length,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side,
            return_attention_mask=return_attention_mask,
            verbose=False,
        )
        return dict(padded)

    def prepare_for_model(
        self,
        ids: Sequence[int],
        pair_ids: Sequence[int] | None = None,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
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
        prepend_batch_axis: bool = False,
        **others: Any,
    ) -> BatchEncoding:
        """The model inputs of one row, from the ids of one text or two; options as in a call.

        With `return_overflowing_tokens` what is cut off is `overflowing_tokens`, the `stride` before it included,
        and `num_truncated_tokens` is how many did not fit.

        Raises:
            ValueError: options that contradict each other; `return_offsets_mapping`, as ids have no characters.
        """
        if return_offsets_mapping:
            raise ValueError("return_offsets_mapping=True needs a text, and ids have none; call the tokenizer with it")
        if others:
            self._prefix_option(others)
        shape = self._shape(
            add_special_tokens=add_special_tokens,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            stride=stride,
            overflow=False,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side,
            verbose=verbose and self.verbose,
        )
        texts = [list(ids)] if pair_ids is None else [list(ids), list(pair_ids)]
        batch = Batch(texts, [0], [] if pair_ids is None else [True], is_batch=False)
        table = Table(shape, texts, batch, make_plan(shape, texts, batch), as_arrays=False)
        data: dict[str, Any] = {}
        if return_overflowing_tokens:
            limit = shape.max_length if shape.max_length is not None else sum(map(len, texts))
            excess = sum(map(len, texts)) + shape.special(pair_ids is not None) - limit
            cut = self.truncate_sequences(
                texts[0], None if pair_ids is None else texts[1], excess, shape.truncation, stride
            )
            data["overflowing_tokens"] = cut[2]
            data["num_truncated_tokens"] = excess
        rows, mask = table.ids_and_mask()
        data["input_ids"] = rows[0]
        if return_token_type_ids or (return_token_type_ids is None and "token_type_ids" in self.model_input_names):
            data["token_type_ids"] = table.types()[0]
        if return_attention_mask or (return_attention_mask is None and "attention_mask" in self.model_input_names):
            data["attention_mask"] = mask[0]
        if return_special_tokens_mask:
            data["special_tokens_mask"] = table.constants(1, 0, 1)[0]
        if return_length:
            data["length"] = len(data["input_ids"])
        return BatchEncoding(data, tensor_type=return_tensors, prepend_batch_axis=prepend_batch_axis)

    def truncate_sequences(
        self,
        ids: list[int],
        pair_ids: list[int] | None = None,
        num_tokens_to_remove: int = 0,
        truncation_strategy: str = "longest_first",
        stride: int = 0,
    ) -> tuple[list[int], list[int] | None, list[int]]:
        """The ids that stay of each text, and those cut off with `stride` more; none of a pair cut by longest_first.

        Raises:
            ValueError: the text that is to be cut is too short, or is not there.
        """
        if truncation_strategy not in TRUNCATIONS:
            raise ValueError(f"truncation_strategy={truncation_strategy!r} must be one of {', '.join(TRUNCATIONS)}")
        if num_tokens_to_remove <= 0 or truncation_strategy == "do_not_truncate":
            return ids, pair_ids, []
        room = max(len(ids) + len(pair_ids or ()) - num_tokens_to_remove, 0)
        second = None if pair_ids is None else len(pair_ids)
        first, other = kept_lengths(
            truncation_strategy, room, len(ids), second, "num_tokens_to_remove", num_tokens_to_remove
        )
        kept, rest = self._cut(ids, first, stride)
        if pair_ids is None:
            return kept, None, rest
        kept_pair, rest_pair = self._cut(pair_ids, other, stride)
        overflow = {"only_first": rest, "only_second": rest_pair}.get(truncation_strategy, [])
        return kept, kept_pair, overflow

    def _cut(self, ids: list[int], kept: int, stride: int) -> tuple[list[int], list[int]]:
        """The `kept` ids on the side that stays, and the others with `stride` of those."""
        window = min(len(ids), stride + len(ids) - kept)
        if self.truncation_side == "left":
            return ids[len(ids) - kept :], ids[:window]
        return ids[:kept], ids[len(ids) - window :]
