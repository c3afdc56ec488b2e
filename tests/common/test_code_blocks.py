"""Every code block of README and the pages runs as written, in a folder with small stand-ins for a reader's own files."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from adapters import QUERY, draw, pair, write
from backends import backend as get_backend
from pipeline_cases import RAILWAY, TEXTS, make_models
from pyarrow.parquet import write_table

from roberta import RobertaConfig

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MODELS = {
    "models/sentiment": "labels", "models/ner": "tags", "models/squad": "answers", "models/race": "choices",
    "models/writer": "writes", "models/nli": "nli",
}  # fmt: skip
LINES = [line for text in TEXTS for line in (text, text.lower())] * 3
# Blocks that do not run here, by a part of them, and why.
ELSEWHERE = {
    "make gpu": "a target of the checkout; benchmarks/gpu.py skips without a GPU",
    "make demo": "CI runs `make test`, and tests/conversion/test_demo.py the demo",
    "demo-checkpoint": "the demo's checkpoint; the report itself is compared in tests/conversion/test_verify.py",
    "sst2/train.tsv": "an hour of training on other people's data (docs/recipes.md says where it comes from)",
    "squad/squad2.json": "as sst2/train.tsv",
    "wnut17": "as sst2/train.tsv",
    "wikitext2": "as sst2/train.tsv",
    "--head mnli": "tests/conversion/test_fairseq.py makes files with several heads",
    "input.txt": "the bundled model's own training, which takes hours",
    "--output causal": "the bundled model's own training, which takes hours",
    "torchrun": "tests/one_backend/test_training_pt.py starts several processes",
    "length.tsv": "as sst2/train.tsv",
    "import wandb": "tests/common/test_training_callbacks.py runs it with a stand-in",
    "import mlflow": "as import wandb",
    'sharding="data"': "tests/one_backend/test_other_loops_pt.py runs it where accelerate, Ray or Lightning is installed",
    "import lightning": 'as sharding="data"',
    "TF_CONFIG": "tests/one_backend/test_workers_train_tf.py starts several processes",
    "JAX_COORDINATOR_ADDRESS": "tests/one_backend/test_hosts_flax.py starts several processes",
}


def blocks(language: str) -> Iterator[Any]:
    for page in PAGES:
        found = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        for number, block in enumerate(found):
            if not any(part in block for part in ELSEWHERE):
                yield pytest.param(page, block, id=f"{page.stem}-{number}")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder such as a reader of the pages may have."""
    from roberta.conversion import convert

    folder = tmp_path_factory.mktemp("desk")
    bundled = ROOT / "roberta" / "small"
    for name in (
        "FacebookAI/roberta-base",
        "FacebookAI/xlm-roberta-base",
        "path-or-name",
        "path-or-hub-name",
        "roberta-base",
        "small",
    ):
        shutil.copytree(bundled, folder / name, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    camembert = folder / "almanach" / "camembert-base"
    shutil.copytree(folder / "small", camembert)
    fields = json.loads((camembert / "config.json").read_text())
    (camembert / "config.json").write_text(json.dumps({**fields, "model_type": "camembert"}))
    convert(folder / "roberta-base", folder / "of-fairseq", to="fairseq")
    for file in (folder / "of-fairseq").iterdir():
        shutil.copy(file, folder)
    made = make_models(folder / "made", dtype="float32")
    (folder / "models").mkdir()
    for name, model in MODELS.items():
        shutil.copytree(made[model], folder / name)
    shutil.copytree(made["labels"], folder / "base")
    for number, name in enumerate(("my-adapter", "another")):
        adapter = draw(pair(QUERY, 24, 24), seed=number)
        write(folder / name, adapter, base_model_name_or_path="base", target_modules=[QUERY])
    config = RobertaConfig.from_pretrained(bundled, num_hidden_layers=1, hidden_size=24, num_attention_heads=2)
    config.update({"intermediate_size": 40})
    config.save_pretrained(folder / "small")
    (folder / "small" / "model.safetensors").unlink()
    for name in ("text.txt", "texts.txt", "held-out.txt", "corpus.txt"):
        (folder / name).write_text("\n".join(LINES))
    (folder / "data").mkdir()
    write_table(pyarrow.table({"text": LINES[:20]}), folder / "data" / "part.parquet")
    (folder / "pairs.tsv").write_text("\n".join(f"{one}\t{other}" for one, other in itertools.pairwise(TEXTS)))
    (folder / "town.txt").write_text(RAILWAY)
    for name in ("train.tsv", "dev.tsv"):
        (folder / name).write_text("\n".join(f"{line}\t{'good' if 'ship' in line else 'bad'}" for line in LINES))
    return folder


@pytest.fixture
def place(desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `desk` as the working directory."""
    shutil.copytree(desk, tmp_path / "desk")
    monkeypatch.chdir(tmp_path / "desk")
    return tmp_path / "desk"


def names_of(page: Path) -> dict[str, Any]:
    """Names that the blocks of a page use without defining them."""
    if page.stem == "tokenizers":
        from roberta import RobertaTokenizerFast

        return {
            "question": "Who opened the station?", "context": RAILWAY, "texts": TEXTS, "batches_of_texts": [TEXTS, TEXTS],
            "RobertaTokenizerFast": RobertaTokenizerFast, "tokenizer": RobertaTokenizerFast.from_pretrained("small"),
        }  # fmt: skip
    if page.stem == "adapters":
        from roberta import RobertaForSequenceClassification

        return {"model": RobertaForSequenceClassification.from_pretrained("base")}
    if page.stem == "conversion":
        import optax
        import torch

        from roberta import FlaxRobertaForMaskedLM, RobertaForMaskedLM

        model = RobertaForMaskedLM(RobertaConfig.from_pretrained("small"))
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.tensor([[0, 5, 2]]), labels=torch.tensor([[0, 5, 2]])).loss.backward()
        optimizer.step()
        flax_model = FlaxRobertaForMaskedLM(model.config)
        return {"model": model, "optimizer": optimizer, "optax": optax, "flax_model": flax_model}
    return {}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("page", "block"), [*blocks("python")])
def test_a_python_block_runs(page: Path, block: str, place: Path) -> None:
    for name in ("pt", "tf", "flax"):
        get_backend(name)
    exec(compile(block, str(page), "exec"), {"__name__": "page", **names_of(page)})


@pytest.mark.slow
@pytest.mark.parametrize(("page", "block"), [*blocks("sh")])
def test_a_shell_block_runs(page: Path, block: str, place: Path, tmp_path: Path) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "roberta").write_text(f'#!/bin/sh\nexec {sys.executable} -m roberta "$@"\n')
    (commands / "roberta").chmod(0o755)
    path = f"{commands}:{os.environ['PATH']}"
    if page.stem == "README" or page.stem == "verification":  # blocks that continue an earlier one
        subprocess.run(["bash", "-euc", "roberta convert model.pt moved --to safetensors && cp -r moved out"],
                       check=True, capture_output=True, env={**os.environ, "PATH": path})  # fmt: skip
        shutil.copytree("roberta-base", "moved", dirs_exist_ok=True)
    if "convert model.pt moved" in block:
        shutil.rmtree("moved", ignore_errors=True)
    done = subprocess.run(
        ["bash", "-euc", block], capture_output=True, text=True, env={**os.environ, "PATH": path}, timeout=500
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]


def test_every_exception_is_of_a_block_that_exists() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    assert all(part in text for part in ELSEWHERE)
