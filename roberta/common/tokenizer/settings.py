"""The settings of a tokenizer: its constructor, and the special tokens that stand around the texts of a row."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from roberta.common.keywords import suggestion
from roberta.common.tokenizer.chat_templates import ChatTemplates, read_templates
from roberta.common.vocabulary.errors import ArgumentError
from roberta.common.vocabulary.files import (
    MERGES_FILE,
    TOKENIZER_FILE,
    VOCAB_FILE,
    TextFile,
    Vocabulary,
    read_tokenizer_json,
    read_vocabulary,
)
from roberta.common.vocabulary.special_tokens import (
    ADDITIONAL,
    SPECIAL_TOKEN_NAMES,
    AddedToken,
    SpecialTokens,
    Token,
)
from roberta.common.vocabulary.template import Layout, Template, read_template, roberta_template, with_tokens

_logger = logging.getLogger(__name__)

Files = Mapping[str, TextFile | None]  # by argument of the constructor
Side = Literal["left", "right"]

UNLIMITED = int(1e30)  # model_max_length when nothing says otherwise: what transformers writes
MODEL_INPUT_NAMES = ("input_ids", "attention_mask")  # what a call returns when nothing says otherwise

# The keys of tokenizer_config.json that are arguments of the constructor; the others are kept and written back.
CONSTRUCTOR_ARGUMENTS = (
    *SPECIAL_TOKEN_NAMES, ADDITIONAL, "extra_special_tokens", "added_tokens_decoder", "errors", "add_prefix_space",
    "trim_offsets", "model_max_length", "max_len", "padding_side", "truncation_side", "pad_token_type_id",
    "clean_up_tokenization_spaces", "split_special_tokens", "model_input_names", "chat_template",
)  # fmt: skip

# Further arguments of a constructor.
FURTHER_ARGUMENTS = ("vocab_file", "merges_file", "tokenizer_file", "name_or_path", "verbose")

# Keys that say where a tokenizer was or what loaded it: nothing here reads them, and they are not written back.
OF_ONE_PROCESS = (
    "name_or_path", "tokenizer_class", "special_tokens_map_file", "tokenizer_file", "vocab_file", "merges_file",
    "use_fast", "backend", "is_local", "processor_class",
)  # fmt: skip

_BARE = roberta_template(("", 0), ("", 0)).single.without_special_tokens()


class TokenizerSettings(SpecialTokens):
    """All that a tokenizer holds: what `decode`, `save_pretrained` and the call read is set here and nowhere else.

    Args:
        files: the files of the vocabulary, by argument of the constructor; tokenizer.json takes precedence.
        errors: how decoding treats bytes that are not valid UTF-8.
        named: special token by name.
        add_prefix_space, trim_offsets: None for False and True, whatever tokenizer.json says; where its post_processor
            has no trim_offsets, that processor decides whether offsets are trimmed.
        additional_special_tokens, extra_special_tokens: special tokens without a name, and with one of their own.
        added_tokens_decoder: id -> added token.
        model_max_length: what `truncation=True` cuts to; `max_len` is its older name.
        padding_side, truncation_side: "right" or "left".
        pad_token_type_id: token type of padding.
        clean_up_tokenization_spaces: default of `decode`.
        split_special_tokens: treat special tokens in a text as text.
        model_input_names: what a call returns by default.
        name_or_path: where it was loaded from.
        chat_template: a Jinja template that makes one text of a conversation; or several by name.
        verbose: False for no warnings about texts that are too long.
        config: further keys of tokenizer_config.json, written back when it is saved.
        vocabulary: in place of files.
        post_processor: the special tokens around texts, as in tokenizer.json, with the ids of this vocabulary's tokens;
            None for what the file says.
        others: settings that no tokenizer here has (`do_lower_case`): kept in `init_kwargs` and written into
            tokenizer_config.json, as in transformers, without effect; one close to a known name is logged.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {
        "vocab_file": VOCAB_FILE,
        "merges_file": MERGES_FILE,
        "tokenizer_file": TOKENIZER_FILE,
    }
    pretrained_vocab_files_map: ClassVar[dict[str, dict[str, str]]] = {}
    is_fast: ClassVar[bool]
    is_byte_level: bool = True  # whether its tokens are RoBERTa's, which spell the bytes of a text
    # arguments of the constructor, and keys of tokenizer_config.json, that only this class has
    own_settings: ClassVar[tuple[str, ...]] = ()
    # whether pairs are cut, and an empty second text counts, as in transformers' slow classes: where there is no fast one
    has_slow_calls: ClassVar[bool] = False
    # defaults; a subclass may have others
    padding_side: str = "right"
    truncation_side: str = "right"
    model_input_names: list[str] = list(MODEL_INPUT_NAMES)  # noqa: RUF012 - transformers' attribute of the class
    pad_token_type_id: int = 0

    def __init__(
        self,
        *,
        files: Files,
        errors: str,
        named: Mapping[str, Token | None],
        add_prefix_space: bool | None,
        trim_offsets: bool | None,
        additional_special_tokens: Sequence[Token] | None = None,
        extra_special_tokens: Mapping[str, Token] | Sequence[Token] | None = None,
        added_tokens_decoder: Mapping[int, AddedToken] | None = None,
        model_max_length: float | None = None,
        max_len: float | None = None,
        padding_side: str | None = None,
        truncation_side: str | None = None,
        pad_token_type_id: int | None = None,
        clean_up_tokenization_spaces: bool | None = None,
        split_special_tokens: bool = False,
        model_input_names: Sequence[str] | None = None,
        name_or_path: str = "",
        chat_template: ChatTemplates | None = None,
        verbose: bool = True,
        config: Mapping[str, Any] | None = None,
        vocabulary: Vocabulary | None = None,
        post_processor: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> None:
        _check_unknown(type(self), list(others))
        added = dict(added_tokens_decoder or {})
        vocabulary = vocabulary or self._read_vocabulary(files, added)
        # settings: the argument, else the default of the class
        self.errors = one_of("errors", errors, ("replace", "ignore", "strict"))
        self.padding_side = check_side("padding_side", first_given(padding_side, self.padding_side))
        self.truncation_side = check_side("truncation_side", first_given(truncation_side, self.truncation_side))
        self.add_prefix_space = bool(first_given(add_prefix_space, self._default_prefix(vocabulary, config or {})))
        self.trim_offsets = bool(first_given(trim_offsets, _trims(vocabulary.template, config or {})))
        self.model_max_length = _length_limit(first_given(model_max_length, max_len, UNLIMITED))
        self.pad_token_type_id = first_given(pad_token_type_id, self.pad_token_type_id)
        self.clean_up_tokenization_spaces = bool(clean_up_tokenization_spaces)
        self.split_special_tokens = bool(split_special_tokens)
        names = first_given(model_input_names, self.model_input_names)
        if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
            raise ArgumentError(f"model_input_names={names!r:.80} must be a list of names, as in ['input_ids']")
        self.model_input_names = list(names)
        self.name_or_path = name_or_path
        self.chat_template = read_templates(chat_template)
        self.verbose = verbose
        self._use(vocabulary)
        self.deprecation_warnings: dict[str, bool] = {}  # by kind: already logged, or silenced by the user
        # a list of extra tokens, as transformers 5 writes it, has no names
        additional, extra = _tokens_of(ADDITIONAL, additional_special_tokens), extra_special_tokens or {}
        if not isinstance(extra, Mapping):
            additional, extra = [*additional, *_tokens_of("extra_special_tokens", extra)], {}
        # what transformers keeps of its arguments, for scripts that read it and for tokenizer_config.json
        given = {
            "padding_side": padding_side,
            "truncation_side": truncation_side,
            "model_max_length": first_given(model_max_length, max_len),
            ADDITIONAL: additional_special_tokens,
            "extra_special_tokens": extra_special_tokens,
            "chat_template": chat_template,
            "clean_up_tokenization_spaces": clean_up_tokenization_spaces,
        }
        self.init_inputs: tuple[Any, ...] = ()
        self.init_kwargs: dict[str, Any] = {
            **(config or {}),
            **{name: _path_as_text(path) for name, path in files.items()},
            "errors": self.errors,
            **{name: None if token is None else self._as_special(name, token) for name, token in named.items()},
            "add_prefix_space": self.add_prefix_space,
            "trim_offsets": self.trim_offsets,
            **{name: value for name, value in given.items() if value is not None},
            **others,
            "name_or_path": name_or_path,
        }
        # RobertaTokenizer of transformers has no such setting, and its file no such key
        self._writes_trim = self.is_fast or trim_offsets is not None or "trim_offsets" in (config or {})
        # the template needs the ids of the special tokens, so the vocabulary comes first
        self._start(vocabulary.tokens, self._merged(vocabulary, added), named, additional, extra)
        self._template = self._fixed_template(vocabulary.template, post_processor)

    def _use(self, vocabulary: Vocabulary) -> None:
        """Keep what a vocabulary has beside its tokens."""
        self._merges = vocabulary.merges

    def _read_vocabulary(self, files: Files, added: Mapping[int, AddedToken]) -> Vocabulary:
        """The vocabulary of tokenizer.json where that is given, else of vocab.json and merges.txt."""
        tokenizer_file = files.get("tokenizer_file")
        if tokenizer_file is not None:
            return read_tokenizer_json(tokenizer_file, is_byte_level=not self.is_fast)
        vocab_file, merges_file = files["vocab_file"], files["merges_file"]
        if vocab_file is None or merges_file is None:
            missing = "vocab_file" if vocab_file is None else "merges_file"
            raise ValueError(f"{missing} is missing; give vocab_file and merges_file, or tokenizer_file")
        return read_vocabulary(vocab_file, merges_file, added)

    def _merged(self, vocabulary: Vocabulary, added: Mapping[int, AddedToken]) -> dict[int, AddedToken]:
        """The added tokens of the vocabulary's file and of the settings, which take precedence."""
        return {**vocabulary.added, **added}

    def _default_prefix(self, vocabulary: Vocabulary, config: Mapping[str, Any]) -> bool:
        """`add_prefix_space` where it is not given; `config` has what tokenizer_config.json says."""
        return bool(config.get("add_prefix_space", False))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(name_or_path={self.name_or_path!r}, vocab_size={self.vocab_size}, "
            f"model_max_length={self.model_max_length}, padding_side={self.padding_side!r}, "
            f"truncation_side={self.truncation_side!r}, special_tokens={self.special_tokens_map}, "
            f"added_tokens={self.added_tokens_encoder})"
        )

    def _warn(self, kind: str, text: str) -> None:
        """Log a warning, once for each kind."""
        if not self.deprecation_warnings.get(kind, False):
            self.deprecation_warnings[kind] = True
            _logger.warning(text)

    def _follow(self) -> None:
        """Take over changes to a part of this tokenizer that the user holds; RobertaTokenizerFast has one."""

    # -- the special tokens around the texts of a row ------------------------------------------------------------

    def layout(self, pair: bool = False) -> Layout:
        """The special tokens and the types of a row of one text, or of two.

        Raises:
            ValueError: there is no cls_token or no sep_token.
        """
        return self._layouts(add_special_tokens=True)[pair]

    def _layouts(self, add_special_tokens: bool) -> tuple[Layout, Layout]:
        """The layouts of a call, for one text and for two."""
        template = self._template
        if not add_special_tokens:
            if template is None:
                return _BARE, _BARE
            return template.single.without_special_tokens(), template.pair.without_special_tokens()
        if template is None:
            cls, sep = (self.cls_token, self.cls_token_id), (self.sep_token, self.sep_token_id)
            if cls[0] is None or cls[1] is None or sep[0] is None or sep[1] is None:
                raise ValueError("add_special_tokens=True needs cls_token and sep_token; set them, or give False")
            template = roberta_template((cls[0], cls[1]), (sep[0], sep[1]))
        return template.single, template.pair

    def _fixed_template(self, template: Template | None, processor: Mapping[str, Any] | None) -> Template | None:
        """The template of the rows; None where it is RoBERTa's own, which follows the special tokens."""
        if processor is not None:
            template = read_template("post_processor", with_tokens(processor, {}, self.get_vocab().get))
        own = [(self.cls_token, self.cls_token_id), (self.sep_token, self.sep_token_id)]
        if template is None or any(token is None or index is None for token, index in own):
            return template
        cls, sep = ((str(token), int(index or 0)) for token, index in own)
        return None if template.is_like(roberta_template(cls, sep)) else template

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """The number of special tokens of a row: RoBERTa's own 2, or 4 for a pair."""
        if self._template is None:
            return 4 if pair else 2
        return self.layout(pair).size

    @property
    def max_len_single_sentence(self) -> int:
        """The number of tokens of a text that fit."""
        return self.model_max_length - self.num_special_tokens_to_add()

    @property
    def max_len_sentences_pair(self) -> int:
        """The number of tokens of a pair that fit, together."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=True)

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
        return self.layout(token_ids_1 is not None).row_types(token_ids_0, token_ids_1)

    def get_special_tokens_mask(
        self,
        token_ids_0: list[int],
        token_ids_1: list[int] | None = None,
        already_has_special_tokens: bool = False,
    ) -> list[int]:
        """1 for special tokens, 0 for others.

        Args:
            already_has_special_tokens: `token_ids_0` is the row itself; else the mask is of the row that a call makes.
        """
        if already_has_special_tokens:
            if token_ids_1 is not None:
                raise ValueError("already_has_special_tokens=True takes one row; omit token_ids_1")
            special = set(self.all_special_ids)
            return [int(index in special) for index in token_ids_0]
        begin, middle, end = (len(special.ids) for special in self.layout(token_ids_1 is not None)[:3])
        texts = [0] * len(token_ids_0), [0] * len(token_ids_1 or ())
        return [*[1] * begin, *texts[0], *[1] * middle, *texts[1], *[1] * end]


# -- small checks --------------------------------------------------------------------------------------------------


def first_given(*values: Any) -> Any:
    """The first value that is not None."""
    return next((value for value in values if value is not None), None)


def one_of(name: str, value: str, allowed: Sequence[str]) -> str:
    """The value; `ValueError` that names the argument when the value is not allowed."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, allowed))}")
    return value


