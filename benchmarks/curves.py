"""The same training in three frameworks: the losses of every update, overlaid, and how far apart they are.

    python -m benchmarks curves [--data FOLDER] [--tasks TASK ...] [--dtypes float32 float64] [--docs]

`roberta train` trains a small new model once in each framework, from one seed and without dropout, so that weights,
batches and masks are the same. --docs writes the page docs/curves.md and its plots; matplotlib is fetched for them. The
texts are Tiny Shakespeare and SST-2, in folders with these names.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks import pages, peers

DATA = pages.ROOT.parent / "shared" / "data"
FRAMEWORKS = {"pt": "PyTorch", "tf": "TensorFlow", "flax": "Flax"}
CONFIG = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256,
    "max_position_embeddings": 34, "type_vocab_size": 1,
}  # fmt: skip
VOCABULARY = 2000
SHARED = ["--seed", "1", "--dropout", "0", "--batch-size", "16", "--max-length", "32", "--warmup", "20"]
# Task -> its file, and arguments of its own.
TASKS: dict[str, tuple[str, list[str]]] = {
    "mlm": ("shakespeare/input.txt", ["--learning-rate", "2e-3"]),
    "text-classification": ("sst2/train.tsv", ["--learning-rate", "1e-3"]),
}

TEXT = """# One curve in three frameworks

This page and its plots are written by `python -m benchmarks curves --docs`; do not edit them.

With the same `--seed` and `--dropout 0`, `roberta train` starts from the same new weights in PyTorch, TensorFlow and
Flax, and gives them the same batches and masks. Only rounding differs. The model is small ({hidden_size} wide,
{num_hidden_layers} layers, a vocabulary of {vocabulary}); the texts are Tiny Shakespeare for `mlm`, and SST-2 for
`text-classification`. The gap of an update is the difference between the largest and the smallest of the three losses.
"""


def train(folder: Path, data: Path, task: str, framework: str, dtype: str, updates: int) -> list[float]:
    """The loss of each update of one run in a separate process, whose log stays in FOLDER/TASK-DTYPE."""
    file, own = TASKS[task]
    output = folder / f"{task}-{dtype}" / FRAMEWORKS[framework]
    command = [
        sys.executable,
        "-m",
        "roberta",
        "train",
        task,
        "--model",
        str(folder / "model"),
        "--output",
        str(output),
    ]
    command += ["--train", str(data / file), "--framework", framework, "--dtype", dtype, "--updates", str(updates)]
    # only one checkpoint, at the end
    command += [*SHARED, *own, "--save-every", str(updates), "--no-tensorboard"]
    peers.measured(command, peers.environment(TF_CPP_MIN_LOG_LEVEL="3"))
    entries = map(json.loads, (output / "metrics.jsonl").read_text().splitlines())
    return [entry["loss"] for entry in entries if "loss" in entry]


def make_model(folder: Path, data: Path) -> None:
    """Write a tokenizer, trained on the text of "mlm", and a config, from which new weights are drawn."""
    from roberta import RobertaConfig, RobertaTokenizerFast

    with (data / TASKS["mlm"][0]).open(encoding="utf-8") as lines:
        tokenizer = RobertaTokenizerFast.train_from_iterator(
            lines, VOCABULARY, show_progress=False, model_max_length=32
        )
    tokenizer.save_pretrained(folder)
    config = RobertaConfig(vocab_size=len(tokenizer), **CONFIG)
    (folder / "config.json").write_text(config.to_json_string())


def gaps(losses: dict[str, list[float]]) -> list[tuple[float, float]]:
    """How far apart the frameworks are in every update: the gap, and the gap over the smallest loss."""
    rows = zip(*losses.values(), strict=True)
    return [(max(row) - min(row), (max(row) - min(row)) / min(row)) for row in rows]


def table(results: dict[str, Any]) -> list[str]:
    """One row per training: its first and last losses, and the largest gap."""
    lines = [
        "| task | dtype | first loss | mean of the last ten | largest gap | at update | largest gap over the loss |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for name, losses in results["losses"].items():
        task, _, dtype = name.rpartition("-")
        first = next(iter(losses.values()))
        found = gaps(losses)
        worst = max(range(len(found)), key=lambda number: found[number][0])
        lines.append(
            f"| {task} | {dtype} | {first[0]:.3f} | {sum(first[-10:]) / len(first[-10:]):.3f} | {found[worst][0]:.1e} | "
            f"{worst + 1} | {max(relative for _, relative in found):.1e} |"
        )
    return lines


def draw(folder: Path, name: str) -> str:
    """Plot the logs of one training into docs, and return the name of the image."""
    image = f"curves-{name}.svg"
    command = [sys.executable, "-m", "roberta.common.training.plot", *FRAMEWORKS.values()]
    subprocess.run(
        [*command, "--output", str(pages.ROOT / "docs" / image)], cwd=folder / name, check=True,
        env=peers.environment("matplotlib", MPLBACKEND="svg"),
    )  # fmt: skip
    return image


def write(folder: Path, results: dict[str, Any]) -> None:
    """Write the page and its plots, for float32 if that was run."""
    text = TEXT.format(vocabulary=f"{VOCABULARY:,}", **CONFIG)
    shown = [name for name in results["losses"] if name.endswith("float32")] or list(results["losses"])
    images = "\n".join(f"\n![Losses of {name} in three frameworks]({draw(folder, name)})" for name in shown)
    lines = "\n".join(table(results))
    page = f"{text}\n{results['date']}, {results['updates']} updates; `{results['command']}`.\n\n{lines}\n{images}\n"
    (pages.ROOT / "docs" / "curves.md").write_text(page, encoding="utf-8")


def main() -> None:
    """Train, and print or write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=DATA, help="folder with shakespeare/ and sst2/ (beside the project)"
    )
    parser.add_argument("--updates", type=int, default=200, help="updates of each training (%(default)s)")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "float64"], default=["float32", "float64"])
    parser.add_argument("--docs", action="store_true", help="write docs/curves.md")
    options = parser.parse_args()
    losses: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="curves-") as place:
        folder = Path(place)
        make_model(folder / "model", options.data)
        for dtype in options.dtypes:
            for task in options.tasks:
                row = losses[f"{task}-{dtype}"] = {}
                for framework, name in FRAMEWORKS.items():
                    row[name] = train(folder, options.data, task, framework, dtype, options.updates)
                    print(f"{task}, {dtype}, {name}: {row[name][0]:.6f} to {row[name][-1]:.6f}", flush=True)
        words = (
            f"python -m benchmarks curves --tasks {' '.join(options.tasks)} --dtypes {' '.join(options.dtypes)} --docs"
        )
        results = {"date": f"{date.today()}", "command": words, "updates": options.updates, "losses": losses}
        print("\n".join(table(results)))
        if options.docs:
            write(folder, results)


if __name__ == "__main__":
    main()
