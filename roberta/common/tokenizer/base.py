"""What both tokenizers do, written once: the call and its options, decoding, files. How a text is split is an `Engine`."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

from roberta.common.frameworks import tensor_maker
from roberta.common.keywords import suggestion
from roberta.common.tokenizer.chat import Chatting
from roberta.common.tokenizer.chat_templates import read_templates
from roberta.common.tokenizer.encoding import BatchEncoding, Encoding
from roberta.common.tokenizer.engine import Engine
from roberta.common.tokenizer.options import MODEL_INPUT_NAMES, UNLIMITED, first_given, length_limit, one_of
from roberta.common.tokenizer.preparing import Preparing
from roberta.common.tokenizer.rows import encodings
from roberta.common.tokenizer.saving import Saving, refuse_names_of_methods, warn_of_near_names
from roberta.common.tokenizer.texts import Table, flatten, make_plan, whole_plan
from roberta.common.vocabulary.errors import ArgumentError
from roberta.common.vocabulary.files import (
    MERGES_FILE,
    TOKENIZER_FILE,
    VOCAB_FILE,
    Vocabulary,
    read_tokenizer_json,
    read_vocabulary,
)
from roberta.common.vocabulary.special_tokens import MORE, AddedToken, Token, special_token
from roberta.common.vocabulary.template import Template, read_template, roberta_template, with_tokens

logger = logging.getLogger(__name__)

# Options that transformers had long ago, with what they are called now.
_OLDER = {"pad_to_max_length": ' (now padding="max_length")', "truncation_strategy": " (now truncation)"}


class TokenizerBase(Preparing, Chatting, Saving, ABC):
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
        chat_template: what makes one text of a conversation, in Jinja; or several by name.
        verbose: False for no warnings of texts that are too long.
        config: further keys of tokenizer_config.json, written back when it is saved.
        vocabulary: in place of files.
        post_processor: what stands around texts, as tokenizer.json has it, with the ids of this vocabulary's tokens;
            None for what the file says.
        others: settings that no tokenizer here has (`do_lower_case`): kept in `init_kwargs` and written into
            tokenizer_config.json, as in transformers, without effect; one near to a known name is logged.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {
        "vocab_file": VOCAB_FILE,
        "merges_file": MERGES_FILE,
        "tokenizer_file": TOKENIZER_FILE,
    }
    pretrained_vocab_files_map: ClassVar[dict[str, dict[str, str]]] = {}
    slow_tokenizer_class: ClassVar[type[TokenizerBase] | None] = None
    is_fast: ClassVar[bool]
    # what a tokenizer has when nothing says otherwise; a subclass may have others
    padding_side: str = "right"
    truncation_side: str = "right"
    model_input_names: list[str] = list(MODEL_INPUT_NAMES)  # noqa: RUF012 - transformers' attribute of the class
    pad_token_type_id: int = 0

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
        padding_side: str | None = None,
        truncation_side: str | None = None,
        pad_token_type_id: int | None = None,
        clean_up_tokenization_spaces: bool | None = None,
        split_special_tokens: bool = False,
        model_input_names: Sequence[str] | None = None,
        name_or_path: str = "",
        chat_template: Any = None,
        verbose: bool = True,
        config: Mapping[str, Any] | None = None,
        vocabulary: Vocabulary | None = None,
        post_processor: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> None:
        refuse_names_of_methods(self, list(others))
        warn_of_near_names(self, list(others))
        added = dict(added_tokens_decoder or {})
        vocabulary = vocabulary or _read_vocabulary(files, added)
        self.errors = one_of("errors", errors, ("replace", "ignore", "strict"))
        sides = ("right", "left")
        self.padding_side = one_of("padding_side", first_given(padding_side, self.padding_side), sides)
        self.truncation_side = one_of("truncation_side", first_given(truncation_side, self.truncation_side), sides)
        self.add_prefix_space = bool(first_given(add_prefix_space, False))
        self.trim_offsets = bool(first_given(trim_offsets, _trims(vocabulary.template, config or {})))
        self.model_max_length = length_limit(first_given(model_max_length, max_len, UNLIMITED))
        self.pad_token_type_id = first_given(pad_token_type_id, self.pad_token_type_id)
        self.clean_up_tokenization_spaces = bool(clean_up_tokenization_spaces)
        self.split_special_tokens = bool(split_special_tokens)
        self.model_input_names = list(first_given(model_input_names, self.model_input_names))
        self.name_or_path = name_or_path
        self.chat_template = read_templates(chat_template)
        self.verbose = verbose
        self._merges = vocabulary.merges
        self.deprecation_warnings: dict[str, bool] = {}
        more, extra = list(additional_special_tokens or ()), extra_special_tokens or {}
        if not isinstance(extra, Mapping):
            more, extra = [*more, *extra], {}
        given = {
            "padding_side": padding_side,
            "truncation_side": truncation_side,
            "model_max_length": first_given(model_max_length, max_len),
            MORE: additional_special_tokens,
            "extra_special_tokens": extra_special_tokens,
            "chat_template": chat_template,
            "clean_up_tokenization_spaces": clean_up_tokenization_spaces,
        }
        # RobertaTokenizer of transformers has no such setting, and its file no such key
        self._writes_trim = self.is_fast or trim_offsets is not None or "trim_offsets" in (config or {})
        self.init_inputs: tuple[Any, ...] = ()
        self.init_kwargs: dict[str, Any] = {
            **dict(zip(TokenizerBase.vocab_files_names, map(_as_text, files), strict=True)),
            "errors": self.errors,
            **{name: None if token is None else special_token(name, token) for name, token in named.items()},
            "add_prefix_space": self.add_prefix_space,
            "trim_offsets": self.trim_offsets,
            **{name: value for name, value in given.items() if value is not None},
            **(config or {}),
            **others,
            "name_or_path": name_or_path,
        }
        self._start(vocabulary.tokens, {**vocabulary.added, **added}, named, more, extra)
        self._template = self._fixed_template(vocabulary.template, post_processor)

    # -- the engine ----------------------------------------------------------------------------------------------

    @abstractmethod
    def _make_engine(self, added: Mapping[int, AddedToken], add_prefix_space: bool) -> Engine:
        """An engine for the vocabulary that finds these added tokens."""

    def _changed(self) -> None:
        super()._changed()
        self._engines: dict[tuple[bool, bool], Engine] = {}
        self._bytes: dict[int, bytes] = {}

    def _engine(self, split_special_tokens: bool | None = None, add_prefix_space: bool | None = None) -> Engine:
        split = self.split_special_tokens if split_special_tokens is None else split_special_tokens
        prefix = self.add_prefix_space if add_prefix_space is None else bool(add_prefix_space)
        key = (split, prefix)
        if key not in self._engines:
            special = self._skipped_ids() if split else frozenset()
            added = {index: token for index, token in self._added.items() if index not in special}
            self._engines[key] = self._make_engine(added, prefix)
        return self._engines[key]

    def _follow(self) -> None:
        """Take over what was changed in a part of this tokenizer that was handed out."""

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
            TypeError: an option nobody knows; RobertaTokenizer logs one unless its name is near to a known one.
        """
        if text is None and text_target is None:
            raise ArgumentError("give text or text_target: a str, or a list of them")
        add_prefix_space = self._prefix_option(others) if others else None
        run = partial(
            self._call,
            add_prefix_space=add_prefix_space,
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
        add_prefix_space: bool | None,
    ) -> BatchEncoding:
        self._follow()
        shape = self._shape(
            add_special_tokens=add_special_tokens,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            stride=stride,
            overflow=return_overflowing_tokens,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side,
            verbose=verbose and self.verbose,
        )
        if return_tensors is not None:
            tensor_maker(return_tensors)  # an unknown name is refused before the work
        batch = flatten(name, text, text_pair, is_words)
        engine = self._engine(split_special_tokens, add_prefix_space)
        align = partial(engine.align, batch.texts, is_words, self.trim_offsets)
        aligned = align() if return_offsets_mapping else None
        ids = engine.ids(batch.texts, is_words) if aligned is None else [row.ids for row in aligned]
        plan = make_plan(shape, ids, batch)

        def rows() -> list[Encoding]:
            texts = align() if aligned is None else aligned
            return encodings(shape, texts, batch.samples, plan or whole_plan(ids, batch))

        result = BatchEncoding(encoding=rows, n_sequences=2 if batch.is_pair and batch.is_pair[0] else 1)
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
        if verbose and self.verbose:
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
        **others: Any,
    ) -> Any:
        """The `input_ids` of a call."""
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
            is_split_into_words=is_split_into_words,
            pad_to_multiple_of=pad_to_multiple_of,
            split_special_tokens=split_special_tokens,
            **others,
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
        **others: Any,
    ) -> BatchEncoding:
        """The same as a call with one text, or with a pair as a list of two.

        A list of ids is a text, too; of RobertaTokenizer, a list of str is one of tokens.

        Raises:
            ValueError: a list of texts.
        """
        ids = self._given_ids(text, is_split_into_words)
        if ids is not None:
            return self.prepare_for_model(
                ids,
                None if text_pair is None else self._ids_of_any(text_pair, is_split_into_words),
                add_special_tokens,
                padding,
                truncation,
                max_length,
                stride,
                pad_to_multiple_of,
                padding_side,
                return_tensors,
                return_token_type_ids,
                return_attention_mask,
                return_overflowing_tokens,
                return_special_tokens_mask,
                False,
                return_length,
                verbose,
                prepend_batch_axis=return_tensors is not None,
                **others,
            )
        text, text_pair = _pair(text, text_pair, is_split_into_words)
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
            **others,
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
        **others: Any,
    ) -> BatchEncoding:
        """The same as a call with a list of texts or of pairs."""
        if not isinstance(batch_text_or_text_pairs, list | tuple):
            raise ArgumentError(
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
            **others,
        )

    def _encode_plus(
        self,
        text: Any,
        text_pair: Any = None,
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

    def _given_ids(self, text: Any, is_split_into_words: bool) -> list[int] | None:
        """The ids that a list of ids, or of tokens, stands for; None where it is no such list."""
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

    def tokenize(
        self,
        text: Any,
        pair: Any = None,
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
            others: further options of the call; `src_lang` and `tgt_lang` say nothing to RoBERTa.
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
        """For scripts that make targets inside of it: RoBERTa's are made as its other texts are."""
        yield

    def _prefix_option(self, others: Mapping[str, Any]) -> bool | None:
        """`add_prefix_space` of a call, which is the one option beside those that its signature has.

        Raises:
            TypeError: an option nobody knows; RobertaTokenizer logs one unless its name is near to a known one.
        """
        unknown = {name: value for name, value in others.items() if name != "add_prefix_space"}
        if unknown:
            known = signature(TokenizerBase.__call__).parameters
            names = ", ".join(
                f"{name}={value!r:.40}{_OLDER.get(name) or suggestion(name, known)}" for name, value in unknown.items()
            )
            if self.is_fast or any(suggestion(name, known) for name in unknown):
                raise TypeError(f"{names}: no option of a call of this tokenizer; omit it")
            logger.warning("%s: not recognized, as no option of a call has that name, and without effect", names)
        return others.get("add_prefix_space")

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


def _pair(text: Any, second: Any, is_split_into_words: bool) -> tuple[Any, Any]:
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


def _as_text(path: Any) -> Any:
    """A path as text, for a file of settings; what else there is as it is."""
    return str(path) if isinstance(path, Path) else path


def _read_vocabulary(files: tuple[Any, Any, Any], added: Mapping[int, AddedToken]) -> Vocabulary:
    """The vocabulary of tokenizer.json where that is given, else of vocab.json and merges.txt."""
    vocab_file, merges_file, tokenizer_file = files
    if tokenizer_file is not None:
        return read_tokenizer_json(tokenizer_file)
    if vocab_file is None or merges_file is None:
        missing = "vocab_file" if vocab_file is None else "merges_file"
        raise ValueError(f"{missing} is missing; give vocab_file and merges_file, or tokenizer_file")
    return read_vocabulary(vocab_file, merges_file, added)
