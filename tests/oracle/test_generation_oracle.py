"""`generate()` against transformers 4.57 with the positions of its own forward pass (its `generate` starts at 0).

Run as a program, this file is the peer: `python test_generation_oracle.py FOLDER` in an environment with
transformers 4.57 reads FOLDER/model and cases.json, and writes peer.npz and a generation_config.json.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ORACLE = Path(os.environ.get("ROBERTA_ORACLE4", Path(__file__).parents[2] / ".oracle" / "transformers4"))

PLAIN = {"max_new_tokens": 8, "return_dict_in_generate": True, "output_scores": True, "output_logits": True}
BEAMS = {**PLAIN, "num_beams": 4, "num_return_sequences": 3}
# Every case with `do_sample` ends after one token: the scores from which it is drawn are compared.
CASES: dict[str, dict[str, Any]] = {
    "greedy": PLAIN,
    "greedy_everything": {**PLAIN, "output_attentions": True, "output_hidden_states": True},
    "greedy_penalty": {**PLAIN, "repetition_penalty": 1.7},
    "greedy_ngram": {**PLAIN, "no_repeat_ngram_size": 1, "max_new_tokens": 14},
    "greedy_bigram": {**PLAIN, "no_repeat_ngram_size": 2, "max_new_tokens": 14},
    "greedy_bad_words": {**PLAIN, "bad_words_ids": [[5], [7, 8], [2]]},
    "greedy_suppress": {**PLAIN, "suppress_tokens": [4, 9], "begin_suppress_tokens": [3, 11]},
    "greedy_ends": {**PLAIN, "eos_token_id": [*range(10, 40)]},
    "greedy_min_new": {**PLAIN, "eos_token_id": [*range(10, 40)], "min_new_tokens": 4},
    "greedy_min_length": {**PLAIN, "eos_token_id": [*range(10, 40)], "min_length": 12},
    "greedy_max_length": {"max_length": 17},
    "greedy_default": {},
    "greedy_bias": {**PLAIN, "sequence_bias": [[[5], -3.0], [[7], 4.0], [[7, 9], 6.0], [[7, 9, 11], 50.0]]},
    "greedy_prompt_penalty": {**PLAIN, "encoder_repetition_penalty": 2.5},
    "greedy_prompt_ngram": {**PLAIN, "encoder_no_repeat_ngram_size": 1, "repetition_penalty": 0.4},
    "greedy_forced_end": {**PLAIN, "forced_eos_token_id": [6, 8]},
    "greedy_decay": {**PLAIN, "eos_token_id": [6, 8], "exponential_decay_length_penalty": (2, 1.6)},
    "greedy_renormalize": {**PLAIN, "renormalize_logits": True, "remove_invalid_values": True, "suppress_tokens": [5]},
    "greedy_guided": {**PLAIN, "guidance_scale": 1.8},
    "greedy_not_cached": {**PLAIN, "use_cache": False},
    "greedy_max_time": {**PLAIN, "max_time": 1e-6},
    "beams_bias": {**BEAMS, "sequence_bias": [[[5], -3.0], [[7, 9], 6.0]], "forced_eos_token_id": 6},
    "beams_not_cached": {**BEAMS, "use_cache": False},
    "beams": BEAMS,
    "beams_everything": {**BEAMS, "output_attentions": True, "output_hidden_states": True},
    "beams_ends": {**BEAMS, "eos_token_id": [*range(10, 20)]},
    "beams_early": {**BEAMS, "eos_token_id": [*range(10, 20)], "early_stopping": True},
    "beams_never": {**BEAMS, "eos_token_id": [*range(10, 20)], "early_stopping": "never"},
    "beams_long": {**BEAMS, "eos_token_id": [*range(10, 20)], "length_penalty": 2.5},
    "beams_short": {**BEAMS, "eos_token_id": [*range(10, 20)], "length_penalty": -1.0},
    "beams_one_end": {**BEAMS, "eos_token_id": 15, "max_new_tokens": 14, "length_penalty": 0.0},
    "beams_settings": {**BEAMS, "no_repeat_ngram_size": 2, "min_new_tokens": 3, "repetition_penalty": 1.3},
    "beams_tokens": {"num_beams": 5, "max_new_tokens": 6},
    "one_beam_each": {**BEAMS, "num_beams": 2, "num_return_sequences": 1, "max_new_tokens": 1},
    **{
        f"sample_{name}": {**PLAIN, "do_sample": True, "max_new_tokens": 1, "top_k": 0, **settings}
        for name, settings in {
            "plain": {},
            "temperature": {"temperature": 0.6},
            "top_k": {"top_k": 7},
            "top_p": {"top_p": 0.8},
            "tiny_top_p": {"top_p": 0.01},
            "min_p": {"min_p": 0.05},
            "typical_p": {"typical_p": 0.6},
            "epsilon": {"epsilon_cutoff": 0.03},
            "eta": {"eta_cutoff": 0.04},
            "every_cut": {"top_k": 30, "min_p": 0.01, "typical_p": 0.9, "eta_cutoff": 0.01, "renormalize_logits": True},
            "all": {"temperature": 1.6, "top_k": 20, "top_p": 0.7, "repetition_penalty": 2.0},
        }.items()
    },
}
# A file of transformers with settings of every kind; unknown ones must come back unchanged.
FILE_SETTINGS = {
    "max_new_tokens": 7, "do_sample": True, "top_p": 0.9, "eos_token_id": [2, 5], "pad_token_id": 1,
    "bad_words_ids": [[4], [5, 6]], "renormalize_logits": True, "typical_p": 0.5, "token_healing": True,
}  # fmt: skip


def prompts(vocab_size: int) -> dict[str, np.ndarray]:
    """Three prompts, padded on the left."""
    ids = np.random.default_rng(5).integers(3, vocab_size, (3, 7))
    mask = np.arange(7) >= np.array([[0], [3], [5]])
    return {"input_ids": np.where(mask, ids, 1), "attention_mask": mask.astype(np.int64)}


def arrays(output: Any) -> dict[str, np.ndarray]:
    """The results of `generate`, by name; lists over steps and layers as `name.step.layer`."""
    if not hasattr(output, "keys"):
        return {"sequences": np.asarray(output)}
    found: dict[str, np.ndarray] = {}
    for name, value in output.items():
        if name == "past_key_values":
            continue
        steps = value if isinstance(value, tuple) else ()
        for index, step in enumerate(steps):
            layers = {f".{layer}": part for layer, part in enumerate(step)} if isinstance(step, tuple) else {"": step}
            found.update({f"{name}.{index}{layer}": np.asarray(part).copy() for layer, part in layers.items()})
        if not isinstance(value, tuple):
            found[name] = np.asarray(value)
    return found


@functools.cache
def loaded(backend: Any, folder: Path) -> Any:
    """One model for all cases, so that its programs are compiled once."""
    return backend.load("ForCausalLM", folder, dtype="float32")


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and the texts that transformers generates with it."""
    if not (ORACLE / "transformers").is_dir():
        pytest.skip("transformers 4.57 is not installed; `make oracle` installs it into .oracle")
    from checkpoints import make

    folder = tmp_path_factory.mktemp("generation")
    make(folder / "model", "ForCausalLM", seed=3, dtype="float32", num_hidden_layers=2, type_vocab_size=1)
    (folder / "ours").mkdir()
    from roberta.common.generation.config import GenerationConfig

    GenerationConfig(max_new_tokens=9, num_beams=3, eos_token_id=[2, 7]).save_pretrained(folder / "ours")
    (folder / "cases.json").write_text(json.dumps(CASES))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ORACLE),
        "USE_TF": "0",
        "USE_FLAX": "0",
        "HF_HUB_OFFLINE": "1",
    }
    subprocess.run([sys.executable, __file__, str(folder)], check=True, env=environment, timeout=300)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_generate_gives_the_tokens_and_scores_of_transformers(backend: Any, peer: Path, case: str) -> None:
    model = loaded(backend, peer / "model")
    inputs = {name: backend.constant(value) for name, value in prompts(model.config.vocab_size).items()}
    found = arrays(model.generate(**inputs, **CASES[case]))
    with np.load(peer / "peer.npz") as file:
        wanted = {key.partition("/")[2]: file[key] for key in file.files if key.startswith(f"{case}/")}
    if CASES[case].get("do_sample"):
        wanted.pop("sequences"), found.pop("sequences")
    assert found.keys() == wanted.keys()
    is_padding = prompts(model.config.vocab_size)["attention_mask"] == 0
    for name, value in wanted.items():
        if name.startswith(("attentions.0", "hidden_states.0")):  # results at padding tokens mean nothing
            rows = np.repeat(is_padding, len(value) // len(is_padding), axis=0)
            for array in (value, found[name]):
                np.swapaxes(array, 1, -2)[rows] = 0
        if value.dtype.kind == "i":
            np.testing.assert_array_equal(found[name], value, err_msg=name)
        else:
            is_finite = np.isfinite(value)
            np.testing.assert_array_equal(np.isfinite(found[name]), is_finite, err_msg=name)
            np.testing.assert_allclose(found[name][is_finite], value[is_finite], atol=2e-4, err_msg=name)


def test_a_generation_config_of_transformers_loads(peer: Path) -> None:
    from roberta.common.generation.config import GenerationConfig

    config = GenerationConfig.from_pretrained(peer / "peer_config")
    assert {**FILE_SETTINGS, **config.to_diff_dict()} == config.to_diff_dict()
    assert config.extra == {"token_healing": True}


def test_our_generation_config_loads_in_transformers(peer: Path) -> None:
    loaded = json.loads((peer / "loaded.json").read_text())
    assert (loaded["max_new_tokens"], loaded["num_beams"], loaded["eos_token_id"]) == (9, 3, [2, 7])


def run_peer(folder: Path) -> None:
    """Generate every case with transformers, with the positions of its own forward pass."""
    import torch
    from transformers import GenerationConfig, RobertaForCausalLM
    from transformers.models.roberta.modeling_roberta import create_position_ids_from_input_ids

    class Peer(RobertaForCausalLM):
        def prepare_inputs_for_generation(self, input_ids: Any, **kwargs: Any) -> dict[str, Any]:
            inputs = super().prepare_inputs_for_generation(input_ids, **kwargs)
            positions = create_position_ids_from_input_ids(input_ids, self.config.pad_token_id)
            inputs["position_ids"] = positions[:, -inputs["input_ids"].shape[1] :]
            return inputs

    model = Peer.from_pretrained(folder / "model")
    found = {}
    inputs = {name: torch.from_numpy(value) for name, value in prompts(model.config.vocab_size).items()}
    for case, settings in json.loads((folder / "cases.json").read_text()).items():
        for name, value in arrays(model.generate(**inputs, **settings)).items():
            found[f"{case}/{name}"] = value
    np.savez(folder / "peer.npz", **found)
    GenerationConfig(**FILE_SETTINGS).save_pretrained(folder / "peer_config")
    (folder / "loaded.json").write_text(json.dumps(GenerationConfig.from_pretrained(folder / "ours").to_dict()))


if __name__ == "__main__":
    run_peer(Path(sys.argv[1]))
