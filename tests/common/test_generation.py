"""Decoding: the driver over a made-up language model, its settings, and `generate` of each framework."""

from __future__ import annotations

import functools
import itertools
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import make, small_config

from roberta.common.generation.config import GenerationConfig, generation_defaults
from roberta.common.generation.processors import log_softmax
from roberta.common.generation.prompts import Plan, Prompts, plan_generation
from roberta.common.generation.search import decode

VOCAB = 6
PROMPT = [[0, 3, 4]]
GREEDY = {"max_new_tokens": 5, "eos_token_id": None}


class Toy:
    """A language model whose logits depend on every token of a row; it keeps its rows like a cache."""

    def __init__(self, seed: int = 0, vocab: int = VOCAB) -> None:
        self.seed, self.vocab = seed, vocab
        self.rows: list[tuple[int, ...]] = []

    def logits(self, row: tuple[int, ...]) -> np.ndarray:
        return np.random.default_rng((self.seed, *row)).normal(0, 1.5, self.vocab)

    def start(self, inputs: Mapping[str, np.ndarray], copies: int) -> np.ndarray:
        rows = zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
        self.rows = [tuple(ids[mask == 1]) for ids, mask in rows for _ in range(copies)]
        return np.array([self.logits(row) for row in self.rows])

    def step(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        self.rows = [(*row, ids[-1]) for row, ids in zip(self.rows, inputs["input_ids"], strict=True)]
        return np.array([self.logits(row) for row in self.rows])

    def reorder(self, rows: np.ndarray) -> None:
        self.rows = [self.rows[row] for row in rows]


def plan(ids: Any = PROMPT, vocab: int = VOCAB, mask: Any = None, **settings: Any) -> Plan:
    config = small_config("ForCausalLM", vocab_size=vocab)
    return plan_generation(config, GenerationConfig.from_model_config(config), settings, Prompts(ids, mask))


def run(ids: Any = PROMPT, *, toy: Toy | None = None, seed: int = 0, **settings: Any) -> Any:
    toy = toy or Toy()
    return decode(toy, plan(ids, toy.vocab, **settings), seed)


def log_probability(toy: Toy, new: tuple[int, ...]) -> float:
    rows = [(*PROMPT[0], *new[:index]) for index in range(len(new))]
    return sum(float(log_softmax(toy.logits(row))[token]) for row, token in zip(rows, new, strict=True))


# -- searches ------------------------------------------------------------------------------------------------


def test_greedy_takes_the_best_token_at_each_step() -> None:
    toy, row = Toy(), tuple(PROMPT[0])
    for _ in range(5):
        row = (*row, int(toy.logits(row).argmax()))
    assert run(**GREEDY).sequences.tolist() == [list(row)]


def test_a_row_ends_at_any_end_token_and_is_filled_with_padding() -> None:
    free = run([[0, 3, 4], [0, 4, 3]], **GREEDY).sequences
    ends = [int(free[0, 4])]
    found = run([[0, 3, 4], [0, 4, 3]], max_new_tokens=5, eos_token_id=ends).sequences
    for row, wanted in zip(found, free, strict=True):
        new = wanted[3:].tolist()
        kept = new[: new.index(ends[0]) + 1] if ends[0] in new else new
        assert row[3:].tolist() == [*kept, *[1] * (found.shape[1] - 3 - len(kept))]


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("eos", [None, 2, [2, 5]])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_beam_search_wide_enough_finds_what_trying_everything_finds(seed: int, eos: Any, penalty: float) -> None:
    toy, vocab, new = Toy(seed, 6), 6, 3
    ends = [eos] if isinstance(eos, int) else eos or []
    every = {
        tokens[: index + 1]
        for tokens in itertools.product(range(vocab), repeat=new)
        for index in range(new)
        if tokens[index] in ends or index == new - 1
        if not any(token in ends for token in tokens[:index])
    }
    scores = {tokens: log_probability(toy, tokens) / len(tokens) ** penalty for tokens in every}
    wanted = sorted(every, key=lambda tokens: -scores[tokens])[:4]
    found = run(
        toy=toy, max_new_tokens=new, num_beams=vocab**new, num_return_sequences=4, eos_token_id=eos,
        length_penalty=penalty, early_stopping="never", return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    new_tokens = [
        tuple(int(token) for token in row[3:][origins >= 0])
        for row, origins in zip(found.sequences, found.beam_indices, strict=True)
    ]
    assert new_tokens == wanted
    np.testing.assert_allclose(found.sequences_scores, [scores[tokens] for tokens in wanted], rtol=1e-6)


def test_one_prompts_beams_do_not_depend_on_the_others() -> None:
    settings = {"max_new_tokens": 6, "num_beams": 3, "eos_token_id": [2]}
    together = run([[0, 3, 4], [0, 4, 3], [5, 5, 5]], **settings).sequences
    for row in together:
        alone = run([row[:3].tolist()], **settings).sequences[0]
        assert alone.tolist() == row[: len(alone)].tolist()


def test_beam_indices_name_the_rows_whose_scores_add_up() -> None:
    found = run(max_new_tokens=5, num_beams=3, num_return_sequences=2, eos_token_id=None, length_penalty=0.0,
                return_dict_in_generate=True, output_scores=True)  # fmt: skip
    for row, origins, score in zip(found.sequences, found.beam_indices, found.sequences_scores, strict=True):
        parts = [found.scores[step][origin, row[3 + step]] for step, origin in enumerate(origins)]
        assert sum(parts) == pytest.approx(float(score))


def test_the_more_patient_a_beam_search_the_longer_it_goes_on_and_the_better_it_ends() -> None:
    steps, scores = [], []
    for seed in range(20):
        found = [
            run(toy=Toy(seed), max_new_tokens=8, num_beams=2, eos_token_id=[2, 5], length_penalty=2.0,
                early_stopping=early_stopping, return_dict_in_generate=True, output_scores=True)
            for early_stopping in (True, False, "never")
        ]  # fmt: skip
        steps.append([len(decoded.scores) for decoded in found])
        scores.append([float(decoded.sequences_scores[0]) for decoded in found])
    for figures in (np.array(steps), np.array(scores)):
        assert (np.diff(figures) >= 0).all()
        assert (np.diff(figures) > 0).any(axis=0).all()


def test_sampling_draws_from_the_softmax_of_the_scores() -> None:
    draws = run([[0, 3, 4]], do_sample=True, max_new_tokens=1, top_k=0, num_return_sequences=4000).sequences[:, 3]
    wanted = np.exp(log_softmax(Toy().logits((0, 3, 4))))
    np.testing.assert_allclose(np.bincount(draws, minlength=VOCAB) / 4000, wanted, atol=0.03)


@pytest.mark.parametrize("beams", [1, 3])
def test_the_seed_decides_the_draws(beams: int) -> None:
    settings = {"do_sample": True, "max_new_tokens": 6, "num_beams": beams}
    assert (run(seed=1, **settings).sequences == run(seed=1, **settings).sequences).all()
    assert len({run(seed=seed, **settings).sequences.tobytes() for seed in range(8)}) > 1


def test_beam_sampling_draws_continuations_without_putting_back() -> None:
    found = run(do_sample=True, num_beams=3, num_return_sequences=3, max_new_tokens=4, eos_token_id=None)
    assert len({tuple(row) for row in found.sequences.tolist()}) == 3


# -- settings that change scores -----------------------------------------------------------------------------


def changed(scores: list[float], ids: list[int], prompt: int = 1, **settings: Any) -> np.ndarray:
    """The scores of one row after the settings; the first `prompt` of its `ids` are the prompt."""
    made = plan([ids[:prompt]], vocab=len(scores), **{"max_new_tokens": 9, "eos_token_id": None, **settings})
    return made.processed(np.array([ids]), np.array([scores]))[0]


@pytest.mark.parametrize(
    ("settings", "out"),
    [
        ({"no_repeat_ngram_size": 1}, {3, 4, 5}),
        ({"no_repeat_ngram_size": 2}, {4}),
        ({"no_repeat_ngram_size": 3}, {4}),
        ({"no_repeat_ngram_size": 9}, set()),
        ({"bad_words_ids": [[2], [3, 5], [4, 5]]}, {2, 5}),
        ({"bad_words_ids": [[4, 5, 4, 3, 4, 5, 3]]}, set()),
        ({"bad_words_ids": [[0], [2]], "eos_token_id": 2}, {0}),
        ({"suppress_tokens": [0, 3], "begin_suppress_tokens": [4]}, {0, 3}),
        ({"min_new_tokens": 5, "eos_token_id": [2, 5]}, {2, 5}),
        ({"min_new_tokens": 4, "eos_token_id": [2, 5]}, set()),
        ({"min_length": 7, "eos_token_id": 2}, {2}),
        ({"min_length": 6, "eos_token_id": 2}, set()),
        ({"do_sample": True, "top_k": 2}, {0, 1, 2, 3}),
        ({"do_sample": True, "top_k": 1, "num_beams": 2, "eos_token_id": [2, 3]}, {0, 1, 2}),
        ({"do_sample": True, "top_k": 0, "top_p": 0.6}, {0, 1, 2, 3, 4}),
        ({"do_sample": True, "top_k": 0, "top_p": 0.7}, {0, 1, 2, 3}),
        ({"do_sample": True, "top_k": 0, "top_p": 0.0}, {0, 1, 2, 3, 4}),
        ({"do_sample": True, "top_k": 0, "top_p": 0.7, "temperature": 5.0}, {0, 1}),
    ],
)  # fmt: skip
def test_what_the_settings_exclude(settings: dict[str, Any], out: set[int]) -> None:
    # softmax of 0..5: 0.004 0.012 0.032 0.086 0.233 0.634
    scores = changed([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [4, 3, 4, 5, 4, 3], prompt=2, **settings)
    assert set(np.flatnonzero(np.isinf(scores)).tolist()) == out


def test_begin_suppress_tokens_hold_for_the_first_new_token_only() -> None:
    settings = {"begin_suppress_tokens": [4]}
    assert np.isinf(changed([0.0] * 6, [3], prompt=1, **settings)).nonzero()[0].tolist() == [4]
    assert np.isfinite(changed([0.0] * 6, [3, 3], prompt=1, **settings)).all()


def test_a_bad_word_of_two_tokens_counts_after_a_context_of_one() -> None:
    assert np.isinf(changed([0.0] * 6, [3], bad_words_ids=[[3, 5]])).nonzero()[0].tolist() == [5]


def test_the_repetition_penalty_lowers_scores_of_either_sign() -> None:
    found = changed([2.0, -2.0, 2.0, 0.0, 1.0, 1.0], [0, 1, 0], repetition_penalty=2.0)
    assert found.tolist() == [1.0, -4.0, 2.0, 0.0, 1.0, 1.0]


def test_processing_leaves_the_logits_alone() -> None:
    logits = np.zeros((1, 6))
    plan([[3]], suppress_tokens=[0, 1], repetition_penalty=2.0).processed(np.array([[3]]), logits)
    assert (logits == 0).all()


@pytest.mark.parametrize("settings", [{}, {"num_beams": 2}, {"do_sample": True, "top_k": 0}])
def test_excluding_every_token_is_an_error(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no token is left to choose"):
        run(suppress_tokens=[*range(VOCAB)], **settings)


# -- before the first step -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ids": [[3, 4, 5]], "mask": [[0.5, 1, 1]]}, "attention_mask of shape"),
        ({"ids": [[3, 4, 5]], "mask": [[2, 1, 1]]}, "attention_mask must be 1 for tokens"),
        ({"ids": [[3, 4, 5]], "mask": [[1, 1]]}, r"integers of shape \(1, 3\)"),
        ({"ids": [3, 4, 5]}, r"input_ids of shape \(3,\)"),
        ({"ids": [[]]}, r"input_ids of shape \(1, 0\)"),
        ({"ids": [[3, 6]]}, "input_ids holds 6, allowed are 0 to 5"),
        ({"eos_token_id": 6}, "eos_token_id holds 6"),
        ({"suppress_tokens": [0, 9]}, "suppress_tokens holds 9"),
        ({"ids": None, "bos_token_id": None}, "give input_ids, or a bos_token_id"),
        ({"max_length": 3}, "max_length=3 leaves nothing to generate after a prompt of 3 tokens"),
        (
            {"max_new_tokens": 27},
            "a prompt of 3 tokens and 27 new ones exceed the 28 tokens .* max_new_tokens to 26",
        ),
        ({"max_new_tokens": 26, "penalty_alpha": 0.5}, "max_new_tokens to 25"),  # which also reads the last one
        ({"ids": [[3] * 29]}, "truncate the prompt"),
        ({"max_new_tokens": 4, "min_length": 9}, "at least 6 new tokens are asked for, and at most 4"),
    ],
)
def test_what_cannot_work_is_refused_before_the_model_runs(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(**arguments)


@pytest.mark.parametrize("arguments", [{"ids": [[3, 4, 1]]}, {"ids": [[3, 4, 5]], "mask": [[1, 1, 0]]}])
def test_padding_on_the_right_is_warned_of(
    arguments: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roberta.common.generation.prompts._said", set())
    plan(**arguments)
    assert "row 0 of the prompts ends in padding" in caplog.text


def test_an_encoder_is_warned_of_and_has_no_cache(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roberta.common.generation.prompts._said", set())
    config = small_config("ForCausalLM", is_decoder=False)
    for _ in range(2):
        assert not plan_generation(config, GenerationConfig(), {}, Prompts(PROMPT)).config.use_cache
    assert caplog.text.count("is_decoder=True") == 1


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(TypeError, match="no setting penalty, stream; the settings are max_length"):
        plan(stream=None, penalty=0.5)


def test_a_setting_of_a_file_that_is_not_supported_is_refused() -> None:
    config = GenerationConfig.from_dict({"token_healing": True, "min_p": None, "constraints": None})
    with pytest.raises(ValueError, match=r"token_healing=True is not supported.*last token.*token_healing=False"):
        plan_generation(small_config("ForCausalLM"), config, {}, Prompts(PROMPT))


def test_a_setting_without_effect_is_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"top_p=0.5 does nothing without do_sample=True"):
        plan(top_p=0.5)
    with pytest.warns(UserWarning, match=r"max_length=9 does nothing without max_new_tokens=None"):
        assert plan(max_length=9, max_new_tokens=2).max_length == len(PROMPT[0]) + 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan(top_p=None, temperature=1.0, length_penalty=1.0)


def test_the_length_is_20_new_tokens_or_what_the_model_has_room_for() -> None:
    assert plan([[3] * 4]).max_length == 24
    assert plan([[3] * 20]).max_length == 28
    assert plan([[3] * 20], max_length=25).max_length == 25
    assert plan([[1] * 10 + [3] * 20]).max_length == 38  # padding takes no position


def test_relative_distances_count_padding() -> None:
    config = small_config("ForCausalLM", position_embedding_type="relative_key")
    made = plan_generation(config, GenerationConfig(), {}, Prompts([[1] * 10 + [3] * 5]))
    assert made.max_length == config.max_position_embeddings


def test_positions_skip_padding_and_those_of_a_step_follow_the_whole_pass() -> None:
    rows = plan([[1, 1, 3, 4]]).rows.appended(np.array([5])).appended(np.array([1])).appended(np.array([5]))
    assert rows.inputs()["position_ids"].tolist() == [[1, 1, 2, 3, 4, 1, 5]]
    assert rows.inputs()["attention_mask"].tolist() == [[0, 0, 1, 1, 1, 1, 1]]


# -- GenerationConfig ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_length", 0), ("max_new_tokens", 0), ("max_new_tokens", 2.0), ("min_length", -1),
        ("min_new_tokens", -1), ("num_beams", 0), ("num_beams", "a"), ("num_return_sequences", True),
        ("temperature", 0), ("temperature", -1.0), ("top_k", -1), ("top_k", 1.5), ("top_p", 1.1),
        ("top_p", "a"), ("repetition_penalty", 0), ("length_penalty", "a"), ("early_stopping", "always"),
        ("no_repeat_ngram_size", -1), ("do_sample", "yes"), ("use_cache", "yes"),
        ("eos_token_id", -2), ("eos_token_id", ["a"]), ("pad_token_id", 1.0), ("bad_words_ids", [5]),
        ("bad_words_ids", [[]]), ("suppress_tokens", 5), ("begin_suppress_tokens", [-1]),
    ],
)  # fmt: skip
def test_a_value_that_cannot_work_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field}="):
        GenerationConfig(**{"do_sample": True, field: value})


def test_what_sampling_alone_reads_may_be_anything_without_it() -> None:
    GenerationConfig(temperature=0.0, top_k=-1, top_p=2.0).validate()
    with pytest.warns(UserWarning, match=r"temperature=0\.0 does nothing without do_sample=True"):
        found = run(temperature=0.0, **GREEDY).sequences
    assert found.tolist() == run(**GREEDY).sequences.tolist()
    with pytest.raises(ValueError, match=r"temperature=0\.0 must be a number above 0"):
        plan(temperature=0.0, do_sample=True)


def test_none_turns_a_setting_off_and_numbers_may_be_numpys_or_a_frameworks() -> None:
    own = GenerationConfig(do_sample=True, repetition_penalty=2.0, max_length=9, top_k=7)
    off = own.updated({"do_sample": None, "repetition_penalty": None, "max_length": None, "top_k": None})
    assert (off.do_sample, off.repetition_penalty, off.max_length, off.top_k) == (False, 1.0, 20, None)
    torch = pytest.importorskip("torch")
    given = GenerationConfig(
        max_new_tokens=np.int64(4), temperature=np.float32(0.5), eos_token_id=torch.tensor([2, 3]),
        suppress_tokens=[np.int64(5)], bad_words_ids=np.array([[4, 5]]),
    )  # fmt: skip
    wanted = GenerationConfig(
        max_new_tokens=4, temperature=0.5, eos_token_id=[2, 3], suppress_tokens=[5], bad_words_ids=[[4, 5]]
    )
    assert given == wanted
    assert given.to_json_string() == wanted.to_json_string()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_return_sequences": 2}, "set do_sample=True or num_beams"),
        ({"num_return_sequences": 3, "num_beams": 2}, "exceeds num_beams=2"),
        ({"min_new_tokens": 5, "max_new_tokens": 4}, "exceeds max_new_tokens=4"),
    ],
)
def test_values_that_contradict_each_other_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GenerationConfig(**fields)


