"""RobertaTokenizerFast: the tokenizer on the tokenizers library, and how a vocabulary is trained."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Self

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
from tqdm import tqdm

from roberta.common.storage.folders import CheckpointError
from roberta.common.tokenizer.base import Engine, TokenizerBase, refuse_surrogate
from roberta.common.tokenizer.encoding import Span
from roberta.common.tokenizer.offsets import exact_spans
from roberta.common.tokenizer.python import RobertaTokenizer
from roberta.common.vocabulary.bpe import SPACE
from roberta.common.vocabulary.files import TextFile, Vocabulary, merge_lines, read_tokenizer_text
from roberta.common.vocabulary.special_tokens import SPECIAL_TOKEN_NAMES, AddedToken, Token, flags
from roberta.common.vocabulary.template import read_template, with_tokens


class AlignedEncoding:
    """A library encoding with the interface `padding.Aligned`; each list is made when it is first read."""

    def __init__(self, encoding: tokenizers.Encoding) -> None:
        self.encoding = encoding

    @property
    def ids(self) -> list[int]:
        """The id of each token."""
        ids: list[int] = self.encoding.ids
        return ids

    @cached_property
    def tokens(self) -> list[str]:
        """Each token; of an added token the text that it took, white space included."""
        tokens: list[str] = self.encoding.tokens
        return tokens

    @cached_property
    def offsets(self) -> list[Span]:
        """The characters of each token."""
        return self.spans()

    @cached_property
    def words(self) -> list[int | None]:
        """The number of the word, or pre-token, of each token."""
        words: list[int | None] = self.encoding.word_ids
        return words

    def spans(self) -> list[Span]:
        """The same as `offsets`, not kept."""
        offsets: list[Span] = self.encoding.offsets
        return offsets


class ExactEncoding(AlignedEncoding):
    """The same, where the library's offsets are wrong: its trimming removes a space that was put before a text.

    Args:
        text: a text, or the words of one.
        added: the ids of added tokens.
    """

    def __init__(
        self,
        encoding: tokenizers.Encoding,
        text: str | Sequence[str],
        added: Container[int],
        *,
        trim: bool,
        prefixed: bool,
    ) -> None:
        super().__init__(encoding)
        self.text = text
        self.exact = partial(exact_spans, added=added, trim=trim, prefixed=prefixed)

    def spans(self) -> list[Span]:
        """The same as `offsets`, not kept."""
        return self.exact(self.text, self.words, self.ids, self.tokens, super().spans())


class LibraryEngine(Engine):
    """Texts to ids and alignments, by the tokenizers library.

    The library's own truncation, padding and templates are not used: they panic at odd options or ignore them, and
    without them an engine has no state that two threads could change.
    """

    def __init__(self, model: models.BPE, added: Mapping[int, AddedToken], add_prefix_space: bool) -> None:
        self.model = model
        self.added = dict(added)
        self.add_prefix_space = add_prefix_space
        # the library treats this letter as a space wherever it stands
        self.has_odd = any(SPACE in token.content for token in added.values())
        self._tokenizers: dict[tuple[bool, bool], tokenizers.Tokenizer] = {}

    def tokenizer(self, is_words: bool, trim: bool) -> tokenizers.Tokenizer:
        """The library's tokenizer: with or without a space before each word, and trimming offsets or not."""
        key = (self.add_prefix_space or is_words, trim)
        if key not in self._tokenizers:
            self._tokenizers[key] = library_tokenizer(self.model, self.added, *key)
        return self._tokenizers[key]

    def ids(self, texts: Sequence[Any], is_words: bool) -> list[list[int]]:
        """The ids of each text, without special tokens around."""
        encode = self.tokenizer(is_words, False).encode_batch_fast
        try:
            return [row.ids for row in encode(texts, is_pretokenized=is_words, add_special_tokens=False)]
        except TypeError:
            refuse_surrogate(texts)
            raise

    def align(self, texts: Sequence[Any], is_words: bool, trim: bool) -> Sequence[AlignedEncoding]:
        """The ids, tokens, offsets and words of each text; offsets with `trim` without the white space at the ends."""
        prefixed = self.add_prefix_space or is_words
        is_exact = not (prefixed or self.has_odd)
        encode = self.tokenizer(is_words, trim and is_exact).encode_batch
        try:
            rows = encode(texts, is_pretokenized=is_words, add_special_tokens=False)
        except TypeError:
            refuse_surrogate(texts)
            raise
        if is_exact:
            return list(map(AlignedEncoding, rows))
        return [
            ExactEncoding(row, text, self.added, trim=trim, prefixed=prefixed)
            for row, text in zip(rows, texts, strict=True)
        ]


