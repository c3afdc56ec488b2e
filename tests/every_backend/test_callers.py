"""Everyday calls of transformers: no argument is swallowed, and no object of the caller is changed."""

from __future__ import annotations

import json
from pathlib import Path

import checkpoints
import numpy as np
import pytest
from backends import Backend, assert_close

from roberta import CheckpointError, GenerationConfig, RobertaConfig
from roberta.common.checkpoint.checkpoint import legacy

TOKENS = {"input_ids": np.array([[0, 5, 6, 2]])}


def test_a_misspelt_argument_of_save_pretrained_is_named(backend: Backend, tmp_path: Path) -> None:
    model = backend.load("Model", checkpoints.make(tmp_path / "model", "Model"))
    with pytest.raises(TypeError, match="max_shard_sise"):
        model.save_pretrained(tmp_path / "copy", max_shard_sise="1MB")
    with pytest.raises(TypeError, match="repo"):
        model.save_pretrained(tmp_path / "copy", push_to_hub=True, repo="me/model")
    assert not (tmp_path / "copy").exists()


def test_a_given_config_stays_the_callers(backend: Backend, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "ForMaskedLM")
    config = RobertaConfig.from_pretrained(folder)
    before = config.to_dict()
    backend.load("ForMaskedLM", folder, config=config).resize_token_embeddings(70)
    assert config.to_dict() == before
    assert config.name_or_path == ""
    assert backend.load("ForMaskedLM", folder, config=str(folder)).config.vocab_size == 61


class TheirConfig:
    """The part of transformers' own config that is read."""

    model_type = "roberta"

    def __init__(self, **fields: object) -> None:
        self._fields = fields
        self._name_or_path = self.name_or_path = "theirs"
        self._attn_implementation = "eager"

    def to_dict(self) -> dict[str, object]:
        return {**self._fields, "transformers_version": "4.57.6", "_name_or_path": "theirs", "dtype": "float32"}


def test_a_config_of_transformers_itself_is_taken(backend: Backend, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "ForMaskedLM", num_hidden_layers=1)
    theirs = TheirConfig(**json.loads((folder / "config.json").read_text()))
    loaded = backend.load("ForMaskedLM", folder, config=theirs).config
    dtype = "float64" if backend.name == "pt" else "float32"  # transformers' PyTorch class writes this
    assert loaded.to_dict() == {**RobertaConfig.from_pretrained(folder).to_dict(), "dtype": dtype}
    built = backend.classes("Model")(theirs).config
    assert (type(built), built.vocab_size, built.name_or_path, built.attn_implementation) == (
        RobertaConfig, 61, "theirs", "eager"
    )  # fmt: skip


def test_a_model_refuses_what_its_config_held(backend: Backend, tmp_path: Path) -> None:
    cls = backend.classes("Model")
    config = RobertaConfig(hidden_size=37, num_hidden_layers=1)
    with pytest.raises(ValueError, match="hidden_size=37 is not a multiple of num_attention_heads=12"):
        cls(config)
    config.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.json: hidden_size=37 is not a multiple"):
        backend.load("Model", checkpoints.make(tmp_path / "it", "Model"), config=tmp_path)
    with pytest.raises(TypeError, match=f"{cls.__name__} is built from a RobertaConfig, not dict"):
        cls({"hidden_size": 24})


def test_pruned_heads_of_a_config_are_not_built(backend: Backend) -> None:
    config = checkpoints.small_config(num_hidden_layers=2, pruned_heads={0: [1, 2], -1: {0}})
    model = backend.classes("Model")(config)
    assert model.config.pruned_heads == {0: [1, 2], 1: [0]}
    widths = [array.shape[0] for name, array in backend.parameters(model).items() if name.endswith("self.query.weight")]
    assert widths == [8, 16]


