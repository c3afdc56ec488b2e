"""Questions as windows over their contexts, each with the tokens of the answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from roberta.common.pipelines.windows import Text, TextWindow, spans, tokenised
from roberta.common.tokenizer.base import TokenizerBase
from roberta.common.training.data.batches import Feature
from roberta.common.training.data.examples import Answer, Question
from roberta.common.training.data.reading import Unusable


def of_questions(
    questions: Sequence[Question],
    number: int,
    tokenizer: TokenizerBase,
    max_length: int,
    stride: int,
    *,
    for_evaluation: bool,
    unusable: Unusable,
) -> Iterator[Feature]:
    """The features of questions: the windows that the pipeline `question-answering` reads; see `make_features`.

    Args:
        number: of the first question.
        unusable: what becomes of a question that leaves no room for its context.

    Raises:
        ValueError: there is such a question, and it is not to be skipped.
    """
    asked = tokenizer([one.question for one in questions], add_special_tokens=False, verbose=False)["input_ids"]
    unique = list(dict.fromkeys(one.context for one in questions))  # many questions share a context
    contexts = dict(zip(unique, tokenised(tokenizer, unique), strict=True))
    for index, (one, question) in enumerate(zip(questions, asked, strict=True), number):
        try:
            found = list(_windows(one, question, contexts[one.context], tokenizer, max_length, stride))
        except ValueError as error:
            unusable.note(error)
            continue
        for ids, window in found:
            start, end = positions(window, one.answers[0]) if one.answers else (0, 0)
            feature: dict[str, object] = {"input_ids": ids, "start_positions": start, "end_positions": end}
            if for_evaluation:
                feature |= {"example": index, "window": window, "offsets": window.offsets}
            yield feature


def _windows(
    one: Question, question: list[int], context: Text, tokenizer: TokenizerBase, max_length: int, stride: int
) -> Iterator[tuple[np.ndarray, TextWindow]]:
    """The ids of each window over a context, and the window."""
    layout = tokenizer.layout(pair=True)
    place = len(question) + len(layout.begin.ids) + len(layout.middle.ids)
    room = max_length - len(question) - layout.size
    if room <= stride and room < len(context.ids):
        raise ValueError(
            f"{one.where} has a question of {len(question)} tokens, which leaves {max(room, 0)} of {max_length} for "
            f"the context, no more than stride={stride}; raise max_length, lower stride, or remove the question"
        )
    for start, stop in spans(len(context.ids), room, stride if room > stride else 0):
        ids = layout.row(question, context.ids[start:stop].tolist())
        yield np.array(ids, np.int32), TextWindow(context, start, stop, place)


def positions(window: TextWindow, answer: Answer) -> tuple[int, int]:
    """Where the first and the last token of an answer are in the row of a window; (0, 0) where it has not both.

    White space at the ends of the answer is no part of it. A token that the answer has in part is in.
    """
    text = answer.text
    start = answer.start + len(text) - len(text.lstrip())
    end = answer.start + len(text.rstrip())
    offsets = window.text.offsets
    first = int(np.searchsorted(offsets[:, 1], start, side="right"))  # the first token that ends behind the start
    last = int(np.searchsorted(offsets[:, 0], end, side="left")) - 1  # the last one that starts before the end
    if first < window.start or last >= window.stop or last < first:
        return 0, 0
    shift = window.place - window.start
    return first + shift, last + shift
