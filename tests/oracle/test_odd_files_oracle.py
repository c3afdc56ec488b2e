"""Files as TensorFlow and sentence-transformers themselves write and read them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from backends import Backend, assert_close
from peers import ROOT, environment, overlay
from pipeline_cases import TEXTS, make_models
from safetensors.numpy import load_file

from roberta import pipeline

HEAD = "ForTokenClassification"
WRITE_H5 = """
import sys, numpy as np, tensorflow as tf, tf_keras
from transformers import RobertaConfig, TFRobertaForTokenClassification as Tagger
folder = sys.argv[1]
config, ids = RobertaConfig.from_pretrained(folder), tf.constant([[0, 5, 6, 2]])
model = Tagger(config)
model(ids)
rng = np.random.default_rng(0)
model.set_weights([rng.normal(size=weight.shape).astype("float32") for weight in model.get_weights()])
model.save_pretrained(folder + "/truth", safe_serialization=True)
model.save_weights(folder + "/plain.h5")

def around(layer):
    inputs = tf_keras.Input((None,), dtype="int32")
    return tf_keras.Model(inputs, tf_keras.layers.Dense(2, name="extra")(layer(inputs)[0]))

class Outer(tf_keras.Model):
    def __init__(self):
        super().__init__(name="outer")
        self.inner, self.extra = Tagger(config), tf_keras.layers.Dense(3, name="extra")

    def call(self, inputs):
        return self.extra(self.inner(inputs).logits)

around(model).save_weights(folder + "/functional.h5")
around(model.roberta).save_weights(folder + "/layer.h5")
outer = Outer()
outer(ids)
outer.inner.set_weights(model.get_weights())
outer.save_weights(folder + "/outer.h5")
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights that Keras 2 saved of models around transformers' own."""
    folder = tmp_path_factory.mktemp("keras")
    (folder / "config.json").write_text(checkpoints.small_config(HEAD).to_json_string())
    variables = {**os.environ, "PYTHONPATH": str(overlay(4)), "TF_USE_LEGACY_KERAS": "1"}
    command = [sys.executable, "-c", WRITE_H5, str(folder)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if "No module named" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parametrize("name", ["plain", "functional", "layer", "outer"])
def test_weights_that_keras_saved_of_a_model_around_it(backend: Backend, name: str, written: Path) -> None:
    head, options = ("Model", {"add_pooling_layer": False}) if name == "layer" else (HEAD, {})
    model, report = backend.load(head, written / f"{name}.h5", "float32", output_loading_info=True, **options)
    wanted = load_file(written / "truth" / "model.safetensors")
    if name == "layer":
        wanted = {key.removeprefix("roberta."): value for key, value in wanted.items() if key.startswith("roberta.")}
    truth = backend.parameters(backend.load(HEAD, written / "truth", "float32"))
    found = backend.parameters(model)
    assert len(found) == len(truth) - (2 if name == "layer" else 0)
    for key, value in found.items():
        assert np.array_equal(value, truth[key if key in truth else f"roberta.{key}"]), key
    assert not report["missing_keys"]
    assert all("extra" in key for key in report["unexpected_keys"])
    assert len(report["unexpected_keys"]) == (0 if name == "plain" else 2)


ENCODE = """
import json, sys, numpy as np
from sentence_transformers import SentenceTransformer
for folder in sys.argv[2:]:
    model = SentenceTransformer(folder, device="cpu", local_files_only=True)
    np.save(folder + "/theirs.npy", model.encode(json.loads(sys.argv[1]), convert_to_numpy=True))
"""


def test_vectors_are_those_of_sentence_transformers(tmp_path: Path) -> None:
    place = Path(os.environ.get("ROBERTA_SENTENCES", ROOT / ".oracle" / "sentence-transformers"))
    if not place.is_dir():
        pytest.skip(
            "sentence-transformers does not exist; pip install --no-deps --target .oracle/sentence-transformers"
        )
    import json

    folders: dict[str, Any] = {}
    sys.path.insert(0, str(ROOT / "tests" / "every_backend"))
    from test_sentence_folders import POOLINGS, SWITCHES, folder_of

    plain = make_models(tmp_path, ("plain",), "float32")["plain"]
    for name in POOLINGS:
        folders[name] = folder_of(tmp_path / name, plain, {field: key == name for key, field in SWITCHES.items()})
    folders["all"] = folder_of(
        tmp_path / "all", plain, dict.fromkeys(SWITCHES.values(), True), dense=(7, "torch.nn.modules.activation.GELU"),
        settings={"max_seq_length": 8, "do_lower_case": True}, more=(("Normalize", "3_Normalize"),),
        prompts={"prompts": {"q": "Query: "}, "default_prompt_name": "q"},
    )  # fmt: skip
    texts = [*TEXTS, "A", "ÀÉ ΣΑΣ two", TEXTS[0] * 9]
    variables = environment(4)
    variables["PYTHONPATH"] += os.pathsep + str(place)
    command = [sys.executable, "-c", ENCODE, json.dumps(texts), *map(str, folders.values())]
    done = subprocess.run(
        command, env={**variables, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for name, folder in folders.items():
        found = np.stack(pipeline("embeddings", str(folder), framework="pt")(texts))
        assert_close(found, np.load(folder / "theirs.npy"), 1e-5, name)
