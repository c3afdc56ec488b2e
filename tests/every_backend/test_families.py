"""The classes of CamemBERT and XLM-RoBERTa: their names, their files, and that RoBERTa's code runs in them."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pickle
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import training_cases
from backends import PREFIXES, Backend
from backends import backend as get_backend
from checkpoints import HEADS

import roberta
from roberta import (
    CamembertConfig,
    RobertaConfig,
    RobertaTokenizerFast,
    Training,
    XLMRobertaConfig,
    cli,
    pipeline,
)
from roberta.common.family_configs import CONFIGS
from roberta.common.model_types import STEMS, head_of_class, model_type_of
from roberta.common.pipelines.model_loading import DEFAULT_MODEL
from roberta.common.training.recipes import Recipe
from roberta.conversion import convert
from roberta.conversion.verify import verify

OTHERS = {"camembert": "Camembert", "xlm-roberta": "XLMRoberta"}
KINDS = pytest.mark.parametrize("model_type", OTHERS)


def make(folder: Path, head: Any, model_type: str, dtype: str = "float64", **fields: Any) -> Path:
    """A checkpoint of a family, as its class in transformers writes the config."""
    stem = OTHERS[model_type]
    checkpoints.make(folder, head, dtype=dtype, **fields)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": model_type, "architectures": [f"{stem}{head}"]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def named(backend: Backend, model_type: str, head: str) -> Any:
    return getattr(roberta, f"{PREFIXES[backend.name]}{OTHERS[model_type]}{head}")


def said(folder: Path) -> tuple[str, list[str]]:
    """The type and the class in a folder's config."""
    config = json.loads((folder / "config.json").read_text())
    return config["model_type"], config["architectures"]


# -- names ---------------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("head", HEADS)
def test_a_class_is_robertas_of_its_head_and_its_familys(backend: Backend, model_type: str, head: str) -> None:
    kind, base = named(backend, model_type, head), named(backend, model_type, "PreTrainedModel")
    assert issubclass(kind, backend.classes(head))
    assert issubclass(kind, base)
    assert issubclass(base, backend.classes("PreTrainedModel"))
    assert kind.config_class is base.config_class is CONFIGS[model_type]
    assert kind.config_class.__name__ == f"{OTHERS[model_type]}Config"
    assert (kind.__module__, kind.__qualname__) == (f"roberta.{backend.name}.families", kind.__name__)
    assert pickle.loads(pickle.dumps(kind)) is kind
    assert f"`{backend.classes(head).__name__}`" in kind.__doc__
    assert backend.classes(head).config_class is RobertaConfig


def test_type_checkers_see_the_classes_that_are_made(backend: Backend) -> None:
    module = importlib.import_module(f"roberta.{backend.name}.families")
    tree = ast.parse(inspect.getsource(module))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {node.name: [base.id for base in node.bases] for node in block.body}
    made = {name: [base.__name__ for base in kind.__bases__] for name, kind in module._CLASSES.items()}
    assert seen == made
    assert len(made) == 16


def test_the_names_of_the_families_are_said_alike_everywhere() -> None:
    assert {name: kind.model_type for name, kind in CONFIGS.items()} == dict(zip(STEMS, STEMS, strict=True))
    public = [f"{stem}{part}" for stem in STEMS.values() for part in ("Config", "Model", "PreTrainedModel")]
    assert set(public) <= set(roberta._MODULES)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("TFXLMRobertaForMaskedLM", "ForMaskedLM"), ("CamembertModel", "Model"), ("FlaxRobertaForCausalLM", "ForCausalLM"),
        ("BertForMaskedLM", ""), ("", ""),
    ],
)  # fmt: skip
def test_the_head_in_a_classes_name(name: str, head: str) -> None:
    assert head_of_class(name) == head


def test_a_config_without_a_type_is_of_the_family_of_its_class() -> None:
    assert model_type_of({"architectures": ["XLMRobertaForMaskedLM"]}) == "xlm-roberta"
    assert model_type_of({"architectures": ["CamembertModel"], "model_type": "roberta"}) == "roberta"
    assert model_type_of({"architectures": ["BertModel"]}) == model_type_of({}) == "roberta"