def test_a_file_keeps_what_differs_and_what_it_does_not_know(tmp_path: Path) -> None:
    file = tmp_path / "generation_config.json"
    file.write_text(json.dumps({"top_k": 5, "typical_p": 0.5, "note": "x", "transformers_version": "4.57.6"}))
    config = GenerationConfig.from_pretrained(tmp_path, num_beams=2)
    config.save_pretrained(tmp_path / "again")
    text = (tmp_path / "again" / "generation_config.json").read_text()
    assert json.loads(text) == {"top_k": 5, "num_beams": 2, "typical_p": 0.5, "note": "x"}
    assert text.endswith("}\n")
    assert GenerationConfig.from_pretrained(tmp_path / "again") == config


def test_a_folder_without_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"has no generation_config.json"):
        GenerationConfig.from_pretrained(tmp_path)


def test_the_models_config_gives_token_ids_and_older_settings() -> None:
    config = small_config("ForCausalLM", eos_token_id=[2, 5], num_beams=3, typical_p=0.5, output_attentions=True)
    found = GenerationConfig.from_model_config(config).to_diff_dict()
    assert found == {
        "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": [2, 5], "num_beams": 3, "typical_p": 0.5,
    }  # fmt: skip


def test_the_file_beside_the_weights_decides_and_lacks_no_token_ids(tmp_path: Path) -> None:
    config = small_config("ForCausalLM", name_or_path=str(tmp_path), num_beams=3)
    assert generation_defaults(config).num_beams == 3
    GenerationConfig(top_k=7, pad_token_id=5).save_pretrained(tmp_path)
    found = generation_defaults(config)
    assert (found.num_beams, found.top_k, found.eos_token_id, found.pad_token_id) == (1, 7, 2, 5)