def check_side(name: str, value: str) -> Side:
    """A side, checked; `ValueError` that names the argument."""
    return cast(Side, one_of(name, value, ("right", "left")))


def check_flag(name: str, value: object) -> bool:
    """True or False, checked; `ValueError` that names the argument, as "false" would be true."""
    if not isinstance(value, bool) and value not in (0, 1):
        raise ArgumentError(f"{name}={value!r:.80} must be True or False")
    return bool(value)


def _tokens_of(name: str, value: object) -> list[Token]:
    """A list of tokens, checked; `ValueError` for one token, whose characters would be its items."""
    if value is None:
        return []
    if not isinstance(value, list | tuple) or not all(isinstance(token, Token) for token in value):
        raise ArgumentError(f"{name}={value!r:.80} must be a list of tokens, each a str or an AddedToken")
    return list(value)


def _length_limit(value: object) -> int:
    """A `model_max_length`, as files have it (1e30 too); `ValueError` when it is not a positive number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"model_max_length={value!r} must be a positive int")
    return int(value)


def _check_unknown(cls: type[TokenizerSettings], names: Sequence[str]) -> None:
    """Refuse settings named like a method, which were meant for a call; log those close to a known name."""
    for name in names:
        if callable(getattr(cls, name, None)):
            raise AttributeError(
                f"{name} is not a setting of a tokenizer: it conflicts with the method {cls.__name__}.{name}"
            )
    for name in names:
        if name in cls.own_settings:
            continue
        nearest = suggestion(name, (*CONSTRUCTOR_ARGUMENTS, *FURTHER_ARGUMENTS, *cls.own_settings))
        if nearest and name not in OF_ONE_PROCESS:
            _logger.warning("%s does not know %r%s; it is kept as it is", cls.__name__, name, nearest)


# -- files ---------------------------------------------------------------------------------------------------------


def _trims(template: Template | None, config: Mapping[str, Any]) -> bool:
    """Whether offsets are trimmed: the config or the default where the template has that setting, else the template."""
    if template is None or "trim_offsets" in (template.processor or {}):
        # the default goes before tokenizer.json, as in transformers
        return bool(first_given(config.get("trim_offsets"), True))
    return bool(first_given(template.trims, False))


def _path_as_text(path: TextFile | None) -> object:
    """A path as text, for a file of settings; anything else unchanged."""
    return str(path) if isinstance(path, Path) else path
