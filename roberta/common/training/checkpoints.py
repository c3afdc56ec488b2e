"""The checkpoints of a training: model, tokenizer, optimizer and position in the data, written as one set.

`OUTPUT/checkpoints/step-000123/` is a model folder that `from_pretrained` reads, with `optimizer.safetensors`,
`optimizer.json` and `trainer.json` beside it. All of it is the same in the three frameworks.
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from roberta.common.adapters.adapter_files import ADAPTER_FILES
from roberta.common.checkpoint.checkpoint import is_stale, weight_contents
from roberta.common.config import read_json
from roberta.common.storage.folders import CheckpointError, Content, file_pieces, sync, write_folder
from roberta.common.training.optimizer_state import (
    SETTINGS_FILE,
    STATE_FILES,
    TRAINED_FILE,
    TrainingState,
    load_training_state,
    read_optimizer_settings,
    state_contents,
)
from roberta.common.training.part_checkpoints import PARTS_FILE, PARTS_FOLDER, parts_of, read_whole, stored_as

_FOLDER, _TRAINER_FILE = "checkpoints", "trainer.json"
_NAME = re.compile(r"step-(\d{6,})")
_LITTER = re.compile(r"\.step-\d{6,}\..*tmp|\.step-\d{6,}\.lock")


@dataclass(frozen=True)
class Position:
    """How far a training is, and which training it is.

    Attributes:
        update: updates made.
        metrics_bytes: of `metrics.jsonl` at that moment.
        best: update and value of the best evaluation so far; None without one.
        agreement: what must be the same for the training to be resumed: name -> value, both plain JSON.
        waited: evaluations since the best one, or since the start if none was; older checkpoints lack it.
    """

    update: int
    metrics_bytes: int
    best: tuple[int, float] | None
    agreement: Mapping[str, Any]
    waited: int = 0


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was read: its folder, which `from_pretrained` reads, and what a resumed training needs besides.

    Attributes:
        parts: the framework whose parts it is in, and then the state has no arrays; else None. See `part_checkpoints`.
    """

    folder: Path
    position: Position
    state: TrainingState
    parts: str | None = None


