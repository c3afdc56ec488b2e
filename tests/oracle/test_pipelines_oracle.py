"""Pipelines compared with those of transformers 4.57: the same keys, the same values.

Run as a program, this file is the peer: `python test_pipelines_oracle.py FOLDER` in an environment with transformers
4.57 runs every case on the models in FOLDER in float64 and writes peer.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from pipeline_cases import FRANCE, LONG, MODELS, RAILWAY, TEXTS, Case, make_models

MASKED = "The capital of<mask> is Paris."
MASKS = "The<mask> of France is<mask>."
PAIR = {"text": "Who wrote the book?", "text_pair": "Nobody knows."}
ASK = {"question": "Who opened the station?", "context": RAILWAY}
TOPICS = ["towns", "ships and the sea", "books"]
GREEDY = {"do_sample": False, "max_new_tokens": 6}
# Words separated by single spaces, each of whose first tokens has letters: here transformers finds the true words.
PLAIN = (
    "The capital of France is Paris and Anna Schmidt lives in New York City since the mayor Carl Jones opened the "
    "station in May Nobody knows who wrote the old book about the sea came back in the evening of Lisbon"
)
CASES: dict[str, Case] = {
    "mask": Case("fill-mask", "words", {}, MASKED),
    "mask, list of one": Case("fill-mask", "words", {}, [MASKED]),
    "mask, list": Case("fill-mask", "words", {}, [MASKED, "<mask> reads."]),
    "mask, list with several": Case("fill-mask", "words", {}, [MASKED, MASKS]),
    "mask, top 2": Case("fill-mask", "words", {"top_k": 2}, MASKED),
    "mask, top 3 in the call": Case("fill-mask", "words", {"top_k": 2}, MASKED, {"top_k": 3}),
    "masks": Case("fill-mask", "words", {}, MASKS),
    "masks, list of one": Case("fill-mask", "words", {}, [MASKS]),
    "mask, targets": Case("fill-mask", "words", {}, MASKED, {"targets": [" the", " France", " harbour"]}),
    "mask, one target": Case("fill-mask", "words", {}, MASKED, {"targets": " the"}),
    "mask, target twice": Case("fill-mask", "words", {}, MASKED, {"targets": ["a", "a", "Ġthe"], "top_k": 9}),
    "mask, targets and masks": Case("fill-mask", "words", {"targets": ["a", "b"]}, MASKS),
    "mask, truncated": Case(
        "fill-mask", "words", {"tokenizer_kwargs": {"truncation": True}}, MASKED + LONG + LONG, {"top_k": 1}
    ),
    "no mask": Case("fill-mask", "words", {}, "nothing"),
    "no targets": Case("fill-mask", "words", {}, MASKED, {"targets": [""]}),
    **{
        f"classify, {model}, {name}": Case("text-classification", model, made, inputs, call)
        for model in ("labels", "several", "number", "regression")
        for name, made, inputs, call in [
            ("one", {}, FRANCE, {}),
            ("list", {}, TEXTS, {}),
            ("top none", {"top_k": None}, FRANCE, {}),
        ]
    },
    **{
        f"classify, {name}": Case("text-classification", "labels", made, inputs, call)
        for name, made, inputs, call in [
            ("list of one", {}, [FRANCE], {}),
            ("list, top none", {"top_k": None}, TEXTS[:2], {}),
            ("list, top none in the call", {}, TEXTS[:2], {"top_k": None}),
            ("top none in the call", {}, FRANCE, {"top_k": None}),
            ("top 1", {"top_k": 1}, FRANCE, {}),
            ("top 1 in the call", {}, FRANCE, {"top_k": 1}),
            ("list, top 1", {"top_k": 1}, TEXTS[:2], {}),
            ("list, top 1 in the call", {}, TEXTS[:2], {"top_k": 1}),
            ("top 2", {}, FRANCE, {"top_k": 2}),
            ("top 9", {}, FRANCE, {"top_k": 9}),
            ("pair", {}, PAIR, {}),
            ("pair, top 2", {"top_k": 2}, PAIR, {}),
            ("pair, top 2 in the call", {}, PAIR, {"top_k": 2}),
            ("pairs", {}, [PAIR, {"text": FRANCE}], {}),
            ("pair as lists", {}, [["Who wrote the book?", "Nobody knows."]], {}),
            ("empty", {}, "", {}),
            ("truncated", {}, LONG + LONG, {"truncation": True}),
            ("cut to 9", {}, FRANCE, {"truncation": True, "max_length": 9}),
            ("sigmoid", {}, FRANCE, {"function_to_apply": "sigmoid"}),
            ("softmax", {"function_to_apply": "softmax"}, FRANCE, {"top_k": None}),
            ("none", {}, FRANCE, {"function_to_apply": "none"}),
        ]
    },
    **{
        f"zero-shot, {name}": Case("zero-shot-classification", "nli", made, inputs, call)
        for name, made, inputs, call in [
            ("one", {}, FRANCE, {"candidate_labels": TOPICS}),
            ("labels of the constructor", {"candidate_labels": TOPICS}, FRANCE, {}),
            ("list", {}, TEXTS, {"candidate_labels": TOPICS}),
            ("list of one", {}, [FRANCE], {"candidate_labels": TOPICS}),
            ("empty list", {}, [], {"candidate_labels": TOPICS}),
            ("commas", {}, FRANCE, {"candidate_labels": "towns,,ships and the sea , books"}),
            ("commas inside a label", {}, FRANCE, {"candidate_labels": ["towns, ships", "books"]}),
            ("several", {"multi_label": True}, TEXTS, {"candidate_labels": TOPICS}),
            ("older name", {}, FRANCE, {"candidate_labels": TOPICS, "multi_class": True}),
            ("one label", {}, TEXTS, {"candidate_labels": "towns"}),
            ("twice", {}, FRANCE, {"candidate_labels": ["towns", "towns", "books"]}),
            ("template", {}, FRANCE, {"candidate_labels": TOPICS, "hypothesis_template": "It's about {}; {{so}}."}),
            ("place by number", {}, FRANCE, {"candidate_labels": TOPICS, "hypothesis_template": "{0}, {0}"}),
            ("spaces", {}, "  ", {"candidate_labels": TOPICS}),
            ("too long", {}, LONG + LONG, {"candidate_labels": TOPICS}),
            ("no labels", {}, FRANCE, {"candidate_labels": []}),
            ("only commas", {}, FRANCE, {"candidate_labels": " , ,"}),
            ("no place", {}, FRANCE, {"candidate_labels": TOPICS, "hypothesis_template": "It is."}),
            ("two places", {}, FRANCE, {"candidate_labels": TOPICS, "hypothesis_template": "{} {}"}),
            ("empty", {}, "", {"candidate_labels": TOPICS}),
        ]
    },
    **{
        f"tag, {strategy}, {name}": Case("token-classification", "tags", {"aggregation_strategy": strategy}, *rest)
        for strategy in ("none", "simple")
        for name, *rest in [
            ("one", FRANCE),
            ("list", TEXTS[:5]),
            ("list of one", [FRANCE]),
            ("empty", ""),
            ("spaces", "  the   sea  "),
            ("ignored", FRANCE, {"ignore_labels": ["PER", "B-LOC"]}),
            ("nothing ignored", RAILWAY, {"ignore_labels": []}),
            ("truncated", LONG + LONG),
        ]
    },
    **{
        f"tag, {strategy}, {name}": Case("token-classification", "tags", {"aggregation_strategy": strategy}, *rest)
        for strategy in ("first", "average", "max")
        for name, *rest in [
            ("one", PLAIN),
            ("list", [PLAIN, PLAIN[:40], PLAIN[11:]]),
            ("list of one", [PLAIN]),
            ("empty", ""),
            ("ignored", PLAIN, {"ignore_labels": ["PER", "B-LOC"]}),
            ("nothing ignored", PLAIN, {"ignore_labels": []}),
            ("truncated", f"{PLAIN} {PLAIN} {PLAIN} {PLAIN}"),
        ]
    },
    **{
        f"tag, {strategy}, stride {stride}": Case(
            "token-classification", "tags", {"aggregation_strategy": strategy}, text, {"stride": stride}
        )
        for strategies, text in [(("simple",), f"{LONG} {LONG}"), (("first", "average", "max"), " ".join([PLAIN] * 9))]
        for strategy in strategies
        for stride in (0, 10, 40)
    },
    "tag, none, beyond ascii": Case("token-classification", "tags", {"ignore_labels": []}, TEXTS[5]),
    "tag, simple, beyond ascii": Case(
        "token-classification", "tags", {"ignore_labels": [], "aggregation_strategy": "simple"}, TEXTS[5]
    ),
    "tag, stride, list": Case(
        "token-classification", "tags", {"aggregation_strategy": "simple", "stride": 12}, [LONG, FRANCE, LONG + LONG]
    ),
    **{
        f"answer, {name}": Case("question-answering", "answers", {}, inputs, call)
        for name, inputs, call in [
            ("one", ASK, {}),
            ("list of one", [ASK], {}),
            ("list", [ASK, {"question": "Where?", "context": FRANCE}], {}),
            ("long, small windows", {"question": "Who?", "context": LONG}, {"max_seq_len": 30, "doc_stride": 8}),
            ("windows of no stride", {"question": "Who?", "context": LONG}, {"max_seq_len": 30, "doc_stride": 0}),
            ("top 5", ASK, {"top_k": 5}),
            ("list, top 2", [ASK, ASK], {"top_k": 2}),
            ("top 60", ASK, {"top_k": 60}),
            ("short", ASK, {"max_answer_len": 1, "top_k": 4}),
            ("long answers", ASK, {"max_answer_len": 60, "top_k": 4}),
            ("none", ASK, {"handle_impossible_answer": True, "top_k": 9}),
            ("tokens", ASK, {"align_to_words": False, "top_k": 6}),
            ("context of unicode", {"question": "Where?", "context": TEXTS[5]}, {"top_k": 5}),
            ("empty context", {"question": "Who?", "context": ""}, {}),
            ("empty question", {"question": "", "context": RAILWAY}, {}),
        ]
    },
    "features": Case("feature-extraction", "plain", {}, FRANCE),
    "features, list": Case("feature-extraction", "plain", {}, TEXTS[:3]),
    "features, list of one": Case("feature-extraction", "plain", {}, [FRANCE]),
    "features, truncated": Case("feature-extraction", "plain", {"tokenize_kwargs": {"truncation": True}}, LONG + LONG),
    "features, empty": Case("feature-extraction", "plain", {}, ""),
    **{
        f"generate, {name}": Case("text-generation", "writes", {}, inputs, {**GREEDY, **call})
        for name, inputs, call in [
            ("one", "The capital", {}),
            ("list", ["The capital", "Who wrote the book"], {}),
            ("list of one", ["The capital"], {}),
            ("new text only", "The capital", {"return_full_text": False}),
            ("ids", "The capital", {"return_tensors": True}),
            ("without special tokens", "The capital", {"add_special_tokens": False}),
            ("beams", "The capital", {"num_beams": 3, "num_return_sequences": 2}),
            ("prefix", "The capital", {"prefix": "A ship."}),
            ("cut", LONG + LONG, {"handle_long_generation": "hole"}),
        ]
    },
}  # fmt: skip

# transformers decodes a word twice, so that letters beyond ASCII are lost.
ACCENTS = "naïve café"
GARBLED = {
    f"tag, {strategy}, accents": Case(
        "token-classification", "tags", {"aggregation_strategy": strategy, "ignore_labels": []}, ACCENTS
    )
    for strategy in ("first", "average", "max")
}

# transformers adds the scores of equal answers from several windows, so they may exceed 1 and outvote "no answer".
ADDED = {
    f"answer, {name}": Case("question-answering", "answers", {}, {"question": question, "context": LONG}, call)
    for name, question, call in [
        ("long", "Who?", {}),
        ("long, three", "Who?", {"top_k": 3}),
        ("none at all", "Who?", {"handle_impossible_answer": True}),
        ("long question", RAILWAY, {"top_k": 2}),
    ]
}


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models and the answers of transformers."""
    from peers import environment

    folder = tmp_path_factory.mktemp("pipelines")
    make_models(folder)
    subprocess.run([sys.executable, __file__, str(folder)], check=True, env=environment(4), timeout=300)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_a_pipeline_answers_as_that_of_transformers(peer: Path, case: str) -> None:
    found, wanted = answer(CASES[case], peer), json.loads((peer / "peer.json").read_text())[case]
    if "error" in wanted:
        assert "error" in found
    else:
        assert_same(found, wanted, case)


