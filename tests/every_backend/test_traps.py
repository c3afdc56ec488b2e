"""Traps of transformers in the models (docs/differences.md): our behaviour, the same in the three frameworks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import Backend, assert_close

from roberta.common.parameters import Head


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of a masked LM with large random weights."""
    return checkpoints.make(tmp_path / "mlm", "ForMaskedLM")


def ids(*rows: list[int]) -> np.ndarray:
    return np.array(rows)


def test_padding_on_either_side_does_not_change_real_tokens(backend: Backend, folder: Path) -> None:
    model = backend.load("ForMaskedLM", folder)
    short = backend.run(model, {"input_ids": ids([0, 5, 6, 2])})["logits"]
    right = {"input_ids": ids([0, 5, 6, 2, 1, 1]), "attention_mask": ids([1, 1, 1, 1, 0, 0])}
    left = {"input_ids": ids([1, 1, 0, 5, 6, 2]), "attention_mask": ids([0, 0, 1, 1, 1, 1])}
    assert_close(backend.run(model, right)["logits"][:, :4], short)
    assert_close(backend.run(model, left)["logits"][:, 2:], short)


@pytest.mark.parametrize("pad", [1, 3])
def test_positions_start_behind_the_padding_id_and_skip_padding(backend: Backend, tmp_path: Path, pad: int) -> None:
    model = backend.load("Model", checkpoints.make(tmp_path, "Model", pad_token_id=pad))
    row = [0, 8, pad, 7, pad]
    positions = [pad + 1, pad + 2, pad, pad + 3, pad]
    found = backend.run(model, {"input_ids": ids(row)})
    wanted = backend.run(model, {"input_ids": ids(row), "position_ids": ids(positions)})
    assert_close(found["last_hidden_state"], wanted["last_hidden_state"], 1e-14)
    other = backend.run(model, {"input_ids": ids(row), "position_ids": ids([p - 1 for p in positions])})
    assert np.abs(other["last_hidden_state"] - wanted["last_hidden_state"]).max() > 1e-3


def test_embeddings_are_numbered_one_after_the_other(backend: Backend, folder: Path) -> None:
    model = backend.load("ForMaskedLM", folder)
    embeds = np.random.default_rng(0).normal(size=(1, 5, 24))
    found = backend.run(model, {"inputs_embeds": embeds})
    wanted = backend.run(model, {"inputs_embeds": embeds, "position_ids": ids([2, 3, 4, 5, 6])})
    assert_close(found["logits"], wanted["logits"], 1e-14)


