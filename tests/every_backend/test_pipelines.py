"""Every task in every framework, through `infer`, gives the results of PyTorch's own forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import Backend
from backends import backend as get_backend
from pipeline_cases import FRANCE, LONG, TEXTS, make_models
from standin import stand_in

from roberta import pipeline
from roberta.common.training.data.packing import pack

TASKS = {  # task -> the model, its head, options, and inputs of different lengths
    "fill-mask": ("words", "ForMaskedLM", {"top_k": 3}, [f"<mask>{text[:40]}<mask>{text[40:]}" for text in TEXTS]),
    "text-classification": ("labels", "ForSequenceClassification", {"top_k": None}, [FRANCE, "", *TEXTS]),
    "zero-shot-classification": (
        "nli", "ForSequenceClassification", {"candidate_labels": ["towns", "ships, the sea", "books"]}, [LONG, *TEXTS],
    ),
    "token-classification": (
        "tags", "ForTokenClassification", {"aggregation_strategy": "average", "stride": 5}, [LONG, *TEXTS],
    ),
    "question-answering": (
        "answers", "ForQuestionAnswering", {"top_k": 3},
        [{"question": "Who?", "context": text} for text in [LONG, *TEXTS]],
    ),
    "multiple-choice": (
        "choices", "ForMultipleChoice", {"top_k": None},
        [{"prompt": text, "choices": TEXTS[: 1 + number]} for number, text in enumerate(TEXTS)],
    ),
    "feature-extraction": ("plain", "Model", {}, TEXTS),
    "embeddings": ("plain", "Model", {"pooling": "pooler"}, TEXTS),
    "text-generation": ("writes", "ForCausalLM", {"do_sample": False, "max_new_tokens": 5}, TEXTS),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models")
    make_models(made)
    return made


def assert_alike(found: Any, wanted: Any, bound: float) -> None:
    """Assert that structure and texts are equal, and numbers within the bound."""
    if isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for key, value in wanted.items():
            assert_alike(found[key], value, bound)
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_alike(one, other, bound)
    elif isinstance(wanted, float | np.ndarray):
        np.testing.assert_allclose(found, wanted, rtol=bound, atol=bound)
    else:
        assert found == wanted


@pytest.mark.parametrize("task", TASKS)
def test_a_task_gives_the_results_of_pytorchs_own_forward_and_logs_nothing(
    backend: Backend, folder: Path, task: str, caplog: pytest.LogCaptureFixture
) -> None:
    get_backend("pt")
    name, head, options, inputs = TASKS[task]
    wanted = pipeline(task, stand_in(head, folder / name), folder / name, **options)(inputs)
    found = pipeline(task, folder / name, framework=backend.name, dtype="float64", **options)(inputs)
    assert_alike(found, wanted, 1e-9)
    assert [record.message for record in caplog.records if record.name.startswith("tensorflow")] == []


def test_a_prompt_is_the_beginning_of_a_row_of_training(
    backend: Backend, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline("text-generation", folder / "writes", framework=backend.name, do_sample=False, max_new_tokens=2)
    seen, generate = [], type(pipe.model).generate

    def spy(model: Any, ids: Any, **settings: Any) -> Any:
        seen.append(np.asarray(ids)[0].tolist())
        return generate(model, ids, **settings)

    monkeypatch.setattr(type(pipe.model), "generate", spy)
    tokenizer = pipe.tokenizer
    document = [tokenizer(FRANCE, add_special_tokens=False)["input_ids"]]
    ends = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id}
    (row,) = pack([document], "full-sentences", max_length=64, **ends)
    pipe(FRANCE)
    pipe(FRANCE, end_prompt=True)
    assert [[*seen[0], ends["eos"]], seen[1]] == [row["input_ids"].tolist()] * 2


@pytest.mark.parametrize(
    "task",
    [
        "text-classification",
        "zero-shot-classification",
        "token-classification",
        "embeddings",
        "multiple-choice",
    ],
)
def test_a_budget_smaller_than_one_text_changes_no_result(backend: Backend, folder: Path, task: str) -> None:
    name, _, options, inputs = TASKS[task]
    made = {"framework": backend.name, "dtype": "float64", **options}
    wanted = pipeline(task, folder / name, **made)(inputs)
    assert_alike(pipeline(task, folder / name, batch_tokens=3, **made)(inputs), wanted, 1e-9)


def test_a_loaded_model_is_taken_as_it_is(backend: Backend, folder: Path) -> None:
    model = backend.load("ForSequenceClassification", folder / "labels")
    wanted = pipeline("text-classification", folder / "labels", framework=backend.name, dtype="float64")(TEXTS)
    pipe = pipeline("text-classification", model)
    assert pipe.model is model
    assert_alike(pipe(TEXTS), wanted, 1e-12)


def test_bfloat16_is_near_the_models_own_numbers(backend: Backend, folder: Path) -> None:
    found, wanted = (
        pipeline("embeddings", folder / "plain", framework=backend.name, dtype=dtype, normalize=True)(TEXTS)
        for dtype in ("bfloat16", None)
    )
    cosines = np.einsum("rh,rh->r", np.stack(found), np.stack(wanted))
    assert (cosines > 0.99).all()
    assert not np.array_equal(found, wanted)