@pytest.mark.parametrize("strategy", ["first", "average", "max"])
def test_words_beyond_ascii_stay_whole_where_transformers_breaks_them(peer: Path, strategy: str) -> None:
    name = f"tag, {strategy}, accents"
    found, wanted = answer(GARBLED[name], peer), json.loads((peer / "peer.json").read_text())[name]
    assert [{**entity, "word": ""} for entity in wanted] == [
        {**entity, "word": "", "score": pytest.approx(entity["score"], abs=1e-6)} for entity in found
    ]
    assert "�" in "".join(entity["word"] for entity in wanted)
    assert "".join(entity["word"] for entity in found) == ACCENTS


@pytest.mark.parametrize("name", ADDED)
def test_the_windows_of_an_answer_are_not_added_as_transformers_adds_them(peer: Path, name: str) -> None:
    found, wanted = answer(ADDED[name], peer), json.loads((peer / "peer.json").read_text())[name]
    ours, theirs = (result if isinstance(result, list) else [result] for result in (found, wanted))
    assert len(ours) == len(theirs)
    assert 0 < ours[0]["score"] < theirs[0]["score"]


def answer(case: Case, folder: Path) -> Any:
    """The result of our pipeline."""
    from roberta import pipeline

    folder = folder / case.model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = pipeline(case.task, folder, framework="pt", dtype="float64", **case.made)
        # transformers adds </s> after every prompt
        ends = {"end_prompt": True} if case.task == "text-generation" else {}
        try:
            return pipe(case.inputs, **case.call, **ends)
        except ValueError as error:
            return {"error": "ValueError", "message": str(error)}


