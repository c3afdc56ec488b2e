"""Every field of the config against transformers 4.57 in float64: outputs, loss, gradients, steps, `infer`, files.

Run as a program, this file is the peer: `python test_settings_oracle.py FOLDER` in an environment with transformers
4.57 reads the models in FOLDER and writes its results for each to FOLDER/<name>/peer.npz.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SEQ = 12
STOPS = (5, 6, 9, SEQ)
FLOATS = "float labels"  # several labels at once for a sequence, or numbers

# name -> head, fields of the config, and anything else that is special
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("ForMaskedLM", {}),
    "sizes": ("Model", {"vocab_size": 40, "hidden_size": 20, "num_attention_heads": 5, "intermediate_size": 9,
                        "max_position_embeddings": 17, "num_hidden_layers": 3}),
    "no layers": ("Model", {"num_hidden_layers": 0}),
    "types 1": ("ForMaskedLM", {"type_vocab_size": 1}),
    "types 3": ("ForMaskedLM", {"type_vocab_size": 3}),
    "eps large": ("ForMaskedLM", {"layer_norm_eps": 0.1}),
    "eps small": ("ForMaskedLM", {"layer_norm_eps": 1e-12}),
    "pad 0": ("ForMaskedLM", {"pad_token_id": 0, "bos_token_id": 1}),
    "pad 5": ("ForMaskedLM", {"pad_token_id": 5}),
    "relative_key": ("ForMaskedLM", {"position_embedding_type": "relative_key"}),
    "relative_key_query": ("ForMaskedLM", {"position_embedding_type": "relative_key_query"}),
    "decoder": ("ForCausalLM", {}),
    "decoder without cache": ("ForCausalLM", {"use_cache": False}),
    "decoder relative_key": ("ForCausalLM", {"position_embedding_type": "relative_key"}),
    "decoder relative_key_query": ("ForCausalLM", {"position_embedding_type": "relative_key_query"}),
    "cross": ("ForCausalLM", {"add_cross_attention": True}),
    "cross relative_key": ("ForCausalLM", {"add_cross_attention": True, "position_embedding_type": "relative_key"}),
    "both sides": ("ForCausalLM", {"is_decoder": False}),
    "decoder of labels": ("ForSequenceClassification", {"is_decoder": True}),
    "untied": ("ForMaskedLM", {"tie_word_embeddings": False}),
    "pruned": ("ForMaskedLM", {"pruned_heads": {0: [1], 1: [0, 2]}}),
    "chunks": ("ForMaskedLM", {"chunk_size_feed_forward": 4}),
    "dropouts": ("ForTokenClassification", {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.4,
                                            "classifier_dropout": 0.3}),
    "outputs": ("ForTokenClassification", {"output_hidden_states": True, "output_attentions": True}),
    "names": ("ForTokenClassification", {"num_labels": None, "id2label": {0: "a", 1: "b", 2: "c"},
                                         "label2id": {"a": 0, "b": 1, "c": 2}}),
    "one label": ("ForSequenceClassification", {"num_labels": 1}),
    "classes": ("ForSequenceClassification", {"problem_type": "single_label_classification"}),
    "numbers": ("ForSequenceClassification", {"problem_type": "regression"}),
    "several labels": ("ForSequenceClassification", {"problem_type": "multi_label_classification"}),
    "choice": ("ForMultipleChoice", {}),
    "spans": ("ForQuestionAnswering", {}),
    "eager": ("ForMaskedLM", {"attn_implementation": "eager"}),
    "inert": ("ForMaskedLM", {
        "initializer_range": 0.5, "bos_token_id": 7, "eos_token_id": [8, 9], "sep_token_id": 10, "dtype": "float16",
        "cross_attention_hidden_size": 5, "tie_encoder_decoder": True, "finetuning_task": "x", "prefix": "x",
        "task_specific_params": {"x": {}}, "tokenizer_class": "RobertaTokenizer", "decoder_start_token_id": 3,
        "tf_legacy_loss": True, "use_bfloat16": True, "return_dict": True, "torchscript": False,
        "is_encoder_decoder": False, "architectures": ["RobertaForMaskedLM"],
    }),
    **{name: ("Model", {"hidden_act": name, "num_hidden_layers": 1}) for name in (
        "gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh",
        "gelu_pytorch_tanh", "laplace", "leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2", "relu6",
        "sigmoid", "silu", "swish", "tanh",
    )},
}  # fmt: skip
# Fields that no call of a model reads: defaults of `generate` (tests/oracle/test_generation_oracle.py), the form
# of outputs (tests/every_backend/test_traps.py), and names.
ELSEWHERE = {
    "max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty",
    "temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "output_scores",
    "return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values",
    "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens", "name_or_path",
}  # fmt: skip
# Gradients and `infer` are compiled in Flax, which takes seconds each.
COMPILED_IN_FLAX = ("plain", "pad 5", "relative_key_query", "cross", "pruned", "several labels")


def arguments(name: str, config: Any) -> dict[str, np.ndarray]:
    """The inputs for a setting: ragged rows, with a hole in the mask, and labels."""
    import checkpoints

    head = SETTINGS[name][0]
    rng = np.random.default_rng(4)
    lengths = np.array([[SEQ], [9], [4]])
    real = np.arange(SEQ) < lengths
    ids = np.where(real, rng.integers(6, config.vocab_size, real.shape), config.pad_token_id)
    mask = real.astype(np.int64)
    mask[0, 3] = 0
    types = rng.integers(0, config.type_vocab_size, real.shape)
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    if head == "ForMultipleChoice":
        inputs = {key: value[None] for key, value in inputs.items()}
    if config.add_cross_attention:
        inputs["encoder_hidden_states"] = rng.normal(size=(3, 5, config.hidden_size))
        inputs["encoder_attention_mask"] = (np.arange(5) < np.array([[5], [2], [3]])).astype(np.int64)
    if config.problem_type in ("regression", "multi_label_classification") or config.num_labels == 1:
        floats = rng.integers(0, 2, (3, config.num_labels)).astype(np.float64)
        return {**inputs, "labels": floats[:, 0] if config.num_labels == 1 else floats}
    return inputs | checkpoints.labels(head, config, inputs)


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model for every setting, and the results of transformers for each."""
    import checkpoints
    from peers import environment

    folder = tmp_path_factory.mktemp("settings")
    for index, (name, (head, fields)) in enumerate(SETTINGS.items()):
        checkpoints.make(folder / name, head, seed=index, **fields)
        config = checkpoints.small_config(head, **fields)
        np.savez(folder / name / "arguments.npz", **arguments(name, config))
    done = subprocess.run(
        [sys.executable, __file__, str(folder)], env=environment(4), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def read(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("name", SETTINGS)
def test_numbers_and_files_are_those_of_transformers(backend: Any, peer: Path, name: str, tmp_path: Path) -> None:
    from backends import assert_close
    from safetensors.numpy import load_file

    head = SETTINGS[name][0]
    model = backend.load(head, peer / name, **{key: SETTINGS[name][1][key] for key in ("attn_implementation",)
                                               if key in SETTINGS[name][1]})  # fmt: skip
    inputs, wanted = read(peer / name / "arguments.npz"), read(peer / name / "peer.npz")
    gradients = {key.removeprefix("gradient/"): wanted.pop(key) for key in list(wanted) if key.startswith("gradient/")}
    found = backend.run(model, inputs)
    assert found.keys() >= wanted.keys()
    for key, value in wanted.items():
        # transformers computes this loss in float32
        bound = 1e-6 if key == "loss" and head == "ForCausalLM" else 1e-10
        assert_close(found[key], value, bound, key)
    is_cheap = backend.name != "flax" or name in COMPILED_IN_FLAX
    if gradients and is_cheap:
        check_gradients(backend.gradients(model, inputs, lambda output: output.loss), gradients, head)
    if model.config.is_decoder and head == "ForCausalLM":
        check_steps(backend, model, inputs, wanted["logits"])
    if is_cheap and not model.config.add_cross_attention:
        check_infer(model, inputs, wanted)
    model.save_pretrained(tmp_path)
    before, after = load_file(peer / name / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[key], after[key]) for key in before)
    assert fields(tmp_path) == fields(peer / name)


def fields(folder: Path) -> dict[str, Any]:
    """The config file without the fields that a save adds."""
    values = json.loads((folder / "config.json").read_text())
    return {key: value for key, value in values.items() if key not in ("architectures", "dtype")}


def check_gradients(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], head: str) -> None:
    from backends import assert_close

    scale = max(np.abs(gradient).max() for gradient in wanted.values())
    bound = 1e-6 if head == "ForCausalLM" else 1e-10
    assert set(found) <= set(wanted)
    for name, gradient in found.items():
        if np.abs(wanted[name]).max() > 1e-12 * scale:
            assert_close(gradient, wanted[name], bound, f"gradient of {name}")
        else:  # a key's bias does not change the softmax: its gradient is rounding
            assert np.abs(gradient).max() < 1e-10 * scale, name