def library_tokenizer(
    model: models.BPE, added: Mapping[int, AddedToken], add_prefix_space: bool, trim: bool
) -> tokenizers.Tokenizer:
    """A tokenizer of the library around a model (which is shared, not copied), without a template."""
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    if trim:
        # the template of this processor is never applied, only its trimming
        tokenizer.post_processor = processors.RobertaProcessing(
            ("", 0), ("", 0), trim_offsets=True, add_prefix_space=False
        )
    for index, token in sorted(added.items()):
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
        if tokenizer.token_to_id(token.content) != index:
            raise _wrong_id(token, index, tokenizer.token_to_id(token.content))
    return tokenizer


def _check_added(tokens: Mapping[str, int], added: Mapping[int, AddedToken]) -> None:
    """Raise `ValueError` unless the library, which numbers added tokens itself, gives each the id it has here."""
    free, own = len(tokens), {}
    for index, token in sorted(added.items()):
        if token.content not in own:
            own[token.content] = tokens.get(token.content, free)
            free += own[token.content] == free
        if own[token.content] != index:
            raise _wrong_id(token, index, own[token.content])


def _wrong_id(token: AddedToken, index: int, own: int | None) -> ValueError:
    return ValueError(
        f"the added token {token.content!r} has the id {index}, but the next free id, or its own in the vocabulary, "
        f"is {own}; ids of added tokens follow the vocabulary without a gap"
    )


class Backend:
    """A tokenizer of the library that the user holds, and may change.

    Args:
        made_of: what it was made of; when that changes, it is replaced.
    """

    parts = ("normalizer", "pre_tokenizer", "post_processor", "decoder")

    def __init__(self, tokenizer: tokenizers.Tokenizer, made_of: object) -> None:
        self.tokenizer = tokenizer
        self.made_of = made_of
        self.seen = {part: self._state(part) for part in self.parts}

    def _state(self, part: str) -> bytes | None:
        value = getattr(self.tokenizer, part)
        return None if value is None else bytes(value.__getstate__())

    def changes(self) -> Iterator[tuple[str, Any]]:
        """Each part that has changed since the last call, as tokenizer.json writes it."""
        for part in self.parts:
            state = self._state(part)
            if state != self.seen[part]:
                yield part, None if state is None else json.loads(state)
                self.seen[part] = state


class RobertaTokenizerFast(TokenizerBase):
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

    is_fast: ClassVar[bool] = True
    slow_tokenizer_class: ClassVar[type[TokenizerBase] | None] = RobertaTokenizer

    _model: models.BPE | None = None

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
        tokenizer_object = settings.pop("tokenizer_object", None)
        if tokenizer_object is not None:
            settings["vocabulary"] = read_tokenizer_text(tokenizer_object.to_str())
        super().__init__(
            files=(vocab_file, merges_file, tokenizer_file),
            errors=errors,
            named={name: given[name] for name in SPECIAL_TOKEN_NAMES},
            add_prefix_space=add_prefix_space,
            trim_offsets=trim_offsets,
            **settings,
        )
        _check_added(self._vocabulary, self._added)

    def _make_engine(self, added: Mapping[int, AddedToken], add_prefix_space: bool) -> LibraryEngine:
        if self._model is None:
            merges = [(left, right) for left, right in (merge.split(" ") for merge in merge_lines(self._merges))]
            self._model = models.BPE(vocab=dict(self._vocabulary), merges=merges)
        return LibraryEngine(self._model, added, add_prefix_space)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_model": None, "_backend": None}

    # -- the library's tokenizer -----------------------------------------------------------------------------------

    _backend: Backend | None = None

    @property
    def backend_tokenizer(self) -> tokenizers.Tokenizer:
        """A tokenizer of the library with the vocabulary, tokens and settings of this one.

        Changes to its `post_processor`, or to the `add_prefix_space` of its `pre_tokenizer`, apply here too.
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

    @property
    def can_save_slow_tokenizer(self) -> bool:
        """True: every tokenizer here can write vocab.json and merges.txt."""
        return True

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
        """Take over changes to the library's tokenizer, if the user holds it.

        Raises:
            ValueError: a change that is not supported here.
        """
        if self._backend is None:
            return
        for name, value in self._backend.changes():
            if name == "post_processor":
                template = read_template("backend_tokenizer.post_processor", value)
                self._template = self._fixed_template(template, None)
            elif (
                name == "pre_tokenizer" and value and value.get("type") == "ByteLevel" and value.get("use_regex", True)
            ):
                self.add_prefix_space = bool(value.get("add_prefix_space", True))
            else:
                raise ValueError(
                    f"backend_tokenizer.{name} was set to {value!r:.80}, which RoBERTa's tokenizer does not have; "
                    f"use a tokenizers.Tokenizer for it, for instance a copy of this one's: "
                    "tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())"
                )

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
            _lines(files),
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
        _check_size(vocab_size, special_tokens)
        tokenizer = tokenizers.Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            special_tokens=[str(token) for token in special_tokens],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,  # the bar here counts texts, in every terminal
        )
        bar = tqdm(_texts(texts), total=length, desc="reading", unit=" texts", disable=not show_progress)
        tokenizer.train_from_iterator(bar, trainer=trainer, length=length)
        return cls(vocabulary=_trained(tokenizer), add_prefix_space=add_prefix_space, **settings)

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
            vocab_size: tokens; however small, a vocabulary has its special tokens and the 256 bytes.
            new_special_tokens: further special tokens.
            special_tokens_map: old text -> new text of special tokens.
        """
        renamed = special_tokens_map or {}
        kept = [
            renamed.get(token.content, token.content) for token in self.added_tokens_decoder.values() if token.special
        ]
        new = [str(token) for token in new_special_tokens or ()]
        named = {name: _renamed(token, renamed) for name, token in self._named.items()}
        additional = [_renamed(token, renamed) for token in self._additional]
        special = list(dict.fromkeys([*kept, *new]))
        return type(self).train_from_iterator(
            text_iterator,
            max(vocab_size, _least_size(special)),
            min_frequency=min_frequency,
            special_tokens=special,
            length=length,
            show_progress=show_progress,
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
            **named,
        )

    def _processor_of_tokens(self, renamed: Mapping[str, str]) -> Any:
        """The post_processor with tokens under their new texts; the new vocabulary sets the ids."""
        if self._template is None:
            return None
        return with_tokens(self._template.processor, renamed, lambda token: 0)


