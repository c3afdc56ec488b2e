"""A training state on disk, in one layout for all frameworks: AdamW's moments, its step and its settings.

`optimizer.safetensors` has "exp_avg.<parameter>" and "exp_avg_sq.<parameter>" in the canonical names and PyTorch's
shapes, and "step", the number of updates made. `optimizer.json` has the settings. `optimizers.py` of each backend reads
a state from one optimizer and fills another with it. Where the model is saved with averages of its weights,
`trained.safetensors` has the weights themselves.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from roberta.common.dtype_names import FLOAT_DTYPES
from roberta.common.formats import safetensors_file
from roberta.common.formats.safetensors_file import MAX_HEADER, Source, StoredTensor, numpy_dtype
from roberta.common.storage.folders import CheckpointError, Content, write_folder
from roberta.common.storage.held_files import read_one_save

TENSORS_FILE, SETTINGS_FILE = "optimizer.safetensors", "optimizer.json"
TRAINED_FILE = "trained.safetensors"
STATE_FILES = (TENSORS_FILE, SETTINGS_FILE)
MOMENTS = ("exp_avg", "exp_avg_sq")
_STEP = "step"
_ALGORITHM = "adamw"

# Setting -> what the constructor of torch.optim.AdamW, keras.optimizers.AdamW and optax.adamw calls it.
ADAMW_SETTINGS: dict[str, dict[str, str]] = {
    "learning_rate": {"pt": "lr", "tf": "learning_rate", "flax": "learning_rate"},
    "beta1": {"pt": "betas", "tf": "beta_1", "flax": "b1"},
    "beta2": {"pt": "betas", "tf": "beta_2", "flax": "b2"},
    "epsilon": {"pt": "eps", "tf": "epsilon", "flax": "eps"},
    "weight_decay": {"pt": "weight_decay", "tf": "weight_decay", "flax": "weight_decay"},
}


@dataclass(frozen=True)
class Group:
    """Parameters, by canonical name, that are trained with the same settings.

    Attributes:
        learning_rate: of the last step, if it follows a schedule.
        epsilon: as the framework uses it. Keras adds it before the bias correction ("epsilon-hat" in Adam's paper),
            PyTorch and optax add it after.
        weight_decay: decoupled, times the learning rate.
    """

    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    parameters: tuple[str, ...]

    def arguments(self, framework: str) -> dict[str, Any]:
        """The settings as arguments of AdamW's constructor in "pt", "tf" or "flax"."""
        named = {names[framework]: getattr(self, setting) for setting, names in ADAMW_SETTINGS.items()}
        return {**named, "betas": (self.beta1, self.beta2)} if "betas" in named else named


@dataclass(frozen=True)
class TrainingState:
    """What AdamW knows after some steps.

    Attributes:
        step: number of updates made.
        moments: "exp_avg.<parameter>" and "exp_avg_sq.<parameter>", in PyTorch's shapes. Arrays may share memory with
            the optimizer or file they are from: save them before its next step.
        groups: each parameter is in one of them.
        source: where the state is from, for errors.
        weights: what was trained, by canonical name, where the model has averages of it instead; else nothing.
        loss_scale: its value, and updates since it changed, of a training in float16; see `loss_scale.LossScale`.
    """

    step: int
    moments: Mapping[str, np.ndarray]
    groups: tuple[Group, ...]
    source: str
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)
    loss_scale: tuple[float, int] | None = None

    @property
    def parameters(self) -> list[str]:
        """The canonical names of the parameters."""
        return [name.removeprefix("exp_avg.") for name in self.moments if name.startswith("exp_avg.")]


def save_training_state(folder: str | Path, state: TrainingState) -> None:
    """Write `optimizer.safetensors` and `optimizer.json` into a folder, both or neither; its other files stay.

    Raises:
        CheckpointError: moments and groups do not fit together; nothing is written.
    """
    write_folder(folder, state_contents(state), stale=lambda name: name == TRAINED_FILE)


