"""Folders of sentence-transformers: the model in them loads, and vectors are made as the folder says."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import Backend, assert_close
from pipeline_cases import TEXTS, make_models
from safetensors.numpy import save_file

from roberta import CheckpointError, RobertaConfig, RobertaTokenizerFast, cli, pipeline
from roberta.common.checkpoint.loading import say_once
from roberta.conversion import convert

SHORT = [*TEXTS, "A", ""]
POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
SWITCHES = {name: f"pooling_mode_{name}{'' if name == 'lasttoken' or name.endswith('_tokens') else '_tokens'}"
            for name in POOLINGS} | {"cls": "pooling_mode_cls_token"}  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"), ("plain",))["plain"]


def folder_of(
    root: Path,
    plain: Path,
    pooling: dict[str, Any],
    *,
    inside: str = "0_Transformer",
    settings: dict[str, Any] | None = None,
    dense: tuple[int, str] | None = None,
    more: tuple[tuple[str, str], ...] = (),
    prompts: dict[str, Any] | None = None,
) -> Path:
    """A folder as sentence-transformers lays it out: its first part, 1_Pooling, and further ones."""
    shutil.copytree(plain, root / inside, dirs_exist_ok=True)
    parts = [("Transformer", inside), ("Pooling", "1_Pooling"), *([("Dense", "2_Dense")] if dense else []), *more]
    listed = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, path) in enumerate(parts)
    ]
    files: dict[str, Any] = {
        "modules.json": listed,
        "config_sentence_transformers.json": {"__version__": {"sentence_transformers": "3.0.0"}, **(prompts or {})},
        f"{inside or '.'}/sentence_bert_config.json": settings or {"max_seq_length": 64, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": 24, **pooling},
    }
    if dense:
        width, activation = dense
        files["2_Dense/config.json"] = {"in_features": 24 * sum(map(bool, pooling.values())), "out_features": width,
                                       "bias": True, "activation_function": activation}  # fmt: skip
        rng = np.random.default_rng(3)
        shape = (width, files["2_Dense/config.json"]["in_features"])
        (root / "2_Dense").mkdir(parents=True)
        tensors = {"linear.weight": rng.normal(size=shape), "linear.bias": rng.normal(size=width)}
        save_file(tensors, root / "2_Dense" / "model.safetensors")
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps(content))
    for _, path in more:
        (root / path).mkdir()
    return root


def by_hand(states: np.ndarray, pooling: str) -> np.ndarray:
    """The vector of one text's hidden states, (tokens, hidden), token by token."""
    count = len(states)
    if pooling == "cls":
        return states[0]
    if pooling == "lasttoken":
        return states[count - 1]
    if pooling == "max":
        return np.array([max(column) for column in states.T])
    total = sum((index + 1 if pooling == "weightedmean" else 1) * state for index, state in enumerate(states))
    return total / {"mean": count, "mean_sqrt_len_tokens": count**0.5, "weightedmean": count * (count + 1) / 2}[pooling]


def states_of(backend: Backend, plain: Path, texts: list[str], longest: int = 64) -> list[np.ndarray]:
    """The hidden states of each text by itself, from the model's own call."""
    model = backend.load("Model", plain, add_pooling_layer=False)
    tokenizer = RobertaTokenizerFast.from_pretrained(plain)
    found = []
    for text in texts:
        ids = tokenizer(text, truncation=True, max_length=longest)["input_ids"]
        found.append(backend.run(model, {"input_ids": np.array([ids])})["last_hidden_state"][0])
    return found


def vectors_of(backend: Backend, root: Path, texts: list[str], **options: Any) -> np.ndarray:
    return np.stack(pipeline("embeddings", str(root), framework=backend.name, dtype="float64", **options)(texts))


@pytest.fixture
def states(backend: Backend, plain: Path) -> list[np.ndarray]:
    return states_of(backend, plain, SHORT)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    say_once.cache_clear()
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_each_pooling_is_that_of_the_folder(
    backend: Backend, pooling: str, plain: Path, states: list[np.ndarray], tmp_path: Path,
    said: Callable[[], list[str]],
) -> None:  # fmt: skip
    switches = {name: other == pooling for other, name in SWITCHES.items()}
    root = folder_of(tmp_path / "a", plain, switches)
    wanted = np.stack([by_hand(one, pooling) for one in states])
    assert_close(vectors_of(backend, root, SHORT), wanted)
    assert_close(vectors_of(backend, root, SHORT), wanted)
    assert len(said()) == 1, "said once"
    assert f"{root} is a model of sentence-transformers: pooling {pooling}, vectors as long as they are" in said()[0]
    assert_close(vectors_of(backend, plain, SHORT, pooling=pooling), wanted)
    newer = folder_of(tmp_path / "b", plain, {"pooling_mode": pooling})
    assert_close(vectors_of(backend, newer, SHORT), wanted)