@pytest.mark.parametrize("way", ["moved", "subfolder", "edited"])
def test_a_model_keeps_the_settings_of_the_folder_it_was_loaded_from(backend: Any, way: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "inside", "ForCausalLM")
    GenerationConfig(num_beams=2, length_penalty=0.3, max_new_tokens=6).save_pretrained(folder)
    if way == "subfolder":
        model = backend.load("ForCausalLM", tmp_path, subfolder="inside")
    else:
        model = backend.load("ForCausalLM", folder)
    if way == "moved":
        folder.rename(tmp_path / "elsewhere")
    if way == "edited":
        GenerationConfig(num_beams=3).save_pretrained(folder)
    found = model.generation_config
    assert (found.num_beams, found.length_penalty, found.max_new_tokens) == (2, 0.3, 6)
    model.save_pretrained(tmp_path / "saved")
    assert GenerationConfig.from_pretrained(tmp_path / "saved") == found


def test_arguments_of_from_pretrained_replace_the_files_settings(backend: Any, tmp_path: Path) -> None:
    folder = make(tmp_path / "model", "ForCausalLM")
    GenerationConfig(num_beams=2, length_penalty=0.3).save_pretrained(folder)
    found = backend.load("ForCausalLM", folder, num_beams=5).generation_config
    assert (found.num_beams, found.length_penalty) == (5, 0.3)