def state_contents(state: TrainingState) -> dict[str, Content]:
    """The files of a training state by name, for a caller that writes others in the same save.

    Raises:
        CheckpointError: moments and groups do not fit together.
    """
    check_whole(state)
    step = np.array([state.step], np.int64)
    tensors: dict[str, Source] = {_STEP: (step.shape, "int64", lambda: step)}
    tensors |= {
        name: (array.shape, array.dtype.name, partial(np.asarray, array)) for name, array in state.moments.items()
    }
    files: dict[str, Content] = {TENSORS_FILE: safetensors_file.safetensors_pieces(tensors)}
    if state.weights:
        trained: dict[str, Source] = {
            name: (array.shape, array.dtype.name, partial(np.asarray, array)) for name, array in state.weights.items()
        }
        files[TRAINED_FILE] = safetensors_file.safetensors_pieces(trained)
    return files | {SETTINGS_FILE: settings_content(state)}


def settings_content(state: TrainingState) -> bytes:
    """`optimizer.json` of a training state."""
    settings: dict[str, Any] = {"algorithm": _ALGORITHM, "groups": [asdict(group) for group in state.groups]}
    if state.loss_scale is not None:
        settings["loss_scale"] = list(state.loss_scale)
    return (json.dumps(settings, indent=2) + "\n").encode()


def check_whole(state: TrainingState) -> None:
    """Raise `CheckpointError` unless a state has the moments of all parameters in its groups, and no others."""
    _raise(state.source, _disagreements(state.moments, state.groups))


def load_training_state(folder: str | Path, *, dtype: str | None = None) -> TrainingState:
    """The training state in a folder; moments are mapped from the disk and read when they are used.

    Args:
        dtype: of the moments, one of `roberta.common.dtype_names.FLOAT_DTYPES`; None keeps that of the file.

    Raises:
        CheckpointError: there is none, or it is damaged; one error lists everything that is wrong.
    """
    if dtype is not None and dtype not in FLOAT_DTYPES:
        raise ValueError(f"dtype={dtype!r} is not one of {', '.join(FLOAT_DTYPES)}")
    file, settings, beside = (Path(folder) / name for name in (TENSORS_FILE, SETTINGS_FILE, TRAINED_FILE))
    lacking = [path.name for path in (file, settings) if not path.is_file()]
    if lacking:
        raise CheckpointError(f"{folder} has no {' and no '.join(lacking)}; write both with save_training_state")
    tensors, (groups, scale), trained = read_one_save(
        Path(folder),
        lambda: (
            safetensors_file.read_safetensors(file),
            read_optimizer_settings(settings),
            safetensors_file.read_safetensors(beside) if beside.is_file() else {},
        ),
    )
    step = tensors.pop(_STEP, None)
    wrong = [] if step is not None else [f"missing: {_STEP}"]
    if step is not None and (step.dtype != "int64" or step.shape not in ((), (1,)) or step.load().item() < 0):
        wrong.append(f"{_STEP} is {step.dtype} {list(step.shape)}, and must be one int64 of at least 0")
    wrong += [
        f"{name} has dtype {tensor.dtype}" for name, tensor in tensors.items() if tensor.dtype not in FLOAT_DTYPES
    ]
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    _raise(str(file), [*wrong, *_disagreements(shapes, groups)])
    moments = {name: _load(tensor, dtype) for name, tensor in tensors.items()}
    weights = {name: _load(tensor, None) for name, tensor in trained.items()}
    return TrainingState(int(step.load().item()) if step is not None else 0, moments, groups, str(file), weights, scale)


