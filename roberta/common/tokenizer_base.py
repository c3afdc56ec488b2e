"""What both tokenizers do, written once: the call and its options, decoding, files. How a text is split is an `Engine`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from roberta.common.batch_encoding import BatchEncoding, Encoding, converter
from roberta.common.special_tokens import AddedToken, Token
from roberta.common.tokenizer_engine import Engine
from roberta.common.tokenizer_files import (
    MERGES_FILE,
    TOKENIZER_FILE,
    VOCAB_FILE,
    Vocabulary,
    read_tokenizer_json,
    read_vocabulary,
)
from roberta.common.tokenizer_inputs import Table, flatten, make_plan, whole_plan
from roberta.common.tokenizer_options import MODEL_INPUT_NAMES, UNLIMITED, first_given, length_limit, one_of
from roberta.common.tokenizer_preparing import Preparing
from roberta.common.tokenizer_rows import encodings
from roberta.common.tokenizer_saving import Saving
from roberta.common.tokenizer_template import Template, read_template, roberta_template, with_tokens


class TokenizerBase(Preparing, Saving, ABC):
    """The interface of both tokenizers.

    Args:
        files: vocab.json, merges.txt and tokenizer.json, each a path or None; the last is taken where it is given.
        errors: what decoding does with bytes that are no UTF-8.
        named: special token by name.
        add_prefix_space, trim_offsets: None for False and True, whatever tokenizer.json says; where its post_processor
            has no trim_offsets, offsets are trimmed or not as that processor does it.
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
        vocabulary: in place of files.
        post_processor: what stands around texts, as tokenizer.json has it, with the ids of this vocabulary's tokens;
            None for what the file says.
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
        model_input_names: Sequence[str] = MODEL_INPUT_NAMES,
        name_or_path: str = "",
        config: Mapping[str, Any] | None = None,
        vocabulary: Vocabulary | None = None,
        post_processor: Mapping[str, Any] | None = None,
    ) -> None:
        added = dict(added_tokens_decoder or {})
        vocabulary = vocabulary or _read_vocabulary(files, added)
        self.errors = one_of("errors", errors, ("replace", "ignore", "strict"))
        self.padding_side = one_of("padding_side", padding_side, ("right", "left"))
        self.truncation_side = one_of("truncation_side", truncation_side, ("right", "left"))
        self.add_prefix_space = bool(first_given(add_prefix_space, False))
        self.trim_offsets = bool(first_given(trim_offsets, _trims(vocabulary.template, config or {})))
        self.model_max_length = length_limit(first_given(model_max_length, max_len, UNLIMITED))
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
        self._template = self._fixed_template(vocabulary.template, post_processor)

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
        align = partial(engine.align, batch.texts, is_words, self.trim_offsets)
        aligned = align() if return_offsets_mapping else None
        ids = engine.ids(batch.texts, is_words) if aligned is None else [row.ids for row in aligned]
        plan = make_plan(shape, ids, batch)

        def rows() -> list[Encoding]:
            texts = align() if aligned is None else aligned
            return encodings(shape, texts, batch.samples, plan or whole_plan(ids, batch))

        result = BatchEncoding(encodings=rows, n_sequences=2 if batch.is_pair and batch.is_pair[0] else 1)
        table = Table(shape, ids, batch, plan, as_arrays=return_tensors is not None)
        data = result.data
        data["input_ids"], mask = table.ids_and_mask()
        if first_given(return_token_type_ids, "token_type_ids" in self.model_input_names):
            data["token_type_ids"] = table.types()
        if first_given(return_attention_mask, "attention_mask" in self.model_input_names):
            data["attention_mask"] = mask
        if return_special_tokens_mask:
            data["special_tokens_mask"] = table.constants(1, 0, 1)
        if aligned is not None:
            data["offset_mapping"] = table.offsets(aligned)
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

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(name_or_path={self.name_or_path!r}, vocab_size={self.vocab_size}, "
            f"model_max_length={self.model_max_length}, padding_side={self.padding_side!r}, "
            f"truncation_side={self.truncation_side!r}, special_tokens={self.special_tokens_map}, "
            f"added_tokens={self.added_tokens_encoder})"
        )

    def _fixed_template(self, template: Template | None, processor: Mapping[str, Any] | None) -> Template | None:
        """The template that says what rows are; None where that is RoBERTa's own, which goes by the special tokens."""
        if processor is not None:
            template = read_template("post_processor", with_tokens(processor, {}, self.get_vocab().get))
        own = [(self.cls_token, self.cls_token_id), (self.sep_token, self.sep_token_id)]
        if template is None or any(token is None or index is None for token, index in own):
            return template
        cls, sep = ((str(token), int(index or 0)) for token, index in own)
        return None if template.is_like(roberta_template(cls, sep)) else template


# -- files ---------------------------------------------------------------------------------------------------------


def _trims(template: Template | None, config: Mapping[str, Any]) -> bool:
    """Whether offsets are trimmed: as the config or the default says where a template has that setting, else as it does."""
    if template is None or "trim_offsets" in (template.processor or {}):
        # the default goes before tokenizer.json, as in transformers
        return bool(first_given(config.get("trim_offsets"), True))
    return bool(first_given(template.trims, False))


def _read_vocabulary(files: tuple[Any, Any, Any], added: Mapping[int, AddedToken]) -> Vocabulary:
    """The vocabulary of tokenizer.json where that is given, else of vocab.json and merges.txt."""
    vocab_file, merges_file, tokenizer_file = files
    if tokenizer_file is not None:
        return read_tokenizer_json(tokenizer_file)
    if vocab_file is None or merges_file is None:
        missing = "vocab_file" if vocab_file is None else "merges_file"
        raise ValueError(f"{missing} is missing; give vocab_file and merges_file, or tokenizer_file")
    return read_vocabulary(vocab_file, merges_file, added)
