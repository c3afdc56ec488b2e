"""How a vocabulary is learned from texts, by the trainers of the tokenizers library."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import models, pre_tokenizers, trainers
from tqdm import tqdm

from roberta.common.storage.folders import CheckpointError
from roberta.common.tokenizer.base import refuse_surrogate
from roberta.common.vocabulary.files import Vocabulary
from roberta.common.vocabulary.library_parts import is_panic, part_state
from roberta.common.vocabulary.special_tokens import AddedToken, Token, flags
from roberta.common.vocabulary.subword_files import CONTINUES, WORD_END, word_splitter

Texts = Iterable[str] | Iterable[Sequence[str]] | Iterable[str | Sequence[str]]


def byte_level_vocabulary(
    texts: Texts,
    vocab_size: int,
    *,
    min_frequency: int,
    special_tokens: Sequence[Token],
    length: int | None,
    show_progress: bool,
    add_prefix_space: bool,
) -> Vocabulary:
    """A vocabulary for RoBERTa's byte-level BPE.

    Args:
        special_tokens: these get the ids 0, 1, 2, ...
        length: the number of texts, for the progress bar.

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
    tokenizer.train_from_iterator(_counted(texts, length, show_progress), trainer=trainer, length=length)
    return _trained(tokenizer)


def library_like(
    library: tokenizers.Tokenizer,
    texts: Texts,
    vocab_size: int,
    *,
    unk_token: str | None,
    min_frequency: int,
    special_tokens: Sequence[str],
    length: int | None,
    show_progress: bool,
) -> tokenizers.Tokenizer:
    """A tokenizer of the same kind and with the same steps around its model, which is learned from the texts.

    Raises:
        ValueError: the library cannot learn such a vocabulary.
    """
    model = library.model
    # a model of the kind, with its settings and without its tokens
    names = {
        "BPE": ("unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback"),
        "WordPiece": ("unk_token", "max_input_chars_per_word", "continuing_subword_prefix"),
        "WordLevel": ("unk_token",),
        "Unigram": (),
    }
    kind = type(model).__name__
    kept = {name: getattr(model, name) for name in names[kind]}
    if unk_token is not None and kept.get("unk_token") is not None:
        kept["unk_token"] = unk_token
    made = tokenizers.Tokenizer(getattr(models, kind)(**{n: value for n, value in kept.items() if value is not None}))
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        if getattr(library, part) is not None:
            setattr(made, part, getattr(library, part))
    # its trainer
    options: dict[str, Any] = {"vocab_size": vocab_size, "special_tokens": list(special_tokens), "show_progress": False}
    if kind == "Unigram":
        options["unk_token"] = unk_token
    else:
        options["min_frequency"] = min_frequency
    if kind in ("BPE", "WordPiece"):
        affixes = ("continuing_subword_prefix", "end_of_word_suffix")
        options |= {name: kept[name] for name in affixes if kept.get(name)}
    if kind == "BPE" and "ByteLevel" in json.dumps(part_state(library.pre_tokenizer)):
        options["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
    trainer = getattr(trainers, f"{kind.replace('BPE', 'Bpe')}Trainer")(**options)
    try:
        made.train_from_iterator(_counted(texts, length, show_progress), trainer=trainer, length=length)
    except ValueError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise ValueError(
            f"the tokenizers library cannot learn a {kind} vocabulary of {vocab_size} tokens from these texts: {error}; "
            "give more texts, or another vocab_size"
        ) from error
    return made


def learned_subwords(
    texts: Texts,
    vocab_size: int,
    *,
    first: int,
    written: Callable[[str], str] | None,
    min_frequency: int,
    special_tokens: Sequence[str],
    length: int | None,
    show_progress: bool,
) -> Vocabulary:
    """A vocabulary of parts of words, as PhoBERT has it.

    Args:
        first: how many special tokens come first; the others count in `vocab_size` and are added later.
        written: what is done to each text first; None for nothing.

    Raises:
        ValueError: a vocabulary without room for a symbol.
    """
    room = vocab_size - len(special_tokens)
    if room < 1:
        raise ValueError(f"vocab_size={vocab_size!r} must be more than the {len(special_tokens)} special tokens")
    tokenizer = tokenizers.Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    tokenizer.pre_tokenizer = word_splitter()
    trainer = trainers.BpeTrainer(
        vocab_size=room, min_frequency=min_frequency, end_of_word_suffix=WORD_END, show_progress=False
    )
    # a newline cannot stand in the files, so it stays unknown, as in PhoBERT
    lines = (text.replace("\n", " ") for text in _counted(texts, length, show_progress))
    tokenizer.train_from_iterator(lines if written is None else map(written, lines), trainer=trainer, length=length)
    trained = _trained(tokenizer)
    tokens = {token: index for index, token in enumerate(special_tokens[:first])}
    for symbol in sorted(trained.tokens, key=trained.tokens.__getitem__):
        token = symbol.removesuffix(WORD_END) if symbol.endswith(WORD_END) else symbol + CONTINUES
        tokens.setdefault(token, len(tokens))
    return Vocabulary(tokens, trained.merges)


def _counted(texts: Texts, length: int | None, show_progress: bool) -> Iterable[str]:
    """The texts one by one, with a progress bar."""
    bar: Iterable[str] = tqdm(_texts(texts), total=length, desc="reading", unit=" texts", disable=not show_progress)
    return bar


def _trained(tokenizer: tokenizers.Tokenizer) -> Vocabulary:
    """The vocabulary and merges that the library's trainer learned."""
    model = json.loads(tokenizer.to_str())["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return Vocabulary(model["vocab"], "\n".join(merges))


def renamed_token(token: Token | None, renamed: Mapping[str, str]) -> Token | None:
    """A special token under its new text, matched as before."""
    if isinstance(token, AddedToken):
        return AddedToken(renamed.get(token.content, token.content), **flags(token))
    return None if token is None else renamed.get(token, token)


def least_size(special_tokens: Sequence[Token]) -> int:
    """The size of the smallest byte-level vocabulary: the special tokens and the bytes."""
    return 256 + len(special_tokens)


def _check_size(vocab_size: int, special_tokens: Sequence[Token]) -> None:
    """Raise `ValueError` for a vocabulary without room for the special tokens and the bytes."""
    least = least_size(special_tokens)
    if isinstance(vocab_size, bool) or not isinstance(vocab_size, int) or vocab_size < least:
        raise ValueError(
            f"vocab_size={vocab_size!r} must be an int of at least {least}: 256 bytes and "
            f"{len(special_tokens)} special tokens"
        )


def lines_of_files(source: str | Path | Iterable[str | Path | Sequence[str]]) -> Iterator[str]:
    """The lines of files, with their line ends; the texts of an iterator that gives texts."""
    if isinstance(source, str | Path):
        source = [source]
    if isinstance(source, list | tuple):
        are_files = all(isinstance(item, str | Path) for item in source)
    else:
        source = iter(source)
        first = list(islice(source, 1))
        source = chain(first, source)
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