# -- configs -------------------------------------------------------------------------------------------------------


def test_the_constructors_take_what_robertas_takes() -> None:
    wanted = {**inspect.signature(RobertaConfig).parameters}
    for kind in (CamembertConfig, XLMRobertaConfig):
        found = {**inspect.signature(kind).parameters}
        assert found.pop("vocab_size").default == kind().vocab_size == 30522
        assert found == {name: parameter for name, parameter in wanted.items() if name != "vocab_size"}
        assert (kind(40, 12).vocab_size, kind(40, 12).hidden_size) == (40, 12)
        assert pickle.loads(pickle.dumps(kind(40))) == kind(40) != RobertaConfig(40)
    assert RobertaConfig().vocab_size == 50265


def test_the_published_models() -> None:
    camembert, xlmr = CamembertConfig.base(), XLMRobertaConfig.large()
    assert (camembert.vocab_size, camembert.bos_token_id, camembert.eos_token_id) == (32005, 5, 6)
    assert (xlmr.vocab_size, xlmr.hidden_size, xlmr.bos_token_id) == (250002, 1024, 0)
    assert camembert.max_length_tokens == xlmr.max_length_tokens == 512


def test_a_class_takes_any_of_the_configs_as_it_is(backend: Backend) -> None:
    model = named(backend, "camembert", "Model")(checkpoints.small_config())
    assert type(model.config) is RobertaConfig
    with pytest.raises(TypeError, match="is built from a CamembertConfig, not dict"):
        named(backend, "camembert", "Model")({})


# -- files ---------------------------------------------------------------------------------------------------------


@KINDS
def test_saving_keeps_the_type_and_the_class(backend: Backend, model_type: str, tmp_path: Path) -> None:
    head = "ForSequenceClassification"
    folder = make(tmp_path / "source", head, model_type)
    model = named(backend, model_type, head).from_pretrained(folder, dtype="float64")
    for safe in (True, False):
        model.save_pretrained(tmp_path / str(safe), safe_serialization=safe)
        assert said(tmp_path / str(safe)) == (model_type, [f"{OTHERS[model_type]}{head}"])
        again = named(backend, model_type, head).from_pretrained(tmp_path / str(safe), dtype="float64")
        wanted = backend.parameters(model)
        assert all(np.array_equal(value, wanted[name]) for name, value in backend.parameters(again).items())


@pytest.mark.parametrize("framework", ["pt", "tf"])
def test_the_encoder_inside_is_the_familys_and_saved_so(framework: str, tmp_path: Path) -> None:
    backend = get_backend(framework)
    folder = make(tmp_path / "source", "ForMaskedLM", "camembert")
    model = named(backend, "camembert", "ForMaskedLM").from_pretrained(folder)
    assert type(model.roberta) is type(model.base_model) is named(backend, "camembert", "Model")
    model.roberta.save_pretrained(tmp_path / "encoder")
    assert said(tmp_path / "encoder") == ("camembert", ["CamembertModel"])


def test_robertas_class_reads_a_folder_of_another_family_as_its_own(backend: Backend, tmp_path: Path) -> None:
    folder = make(tmp_path / "source", "ForMaskedLM", "camembert")
    with pytest.warns(UserWarning, match="'camembert', not 'roberta'; RobertaConfig reads it as its own"):
        model = backend.load("ForMaskedLM", folder)
    own = named(backend, "camembert", "ForMaskedLM").from_pretrained(folder, dtype="float64")
    inputs = checkpoints.batch("ForMaskedLM", model.config)
    assert np.array_equal(backend.run(model, inputs)["logits"], backend.run(own, inputs)["logits"])
    model.save_pretrained(tmp_path / "saved")
    assert said(tmp_path / "saved") == ("roberta", ["RobertaForMaskedLM"])


# -- RoBERTa's code runs in them -------------------------------------------------------------------------------


