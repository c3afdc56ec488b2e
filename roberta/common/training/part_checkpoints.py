"""Checkpoints between the first update and the last that each process writes its own parts of, in the background.

`OUTPUT/checkpoints/step-000123/` then has, in place of the weights and `optimizer.safetensors`:

    config.json, tokenizer files, trainer.json, optimizer.json    as in any checkpoint
    parts/        the tensors, in the format of the framework that trains
    parts.json    that framework, and the size of each file in parts/

It is written to `.step-000123.parts.tmp`, and the first process renames it once all processes have said that their parts
are on the disk: a folder without the dot is whole. The saves are looked at after each update, and waited for before the
next one, at the end, and after a signal. The last checkpoint of a training is always one that any program reads.

What a backend provides, in its module `parts_files.py`, and where each is called:

    outline(trainer)        -> the texts of a model's folder by name, as `texts_to_save` has them, and a `TrainingState`
                               without arrays: step, groups and scale of the loss. In the first process alone, so it asks
                               nothing of the others.
    begin_parts(trainer, folder)
                            -> a `PartsSaving`. In all processes, with the same folder, which does not exist yet;
                               the one around it does. When it returns, the next update may change all weights.
    restore_parts(trainer, folder, state)
                            -> None: gives a new trainer the tensors in such a folder, and step and scale of the state,
                               in place. In all processes; how many they are, and how many wrote the folder, does not
                               matter. `CheckpointError` unless the names, shapes and dtypes are those of the trainer.
    read_parts(folder)      -> all tensors as numpy arrays in PyTorch's shapes, whatever the frameworks' own are. In one
                               process, without connecting any; it must not run what a file says. `CheckpointError` for
                               a damaged file.

The tensors are "weights.<parameter>", the model as it is saved, with the averages if there are any;
"exp_avg.<parameter>" and "exp_avg_sq.<parameter>" of each parameter in the optimizer; and with averages
"trained.<parameter>", which were trained. The names are the canonical ones.

In `train`, a backend calls `check_same_training`, then `run.restore(trainer)`, and `between` after each update; nothing
else. A row of `_ENGINES` says what has to be installed to read its parts.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from roberta.common import frameworks
from roberta.common.checkpoint.checkpoint import save_checkpoint
from roberta.common.config import CONFIG_FILE, read_json
from roberta.common.formats.safetensors_file import Source
from roberta.common.storage.folders import CheckpointError, sync
from roberta.common.training.optimizer_state import (
    MOMENTS,
    SETTINGS_FILE,
    TrainingState,
    check_whole,
    settings_content,
)

if TYPE_CHECKING:
    from roberta.common.training.checkpoints import Checkpoints, Position, Saved

PARTS_FOLDER, PARTS_FILE = "parts", "parts.json"
WEIGHTS, TRAINED = "weights", "trained"
# Framework -> the modules that read what it writes, and how to install them.
_ENGINES: dict[str, tuple[tuple[str, ...], str]] = {
    "pt": (("torch",), "pip install 'roberta[pt]'"),
    "flax": (("jax", "flax"), "pip install 'roberta[flax]'"),
}
_RUNNING, _DONE, _FAILED = range(3)


class PartsSaving(Protocol):
    """The writing of one process's parts, in the background."""

    def is_done(self) -> bool:
        """Whether it has ended, well or not."""

    def wait(self) -> None:
        """Return once the parts are safe on the disk; raises what prevented that."""


class Gathering(Protocol):
    """The processes of a training: `processes.Processes`."""

    @property
    def rank(self) -> int:
        """The number of this one."""

    def gathered(self, value: int) -> list[int]:
        """The value of each process, by rank."""


@dataclass(frozen=True)
class _Begun:
    """A checkpoint that is being written; the position is known to the first process."""

    update: int
    position: Position | None
    saving: PartsSaving


