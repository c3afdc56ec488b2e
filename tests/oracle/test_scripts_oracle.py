"""Ten scripts of the kind people have, run with transformers 4.57 and, with one import changed, with this library.

They are in `scripts`; each pair of library and framework has a process of its own, which runs all of that framework.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import checkpoints
import numpy as np
import peers
import pytest
from oracle.scripts import run

from roberta.common.parameters import Head
from roberta.tf import legacy as tf_legacy

USED = {"pt": "TORCH", "tf": "TF", "flax": "FLAX"}
CASES = [(framework, name) for framework, names in run.BY_FRAMEWORK.items() for name in names]
FOLDERS: dict[str, Head] = {
    "seq": "ForSequenceClassification",
    "token": "ForTokenClassification",
    "qa": "ForQuestionAnswering",
    "lm": "ForMaskedLM",
    "causal": "ForCausalLM",
}
TEXTS = [
    "Anna Schmidt lives in Lisbon, near the old harbour.",
    "The station was opened in May by the mayor.",
    "Nobody knows who wrote the book about the sea.",
    "It rained.",
    "Carl Jones came back in the evening – too late, as ever!",
    "A railway of 12 km runs along the coast.",
    "What a good film it was",
    "The second part is bad, and far too long.",
    "Naïve café owners don't sell tea.",
    "They open at 9:30.",
    "The mayor reads.",
    "In New York City it snowed for three days.",
]


def make_folders(folder: Path, legacy: ModuleType | None = None) -> Path:
    """A model of each class with the packaged tokenizer: float32, without dropout; and the texts.

    Args:
        legacy: the format of the weights, instead of safetensors.
    """
    folder.mkdir()
    small = Path(__file__).parents[2] / "roberta" / "small"
    (folder / "texts.json").write_text(json.dumps(TEXTS), encoding="utf-8")
    for name, head in FOLDERS.items():
        config = checkpoints.small_config(
            head, vocab_size=4096, max_position_embeddings=100, type_vocab_size=1, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0, num_labels=2 if name == "qa" else 4 if name == "token" else 3,
        )  # fmt: skip
        tensors = checkpoints.draw(config, head)
        if name == "causal":  # transformers counts positions from 0 in `generate`: see docs/differences.md
            table = tensors["roberta.embeddings.position_embeddings.weight"]
            table[:] = table[:1]
        checkpoints.save(folder / name, config, tensors, "float32", legacy=legacy)
        for file in ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"):
            shutil.copy(small / file, folder / name / file)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Framework -> its models; transformers' TensorFlow classes cannot read safetensors of a newer library."""
    place = tmp_path_factory.mktemp("scripts")
    safetensors = make_folders(place / "safetensors")
    return {"pt": safetensors, "tf": make_folders(place / "h5", tf_legacy), "flax": safetensors}


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    """The address of a hub on this machine."""
    spec = importlib.util.spec_from_file_location("hub_server", Path(__file__).parents[1] / "common" / "test_hub.py")
    served = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(served)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (served.Handler,), {}))
    url = f"http://127.0.0.1:{server.server_port}"
    server.RequestHandlerClass.hub = served.FakeHub(url)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield url
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def results(folders: dict[str, Path], hub: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(library, framework) -> script -> what it printed; each pair runs once, in a process of its own."""
    found: dict[tuple[str, str], dict[str, Any]] = {}

    def of(library: str, framework: str) -> dict[str, Any]:
        if (library, framework) not in found:
            out = tmp_path_factory.mktemp(f"{library}-{framework}")
            command = [sys.executable, run.__file__, library, framework, str(folders[framework]), str(out)]
            done = subprocess.run(
                command, env=environment(library, framework, hub, out), capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr[-3000:]
            found[library, framework] = json.loads((out / "results.json").read_text(encoding="utf-8"))
        return found[library, framework]

    return of


def environment(library: str, framework: str, hub: str, out: Path) -> dict[str, str]:
    """That of a user of the library, with the stand-in for the hub."""
    ours = str(Path(__file__).parents[2])
    paths = [os.environ.get("PYTHONPATH", ""), str(peers.overlay(4))]
    uses = {f"USE_{name}": str(int(kind == framework)) for kind, name in USED.items()}
    return {
        **os.environ, **uses, "PYTHONPATH": os.pathsep.join([ours, *paths] if library == "roberta" else paths),
        "TF_USE_LEGACY_KERAS": str(int(library == "transformers")), "HF_ENDPOINT": hub, "HF_HOME": str(out / "cache"),
        "HF_TOKEN": "hf_nobody", "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip


@pytest.mark.parametrize(("framework", "name"), CASES, ids=[f"{name} in {framework}" for framework, name in CASES])
def test_a_script_gives_the_same_with_one_import_changed(results: Any, framework: str, name: str) -> None:
    wanted, found = results("transformers", framework)[name], results("roberta", framework)[name]
    if "skipped" in wanted:
        pytest.skip(wanted["skipped"])
    assert "error" not in wanted, wanted["error"]
    assert "error" not in found, found["error"]
    assert_same(found, wanted, name)


def assert_same(found: Any, wanted: Any, what: str) -> None:
    """Numbers to the rounding of float32, all else exactly."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), what
        for key, value in wanted.items():
            assert_same(found[key], value, f"{what}/{key}")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=2e-4, abs=2e-5), what
    elif isinstance(wanted, list) and is_number(wanted):
        np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-4, err_msg=what)
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), what
        for index, (one, other) in enumerate(zip(found, wanted, strict=True)):
            assert_same(one, other, f"{what}[{index}]")
    else:
        assert found == wanted, what


def is_number(values: Any) -> bool:
    """Whether nested lists hold floats alone."""
    return all(is_number(value) if isinstance(value, list) else isinstance(value, float) for value in values)
