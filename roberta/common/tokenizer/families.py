"""The tokenizers of RoBERTa's relatives: each is `PreTrainedTokenizerFast` with its own files and special tokens.

transformers has a slow and a fast class for most. Here both names are one class, which follows the fast one;
docs/family.md says where the two differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import tokenizers

from roberta.common.tokenizer.library import FAIRSEQ_TOKENS, PreTrainedTokenizerFast
from roberta.common.tokenizer.settings import Files, check_flag
from roberta.common.vocabulary.builders import (
    camembert_tokenizer,
    t5_tokenizer,
    wordpiece_tokenizer,
    xlm_roberta_tokenizer,
)
from roberta.common.vocabulary.errors import ArgumentError
from roberta.common.vocabulary.files import (
    SENTENCEPIECE_FILE,
    T5_FILE,
    TOKENIZER_FILE,
    WORDPIECE_FILE,
    TextFile,
    Vocabulary,
)
from roberta.common.vocabulary.library_parts import part_of_state, part_state
from roberta.common.vocabulary.special_tokens import ADDITIONAL, AddedToken


class XLMRobertaTokenizerFast(PreTrainedTokenizerFast):
    """XLM-R's tokenizer: a Unigram model of SentencePiece, `<s> A </s>` and `<s> A </s></s> B </s>`.

    Args and errors: see `PreTrainedTokenizerFast`; `vocab_file` is sentencepiece.bpe.model.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {"vocab_file": SENTENCEPIECE_FILE, "tokenizer_file": TOKENIZER_FILE}
    model_input_names: list[str] = ["input_ids", "attention_mask"]  # noqa: RUF012 - as in transformers
    special_defaults = FAIRSEQ_TOKENS
    mask_flags: ClassVar[dict[str, bool]] = {"lstrip": True}
    builds_rows = True
    own_settings = ("sp_model_kwargs",)

    def _built(self, files: Files) -> tokenizers.Tokenizer:
        return xlm_roberta_tokenizer(_path(files))


class CamembertTokenizerFast(PreTrainedTokenizerFast):
    """CamemBERT's tokenizer: a Unigram model of SentencePiece, `<s> A </s>` and `<s> A </s></s> B </s>`.

    Args and errors: see `PreTrainedTokenizerFast`; `vocab_file` is sentencepiece.bpe.model.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {"vocab_file": SENTENCEPIECE_FILE, "tokenizer_file": TOKENIZER_FILE}
    model_input_names: list[str] = ["input_ids", "attention_mask"]  # noqa: RUF012 - as in transformers
    special_defaults: ClassVar[dict[str, Any]] = {
        **FAIRSEQ_TOKENS,
        ADDITIONAL: ("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"),
    }
    mask_flags: ClassVar[dict[str, bool]] = {"lstrip": True}
    builds_rows = True
    own_settings = ("sp_model_kwargs",)

    def _built(self, files: Files) -> tokenizers.Tokenizer:
        return camembert_tokenizer(_path(files))


class BertTokenizerFast(PreTrainedTokenizerFast):
    """BERT's tokenizer, which some RoBERTa models have: WordPiece, `[CLS] A [SEP]` and `[CLS] A [SEP] B [SEP]`.

    Args:
        vocab_file: vocab.txt, a token a line.
        tokenizer_file: tokenizer.json, which takes precedence; the settings below apply to it too.
        settings: as in `PreTrainedTokenizerFast`, and
            do_lower_case: write texts in lower case, True by default;
            strip_accents: None for "where texts are written in lower case";
            tokenize_chinese_chars: make each Chinese character a word, True by default.

    Raises:
        CheckpointError: a file is missing or malformed, or lacks a special token.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {"vocab_file": WORDPIECE_FILE, "tokenizer_file": TOKENIZER_FILE}
    special_defaults: ClassVar[dict[str, str]] = {
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    }
    builds_rows = True
    own_settings = ("do_lower_case", "strip_accents", "tokenize_chinese_chars", "do_basic_tokenize", "never_split")

    def __init__(
        self, vocab_file: TextFile | None = None, tokenizer_file: TextFile | None = None, **settings: Any
    ) -> None:
        strip_accents = settings.setdefault("strip_accents", None)
        if strip_accents is not None:
            strip_accents = check_flag("strip_accents", strip_accents)
        self._normalization: dict[str, Any] = {
            "lowercase": check_flag("do_lower_case", settings.setdefault("do_lower_case", True)),
            "strip_accents": strip_accents,
            "handle_chinese_chars": check_flag(
                "tokenize_chinese_chars", settings.setdefault("tokenize_chinese_chars", True)
            ),
        }
        if tokenizer_file is None:  # a tokenizer.json leaves it to tokenizer_config.json, as in transformers
            settings.setdefault("clean_up_tokenization_spaces", True)
        tokens = {name: settings.get(name, default) for name, default in self.special_defaults.items()}
        self._texts_of_tokens = {name: str(token) for name, token in tokens.items()}
        super().__init__(vocab_file, tokenizer_file, **settings)

    def _use(self, vocabulary: Vocabulary) -> None:
        super()._use(vocabulary)
        # what the caller or tokenizer_config.json says takes precedence over tokenizer.json, as in transformers
        library = vocabulary.library
        state = None if library is None else part_state(library.normalizer)
        if library is not None and state is not None and state["type"] == "BertNormalizer":
            library.normalizer = part_of_state("normalizer", {**state, **self._normalization})

    def _built(self, files: Files) -> tokenizers.Tokenizer:
        texts = {name: self._texts_of_tokens[name] for name in ("unk_token", "cls_token", "sep_token")}
        return wordpiece_tokenizer(
            _path(files),
            **texts,
            lowercase=self._normalization["lowercase"],
            strip_accents=self._normalization["strip_accents"],
            splits_chinese=self._normalization["handle_chinese_chars"],
        )


