"""What both tokenizers do, written once: the call and its options, decoding, files. How a text is split is an `Engine`."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, cast

from roberta.common.batch_encoding import BatchEncoding, Encoding, converter
from roberta.common.special_tokens import AddedToken, Token
from roberta.common.tokenizer_files import (
    MERGES_FILE,
    TOKENIZER_FILE,
    VOCAB_FILE,
    Vocabulary,
    read_tokenizer_json,
    read_vocabulary,
)
from roberta.common.tokenizer_inputs import Table, flatten, make_plan, whole_plan
from roberta.common.tokenizer_padding import as_lists, gather, pad_batch, tensor_type_of
from roberta.common.tokenizer_preparing import Preparing
from roberta.common.tokenizer_rows import (
    PADDINGS,
    TRUNCATIONS,
    Aligned,
    Padding,
    Shape,
    Side,
    Truncation,
    encodings,
    trimmed,
)
from roberta.common.tokenizer_saving import Saving

logger = logging.getLogger(__name__)

UNLIMITED = int(1e30)  # model_max_length when nothing says otherwise: what transformers writes
_LARGE = 10**20


class Engine(ABC):
    """Texts to tokens, without special tokens around. An engine never changes, so results may keep one for later."""

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
            for at, character in enumerate(part):
                if "\ud800" <= character <= "\udfff":
                    raise ValueError(
                        f"text {number} has U+{ord(character):04X}, half of a surrogate pair, at character {at}: it has "
                        "no UTF-8 bytes; repair the text, for instance text.encode('utf-16', 'surrogatepass')"
                        ".decode('utf-16', 'replace')"
                    )


class TokenizerBase(Preparing, Saving, ABC):
    """The interface of both tokenizers.

    Args:
        files: vocab.json, merges.txt and tokenizer.json, each a path or None; the last is taken where it is given.
        errors: what decoding does with bytes that are no UTF-8.
        named: special token by name.
        add_prefix_space, trim_offsets: None for what tokenizer.json says, else False and True.
        additional_special_tokens, extra_special_tokens: special tokens without a name, and with one of their own.
        added_tokens_decoder: id -> added token.
        model_max_length: what `truncation=True` cuts to; `max_len` is its older name.
        padding_side, truncation_side: "right" or "left".
        pad_token_type_id: token type of padding.
        clean_up_tokenization_spaces: default of `decode`.
        split_special_tokens: treat special tokens in a text as text.
        model_input_names: what a call returns by default.
        name_or_path: where it was loaded from.
        config: further keys of tokenizer_config.json, written back when it is saved.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {
        "vocab_file": VOCAB_FILE,
        "merges_file": MERGES_FILE,
        "tokenizer_file": TOKENIZER_FILE,
    }
    is_fast: ClassVar[bool]

    def __init__(
        self,
        *,
        files: tuple[Any, Any, Any],
        errors: str,
        named: Mapping[str, Token | None],
        add_prefix_space: bool | None,
        trim_offsets: bool | None,
        additional_special_tokens: Sequence[Token] | None = None,
        extra_special_tokens: Mapping[str, Token] | Sequence[Token] | None = None,
        added_tokens_decoder: Mapping[int, AddedToken] | None = None,
        model_max_length: int | None = None,
        max_len: int | None = None,
        padding_side: str = "right",
        truncation_side: str = "right",
        pad_token_type_id: int = 0,
        clean_up_tokenization_spaces: bool = False,
        split_special_tokens: bool = False,
        model_input_names: Sequence[str] = ("input_ids", "attention_mask"),
        name_or_path: str = "",
        config: Mapping[str, Any] | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        added = dict(added_tokens_decoder or {})
        vocabulary = vocabulary or _read_vocabulary(files, added)
        self.errors = _one_of("errors", errors, ("replace", "ignore", "strict"))
        self.padding_side = _one_of("padding_side", padding_side, ("right", "left"))
        self.truncation_side = _one_of("truncation_side", truncation_side, ("right", "left"))
        self.add_prefix_space = bool(_first(add_prefix_space, vocabulary.add_prefix_space, False))
        self.trim_offsets = bool(_first(trim_offsets, vocabulary.trim_offsets, True))
        self.model_max_length = _limit(_first(model_max_length, max_len, UNLIMITED))
        self.pad_token_type_id = pad_token_type_id
        self.clean_up_tokenization_spaces = bool(clean_up_tokenization_spaces)
        self.split_special_tokens = bool(split_special_tokens)
        self.model_input_names = list(model_input_names)
        self.name_or_path = name_or_path
        self._config = dict(config or {})
        self._merges = vocabulary.merges
        self._warned: set[str] = set()
        more, extra = list(additional_special_tokens or ()), extra_special_tokens or {}
        if not isinstance(extra, Mapping):
            more, extra = [*more, *extra], {}
        self._start(vocabulary.tokens, {**vocabulary.added, **added}, named, more, extra)

    # -- the engine ----------------------------------------------------------------------------------------------

    @abstractmethod
    def _make_engine(self, added: Mapping[int, AddedToken]) -> Engine:
        """An engine for the vocabulary that finds these added tokens."""

    def _changed(self) -> None:
        super()._changed()
        self._engines: dict[tuple[bool, bool], Engine] = {}
        self._bytes: dict[int, bytes] = {}

    def _engine(self, split_special_tokens: bool | None = None) -> Engine:
        split = self.split_special_tokens if split_special_tokens is None else split_special_tokens
        key = (split, self.add_prefix_space)
        if key not in self._engines:
            special = self._skipped_ids() if split else frozenset()
            added = {index: token for index, token in self._added.items() if index not in special}
            self._engines[key] = self._make_engine(added)
        return self._engines[key]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_engines": {}, "_bytes": {}, "_by_id": None}

    # -- the call ------------------------------------------------------------------------------------------------

    def __call__(
        self,
        text: Any = None,
        text_pair: Any = None,
        text_target: Any = None,
        text_pair_target: Any = None,
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

        Returns:
            `BatchEncoding`: input_ids, attention_mask and what was asked for; (rows, tokens), for one text (tokens).

        Raises:
            ValueError: texts of another type, lone surrogates, or options that contradict each other.
        """
        if text is None and text_target is None:
            raise ValueError("give text or text_target: a str, or a list of them")
        run = partial(
            self._call,
            add_special_tokens=add_special_tokens,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            stride=stride,
            is_words=is_split_into_words,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side,
            return_tensors=return_tensors,
            return_token_type_ids=return_token_type_ids,
            return_attention_mask=return_attention_mask,
            return_overflowing_tokens=return_overflowing_tokens,
            return_special_tokens_mask=return_special_tokens_mask,
            return_offsets_mapping=return_offsets_mapping,
            return_length=return_length,
            verbose=verbose,
            split_special_tokens=split_special_tokens,
        )
        if text is None:
            return run("text_target", text_target, text_pair_target)
        batch = run("text", text, text_pair)
        if text_target is not None:
            batch["labels"] = run("text_target", text_target, text_pair_target)["input_ids"]
        return batch

    def _call(
        self,
        name: str,
        text: Any,
        text_pair: Any,
        *,
        add_special_tokens: bool,
        padding: bool | str,
        truncation: bool | str | None,
        max_length: int | None,
        stride: int,
        is_words: bool,
        pad_to_multiple_of: int | None,
        padding_side: str | None,
        return_tensors: str | None,
        return_token_type_ids: bool | None,
        return_attention_mask: bool | None,
        return_overflowing_tokens: bool,
        return_special_tokens_mask: bool,
        return_offsets_mapping: bool,
        return_length: bool,
        verbose: bool,
        split_special_tokens: bool | None,
    ) -> BatchEncoding:
        shape = self._shape(
            add_special_tokens=add_special_tokens,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            stride=stride,
            overflow=return_overflowing_tokens,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side,
            verbose=verbose,
        )
        if return_tensors is not None:
            converter(return_tensors)  # an unknown name is refused before the work
        batch = flatten(name, text, text_pair, is_words)
        engine = self._engine(split_special_tokens)
        prefixed = self.add_prefix_space or is_words
        # the first token of every window is a case of its own when a space was put before it
        trim = partial(trimmed, prefixed=True) if self.trim_offsets and prefixed else None
        align = partial(engine.align, batch.texts, is_words, self.trim_offsets and not prefixed)
        aligned = align() if return_offsets_mapping else None
        ids = engine.ids(batch.texts, is_words) if aligned is None else [row.ids for row in aligned]
        plan = make_plan(shape, ids, batch)

        def rows() -> list[Encoding]:
            texts = align() if aligned is None else aligned
            return encodings(shape, texts, batch.samples, plan or whole_plan(ids, batch), trim)

        result = BatchEncoding(encodings=rows, n_sequences=2 if batch.is_pair and batch.is_pair[0] else 1)
        table = Table(shape, ids, batch, plan, as_arrays=return_tensors is not None)
        data = result.data
        data["input_ids"], mask = table.ids_and_mask()
        if _first(return_token_type_ids, "token_type_ids" in self.model_input_names):
            data["token_type_ids"] = table.constants(0, 0, shape.pad_type_id)
        if _first(return_attention_mask, "attention_mask" in self.model_input_names):
            data["attention_mask"] = mask
        if return_special_tokens_mask:
            data["special_tokens_mask"] = table.constants(1, 0, 1)
        if aligned is not None:
            data["offset_mapping"] = table.offsets(aligned, trim)
        if return_length:
            data["length"] = list(map(len, data["input_ids"]))
        if return_overflowing_tokens:
            data["overflow_to_sample_mapping"] = [window.sample for window in table.plan]
        if verbose:
            self._warn_too_long(max(table.lengths), shape)
        if not batch.is_batch and return_tensors is None and not return_overflowing_tokens:
            result.data = {key: value if key == "length" else value[0] for key, value in data.items()}
        return result.convert_to_tensors(return_tensors)

    def encode(
        self,
        text: Any,
        text_pair: Any = None,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        split_special_tokens: bool | None = None,
    ) -> Any:
        """The `input_ids` of a call."""
        return self(
            text,
            text_pair,
            add_special_tokens=add_special_tokens,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            stride=stride,
            padding_side=padding_side,
            return_tensors=return_tensors,
            is_split_into_words=is_split_into_words,
            pad_to_multiple_of=pad_to_multiple_of,
            split_special_tokens=split_special_tokens,
        )["input_ids"]

    def encode_plus(
        self,
        text: Any,
        text_pair: Any = None,
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
    ) -> BatchEncoding:
        """The same as a call with one text."""
        return self(
            text,
            text_pair,
            None,
            None,
            add_special_tokens,
            padding,
            truncation,
            max_length,
            stride,
            is_split_into_words,
            pad_to_multiple_of,
            padding_side,
            return_tensors,
            return_token_type_ids,
            return_attention_mask,
            return_overflowing_tokens,
            return_special_tokens_mask,
            return_offsets_mapping,
            return_length,
            verbose,
            split_special_tokens,
        )

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
    ) -> BatchEncoding:
        """The same as a call with a list of texts or of pairs."""
        if not isinstance(batch_text_or_text_pairs, list | tuple):
            raise ValueError(
                f"batch_text_or_text_pairs must be a list, not a {type(batch_text_or_text_pairs).__name__}"
            )
        return self(
            batch_text_or_text_pairs,
            None,
            None,
            None,
            add_special_tokens,
            padding,
            truncation,
            max_length,
            stride,
            is_split_into_words,
            pad_to_multiple_of,
            padding_side,
            return_tensors,
            return_token_type_ids,
            return_attention_mask,
            return_overflowing_tokens,
            return_special_tokens_mask,
            return_offsets_mapping,
            return_length,
            verbose,
            split_special_tokens,
        )

    def tokenize(self, text: Any, pair: Any = None, add_special_tokens: bool = False) -> list[str]:
        """The tokens of a text, or of a pair."""
        return self(text, pair, add_special_tokens=add_special_tokens, verbose=False).tokens()

    # -- options -------------------------------------------------------------------------------------------------

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
        for name, value, least in (
            ("max_length", max_length, 0),
            ("stride", stride, 0),
            ("pad_to_multiple_of", pad_to_multiple_of, 1),
        ):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ValueError(f"{name}={value!r} must be an int of at least {least}")
        if truncation is None and cut != "do_not_truncate" and verbose:
            self._warn(
                "max_length",
                "max_length is given without truncation: texts are cut as with truncation=True, which says so",
            )
        if how == "longest" and max_length is not None and cut == "do_not_truncate" and verbose:
            self._warn(
                "longest",
                "max_length has no effect with padding=True and without truncation; use padding='max_length'",
            )
        if max_length is None and (how == "max_length" or cut != "do_not_truncate"):
            if self.model_max_length < _LARGE:
                max_length = self.model_max_length
            else:
                how = "do_not_pad" if how == "max_length" else how
                cut = "do_not_truncate"
                if verbose:
                    self._warn("unlimited", "no max_length and no model_max_length: no truncation, nor padding to it")
        pad_id = self._pad_id(how)
        multiple = pad_to_multiple_of
        if multiple and how != "do_not_pad" and cut != "do_not_truncate" and max_length and max_length % multiple:
            raise ValueError(
                f"max_length={max_length} is no multiple of pad_to_multiple_of={multiple}, so that truncated and padded "
                "rows would differ in length; give a max_length that is one"
            )
        outer = [(self.cls_token, self.cls_token_id), (self.sep_token, self.sep_token_id)]
        if add_special_tokens and any(token is None or index is None for token, index in outer):
            raise ValueError("add_special_tokens=True needs cls_token and sep_token; set them, or give False")
        return Shape(
            add_special_tokens=add_special_tokens,
            truncation=cut,
            truncation_side=cast(Side, _one_of("truncation_side", self.truncation_side, ("right", "left"))),
            max_length=max_length,
            stride=stride,
            overflow=overflow,
            padding=how,
            padding_side=cast(Side, _one_of("padding_side", padding_side or self.padding_side, ("right", "left"))),
            pad_to_multiple_of=multiple,
            prefix=[index for _, index in outer[:1] if index is not None],
            suffix=[index for _, index in outer[1:] if index is not None],
            pad_id=pad_id,
            pad_type_id=self.pad_token_type_id,
            pad_token=self.pad_token or "",
            outer_tokens=(outer[0][0] or "", outer[1][0] or ""),
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
        if kind not in self._warned:
            self._warned.add(kind)
            logger.warning(text)

    def _warn_too_long(self, length: int, shape: Shape) -> None:
        if shape.max_length is None and length > self.model_max_length:
            self._warn(
                "too long",
                f"a text of {length} tokens is longer than the {self.model_max_length} of this model; "
                "cut it with truncation=True",
            )

    # -- rows made elsewhere -------------------------------------------------------------------------------------

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
            verbose=verbose,
        )
        with_mask = _first(return_attention_mask, "attention_mask" in self.model_input_names)
        padded = pad_batch(lists, main, shape, with_mask)
        if is_row:
            padded = {name: value[0] for name, value in padded.items()}
        return BatchEncoding(padded, tensor_type=return_tensors)

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """How many special tokens a row has: 2, or 4 for a pair."""
        return 4 if pair else 2

    @property
    def max_len_single_sentence(self) -> int:
        """How many tokens of a text fit."""
        return self.model_max_length - self.num_special_tokens_to_add()

    @property
    def max_len_sentences_pair(self) -> int:
        """How many tokens of a pair fit, together."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=True)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(name_or_path={self.name_or_path!r}, vocab_size={self.vocab_size}, "
            f"model_max_length={self.model_max_length}, padding_side={self.padding_side!r}, "
            f"truncation_side={self.truncation_side!r}, special_tokens={self.special_tokens_map}, "
            f"added_tokens={self.added_tokens_encoder})"
        )


# -- small checks --------------------------------------------------------------------------------------------------


def _first(*values: Any) -> Any:
    """The first value that is not None."""
    return next((value for value in values if value is not None), None)


def _one_of(name: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, allowed))}")
    return value