def check_steps(backend: Any, model: Any, inputs: dict[str, np.ndarray], wanted: np.ndarray) -> None:
    from backends import assert_close

    given = {key: value for key, value in inputs.items() if key not in ("labels", "token_type_ids")}
    if model.config.type_vocab_size > 1:  # steps receive no mask here
        wanted = backend.run(model, given)["logits"]
    found = backend.decode_in_steps(model, given, STOPS)
    real = inputs["attention_mask"] > 0
    assert_close(found[real], wanted[real], 1e-10, "cached steps")


def check_infer(model: Any, inputs: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    from backends import assert_close

    given = {key: inputs[key] for key in ("input_ids", "attention_mask", "token_type_ids")}
    for key, value in model.infer(given).items():
        real = inputs["attention_mask"] > 0
        per_token = value.shape[:2] == real.shape
        assert_close(value[real] if per_token else value, wanted[key][real] if per_token else wanted[key], 1e-10, key)


def test_every_field_has_a_row() -> None:
    from roberta import RobertaConfig
    from roberta.common.config_rules import ACTIVATION_NAMES, POSITION_EMBEDDING_TYPES, PROBLEM_TYPES

    tried = {(name, repr(value)) for _, fields in SETTINGS.values() for name, value in fields.items()}
    names = set(vars(RobertaConfig())) | {"num_labels"}
    # for every head, and so in each row
    assert names - {name for name, _ in tried} - ELSEWHERE == set()
    for name, values in (("hidden_act", ACTIVATION_NAMES), ("problem_type", PROBLEM_TYPES),
                         ("position_embedding_type", POSITION_EMBEDDING_TYPES[1:])):  # fmt: skip
        assert {(name, repr(value)) for value in values} <= tried


def run_peer(folder: Path) -> None:
    """Run every setting with transformers' own class."""
    import torch
    import transformers

    for name, (head, _) in SETTINGS.items():
        kind = getattr(transformers, f"Roberta{head}")
        model = kind.from_pretrained(folder / name, dtype=torch.float64, attn_implementation="eager")
        with np.load(folder / name / "arguments.npz") as file:
            inputs = {key: torch.from_numpy(file[key]) for key in file.files}
        # with a cache its relative positions are wrong
        output = model(**inputs, **({"use_cache": False} if head in ("Model", "ForCausalLM") else {}), return_dict=True)
        found = {}
        for key, value in output.items():
            parts = {f"{key}.{i}": part for i, part in enumerate(value)} if isinstance(value, tuple) else {key: value}
            found.update({part_name: part.detach().numpy() for part_name, part in parts.items()})
        if "loss" in output:
            output.loss.backward()
            for key, parameter in model.named_parameters():
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                found[f"gradient/{key}"] = gradient.numpy()
        np.savez(folder / name / "peer.npz", **found)


if __name__ == "__main__":
    run_peer(Path(sys.argv[1]))