class T5TokenizerFast(PreTrainedTokenizerFast):
    """T5's tokenizer, which some RoBERTa models have: a Unigram model of SentencePiece; only `</s>` after each text.

    Args:
        vocab_file: spiece.model.
        tokenizer_file: tokenizer.json, which takes precedence.
        settings: as in `PreTrainedTokenizerFast`, and
            extra_ids: the number of tokens `<extra_id_0>` and so on after the pieces, 100 by default;
            legacy: False for a space before the first word only, as in transformers.

    Raises:
        CheckpointError: a file is missing or malformed.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {"vocab_file": T5_FILE, "tokenizer_file": TOKENIZER_FILE}
    model_input_names: list[str] = ["input_ids", "attention_mask"]  # noqa: RUF012 - as in transformers
    special_defaults: ClassVar[dict[str, str]] = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    builds_rows = True
    own_settings = ("extra_ids", "legacy", "sp_model_kwargs")

    def __init__(
        self, vocab_file: TextFile | None = None, tokenizer_file: TextFile | None = None, **settings: Any
    ) -> None:
        self._extra_ids = settings.setdefault("extra_ids", 100)
        if type(self._extra_ids) is not int or self._extra_ids < 0:
            raise ArgumentError(f"extra_ids={self._extra_ids!r:.80} must be an int of at least 0")
        legacy = settings.get("legacy")
        self._prepend_scheme = "always" if legacy is None or legacy else "first"
        if settings.get(ADDITIONAL) is None:
            extra = (f"<extra_id_{number}>" for number in range(self._extra_ids))
            settings[ADDITIONAL] = [AddedToken(text, normalized=False, special=True) for text in extra]
        super().__init__(vocab_file, tokenizer_file, **settings)

    def _built(self, files: Files) -> tokenizers.Tokenizer:
        return t5_tokenizer(_path(files), self._extra_ids, self._prepend_scheme)


def _path(files: Files) -> Path:
    """The file of the vocabulary.

    Raises:
        TypeError: an open file; these formats are read by name.
    """
    path = files["vocab_file"]
    if not isinstance(path, str | Path):
        raise TypeError(f"vocab_file={path!r:.80} must be the name of a file")
    return Path(path)


CamembertTokenizer = CamembertTokenizerFast
XLMRobertaTokenizer = XLMRobertaTokenizerFast
BertTokenizer = BertTokenizerFast
T5Tokenizer = T5TokenizerFast
