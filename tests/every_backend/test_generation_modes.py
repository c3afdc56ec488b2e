"""Decoding methods against the definition of each, computed from full passes (in PyTorch, which compiles nothing)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import Backend, PyTorch, assert_close

IDS = np.array([[7, 9, 30, 11, 9, 30]])
TWO = np.array([[1, 1, 9, 30, 11, 5], [8, 21, 13, 40, 17, 9]])
NEW = 6
SETTINGS: dict[str, Any] = {"max_new_tokens": NEW, "eos_token_id": None}
EVERYTHING = {
    "return_dict_in_generate": True, "output_scores": True, "output_logits": True, "output_attentions": True,
    "output_hidden_states": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modes")
    checkpoints.make(folder / "model", "ForCausalLM", seed=4)
    checkpoints.make(folder / "small", "ForCausalLM", seed=5, num_hidden_layers=1)
    return folder


@functools.cache
def loaded(backend: Backend, folder: Path, name: str) -> Any:
    return backend.load("ForCausalLM", folder / name)


@pytest.fixture
def model(backend: Backend, folder: Path) -> Any:
    return loaded(backend, folder, "model")


def generated(backend: Backend, model: Any, ids: np.ndarray | None = IDS, **settings: Any) -> np.ndarray:
    inputs = {} if ids is None else {"inputs" if backend.name != "flax" else "input_ids": backend.constant(ids)}
    return np.asarray(model.generate(**inputs, **SETTINGS, **settings))


TORCH = PyTorch()


def step(model: Any, row: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Logits after a row, and the last hidden states of its tokens, from one full pass."""
    output = TORCH.run(model, {"input_ids": np.array([row])}, output_hidden_states=True)
    return output["logits"][0, -1], output[f"hidden_states.{model.config.num_hidden_layers}"][0]


def softmax(logits: np.ndarray) -> np.ndarray:
    values = np.exp(logits - logits.max())
    return values / values.sum()


def test_contrastive_search_weighs_probability_against_likeness(backend: Backend, folder: Path) -> None:
    model, reference = (loaded(one, folder, "model") for one in (backend, TORCH))
    row, alpha = IDS[0].tolist(), 0.95
    for _ in range(NEW):
        logits, _ = step(reference, row)
        worth = {}
        for token in np.argsort(-logits)[:4]:
            _, hidden = step(reference, [*row, int(token)])
            unit = hidden / np.linalg.norm(hidden, axis=1, keepdims=True)
            worth[int(token)] = (1 - alpha) * softmax(logits)[token] - alpha * (unit[:-1] @ unit[-1]).max()
        row.append(max(worth, key=lambda token: worth[token]))
    found = generated(backend, model, penalty_alpha=alpha, top_k=4)
    assert found.tolist() == [row]
    assert found.tolist() != generated(backend, model).tolist()


def test_groups_of_one_beam_avoid_what_those_before_them_chose(backend: Backend, folder: Path) -> None:
    model, reference = (loaded(one, folder, "model") for one in (backend, TORCH))
    rows, scores = [IDS[0].tolist() for _ in range(3)], [0.0, 0.0, 0.0]
    for _ in range(NEW):
        counts = np.zeros(model.config.vocab_size)
        for index, row in enumerate(rows):
            logits, _ = step(reference, row)
            values = np.log(softmax(logits)) - 1.5 * counts
            token = int(values.argmax())
            counts[token] += 1
            rows[index], scores[index] = [*row, token], scores[index] + float(values[token])
    wanted = [rows[index] for index in np.argsort([-score for score in scores])]
    hub = {"custom_generate": "transformers-community/group-beam-search", "trust_remote_code": True}
    groups = {"num_beam_groups": 3, "diversity_penalty": 1.5}
    found = generated(backend, model, num_beams=3, num_return_sequences=3, **groups, **hub)
    assert found.tolist() == wanted
    assert len({tuple(row) for row in wanted}) == 3


@pytest.mark.parametrize("how", ["assistant", "itself", "lookup", "sampled"])
def test_guessing_tokens_changes_nothing_that_is_returned(backend: Backend, folder: Path, how: str) -> None:
    model = loaded(backend, folder, "model")
    helper = {"assistant": "small", "sampled": "small", "itself": "model"}.get(how)
    guesses = {"assistant_model": loaded(backend, folder, helper)} if helper else {"prompt_lookup_num_tokens": 3}
    draws = {"do_sample": True, "seed": 5, "top_k": 0} if how == "sampled" else {}
    if backend.name == "flax" and how in ("itself", "sampled"):
        pytest.skip("the driver is shared, and each method needs its own compilation")
    ids = backend.constant(IDS)
    wanted = model.generate(ids, **SETTINGS, **EVERYTHING, **draws)
    found = model.generate(ids, **SETTINGS, **EVERYTHING, **draws, **guesses, num_assistant_tokens=2)
    assert np.array_equal(np.asarray(found.sequences), np.asarray(wanted.sequences))
    for name in ("scores", "logits"):
        for one, other in zip(found[name], wanted[name], strict=True):
            assert_close(np.asarray(one), np.asarray(other), 1e-10, name)
    for name in ("attentions", "hidden_states"):
        for one, other in zip(found[name], wanted[name], strict=True):
            for layer, same in zip(one, other, strict=True):
                assert_close(np.asarray(layer), np.asarray(same), 1e-10, name)