def test_several_poolings_are_put_together_and_go_through_the_layers(
    backend: Backend, plain: Path, states: list[np.ndarray], tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    switches = {SWITCHES["mean"]: True, SWITCHES["cls"]: True, SWITCHES["max"]: False}
    normal = (("Normalize", "3_Normalize"),)
    root = folder_of(
        tmp_path / "a", plain, switches, dense=(7, "torch.nn.modules.activation.Tanh"), more=normal, inside=""
    )
    both = np.stack([np.concatenate([by_hand(one, "cls"), by_hand(one, "mean")]) for one in states])
    rng = np.random.default_rng(3)
    weight, bias = rng.normal(size=(7, 48)), rng.normal(size=7)
    dense = np.tanh(both @ weight.T + bias)
    normalized = dense / np.sqrt((dense**2).sum(axis=1, keepdims=True))
    assert_close(vectors_of(backend, root, SHORT), normalized)
    note = "pooling cls + mean, a dense layer to 7 with Tanh, vectors of length 1, texts cut to 64 tokens"
    assert said()[0].endswith(note)
    # each argument wins over the folder
    assert_close(vectors_of(backend, root, SHORT, normalize=False), dense)
    mean = np.stack([by_hand(one, "mean") for one in states])
    assert_close(vectors_of(backend, root, SHORT, pooling="mean", normalize=False), mean)
    assert_close(vectors_of(backend, root, SHORT, recipe=None), mean)
    # also where the model is loaded already
    model = backend.load("Model", root, add_pooling_layer=False)
    assert_close(np.stack(pipeline("embeddings", model)(SHORT)), normalized)
    # and from what convert makes of it
    report = convert(root, tmp_path / "b", to="flax" if backend.name == "pt" else "safetensors")
    assert any("sentence-transformers: copied modules.json" in note for note in report.notes)
    assert_close(vectors_of(backend, tmp_path / "b", SHORT), normalized)


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("torch.nn.modules.linear.Identity", lambda x: x),
        ("torch.nn.modules.activation.ReLU", lambda x: x * (x > 0)),
        ("torch.nn.modules.activation.Sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("torch.nn.modules.activation.GELU", None),
        ("torch.nn.modules.activation.SiLU", None),
    ],
)
def test_activations_of_a_dense_layer(activation: str, function: Any, plain: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from roberta.common.pipelines.sentence_recipe import read_recipe

    root = folder_of(tmp_path, plain, {SWITCHES["mean"]: True}, dense=(7, activation))
    recipe = read_recipe(root, {})
    assert recipe is not None
    values = np.random.default_rng(0).normal(size=(5, 24))
    rng = np.random.default_rng(3)
    inner = values @ rng.normal(size=(7, 24)).T + rng.normal(size=7)
    name = activation.rpartition(".")[2]
    wanted = function(inner) if function else getattr(torch.nn, name)()(torch.from_numpy(inner)).numpy()
    assert_close(recipe.layers[0](values), wanted, 1e-12)


@pytest.mark.parametrize("length", [8, None, 9999])
def test_texts_are_cut_and_put_into_lower_case_as_the_folder_says(
    backend: Backend, length: int | None, plain: Path, tmp_path: Path
) -> None:
    settings = {"max_seq_length": length, "do_lower_case": True}
    prompts = {"prompts": {"q": "Query: "}, "default_prompt_name": "q"}
    root = folder_of(tmp_path, plain, {SWITCHES["mean"]: True}, settings=settings, prompts=prompts)
    long = [*TEXTS, TEXTS[0] * 9]
    states = states_of(backend, plain, [f"query: {text.lower()}" for text in long], min(length or 96, 96))
    wanted = np.stack([by_hand(one, "mean") for one in states])
    assert_close(vectors_of(backend, root, long), wanted)
    with pytest.raises(ValueError, match=r"inputs\[6\] has \d+ tokens, and the model takes 96"):
        vectors_of(backend, root, long, truncation=False)


def test_a_model_in_0_transformer_loads_by_the_folder(backend: Backend, plain: Path, tmp_path: Path) -> None:
    root = folder_of(tmp_path / "a", plain, {SWITCHES["mean"]: True})
    model, report = backend.load("Model", root, output_loading_info=True)
    wanted = backend.parameters(backend.load("Model", plain))
    found = backend.parameters(model)
    assert not any(report.values())
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    assert RobertaConfig.from_pretrained(root).vocab_size == model.config.vocab_size
    tokenizer = RobertaTokenizerFast.from_pretrained(root)
    assert tokenizer(TEXTS)["input_ids"] == RobertaTokenizerFast.from_pretrained(plain)(TEXTS)["input_ids"]
    # version 0.2 named the class by the architecture, and put a file without a model into the folder itself
    listed = json.loads((root / "modules.json").read_text())
    listed[0] = {"idx": 0, "name": "0", "path": "0_RoBERTa", "type": "sentence_transformers.models.RoBERTa"}
    (root / "modules.json").write_text(json.dumps(listed))
    (root / "config.json").write_text('{"__version__": "0.2.5"}')
    (root / "0_Transformer").rename(root / "0_RoBERTa")
    (root / "0_RoBERTa" / "sentence_bert_config.json").rename(root / "0_RoBERTa" / "sentence_roberta_config.json")
    assert backend.load("Model", root).config.vocab_size == model.config.vocab_size


def test_the_command_says_what_it_takes(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say_once.cache_clear()
    pytest.importorskip("torch", reason="torch is not installed")
    root = folder_of(tmp_path / "a", plain, {SWITCHES["cls"]: True}, more=(("Normalize", "2_Normalize"),))
    output = tmp_path / "v.npy"
    for options, size in (([], 1.0), (["--no-normalize"], None), (["--pooling", "mean_sqrt_len_tokens"], 1.0)):
        assert cli.main(["embed", TEXTS[0], "--model", str(root), "--output", str(output), *options]) == 0
        found = np.linalg.norm(np.load(output))
        assert (abs(found - 1) < 1e-6) == (size == 1.0)


def changed(root: Path, file: str, change: Callable[[Any], Any]) -> None:
    content = json.loads((root / file).read_text())
    (root / file).write_text(json.dumps(change(content)))


HOSTILE: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "a part that is not known": (
        "modules.json", lambda parts: [*parts, {"type": "sentence_transformers.models.LSTM", "path": "3_LSTM"}],
        r"3_LSTM is a LSTM, which is not supported there",
    ),
    "a first part that is not a transformer": (
        "modules.json", lambda parts: [{"type": "x.WordEmbeddings", "path": "0_WordEmbeddings"}, *parts[1:]],
        r"its first part, 0_WordEmbeddings, is a WordEmbeddings, and not a Transformer",
    ),
    "a folder elsewhere": (
        "modules.json", lambda parts: [{**parts[0], "path": "../plain"}], r"'\.\./plain', which is not a folder beside",
    ),
    "no list": ("modules.json", lambda parts: {"a": 1}, r"modules\.json is not a list of parts"),
    "no pooling": ("modules.json", lambda parts: parts[:1], "lists no Pooling; give pooling="),
    "a pooling that is not known": (
        "1_Pooling/config.json", lambda fields: {"pooling_mode_median_tokens": True}, "pooling_mode_median_tokens",
    ),
    "an activation that is not known": (
        "2_Dense/config.json", lambda fields: {**fields, "activation_function": "my.module.Wave"},
        "the activation Wave is not supported",
    ),
    "a layer of another size": (
        "2_Dense/config.json", lambda fields: {**fields, "out_features": 8}, r"the layer has the tensors",
    ),
    "a length of zero": (
        "0_Transformer/sentence_bert_config.json", lambda fields: {"max_seq_length": 0}, "must be a positive int",
    ),
    "a prompt that is missing": (
        "config_sentence_transformers.json", lambda fields: {"default_prompt_name": "q"}, "is not one of its prompts",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", HOSTILE)
def test_what_is_not_known_is_an_error_that_names_it(wrong: str, plain: Path, tmp_path: Path) -> None:
    file, change, message = HOSTILE[wrong]
    root = folder_of(tmp_path, plain, {SWITCHES["mean"]: True}, dense=(7, "torch.nn.modules.linear.Identity"))
    changed(root, file, change)
    with pytest.raises(CheckpointError, match=message):
        pipeline("embeddings", str(root))


@pytest.mark.parametrize("inside", ["", "0_Transformer"])
def test_a_save_says_that_the_pooling_is_not_in_it(
    backend: Backend, plain: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, inside: str
) -> None:
    root = folder_of(tmp_path / "root", plain, {"pooling_mode_cls_token": True}, inside=inside)
    model = backend.load("Model", root)
    with caplog.at_level(logging.WARNING, logger="roberta"):
        model.save_pretrained(tmp_path / "saved")
    place = "0_Transformer of the copy" if inside else "it"
    said = [record.getMessage() for record in caplog.records]
    assert [text for text in said if f"copy the whole folder {root} and save into {place}, or give pooling=" in text]
    # the way out says nothing, and makes the vectors of the folder
    caplog.clear()
    copied = Path(shutil.copytree(root, tmp_path / "copied"))
    with caplog.at_level(logging.WARNING, logger="roberta"):
        model.save_pretrained(copied / inside)
        backend.load("Model", plain).save_pretrained(tmp_path / "other")
    assert not [record for record in caplog.records if "copy the whole folder" in record.getMessage()]
    found, wanted = (
        pipeline("embeddings", str(place), framework=backend.name, dtype="float64")("A text")
        for place in (copied, root)
    )
    assert_close(found, wanted)
