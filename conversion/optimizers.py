"""Training states out of and into torch.optim.AdamW, keras.optimizers.AdamW and optax.adamw.

Each framework has one function to read and one to put. Reading takes what `training_state` needs and refuses what it
has no place for; putting checks everything first and then sets the moments and the step. Settings are the caller's:
make the optimizer from `Group.arguments`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from roberta.common.safetensors_file import numpy_dtype
from roberta.conversion.training_state import Group, TrainingState, check_fits, entries

# Moment -> key of PyTorch's state, attribute of Keras' optimizer, field of optax' ScaleByAdamState.
NAMES: dict[str, dict[str, str]] = {
    "exp_avg": {"pt": "exp_avg", "tf": "_momentums", "flax": "mu"},
    "exp_avg_sq": {"pt": "exp_avg_sq", "tf": "_velocities", "flax": "nu"},
}
# Options that change the update, or keep tensors that the layout has no place for.
_REFUSED = {
    "pt": ("amsgrad", "maximize"),
    "tf": ("amsgrad", "use_ema", "gradient_accumulation_steps"),
}
# Fields of optax' states that are carried, or are settings.
_CARRIED = ("count", "mu", "nu", "hyperparams")

Found = dict[str, tuple[Any, bool]]  # canonical name -> the framework's own, and whether it is stored transposed


# -- PyTorch ------------------------------------------------------------------------------------------------------


def from_torch(optimizer: Any, model: Any) -> TrainingState:
    """The state of a `torch.optim.AdamW` over parameters of one of our PyTorch models.

    A parameter that had no gradient yet has no state in PyTorch; it is given moments of zero, as Keras and optax do.

    Raises:
        ValueError: the optimizer is another, has an option of no other framework, or counts parameters differently.
    """
    groups, parameters = _torch_groups(optimizer, model)
    torch, weights = _module("torch", "pt"), _module("roberta.pt.weights", "pt")
    states = {name: optimizer.state.get(parameter) or {} for name, parameter in parameters.items()}
    steps = {int(state["step"]) for state in states.values() if state}
    if len(steps) > 1:
        raise ValueError(
            f"the parameters of the optimizer have made {sorted(steps)} steps; Keras and optax count one for all: "
            "train all of them from the start, or leave the others out of the optimizer"
        )
    moments = {}
    for moment, name, entry in entries(parameters):
        found = states[name].get(NAMES[moment]["pt"])
        moments[entry] = weights.to_numpy(torch.zeros_like(parameters[name]) if found is None else found)
    return TrainingState(steps.pop() if steps else 0, moments, groups, "the PyTorch optimizer")


def into_torch(state: TrainingState, optimizer: Any, model: Any) -> None:
    """Set moments and step of a `torch.optim.AdamW` over parameters of one of our PyTorch models.

    Raises:
        CheckpointError: a moment is missing, misshapen or too many; the optimizer is as it was.
    """
    _, parameters = _torch_groups(optimizer, model)
    torch, weights = _module("torch", "pt"), _module("roberta.pt.weights", "pt")
    kinds = {name: weights.to_numpy(parameter.new_empty(())).dtype for name, parameter in parameters.items()}
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    check_fits(state, {entry: (shapes[name], kinds[name]) for _, name, entry in entries(parameters)})
    on_device = {
        p for group in optimizer.param_groups if group["capturable"] or group["fused"] for p in group["params"]
    }
    for name, parameter in parameters.items():
        device = parameter.device if parameter in on_device else "cpu"
        own = {"step": torch.tensor(float(state.step), dtype=torch.float32, device=device)}
        for moment, _, entry in entries([name]):
            tensor = weights.to_tensor(np.array(state.moments[entry]), parameter.dtype)
            own[NAMES[moment]["pt"]] = tensor.to(parameter.device)
        optimizer.state[parameter] = own


def _torch_groups(optimizer: Any, model: Any) -> tuple[tuple[Group, ...], dict[str, Any]]:
    """The groups of an optimizer, and its parameters by canonical name."""
    adamw = _module("torch", "pt").optim.AdamW
    if not isinstance(optimizer, adamw):
        raise TypeError(f"the optimizer is a {type(optimizer).__name__}, and has to be a torch.optim.AdamW")
    table = _module("roberta.pt.weights", "pt").native(model)
    names = {parameter: name for name, (parameter, _) in table.items()}
    groups: list[Group] = []
    parameters: dict[str, Any] = {}
    for group in optimizer.param_groups:
        _refuse({option: group[option] for option in _REFUSED["pt"]})
        unknown = [list(parameter.shape) for parameter in group["params"] if parameter not in names]
        if unknown:
            raise ValueError(f"the optimizer has parameters that are not of the model, of shapes {unknown}")
        own = {names[parameter]: parameter for parameter in group["params"]}
        parameters |= own
        beta1, beta2 = group["betas"]
        rate, epsilon, decay = (float(group[option]) for option in ("lr", "eps", "weight_decay"))
        groups.append(Group(rate, float(beta1), float(beta2), epsilon, decay, tuple(own)))
    return tuple(groups), parameters


# -- Keras --------------------------------------------------------------------------------------------------------


def from_keras(optimizer: Any, model: Any) -> TrainingState:
    """The state of a `keras.optimizers.AdamW`, or a subclass, over variables of one of our TensorFlow models.

    Raises:
        ValueError: the optimizer has an option of no other framework, or variables that are not of the model.
    """
    found, moments = _keras_moments(optimizer, model)
    weights = _module("roberta.tf.weights", "tf")
    arrays = {entry: weights.canonical(variable, is_turned) for entry, (variable, is_turned) in moments.items()}
    decay = float(optimizer.weight_decay or 0.0)
    decays = {name: decay if optimizer._use_weight_decay(variable) else 0.0 for name, (variable, _) in found.items()}
    shared = (float(optimizer.learning_rate), optimizer.beta_1, optimizer.beta_2, optimizer.epsilon)
    groups = tuple(
        Group(*shared, value, tuple(name for name in found if decays[name] == value))
        for value in sorted(set(decays.values()), reverse=True)
    )
    return TrainingState(int(optimizer.iterations), arrays, groups, "the Keras optimizer")


def into_keras(state: TrainingState, optimizer: Any, model: Any) -> None:
    """Set moments and step of a `keras.optimizers.AdamW`, or a subclass, over one of our TensorFlow models.

    An optimizer that has made no step yet is built over the model's trainable variables.

    Raises:
        CheckpointError: a moment is missing, misshapen or too many; moments and step are as they were.
    """
    _, moments = _keras_moments(optimizer, model)
    weights = _module("roberta.tf.weights", "tf")
    wanted = {}
    for entry, (variable, is_turned) in moments.items():
        shape = tuple(variable.shape)
        wanted[entry] = (shape[::-1] if is_turned else shape, numpy_dtype(variable.dtype))
    check_fits(state, wanted)
    for entry, (variable, is_turned) in moments.items():
        weights.assign(variable, state.moments[entry], is_turned)
    optimizer.iterations.assign(state.step)


def _keras_moments(optimizer: Any, model: Any) -> tuple[Found, Found]:
    """The variables that an optimizer trains, by canonical name, and its moments by entry."""
    keras, weights = _module("keras", "tf"), _module("roberta.tf.weights", "tf")
    if not isinstance(optimizer, keras.optimizers.AdamW):
        raise TypeError(f"the optimizer is a {type(optimizer).__name__}, and has to be a keras.optimizers.AdamW")
    _refuse({option: getattr(optimizer, option) for option in _REFUSED["tf"]})
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    places = {id(variable): place for place, variable in enumerate(optimizer._trainable_variables)}
    found = {name: pair for name, pair in weights.native(model).items() if id(pair[0]) in places}
    if len(found) < len(places):
        raise ValueError(f"the optimizer has {len(places) - len(found)} variables that are not of the model")
    moments = {
        entry: (getattr(optimizer, NAMES[moment]["tf"])[places[id(found[name][0])]], found[name][1])
        for moment, name, entry in entries(found)
    }
    return found, moments


# -- optax --------------------------------------------------------------------------------------------------------


def from_optax(opt_state: Any, *, groups: Sequence[Group]) -> TrainingState:
    """The state of an `optax.adamw`, or of a chain with one `scale_by_adam`, over parameters of our Flax models.

    Args:
        groups: the settings, which an optax state does not know; each parameter in one of them.

    Raises:
        ValueError: there is not one state of Adam, or another state that no other framework has.
    """
    adam, moments = _optax_moments(opt_state)
    weights = _module("roberta.flax.weights", "flax")
    arrays = {entry: weights.from_native(leaf, is_turned) for entry, (leaf, is_turned) in moments.items()}
    return TrainingState(int(adam.count), arrays, tuple(groups), "the optax state")


def into_optax(state: TrainingState, opt_state: Any) -> Any:
    """An optax state like `opt_state`, what `init` or `update` returned, with these moments and this step.

    Every `count` is set: a schedule of the learning rate goes on where it was.

    Raises:
        CheckpointError: a moment is missing, misshapen or too many.
    """
    adam, moments = _optax_moments(opt_state)
    jax, optax = _module("jax", "flax"), _module("optax", "flax")
    weights = _module("roberta.flax.weights", "flax")
    wanted = {
        entry: (leaf.shape[::-1] if is_turned else leaf.shape, np.dtype(leaf.dtype))
        for entry, (leaf, is_turned) in moments.items()
    }
    check_fits(state, wanted)

    def new(moment: str) -> Any:
        def leaf(path: Any, old: Any) -> Any:
            name, is_turned = _canonical(path)
            array = state.moments[f"{moment}.{name}"]
            return weights.to_array(array.T if is_turned else array, old.dtype)

        return jax.tree_util.tree_map_with_path(leaf, getattr(adam, NAMES[moment]["flax"]))

    step = weights.to_array(np.array(state.step), adam.count.dtype)
    return optax.tree_utils.tree_set(opt_state, count=step, **{names["flax"]: new(m) for m, names in NAMES.items()})


def _optax_moments(opt_state: Any) -> tuple[Any, Found]:
    """The one state of Adam in an optax state, and its moments by entry."""
    jax, optax = _module("jax", "flax"), _module("optax", "flax")

    def is_adam(node: Any) -> bool:
        return isinstance(node, optax.ScaleByAdamState)

    adams = [node for node in jax.tree_util.tree_leaves(opt_state, is_leaf=is_adam) if is_adam(node)]
    if len(adams) != 1:
        raise ValueError(
            f"the optax state has {len(adams)} states of Adam, and one is carried; give adamw a mask for what is not "
            "decayed, not an adamw of its own"
        )
    for path, _ in jax.tree_util.tree_leaves_with_path(opt_state):
        if not any(getattr(key, "name", None) in _CARRIED for key in path):
            raise ValueError(
                f"the optax state has {jax.tree_util.keystr(path)}, which no other framework has a place for"
            )
    moments = {}
    for moment, names in NAMES.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(adams[0], names["flax"])):
            name, is_turned = _canonical(path)
            moments[f"{moment}.{name}"] = (leaf, is_turned)
    return adams[0], moments


def _canonical(path: Any) -> tuple[str, bool]:
    """The canonical name of a leaf of Flax's tree, and whether it is stored transposed."""
    name, is_turned = _module("roberta.flax.legacy", "flax").canonical_name("/".join(key.key for key in path))
    return name, is_turned


# -- all ----------------------------------------------------------------------------------------------------------


def _refuse(options: Mapping[str, Any]) -> None:
    """Raise `ValueError` for an option that is set."""
    for option, value in options.items():
        if value:
            raise ValueError(f"{option}={value!r} is no part of a training state; train without it to carry it over")


def _module(name: str, framework: str) -> Any:
    """A module of a framework; `ModuleNotFoundError` names the extra when it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        text = f"{error.name} is not installed; pip install 'roberta[{framework}]'"
        raise ModuleNotFoundError(text, name=error.name) from error
