"""Question answering: the spans of a context that answer a question, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from roberta.common.pipelines.arrays import softmax, top
from roberta.common.pipelines.base import Pipeline, Row
from roberta.common.pipelines.inputs import InputError, Item, PipelineOptions, fields_of, require_count, text_of, zipped
from roberta.common.pipelines.windows import Text, TextWindow, spans, tokenised
from roberta.common.vocabulary.bpe import token_bytes

LONGEST_WINDOW = 384  # tokens, question included, unless max_seq_len differs: SQuAD models are trained with it
LONGEST_STRIDE = 128
_FIELDS = {"question": True, "context": True}


@dataclass(frozen=True)
class AnswerOptions(PipelineOptions):
    """How answers are found.

    Args:
        top_k: answers to a question; a single one is not in a list.
        max_seq_len: tokens of a window, question included; None for 384, or what the model takes.
        doc_stride: tokens of the context that two windows share; None for 128, or half a window.
        max_question_len: tokens of the question that are kept; None for all.
        max_answer_len: tokens of an answer.
        handle_impossible_answer: "" is an answer too, with the score of `<s>`.
        align_to_words: widen an answer to whole words.
    """

    top_k: int = 1
    max_seq_len: int | None = None
    doc_stride: int | None = None
    max_question_len: int | None = None
    max_answer_len: int = 15
    handle_impossible_answer: bool = False
    align_to_words: bool = True

    def __post_init__(self) -> None:
        for name in ("top_k", "max_answer_len"):
            require_count(name, getattr(self, name))
            if getattr(self, name) is None:
                raise ValueError(f"{name}=None must be an int of at least 1")
        for name, least in (("max_seq_len", 1), ("max_question_len", 1), ("doc_stride", 0)):
            require_count(name, getattr(self, name), least)


class FoundSpans(NamedTuple):
    """The answers in a window: spans of its tokens, best first, their scores, and the score of no answer."""

    spans: np.ndarray
    scores: np.ndarray
    none: float


class Answer(Pipeline[AnswerOptions]):
    """Dicts {"question", "context"} in, answers out.

    The result is {"score", "start", "end", "answer"}, or with `top_k` above 1 a list of them, best first. `start`
    and `end` count characters of the context; "" with 0 and 0 is no answer. A long context is read in windows, each
    with probabilities of its own. Equal answers count as one: its score is the sum over its places in a window, and the
    highest of all windows. The score of no answer is the lowest of all windows, as in SQuAD 2.0: one window that is sure
    of an answer is enough.
    """

    task = "question-answering"
    head = "ForQuestionAnswering"
    gives_one_of_one = True

    def __call__(
        self,
        inputs: object = None,
        *,
        question: str | Sequence[str] | None = None,
        context: str | Sequence[str] | None = None,
        **options: Any,
    ) -> Any:
        """See `Pipeline.__call__`; `question` and `context`, texts or lists, are another way to give the inputs."""
        if inputs is None:
            inputs = zipped({"question": question, "context": context})
        elif question is not None or context is not None:
            raise ValueError("give inputs, or question and context, not both")
        return super().__call__(inputs, **options)

    def checked(self, item: Item) -> dict[str, str]:
        """The question, without leading white space, and the context; neither may be empty."""
        given = fields_of(item.value, item.name, _FIELDS)
        for field in _FIELDS:
            if not text_of(given[field], f"{item.name}[{field!r}]").strip():
                raise ValueError(f"{item.name}[{field!r}] is empty; give a text")
        # one question of SQuAD begins with thousands of spaces, each of them a token
        return {**given, "question": given["question"].lstrip()}

    def characters(self, item: Item) -> int:
        """Total length of question and context, in characters."""
        return len(item.value["question"]) + len(item.value["context"])

    def rows(self, items: Sequence[Item], options: AnswerOptions) -> list[list[Row]]:
        """A row for each window of each context."""
        asked = self.tokenizer([item.value["question"] for item in items], add_special_tokens=False, verbose=False)
        contexts = tokenised(self.tokenizer, [item.value["context"] for item in items])
        questions = [ids[: options.max_question_len] for ids in asked["input_ids"]]
        return [self.of_item(*three, options) for three in zip(items, questions, contexts, strict=True)]

    def of_item(self, item: Item, question: list[int], context: Text, options: AnswerOptions) -> list[Row]:
        """The rows of one question."""
        longest = min(self.limit, options.max_seq_len or LONGEST_WINDOW)
        stride = min(longest // 2, LONGEST_STRIDE) if options.doc_stride is None else options.doc_stride
        layout = self.tokenizer.layout(pair=True)
        place = len(question) + len(layout.begin.ids) + len(layout.middle.ids)
        room = longest - len(question) - layout.size
        if room <= stride and room < len(context.ids):
            raise InputError(
                item,
                f"has a question of {len(question)} tokens, which leaves {max(room, 0)} of {longest} for "
                f"the context, no more than doc_stride={stride}; raise max_seq_len, or lower doc_stride or "
                "max_question_len",
            )
        return [
            self.row_of(question, context.ids[start:stop].tolist(), TextWindow(context, start, stop, place))
            for start, stop in spans(len(context.ids), room, stride if room > stride else 0)
        ]

    def memory(self, rows: Sequence[Row], options: AnswerOptions) -> tuple[np.ndarray, int, bool]:
        """Two logits for each token."""
        return np.array([len(row.ids) for row in rows]), 16, True

    def run(self, rows: Sequence[Row], options: AnswerOptions) -> list[FoundSpans]:
        """The best spans of each window."""
        output = self.infer(rows)
        sides = zip(output["start_logits"], output["end_logits"], strict=True)
        return [self.found(row.note, *side, options) for row, side in zip(rows, sides, strict=True)]

    def found(self, window: TextWindow, start: np.ndarray, end: np.ndarray, options: AnswerOptions) -> FoundSpans:
        """The best spans of a window, by the probability of their start times that of their end.

        The probabilities are over the tokens of the context and `<s>`, which stands for no answer.
        """
        stop = window.place + window.stop - window.start
        starts, ends = (
            softmax(np.append(logits[:1], logits[window.place : stop]).astype(np.float64)) for logits in (start, end)
        )
        none = float(starts[0] * ends[0])
        scores = _span_scores(starts[1:], ends[1:], options.max_answer_len)
        # widened to words, several spans become one answer: this many leave top_k answers
        count = 2 * options.top_k + 10 if options.align_to_words else options.top_k
        best = top(scores.reshape(1, -1), min(count, scores.size))[0]
        if any(_is_blank(window, *divmod(place, scores.shape[1])) for place in best.tolist()):
            scores = scores * (np.arange(scores.shape[1]) >= _blank_runs(window)[:, None])
            best = top(scores.reshape(1, -1), min(count, scores.size))[0]
        first, more = np.divmod(best, scores.shape[1])
        is_span = first + more < len(scores)
        found = np.stack([first, first + more], axis=1)[is_span]
        return FoundSpans(found, scores.reshape(-1)[best][is_span], none)

    def result(self, item: Item, rows: Sequence[Row], values: Sequence[FoundSpans], options: AnswerOptions) -> Any:
        """The best answers of all windows."""
        answers: dict[str, dict[str, Any]] = {}
        for row, found in zip(rows, values, strict=True):
            for text, answer in self.of_window(item.value["context"], row.note, found, options).items():
                if text not in answers or answer["score"] > answers[text]["score"]:
                    answers[text] = answer
        best = list(answers.values())
        if options.handle_impossible_answer or not best:
            best.append({"score": min(found.none for found in values), "start": 0, "end": 0, "answer": ""})
        best = sorted(best, key=lambda answer: -answer["score"])[: options.top_k]
        return best[0] if len(best) == 1 else best

    def of_window(
        self, context: str, window: TextWindow, found: FoundSpans, options: AnswerOptions
    ) -> dict[str, dict[str, Any]]:
        """The answers of a window by their lower-case text; each at its likeliest place."""
        answers: dict[str, dict[str, Any]] = {}
        for span, score in zip(found.spans.tolist(), found.scores.tolist(), strict=True):
            start, end = characters(window, *span, to_words=options.align_to_words)
            text = context[start:end]
            if not text.strip():
                continue
            known = answers.setdefault(text.lower(), {"score": 0.0, "start": start, "end": end, "answer": text})
            known["score"] = min(known["score"] + score, 1.0)  # rounding may carry a sum beyond 1
        return answers


def _span_scores(starts: np.ndarray, ends: np.ndarray, longest: int) -> np.ndarray:
    """The score of each span, (tokens, longest): [i, j] is for token i to token i + j; 0 beyond the last token."""
    padded = np.append(ends, np.zeros(longest))
    scores: np.ndarray = starts[:, None] * np.lib.stride_tricks.sliding_window_view(padded, longest)[: len(starts)]
    return scores


def _is_blank(window: TextWindow, first: int, more: int) -> bool:
    """Whether token `first` and the `more` tokens after it are white space, which is not an answer."""
    tokens = window.tokens[first : first + more + 1]
    return not b"".join(map(token_bytes, tokens)).decode("utf-8", "replace").strip()


def _blank_runs(window: TextWindow) -> np.ndarray:
    """The length of the run of white space from each token on, (tokens,)."""
    runs = np.zeros(window.stop - window.start + 1, np.int64)
    for place in range(len(runs) - 2, -1, -1):
        runs[place] = runs[place + 1] + 1 if _is_blank(window, place, 0) else 0
    return runs[:-1]


def characters(window: TextWindow, first: int, last: int, *, to_words: bool) -> tuple[int, int]:
    """The characters from token `first` to token `last` of a window, or of the whole words that these belong to."""
    offsets = window.offsets
    if to_words:
        words = window.words
        first = int(np.flatnonzero(words == words[first])[0])
        last = int(np.flatnonzero(words == words[last])[-1])
    return int(offsets[first, 0]), int(offsets[last, 1])