def embedded(backend: Backend, folder: Path, ids: np.ndarray) -> Any:
    """The word embeddings of ids."""
    words = backend.parameters(loaded(backend, folder, "model"))["roberta.embeddings.word_embeddings.weight"]
    return backend.constant(words[ids])


@pytest.mark.parametrize("beams", [1, 2])
def test_embeddings_go_on_as_their_ids_do(backend: Backend, folder: Path, beams: int) -> None:
    if backend.name == "flax" and beams > 1:
        pytest.skip("the driver is shared, and each width needs its own compilation")
    model, mask = loaded(backend, folder, "model"), backend.constant((TWO != 1).astype(np.int64))
    wanted = generated(backend, model, TWO, num_beams=beams)
    embeds = embedded(backend, folder, TWO)
    alone = generated(backend, model, None, inputs_embeds=embeds, attention_mask=mask, num_beams=beams)
    assert alone.tolist() == wanted[:, TWO.shape[1] :].tolist()
    assert generated(backend, model, TWO, inputs_embeds=embeds, num_beams=beams).tolist() == wanted.tolist()


def test_generation_goes_on_from_the_cache_of_another(backend: Backend, model: Any) -> None:
    wanted = generated(backend, model, TWO)
    first = model.generate(backend.constant(TWO), max_new_tokens=2, eos_token_id=None, return_dict_in_generate=True)
    rest = {"max_new_tokens": NEW - 2, "eos_token_id": None, "past_key_values": first.past_key_values}
    last = model.generate(first.sequences, **rest)
    assert np.asarray(last).tolist() == wanted.tolist()
    with pytest.raises(ValueError, match="past_key_values hold 7 tokens and input_ids 6"):
        model.generate(backend.constant(TWO), **rest)


def test_embeddings_go_on_from_the_cache_of_their_beginning(backend: Backend, folder: Path, model: Any) -> None:
    settings = {"eos_token_id": None, "return_dict_in_generate": True}
    mask = (TWO != 1).astype(np.int64)
    first = model.generate(
        inputs_embeds=embedded(backend, folder, TWO),
        attention_mask=backend.constant(mask),
        max_new_tokens=2,
        **settings,
    )
    ids = np.concatenate((TWO, np.asarray(first.sequences)), axis=1)
    last = model.generate(
        inputs_embeds=embedded(backend, folder, ids),
        attention_mask=backend.constant(np.pad(mask, ((0, 0), (0, 2)), constant_values=1)),
        past_key_values=first.past_key_values, max_new_tokens=NEW - 2, **settings,
    )  # fmt: skip
    wanted = generated(backend, model, TWO)
    assert np.concatenate((ids, np.asarray(last.sequences)), axis=1).tolist() == wanted.tolist()


class Streamer:
    def __init__(self) -> None:
        self.parts: list[np.ndarray] = []
        self.is_done = False

    def put(self, value: Any) -> None:
        self.parts.append(np.asarray(value))

    def end(self) -> None:
        self.is_done = True


def test_what_is_prepared_is_what_a_call_takes(backend: Backend, model: Any) -> None:
    ids = backend.constant(IDS)
    prepared = model.prepare_inputs_for_generation(ids, **({"max_length": 9} if backend.name == "flax" else {}))
    logits = model(**{"input_ids": ids, **prepared}).logits
    logits = logits.detach() if backend.name == "pt" else logits
    assert_close(np.asarray(logits), backend.run(model, {"input_ids": IDS})["logits"])


def test_a_class_says_whether_it_generates(backend: Backend) -> None:
    assert [head for head in checkpoints.HEADS if backend.classes(head).can_generate()] == ["ForCausalLM"]


def test_minus_one_is_no_end_token(backend: Backend, model: Any) -> None:
    found = model.generate(backend.constant(IDS), max_new_tokens=NEW, eos_token_id=-1, pad_token_id=-1)
    assert np.asarray(found).tolist() == generated(backend, model).tolist()