def test_the_fast_way_runs_and_sees_what_was_replaced(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = importlib.import_module(f"roberta.{backend.name}.parts")
    model = named(backend, "xlm-roberta", "ForTokenClassification")(
        XLMRobertaConfig(**{**checkpoints.small_config().to_dict(), "model_type": None})
    )
    params = (model.params,) if backend.name == "flax" else ()
    assert parts.alteration(model, *params) == ""
    own = type("Own", (type(model),), {})(model.config)
    assert "is a class of its own" in parts.alteration(own, *params)
    method = {"pt": "forward", "tf": "call", "flax": "__call__"}[backend.name]
    monkeypatch.setattr(type(model), method, lambda self, *args, **kwargs: None)
    assert "is a class of its own" in parts.alteration(model, *params)


@KINDS
def test_a_keras_file_is_read_as_its_class(model_type: str, tmp_path: Path) -> None:
    backend = get_backend("tf")
    import keras

    folder = make(tmp_path / "source", "ForMaskedLM", model_type)
    model = named(backend, model_type, "ForMaskedLM").from_pretrained(folder, dtype="float64")
    model.save(tmp_path / "it.keras")
    again = keras.models.load_model(tmp_path / "it.keras")
    assert type(again) is type(model)
    assert type(again.config) is CONFIGS[model_type]
    inputs = checkpoints.batch("ForMaskedLM", model.config)
    assert np.array_equal(backend.run(again, inputs)["logits"], backend.run(model, inputs)["logits"])


def test_keras_knows_the_classes_before_tensorflow_is_imported() -> None:
    from roberta.tf.keras_names import CLASS_NAMES

    assert set(CLASS_NAMES) == {f"TF{stem}{head}" for stem in STEMS.values() for head in HEADS}


# -- what is above the models ----------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("to", ["tf", "flax", "pt", "safetensors", "fairseq", "keras-hub"])
def test_a_conversion_keeps_the_type_and_the_class(model_type: str, to: Any, tmp_path: Path) -> None:
    pytest.importorskip("h5py"), pytest.importorskip("msgpack")
    name = f"{OTHERS[model_type]}ForMaskedLM"
    folder = make(tmp_path / "source", "ForMaskedLM", model_type, dtype="float32", max_position_embeddings=30)
    report = convert(folder, tmp_path / "there", to=to, progress=False)
    assert f", {name})" in report.message()
    convert(tmp_path / "there", tmp_path / "back", to="safetensors", progress=False)
    assert said(tmp_path / "back") == (model_type, [name])
    if to not in ("fairseq", "keras-hub"):
        assert said(tmp_path / "there") == (model_type, [name])


def test_a_verification_and_a_conversion_name_the_class(
    backend: Backend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make(tmp_path / "source", "ForTokenClassification", "camembert")
    convert(folder, tmp_path / "other", to="pt", head="CamembertForTokenClassification", progress=False)
    report = verify(folder, against=tmp_path / "other", frameworks=[backend.name], tokens=6)
    assert report.agree
    assert not report.settings
    assert str(report).startswith("CamembertForTokenClassification, 2 layers")
    assert cli.main(["info", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "CamembertForTokenClassification" in shown
    assert "parameters" in shown


def test_a_pipeline_loads_the_class_of_the_folders_type(backend: Backend, tmp_path: Path) -> None:
    tokenizer = RobertaTokenizerFast.from_pretrained(DEFAULT_MODEL)
    for model_type, stem in OTHERS.items():
        folder = make(tmp_path / model_type, "ForTokenClassification", model_type, vocab_size=len(tokenizer))
        found = pipeline("token-classification", folder, tokenizer=tokenizer, framework=backend.name)
        assert type(found.model) is named(backend, model_type, "ForTokenClassification")
        with pytest.raises(ValueError, match=f"as {stem}ForMaskedLM it would answer at random"):
            pipeline("fill-mask", folder, tokenizer=tokenizer, framework=backend.name)


def test_a_training_ends_in_the_class_of_its_models_type(tmp_path: Path) -> None:
    get_backend("pt")
    arguments = training_cases.make(tmp_path, "text-classification")
    file = tmp_path / "model" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_type": "camembert"}))
    recipe = Recipe(1e-3, 2, updates=1, warmup=0)
    Training(**arguments, output=tmp_path / "out", framework="pt", recipe=recipe).run()
    assert said(tmp_path / "out") == ("camembert", ["CamembertForSequenceClassification"])
