"""Checkpoints in parts in Flax: Orbax writes the arrays where they are, in the background, and reads them anywhere.

A tensor's name is that of `roberta.common.training.part_checkpoints`; its axes are Flax's own, so that a part of an array
is a part of a file. Orbax takes over a second to import, and is imported when it is needed.
"""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from roberta.common.formats.flax_msgpack import native_name
from roberta.common.parameters import kind_of
from roberta.common.storage.folders import CheckpointError
from roberta.common.training.optimizer_state import TrainingState
from roberta.flax.optimizers import moments_of, with_moments
from roberta.flax.weights import from_native, native

if TYPE_CHECKING:
    from roberta.flax.training import Trainer

_WEIGHTS, _TRAINED = "weights.", "trained."


class OrbaxSaving:
    """The writing of this process's parts.

    Args:
        folder: which Orbax makes once the parts of all processes are there.
    """

    def __init__(self, arrays: Mapping[str, Array], folder: Path) -> None:
        import orbax.checkpoint as ocp

        self._checkpointer = ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler())
        self._checkpointer.save(folder.absolute(), args=ocp.args.PyTreeSave(dict(arrays)))
        waiting = ThreadPoolExecutor(1, "parts")  # Orbax itself does not say whether it is done
        self._ended: Future[None] = waiting.submit(self._checkpointer.wait_until_finished)
        waiting.shutdown(wait=False)

    def is_done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._ended.done()

    def wait(self) -> None:
        """Return once the parts are safe on the disk; raises what prevented that."""
        try:
            self._ended.result()
        finally:
            self._checkpointer.close()


def outline(trainer: "Trainer") -> tuple[dict[str, str], TrainingState]:
    """The texts of the model's folder, and what the optimizer knows without its arrays; asks nothing of other processes."""
    dtype = next(iter(jax.tree.leaves(trainer.train_state.params))).dtype.name
    return trainer.own_model.texts_to_save(dtype), trainer.outline()


def begin_parts(trainer: "Trainer", folder: Path) -> OrbaxSaving:
    """Begin to write the parts of this process, which were copied when this returns."""
    return OrbaxSaving(arrays_of(trainer), folder)


def arrays_of(trainer: "Trainer") -> dict[str, Array]:
    """The arrays of a training, where they are, by the names that they have in files."""
    found = {_WEIGHTS + name: leaf for name, (leaf, _) in native(trainer.own_model.params).items()}
    found |= {entry: leaf for entry, (leaf, _) in moments_of(trainer.train_state.opt_state)[1].items()}
    if trainer.averages is not None:
        found |= {_TRAINED + name: leaf for name, (leaf, _) in native(trainer.train_state.params).items()}
    return found


def restore_parts(trainer: "Trainer", folder: Path, state: TrainingState) -> None:
    """Give a new trainer the arrays in a folder, each process and device its parts, and the step and scale of a state.

    Raises:
        CheckpointError: names, shapes or dtypes are not those of the trainer.
    """
    import orbax.checkpoint as ocp

    # what is there must be what is wanted
    wanted = arrays_of(trainer)
    with ocp.PyTreeCheckpointer() as checkpointer:
        found = _described(checkpointer, folder)
        expected = {name: (tuple(leaf.shape), leaf.dtype.name) for name, leaf in wanted.items()}
        wrong = [
            f"{name} is {found.get(name, 'missing')}, wanted {expected.get(name, 'nothing')}"
            for name in sorted({*found, *expected})
            if found.get(name) != expected.get(name)
        ]
        if wrong:
            raise CheckpointError(f"{folder} does not fit this training:\n  " + "\n  ".join(wrong[:5]))
        places = {
            name: ocp.ArrayRestoreArgs(sharding=leaf.sharding, global_shape=leaf.shape, dtype=leaf.dtype)
            for name, leaf in wanted.items()
        }
        arrays = _read(checkpointer, folder, places)
    # the trees, of which the frozen part is not in the trainer's state
    shown = {native_name(name): arrays[_WEIGHTS + name] for name in native(trainer.own_model.params)}
    kind = _WEIGHTS if trainer.averages is None else _TRAINED
    paths = flatten_dict(trainer.train_state.params, sep="/")
    trained = unflatten_dict(
        {native_name(name): arrays[kind + name] for name in native(trainer.train_state.params)}, sep="/"
    )
    averages = unflatten_dict({path: shown[path] for path in paths}, sep="/")
    frozen = {path: leaf for path, leaf in shown.items() if path not in paths}
    opt_state = with_moments(trainer.train_state.opt_state, arrays, trainer.count(state.step))
    trainer.take(trained, averages, frozen, opt_state, state)


def read_parts(folder: Path) -> dict[str, np.ndarray]:
    """All tensors in PyTorch's shapes; one process alone reads them, whatever others there are.

    Raises:
        CheckpointError: a file is damaged.
    """
    import orbax.checkpoint as ocp

    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}, barrier_sync_key_prefix="alone"
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    with ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
        names = _described(checkpointer, folder)
        arrays = _read(checkpointer, folder, {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names})
    return {name: from_native(array, _is_turned(name)) for name, array in arrays.items()}


def _is_turned(name: str) -> bool:
    """Whether Flax has an array transposed, by its name in files."""
    return kind_of(name.partition(".")[2]) == "dense"


def _described(checkpointer: Any, folder: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """The shape and the dtype of each array in a folder."""
    try:
        tree = checkpointer.metadata(folder.absolute()).item_metadata.tree
        return {name: (tuple(one.shape), np.dtype(one.dtype).name) for name, one in tree.items()}
    except Exception as error:  # of many kinds, some of C++ code
        raise _damaged(folder, error) from error


def _read(checkpointer: Any, folder: Path, places: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays in a folder."""
    import orbax.checkpoint as ocp

    asked = ocp.args.PyTreeRestore(item=dict.fromkeys(places, 0), restore_args=dict(places))
    try:
        found: dict[str, Any] = checkpointer.restore(folder.absolute(), args=asked)
        return found
    except Exception as error:
        raise _damaged(folder, error) from error


def _damaged(folder: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{folder} cannot be read by Orbax: {type(error).__name__}: {error}")
