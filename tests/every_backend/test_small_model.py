"""The bundled model, which a pipeline without a model uses, in each framework, without a network."""

from __future__ import annotations

import json

import numpy as np
import pytest
from backends import Backend

from roberta import RobertaTokenizerFast, pipeline
from roberta.cli import main
from roberta.common.pipelines.model_loading import DEFAULT_MODEL

TEXT = "To be, or not to <mask>"


def test_it_is_small_and_has_all_that_a_model_folder_has() -> None:
    sizes = {path.name: path.stat().st_size for path in DEFAULT_MODEL.iterdir()}
    assert {"config.json", "model.safetensors", "vocab.json", "merges.txt", "tokenizer_config.json"} <= set(sizes)
    assert sum(sizes.values()) < 6e6


def test_masks_are_filled_as_the_forward_pass_does_it(backend: Backend) -> None:
    found = pipeline("fill-mask", framework=backend.name)(TEXT)
    ids = RobertaTokenizerFast.from_pretrained(DEFAULT_MODEL)(TEXT)["input_ids"]
    model = backend.load("ForMaskedLM", DEFAULT_MODEL, dtype="float64")
    logits = backend.run(model, {"input_ids": np.array([ids])})["logits"][0, -2]
    scores = np.exp(logits - logits.max())
    scores /= scores.sum()
    best = np.argsort(-scores)[:5]
    assert [entry["token"] for entry in found] == best.tolist()
    assert np.allclose([entry["score"] for entry in found], scores[best], rtol=1e-4)


def test_the_command_needs_no_model(backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fill-mask", TEXT, "--framework", backend.name, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out.splitlines()[0])) == 5


def test_a_task_that_it_was_not_trained_for_says_so(backend: Backend) -> None:
    with pytest.raises(ValueError, match=r"was saved as RobertaForMaskedLM and has no .*would answer at random"):
        pipeline("text-classification", framework=backend.name)