def test_a_streamer_gets_the_prompt_and_then_each_token(backend: Backend, model: Any) -> None:
    streamer = Streamer()
    found = generated(backend, model, streamer=streamer)
    assert streamer.is_done
    assert [part.shape for part in streamer.parts] == [IDS.shape, *[(1,)] * NEW]
    assert np.concatenate([part.ravel() for part in streamer.parts]).tolist() == found[0].tolist()
    with pytest.raises(ValueError, match="set num_beams=1"):
        generated(backend, model, streamer=streamer, num_beams=2)


@pytest.mark.parametrize("beams", [1, 2])
def test_callables_of_the_caller_decide(backend: Backend, model: Any, beams: int) -> None:
    seen: list[Any] = []

    def only_even(ids: Any, scores: Any) -> Any:
        seen.append((type(ids), type(scores)))
        values = np.array(scores)
        values[:, 1::2] = -np.inf
        return backend.constant(values)

    found = generated(backend, model, TWO, logits_processor=[only_even], num_beams=beams)[:, 6:]
    assert (found % 2 == 0).all()
    assert {kind for kinds in seen for kind in kinds} == {type(backend.constant(np.ones(1)))}
    stops: dict[str, Callable[..., Any]] = {
        "all": lambda ids, scores, **_: ids.shape[1] >= 9,
        "each": lambda ids, scores: backend.constant(np.full(ids.shape[0], ids.shape[1] >= 8)),
    }
    for name, length in (("all", 9), ("each", 8)):
        assert generated(backend, model, TWO, stopping_criteria=[stops[name]], num_beams=beams).shape[1] == length
    allowed = generated(backend, model, TWO, prefix_allowed_tokens_fn=lambda row, ids: [5 + row, 9], num_beams=beams)
    assert set(allowed[0, 6:].tolist()) <= {5, 9}
    assert set(allowed[1, 6:].tolist()) <= {6, 9}


def test_transition_scores_add_up_to_those_of_the_beams(backend: Backend, model: Any) -> None:
    found = model.generate(
        backend.constant(IDS), max_new_tokens=NEW, num_beams=2, num_return_sequences=2, eos_token_id=[4, 5, 6, 7],
        length_penalty=0.0, return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    each = np.asarray(model.compute_transition_scores(found.sequences, found.scores, found.beam_indices))
    assert_close(each.sum(axis=1), np.asarray(found.sequences_scores), 1e-5)


def test_transition_scores_are_log_probabilities_where_asked_for(backend: Backend, model: Any) -> None:
    plain = model.generate(backend.constant(IDS), **SETTINGS, return_dict_in_generate=True, output_scores=True)
    found = np.asarray(model.compute_transition_scores(plain.sequences, plain.scores, normalize_logits=True))
    tokens = np.asarray(plain.sequences)[0, IDS.shape[1] :]
    wanted = [np.log(softmax(np.asarray(scores)[0])[token]) for scores, token in zip(plain.scores, tokens, strict=True)]
    assert_close(found, np.array([wanted]))


def test_a_model_that_is_no_decoder_reads_all_tokens_at_each_step(backend: Backend, folder: Path) -> None:
    model, reference = (one.load("ForCausalLM", folder / "small", is_decoder=False) for one in (backend, TORCH))
    row = IDS[0].tolist()
    for _ in range(3):
        row.append(int(step(reference, row)[0].argmax()))
    found = np.asarray(model.generate(backend.constant(IDS), max_new_tokens=3, eos_token_id=None))
    assert found.tolist() == [row]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"force_words_ids": [[5]]}, "force_words_ids=.* is not supported.*prefix_allowed_tokens_fn"),
        ({"custom_generate": "someone/loop"}, "custom_generate='someone/loop' is not supported"),
        ({"custom_generate": "transformers-community/group-beam-search"}, "needs num_beam_groups above 1"),
        ({"synced_gpus": True}, "synced_gpus=True is not supported"),
        ({"stop_strings": "a"}, "stop_strings=.* needs the tokenizer"),
        ({"num_beams": 3, "num_beam_groups": 2}, "num_beam_groups=2 must divide num_beams=3"),
        ({"prompt_lookup_num_tokens": 2, "num_beams": 2}, "num_beams=2 does not go with prompt_lookup_num_tokens"),
        ({"prompt_lookup_num_tokens": 2, "use_cache": False}, "needs the cache of a decoder"),
        ({"negative_prompt_ids": IDS}, "negative_prompt_ids do nothing without guidance_scale"),
    ],
)
def test_what_is_not_done_is_refused_with_a_way_out(
    backend: Backend, model: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        generated(backend, model, **settings)