def entries(parameters: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Moment, parameter, and the name of both together, such as "exp_avg.lm_head.bias"."""
    for parameter in parameters:
        for moment in MOMENTS:
            yield moment, parameter, f"{moment}.{parameter}"


def check_fits(state: TrainingState, wanted: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> None:
    """Raise one `CheckpointError` unless the state has exactly these moments, in these shapes, and none loses digits.

    Args:
        wanted: shape and dtype of the optimizer's moments, by entry, such as "exp_avg.lm_head.bias".
    """
    wrong = [f"missing: {name} {list(shape)}" for name, (shape, _) in wanted.items() if name not in state.moments]
    wrong += [f"not of this optimizer: {name}" for name in state.moments if name not in wanted]
    for name, array in state.moments.items():
        shape, dtype = wanted.get(name, (array.shape, array.dtype))
        if array.shape != shape:
            wrong.append(f"{name} is {list(array.shape)}, and {list(shape)} in the optimizer")
        elif not np.can_cast(array.dtype, dtype):
            wrong.append(
                f"{name} is {array.dtype}, and {dtype} in the optimizer, which would lose digits "
                f"(load_training_state(..., dtype={dtype.name!r}) rounds)"
            )
    _raise(state.source, wrong)


def check_trained_weights(state: TrainingState, wanted: Mapping[str, tuple[int, ...]] | None) -> None:
    """Raise one `CheckpointError` unless the state has exactly these weights, in these shapes.

    Args:
        wanted: shapes by canonical name; None where no averages are trained.
    """
    if wanted is None:
        wanted = {}
    wrong = [f"missing: {name} {list(shape)}" for name, shape in wanted.items() if name not in state.weights]
    wrong += [f"not averaged in this training: {name}" for name in state.weights if name not in wanted]
    for name, array in state.weights.items():
        if name in wanted and array.shape != wanted[name]:
            wrong.append(f"{name} is {list(array.shape)}, and {list(wanted[name])} in the model")
    _raise(f"{state.source}, {TRAINED_FILE}", wrong[:20])


def refuse(options: Mapping[str, object]) -> None:
    """Raise `ValueError` for an option of an optimizer that is set, but that the layout has no place for."""
    for option, value in options.items():
        if value:
            raise ValueError(
                f"{option}={value!r} is not part of a training state; train without it to carry the state over"
            )


def _load(tensor: StoredTensor, dtype: str | None) -> np.ndarray:
    return tensor.load() if dtype is None else tensor.load().astype(numpy_dtype(dtype), copy=False)


def _disagreements(moments: Mapping[str, Any], groups: tuple[Group, ...]) -> list[str]:
    """The entries of moments (arrays or shapes) that are missing, not in `groups`, or of the wrong shape."""
    counts = Counter(name for group in groups for name in group.parameters)
    names = {entry for _, _, entry in entries(counts)}
    wrong = [f"missing: {entry}" for _, _, entry in entries(counts) if entry not in moments]
    wrong += [f"of no group in {SETTINGS_FILE}: {name}" for name in moments if name not in names]
    wrong += [f"in more than one group of {SETTINGS_FILE}: {name}" for name, count in counts.items() if count > 1]
    for parameter in counts:
        pair = [moments.get(f"{moment}.{parameter}") for moment in MOMENTS]
        shapes = [getattr(one, "shape", one) for one in pair if one is not None]
        if len(set(shapes)) > 1:
            wrong.append(f"{parameter}: the moments are {' and '.join(str(list(shape)) for shape in shapes)}")
    return wrong


def read_optimizer_settings(file: Path) -> tuple[tuple[Group, ...], tuple[float, int] | None]:
    """The groups in `optimizer.json`, and the scale of the loss."""
    if file.stat().st_size > MAX_HEADER:
        raise CheckpointError(f"{file} is too large for the settings of an optimizer")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        algorithm, listed = content["algorithm"], content["groups"]
        groups = tuple(_group(entry) for entry in listed)
        scale = content.get("loss_scale")
        scale = None if scale is None else (float(scale[0]), int(scale[1]))
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{file} cannot be read: {type(error).__name__}: {str(error)[:200]}") from None
    if algorithm != _ALGORITHM:
        raise CheckpointError(f"{file} is of algorithm {str(algorithm)[:50]!r}; only {_ALGORITHM!r} is known")
    return groups, scale


def _group(entry: Mapping[str, Any]) -> Group:
    numbers = {setting: float(entry[setting]) for setting in ADAMW_SETTINGS}
    names = entry["parameters"]
    if not all(isfinite(number) for number in numbers.values()):
        raise ValueError("a setting is not finite")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("the parameters of a group are not a list of names")
    return Group(**numbers, parameters=tuple(names))


def _raise(source: str, wrong: list[str]) -> None:
    if wrong:
        raise CheckpointError(f"{source} does not hold the state of this training:\n  " + "\n  ".join(wrong))