def _renamed(token: Token | None, renamed: Mapping[str, str]) -> Token | None:
    """A special token under its new text, matched as before."""
    if isinstance(token, AddedToken):
        return AddedToken(renamed.get(token.content, token.content), **flags(token))
    return None if token is None else renamed.get(token, token)


def _least_size(special_tokens: Sequence[Token]) -> int:
    return 256 + len(special_tokens)


def _check_size(vocab_size: int, special_tokens: Sequence[Token]) -> None:
    """Raise `ValueError` for a vocabulary without room for the special tokens and the bytes."""
    least = _least_size(special_tokens)
    if isinstance(vocab_size, bool) or not isinstance(vocab_size, int) or vocab_size < least:
        raise ValueError(
            f"vocab_size={vocab_size!r} must be an int of at least {least}: 256 bytes and "
            f"{len(special_tokens)} special tokens"
        )


def _lines(source: str | Path | Iterable[str | Path | Sequence[str]]) -> Iterator[str]:
    """The lines of files, with their line ends; the texts of an iterator that gives texts."""
    if isinstance(source, str | Path):
        source = [source]
    if isinstance(source, list | tuple):
        are_files = all(isinstance(item, str | Path) for item in source)
    else:
        source = iter(source)
        first = list(itertools.islice(source, 1))
        source = itertools.chain(first, source)
        are_files = bool(first) and (isinstance(first[0], Path) or _is_file(first[0]))
    return chain.from_iterable(map(_lines_of, source)) if are_files else _texts(source)


def _lines_of(path: object) -> Iterator[str]:
    """The lines of one file."""
    if not isinstance(path, str | Path):
        raise ValueError(f"a file to train on is a str or a Path, not {path!r:.80}; texts go to train_from_iterator")
    try:
        with open(path, encoding="utf-8", newline="") as lines:
            yield from lines
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{str(path)!r:.200} cannot be read as a file of text to train on: {error}; texts go to train_from_iterator"
        ) from None


def _texts(source: Iterable[object]) -> Iterator[str]:
    """The texts of an iterator, and of the lists in it, one by one."""
    if isinstance(source, str | Path):
        raise ValueError(f"texts={source!r:.80} must be a list or an iterator of texts; files go to train")
    for item in source:
        if isinstance(item, str):
            refuse_surrogate([item])
            yield item
        elif isinstance(item, list | tuple) and all(isinstance(text, str) for text in item):
            refuse_surrogate(item)
            yield from item
        else:
            raise ValueError(f"a text to train on is a str or a list of them, not {item!r:.80}")


def _is_file(item: object) -> bool:
    """Whether it is the name of a file; `os.path.isfile` is False for what cannot be a name."""
    return isinstance(item, str) and os.path.isfile(item)


def _trained(tokenizer: tokenizers.Tokenizer) -> Vocabulary:
    """The vocabulary and merges that the library's trainer learned."""
    model = json.loads(tokenizer.to_str())["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return Vocabulary(model["vocab"], "\n".join(merges))
