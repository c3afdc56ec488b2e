"""`roberta.pipeline` compared with the pipeline of transformers 4.57, in PyTorch: the same texts, model and tokenizer.

    python -m benchmarks.pipelines [--texts 96] [--rounds 3] [--threads 1]

The model has roberta-base size; lengths are lognormal (median 40 words). Every side is a process that loads and warms
up; each round runs every side once, so that a busy machine affects all of them equally. Figures are medians for a call
with all texts, in CPU seconds of all threads and in wall seconds, and ratios of the CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks import peers
from benchmarks.checkpoints import make

WORDS = [
    "the",
    "a",
    "ship",
    "left",
    "harbour",
    "of",
    "in",
    "morning",
    "came",
    "back",
    "evening",
    "nobody",
    "knows",
    "who",
    "wrote",
    "old",
    "book",
    "about",
    "sea",
    "town",
]
# Name of a side -> the module that has `pipeline`, and the options of the call.
SIDES: dict[str, tuple[str, dict[str, int]]] = {
    "ours": ("roberta", {}),
    "transformers, one by one": ("transformers", {"batch_size": 1}),
    "transformers, batches of 32": ("transformers", {"batch_size": 32}),
}
WORKER = """
import importlib, json, sys, time
module, folder, options = importlib.import_module(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
texts = json.load(open(folder + "/texts.json"))
pipe = module.pipeline("text-classification", model=folder, tokenizer=folder, framework="pt")
pipe(texts[:2], **options)
print("ready", flush=True)
for _ in sys.stdin:
    cpu, wall = time.process_time(), time.perf_counter()
    found = pipe(texts, **options)
    took = [time.process_time() - cpu, time.perf_counter() - wall]
    print(json.dumps([*took, [result["score"] for result in found]]), flush=True)
"""


def prepared(folder: Path, texts: int) -> None:
    """Write the model, a tokenizer and the texts into a folder."""
    from roberta import RobertaTokenizerFast

    make(folder, "base", "ForSequenceClassification")
    draw = random.Random(0)
    made = [" ".join(draw.choices(WORDS, k=min(int(draw.lognormvariate(3.7, 0.97)) + 1, 400))) for _ in range(texts)]
    RobertaTokenizerFast.train_from_iterator(made, 600, show_progress=False, model_max_length=512).save_pretrained(
        folder
    )
    (folder / "texts.json").write_text(json.dumps(made))


def started(side: str, folder: Path, threads: int) -> subprocess.Popen[str]:
    """A side's process, ready to run."""
    module, options = SIDES[side]
    settings = {"OMP_NUM_THREADS": str(threads), "USE_TF": "0", "USE_FLAX": "0", "HF_HUB_OFFLINE": "1"}
    environment = peers.environment("transformers4" if module == "transformers" else None, **settings)
    command = [sys.executable, "-c", WORKER, module, str(folder), json.dumps(options)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    assert process.stdout
    while process.stdout.readline().strip() != "ready":
        if process.poll() is not None:
            raise SystemExit(f"{side} did not start")
    return process


def round_of(process: subprocess.Popen[str]) -> tuple[float, float, list[float]]:
    """One call with all texts: CPU seconds, wall seconds, scores."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    cpu, wall, scores = json.loads(process.stdout.readline())
    return cpu, wall, scores


def main() -> None:
    """Print the figures."""
    given = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    given.add_argument("--texts", type=int, default=96)
    given.add_argument("--rounds", type=int, default=3)
    given.add_argument("--threads", type=int, default=1)
    options = given.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared(folder, options.texts)
        processes = {side: started(side, folder, options.threads) for side in SIDES}
        runs = [{side: round_of(process) for side, process in processes.items()} for _ in range(options.rounds)]
        for process in processes.values():
            process.communicate()
    ours = median(run["ours"][0] for run in runs)
    for side in SIDES:
        cpu, wall = (median(run[side][place] for run in runs) for place in (0, 1))
        off = max(abs(a - b) for a, b in zip(runs[0]["ours"][2], runs[0][side][2], strict=True))
        print(f"{side:<28} {cpu:7.2f} CPU s {wall:7.2f} s {cpu / ours:6.2f} times ours   scores differ by {off:.0e}")


if __name__ == "__main__":
    main()
