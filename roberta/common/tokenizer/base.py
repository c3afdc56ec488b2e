"""The interface of both tokenizers, written once: the call and its older names, `pad`, rows of ids.

How a text is split is an `Engine`, the one thing the two tokenizers do differently.
"""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from inspect import signature
from typing import Any, ClassVar

import numpy as np

from roberta.common.keywords import suggestion
from roberta.common.tokenizer.chat import Chatting
from roberta.common.tokenizer.decoding import Decoding
from roberta.common.tokenizer.encoding import BatchEncoding, Encoding
from roberta.common.tokenizer.options import TRUNCATIONS, CallOptions, call_options
from roberta.common.tokenizer.padding import (
    Aligned,
    BatchRows,
    gather,
    pad_batch,
    tensor_type_of,
)
from roberta.common.tokenizer.saving import Saving
from roberta.common.tokenizer.settings import first_given
from roberta.common.tokenizer.truncation import TextBatch, cut_windows, flatten, kept_lengths
from roberta.common.vocabulary.bpe import WHITE_SPACE
from roberta.common.vocabulary.errors import ArgumentError
from roberta.common.vocabulary.special_tokens import AddedToken, as_lists

_logger = logging.getLogger(__name__)

# A text, a list of words, or a list of either.
TextInput = str | Sequence[str] | Sequence[Sequence[str]] | Sequence[Sequence[Sequence[str]]]

_OPTIONS = frozenset(signature(call_options).parameters) - {"tokenizer"}

# Options that transformers had long ago, with their present names.
_OLDER = {"pad_to_max_length": ' (now padding="max_length")', "truncation_strategy": " (now truncation)"}

_find_surrogate = re.compile("[\ud800-\udfff]").search


class Engine(ABC):
    """Texts to tokens, without special tokens around. An engine never changes, so results may keep one for later.

    Attributes:
        table: the id of the vocabulary by the id that `raw_ids` gives; None where they are the same.
    """

    table: np.ndarray | None = None

    def raw_ids(self, texts: Sequence[Any], is_words: bool) -> list[list[int]]:
        """The ids of each text, to be looked up in `table`: as arrays that takes a fraction of the time."""
        return self.ids(texts, is_words)

    @abstractmethod
    def ids(self, texts: Sequence[Any], is_words: bool) -> list[list[int]]:
        """The ids of each text; a text is a str, or with `is_words` a sequence of them."""

    @abstractmethod
    def align(self, texts: Sequence[Any], is_words: bool, trim: bool) -> Sequence[Aligned]:
        """The ids, tokens, offsets and words of each text; with `trim`, offsets without white space at the ends."""


def refuse_surrogate(texts: Sequence[Any]) -> None:
    """Raise the one error for half a surrogate pair in any of the texts; return when there is none."""
    for number, text in enumerate(texts):
        for part in [text] if isinstance(text, str) else text:
            half = _find_surrogate(part)
            if half is not None:
                raise ValueError(
                    f"text {number} has U+{ord(half[0]):04X}, half of a surrogate pair, at character {half.start()}: it "
                    "has no UTF-8 bytes; repair the text, for instance text.encode('utf-16', 'surrogatepass')"
                    ".decode('utf-16', 'replace')"
                )