class Checkpoints:
    """The checkpoints in the folder of a training.

    Args:
        output: the folder of the training.
        keep: how many of the newest are kept; the best one is kept too.
        texts: further files of each, such as the tokenizer's, by name.
    """

    def __init__(self, output: Path, *, keep: int = 2, texts: Mapping[str, bytes] | None = None) -> None:
        if keep < 1:
            raise ValueError(f"keep={keep} must be at least 1: the newest checkpoint is always kept")
        self.output = output
        self.folder = output / _FOLDER
        self.keep = keep
        self.texts = dict(texts or {})

    def path(self, update: int) -> Path:
        """The folder of the checkpoint after an update."""
        return self.folder / f"step-{update:06}"

    def updates(self) -> list[int]:
        """The updates that have a checkpoint, oldest first."""
        names = (_NAME.fullmatch(path.name) for path in self.folder.glob("step-*") if path.is_dir())
        return sorted(int(name[1]) for name in names if name)

    def save(
        self,
        position: Position,
        model: Mapping[str, Content],
        state: TrainingState,
        *,
        removes_old: bool = True,
    ) -> Path:
        """Write a checkpoint, whole or not at all, and remove older ones that are not kept; returns its folder.

        Args:
            model: its files, by name.
            removes_old: False keeps them all this time.

        Raises:
            CheckpointError: it cannot be written; names what is kept.
        """
        files: dict[str, Content] = {**model, **state_contents(state), **self.texts_of(position)}
        target = self.path(position.update)
        try:
            write_folder(target, files, stale=lambda name: name in (PARTS_FILE, PARTS_FOLDER))
        except OSError as error:
            raise CheckpointError(f"{target} could not be written: {error}; {self.what_is_kept()}") from error
        if removes_old:
            self.remove_old(position.best)
        return target

    def texts_of(self, position: Position) -> dict[str, bytes]:
        """The files of a checkpoint beside the model: the further ones, such as the tokenizer's, and the position."""
        return {**self.texts, _TRAINER_FILE: (json.dumps(asdict(position), indent=2) + "\n").encode()}

    def publish(self, update: int) -> None:
        """Write the model of a checkpoint into the folder of the training, for `from_pretrained`."""
        source = self.path(update)
        apart = (*STATE_FILES, TRAINED_FILE, _TRAINER_FILE, PARTS_FILE, PARTS_FOLDER)
        names = [path.name for path in source.iterdir() if path.name not in apart]
        try:
            files: dict[str, Content] = {name: file_pieces(source / name) for name in names}
            if parts_of(source) is not None:  # only one process is needed to read them, and this one is the first
                files |= weight_contents(stored_as(read_whole(_read(source))[0]))
            write_folder(self.output, files, stale=lambda name: is_stale(name, None) or name in ADAPTER_FILES)
        except OSError as error:
            raise CheckpointError(f"{self.output}: no model was written: {error}; {self.what_is_kept()}") from error

    def newest(self) -> Saved | None:
        """The newest checkpoint that can be read whole; None if there are no checkpoints.

        Raises:
            CheckpointError: there are some, but none can be read.
        """
        failures = []
        for update in reversed(self.updates()):
            try:
                return _read(self.path(update))
            except CheckpointError as error:
                failures.append(str(error))
                warnings.warn(f"{error}; trying an older checkpoint", stacklevel=2)
        if failures:
            raise CheckpointError(f"{self.folder} has no checkpoint that can be read:\n  " + "\n  ".join(failures))
        return None

    def remove_litter(self) -> None:
        """Remove what a killed process left; only for the process that has the folder of the training to itself."""
        for path in self.folder.glob(".step-*"):
            if _LITTER.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def what_is_kept(self) -> str:
        """The newest checkpoint and how to resume from it, for errors."""
        there = self.updates()
        if not there:
            return "there is no checkpoint yet"
        return f"{self.path(there[-1])} is kept; when there is room, resume from it with --resume"

    def remove_old(self, best: tuple[int, float] | None) -> None:
        """Remove checkpoints that are neither among the newest nor the best."""
        for update in self.updates()[: -self.keep]:
            if best is None or update != best[0]:
                self.remove(update)

    def remove(self, update: int) -> None:
        """Remove a checkpoint; it disappears in one step."""
        gone = self.folder / f".step-{update:06}.removed.tmp"
        shutil.rmtree(gone, ignore_errors=True)
        self.path(update).rename(gone)
        sync(self.folder)
        shutil.rmtree(gone, ignore_errors=True)


def _read(folder: Path) -> Saved:
    """The checkpoint in a folder; `CheckpointError` if it is damaged, or not of a training."""
    file = folder / _TRAINER_FILE
    if not file.is_file():
        raise CheckpointError(f"{folder} has no {_TRAINER_FILE}: it is not the checkpoint of a training")
    content = read_json(file)
    wanted = {field.name for field in fields(Position)}
    if set(content) | {"waited"} != wanted:
        raise CheckpointError(f"{file} has {sorted(content)}, and must have {sorted(wanted)}; it is damaged")
    best = content["best"]
    position = Position(**content | {"best": None if best is None else (int(best[0]), float(best[1]))})
    parts = parts_of(folder)
    if parts is not None:
        settings = folder / SETTINGS_FILE
        if not settings.is_file():
            raise CheckpointError(f"{folder} has no {SETTINGS_FILE}; it is damaged")
        groups, scale = read_optimizer_settings(settings)
        outline = TrainingState(position.update, {}, groups, str(folder), loss_scale=scale)
        return Saved(folder, position, outline, parts)
    state = load_training_state(folder)
    if state.step != position.update:
        raise CheckpointError(
            f"{folder}: the optimizer made {state.step} updates, {_TRAINER_FILE} says {position.update}"
        )
    return Saved(folder, position, state)


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two agreements, a line each, such as "recipe.power: 1.0 then, 2.0 now"."""
    then_flat, now_flat = dict(_flat(saved)), dict(_flat(json.loads(json.dumps(now))))
    return [
        f"{name}: {then_flat.get(name, 'not there')} then, {now_flat.get(name, 'not there')} now"
        for name in {**then_flat, **now_flat}
        if then_flat.get(name, _ABSENT) != now_flat.get(name, _ABSENT)
    ]


_ABSENT = object()


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            leaves += _flat(value, f"{prefix}{key}.")
        else:
            leaves.append((f"{prefix}{key}", value))
    return leaves