def assert_same(found: Any, wanted: Any, where: str) -> None:
    """Assert that structure, order of keys, types and texts are equal, and numbers to 1e-6."""
    if isinstance(wanted, dict):
        assert isinstance(found, dict), where
        assert list(found) == list(wanted), where
        for key in wanted:
            assert_same(found[key], wanted[key], f"{where}[{key!r}]")
    elif isinstance(wanted, list):
        assert isinstance(found, list), where
        assert len(found) == len(wanted), where
        for index, (one, other) in enumerate(zip(found, wanted, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    else:
        assert type(found) is type(wanted), where
        assert found == (pytest.approx(wanted, abs=1e-6) if isinstance(wanted, float) else wanted), where


def run_peer(folder: Path) -> None:
    """Run every case with transformers, and generation with the positions of its own forward pass."""
    import torch
    import transformers
    from transformers.models.roberta.modeling_roberta import create_position_ids_from_input_ids

    transformers.logging.set_verbosity_error()

    class Writer(transformers.RobertaForCausalLM):
        def prepare_inputs_for_generation(self, input_ids: Any, **kwargs: Any) -> dict[str, Any]:
            inputs = super().prepare_inputs_for_generation(input_ids, **kwargs)
            positions = create_position_ids_from_input_ids(input_ids, self.config.pad_token_id)
            inputs["position_ids"] = positions[:, -inputs["input_ids"].shape[1] :]
            return inputs

    models = {}
    for name, (head, *_) in MODELS.items():
        class_ = Writer if head == "ForCausalLM" else getattr(transformers, f"Roberta{head}")
        models[name] = class_.from_pretrained(folder / name, dtype=torch.float64)
    tokenizer = transformers.RobertaTokenizerFast.from_pretrained(folder / "words")
    found = {}
    for name, case in {**CASES, **GARBLED, **ADDED}.items():
        try:
            pipe = transformers.pipeline(case.task, model=models[case.model], tokenizer=tokenizer, **case.made)
            found[name] = pipe(case.inputs, **case.call)
        except Exception as error:
            found[name] = {"error": type(error).__name__, "message": str(error)}
    (folder / "peer.json").write_text(json.dumps(found, default=lambda value: value.tolist()))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    run_peer(Path(sys.argv[1]))
