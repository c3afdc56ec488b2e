"""PreTrainedTokenizerFast: any tokenizer of the tokenizers library, with one interface."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import tokenizers
from tokenizers import models

from roberta.common.tokenizer.base import Engine, TokenizerBase
from roberta.common.tokenizer.engines import Backend, ByteLevelEngine, PipelineEngine, check_added
from roberta.common.tokenizer.settings import Files
from roberta.common.tokenizer.vocabulary_training import byte_level_vocabulary, least_size, library_like, renamed_token
from roberta.common.vocabulary.bpe import WHITE_SPACE
from roberta.common.vocabulary.builders import WORD_START
from roberta.common.vocabulary.files import (
    TOKENIZER_FILE,
    TextFile,
    Vocabulary,
    library_vocabulary,
    merge_lines,
    read_tokenizer_json,
    read_tokenizer_text,
)
from roberta.common.vocabulary.library_parts import has_prefix, part_of_state, part_state
from roberta.common.vocabulary.special_tokens import ADDITIONAL, SPECIAL_TOKEN_NAMES, AddedToken, Token
from roberta.common.vocabulary.template import Template, read_template, with_tokens

# The special tokens of models that were trained with fairseq.
FAIRSEQ_TOKENS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "cls_token": "<s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}


class PreTrainedTokenizerFast(TokenizerBase):
    """A tokenizer of the tokenizers library: any model, normalizer, pre_tokenizer, post_processor and decoder.

    Args:
        vocab_file: the file that a subclass reads where there is no tokenizer.json.
        tokenizer_file: tokenizer.json, which takes precedence.
        settings: see `TokenizerSettings`; the special tokens by name; and `tokenizer_object`, a tokenizer of the library
            in place of files, which is read and not kept.

    Raises:
        CheckpointError: a file is missing or malformed.
    """

    is_fast: ClassVar[bool] = True
    vocab_files_names: ClassVar[dict[str, str]] = {"tokenizer_file": TOKENIZER_FILE}
    model_input_names: list[str] = ["input_ids", "token_type_ids", "attention_mask"]  # noqa: RUF012 - as in transformers
    # the special tokens that a subclass has where nothing else is said, and how its mask token is matched
    special_defaults: ClassVar[Mapping[str, Token | Sequence[Token] | None]] = {}
    mask_flags: ClassVar[Mapping[str, bool]] = {}
    # whether a byte-level tokenizer puts a space before each word of a text that is given as words
    words_take_spaces: ClassVar[bool] = False
    # whether `build_inputs_with_special_tokens` and its like make the rows that a call makes
    builds_rows: ClassVar[bool] = False

    _library: tokenizers.Tokenizer | None = None  # None for RoBERTa's byte-level BPE
    _model: models.BPE | None = None
    _backend: Backend | None = None
    _word_marks: tuple[tuple[str, ...], str, str] | None = None

    def __init__(
        self, vocab_file: TextFile | None = None, tokenizer_file: TextFile | None = None, **settings: Any
    ) -> None:
        tokenizer_object = settings.pop("tokenizer_object", None)
        if tokenizer_object is not None:
            settings["vocabulary"] = read_tokenizer_text(tokenizer_object.to_str())
        files = {"vocab_file": vocab_file, "merges_file": settings.pop("merges_file", None)}
        defaults = {**dict.fromkeys((*SPECIAL_TOKEN_NAMES, ADDITIONAL)), **self.special_defaults}
        given = {name: settings.pop(name, default) for name, default in defaults.items()}
        self._vocab_file = str(vocab_file) if isinstance(vocab_file, Path) else vocab_file
        given_files = (file for file in (tokenizer_file, vocab_file) if isinstance(file, str | Path))
        self._file_name = str(next(given_files, type(self).__name__))
        super().__init__(
            files={
                **{name: files[name] for name in files if name in self.vocab_files_names},
                "tokenizer_file": tokenizer_file,
            },
            errors=settings.pop("errors", "replace"),
            named={name: given[name] for name in SPECIAL_TOKEN_NAMES},
            add_prefix_space=settings.pop("add_prefix_space", None),
            trim_offsets=settings.pop("trim_offsets", None),
            additional_special_tokens=given[ADDITIONAL],
            **settings,
        )
        check_added(self._vocabulary, self._added)

    def _use(self, vocabulary: Vocabulary) -> None:
        super()._use(vocabulary)
        self._library = vocabulary.library

    def _read_vocabulary(self, files: Files, added: Mapping[int, AddedToken]) -> Vocabulary:
        """The vocabulary of tokenizer.json, or of the file that the class reads without one."""
        if files["tokenizer_file"] is not None:
            return read_tokenizer_json(files["tokenizer_file"])
        if files.get("vocab_file") is None:
            names = ", or ".join(self.vocab_files_names)
            raise ValueError(f"{type(self).__name__} needs a file of its vocabulary; give {names}")
        return library_vocabulary(str(files["vocab_file"]), self._built(files))

    def _built(self, files: Files) -> tokenizers.Tokenizer:
        """The tokenizer of the library, made of the class's own files."""
        raise NotImplementedError

    def _merged(self, vocabulary: Vocabulary, added: Mapping[int, AddedToken]) -> dict[int, AddedToken]:
        """The added tokens: tokenizer.json says how one is matched, as in transformers, unless it is RoBERTa's own."""
        if vocabulary.library is None:
            return super()._merged(vocabulary, added)
        listed = {token.content for token in vocabulary.added.values()}
        return {**{i: token for i, token in added.items() if token.content not in listed}, **vocabulary.added}

    def _default_prefix(self, vocabulary: Vocabulary, config: Mapping[str, Any]) -> bool:
        """`add_prefix_space` where it is not given: a byte-level file's is ignored, as in transformers."""
        state = None if vocabulary.library is None else part_state(vocabulary.library.pre_tokenizer)
        if vocabulary.library is None or (state is not None and state["type"] == "ByteLevel"):
            return super()._default_prefix(vocabulary, config)
        return bool(has_prefix(state))

    def _as_special(self, name: str, token: Token) -> AddedToken:
        """The special token of that name: matched as its file says, or else before the text is normalised."""
        if not isinstance(token, str):
            return super()._as_special(name, token)
        more = {"normalized": False, **(self.mask_flags if name == "mask_token" else {})}
        return AddedToken(token, special=True, **more)

    def _known(self, special: AddedToken, given: Token, known: Mapping[str, AddedToken]) -> AddedToken:
        """The token of the file with that text, whatever was given, unless the tokenizer is RoBERTa's own."""
        if self._library is None:
            return super()._known(special, given, known)
        return known.get(special.content, special)

    def _fixed_template(self, template: Template | None, processor: Mapping[str, Any] | None) -> Template | None:
        """The template of the rows, which does not follow the special tokens unless it is RoBERTa's own."""
        if processor is not None:
            template = read_template("post_processor", with_tokens(processor, {}, self.get_vocab().get))
        return template

    def _make_engine(self, added: Mapping[int, AddedToken], add_prefix_space: bool) -> Engine:
        if self._library is not None:
            if (
                add_prefix_space != self.add_prefix_space
                and has_prefix(part_state(self._library.pre_tokenizer)) is None
            ):
                raise ValueError(
                    f"add_prefix_space={add_prefix_space}: the pre_tokenizer of this tokenizer has no such setting; omit it"
                )
            return PipelineEngine(
                self._library,
                added,
                add_prefix_space,
                words_take_spaces=self.words_take_spaces,
                place=self.name_or_path or self._file_name,
            )
        if self._model is None:
            merges = [(left, right) for left, right in (merge.split(" ") for merge in merge_lines(self._merges))]
            self._model = models.BPE(vocab=dict(self._vocabulary), merges=merges)
        return ByteLevelEngine(self._model, added, add_prefix_space, words_take_spaces=self.words_take_spaces)

    def __getstate__(self) -> dict[str, Any]:
        # without what is made when it is first needed, as use leaves no trace in the bytes
        made = ("_model", "_backend", "_word_marks")
        state = {name: value for name, value in super().__getstate__().items() if name not in made}
        if self._library is not None:
            # the library gives its tokens in another order each time, and equal tokenizers have equal bytes
            state["_vocabulary"] = dict(sorted(self._vocabulary.items(), key=lambda item: item[1]))
        return state

    # -- rows of ids -----------------------------------------------------------------------------------------------

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int | None]:
        """The row of a call; of `PreTrainedTokenizerFast` itself the ids alone, as in transformers."""
        if self.builds_rows:
            return super().build_inputs_with_special_tokens(token_ids_0, token_ids_1)
        return [*token_ids_0, *(token_ids_1 or ())]

    def create_token_type_ids_from_sequences(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """The types of the row of a call; of `PreTrainedTokenizerFast` itself 0 and 1, as in transformers."""
        if self.builds_rows:
            return super().create_token_type_ids_from_sequences(token_ids_0, token_ids_1)
        begin, end = (int(token is not None) for token in (self.cls_token_id, self.sep_token_id))
        second = [] if token_ids_1 is None else [1] * (len(token_ids_1) + end)
        return [*[0] * (begin + len(token_ids_0) + end), *second]

    def word_borders(self, token: str) -> tuple[bool, bool]:
        """Whether a token begins a word, and whether it ends one, by the marks of the tokenizer's kind."""
        if self._library is None:
            return super().word_borders(token)
        begins, continues, ends = self._marks()
        if continues:
            return not token.startswith(continues), False
        if begins:
            return token.startswith(begins), False
        return (False, token.endswith(ends)) if ends else (True, False)

    def _marks(self) -> tuple[tuple[str, ...], str, str]:
        """What tokens begin with that begin a word, or that continue one, and what those end with that end one."""
        assert self._library is not None
        if self._word_marks is None:
            model, before = self._library.model, json.dumps(part_state(self._library.pre_tokenizer))
            begins: tuple[str, ...] = ()
            if '"Metaspace"' in before:
                begins = (WORD_START,)
            elif '"ByteLevel"' in before:
                begins = WHITE_SPACE
            continues = getattr(model, "continuing_subword_prefix", None) or ""
            self._word_marks = begins, continues, getattr(model, "end_of_word_suffix", None) or ""
        return self._word_marks

    # -- from ids to text ------------------------------------------------------------------------------------------

    def _text_of_ids(self, ids: list[int], has_spaces: bool | None) -> str:
        """The text of ids, by the library's decoder."""
        if self._library is None:
            return super()._text_of_ids(ids, has_spaces)
        # by tokens, as the library's own decode gives normalised texts of added tokens
        return self.convert_tokens_to_string([token for token in self.convert_ids_to_tokens(ids) if token is not None])

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """The text of tokens."""
        if self._library is None:
            return super().convert_tokens_to_string(tokens)
        engine = self._engine(split_special_tokens=False, add_prefix_space=None)
        decoder = engine.tokenizer().decoder if isinstance(engine, PipelineEngine) else None
        return " ".join(tokens) if decoder is None else str(decoder.decode(list(tokens)))

    # -- saving ----------------------------------------------------------------------------------------------------

    def _class_in_files(self) -> str:
        """The class that tokenizer_config.json names: the slow one where transformers has it, as it writes, too."""
        name = next(cls.__name__ for cls in type(self).__mro__ if cls.__module__.startswith("roberta."))
        return name if name == PreTrainedTokenizerFast.__name__ else name.removesuffix("Fast")

    def _own_settings(self) -> dict[str, Any]:
        """The settings that only some tokenizers have."""
        if self._library is None:
            return super()._own_settings()
        has_setting = has_prefix(part_state(self._library.pre_tokenizer)) is not None
        return {"add_prefix_space": self.add_prefix_space} if has_setting else {}

    def _vocabulary_texts(self) -> dict[str, bytes]:
        """The files of the vocabulary beside tokenizer.json: what the tokenizer was made of, if that is still there."""
        if self._library is None:
            return super()._vocabulary_texts()
        name = self.vocab_files_names.get("vocab_file")
        if name is None or not isinstance(self._vocab_file, str | Path) or not Path(self._vocab_file).is_file():
            return {}
        return {name: Path(self._vocab_file).read_bytes()}

    def _tokenizer_json(self) -> bytes:
        if self._library is None:
            return super()._tokenizer_json()
        made = PipelineEngine(self._library, self.added_tokens_decoder, self.add_prefix_space).tokenizer()
        processor = self._post_processor()
        if processor is not None:
            made.post_processor = part_of_state("post_processor", processor)
        text: str = made.to_str(pretty=True)
        return text.encode()

    @property
    def is_byte_level(self) -> bool:  # type: ignore[override]
        """Whether its tokens spell the bytes of a text, as RoBERTa's do."""
        return self._library is None or '"ByteLevel"' in json.dumps(part_state(self._library.decoder))

    @property
    def can_save_slow_tokenizer(self) -> bool:
        """Whether the files can be written that a slow tokenizer reads."""
        return bool(self._vocabulary_texts())

    # -- the library's tokenizer -----------------------------------------------------------------------------------

    @property
    def backend_tokenizer(self) -> tokenizers.Tokenizer:
        """A tokenizer of the library with the vocabulary, tokens and settings of this one.

        Changes to its normalizer, pre_tokenizer, post_processor and decoder apply here too.
        """
        self._follow()
        state = (self._post_processor(), self.add_prefix_space, self.added_tokens_decoder)
        if self._backend is None or self._backend.made_of != state:
            self._backend = Backend(tokenizers.Tokenizer.from_str(self._tokenizer_json().decode()), state)
        return self._backend.tokenizer

    @property
    def _tokenizer(self) -> tokenizers.Tokenizer:
        """The same, under the name that scripts use."""
        return self.backend_tokenizer

    @property
    def decoder(self) -> Any:
        """The library's decoder."""
        return self.backend_tokenizer.decoder

    def set_truncation_and_padding(
        self,
        padding_strategy: str,
        truncation_strategy: str,
        max_length: int | None,
        stride: int,
        pad_to_multiple_of: int | None,
        padding_side: str | None,
    ) -> None:
        """Let `backend_tokenizer` truncate and pad; a call of this tokenizer follows its own arguments."""
        backend = self.backend_tokenizer
        cut, how = (str(getattr(name, "value", name)) for name in (truncation_strategy, padding_strategy))
        if cut == "do_not_truncate":
            backend.no_truncation()
        else:
            assert max_length is not None
            backend.enable_truncation(max_length, stride=stride, strategy=cut, direction=self.truncation_side)
        if how == "do_not_pad":
            backend.no_padding()
        else:
            backend.enable_padding(
                length=max_length if how == "max_length" else None,
                direction=padding_side or self.padding_side,
                pad_id=self.pad_token_id,
                pad_token=self.pad_token,
                pad_type_id=self.pad_token_type_id,
                pad_to_multiple_of=pad_to_multiple_of,
            )

    def _follow(self) -> None:
        """Take over changes to the library's tokenizer, if the user holds it."""
        if self._backend is None:
            return
        for name, value in self._backend.changes():
            if name == "post_processor":
                template = read_template("backend_tokenizer.post_processor", value)
                self._template = self._fixed_template(template, None)
            elif name == "pre_tokenizer" and self._library is None and _is_byte_level(value):
                self.add_prefix_space = bool(value.get("add_prefix_space", True))
            else:
                # RoBERTa's own engine does not have it, so from here on the library's does
                self._library = tokenizers.Tokenizer.from_str(self._backend.tokenizer.to_str())
                prefix = has_prefix(part_state(self._library.pre_tokenizer))
                self.add_prefix_space = self.add_prefix_space if prefix is None else prefix
                self._changed()

    # -- training --------------------------------------------------------------------------------------------------

    def train_new_from_iterator(
        self,
        text_iterator: Iterable[str] | Iterable[Sequence[str]],
        vocab_size: int,
        length: int | None = None,
        new_special_tokens: Sequence[Token] | None = None,
        special_tokens_map: Mapping[str, str] | None = None,
        *,
        min_frequency: int = 0,
        show_progress: bool = True,
    ) -> Self:
        """A tokenizer with this one's settings and special tokens, and a vocabulary trained on other texts.

        Args:
            vocab_size: tokens; a byte-level vocabulary, however small, has its special tokens and the 256 bytes.
            new_special_tokens: further special tokens.
            special_tokens_map: old text -> new text of special tokens.
            min_frequency: how often something must occur to become a token; a Unigram model has no such limit.

        Raises:
            ValueError: a vocabulary that the library cannot learn: too small, or from too few texts.
        """
        self._follow()
        # the special tokens, under their new names, get the first ids
        renamed = special_tokens_map or {}
        # and of a Unigram model all added tokens, as in transformers: SentencePiece's own are among them
        is_unigram = self._library is not None and type(self._library.model).__name__ == "Unigram"
        kept = [
            renamed.get(token.content, token.content)
            for token in self.added_tokens_decoder.values()
            if token.special or is_unigram
        ]
        new = [str(token) for token in new_special_tokens or ()]
        special = list(dict.fromkeys([*kept, *new]))
        # the vocabulary, by the trainer of the model's kind
        options: dict[str, Any] = {
            "min_frequency": min_frequency,
            "special_tokens": special,
            "length": length,
            "show_progress": show_progress,
        }
        if self._library is None:
            vocabulary = byte_level_vocabulary(
                text_iterator,
                max(vocab_size, least_size(special)),
                add_prefix_space=self.add_prefix_space,
                **options,
            )
        else:
            unknown = None if self.unk_token is None else renamed.get(self.unk_token, self.unk_token)
            vocabulary = self._learned(text_iterator, vocab_size, unknown, options)
        # the settings of this one; its rows have the same tokens under their new names and ids
        named: dict[str, Any] = {name: renamed_token(token, renamed) for name, token in self._named.items()}
        additional = [renamed_token(token, renamed) for token in self._additional]
        return type(self)(
            vocabulary=vocabulary,
            add_prefix_space=self.add_prefix_space,
            trim_offsets=self.trim_offsets,
            errors=self.errors,
            model_max_length=self.model_max_length,
            padding_side=self.padding_side,
            truncation_side=self.truncation_side,
            clean_up_tokenization_spaces=self.clean_up_tokenization_spaces,
            split_special_tokens=self.split_special_tokens,
            model_input_names=self.model_input_names,
            additional_special_tokens=[*additional, *(new_special_tokens or ())],
            post_processor=self._processor_of_tokens(renamed),
            **{name: self.init_kwargs[name] for name in self.own_settings if name in self.init_kwargs},
            **named,
        )

    def _learned(
        self,
        texts: Iterable[str] | Iterable[Sequence[str]],
        vocab_size: int,
        unk_token: str | None,
        options: Mapping[str, Any],
    ) -> Vocabulary:
        """A vocabulary of this kind, learned from texts."""
        assert self._library is not None
        made = library_like(self._library, texts, vocab_size, unk_token=unk_token, **options)
        return library_vocabulary("the trained tokenizer", made)

    def _processor_of_tokens(self, renamed: Mapping[str, str]) -> Any:
        """The post_processor with tokens under their new texts; the new vocabulary sets the ids."""
        if self._template is None and self._library is None:
            return None
        return with_tokens(self._post_processor(), renamed, lambda token: 0)


def _is_byte_level(state: Any) -> bool:
    """Whether a pre_tokenizer is RoBERTa's."""
    return state is not None and state["type"] == "ByteLevel" and bool(state.get("use_regex", True))
