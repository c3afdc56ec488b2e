"""Answers from several windows, with a stub whose probabilities are written by hand, and SQuAD's rule for no answer.

SQuAD 2.0's rule (Rajpurkar et al. 2018; BERT's evaluation): no answer gets the lowest score of all windows, an answer
the highest, and the higher of the two decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from checkpoints import small_config
from pipeline_cases import TEXTS

from roberta import RobertaTokenizerFast
from roberta.common.pipelines.answer import Answer, AnswerOptions
from roberta.common.training.data.collation import Collator
from roberta.common.training.data.features import Lengths, make_features
from roberta.common.training.data.fields import AnswerSpan as Right
from roberta.common.training.data.fields import Question
from roberta.common.training.evaluation import Evaluation, Questions

TINY = 1e-9
NO = "<s>"
Said = Mapping[str, float]  # the probability of no answer and of words, as starts and as ends; its square is the score


@pytest.fixture(scope="module")
def tokenizer() -> RobertaTokenizerFast:
    return RobertaTokenizerFast.train(iter([*TEXTS * 4, "Paris London is"]), 400, show_progress=False)


class Stub:
    """Returns for each window the probabilities written down for its number, without words that the window lacks."""

    head, framework, name_or_path = "ForQuestionAnswering", "pt", ""

    def __init__(self, tokenizer: Any, said: Sequence[Said], first: str = "") -> None:
        self.config = small_config(self.head, vocab_size=len(tokenizer), max_position_embeddings=402)
        self.tokenizer, self.said = tokenizer, said

    def infer(self, batch: Mapping[str, np.ndarray], **_: Any) -> dict[str, np.ndarray]:
        logits = np.full(batch["input_ids"].shape, np.log(TINY))
        for number, (row, ids) in enumerate(zip(logits, batch["input_ids"], strict=True)):
            tokens = self.tokenizer.convert_ids_to_tokens(ids)
            for word, probability in self.said[number % len(self.said)].items():
                places = [0] if word == NO else [at for at, token in enumerate(tokens) if token == word]
                row[places] = np.log(probability / max(len(places), 1))
        return {"start_logits": logits, "end_logits": logits}


CONTEXT = " ".join(["it is"] * 10 + ["Paris"] + ["it is"] * 10)
SAID = {NO: 0.276**0.5, "ĠParis": 1 - 0.276**0.5}  # squares: no answer .276, Paris .225


def asked(tokenizer: Any, said: Sequence[Said], context: str, **options: Any) -> Any:
    pipe = Answer(Stub(tokenizer, said), tokenizer, AnswerOptions(), progress=False)
    return pipe(question="Where?", context=context, top_k=5, **options)


def windows(tokenizer: Any, count: int) -> dict[str, int]:
    """Lengths that give so many windows of the context; of two or more, each has Paris in its middle, which all share."""
    size = len(tokenizer(CONTEXT, add_special_tokens=False)["input_ids"])
    around = len(tokenizer("Where?", "")["input_ids"]) + 2
    room = size - count + 1
    return {"max_seq_len": room + around, "doc_stride": room - 1}


@pytest.mark.parametrize("count", [1, 2, 5])
def test_windows_that_say_no_answer_are_not_outvoted_by_their_number(tokenizer: Any, count: int) -> None:
    found = asked(tokenizer, [SAID], CONTEXT, handle_impossible_answer=True, **windows(tokenizer, count))
    assert [answer["answer"] for answer in found[:2]] == ["", "Paris"]
    assert found[0]["score"] == pytest.approx(0.276, rel=1e-5)
    assert found[1]["score"] == pytest.approx((1 - 0.276**0.5) ** 2, rel=1e-5)
    start = CONTEXT.index("Paris")
    assert (found[1]["start"], found[1]["end"]) == (start, start + 5)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_sure_answer_that_all_windows_share_has_a_probability(tokenizer: Any, count: int) -> None:
    found = asked(tokenizer, [{NO: 1e-4, "ĠParis": 1 - 1e-4}], CONTEXT, **windows(tokenizer, count))
    assert found[0]["answer"] == "Paris"
    assert found[0]["score"] == pytest.approx((1 - 1e-4) ** 2, rel=1e-5)
    assert all(0 <= answer["score"] <= 1 for answer in found)


def test_one_window_that_is_sure_of_an_answer_is_enough(tokenizer: Any) -> None:
    said = [{NO: 0.999}, {NO: 0.3, "ĠParis": 0.7}, {NO: 0.999}]
    found = asked(tokenizer, said, CONTEXT, handle_impossible_answer=True, **windows(tokenizer, 3))
    assert [answer["answer"] for answer in found[:2]] == ["Paris", ""]
    assert [answer["score"] for answer in found[:2]] == pytest.approx([0.49, 0.09], rel=1e-4)


def test_the_window_that_is_surest_of_an_answer_counts(tokenizer: Any) -> None:
    said = [{NO: 0.4, "ĠParis": 0.6}, {NO: 0.2, "ĠParis": 0.8}]
    found = asked(tokenizer, said, CONTEXT, **windows(tokenizer, 2))
    assert found[0]["score"] == pytest.approx(0.64, rel=1e-5)


def test_an_answer_at_two_places_of_one_window_has_both_probabilities(tokenizer: Any) -> None:
    found = asked(
        tokenizer, [{NO: 0.4, "ĠParis": 0.6}], "it is Paris it is it is it is it is it is Paris", max_answer_len=1
    )
    assert found[0]["answer"] == "Paris"
    assert found[0]["score"] == pytest.approx(2 * 0.3**2, rel=1e-5)


def test_white_space_is_no_answer(tokenizer: Any) -> None:
    said = [{NO: 0.1, "Ċ": 0.6, "ĠParis": 0.3}]
    found = asked(tokenizer, said, "it is\nit is Paris", align_to_words=False, max_answer_len=1)
    assert found[0]["answer"] == "Paris"
    assert "" not in {answer["answer"].strip() for answer in found}


def test_white_space_before_a_question_is_no_part_of_it(tokenizer: Any) -> None:
    pipe = Answer(Stub(tokenizer, [SAID]), tokenizer, AnswerOptions(), progress=False)
    wanted = pipe(question="Where?", context=CONTEXT)
    assert pipe(question=" " * 3000 + "\n\tWhere?", context=CONTEXT) == wanted


@pytest.mark.parametrize(
    ("answers", "said", "wanted"),
    [
        ([()], [SAID], {"exact": 1.0, "f1": 1.0, "no_answer": 1.0}),
        ([("Paris",)], [SAID], {"exact": 1.0, "f1": 1.0}),  # where all questions have answers, "no answer" is not one
        ([("Paris",), ()], [SAID], {"exact": 0.5, "f1": 0.5, "no_answer": 1.0}),
        ([("Paris",), ()], [{NO: 0.4, "ĠParis": 0.6}], {"exact": 0.5, "f1": 0.5, "no_answer": 0.0}),
        ([("Paris it",)], [{NO: 0.4, "ĠParis": 0.6}], {"exact": 0.0, "f1": 2 / 3}),
    ],
)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_evaluation_goes_by_the_same_rule(
    tokenizer: Any, answers: list[tuple[str, ...]], said: Sequence[Said], wanted: dict[str, float], count: int
) -> None:
    items = [
        Question(str(number), "Where?", CONTEXT, tuple(Right(text, CONTEXT.index(text)) for text in texts), "here")
        for number, texts in enumerate(answers)
    ]
    sizes = windows(tokenizer, count)
    features = make_features(
        items, "question-answering", tokenizer, Lengths(sizes["max_seq_len"], sizes["doc_stride"]), for_evaluation=True
    )
    assert len(features) == count * len(items)
    evaluation = Evaluation(
        "question-answering", features, Collator("question-answering", 128, 1), questions=Questions(items, tokenizer)
    )
    found = evaluation(Stub(tokenizer, said))
    del found["loss"]
    assert found == pytest.approx(wanted)
