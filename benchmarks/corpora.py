"""A corpus larger than memory: what preparing a token store and training on it take, in memory and in time.

    python -m benchmarks.corpora [--gigabytes 1] [--workers 0] [--folder DIR] [--packing full-sentences]

The text is the pages of this project, its sentences drawn again and again to the size asked for. Figures: tokens per
CPU second beside those of the tokenizers library alone on a part of the same file (goal 0.9), the largest resident memory
of preparing and of training (goal 1 GB), and the seconds from the start of the command to its first update, when it starts
first and when it resumes (goal 10 s). The model is tiny: its updates take no time to speak of.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SMALL = ROOT / "roberta" / "small"
RAW_BYTES = 64 * 2**20  # of the file, for the library alone
CONFIG = {
    "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 128,
    "vocab_size": 4096, "max_position_embeddings": 130, "type_vocab_size": 1,
}  # fmt: skip
RAW = """
import itertools, sys, time
import tokenizers
tokenizer = tokenizers.Tokenizer.from_file(sys.argv[1])
tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="$A", special_tokens=[])
tokens, begin = 0, time.process_time()
with open(sys.argv[2], "rb") as file:
    lines = file.read(int(sys.argv[3])).decode(errors="ignore").split("\\n")
    for start in range(0, len(lines), 10000):
        rows = tokenizer.encode_batch_fast(lines[start : start + 10000], add_special_tokens=False)
        tokens += sum(len(row.ids) for row in rows)
print(tokens / (time.process_time() - begin))
"""


class Ended(NamedTuple):
    """A process that has ended: its seconds, CPU seconds with those of its children, largest memory in MB, and output."""

    seconds: float
    cpu: float
    memory: float
    output: str


def text_file(path: Path, size: int) -> None:
    """Write documents of random sentences of the project's pages, until the file has that many bytes."""
    rng = random.Random(0)
    sentences = [
        line.strip() for page in sorted(ROOT.glob("docs/*.md")) for line in page.read_text("utf-8").split("\n")
        if len(line) > 40
    ]  # fmt: skip
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size:
            documents = ("\n".join(rng.choices(sentences, k=rng.randint(1, 40))) for _ in range(1000))
            file.write("\n\n".join(documents) + "\n\n")


def ended(words: list[str]) -> Ended:
    """Run a command to its end. With children, the largest memory is that of the largest process."""
    begin = time.monotonic()
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    return Ended(time.monotonic() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, output)


def environment() -> dict[str, str]:
    """Ours, with this folder before an installed version."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


def first_update(words: list[str], run: Path) -> tuple[float, float]:
    """Start a training, kill it after thirty updates, and return the seconds to the first one, and MB at the end."""
    log = run / "timing.jsonl"
    before = lines(log)
    begin = time.monotonic()
    process = subprocess.Popen([sys.executable, *words], env=environment(), stderr=subprocess.DEVNULL)
    seconds, memory = 0.0, 0.0
    while process.poll() is None and lines(log) < before + 30:
        if not seconds and lines(log) > before:
            seconds = time.monotonic() - begin
        memory = max(memory, peak(process.pid))
        time.sleep(0.02)
    process.kill()
    process.wait()
    return seconds, memory


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def peak(pid: int) -> float:
    """The largest resident memory of a process so far, in MB."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(found[0]) / 1024 if found else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of text (%(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="of roberta prepare (%(default)s)")
    parser.add_argument("--packing", default="full-sentences", help="(%(default)s)")
    parser.add_argument("--folder", type=Path, help="for text and store, which stay there (a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        text, store, run = folder / "text.txt", folder / "store", folder / "run"
        if not text.is_file():
            text_file(text, int(options.gigabytes * 1e9))
        raw = [float(ended(["-c", RAW, str(SMALL / "tokenizer.json"), str(text), str(RAW_BYTES)]).output)]

        made = ended([
            "-m", "roberta", "prepare", str(text), "--tokenizer", str(SMALL), "--output", str(store), "--workers",
            str(options.workers),
        ])  # fmt: skip
        raw.append(float(ended(["-c", RAW, str(SMALL / "tokenizer.json"), str(text), str(RAW_BYTES)]).output))
        info = json.loads((store / "store.json").read_text())
        print(made.output, end="")
        speed, alone = info["tokens"] / made.cpu, sum(raw) / 2
        print(f"text {text.stat().st_size / 1e9:.2f} GB; prepared in {made.seconds:.0f} s, {made.cpu:.0f} CPU s")
        print(f"tokens per CPU second: {speed:,.0f}, the library alone {raw[0]:,.0f} and {raw[1]:,.0f}")
        goal("share of the library's", speed / alone, 0.9, at_least=True)
        goal("largest memory of prepare, MB", made.memory, 1024)

        (folder / "config.json").write_text(json.dumps({"model_type": "roberta", **CONFIG}))
        words = [
            "-m", "roberta", "train", "mlm", "--framework", "pt", "--model", str(folder / "config.json"), "--tokenizer",
            str(SMALL), "--updates", "100000", "--batch-size", "16", "--save-every", "20", "--no-tensorboard", "--packing",
            options.packing, "--resume",
        ]  # fmt: skip
        few = folder / "few.txt"
        text_file(few, 100_000)
        seconds, memory = first_update([*words, "--train", str(few), "--output", str(folder / "few")], folder / "few")
        print(f"a text of 100 kB from memory: the first update after {seconds:.1f} s, {memory:.0f} MB")
        words += ["--train", str(store), "--output", str(run)]
        seconds, memory = first_update(words, run)
        print(f"first start, which plans the rows: the first update after {seconds:.1f} s, {memory:.0f} MB")
        seconds, memory = first_update(words, run)
        goal("seconds to the first update after a resume", seconds, 10)
        goal("largest memory of train, MB", memory, 1024)


def goal(name: str, value: float, limit: float, *, at_least: bool = False) -> None:
    """Print a figure beside its goal."""
    is_met = value >= limit if at_least else value <= limit
    print(f"{name}: {value:.2f} (goal {limit:g}){'' if is_met else ', missed'}", flush=True)


if __name__ == "__main__":
    main()