# -- generate() of each framework ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Decoders with large random weights: plain, with cross-attention, and with relative positions."""
    kinds: dict[str, dict[str, Any]] = {
        "plain": {},
        "cross": {"add_cross_attention": True},
        "distances": {"position_embedding_type": "relative_key_query"},
    }
    base = tmp_path_factory.mktemp("generate")
    return {name: make(base / name, "ForCausalLM", seed=2, **values) for name, values in kinds.items()}


def inputs_for(kind: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    ids = rng.integers(3, 61, (2, 6))
    ids[1, :3] = 1
    types = np.array([[0, 1, 0, 0, 1, 1], [0, 0, 0, 1, 0, 1]])
    inputs = {"input_ids": ids, "attention_mask": (ids != 1).astype(np.int64), "token_type_ids": types}
    if kind == "cross":
        inputs["encoder_hidden_states"] = rng.normal(size=(2, 4, 24))
        inputs["encoder_attention_mask"] = np.array([[1, 1, 1, 0], [1, 1, 1, 1]])
    return inputs


@functools.cache
def loaded(backend: Any, folder: Path) -> Any:
    """One model for all tests, so that its programs are compiled once."""
    return backend.load("ForCausalLM", folder)


def generate(backend: Any, model: Any, inputs: Mapping[str, np.ndarray], **settings: Any) -> Any:
    return model.generate(**{name: backend.constant(value) for name, value in inputs.items()}, **settings)


@pytest.mark.parametrize("kind", ["plain", "cross", "distances"])
def test_greedy_is_the_argmax_of_the_models_own_call(backend: Any, folders: Any, kind: str) -> None:
    model, inputs = loaded(backend, folders[kind]), inputs_for(kind)
    with_cache = np.asarray(generate(backend, model, inputs, **GREEDY))
    without = np.asarray(generate(backend, model, inputs, use_cache=False, **GREEDY))
    # causal: one pass over the result gives the logits of every step
    types, mask = inputs["token_type_ids"], inputs["attention_mask"]
    inputs["input_ids"] = with_cache.astype(np.int64)
    inputs["attention_mask"] = np.pad(mask, ((0, 0), (0, GREEDY["max_new_tokens"])), constant_values=1)
    inputs["token_type_ids"] = np.pad(types, ((0, 0), (0, GREEDY["max_new_tokens"])), mode="edge")
    best = backend.run(model, inputs)["logits"].argmax(axis=-1)
    assert with_cache[:, 6:].tolist() == best[:, 5:-1].tolist()
    assert without.tolist() == with_cache.tolist()


def test_padding_on_the_left_changes_nothing(backend: Any, folders: Any) -> None:
    model, inputs = loaded(backend, folders["plain"]), inputs_for("plain")
    settings = {"num_beams": 3, "max_new_tokens": 5}
    together = np.asarray(generate(backend, model, inputs, **settings))
    alone = {name: value[1:, 3:] for name, value in inputs.items()}
    row = np.asarray(generate(backend, model, alone, **settings))[0]
    assert together[1, 3 : 3 + len(row)].tolist() == row.tolist()


@pytest.mark.parametrize("settings", [{"do_sample": True, "top_p": 0.9, "num_return_sequences": 2},
                                      {"num_beams": 3, "num_return_sequences": 2, "eos_token_id": [2, 9, 11]},
                                      {"num_beams": 3, "do_sample": True}])  # fmt: skip
@pytest.mark.parametrize("use_cache", [True, False])
def test_the_tokens_are_the_same_in_every_framework(
    backend: Any, folders: Any, settings: dict[str, Any], use_cache: bool
) -> None:
    from backends import backend as get_backend

    found = []
    for each, cached in ((backend, use_cache), (get_backend("pt"), True)):
        model = loaded(each, folders["cross"])
        made = generate(each, model, inputs_for("cross"), seed=4, max_new_tokens=7, use_cache=cached, **settings)
        found.append(np.asarray(made))
    assert found[0].tolist() == found[1].tolist()


@pytest.mark.parametrize("settings", [{}, {"num_beams": 2}, {"num_return_sequences": 3, "do_sample": True}])
def test_everything_that_is_asked_for_comes_with_its_shape(backend: Any, folders: Any, settings: Any) -> None:
    model, inputs = loaded(backend, folders["plain"]), inputs_for("plain")
    found = generate(
        backend, model, inputs, **GREEDY, **settings, return_dict_in_generate=True, output_scores=True,
        output_logits=True, output_attentions=True, output_hidden_states=True,
    )  # fmt: skip
    rows = 2 * settings.get("num_beams", settings.get("num_return_sequences", 1))
    assert found.sequences.shape == (2 * settings.get("num_return_sequences", 1), 11)
    assert [scores.shape for scores in (*found.scores, *found.logits)] == [(rows, 61)] * 10
    for step, (layers, states) in enumerate(zip(found.attentions, found.hidden_states, strict=True)):
        seq = 1 if step else 6
        assert [layer.shape for layer in layers] == [(rows, 3, seq, 6 + step)] * 2
        assert [state.shape for state in states] == [(rows, seq, 24)] * 3
    assert found.past_key_values is not None
    assert type(found).__name__ == ("GenerateBeamDecoderOnlyOutput" if "num_beams" in settings
                                    else "GenerateDecoderOnlyOutput")  # fmt: skip


def test_without_a_prompt_the_first_token_is_bos(backend: Any, folders: Any) -> None:
    model = loaded(backend, folders["plain"])
    found = np.asarray(model.generate(max_new_tokens=4, bos_token_id=7, eos_token_id=None))
    assert found.shape == (1, 5)
    assert found[0, 0] == 7


def test_the_models_generation_config_is_the_default_and_the_call_goes_before_it(backend: Any, folders: Any) -> None:
    model, inputs = loaded(backend, folders["plain"]), inputs_for("plain")
    model.generation_config = GenerationConfig(max_new_tokens=3, eos_token_id=None)
    assert generate(backend, model, inputs).shape == (2, 9)
    assert generate(backend, model, inputs, max_new_tokens=2).shape == (2, 8)
    given = GenerationConfig(max_new_tokens=4, min_new_tokens=4)
    assert generate(backend, model, inputs, generation_config=given).shape == (2, 10)
    assert given.eos_token_id is None
    with pytest.raises(TypeError, match=r"no setting 'do_sampel' .did you mean .do_sample"):
        generate(backend, model, inputs, do_sampel=True)
    model.generation_config = None


def test_sampling_without_a_seed_draws_anew(backend: Any, folders: Any) -> None:
    model, inputs = loaded(backend, folders["plain"]), inputs_for("plain")
    draws = [np.asarray(generate(backend, model, inputs, do_sample=True, **GREEDY)) for _ in range(4)]
    assert len({draw.tobytes() for draw in draws}) > 1


def test_generating_keeps_pytorchs_training_mode_and_drops_nothing(folders: Any) -> None:
    from backends import backend as get_backend

    pt = get_backend("pt")
    model, inputs = loaded(pt, folders["plain"]), inputs_for("plain")
    wanted = generate(pt, model, inputs, **GREEDY)
    model.train()
    model.lm_head.eval()
    assert (generate(pt, model, inputs, **GREEDY) == wanted).all()
    assert (model.training, model.roberta.training, model.lm_head.training) == (True, True, False)
    model.eval()


def test_a_generation_config_keeps_every_keyword(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = GenerationConfig(top_kk=3, cache_implementation="static")
    assert (config.top_kk, config.cache_implementation, config.assistant_early_exit) == (3, "static", None)
    assert [record.getMessage() for record in caplog.records] == [
        "GenerationConfig does not know 'top_kk' (did you mean \"top_k\"?); it is kept as it is"
    ]
    config.own = [1]
    assert config.update(max_new_tokens=7, own=[2], nothing=1) == {"nothing": 1}
    with pytest.raises(ValueError, match="num_beams=0"):
        config.update(own=[3], num_beams=0)
    assert (config.max_new_tokens, config.own, config.num_beams) == (7, [2], 1)
    config.save_pretrained(tmp_path, "other.json")
    config.to_json_file(tmp_path / "same.json")
    read, unused = GenerationConfig.from_pretrained(
        tmp_path, config_file_name="other.json", num_beams=2, nobody=1, proxies={}, return_unused_kwargs=True
    )
    assert (read.own, read.top_kk, read.num_beams, unused) == ([2], 3, 2, {"nobody": 1})
    assert (tmp_path / "same.json").read_text() == (tmp_path / "other.json").read_text()
    assert hash(GenerationConfig.from_pretrained(tmp_path / "same.json")) == hash(config)
    with pytest.raises(AttributeError, match="has no attribute 'nobody'"):
        _ = config.nobody


@pytest.mark.parametrize(
    ("settings", "mode"),
    [
        ({}, "greedy_search"), ({"do_sample": True}, "sample"), ({"num_beams": 2}, "beam_search"),
        ({"num_beams": 2, "do_sample": True}, "beam_sample"), ({"penalty_alpha": 0.5}, "contrastive_search"),
        ({"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5}, "group_beam_search"),
        ({"prompt_lookup_num_tokens": 3}, "assisted_generation"),
    ],
)  # fmt: skip
def test_the_mode_is_what_transformers_calls_it(settings: dict[str, Any], mode: str) -> None:
    assert GenerationConfig(**settings).get_generation_mode() == mode


def test_a_strict_check_refuses_what_does_nothing() -> None:
    config = GenerationConfig(temperature=0.5)
    config.validate()
    with pytest.raises(ValueError, match=r"temperature=0\.5 does nothing without do_sample=True"):
        config.validate(strict=True)
