"""What all pipelines share: lists and streams, invalid input, each task. The model is PyTorch's own forward pass."""

from __future__ import annotations

import itertools
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import backend as get_backend
from pipeline_cases import FRANCE, LENGTH, LONG, RAILWAY, TEXTS, make_models
from standin import stand_in

from roberta import pipeline

TASKS = {  # task -> the model, options, and inputs of different lengths
    "fill-mask": ("words", {}, [f"{text[:40]}<mask>{text[40:]}" for text in TEXTS]),
    "text-classification": ("labels", {"top_k": None}, [{"text": text} for text in TEXTS]),
    "zero-shot-classification": ("nli", {"candidate_labels": ["towns", "the sea"]}, TEXTS),
    "token-classification": ("tags", {"aggregation_strategy": "average", "stride": 5}, [*TEXTS, LONG]),
    "question-answering": ("answers", {"top_k": 3}, [{"question": "Who?", "context": text} for text in [*TEXTS, LONG]]),
    "multiple-choice": (
        "choices", {"top_k": None}, [{"prompt": text, "choices": TEXTS[: 1 + n]} for n, text in enumerate(TEXTS)],
    ),
    "embeddings": ("plain", {}, TEXTS),
    "feature-extraction": ("plain", {}, TEXTS),
    "text-generation": ("writes", {"do_sample": False, "max_new_tokens": 5}, TEXTS),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    get_backend("pt")
    made = tmp_path_factory.mktemp("models")
    make_models(made)
    return made


HEADS = {
    "words": "ForMaskedLM", "labels": "ForSequenceClassification", "nli": "ForSequenceClassification",
    "tags": "ForTokenClassification", "answers": "ForQuestionAnswering", "choices": "ForMultipleChoice",
    "plain": "Model", "writes": "ForCausalLM",
}  # fmt: skip


def make(task: str, folder: Path, name: str | None = None, **options: Any) -> Any:
    """A pipeline on a stand-in."""
    name = name or TASKS[task][0]
    return pipeline(task, stand_in(HEADS[name], folder / name), folder / name, **options)


def assert_alike(found: Any, wanted: Any) -> None:
    if isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for key, value in wanted.items():
            assert_alike(found[key], value)
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_alike(one, other)
    elif isinstance(wanted, float | np.ndarray):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
    else:
        assert found == wanted


# -- one, many, streams ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_each_of_a_list_has_the_result_it_has_alone(folder: Path, task: str) -> None:
    _, options, inputs = TASKS[task]
    pipe = make(task, folder, **options)
    assert_alike(pipe(inputs), [pipe(value) for value in inputs])


@pytest.mark.parametrize("task", TASKS)
def test_a_stream_gives_what_a_list_gives(folder: Path, task: str) -> None:
    _, options, inputs = TASKS[task]
    pipe = make(task, folder, **options)
    found = pipe(iter(inputs))
    assert isinstance(found, Iterator)
    assert_alike(list(found), pipe(inputs))


@pytest.mark.parametrize("task", TASKS)
def test_an_empty_list_has_no_results(folder: Path, task: str) -> None:
    assert make(task, folder)([]) == []


def test_a_stream_without_end_is_read_as_its_results_are_asked_for(folder: Path) -> None:
    taken = itertools.count()
    results = make("text-classification", folder)(TEXTS[next(taken) % 6] for _ in itertools.count())
    assert next(taken) == 0
    assert next(results).keys() == {"label", "score"}
    assert next(taken) < 20


def test_a_long_stream_needs_no_more_memory_than_a_short_one(folder: Path) -> None:
    pipe = make("fill-mask", folder)

    def peak(texts: int) -> int:
        tracemalloc.start()
        for _ in pipe(f"{TEXTS[number % 6]}<mask>" for number in range(texts)):
            pass
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(32)
    windows = 16 + 32 + 64 + 128 + 256 + 512 + 1024
    assert peak(windows + 1024) < 1.2 * peak(windows)


def test_rows_of_like_length_go_through_the_model_together(folder: Path) -> None:
    model = stand_in("Model", folder / "plain")
    import roberta.common.pipelines.base as base

    pipe = pipeline("embeddings", model, folder / "plain")
    pipe(TEXTS)
    assert len(model.seen) == 1
    shapes: list[tuple[int, ...]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "RESULT_BYTES", 100 * 8 * 24)  # a hundred tokens of hidden states
        model.seen.clear()
        pipe(TEXTS * 4)
        shapes = list(model.seen)
    assert sum(rows for rows, _ in shapes) == 24
    assert all(rows * tokens <= 100 or rows == 1 for rows, tokens in shapes)
    assert [tokens for _, tokens in shapes] == sorted((tokens for _, tokens in shapes), reverse=True)


def test_long_work_has_a_bar_on_a_terminal_and_none_elsewhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import roberta.common.pipelines.base as base

    monkeypatch.setattr(base, "PROGRESS_SECONDS", 0)
    make("text-classification", folder)(TEXTS)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    make("text-classification", folder, progress=False)(TEXTS)
    assert capsys.readouterr().err == ""
    make("text-classification", folder)(TEXTS)
    assert "6/6" in capsys.readouterr().err


# -- invalid input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [task for task in TASKS if task not in ("question-answering", "multiple-choice")])
def test_of_100_000_texts_the_one_that_is_none_is_named_before_any_work(folder: Path, task: str) -> None:
    pipe = make(task, folder)
    texts: list[Any] = ["a text"] * 100_000
    texts[73_210] = 5
    with pytest.raises(ValueError, match=r"inputs\[73210\] is 5 \(int\)"):
        pipe(texts)
    assert pipe.model.seen == []


@pytest.mark.parametrize("value", [None, 5, 2.5, b"bytes", {"no": "text"}, object()])
def test_what_is_no_text_is_refused(folder: Path, value: Any) -> None:
    for task in ("text-classification", "embeddings"):
        with pytest.raises(ValueError, match="the input "):
            make(task, folder)(value)


def test_half_a_character_is_named_with_its_text(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"inputs\[1\] has half a character .* at 3"):
        make("text-classification", folder)(["a", "abc\ud800"])


@pytest.mark.parametrize("bad", [5, "no mask here", "<mask>" * (LENGTH + 1)])
def test_the_results_before_a_bad_input_of_a_stream_come_first(folder: Path, bad: Any) -> None:
    pipe = make("fill-mask", folder, top_k=1)
    results = pipe(iter(["a<mask>", "b<mask>", bad, "c<mask>"]))
    assert [next(results), next(results)] == [pipe("a<mask>"), pipe("b<mask>")]
    with pytest.raises(ValueError, match=r"inputs\[2\]"):
        next(results)


def test_a_text_without_the_mask_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"inputs\[1\] has no <mask> to fill: 'nothing'"):
        make("fill-mask", folder)(["a<mask>", "nothing"])


