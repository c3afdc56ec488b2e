"""TensorFlow and Flax against PyTorch, with large random weights in float64: outputs, loss and every gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import Arrays, Backend, assert_close, backend

from roberta.common.parameters import Head

LAYERS, HEADS_OF_ATTENTION, SEQ = 2, 3, 11

# Changes to the config, and inputs beside ids, mask and token types.
CONFIGS: dict[str, dict[str, Any]] = {
    "gelu": {},
    "gelu_new": {"hidden_act": "gelu_new"},
    "untied": {"tie_word_embeddings": False},
    "pad 3": {"pad_token_id": 3},
    "relative_key": {"position_embedding_type": "relative_key"},
    "relative_key_query": {"position_embedding_type": "relative_key_query"},
    "decoder": {"is_decoder": True},
    "cross-attention": {"is_decoder": True, "add_cross_attention": True},
    "pruned": {"pruned_heads": {0: [1]}},
}
FLAGS = {"output_hidden_states": True, "output_attentions": True}


@pytest.fixture(params=["tf", "flax"], ids="in_{}".format)
def other(request: pytest.FixtureRequest) -> Backend:
    return backend(request.param)


def compare(folder: Path, head: Head, other: Backend, inputs: Arrays, gradients: bool = True) -> None:
    """Every output of two frameworks, and the gradient of every parameter."""
    results = []
    for framework in (backend("pt"), other):
        model = framework.load(head, folder)
        outputs = framework.run(model, inputs, **FLAGS)
        found = framework.gradients(model, inputs, lambda output: output.loss) if gradients else {}
        results.append((outputs, found))
    (wanted, wanted_gradients), (found, found_gradients) = results
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert_close(found[name], wanted[name], 1e-10, name)
    assert found_gradients.keys() == wanted_gradients.keys()
    scale = max((np.abs(gradient).max() for gradient in wanted_gradients.values()), default=1.0)
    for name, gradient in wanted_gradients.items():
        if np.abs(gradient).max() > 1e-12 * scale:
            assert_close(found_gradients[name], gradient, 1e-10, f"gradient of {name}")
        else:  # a key's bias does not change the softmax: its gradient is rounding
            assert np.abs(found_gradients[name]).max() < 1e-12 * scale, name


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("head", checkpoints.HEADS)
def test_every_head(head: Head, padding: str, other: Backend, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, head)
    config = checkpoints.small_config(head)
    inputs = checkpoints.batch(head, config, padding=padding)
    compare(folder, head, other, inputs | checkpoints.labels(head, config, inputs), gradients=head != "Model")


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("head", ["ForMaskedLM", "ForCausalLM"])
def test_every_config(head: Head, name: str, other: Backend, tmp_path: Path) -> None:
    changes = CONFIGS[name]
    config = checkpoints.small_config(head, **changes)
    folder = checkpoints.make(tmp_path, head, **changes)
    inputs = checkpoints.batch(head, config)
    inputs |= checkpoints.labels(head, config, inputs)
    if config.add_cross_attention:
        inputs |= encoder_states(config.hidden_size)
    compare(folder, head, other, inputs)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu", "silu", "quick_gelu", "tanh", "mish", "relu2", "laplace",
                                        "gelu_10", "leaky_relu", "linear", "relu6", "sigmoid"])  # fmt: skip
def test_every_activation(activation: str, other: Backend, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "Model", hidden_act=activation, num_hidden_layers=1)
    inputs = checkpoints.batch("Model", checkpoints.small_config())
    compare(folder, "Model", other, inputs, gradients=False)


def encoder_states(hidden: int) -> Arrays:
    rng = np.random.default_rng(9)
    mask = np.arange(6) < np.array([[6], [4], [1]])
    return {
        "encoder_hidden_states": rng.normal(size=(3, 6, hidden)),
        "encoder_attention_mask": mask.astype(np.int64),
    }


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).random(shape)


INPUTS: dict[str, Arrays] = {
    "no mask": {},
    "3-D mask": {"attention_mask": np.maximum(np.eye(SEQ), random(3, SEQ, SEQ) > 0.5)},
    "4-D mask": {"attention_mask": np.maximum(np.eye(SEQ), random(3, 1, SEQ, SEQ) > 0.5)},
    "4-D mask a head": {"attention_mask": np.maximum(np.eye(SEQ), random(3, HEADS_OF_ATTENTION, SEQ, SEQ) > 0.5)},
    "fractional mask": {"attention_mask": np.ones((3, SEQ)) - 1e-300},
    "masked row": {"attention_mask": np.array([[1] * SEQ, [0] * SEQ, [1] * SEQ])},
    "head mask": {"head_mask": np.array([1.0, 0.5, 0.0])},
    "head mask a layer": {"head_mask": random(LAYERS, HEADS_OF_ATTENTION)},
    "positions": {"position_ids": np.arange(3 * SEQ).reshape(3, SEQ) % 29},
    "embeddings": {"inputs_embeds": random(3, SEQ, 24), "input_ids": np.zeros(0)},
}


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("head", ["ForMaskedLM", "ForCausalLM"])
def test_every_input(head: Head, name: str, other: Backend, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, head)
    config = checkpoints.small_config(head)
    inputs = checkpoints.batch(head, config)
    inputs |= checkpoints.labels(head, config, inputs)
    del inputs["attention_mask"]
    inputs |= INPUTS[name]
    if "inputs_embeds" in inputs:
        del inputs["input_ids"]
    compare(folder, head, other, inputs)


@pytest.mark.parametrize("problem", [None, "regression", "multi_label_classification"])
@pytest.mark.parametrize("num_labels", [1, 5])
def test_every_problem_of_sequence_classification(
    problem: str | None, num_labels: int, other: Backend, tmp_path: Path
) -> None:
    head: Head = "ForSequenceClassification"
    changes = {"problem_type": problem, "num_labels": num_labels}
    config = checkpoints.small_config(head, **changes)
    folder = checkpoints.make(tmp_path, head, **changes)
    floats = random(3, num_labels) if problem == "regression" else np.round(random(3, num_labels))
    compare(folder, head, other, checkpoints.batch(head, config) | {"labels": floats})


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("has_cross", [False, True])
@pytest.mark.parametrize("positions", ["absolute", "relative_key"])
def test_cached_steps(has_cross: bool, padding: str, positions: str, other: Backend, tmp_path: Path) -> None:
    changes = {"add_cross_attention": has_cross, "position_embedding_type": positions}
    folder = checkpoints.make(tmp_path, "ForCausalLM", **changes)
    inputs = checkpoints.batch("ForCausalLM", checkpoints.small_config("ForCausalLM", **changes), padding=padding)
    del inputs["token_type_ids"]
    inputs |= encoder_states(24) if has_cross else {}
    real = inputs["attention_mask"] > 0
    wanted = backend("pt").run(backend("pt").load("ForCausalLM", folder), inputs)["logits"]
    for framework in (backend("pt"), other):
        found = framework.decode(framework.load("ForCausalLM", folder), inputs, prefix=5)
        assert_close(found[real], wanted[real], 1e-10, f"cached in {framework.name}")
