"""Examples -> features: the tokens that a model reads, which `collation` makes batches of.

Tokens and the labels of tokens are numpy arrays of int32: lists of Python ints take ten times the memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import numpy as np

from roberta.common.config import RobertaConfig
from roberta.common.inference.batching import lists_of
from roberta.common.pipelines.answer import LONGEST_STRIDE, LONGEST_WINDOW
from roberta.common.pipelines.windows import Text, TextWindow, spans, tokenised
from roberta.common.tokenizer.base import TokenizerBase
from roberta.common.training.data.batches import Feature
from roberta.common.training.data.fields import (
    AnswerSpan,
    Document,
    Example,
    LabelledText,
    LabelledWords,
    MultipleChoice,
    Question,
)
from roberta.common.training.data.labels import Labels
from roberta.common.training.data.records import Unusable
from roberta.common.training.data.tasks import Task
from roberta.common.values import IGNORED

_NO_TYPES = (
    "the tokenizer's rows have token types other than 0 (by its post_processor), which training does not support; remove "
    '"token_type_ids" from model_input_names, in tokenizer_config.json, to train without them'
)
_CHUNK = 1000  # examples that are tokenised together


@dataclass(frozen=True)
class Lengths:
    """How long features are.

    Attributes:
        max_length: tokens of a row, special tokens included.
        stride: tokens that two windows of "question-answering" share.
        truncation: cut what is longer; otherwise it is an error. Contexts of questions are read in windows, never cut.
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
        max_length: None for what the model and the tokenizer take, but at most 384 for questions.
        stride: None for 128, or half a window if that is less.

    Raises:
        ValueError: the model has too few positions, or there is no room for a token.
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
        raise ValueError(f"stride={stride} is for question-answering; omit it for {task}")
    half = min(max_length // 2, LONGEST_STRIDE)
    if stride is not None and not 0 <= stride < max_length:
        raise ValueError(f"stride={stride} must be at least 0 and below max_length={max_length}")
    return Lengths(max_length, (half if stride is None else stride) if task == "question-answering" else 0, truncation)


@dataclass
class Making:
    """What happens to examples while features are made of them.

    Attributes:
        unusable: what to do with an example that cannot be used.
        cut: examples that were longer than a row, and were cut.
        choices: how many choices the first example has, and where it is.
    """

    unusable: Unusable = field(default_factory=Unusable)
    cut: int = 0
    choices: tuple[int, str] | None = None


def make_features(
    examples: Iterable[Example],
    task: Task,
    tokenizer: TokenizerBase,
    lengths: Lengths,
    *,
    labels: Labels | None = None,
    for_evaluation: bool = False,
    making: Making | None = None,
) -> list[Feature]:
    """The features of examples, in their order; a question has one for each window over its context.

    Args:
        labels: for the two classifications.
        making: says what to do with examples that cannot be used, and counts; None makes the first an error.
        for_evaluation: a feature of a question also has "example" (its number), "window"
            (`pipelines.windows.TextWindow`) and "offsets" (the characters of the window's tokens), which find answers.

    Returns:
        Dictionaries, all with "input_ids", and:
        - text-classification: "labels", see `Labels.target`.
        - token-classification: "labels", (tokens,): the label of each word at its first token, -100 elsewhere. Words
          that are cut off have none.
        - question-answering: "start_positions", "end_positions": of the answer's first and last token; 0, the
          place of `<s>`, where the window does not hold the whole answer.
        - multiple-choice: "input_ids" is a list of rows, one a choice; "labels", the number of the right one.

    Raises:
        ValueError: a label is unknown, an example has too many tokens, or the task needs `make_documents`.
    """
    if task not in ("question-answering", *_MAKERS):
        raise ValueError(f"task={task!r} has documents, not features: use make_documents, and pack them into rows")
    pairs = task in ("question-answering", "multiple-choice")
    if "token_type_ids" in tokenizer.model_input_names and tokenizer.layout(pairs).has_types:
        raise ValueError(_NO_TYPES)
    if for_evaluation and task != "question-answering":
        raise ValueError(f"for_evaluation=True is for question-answering; omit it for {task}")
    making = making or Making()
    features: list[Feature] = []
    number = 0
    for chunk in lists_of(examples, _CHUNK):
        if task == "question-answering":
            questions = cast(list[Question], chunk)
            features += _of_questions(questions, number, tokenizer, lengths, making, for_evaluation=for_evaluation)
        else:
            features += _MAKERS[task](chunk, tokenizer, lengths, labels, making)
        number += len(chunk)
    return features


def _rows(
    texts: Sequence[str | tuple[str, str]], tokenizer: TokenizerBase, lengths: Lengths
) -> Iterator[Callable[[str], tuple[list[int], bool]]]:
    """For each text or pair a function: where it is from -> its row of tokens, and whether some were cut off.

    The tokens are those of a call with `truncation=True`, but here the whole length is known.
    """
    parts = [part for text in texts for part in ((text,) if isinstance(text, str) else text)]
    ids = iter(tokenizer(parts, add_special_tokens=False, verbose=False)["input_ids"])
    for text in texts:
        first = next(ids)
        yield partial(_row, tokenizer, lengths, first, None if isinstance(text, str) else next(ids))


def _row(
    tokenizer: TokenizerBase, lengths: Lengths, first: list[int], second: list[int] | None, where: str
) -> tuple[list[int], bool]:
    first, second, is_cut = _fitted(tokenizer, lengths, first, second, where)
    return tokenizer.layout(pair=second is not None).row(first, second), is_cut


def _fitted(
    tokenizer: TokenizerBase, lengths: Lengths, first: Any, second: Any, where: str
) -> tuple[Any, Any, bool]:  # fmt: skip
    """The part of a text or a pair that fits into a row beside special tokens, and whether anything was cut off."""
    excess = len(first) + len(second or ()) + tokenizer.num_special_tokens_to_add(second is not None)
    excess -= lengths.max_length
    if excess <= 0:
        return first, second, False
    if not lengths.truncation:
        raise ValueError(
            f"{where} has {excess + lengths.max_length} tokens, and a row takes {lengths.max_length}; shorten it, raise "
            "max_length if the model has positions for it, or cut it with truncation=True"
        )
    return *tokenizer.truncate_sequences(first, second, excess)[:2], True


def _texts(
    chunk: Sequence[LabelledText], tokenizer: TokenizerBase, lengths: Lengths, labels: Labels | None, making: Making
) -> Iterator[Feature]:
    assert labels is not None, "classification has labels"
    has_types = "token_type_ids" in tokenizer.model_input_names and tokenizer.layout(pair=True).has_types
    if has_types and any(example.text2 is not None for example in chunk):
        raise ValueError(_NO_TYPES)
    texts = [example.text if example.text2 is None else (example.text, example.text2) for example in chunk]
    for example, row in zip(chunk, _rows(texts, tokenizer, lengths), strict=True):
        with making.unusable.noted():
            ids, is_cut = row(example.where)
            target = labels.target(example.label, example.where)
            making.cut += is_cut
            yield {"input_ids": np.array(ids, np.int32), "labels": target}


def _words(
    chunk: Sequence[LabelledWords], tokenizer: TokenizerBase, lengths: Lengths, labels: Labels | None, making: Making
) -> Iterator[Feature]:
    assert labels is not None, "classification has labels"
    layout = tokenizer.layout()
    # every word gets a space before it, the first one too: RoBERTa's vocabulary has other tokens for words without
    batch = tokenizer(
        [list(example.words) for example in chunk], is_split_into_words=True, add_special_tokens=False, verbose=False
    )
    for number, (example, ids) in enumerate(zip(chunk, batch["input_ids"], strict=True)):
        with making.unusable.noted():
            kept, _, is_cut = _fitted(tokenizer, lengths, ids, None, example.where)
            of_words, _, _ = _fitted(tokenizer, lengths, batch.word_ids(number), None, example.where)
            targets = [labels.id_of(label, example.where) for label in example.labels]
            making.cut += is_cut
            places = [*[None] * len(layout.begin.ids), *of_words, *[None] * len(layout.end.ids)]
            row = layout.row(kept, None)
            yield {"input_ids": np.array(row, np.int32), "labels": _at_first_tokens(places, targets)}


def _at_first_tokens(words: Sequence[int | None], labels: Sequence[int]) -> np.ndarray:
    """The label of each word at its first token, -100 elsewhere.

    Args:
        words: the number of the word of each token; None for special tokens.
        labels: of each word.

    Returns:
        int32, (tokens,). Example: words [None, 0, 0, 1, None], labels [3, 4] -> [-100, 3, -100, 4, -100].
    """
    before = [None, *words[:-1]]
    starts = [None if word == last else word for last, word in zip(before, words, strict=True)]
    return np.array([IGNORED if word is None else labels[word] for word in starts], np.int32)


def _choices(
    chunk: Sequence[MultipleChoice], tokenizer: TokenizerBase, lengths: Lengths, labels: Labels | None, making: Making
) -> Iterator[Feature]:
    assert labels is None, "choices have no names"
    pairs = [(example.prompt, choice) for example in chunk for choice in example.choices]
    rows = _rows(pairs, tokenizer, lengths)
    for example in chunk:
        of_choices = [next(rows) for _ in example.choices]
        with making.unusable.noted():
            making.choices = making.choices or (len(of_choices), example.where)
            count, where = making.choices
            if count != len(of_choices):
                raise ValueError(
                    f"{example.where} has {len(of_choices)} choices, and {where} has {count}; give all examples the same "
                    "number"
                )
            made = [row(example.where) for row in of_choices]
            making.cut += any(is_cut for _, is_cut in made)
            yield {"input_ids": [np.array(ids, np.int32) for ids, _ in made], "labels": example.label}


_MAKERS: dict[Task, Callable[[Any, TokenizerBase, Lengths, Labels | None, Making], Iterator[Feature]]] = {
    "text-classification": _texts,
    "token-classification": _words,
    "multiple-choice": _choices,
}


def make_documents(documents: Iterable[Document], tokenizer: TokenizerBase) -> Iterator[list[np.ndarray]]:
    """The sentences of each document as int32 arrays of ids without special tokens, ready to be packed into rows.

    A stream is tokenised as it is read, so that only one document of a large file is in memory.
    """
    sentences = ((number, text) for number, document in enumerate(documents) for text in document.sentences)
    rows = itertools.chain.from_iterable(_sentences(chunk, tokenizer) for chunk in lists_of(sentences, _CHUNK))
    for _, group in itertools.groupby(rows, key=lambda row: row[0]):
        yield [ids for _, ids in group]


def _sentences(chunk: Sequence[tuple[int, str]], tokenizer: TokenizerBase) -> list[tuple[int, np.ndarray]]:
    """The number of the document and the ids of each sentence."""
    found = tokenizer([text for _, text in chunk], add_special_tokens=False, verbose=False)["input_ids"]
    return [(number, np.array(ids, np.int32)) for (number, _), ids in zip(chunk, found, strict=True)]


# -- questions as windows over their contexts, each with the tokens of the answer --------------------------------------


def _of_questions(
    questions: Sequence[Question], number: int, tokenizer: TokenizerBase, lengths: Lengths, making: Making, *,
    for_evaluation: bool,
) -> Iterator[Feature]:  # fmt: skip
    """The features of questions: the windows that the pipeline `question-answering` reads; `number` is of the first."""
    asked = tokenizer([one.question for one in questions], add_special_tokens=False, verbose=False)["input_ids"]
    unique = list(dict.fromkeys(one.context for one in questions))  # many questions share a context
    contexts = dict(zip(unique, tokenised(tokenizer, unique), strict=True))
    for index, (one, question) in enumerate(zip(questions, asked, strict=True), number):
        with making.unusable.noted():
            for ids, window in _windows(one, question, contexts[one.context], tokenizer, lengths):
                start, end = _positions(window, one.answers[0]) if one.answers else (0, 0)
                feature: dict[str, object] = {"input_ids": ids, "start_positions": start, "end_positions": end}
                if for_evaluation:
                    feature |= {"example": index, "window": window, "offsets": window.offsets}
                yield feature


def _windows(
    one: Question, question: list[int], context: Text, tokenizer: TokenizerBase, lengths: Lengths
) -> Iterator[tuple[np.ndarray, TextWindow]]:
    """The ids of each window over a context, and the window; `ValueError` if the question leaves no room for any."""
    layout = tokenizer.layout(pair=True)
    place = len(question) + len(layout.begin.ids) + len(layout.middle.ids)
    room = lengths.max_length - len(question) - layout.size
    if room <= lengths.stride and room < len(context.ids):
        raise ValueError(
            f"{one.where} has a question of {len(question)} tokens, which leaves {max(room, 0)} of {lengths.max_length} "
            f"for the context, no more than stride={lengths.stride}; raise max_length, lower stride, or remove the question"
        )
    for start, stop in spans(len(context.ids), room, lengths.stride if room > lengths.stride else 0):
        ids = layout.row(question, context.ids[start:stop].tolist())
        yield np.array(ids, np.int32), TextWindow(context, start, stop, place)


def _positions(window: TextWindow, answer: AnswerSpan) -> tuple[int, int]:
    """The places of an answer's first and last token in the row of a window; (0, 0) where it lacks one of them.

    White space at the ends of the answer does not count. A token that is partly in the answer does.
    """
    text = answer.text
    start = answer.start + len(text) - len(text.lstrip())
    end = answer.start + len(text.rstrip())
    offsets = window.text.offsets
    first = int(np.searchsorted(offsets[:, 1], start, side="right"))  # the first token that ends after the start
    last = int(np.searchsorted(offsets[:, 0], end, side="left")) - 1  # the last one that starts before the end
    if first < window.start or last >= window.stop or last < first:
        return 0, 0
    shift = window.place - window.start
    return first + shift, last + shift