LONGEST = 30 - 2
ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "too long": ({"input_ids": np.full((1, LONGEST + 1), 5)}, "28 tokens.*truncation=True, max_length=28"),
    "id too large": ({"input_ids": ids([0, 61])}, "input_ids holds 61, allowed are 0 to 60"),
    "negative id": ({"input_ids": ids([0, -1])}, "input_ids holds -1"),
    "token type": ({"input_ids": ids([0, 5]), "token_type_ids": ids([0, 2])}, "token_type_ids holds 2"),
    "position": ({"input_ids": ids([0, 5]), "position_ids": ids([2, 30])}, "position_ids holds 30"),
    "label too large": ({"input_ids": ids([0, 5]), "labels": ids([0, 61])}, "labels holds 61"),
    "label of -1": ({"input_ids": ids([0, 5]), "labels": ids([0, -1])}, "labels holds -1"),
    "label shape": ({"input_ids": ids([0, 5]), "labels": ids([0, 5, 6])}, "labels of shape"),
    "mask length": ({"input_ids": ids([0, 5]), "attention_mask": ids([1, 1, 1])}, "attention mask of shape"),
    "nothing": ({}, "either input_ids or inputs_embeds"),
    "both": (
        {"input_ids": ids([0]), "inputs_embeds": np.zeros((1, 1, 24))},
        "either input_ids or inputs_embeds",
    ),
    "head mask": ({"input_ids": ids([0]), "head_mask": np.ones((3, 3))}, "head_mask of shape"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_wrong_input_is_one_clear_error(backend: Backend, folder: Path, name: str) -> None:
    inputs, message = ERRORS[name]
    model = backend.load("ForMaskedLM", folder)
    with pytest.raises(ValueError, match=message):
        backend.call(model, inputs)


def test_the_longest_sequence_fits_and_padding_behind_it_too(backend: Backend, folder: Path) -> None:
    model = backend.load("ForMaskedLM", folder)
    full = np.full((1, LONGEST), 5)
    wanted = backend.run(model, {"input_ids": full})["logits"]
    padded = np.concatenate((full, np.ones((1, 7), int)), axis=1)
    mask = (padded != 1).astype(int)
    found = backend.run(model, {"input_ids": padded, "attention_mask": mask})["logits"]
    assert_close(found[:, :LONGEST], wanted)


def test_distances_take_the_place_of_positions(backend: Backend, tmp_path: Path) -> None:
    """As in transformers: the table stays in the file, and nothing reads it. Distances count padding."""
    folder = checkpoints.make(tmp_path, "ForMaskedLM", position_embedding_type="relative_key")
    model = backend.load("ForMaskedLM", folder)
    assert model.config.max_length_tokens == 30
    full = {"input_ids": np.full((1, 30), 5)}
    wanted = backend.run(model, full)["logits"]
    found = backend.run(model, {**full, "position_ids": np.full((1, 30), 999)})["logits"]
    assert np.array_equal(found, wanted)
    assert "roberta.embeddings.position_embeddings.weight" in backend.parameters(model)
    with pytest.raises(ValueError, match=r"31 tokens, padding included, exceed the 30 distances.*max_length=30\)"):
        backend.run(model, {"input_ids": np.full((1, 31), 5)})


def test_the_lm_head_uses_the_exact_gelu_whatever_the_config_says(backend: Backend, tmp_path: Path) -> None:
    """Without layers, the activation of the config is never used."""
    logits = []
    for activation in ("gelu", "relu"):
        folder = checkpoints.make(tmp_path / activation, "ForMaskedLM", hidden_act=activation, num_hidden_layers=0)
        logits.append(backend.run(backend.load("ForMaskedLM", folder), {"input_ids": ids([0, 5, 2])})["logits"])
    assert_close(logits[0], logits[1], 1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_row_without_any_key_is_finite(backend: Backend, folder: Path, dtype: str) -> None:
    model = backend.load("ForMaskedLM", folder, dtype)
    inputs = {"input_ids": ids([0, 5, 2], [0, 6, 2]), "attention_mask": ids([1, 1, 1], [0, 0, 0])}
    output = backend.call(model, inputs)
    values = np.asarray(output.logits.float() if backend.name == "pt" else output.logits).astype(np.float32)
    assert np.isfinite(values).all()


@pytest.mark.parametrize("kind", ["bool", "int64", "float32", "float64"])
def test_masks_of_any_type_mean_the_same(backend: Backend, folder: Path, kind: str) -> None:
    model = backend.load("ForMaskedLM", folder)
    mask = ids([1, 1, 0, 1])
    wanted = backend.run(model, {"input_ids": ids([0, 5, 6, 2]), "attention_mask": mask})
    found = backend.run(model, {"input_ids": ids([0, 5, 6, 2]), "attention_mask": mask.astype(kind)})
    assert_close(found["logits"], wanted["logits"], 1e-14)


def test_a_mask_of_every_pair_replaces_the_causal_one(backend: Backend, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "ForCausalLM")
    model = backend.load("ForCausalLM", folder)
    free = backend.load("ForCausalLM", folder, is_decoder=False)
    given = {"input_ids": ids([0, 5, 6, 2]), "attention_mask": np.ones((1, 4, 4))}
    wanted = backend.run(free, {"input_ids": given["input_ids"]})["logits"]
    assert_close(backend.run(model, given)["logits"], wanted)
    assert np.abs(backend.run(model, {"input_ids": given["input_ids"]})["logits"] - wanted).max() > 1e-3


def test_labels_of_minus_100_are_left_out_and_nothing_left_is_nan(backend: Backend, folder: Path) -> None:
    model = backend.load("ForMaskedLM", folder)
    tokens = ids([0, 5, 6, 2])
    logits = backend.run(model, {"input_ids": tokens})["logits"]
    found = backend.run(model, {"input_ids": tokens, "labels": ids([-100, 7, -100, 9])})["loss"]
    assert found.shape == ()
    assert_close(found, np.mean([cross_entropy(logits[0, 1], 7), cross_entropy(logits[0, 3], 9)]))
    assert np.isnan(backend.run(model, {"input_ids": tokens, "labels": np.full((1, 4), -100)})["loss"])


def cross_entropy(logits: np.ndarray, label: int) -> float:
    return float(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label])


def test_the_causal_loss_compares_each_logit_with_the_next_token(backend: Backend, tmp_path: Path) -> None:
    model = backend.load("ForCausalLM", checkpoints.make(tmp_path, "ForCausalLM"))
    tokens = ids([0, 5, 6, 2])
    output = backend.run(model, {"input_ids": tokens, "labels": tokens})
    wanted = np.mean([cross_entropy(output["logits"][0, t], tokens[0, t + 1]) for t in range(3)])
    assert_close(output["loss"], wanted)
    assert np.isnan(backend.run(model, {"input_ids": tokens[:, :1], "labels": tokens[:, :1]})["loss"])


def test_answers_outside_the_sequence_are_left_out(backend: Backend, tmp_path: Path) -> None:
    model = backend.load("ForQuestionAnswering", checkpoints.make(tmp_path, "ForQuestionAnswering"))
    tokens = ids([0, 5, 6, 2], [0, 7, 8, 2])

    def loss(start: list[int], end: list[int]) -> np.ndarray:
        given = {"input_ids": tokens, "start_positions": np.array(start), "end_positions": np.array(end)}
        return backend.run(model, given)["loss"]

    logits = backend.run(model, {"input_ids": tokens})
    first = cross_entropy(logits["start_logits"][0], 1)
    second = np.mean([cross_entropy(logits["end_logits"][0], 2), cross_entropy(logits["end_logits"][1], 0)])
    assert_close(loss([1, 100], [2, -3]), (first + second) / 2)
    assert np.isnan(loss([9, 9], [1, 1]))
    assert "loss" not in backend.run(model, {"input_ids": tokens, "start_positions": np.array([1, 1])})


def test_question_answering_needs_two_labels(backend: Backend) -> None:
    config = checkpoints.small_config("Model", num_labels=3)
    with pytest.raises(ValueError, match="num_labels=3"):
        backend.classes("ForQuestionAnswering")(config)


def test_a_problem_type_is_found_anew_for_each_call(backend: Backend, tmp_path: Path) -> None:
    model = backend.load("ForSequenceClassification", checkpoints.make(tmp_path, "ForSequenceClassification"))
    tokens = {"input_ids": ids([0, 5, 2], [0, 6, 2])}
    logits = backend.run(model, tokens)["logits"]
    single = backend.run(model, tokens | {"labels": np.array([3, 0])})["loss"]
    assert_close(single, np.mean([cross_entropy(logits[0], 3), cross_entropy(logits[1], 0)]))
    several = np.array([[0.0, 1, 0, 1, 0], [1.0, 0, 0, 0, 1]])
    both = backend.run(model, tokens | {"labels": several})["loss"]
    assert_close(both, np.mean(np.log1p(np.exp(logits)) - several * logits))
    assert model.config.problem_type is None


def test_labels_that_would_broadcast_are_refused(backend: Backend, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "ForSequenceClassification", num_labels=3, problem_type="regression")
    model = backend.load("ForSequenceClassification", folder)
    with pytest.raises(ValueError, match="labels of shape"):
        backend.call(model, {"input_ids": ids([0, 5], [0, 6]), "labels": np.zeros(3)})


def test_multiple_choice_has_one_score_whatever_num_labels(backend: Backend, tmp_path: Path) -> None:
    model = backend.load("ForMultipleChoice", checkpoints.make(tmp_path, "ForMultipleChoice", num_labels=7))
    tokens = np.random.default_rng(0).integers(3, 61, (2, 3, 5))
    output = backend.run(model, {"input_ids": tokens}, output_hidden_states=True, output_attentions=True)
    assert output["logits"].shape == (2, 3)
    assert output["hidden_states.1"].shape == (6, 5, 24)
    assert output["attentions.0"].shape == (6, 3, 5, 5)
    words = checkpoints.draw(checkpoints.small_config("ForMultipleChoice"), "ForMultipleChoice")
    embeds = words["roberta.embeddings.word_embeddings.weight"][tokens]
    found = backend.run(model, {"inputs_embeds": embeds})
    assert_close(found["logits"], output["logits"])


def test_padding_rows_get_no_gradient_but_through_the_tied_head(backend: Backend, tmp_path: Path) -> None:
    for head, name, is_zero in (
        ("ForTokenClassification", "word_embeddings", True),
        ("ForTokenClassification", "position_embeddings", True),
        ("ForMaskedLM", "word_embeddings", False),
    ):
        model = backend.load(head, checkpoints.make(tmp_path / head, head))
        inputs = {"input_ids": ids([0, 5, 1, 1]), "labels": ids([1, 2, 3, 4])}
        found = backend.gradients(model, inputs, lambda output: output.loss)[f"roberta.embeddings.{name}.weight"]
        assert (np.abs(found[1]).max() == 0) == is_zero, (head, name)
        other = 2 if name == "position_embeddings" else 5
        assert np.abs(found[other]).max() > 0


def test_attentions_are_given_on_request_and_change_nothing(backend: Backend, folder: Path) -> None:
    model = backend.load("ForMaskedLM", folder)
    inputs = {"input_ids": ids([0, 5, 6, 2]), "attention_mask": ids([1, 1, 1, 0])}
    found = backend.run(model, inputs, output_attentions=True)
    assert_close(found["logits"], backend.run(model, inputs)["logits"])
    assert_close(found["attentions.1"].sum(axis=-1), np.ones((1, 3, 4)))
    assert found["attentions.0"][..., 3].max() == 0


def test_encoder_states_need_cross_attention(backend: Backend, tmp_path: Path) -> None:
    model = backend.load("ForCausalLM", checkpoints.make(tmp_path, "ForCausalLM"))
    with pytest.raises(ValueError, match="add_cross_attention=True"):
        backend.call(model, {"input_ids": ids([0, 5]), "encoder_hidden_states": np.zeros((1, 3, 24))})


@pytest.mark.parametrize("head", ["Model", "ForCausalLM"])
def test_a_cache_needs_a_decoder(backend: Backend, tmp_path: Path, head: Head) -> None:
    folder = checkpoints.make(tmp_path, head, is_decoder=True)
    decoder = backend.load(head, folder)
    given = {"input_ids": ids([0, 5])}
    cache = backend.empty_cache(decoder, given["input_ids"])
    cache = backend.call(decoder, given, past_key_values=cache, use_cache=True).past_key_values
    model = backend.load(head, folder, is_decoder=False)
    if backend.name != "pt":  # PyTorch's classes accept it, for prefix tuning: tests/oracle/test_pytorch_oracle.py
        with pytest.raises(ValueError, match=r"past_key_values need a decoder; .*RobertaConfig\(is_decoder=True\)"):
            backend.call(model, given, past_key_values=cache)
    backend.call(model, given, past_key_values=() if backend.name != "flax" else {})
    way_out = backend.load(head, folder, config=checkpoints.small_config(head, is_decoder=True))
    found = backend.call(way_out, given, past_key_values=cache)
    wanted = backend.call(decoder, given, past_key_values=cache)
    assert np.array_equal(np.asarray(found[0]), np.asarray(wanted[0]))


def test_a_decoder_with_cross_attention_runs_without_encoder_states(backend: Backend, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "ForCausalLM", add_cross_attention=True)
    found = backend.run(backend.load("ForCausalLM", folder), {"input_ids": ids([0, 5])}, output_attentions=True)
    assert "cross_attentions.0" not in found


def test_without_decoder_mode_tokens_see_each_other_and_there_is_no_cache(backend: Backend, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "ForCausalLM", is_decoder=False)
    model = backend.load("ForCausalLM", folder)
    found = backend.call(model, {"input_ids": ids([0, 5, 6])})
    assert found.past_key_values is None
    other = backend.run(model, {"input_ids": ids([0, 5, 7])})
    assert np.abs(other["logits"][0, 0] - np.asarray(found.logits)[0, 0]).max() > 1e-3


@pytest.mark.parametrize("head", ["ForMaskedLM", "Model"])
def test_return_modes(backend: Backend, tmp_path: Path, head: Head) -> None:
    model = backend.load(head, checkpoints.make(tmp_path, head))
    inputs = {"input_ids": ids([0, 5, 2])}
    flags = {"output_hidden_states": True, "output_attentions": True}
    as_object = backend.call(model, inputs, **flags)
    as_tuple = backend.call(model, inputs, return_dict=False, **flags)
    assert isinstance(as_tuple, tuple)
    assert len(as_tuple) == len(as_object)
    for one, other in zip(as_tuple, as_object.to_tuple(), strict=True):
        assert type(one) is type(other)
    assert np.array_equal(np.asarray(as_tuple[0]), np.asarray(as_object[0]))
    assert as_object.hidden_states is as_object["hidden_states"]
    with pytest.raises(KeyError):
        as_object["loss"]


def test_without_a_pooler_its_slot_is_none_or_left_out_as_in_transformers(backend: Backend, tmp_path: Path) -> None:
    model = backend.load("Model", checkpoints.make(tmp_path, "Model"), add_pooling_layer=False)
    found = backend.call(model, {"input_ids": ids([0, 5])}, return_dict=False, output_hidden_states=True)
    assert len(found) == (2 if backend.name == "flax" else 3)
    assert backend.name == "flax" or found[1] is None
