"""RobertaTokenizerFast: RoBERTa's tokenizer on the tokenizers library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from roberta.common.tokenizer.base import TokenizerBase
from roberta.common.tokenizer.library import PreTrainedTokenizerFast
from roberta.common.tokenizer.python import RobertaTokenizer
from roberta.common.tokenizer.vocabulary_training import byte_level_vocabulary, lines_of_files
from roberta.common.vocabulary.files import TextFile
from roberta.common.vocabulary.special_tokens import SPECIAL_TOKEN_NAMES, Token


class RobertaTokenizerFast(PreTrainedTokenizerFast):
    """RoBERTa's tokenizer on the tokenizers library: a byte-level BPE, `<s> A </s>` and `<s> A </s></s> B </s>`.

    Args:
        vocab_file: vocab.json: token -> id.
        merges_file: merges.txt: a merge a line, best first.
        tokenizer_file: tokenizer.json, which takes precedence.
        errors: how decoding treats bytes that are not valid UTF-8: "replace", "ignore" or "strict".
        bos_token, eos_token, sep_token, cls_token, unk_token, pad_token, mask_token: the special tokens; those the
            vocabulary lacks are added after it.
        add_prefix_space: begin each text, and what follows an added token, with a space where it has none.
        trim_offsets: exclude the space before a word from its offsets.
        settings: see `TokenizerSettings`; and `tokenizer_object`, a tokenizer of the library in place of files, which
            is read and not kept.

    Raises:
        CheckpointError: a file is missing or malformed.
    """

    slow_tokenizer_class: ClassVar[type[TokenizerBase] | None] = RobertaTokenizer
    vocab_files_names: ClassVar[dict[str, str]] = TokenizerBase.vocab_files_names
    model_input_names: list[str] = list(TokenizerBase.model_input_names)  # noqa: RUF012 - transformers' attribute of the class
    words_take_spaces: ClassVar[bool] = True
    builds_rows: ClassVar[bool] = True

    def __init__(
        self,
        vocab_file: TextFile | None = None,
        merges_file: TextFile | None = None,
        tokenizer_file: TextFile | None = None,
        errors: str = "replace",
        bos_token: Token | None = "<s>",
        eos_token: Token | None = "</s>",
        sep_token: Token | None = "</s>",
        cls_token: Token | None = "<s>",
        unk_token: Token | None = "<unk>",
        pad_token: Token | None = "<pad>",
        mask_token: Token | None = "<mask>",
        add_prefix_space: bool | None = None,
        trim_offsets: bool | None = None,
        **settings: Any,
    ) -> None:
        given = locals()
        super().__init__(
            vocab_file,
            tokenizer_file,
            merges_file=merges_file,
            errors=errors,
            **{name: given[name] for name in SPECIAL_TOKEN_NAMES},
            add_prefix_space=add_prefix_space,
            trim_offsets=trim_offsets,
            **settings,
        )

    # RoBERTa's own files, special tokens and rows, whatever other tokenizers have
    _read_vocabulary = TokenizerBase._read_vocabulary
    _as_special = TokenizerBase._as_special
    _fixed_template = TokenizerBase._fixed_template

    # -- training ------------------------------------------------------------------------------------------------

    @classmethod
    def train(
        cls,
        files: str | Path | Iterable[str | Path | Sequence[str]],
        vocab_size: int = 50265,
        *,
        min_frequency: int = 2,
        special_tokens: Sequence[Token] = ("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
        length: int | None = None,
        show_progress: bool = True,
        add_prefix_space: bool = False,
        **settings: Any,
    ) -> Self:
        """A tokenizer with a vocabulary of its own, learned from files.

        Args:
            files: a file, or several, which are read line by line. An iterator whose first str is not the name of a
                file is read as one of texts, as by `train_from_iterator`.
            vocab_size: tokens, the special tokens and the 256 bytes included.
            min_frequency: how often two neighbours must occur to be merged.
            special_tokens: these get the ids 0, 1, 2, ...
            length: the number of texts, for the progress bar.
            settings: arguments of the constructor.

        Raises:
            ValueError: a vocabulary too small for its special tokens and the bytes.
            CheckpointError: a file is missing.
        """
        return cls.train_from_iterator(
            lines_of_files(files),
            vocab_size,
            min_frequency=min_frequency,
            special_tokens=special_tokens,
            length=length,
            show_progress=show_progress,
            add_prefix_space=add_prefix_space,
            **settings,
        )

    @classmethod
    def train_from_iterator(
        cls,
        texts: Iterable[str | Sequence[str]],
        vocab_size: int = 50265,
        *,
        min_frequency: int = 2,
        special_tokens: Sequence[Token] = ("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
        length: int | None = None,
        show_progress: bool = True,
        add_prefix_space: bool = False,
        **settings: Any,
    ) -> Self:
        """The same, learned from texts: one by one, or in lists.

        Raises:
            ValueError: a vocabulary too small for its special tokens and the bytes; something that is not a text.
        """
        vocabulary = byte_level_vocabulary(
            texts,
            vocab_size,
            min_frequency=min_frequency,
            special_tokens=special_tokens,
            length=length,
            show_progress=show_progress,
            add_prefix_space=add_prefix_space,
        )
        return cls(vocabulary=vocabulary, add_prefix_space=add_prefix_space, **settings)