def test_keywords_without_meaning_here_are_taken_and_others_are_not(backend: Backend, tmp_path: Path) -> None:
    folder = checkpoints.make(tmp_path, "Model")
    taken = {"low_cpu_mem_usage": True, "weights_only": False, "trust_remote_code": True, "resume_download": True}
    backend.load("Model", folder, **taken, proxies={}, _fast_init=False, mirror="x", quantization_config=None)
    for name, value in (("load_in_8bit", True), ("quantization_config", {}), ("gguf_file", "a.gguf")):
        with pytest.raises(ValueError, match=f"{name}=.* is not supported; "):
            backend.load("Model", folder, **{name: value})
    with pytest.raises(TypeError, match=r"hiden_act.*did you mean \"hidden_act\""):
        backend.load("Model", folder, hiden_act="gelu")


def test_a_refused_size_changes_nothing(backend: Backend, tmp_path: Path) -> None:
    model = backend.load("ForMaskedLM", checkpoints.make(tmp_path, "ForMaskedLM"))
    wanted = backend.run(model, TOKENS)["logits"]
    with pytest.raises(ValueError, match="pad_token_id"):
        model.resize_token_embeddings(1)
    assert model.config.vocab_size == 61
    assert_close(backend.run(model, TOKENS)["logits"], wanted, 1e-14)


def test_generate_in_the_words_of_transformers(backend: Backend, tmp_path: Path) -> None:
    model = backend.load("ForCausalLM", checkpoints.make(tmp_path, "ForCausalLM", num_hidden_layers=1))
    ids = backend.constant(TOKENS["input_ids"])
    wanted = np.asarray(model.generate(ids, max_new_tokens=3))
    for found in (
        model.generate(inputs=ids, max_new_tokens=3),
        model.generate(ids, GenerationConfig(max_new_tokens=3)),
        model.generate(ids, generation_config={"max_new_tokens": 3}),
    ):
        assert np.array_equal(np.asarray(found), wanted)
    with pytest.raises(TypeError, match="generation_config is a GenerationConfig or a dict"):
        model.generate(ids, ids)
    with pytest.raises(ValueError, match="another name of input_ids"):
        model.generate(input_ids=ids, inputs=ids)


def test_a_config_takes_what_numpy_and_torch_give() -> None:
    config = RobertaConfig(num_labels=np.int64(3), vocab_size=np.int32(90), initializer_range=np.float64(0.1))
    config.torch_dtype = "torch.float16"
    config.update_from_string("num_hidden_layers=3,is_decoder=true,layer_norm_eps=1e-6,hidden_act=relu")
    fields = json.loads(config.to_json_string())
    assert (fields["vocab_size"], fields["dtype"], config.torch_dtype, config.num_labels) == (
        90,
        "float16",
        "float16",
        3,
    )
    assert (config.num_hidden_layers, config.is_decoder, config.layer_norm_eps, config.hidden_act) == (
        3,
        True,
        1e-6,
        "relu",
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("source", ["safetensors", "pt", "tf", "flax"])
def test_a_loaded_model_does_not_hang_on_its_file(backend: Backend, source: str, dtype: str, tmp_path: Path) -> None:
    """Readers map files, but a model must own its values, or else writing the file later would kill the process.

    The exception is PyTorch's safetensors of the same dtype, whose values stay on a private map, as in transformers
    (docs/differences.md): loading then takes neither time nor memory.
    """
    if (backend.name, source, dtype) == ("pt", "safetensors", "float32"):
        pytest.skip("stays on a map of its file; tests/one_backend/test_pytorch.py")
    config = checkpoints.small_config("Model")
    writer = None if source == "safetensors" else legacy(source)
    folder = checkpoints.save(tmp_path / "model", config, checkpoints.draw(config, "Model"), "float32", legacy=writer)
    model = backend.load("Model", folder, dtype)
    wanted = backend.parameters(model)
    wanted = {name: value.copy() for name, value in wanted.items()}
    (file,) = (path for path in folder.iterdir() if path.name != "config.json")
    with open(file, "r+b") as content:
        content.write(b"\xff" * file.stat().st_size)
    found = backend.parameters(model)
    assert all(np.array_equal(found[name], value) for name, value in wanted.items())
