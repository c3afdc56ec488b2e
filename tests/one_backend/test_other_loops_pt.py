"""The recipes of docs/scale.md for other programs' loops and launchers, run as the page has them, where these are
installed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import training_cases  # noqa: E402
import updates  # noqa: E402
from backends import backend  # noqa: E402
from child_processes import child_environment  # noqa: E402

from roberta import Training  # noqa: E402
from roberta.common.training.data.tasks import HEADS  # noqa: E402

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scale.md").read_text()
pytestmark = pytest.mark.slow


def block(part: str) -> str:
    """The Python block of the page that has a part."""
    (found,) = (one for one in re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) if part in one)
    return str(found)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # Lightning's own
def test_lightning_makes_the_updates_of_the_trainer(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning", reason="lightning is not installed")
    from roberta.pt.training import Trainer

    updates.folder_of(tmp_path, "tokens")
    settings, config = updates.settings("tokens"), updates.config_of("tokens")
    numbered = [
        (number, updates.micro_batches("tokens", updates.inputs("tokens", config, 6, seed=number)))
        for number in (1, 2, 3)
    ]

    def model() -> Any:
        return backend("pt").load(HEADS["token-classification"], tmp_path / "tokens", dtype="float64")

    losses: list[float] = []

    class Noted(lightning.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, trainer: Any, *others: Any) -> None:
            losses.append(float(trainer.callback_metrics["loss"]))

    names: dict[str, Any] = {}
    exec(block("import lightning"), names)
    tuned = names["Tuned"](model(), settings)
    loader = torch.utils.data.DataLoader(numbered, batch_size=None, collate_fn=lambda update: update)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    lightning.Trainer(accelerator="cpu", max_epochs=1, callbacks=[Noted()], **quiet).fit(tuned, loader)
    alone = Trainer(model(), settings)
    assert losses == pytest.approx([alone.update(one, 1e-4, number) for number, one in numbered], rel=1e-6)
    for name, wanted in alone.model.state_dict().items():
        assert torch.equal(tuned.ours.model.state_dict()[name], wanted), name


def logged(folder: Path) -> list[float]:
    """The losses of a training's log."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize("package", ["accelerate", "ray"])
def test_other_launchers_train_as_one_process_does(package: str, tmp_path: Path) -> None:
    pytest.importorskip({"accelerate": "accelerate", "ray": "ray.train"}[package], reason=f"{package} is not installed")
    case = training_cases.make(tmp_path / "case", "text-classification")
    (tmp_path / "model").symlink_to(case["model"])
    (tmp_path / "train.jsonl").symlink_to(case["train"][0])
    chosen = {"max_length": 48, "updates": 3, "batch_size": 4, "dropout": 0.0, "dtype": "float64"}
    text = block("__main__" if package == "accelerate" else "import ray.train")
    if package == "accelerate":
        text = text.replace('"train.tsv"', '"train.jsonl"').replace('framework="pt"', f"**{chosen}, framework='pt'")
        words = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
                 "--mixed_precision", "no", "--dynamo_backend", "no", "train.py"]  # fmt: skip
    else:
        text = text.replace("/data/train.tsv", "/data/train.jsonl").replace("/data/", f"{tmp_path}/")
        text = text.replace("train_loop_config={", f"train_loop_config={{**{chosen}, ")
        text = "import ray\nray.init(num_cpus=2, include_dashboard=False)\n" + text
        words = ["train.py"]
    (tmp_path / "train.py").write_text(text)
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=child_environment(), capture_output=True, text=True, timeout=500
    )
    assert not done.returncode, done.stderr[-3000:]
    plain = {**case, "train": [tmp_path / "train.jsonl"], "validation": None, **chosen, "progress": False}
    Training(**plain, output=tmp_path / "alone", framework="pt").run()
    assert logged(tmp_path / "out") == pytest.approx(logged(tmp_path / "alone"), rel=1e-9)
