"""What a training writes while it runs: `metrics.jsonl`, `timing.jsonl`, TensorBoard events, and a line of progress.

`metrics.jsonl` holds what is the same in every run of one seed, so a run that was killed and went on ends with the same
bytes; times are in `timing.jsonl`.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from roberta.common.storage.folders import CheckpointError
from roberta.common.training.metrics import show

METRICS_FILE, TIMING_FILE, EVENTS_FOLDER = "metrics.jsonl", "timing.jsonl", "tensorboard"
Entry = Mapping[str, Any]


class Lines:
    """A file of JSON lines that grows.

    Args:
        size: bytes that are kept of what is there; the rest is cut off.

    Raises:
        CheckpointError: there are fewer.
    """

    def __init__(self, path: Path, size: int) -> None:
        there = path.stat().st_size if path.exists() else 0
        if there < size:
            raise CheckpointError(
                f"{path} has {there} bytes, and had {size} when the checkpoint was written; put it back, "
                "or start anew in another folder"
            )
        self.path = path
        self._file = path.open("ab")
        self._file.truncate(size)

    def write(self, entry: Entry) -> None:
        """One line; it is in the file when this returns, whatever becomes of this process."""
        self._file.write(json.dumps(entry, allow_nan=False).encode() + b"\n")
        self._file.flush()

    def size(self) -> int:
        """Bytes of the file, all of them safe on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self.path.stat().st_size

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Journal:
    """The log of a training, in its folder and on the terminal.

    Args:
        metrics_bytes: of `metrics.jsonl` that are kept, of a training that goes on.
        start, stop: updates made before, and in all.
        log_every: updates for a line.
        tensorboard: write events: None where tensorboardX is installed.
        progress: show a bar: None on a terminal; without a bar evaluations are lines on standard error.

    Raises:
        ModuleNotFoundError: `tensorboard` is asked for, and tensorboardX is not there.
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
    ) -> None:
        writer = event_writer(tensorboard)
        folder.mkdir(parents=True, exist_ok=True)
        self.metrics = Lines(folder / METRICS_FILE, metrics_bytes)
        self.timing = Lines(folder / TIMING_FILE, bytes_until(folder / TIMING_FILE, start))
        self.log_every = log_every
        events = str(folder / EVENTS_FOLDER)
        self.events = None if writer is None else writer(events, purge_step=start + 1 if start else None)
        hidden = None if progress is None else not progress
        self.bar = tqdm(total=stop, initial=start, unit="update", disable=hidden, leave=False)
        self._before = time.perf_counter()

    def update(self, number: int, epoch: float, loss: float, learning_rate: float, tokens: int) -> None:
        """Note an update: in the files where it is one of `log_every`, on the terminal always."""
        now = time.perf_counter()
        seconds, self._before = now - self._before, now
        speed = round(tokens / seconds) if seconds else 0
        if number % self.log_every == 0 or number == self.bar.total:
            self.metrics.write({"update": number, "epoch": epoch, "loss": loss, "learning_rate": learning_rate})
            self.timing.write({"update": number, "seconds": seconds, "tokens": tokens, "tokens_per_second": speed})
            self._events(number, {"loss": loss, "learning_rate": learning_rate, "tokens_per_second": speed})
        self.bar.set_postfix_str(f"loss {loss:.4f}, rate {learning_rate:.3g}, {speed} tokens/s", refresh=False)
        self.bar.update()

    def evaluation(self, number: int, epoch: float, metrics: Mapping[str, float]) -> None:
        """Note what an evaluation after an update found."""
        plain = {name: value if math.isfinite(value) else None for name, value in metrics.items()}  # JSON has no nan
        self.metrics.write({"update": number, "epoch": epoch, "evaluation": plain})
        self._events(number, {f"evaluation/{name}": value for name, value in metrics.items()})
        self.say(f"update {number}, epoch {epoch:.2f}: {show(metrics)}")

    def say(self, text: str) -> None:
        """A line for the user, on standard error, above the bar if there is one."""
        tqdm.write(text, file=sys.stderr)

    def resumed(self) -> None:
        """The clock starts anew: what was done since the last update is no part of the next one's time."""
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
    """Bytes of the whole lines of a log that are of updates up to this one; 0 where there is no file."""
    total = 0
    if path.is_file():
        with path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n") or json.loads(line)["update"] > update:
                    break
                total += len(line)
    return total


def event_writer(tensorboard: bool | None) -> Any:
    """The class that writes events, of tensorboardX; None where none are wanted or can be.

    torch.utils.tensorboard would import TensorFlow where it is installed.
    """
    if tensorboard is False:
        return None
    try:
        return importlib.import_module("tensorboardX").SummaryWriter
    except ModuleNotFoundError as error:
        if tensorboard is None:
            return None
        raise ModuleNotFoundError(
            "TensorBoard events need tensorboardX, which is not installed; pip install 'roberta[train]', "
            "or leave tensorboard out",
            name=error.name,
        ) from error
