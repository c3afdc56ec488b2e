"""How each pipeline turns a model's outputs into answers, where transformers has no equivalent or is wrong."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import backend as get_backend
from pipeline_cases import FRANCE, LENGTH, LONG, RAILWAY, TEXTS, make_models
from standin import StandIn, stand_in

from roberta import RobertaTokenizerFast, pipeline
from roberta.common.pipelines.entities import without_overlaps
from roberta.common.pipelines.windows import spans


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    get_backend("pt")
    made = tmp_path_factory.mktemp("models")
    make_models(made)
    return made


# -- fill-mask, tagging, answers ---------------------------------------------------------------------------------------


def test_targets_of_several_tokens_are_scored_by_their_first_with_a_warning(folder: Path) -> None:
    pipe = pipeline("fill-mask", stand_in("ForMaskedLM", folder / "words"), folder / "words")
    with pytest.warns(UserWarning, match="target ' harbour' is not a single token; its first piece 'Ġhar'"):
        found = pipe("a<mask>", targets=[" harbour"])
    assert [result["token_str"] for result in found] == [" har"]


def test_a_long_text_is_tagged_in_part_with_a_warning(folder: Path) -> None:
    pipe = pipeline("ner", stand_in("ForTokenClassification", folder / "tags"), folder / "tags", ignore_labels=[])
    with pytest.warns(UserWarning, match=rf"inputs\[1\] has \d+ tokens, of which the first {LENGTH - 2} are tagged"):
        found = pipe([FRANCE, LONG])
    assert len(found[1]) == LENGTH - 2


def test_windows_tag_a_long_text_to_its_end(folder: Path) -> None:
    pipe = pipeline("ner", stand_in("ForTokenClassification", folder / "tags"), folder / "tags", ignore_labels=[])
    found = pipe(LONG, aggregation_strategy="simple", stride=20)
    assert found[0]["start"] == 0
    assert found[-1]["end"] == len(LONG)
    assert all(one["end"] <= other["start"] for one, other in itertools.pairwise(found))


@pytest.mark.parametrize(("strategy", "name", "other"), [("none", "B-LOC", "LOC"), ("simple", "LOC", "B-LOC")])
def test_a_label_is_ignored_by_the_name_that_results_have(folder: Path, strategy: Any, name: str, other: str) -> None:
    made = stand_in("ForTokenClassification", folder / "tags")
    pipe = pipeline("ner", made, folder / "tags", aggregation_strategy=strategy)
    everything = pipe(FRANCE)
    key = "entity" if strategy == "none" else "entity_group"
    wanted = [one for one in everything if one[key] != name]
    assert len(wanted) < len(everything)
    assert pipe(FRANCE, ignore_labels=["O", name]) == wanted
    with pytest.warns(
        UserWarning, match=f"strategy=\"{strategy}\" no result is named '{other}'; the names are .*{name}"
    ):
        assert pipe(FRANCE, ignore_labels=["O", other]) == everything


@pytest.mark.parametrize("strategy", ["first", "average", "max"])
def test_the_bytes_of_one_character_are_one_word(folder: Path, strategy: str) -> None:
    pipe = pipeline("ner", stand_in("ForTokenClassification", folder / "tags"), folder / "tags", ignore_labels=[])
    found = pipe("a 😀 b", aggregation_strategy=strategy)
    edges = {entity["start"] for entity in found} | {entity["end"] for entity in found}
    assert edges <= {0, 1, 2, 3, 4, 5}
    assert "".join(entity["word"] for entity in found) == "a 😀 b"


def test_of_entities_of_two_windows_the_longer_one_stays_then_the_likelier_one() -> None:
    entities = [
        {"start": 0, "end": 4, "score": 0.9},
        {"start": 2, "end": 9, "score": 0.1},
        {"start": 3, "end": 10, "score": 0.2},
        {"start": 10, "end": 11, "score": 0.3},
    ]
    assert without_overlaps(entities) == entities[2:]


@pytest.mark.parametrize("tokens", range(25))
@pytest.mark.parametrize(("room", "stride"), [(6, 2), (6, 0), (6, 5), (30, 4)])
def test_windows_reach_every_token_and_the_end_once(tokens: int, room: int, stride: int) -> None:
    found = spans(tokens, room, stride)
    assert sorted({place for start, stop in found for place in range(start, stop)}) == list(range(tokens))
    assert [stop for _, stop in found].count(tokens) == 1
    assert all(stop - start == room for start, stop in found[:-1])
    assert all(one[1] - other[0] == stride for one, other in itertools.pairwise(found))


def test_answers_are_the_spans_of_the_context_by_the_probability_of_their_ends(folder: Path) -> None:
    import torch

    model = stand_in("ForQuestionAnswering", folder / "answers")
    tokenizer = RobertaTokenizerFast.from_pretrained(folder / "answers")
    question, context, longest = "Who?", "Carl Jones opened it", 4
    encoded = tokenizer(question, context, return_tensors="pt")
    with torch.no_grad():
        output = model.model(**encoded)
    places = [place for place, text in enumerate(encoded.sequence_ids(0)) if text == 1]
    start, end = (
        logits[0, [0, *places]].softmax(dim=-1)[1:].tolist() for logits in (output.start_logits, output.end_logits)
    )
    wanted: dict[str, float] = {}
    for first, last in itertools.combinations_with_replacement(range(len(places)), 2):
        if last - first < longest:
            span = encoded.token_to_chars(0, places[first]).start, encoded.token_to_chars(0, places[last]).end
            text = context[slice(*span)].lower()
            if text.strip():
                wanted[text] = wanted.get(text, 0.0) + start[first] * end[last]
    pipe = pipeline("question-answering", model, tokenizer, max_answer_len=longest, align_to_words=False)
    found = pipe(question=question, context=context, top_k=1000)
    assert {answer["answer"].lower(): answer["score"] for answer in found} == pytest.approx(wanted)
    assert found == sorted(found, key=lambda answer: -answer["score"])


def test_questions_and_contexts_may_be_lists_of_which_one_goes_with_each(folder: Path) -> None:
    pipe = pipeline("question-answering", stand_in("ForQuestionAnswering", folder / "answers"), folder / "answers")
    questions = ["Who?", "When?"]
    wanted = pipe([{"question": question, "context": RAILWAY} for question in questions])
    assert pipe(question=questions, context=RAILWAY) == wanted
    assert pipe(question=questions, context=[RAILWAY, RAILWAY]) == wanted
    assert pipe(question="Who?", context=RAILWAY) == pipe({"question": "Who?", "context": RAILWAY})
    with pytest.raises(ValueError, match="question and context are lists of 2 and 3"):
        pipe(question=questions, context=[RAILWAY] * 3)
    with pytest.raises(ValueError, match="context is missing"):
        pipe(question="Who?")
    with pytest.raises(ValueError, match="not both"):
        pipe({"question": "a", "context": "b"}, context="c")


def test_a_question_that_leaves_no_room_is_named(folder: Path) -> None:
    pipe = pipeline("question-answering", stand_in("ForQuestionAnswering", folder / "answers"), folder / "answers")
    with pytest.raises(
        ValueError, match=r"inputs\[0\] has a question of \d+ tokens, which leaves 0 of 96 .*doc_stride=48"
    ):
        pipe([{"question": LONG, "context": RAILWAY}] * 2)
    assert pipe({"question": LONG, "context": RAILWAY}, max_question_len=9)["answer"] in RAILWAY


# -- choices and embeddings: against the model's forward ---------------------------------------------------------------


def padded(texts: list[str], folder: Path, pairs: list[str] | None = None) -> dict[str, Any]:
    tokenizer = RobertaTokenizerFast.from_pretrained(folder)
    return dict(tokenizer(texts, pairs, padding=True, return_tensors="pt"))


def test_choices_are_those_of_the_models_own_forward(folder: Path) -> None:
    import torch

    model = stand_in("ForMultipleChoice", folder / "choices")
    inputs = padded([FRANCE] * 4, folder / "choices", TEXTS[1:5])
    with torch.no_grad():
        logits = model.model(**{name: value[None] for name, value in inputs.items()}).logits[0]
    wanted = logits.softmax(dim=-1).numpy()
    pipe = pipeline("multiple-choice", model, folder / "choices")
    found = pipe(prompt=FRANCE, choices=TEXTS[1:5], top_k=None)
    assert [result["index"] for result in found] == np.argsort(-wanted).tolist()
    assert [result["choice"] for result in found] == [TEXTS[1 + index] for index in np.argsort(-wanted)]
    np.testing.assert_allclose([result["score"] for result in found], np.sort(wanted)[::-1], rtol=1e-9)
    assert pipe({"prompt": FRANCE, "choices": TEXTS[1:5]}) == found[0]


@pytest.mark.parametrize("choices", [[], "text", None, [5]])
def test_choices_that_are_no_list_of_texts_are_refused(folder: Path, choices: Any) -> None:
    pipe = pipeline("multiple-choice", stand_in("ForMultipleChoice", folder / "choices"), folder / "choices")
    with pytest.raises(ValueError, match=r"inputs\[0\]\['choices'\]"):
        pipe([{"prompt": "a", "choices": choices}])


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_a_vector_is_what_its_pooling_says(folder: Path, pooling: str, normalize: bool) -> None:
    import torch

    model = stand_in("Model", folder / "plain")
    inputs = padded(TEXTS, folder / "plain")
    with torch.no_grad():
        output = model.model(**inputs)
    mask = inputs["attention_mask"][..., None]
    wanted = {
        "mean": (output.last_hidden_state * mask).sum(dim=1) / mask.sum(dim=1),
        "cls": output.last_hidden_state[:, 0],
        "pooler": output.pooler_output,
    }[pooling]
    if normalize:
        wanted = torch.nn.functional.normalize(wanted)
    found = pipeline("embeddings", model, folder / "plain", pooling=pooling, normalize=normalize)(TEXTS)
    np.testing.assert_allclose(np.stack(found), wanted.numpy(), rtol=1e-9)


def test_a_model_without_pooler_says_so(folder: Path) -> None:
    from roberta import RobertaModel

    model = StandIn(RobertaModel.from_pretrained(folder / "plain", add_pooling_layer=False))
    with pytest.raises(ValueError, match='this model has no pooler; make the pipeline with pooling="pooler"'):
        pipeline("embeddings", model, folder / "plain")("a", pooling="pooler")


# -- generation --------------------------------------------------------------------------------------------------------


def writer(folder: Path, **options: Any) -> Any:
    return pipeline("text-generation", stand_in("ForCausalLM", folder / "writes"), folder / "writes", **options)


def test_a_pipeline_samples_unless_told_otherwise_and_a_seed_repeats_it(folder: Path) -> None:
    pipe = writer(folder, max_new_tokens=12)
    assert pipe("A ship", seed=1) == pipe("A ship", seed=1)
    assert pipe("A ship", seed=1) != pipe("A ship", seed=2)
    assert pipe("A ship", do_sample=False) == pipe("A ship", do_sample=False)


@pytest.mark.parametrize("settings", [{}, {"num_return_sequences": 2}, {"num_beams": 2}])
def test_each_prompt_has_draws_of_its_own_whatever_is_beside_it(folder: Path, settings: dict[str, Any]) -> None:
    prompts, options = ["A ship"] * 6, {"seed": 1, "max_new_tokens": 8, "temperature": 2.0, "top_k": 0, **settings}
    together = writer(folder, **options)(prompts)
    assert len({str(texts) for texts in together}) == 6
    assert writer(folder, batch_tokens=12, **options)(prompts) == together  # one prompt per batch
    assert list(writer(folder, **options)(iter(prompts))) == together
    assert writer(folder, **options)("A ship") == together[0]


def test_without_a_number_of_tokens_it_writes_as_far_as_the_model_goes(folder: Path) -> None:
    found = writer(folder, return_tensors=True, do_sample=False, eos_token_id=379)("A ship")
    assert len(found[0]["generated_token_ids"]) == LENGTH


def test_the_models_own_settings_come_before_the_pipelines(folder: Path) -> None:
    pipe = writer(folder, return_tensors=True, eos_token_id=379)
    pipe.model.generation_config.max_new_tokens = 3
    prompt = len(pipe.tokenizer("A ship")["input_ids"]) - 1  # without </s>
    assert len(pipe("A ship")[0]["generated_token_ids"]) == prompt + 3
    assert len(pipe("A ship", end_prompt=True)[0]["generated_token_ids"]) == prompt + 4
    assert len(pipe("A ship", max_new_tokens=4)[0]["generated_token_ids"]) == prompt + 4
    assert len(pipe("A ship", max_length=prompt + 5)[0]["generated_token_ids"]) == prompt + 5


def test_max_length_counts_each_prompt_by_itself(folder: Path) -> None:
    found = writer(folder, return_tensors=True, do_sample=False, eos_token_id=379)(TEXTS[:5], max_length=60)
    assert [len(result[0]["generated_token_ids"]) for result in found] == [60] * 5


def test_min_length_counts_each_prompt_by_itself(folder: Path) -> None:
    pipe = writer(folder, do_sample=False, min_length=40, max_new_tokens=30, eos_token_id=list(range(300)))
    assert pipe(TEXTS[:5]) == [pipe(text) for text in TEXTS[:5]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 80}, rf"inputs\[1\] has \d+ tokens, and with 80 new ones exceeds the {LENGTH} that"),
        ({"max_length": 5}, r"inputs\[1\] has \d+ tokens, which max_length=5 counts"),
        ({"max_new_tokens": LENGTH, "handle_long_generation": "hole"}, "leaves no room for a prompt"),
    ],
)  # fmt: skip
def test_a_prompt_without_room_is_named_with_the_way_out(folder: Path, options: dict[str, Any], message: str) -> None:
    pipe = writer(folder)
    with pytest.raises(ValueError, match=message):
        list(pipe(iter(["", FRANCE]), **options))


def test_generation_refuses_a_dtype_that_is_of_infer(folder: Path) -> None:
    with pytest.raises(ValueError, match="dtype='bfloat16' is of `infer`; to generate in it, load the model in it"):
        writer(folder, dtype="bfloat16")


# -- models and tokenizers ---------------------------------------------------------------------------------------------


def test_a_checkpoint_that_was_trained_for_something_else_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"saved as RobertaForMaskedLM and has no classifier\..* answer at random"):
        pipeline("text-classification", folder / "words", framework="pt")


def test_a_loaded_model_of_another_class_is_refused(folder: Path) -> None:
    model = stand_in("ForMaskedLM", folder / "words")
    with pytest.raises(ValueError, match="text-classification takes a model of the class RobertaForSequenceClass"):
        pipeline("text-classification", model, folder / "words")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"framework": "jax"}, "framework='jax' must be one of pt, tf, flax"),
        ({"dtype": "float8"}, "dtype='float8' must be one of float32, float64, bfloat16, int8"),
    ],
)
def test_a_framework_or_dtype_that_does_not_exist_is_refused(
    folder: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pipeline("fill-mask", folder / "words", **options)


def test_a_loaded_model_has_its_framework_and_dtype(folder: Path) -> None:
    model = stand_in("ForMaskedLM", folder / "words")
    with pytest.raises(ValueError, match="framework='flax', but the model belongs to 'pt'"):
        pipeline("fill-mask", model, framework="flax")
    with pytest.raises(ValueError, match="dtype='float64' applies when a model is loaded"):
        pipeline("fill-mask", model, dtype="float64")


def test_a_missing_framework_is_named_with_its_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from roberta.common import frameworks

    monkeypatch.setattr(frameworks, "installed", lambda: ["pt"])
    with pytest.raises(ModuleNotFoundError, match=r"flax is not installed; pip install 'roberta\[flax\]'"):
        pipeline("fill-mask", folder / "words", framework="flax")
    monkeypatch.setattr(frameworks, "installed", lambda: [])
    with pytest.raises(ModuleNotFoundError, match=r"a framework is not installed; pip install 'roberta\[pt\]' or "):
        pipeline("fill-mask", folder / "words")


def test_the_tokenizer_beside_the_model_is_taken(folder: Path) -> None:
    wanted = pipeline("fill-mask", stand_in("ForMaskedLM", folder / "words"), folder / "words")("a<mask>")
    assert pipeline("fill-mask", stand_in("ForMaskedLM", folder / "words"))("a<mask>") == wanted


def test_a_model_of_nowhere_needs_a_tokenizer(folder: Path) -> None:
    model = stand_in("ForMaskedLM", folder / "words")
    model.name_or_path = ""
    with pytest.raises(ValueError, match="does not say where it was loaded from; pass tokenizer"):
        pipeline("fill-mask", model)


def test_a_folder_without_tokenizer_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "words", tmp_path / "bare", ignore=shutil.ignore_patterns("*token*", "vocab*", "merges*"))
    with pytest.raises(OSError, match="bare"):
        pipeline("fill-mask", tmp_path / "bare")
