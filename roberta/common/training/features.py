"""Examples as the tokens of a model: features, which `collation` makes batches of.

Tokens and the labels of tokens are numpy arrays of int32: a list of Python ints takes ten times their memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from roberta.common.batching import windows
from roberta.common.config import RobertaConfig
from roberta.common.pipelines.answer import LONGEST_STRIDE, LONGEST_WINDOW
from roberta.common.tokenizer_base import TokenizerBase
from roberta.common.training.batches import Feature
from roberta.common.training.examples import Choice, Document, Example, LabelledText, LabelledWords, Question
from roberta.common.training.labels import Labels
from roberta.common.training.question_features import of_questions
from roberta.common.training.tasks import Task

_NO_TYPES = (
    "the tokenizer's rows have token types other than 0 (its post_processor), with which a training does not deal; take "
    '"token_type_ids" out of model_input_names, in tokenizer_config.json, to train without them'
)
CHUNK = 1000  # examples that are tokenised together
NO_LABEL = -100


@dataclass(frozen=True)
class Lengths:
    """How long features are.

    Attributes:
        max_length: tokens of a row, special tokens included.
        stride: of "question-answering": tokens that two windows share.
        truncation: cut what is longer; else it is an error. Contexts of questions are never cut, but read in windows.
    """

    max_length: int
    stride: int = 0
    truncation: bool = True


def make_lengths(
    task: Task,
    config: RobertaConfig,
    tokenizer: TokenizerBase,
    *,
    max_length: int | None = None,
    stride: int | None = None,
    truncation: bool = True,
) -> Lengths:
    """How long features of a task are, for a model.

    Args:
        max_length: None for what the model and the tokenizer take, and for questions for 384 if that is less.
        stride: None for 128, or half a window if that is less.

    Raises:
        ValueError: the model has no positions for so many tokens, or there is no room for any.
    """
    limit = config.max_length_tokens
    if max_length is None:
        is_question = task == "question-answering"
        max_length = min(limit, tokenizer.model_max_length, *([LONGEST_WINDOW] if is_question else []))
    if max_length > limit:
        raise ValueError(
            f"max_length={max_length} exceeds the {limit} tokens that this model has positions for "
            f"(max_position_embeddings={config.max_position_embeddings}); give at most {limit}"
        )
    if max_length < 5:  # <s> a </s></s> b </s> has no room for both
        raise ValueError(f"max_length={max_length} has no room for tokens beside the special ones; give at least 5")
    if task != "question-answering" and stride is not None:
        raise ValueError(f"stride={stride} is for question-answering; leave it out for {task}")
    half = min(max_length // 2, LONGEST_STRIDE)
    if stride is not None and not 0 <= stride < max_length:
        raise ValueError(f"stride={stride} must be at least 0 and below max_length={max_length}")
    return Lengths(max_length, (half if stride is None else stride) if task == "question-answering" else 0, truncation)


def make_features(
    examples: Iterable[Example],
    task: Task,
    tokenizer: TokenizerBase,
    lengths: Lengths,
    *,
    labels: Labels | None = None,
    for_evaluation: bool = False,
) -> list[Feature]:
    """The features of examples, in their order; of a question one for each window over its context.

    Args:
        labels: of the two classifications.
        for_evaluation: a feature of a question also has "example" (its number), "window"
            (`pipelines.answer.Window`) and "offsets" (the characters of the window's tokens), which find answers.

    Returns:
        Dictionaries, all with "input_ids":
        - text-classification: "labels", see `Labels.target`.
        - token-classification: "labels", (tokens,): at the first token of each word its label, else -100. Words that
          are cut off have none.
        - question-answering: "start_positions", "end_positions": of the answer's first and last token; 0, the
          place of `<s>`, where the window does not have all of it.
        - multiple-choice: "input_ids" is a list of rows, one a choice; "labels", the number of the right one.

    Raises:
        ValueError: a label is unknown, an example has too many tokens, or the task's examples are `make_documents`'s.
    """
    if task not in ("question-answering", *_MAKERS):
        raise ValueError(f"task={task!r} has documents, not features: see make_documents, and pack them into rows")
    pairs = task in ("question-answering", "multiple-choice")
    if "token_type_ids" in tokenizer.model_input_names and tokenizer.layout(pairs).has_types:
        raise ValueError(_NO_TYPES)
    if for_evaluation and task != "question-answering":
        raise ValueError(f"for_evaluation=True is for question-answering; leave it out for {task}")
    return list(_features(examples, task, tokenizer, lengths, labels, for_evaluation))


def _features(
    examples: Iterable[Example],
    task: Task,
    tokenizer: TokenizerBase,
    lengths: Lengths,
    labels: Labels | None,
    for_evaluation: bool,
) -> Iterator[Feature]:
    number = 0
    for chunk in windows(examples, CHUNK):
        if task == "question-answering":
            questions = cast(list[Question], chunk)
            yield from of_questions(
                questions, number, tokenizer, lengths.max_length, lengths.stride, for_evaluation=for_evaluation
            )
        else:
            yield from _MAKERS[task](chunk, tokenizer, lengths, labels)
        number += len(chunk)


def _rows(
    texts: Sequence[Any], places: Sequence[str], tokenizer: TokenizerBase, lengths: Lengths, *, is_words: bool = False
) -> Any:
    """The tokens of texts, or of pairs of them, none longer than allowed; `places` name them in errors."""
    batch = tokenizer(
        list(texts),
        is_split_into_words=is_words,
        truncation=lengths.truncation,
        max_length=lengths.max_length if lengths.truncation else None,
        verbose=False,
    )
    for ids, where in zip(batch["input_ids"], places, strict=True):
        if len(ids) > lengths.max_length:
            raise ValueError(
                f"{where} has {len(ids)} tokens, and a row takes {lengths.max_length}; shorten it, raise max_length if "
                "the model has positions for it, or cut it with truncation=True"
            )
    return batch


def _texts(
    chunk: Sequence[LabelledText], tokenizer: TokenizerBase, lengths: Lengths, labels: Labels | None
) -> Iterator[Feature]:
    assert labels is not None, "classification has labels"
    has_types = "token_type_ids" in tokenizer.model_input_names and tokenizer.layout(pair=True).has_types
    if has_types and any(example.text2 is not None for example in chunk):
        raise ValueError(_NO_TYPES)
    texts = [example.text if example.text2 is None else (example.text, example.text2) for example in chunk]
    rows = _rows(texts, [example.where for example in chunk], tokenizer, lengths)["input_ids"]
    for example, ids in zip(chunk, rows, strict=True):
        yield {"input_ids": np.array(ids, np.int32), "labels": labels.target(example.label, example.where)}


def _words(
    chunk: Sequence[LabelledWords], tokenizer: TokenizerBase, lengths: Lengths, labels: Labels | None
) -> Iterator[Feature]:
    assert labels is not None, "classification has labels"
    # a space is put before every word, the first one too: RoBERTa's vocabulary has other tokens for words without
    words = [list(example.words) for example in chunk]
    batch = _rows(words, [example.where for example in chunk], tokenizer, lengths, is_words=True)
    for number, example in enumerate(chunk):
        ids = [labels.id_of(label, example.where) for label in example.labels]
        of_tokens = first_tokens(batch.word_ids(number), ids)
        yield {"input_ids": np.array(batch["input_ids"][number], np.int32), "labels": of_tokens}


def first_tokens(words: Sequence[int | None], labels: Sequence[int]) -> np.ndarray:
    """The label of each word at its first token, -100 elsewhere.

    Args:
        words: the number of the word of each token; None for special tokens.
        labels: of each word.

    Returns:
        int32, (tokens,). Example: words [None, 0, 0, 1, None], labels [3, 4] -> [-100, 3, -100, 4, -100].
    """
    before = [None, *words[:-1]]
    found = [
        NO_LABEL if word is None or word == last else labels[word] for last, word in zip(before, words, strict=True)
    ]
    return np.array(found, np.int32)


def _choices(
    chunk: Sequence[Choice], tokenizer: TokenizerBase, lengths: Lengths, labels: Labels | None
) -> Iterator[Feature]:
    assert labels is None, "choices have no names"
    pairs = [(example.prompt, choice) for example in chunk for choice in example.choices]
    places = [example.where for example in chunk for _ in example.choices]
    rows = iter(_rows(pairs, places, tokenizer, lengths)["input_ids"])
    for example in chunk:
        ids = [np.array(next(rows), np.int32) for _ in example.choices]
        if len(ids) != len(chunk[0].choices):
            raise ValueError(
                f"{example.where} has {len(ids)} choices, and {chunk[0].where} has {len(chunk[0].choices)}; give all "
                "examples as many"
            )
        yield {"input_ids": ids, "labels": example.label}


_MAKERS: dict[Task, Callable[[Any, TokenizerBase, Lengths, Labels | None], Iterator[Feature]]] = {
    "text-classification": _texts,
    "token-classification": _words,
    "multiple-choice": _choices,
}


def make_documents(documents: Iterable[Document], tokenizer: TokenizerBase) -> Iterator[list[np.ndarray]]:
    """The sentences of each document as int32 arrays of ids without special tokens, ready to be packed into rows.

    A stream is tokenised as it is read, so that of a large file no more is in memory than one document.
    """
    sentences = ((number, text) for number, document in enumerate(documents) for text in document.sentences)
    rows = itertools.chain.from_iterable(_sentences(chunk, tokenizer) for chunk in windows(sentences, CHUNK))
    for _, group in itertools.groupby(rows, key=lambda row: row[0]):
        yield [ids for _, ids in group]


def _sentences(chunk: Sequence[tuple[int, str]], tokenizer: TokenizerBase) -> list[tuple[int, np.ndarray]]:
    """The number of the document and the ids of each sentence."""
    found = tokenizer([text for _, text in chunk], add_special_tokens=False, verbose=False)["input_ids"]
    return [(number, np.array(ids, np.int32)) for (number, _), ids in zip(chunk, found, strict=True)]