class PartCheckpoints:
    """The checkpoints in parts of one training; each process has such an object.

    Args:
        framework: that of the training.
        told: called in the first process with update and folder of each checkpoint that is whole.
    """

    def __init__(self, checkpoints: Checkpoints, framework: str, told: Callable[[int, Path], None]) -> None:
        self.checkpoints, self.framework, self.told = checkpoints, framework, told
        self._begun: _Begun | None = None

    def prepare(self, trainer: Any, position: Position) -> None:
        """Write what lies beside the parts; in the first process, before all of them begin.

        Raises:
            CheckpointError: it cannot be written; names what is kept.
        """
        texts, state = _backend(self.framework).outline(trainer)
        files = {name: text.encode() for name, text in texts.items()} | self.checkpoints.texts_of(position)
        temporary = self._temporary(position.update)
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            for name, content in (files | {SETTINGS_FILE: settings_content(state)}).items():
                _write_synced(temporary / name, content)
        except OSError as error:
            raise self._failure(position.update, str(error)) from error

    def begin(self, trainer: Any, processes: Gathering, update: int, position: Position | None = None) -> None:
        """Begin to write the parts; in all processes, once the checkpoint before is whole.

        Args:
            position: in the first process, as given to `prepare`.

        Raises:
            CheckpointError: one of them could not begin.
        """
        assert self._begun is None, "the checkpoint before was waited for"
        saving, failure = None, None
        try:
            saving = _backend(self.framework).begin_parts(trainer, self._temporary(update) / PARTS_FOLDER)
        except Exception as error:
            failure = error
        self._raise_if_failed(update, processes.gathered(_RUNNING if failure is None else _FAILED), failure)
        self._begun = _Begun(update, position, cast("PartsSaving", saving))

    def poll(self, processes: Gathering) -> None:
        """Have the first process rename the checkpoint if all parts are there; in all processes, after each update.

        Raises:
            CheckpointError: it could not be written; names what is kept.
        """
        self._settle(processes, waits=False)

    def finish(self, processes: Gathering) -> None:
        """Wait for the checkpoint that is being written, if there is one; in all processes.

        Raises:
            CheckpointError: it could not be written; names what is kept.
        """
        self._settle(processes, waits=True)

    def _settle(self, processes: Gathering, *, waits: bool) -> None:
        begun, failure = self._begun, None
        if begun is None:
            return
        state = _RUNNING
        if waits or begun.saving.is_done():
            try:
                begun.saving.wait()
                state = _DONE
            except Exception as error:
                state, failure = _FAILED, error
        states = processes.gathered(state)
        if _RUNNING in states and _FAILED not in states:
            return
        self._begun = None
        self._raise_if_failed(begun.update, states, failure)
        if processes.rank == 0:
            assert begun.position is not None, "the first process knows the position"
            self._make_whole(begun.update, begun.position)

    def _raise_if_failed(self, update: int, states: Sequence[int], failure: Exception | None) -> None:
        """Raise in all processes what failed in one."""
        if failure is not None:
            raise self._failure(update, f"{type(failure).__name__}: {failure}") from failure
        failed = [str(rank) for rank, one in enumerate(states) if one == _FAILED]
        if failed:
            raise self._failure(update, f"rank {', '.join(failed)} failed, and its own message says why")

    def _make_whole(self, update: int, position: Position) -> None:
        """Give a checkpoint its name, and remove older ones that are not kept."""
        temporary, target = self._temporary(update), self.checkpoints.path(update)
        parts = temporary / PARTS_FOLDER
        try:
            sizes = {path.relative_to(parts).as_posix(): path.stat().st_size for path in _files(parts)}
            content = {"framework": self.framework, "files": sizes}
            _write_synced(temporary / PARTS_FILE, (json.dumps(content, indent=2) + "\n").encode())
            for folder in {parts, *(path.parent for path in _files(parts)), temporary}:
                sync(folder)
            if target.exists():  # one that could not be read, so that its updates were made again
                self.checkpoints.remove(update)
            temporary.rename(target)
            sync(target.parent)
        except OSError as error:
            raise self._failure(update, str(error)) from error
        self.checkpoints.remove_old(position.best)
        self.told(update, target)

    def _temporary(self, update: int) -> Path:
        target = self.checkpoints.path(update)
        return target.with_name(f".{target.name}.parts.tmp")

    def _failure(self, update: int, why: str) -> CheckpointError:
        return CheckpointError(
            f"{self.checkpoints.path(update)} could not be written: {why}; {self.checkpoints.what_is_kept()}"
        )


