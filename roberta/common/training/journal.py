"""What a training writes while it runs: `metrics.jsonl`, `timing.jsonl`, TensorBoard events, and a line of progress.

`metrics.jsonl` holds what is the same in every run with one seed, so a run that was killed and resumed ends with the
same bytes; times are in `timing.jsonl`.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from roberta.common.libraries import library
from roberta.common.storage.folders import CheckpointError
from roberta.common.training.callbacks import Callbacks, TrainingRecord
from roberta.common.training.metrics import show

METRICS_FILE, TIMING_FILE, EVENTS_FOLDER = "metrics.jsonl", "timing.jsonl", "tensorboard"
Entry = Mapping[str, Any]


class JsonLines:
    """A file of JSON lines that grows.

    Args:
        size: how many bytes of the present file to keep; the rest is cut off.

    Raises:
        CheckpointError: the file has fewer.
    """

    def __init__(self, path: Path, size: int) -> None:
        there = path.stat().st_size if path.exists() else 0
        if there < size:
            raise CheckpointError(
                f"{path} has {there} bytes, and had {size} when the checkpoint was written; restore it, or start again in "
                "another folder"
            )
        self.path = path
        self._file = path.open("ab")
        self._file.truncate(size)

    def write(self, entry: Entry) -> None:
        """Write one line. It is in the file when this returns, whatever happens to this process."""
        self._file.write(json.dumps(entry, allow_nan=False).encode() + b"\n")
        self._file.flush()

    def size(self) -> int:
        """The bytes of the file, all of them safely on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self.path.stat().st_size

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Journal:
    """The log of a training, in its folder and on the terminal.

    Args:
        metrics_bytes: how many bytes of `metrics.jsonl` a resumed training keeps.
        start, stop: updates made before, and in all.
        log_every: updates for a line.
        tensorboard: write events; None writes them if tensorboardX is installed.
        callbacks: told of every line of the log, evaluation and checkpoint, and of the end.
        progress: show a bar; None shows it on a terminal. Without a bar evaluations are lines on standard error.

    Raises:
        ModuleNotFoundError: `tensorboard` is True, and tensorboardX is not installed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        metrics_bytes: int,
        start: int,
        stop: int,
        log_every: int = 1,
        tensorboard: bool | None = None,
        progress: bool | None = None,
        callbacks: Callbacks | None = None,
    ) -> None:
        writer = event_writer(tensorboard)
        folder.mkdir(parents=True, exist_ok=True)
        self.metrics = JsonLines(folder / METRICS_FILE, metrics_bytes)
        self.timing = JsonLines(folder / TIMING_FILE, bytes_until(folder / TIMING_FILE, start))
        self.log_every = log_every
        self.callbacks = Callbacks() if callbacks is None else callbacks
        events = str(folder / EVENTS_FOLDER)
        self.events = None if writer is None else writer(events, purge_step=start + 1 if start else None)
        hidden = None if progress is None else not progress
        self.bar = tqdm(total=stop, initial=start, unit="update", disable=hidden, leave=False)
        self._before = time.perf_counter()

    def update(self, number: int, epoch: float, loss: float, learning_rate: float, tokens: int) -> None:
        """Note an update: in the files if `log_every` divides its number, on the terminal always."""
        now = time.perf_counter()
        seconds, self._before = now - self._before, now
        speed = round(tokens / seconds) if seconds else 0
        if number % self.log_every == 0 or number == self.bar.total:
            self.metrics.write({"update": number, "epoch": epoch, "loss": loss, "learning_rate": learning_rate})
            self.timing.write({"update": number, "seconds": seconds, "tokens": tokens, "tokens_per_second": speed})
            values = {"loss": loss, "learning_rate": learning_rate, "tokens_per_second": speed}
            self._events(number, values)
            more = {"seconds": seconds, "tokens": tokens}
            self.callbacks.tell(TrainingRecord("log", number, epoch, values | more))
        self.bar.set_postfix_str(f"loss {loss:.4f}, rate {learning_rate:.3g}, {speed} tokens/s", refresh=False)
        self.bar.update()

    def evaluation(self, number: int, epoch: float, metrics: Mapping[str, float]) -> None:
        """Note what an evaluation after an update found."""
        plain = {name: value if math.isfinite(value) else None for name, value in metrics.items()}  # JSON has no nan
        self.metrics.write({"update": number, "epoch": epoch, "evaluation": plain})
        self._events(number, {f"evaluation/{name}": value for name, value in metrics.items()})
        self.say(f"update {number}, epoch {epoch:.2f}: {show(metrics)}")
        self.callbacks.tell(TrainingRecord("evaluation", number, epoch, dict(metrics)))

    def saved(self, number: int, epoch: float, path: Path) -> None:
        """Tell that a checkpoint was written after an update."""
        self.callbacks.tell(TrainingRecord("save", number, epoch, {}, path))

    def say(self, text: str) -> None:
        """Write a line for the user to standard error, above the bar if there is one."""
        tqdm.write(text, file=sys.stderr)

    def resumed(self) -> None:
        """Restart the clock: what was done since the last update does not count as time of the next one."""
        self._before = time.perf_counter()

    def close(self) -> None:
        """Close all files, and end the bar."""
        self.bar.close()
        self.metrics.close()
        self.timing.close()
        if self.events is not None:
            self.events.close()

    def _events(self, number: int, values: Mapping[str, float]) -> None:
        if self.events is not None:
            for name, value in values.items():
                self.events.add_scalar(name, value, number)


def bytes_until(path: Path, update: int) -> int:
    """The bytes of a log's whole lines up to an update; 0 if there is no file."""
    total = 0
    if path.is_file():
        with path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n") or json.loads(line)["update"] > update:
                    break
                total += len(line)
    return total


def event_writer(tensorboard: bool | None) -> Any:
    """The class of tensorboardX that writes events; None if none are wanted, or None was given and it is not installed.

    torch.utils.tensorboard would import TensorFlow if that is installed.
    """
    if tensorboard is False:
        return None
    try:
        way_out = "pip install 'roberta[train]', or omit tensorboard"
        return library("tensorboardX", "TensorBoard events", way_out).SummaryWriter
    except ModuleNotFoundError:
        if tensorboard is None:
            return None
        raise