def _limit(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ValueError(f"model_max_length={value!r} must be a positive int")
    return int(value)


def _padding(padding: bool | str | None) -> Padding:
    if padding is True:
        return "longest"
    if padding is False or padding is None:
        return "do_not_pad"
    return cast(Padding, str(getattr(padding, "value", _one_of("padding", padding, PADDINGS))))


def _truncation(truncation: bool | str | None, max_length: int | None, padding: Padding) -> Truncation:
    if truncation is True or (truncation is None and max_length is not None and padding == "do_not_pad"):
        return "longest_first"
    if truncation is False or truncation is None:
        return "do_not_truncate"
    return cast(Truncation, str(getattr(truncation, "value", _one_of("truncation", truncation, TRUNCATIONS))))


def _read_vocabulary(files: tuple[Any, Any, Any], added: Mapping[int, AddedToken]) -> Vocabulary:
    """The vocabulary of tokenizer.json where that is given, else of vocab.json and merges.txt."""
    vocab_file, merges_file, tokenizer_file = files
    if tokenizer_file is not None:
        return read_tokenizer_json(tokenizer_file)
    if vocab_file is None or merges_file is None:
        missing = "vocab_file" if vocab_file is None else "merges_file"
        raise ValueError(f"{missing} is missing; give vocab_file and merges_file, or tokenizer_file")
    return read_vocabulary(vocab_file, merges_file, added)