def test_an_empty_text_has_a_result(folder: Path) -> None:
    assert make("text-classification", folder)("")[0]["label"] in ("no", "yes", "perhaps")
    assert make("token-classification", folder)("") == []
    assert make("embeddings", folder)("").shape == (24,)


@pytest.mark.parametrize("field", ["question", "context"])
@pytest.mark.parametrize("value", ["", "  \n", 5])
def test_an_empty_question_or_context_is_named(folder: Path, field: str, value: Any) -> None:
    good = {"question": "Who?", "context": RAILWAY}
    with pytest.raises(ValueError, match=rf"inputs\[1\]\['{field}'\] is "):
        make("question-answering", folder)([good, {**good, field: value}])


@pytest.mark.parametrize(
    "value", [{"question": "Who?"}, {"question": "a", "context": "b", "extra": "c"}, "a", ["a", "b"]]
)
def test_other_fields_than_question_and_context_are_named(folder: Path, value: Any) -> None:
    with pytest.raises(ValueError, match=r"lacks context|unknown field extra|not a dict with question, context"):
        make("question-answering", folder)([value])


def test_a_context_of_a_megabyte_is_answered_from_all_of_it_in_bounded_memory(folder: Path) -> None:
    pipe = make("question-answering", folder, max_seq_len=64, doc_stride=8)
    context = f"{TEXTS[4]} " * (2**20 // 79)
    best = pipe(question="Who?", context=context)
    assert context[best["start"] : best["end"]] == best["answer"]
    assert max(rows * tokens for rows, tokens in pipe.model.seen) * 16 <= 64 * 2**20
    once = pipe(question="Who?", context=context[:2000])
    assert once["score"] <= best["score"] <= 1  # the same answers, window for window, are not added


def test_a_text_that_is_too_long_is_named_with_the_way_out(folder: Path) -> None:
    pipe = make("text-classification", folder)
    with pytest.raises(ValueError, match=rf"inputs\[1\] has \d+ tokens, and the model takes {LENGTH}; truncation=True"):
        pipe(["short", LONG])
    assert len(pipe(["short", LONG], truncation=True)) == 2


@pytest.mark.parametrize("labels", [{0: "a", 1: "b"}, {0: "a", 1: "b", 3: "c"}, dict.fromkeys(range(4), "x")])
def test_a_label_set_that_does_not_fit_the_model_is_shown(folder: Path, labels: dict[int, str]) -> None:
    pipe = make("text-classification", folder)
    pipe.model.config.id2label = labels
    with pytest.raises(ValueError, match=r"the model gives 3 scores, but config.id2label names .*; id2label needs one"):
        pipe(FRANCE)


def test_a_label_set_that_does_not_fit_a_tagger_is_shown(folder: Path) -> None:
    pipe = make("token-classification", folder)
    pipe.model.config.id2label = {0: "O"}
    with pytest.raises(ValueError, match="the model gives 5 scores"):
        pipe(FRANCE)


@pytest.mark.parametrize("budget", [0, -5, 2.5, True])
def test_a_budget_without_a_token_is_refused(folder: Path, budget: Any) -> None:
    with pytest.raises(ValueError, match="batch_tokens must be an int of at least 1"):
        make("embeddings", folder, batch_tokens=budget)


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("fill-mask", {"top_k": 0}, "top_k=0 must be an int of at least 1"),
        ("fill-mask", {"targets": []}, "targets is empty"),
        ("fill-mask", {"max_length": 9}, "max_length=9 has no effect without truncation=True"),
        ("text-classification", {"function_to_apply": "tanh"}, "'tanh' must be one of softmax, sigmoid, none"),
        ("text-classification", {"top_k": "all"}, "top_k='all' must be an int"),
        ("token-classification", {"aggregation_strategy": "mean"}, "'mean' must be one of none, simple, first, average"),
        ("token-classification", {"stride": 9}, 'stride=9 needs an aggregation_strategy other than "none"'),
        ("token-classification", {"ignore_labels": "O"}, "ignore_labels='O' must be a list"),
        ("question-answering", {"top_k": None}, "top_k=None must be an int"),
        ("question-answering", {"doc_stride": -1}, "doc_stride=-1 must be an int of at least 0"),
        ("embeddings", {"pooling": "median"}, "pooling='median' must be one of mean, cls, max, mean_sqrt_len_tokens"),
        ("text-generation", {"handle_long_generation": "cut"}, 'must be "hole" or None'),
    ],
)  # fmt: skip
def test_a_value_that_cannot_work_is_refused_with_the_rule(task: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipeline(task, "no-such-folder", **options)


def test_an_option_that_does_not_exist_is_named_with_those_that_do(folder: Path) -> None:
    with pytest.raises(TypeError, match=r"top is not an option of this pipeline; the options are .*top_k, targets"):
        make("fill-mask", folder)("a<mask>", top=2)
    with pytest.raises(TypeError, match="return_all_scores is an older name; pass top_k=None"):
        make("text-classification", folder, return_all_scores=True)
    with pytest.raises(TypeError, match="batch_size is not an option: batch_tokens"):
        make("fill-mask", folder, batch_size=8)


def test_an_unknown_task_is_shown_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"task='summarization' must be one of fill-mask, .*, ner"):
        pipeline("summarization", "x")