class TokenizerBase(Decoding, Chatting, Saving, ABC):
    """What both tokenizers do; the settings are those of `TokenizerSettings`."""

    slow_tokenizer_class: ClassVar[type[TokenizerBase] | None] = None
    continues: ClassVar[str] = ""  # ends a token that the next one continues, in PhoBERT's spelling

    # -- the engine ----------------------------------------------------------------------------------------------

    @abstractmethod
    def _make_engine(self, added: Mapping[int, AddedToken], add_prefix_space: bool) -> Engine:
        """An engine for the vocabulary that finds these added tokens."""

    def _changed(self) -> None:
        super()._changed()
        self._engines: dict[tuple[bool, bool], Engine] = {}

    def _engine(self, split_special_tokens: bool | None, add_prefix_space: bool | None) -> Engine:
        split = self.split_special_tokens if split_special_tokens is None else split_special_tokens
        prefix = self.add_prefix_space if add_prefix_space is None else bool(add_prefix_space)
        key = (split, prefix)
        if key not in self._engines:
            special = self._skipped_ids() if split else frozenset()
            added = {index: token for index, token in self._added.items() if index not in special}
            self._engines[key] = self._make_engine(added, prefix)
        return self._engines[key]

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_engines": {}, "_bytes": {}, "_by_id": None}
        # names of their own: a pickle says where one object is another, and a name that is read is never one of the values
        return {name.encode().decode(): value for name, value in state.items()}

    # -- the call ------------------------------------------------------------------------------------------------

    def __call__(
        self,
        text: TextInput | None = None,
        text_pair: TextInput | None = None,
        text_target: TextInput | None = None,
        text_pair_target: TextInput | None = None,
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
        **others: Any,
    ) -> BatchEncoding:
        """Model inputs of a text, or of a list of texts.

        Args:
            text, text_pair: a str or a list of them; with `is_split_into_words` a list of words or a list of those.
                Without `text_pair`, an item of a list may be a pair.
            text_target, text_pair_target: texts whose ids are returned as `labels`; alone, as `input_ids`.
            padding: True or "longest" (to the longest row), "max_length", False.
            truncation: True or "longest_first", "only_first", "only_second", False; None is False without
                `max_length` and "longest_first" with it.
            max_length: tokens of a row, special tokens included; None for `model_max_length`.
            stride: tokens that two windows of a text share.
            pad_to_multiple_of: round the length of padded rows up.
            return_tensors: "np", "pt", "tf", "jax", or None for lists.
            return_overflowing_tokens: return what truncation cuts off as further rows; `overflow_to_sample_mapping`
                has the sample of each row.
            return_offsets_mapping: `offset_mapping`, the characters of each token, (0, 0) for special ones.
            return_length: `length`, the tokens of each row, padding included.
            split_special_tokens: treat special tokens in the text as text; None for the tokenizer's own setting.
            others: `add_prefix_space`, None for the tokenizer's own setting.

        Returns:
            `BatchEncoding`: input_ids, attention_mask and what was asked for; (rows, tokens), for one text (tokens).

        Raises:
            ValueError: texts of another type, lone surrogates, or options that contradict each other.
            TypeError: an unknown option; RobertaTokenizer logs one unless its name is close to a known one.
        """
        if text is None and text_target is None:
            raise ArgumentError("give text or text_target: a str, or a list of them")
        options = self._options(locals())
        if text is None:
            return self._encode("text_target", text_target, text_pair_target, options)
        batch = self._encode("text", text, text_pair, options)
        if text_target is not None:
            batch["labels"] = self._encode("text_target", text_target, text_pair_target, options)["input_ids"]
        return batch

    def _encode(self, name: str, text: object, text_pair: object, options: CallOptions) -> BatchEncoding:
        """Model inputs of the texts of one argument, whose name errors give."""
        is_words = options.is_split_into_words
        batch = flatten(name, text, text_pair, is_words, keeps_empty=self.has_slow_calls)
        # texts -> ids; the alignment takes longer, and is worked out now only if the call returns offsets
        engine = self._engine(options.split_special_tokens, options.add_prefix_space)
        align = partial(engine.align, batch.texts, is_words, self.trim_offsets)
        as_arrays = options.return_tensors is not None
        aligned = align() if options.return_offsets_mapping else None
        if aligned is not None:
            ids = [row.ids for row in aligned]
        else:
            ids = (engine.raw_ids if as_arrays else engine.ids)(batch.texts, is_words)
        table = engine.table if as_arrays and aligned is None else None
        windows = cut_windows(options, ids, batch)
        # ids -> rows -> fields
        made = BatchRows(options, ids, batch, windows, as_arrays=as_arrays, table=table)
        data = made.fields(aligned)

        def rows() -> list[Encoding]:
            return BatchRows(options, ids, batch, windows, as_arrays=False, table=table).encodings(aligned or align())

        if options.return_overflowing_tokens:
            data["overflow_to_sample_mapping"] = [window.sample for window in made.windows]
        if options.verbose:
            self._warn_if_too_long(max(made.lengths), options)
        # one text has no batch axis, unless it can have several rows or becomes a tensor
        if not batch.is_batch and options.return_tensors is None and not options.return_overflowing_tokens:
            data = {key: value if key == "length" else value[0] for key, value in data.items()}
        result = BatchEncoding(encoding=rows, n_sequences=2 if batch.is_pair and batch.is_pair[0] else 1)
        result.data = data
        return result.convert_to_tensors(options.return_tensors)

    def _warn_if_too_long(self, length: int, options: CallOptions) -> None:
        if options.max_length is None and length > self.model_max_length:
            self._warn(
                "sequence-length-is-longer-than-the-specified-maximum",
                # filters of logs look for the beginning of this line
                "Token indices sequence length is longer than the specified maximum sequence length for this model "
                f"({length} > {self.model_max_length}); cut the text with truncation=True",
            )

    def _options(self, arguments: Mapping[str, Any]) -> CallOptions:
        """The options of a public method, from its `locals()`, of which it takes those that a call has."""
        options = {name: value for name, value in arguments.items() if name in _OPTIONS}
        return call_options(self, **options, add_prefix_space=self._prefix_option(arguments["others"]))

    def _prefix_option(self, others: Mapping[str, Any]) -> bool | None:
        """`add_prefix_space` of a call, the one option that is not in its signature.

        Raises:
            TypeError: an unknown option; RobertaTokenizer logs one unless its name is close to a known one.
        """
        unknown = {name: value for name, value in others.items() if name != "add_prefix_space"}
        if unknown:
            known = signature(TokenizerBase.__call__).parameters
            names = ", ".join(
                f"{name}={value!r:.40}{_OLDER.get(name) or suggestion(name, known)}" for name, value in unknown.items()
            )
            if self.is_fast or any(suggestion(name, known) for name in unknown):
                raise TypeError(f"{names}: not an option of a call of this tokenizer; omit it")
            _logger.warning("%s: not recognized, as no option of a call has that name, and without effect", names)
        return others.get("add_prefix_space")

    # -- other names of the call ---------------------------------------------------------------------------------

    def encode(
        self,
        text: TextInput | Sequence[int],
        text_pair: TextInput | Sequence[int] | None = None,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        **others: Any,
    ) -> Any:
        """The `input_ids` of `encode_plus`, whose other options apply."""
        return self.encode_plus(
            text,
            text_pair,
            add_special_tokens=add_special_tokens,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            stride=stride,
            padding_side=padding_side,
            return_tensors=return_tensors,
            **others,
        )["input_ids"]

    def encode_plus(
        self,
        text: TextInput | Sequence[int],
        text_pair: TextInput | Sequence[int] | None = None,
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
        **others: Any,
    ) -> BatchEncoding:
        """The same as a call with one text, or with a pair as a list of two.

        A list of ids is a text, too; of RobertaTokenizer, a list of str is one of tokens.

        Raises:
            ValueError: a list of texts.
        """
        options = self._options(locals())
        ids = self._given_ids(text, is_split_into_words)
        if ids is not None:
            pair_ids = None if text_pair is None else self._ids_of_any(text_pair, is_split_into_words)
            return self._prepare(ids, pair_ids, options, prepend_batch_axis=return_tensors is not None)
        return self._encode("text", *_pair(text, text_pair, is_split_into_words), options)

    def batch_encode_plus(
        self,
        batch_text_or_text_pairs: Sequence[Any],
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
        **others: Any,
    ) -> BatchEncoding:
        """The same as a call with a list of texts or of pairs."""
        if not isinstance(batch_text_or_text_pairs, list | tuple):
            raise ArgumentError(
                f"batch_text_or_text_pairs must be a list, not a {type(batch_text_or_text_pairs).__name__}"
            )
        options = self._options(locals())
        return self._encode("text", batch_text_or_text_pairs, None, options)

    def _encode_plus(
        self,
        text: TextInput | Sequence[int],
        text_pair: TextInput | Sequence[int] | None = None,
        add_special_tokens: bool = True,
        padding_strategy: str = "do_not_pad",
        truncation_strategy: str = "do_not_truncate",
        **options: Any,
    ) -> BatchEncoding:
        """`encode_plus` under the names that transformers' own methods give its options."""
        return self.encode_plus(
            text,
            text_pair,
            add_special_tokens=add_special_tokens,
            padding=padding_strategy,
            truncation=truncation_strategy,
            **options,
        )

    def _batch_encode_plus(
        self,
        batch_text_or_text_pairs: Sequence[Any],
        add_special_tokens: bool = True,
        padding_strategy: str = "do_not_pad",
        truncation_strategy: str = "do_not_truncate",
        **options: Any,
    ) -> BatchEncoding:
        """`batch_encode_plus` under the names that transformers' own methods give its options."""
        return self.batch_encode_plus(
            batch_text_or_text_pairs,
            add_special_tokens=add_special_tokens,
            padding=padding_strategy,
            truncation=truncation_strategy,
            **options,
        )

    def _given_ids(self, text: object, is_split_into_words: bool) -> list[int] | None:
        """The ids of a list of ids, or of tokens; None for anything else."""
        if not isinstance(text, list | tuple) or not text or is_split_into_words:
            return None
        kinds = set(map(type, text))
        if kinds == {int}:
            return list(text)
        return self.convert_tokens_to_ids(text) if kinds == {str} and not self.is_fast else None

    def _ids_of_any(self, text: Any, is_split_into_words: bool) -> list[int]:
        """The ids of a text, or of a list of ids or tokens, without special tokens around."""
        ids = self._given_ids(text, is_split_into_words)
        if ids is None:
            ids = self(text, add_special_tokens=False, is_split_into_words=is_split_into_words, verbose=False)[
                "input_ids"
            ]
        return ids

    def word_borders(self, token: str) -> tuple[bool, bool]:
        """Whether a token begins a word, and whether it ends one, so far as the token alone says it.

        RoBERTa's tokens begin a word where they begin with white space; the first of a text does so anyway.
        """
        return token.startswith(WHITE_SPACE), False

    def tokenize(
        self,
        text: TextInput,
        pair: TextInput | None = None,
        add_special_tokens: bool = False,
        split_special_tokens: bool | None = None,
        **others: Any,
    ) -> list[str]:
        """The tokens of a text, or of a pair; options of a call apply."""
        text, pair = _pair(text, pair, others.get("is_split_into_words", False))
        return self(
            text,
            pair,
            add_special_tokens=add_special_tokens,
            split_special_tokens=split_special_tokens,
            verbose=False,
            **others,
        ).tokens()

    def prepare_seq2seq_batch(
        self,
        src_texts: Sequence[str],
        tgt_texts: Sequence[str] | None = None,
        max_length: int | None = None,
        max_target_length: int | None = None,
        padding: bool | str = "longest",
        return_tensors: str | None = None,
        truncation: bool | str = True,
        **others: Any,
    ) -> BatchEncoding:
        """A call with texts and targets: model inputs, and the targets' ids as `labels`.

        Args:
            max_target_length: tokens of a target; None for `max_length`.
            others: further options of the call; `src_lang` and `tgt_lang` are ignored.
        """
        others = {name: value for name, value in others.items() if name not in ("src_lang", "tgt_lang")}
        options = {"padding": padding, "truncation": truncation, "return_tensors": return_tensors, **others}
        batch = self(src_texts, max_length=max_length, **options)
        if tgt_texts is not None:
            longest = first_given(max_target_length, max_length)
            batch["labels"] = self(text_target=tgt_texts, max_length=longest, **options)["input_ids"]
        return batch

    @contextmanager
    def as_target_tokenizer(self) -> Iterator[None]:
        """For scripts that tokenize targets inside of it: RoBERTa treats them like other texts."""
        yield

    # -- rows of ids ---------------------------------------------------------------------------------------------

    def pad(
        self,
        encoded_inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]],
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
            encoded_inputs: a dict of rows, or a list of dicts of one row each; lists, arrays or tensors. Names
                that the model does not read (labels) are kept as they are.
            return_tensors: None for the kind of `encoded_inputs`.

        Raises:
            ValueError: no `input_ids`; no padding token; rows that differ in their keys.
        """
        data = gather(encoded_inputs)
        main = self.model_input_names[0]
        if main not in data:
            raise ValueError(f"pad needs {main}, but got {', '.join(data) or 'nothing'}")
        return_tensors = return_tensors or tensor_type_of(data[main])
        lists = {name: as_lists(value) for name, value in data.items()}
        if not lists[main]:
            return BatchEncoding(lists, tensor_type=None)
        is_row = not isinstance(lists[main][0], list)
        if is_row:
            lists = {name: [value] for name, value in lists.items()}
        options = call_options(
            self,
            add_special_tokens=False,
            padding=padding,
            truncation=False,
            max_length=max_length,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side,
            return_attention_mask=return_attention_mask,
            verbose=verbose,
        )
        padded = pad_batch(lists, main, options)
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

        With `return_overflowing_tokens`, `overflowing_tokens` holds what is cut off with the `stride` before it, and
        `num_truncated_tokens` the number of tokens that did not fit.

        Raises:
            ValueError: options that contradict each other; `return_offsets_mapping`, as ids have no characters.
        """
        if return_offsets_mapping:
            raise ValueError("return_offsets_mapping=True needs a text, and ids have none; call the tokenizer with it")
        options = self._options(locals())
        return self._prepare(ids, pair_ids, options, prepend_batch_axis=prepend_batch_axis)

    def _prepare(
        self, ids: Sequence[int], pair_ids: Sequence[int] | None, options: CallOptions, *, prepend_batch_axis: bool
    ) -> BatchEncoding:
        """The model inputs of one row, from the ids of one text or two."""
        texts = [list(ids)] if pair_ids is None else [list(ids), list(pair_ids)]
        batch = TextBatch(texts, [0], [] if pair_ids is None else [True], is_batch=False)
        data: dict[str, Any] = {}
        # what is cut off is not a row here, but a field of its own
        if options.return_overflowing_tokens:
            total = sum(map(len, texts))
            limit = options.max_length if options.max_length is not None else total
            excess = total + options.layout(pair_ids is not None).size - limit
            *_, data["overflowing_tokens"] = self.truncate_sequences(
                texts[0], None if pair_ids is None else texts[1], excess, options.truncation, options.stride
            )
            data["num_truncated_tokens"] = excess
        options = replace(options, return_overflowing_tokens=False, return_offsets_mapping=False)
        rows = BatchRows(options, texts, batch, cut_windows(options, texts, batch), as_arrays=False)
        data |= {name: value[0] for name, value in rows.fields().items()}
        return BatchEncoding(data, tensor_type=options.return_tensors, prepend_batch_axis=prepend_batch_axis)

    def truncate_sequences(
        self,
        ids: list[int],
        pair_ids: list[int] | None = None,
        num_tokens_to_remove: int = 0,
        truncation_strategy: str = "longest_first",
        stride: int = 0,
    ) -> tuple[list[int], list[int] | None, list[int]]:
        """The ids that stay of each text, and those cut off with `stride` more (none for a pair cut by longest_first).

        Raises:
            ValueError: the text to be cut is too short or missing.
        """
        if truncation_strategy not in TRUNCATIONS:
            raise ValueError(f"truncation_strategy={truncation_strategy!r} must be one of {', '.join(TRUNCATIONS)}")
        if num_tokens_to_remove <= 0 or truncation_strategy == "do_not_truncate":
            return ids, pair_ids, []
        room = max(len(ids) + len(pair_ids or ()) - num_tokens_to_remove, 0)
        second = None if pair_ids is None else len(pair_ids)
        first, other = kept_lengths(
            truncation_strategy,
            room,
            len(ids),
            second,
            "num_tokens_to_remove",
            num_tokens_to_remove,
            cuts_second_first=self.has_slow_calls,
        )
        kept, rest = self._cut(ids, first, stride)
        if pair_ids is None:
            return kept, None, rest
        kept_pair, rest_pair = self._cut(pair_ids, other, stride)
        overflow = {"only_first": rest, "only_second": rest_pair}.get(truncation_strategy, [])
        return kept, kept_pair, overflow

    def _cut(self, ids: list[int], kept: int, stride: int) -> tuple[list[int], list[int]]:
        """The `kept` ids on the side that stays, and the others with `stride` of the kept ones."""
        window = min(len(ids), stride + len(ids) - kept)
        if self.truncation_side == "left":
            return ids[len(ids) - kept :], ids[:window]
        return ids[:kept], ids[len(ids) - window :]


def _pair(text: object, second: object, is_split_into_words: bool) -> tuple[Any, Any]:
    """One text and its second, which may be in a list of two.

    Raises:
        ValueError: a list of texts.
    """
    if is_split_into_words or not isinstance(text, list | tuple):
        return text, second
    if second is not None or len(text) != 2 or not all(isinstance(one, str) for one in text):
        raise ArgumentError(
            f"text={text!r:.80} must be one text, or a list of two for a pair; give a list of texts to the tokenizer "
            "itself: tokenizer([...])"
        )
    return text[0], text[1]