def check_engine(framework: str) -> None:
    """Raise `ValueError` for a framework that writes no parts."""
    if framework not in _ENGINES:
        raise ValueError(
            f"sharded_checkpoints=True: framework={framework!r} keeps all weights in every process, and has no parts to "
            "write; omit it"
        )


def parts_of(folder: Path) -> str | None:
    """The framework that wrote the parts in the folder of a checkpoint; None if it has no parts.

    Raises:
        CheckpointError: parts are missing or cut short.
    """
    file = folder / PARTS_FILE
    if not file.is_file():
        return None
    content = read_json(file)
    framework, sizes = content.get("framework"), content.get("files")
    if framework not in frameworks.FRAMEWORKS or not isinstance(sizes, dict):
        raise CheckpointError(f"{file} is damaged: it names no framework and files")
    parts = folder / PARTS_FOLDER
    found = {path.relative_to(parts).as_posix(): path.stat().st_size for path in _files(parts)}
    wrong = [f"{name} has {found.get(name, 'no')} bytes, not {size}" for name, size in sizes.items()
             if found.get(name) != size]  # fmt: skip
    if wrong:
        raise CheckpointError(f"{parts} is damaged: {'; '.join(wrong[:5])}")
    return str(framework)


def restore_trainer(saved: Saved, trainer: Any) -> None:
    """Give a new trainer what a checkpoint in parts of its own framework holds; in all processes."""
    assert saved.parts is not None
    _backend(saved.parts).restore_parts(trainer, saved.folder / PARTS_FOLDER, saved.state)


def read_whole(saved: Saved) -> tuple[dict[str, np.ndarray], TrainingState]:
    """The weights of a checkpoint in parts, and its state with all arrays.

    Raises:
        CheckpointError: they are damaged, or what reads them is not installed.
    """
    folder, framework = saved.folder, saved.parts
    assert framework is not None
    modules, way_out = _ENGINES.get(framework, ((framework,), "update roberta"))
    lacking = [module for module in modules if importlib.util.find_spec(module) is None]
    if lacking:
        raise CheckpointError(
            f"{folder} is in parts, which only {', '.join(lacking)} reads: {way_out}, or resume with "
            f"framework={framework!r}, whose last checkpoint is one that every framework reads"
        )
    tensors = _backend(framework).read_parts(folder / PARTS_FOLDER)
    weights, trained, moments = {}, {}, {}
    for name, array in tensors.items():
        kind, _, parameter = name.partition(".")
        if kind == WEIGHTS:
            weights[parameter] = array
        elif kind == TRAINED:
            trained[parameter] = array
        elif kind in MOMENTS:
            moments[name] = array
        else:
            raise CheckpointError(f"{folder} has a tensor {name[:100]!r}, which belongs to no training")
    whole = replace(saved.state, moments=moments, weights=trained)
    check_whole(whole)
    return weights, whole


@contextmanager
def as_whole(saved: Saved, beside: Path) -> Iterator[Saved]:
    """A checkpoint in parts as one that every framework reads, while the block lasts.

    Args:
        beside: a folder that can be written.
    """
    weights, state = read_whole(saved)
    own = os.environ.get("RANK", f"{socket.gethostname()}-{os.getpid()}")  # several processes may read one checkpoint
    place = beside / f".whole-{own}.tmp"
    shutil.rmtree(place, ignore_errors=True)
    try:
        config = (saved.folder / CONFIG_FILE).read_text(encoding="utf-8")
        save_checkpoint(place, {CONFIG_FILE: config}, stored_as(weights))
        yield replace(saved, folder=place, state=state, parts=None)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def stored_as(arrays: Mapping[str, np.ndarray]) -> dict[str, Source]:
    """Arrays as what a weights file is written from."""
    return {name: (array.shape, array.dtype.name, partial(np.asarray, array)) for name, array in arrays.items()}


def _backend(framework: str) -> Any:
    return frameworks.backend_module(framework, "parts_files")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _write_synced(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)  # a tokenizer's file may lie in a folder
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
