"""What the scripts need, and what they give: `python tests/oracle/scripts/record.py` keeps transformers' results.

To be run after a change of a script or a model here, with `make oracle` done; recorded.json has the hashes of both.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

import checkpoints
import peers
from oracle.scripts import run

from roberta.common.formats import tf_h5 as tf_legacy
from roberta.common.parameters import Head

ROOT = Path(__file__).parents[3]
RECORDED = Path(__file__).parent / "recorded.json"
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
    small = ROOT / "roberta" / "small"
    (folder / "texts.json").write_text(json.dumps(TEXTS), encoding="utf-8")
    for name, head in FOLDERS.items():
        config = checkpoints.small_config(
            head, vocab_size=4096, num_hidden_layers=1, max_position_embeddings=100, type_vocab_size=1,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            num_labels=2 if name == "qa" else 4 if name == "token" else 3,
        )  # fmt: skip
        tensors = checkpoints.draw(config, head)
        if name == "causal":  # transformers counts positions from 0 in `generate`: see docs/differences.md
            table = tensors["roberta.embeddings.position_embeddings.weight"]
            table[:] = table[:1]
        checkpoints.save(folder / name, config, tensors, "float32", legacy=legacy)
        for file in ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"):
            shutil.copy(small / file, folder / name / file)
    return folder


@contextmanager
def hub() -> Iterator[str]:
    """The address of a hub on this machine."""
    spec = importlib.util.spec_from_file_location("hub_server", Path(__file__).parents[2] / "common" / "test_hub.py")
    served = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(served)

    class Handler(served.Handler):
        def post(self, parts: list[str], body: bytes) -> None:
            if parts == ["api", "validate-yaml"]:  # of a model card, by older clients
                return self.json({"errors": [], "warnings": []})
            super().post(parts, body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    server.RequestHandlerClass.hub = served.FakeHub(url)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def environment(library: str, framework: str, hub: str, out: Path) -> dict[str, str]:
    """The environment of a user of the library, with the stand-in for the hub."""
    ours = str(ROOT)
    paths = [os.environ.get("PYTHONPATH", ""), str(peers.overlay(4))]
    unused = {"pt": ("TF", "FLAX"), "tf": ("FLAX",), "flax": ("TF",)}[
        framework
    ]  # TensorFlow's model card needs PyTorch
    uses = {f"USE_{name}": "0" if name in unused else "AUTO" for name in ("TORCH", "TF", "FLAX")}
    return {
        **os.environ, **uses, "PYTHONPATH": os.pathsep.join([ours, *paths] if library == "roberta" else paths),
        "TF_USE_LEGACY_KERAS": str(int(library == "transformers")), "HF_ENDPOINT": hub, "HF_HOME": str(out / "cache"),
        "HF_TOKEN": "hf_nobody", "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip


def results(library: str, framework: str) -> dict[str, Any]:
    """What the scripts of a framework print, in a process of its own."""
    with tempfile.TemporaryDirectory() as place, hub() as address:
        out = Path(place, "out")
        out.mkdir()
        # transformers' TensorFlow classes cannot read what a newer safetensors opens
        folder = make_folders(Path(place, "models"), tf_legacy if framework == "tf" else None)
        command = [sys.executable, run.__file__, library, framework, str(folder), str(out)]
        done = subprocess.run(
            command, env=environment(library, framework, address, out), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found: dict[str, Any] = json.loads((out / "results.json").read_text(encoding="utf-8"))
        return found


def signature() -> str:
    """A hash of what the results depend on, apart from the libraries: the scripts, the texts and the models."""
    scripts = [Path(__file__).parent / f"{name}.py" for names in run.BY_FRAMEWORK.values() for name in names]
    made = [*TEXTS, inspect.getsource(make_folders)]
    return hashlib.sha256(b"".join(item.encode() for item in [*made, *map(Path.read_text, scripts)])).hexdigest()


def rounded(value: Any) -> Any:
    """Floats to seven digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def main() -> None:
    """Run all with transformers, and write recorded.json."""
    found = {framework: rounded(results("transformers", framework)) for framework in run.BY_FRAMEWORK}
    for scripts in found.values():
        for name, printed in scripts.items():
            assert not {"error", "skipped"} & printed.keys(), (name, printed)
    RECORDED.write_text(json.dumps({"signature": signature(), **found}, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
