"""Training states out of and into torch.optim.AdamW.

Reading takes what `roberta.common.training.optimizer_state` needs and refuses what it has no place for; filling checks
everything first and then sets the moments and the step. Settings are the caller's: make the optimizer from
`Group.arguments`.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from roberta.common.training.optimizer_state import Group, TrainingState, check_fits, entries, refuse
from roberta.pt.weights import gathered, native, split_like, to_numpy, to_tensor

REFUSED_OPTIONS = ("amsgrad", "maximize")  # they change the update, or keep tensors that the layout has no place for


def read_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module) -> TrainingState:
    """The state of a `torch.optim.AdamW` over parameters of one of our PyTorch models.

    A parameter that had no gradient yet has no state in PyTorch; it is given moments of zero, as Keras and optax do.

    Raises:
        ValueError: the optimizer is another, has an option of no other framework, or counts parameters differently.
    """
    groups, parameters = _groups(optimizer, model)
    states = {name: optimizer.state.get(parameter) or {} for name, parameter in parameters.items()}
    steps = {int(state["step"]) for state in states.values() if state}
    if len(steps) > 1:
        raise ValueError(
            f"the parameters of the optimizer have made {sorted(steps)} steps; Keras and optax count one for all: "
            "train all of them from the start, or leave the others out of the optimizer"
        )
    moments = {}
    for moment, name, entry in entries(parameters):
        found = states[name].get(moment)
        moments[entry] = to_numpy(gathered(torch.zeros_like(parameters[name]) if found is None else found))
    return TrainingState(steps.pop() if steps else 0, moments, groups, "the PyTorch optimizer")


def fill_optimizer(state: TrainingState, optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Set moments and step of a `torch.optim.AdamW` over parameters of one of our PyTorch models.

    Raises:
        CheckpointError: a moment is missing, unknown or of the wrong shape; the optimizer is as it was.
    """
    _, parameters = _groups(optimizer, model)
    kinds = {name: to_numpy(torch.empty((), dtype=parameter.dtype)).dtype for name, parameter in parameters.items()}
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    check_fits(state, {entry: (shapes[name], kinds[name]) for _, name, entry in entries(parameters)})
    on_device = {
        p for group in optimizer.param_groups if group["capturable"] or group["fused"] for p in group["params"]
    }
    for name, parameter in parameters.items():
        device = parameter.device if parameter in on_device else "cpu"
        own = {"step": torch.tensor(float(state.step), dtype=torch.float32, device=device)}
        for moment, _, entry in entries([name]):
            tensor = to_tensor(np.array(state.moments[entry]), parameter.dtype)
            own[moment] = split_like(tensor.to(parameter.device), parameter)
        optimizer.state[parameter] = own


def _groups(optimizer: torch.optim.Optimizer, model: nn.Module) -> tuple[tuple[Group, ...], dict[str, Any]]:
    """The groups of an optimizer, and its parameters by canonical name."""
    if not isinstance(optimizer, torch.optim.AdamW):
        raise TypeError(f"the optimizer is a {type(optimizer).__name__}, and must be a torch.optim.AdamW")
    table = native(model)
    names = {parameter: name for name, (parameter, _) in table.items()}
    groups: list[Group] = []
    parameters: dict[str, Any] = {}
    for group in optimizer.param_groups:
        refuse({option: group[option] for option in REFUSED_OPTIONS})
        unknown = [list(parameter.shape) for parameter in group["params"] if parameter not in names]
        if unknown:
            raise ValueError(f"the optimizer has parameters that are not of the model, of shapes {unknown}")
        own = {names[parameter]: parameter for parameter in group["params"]}
        parameters |= own
        beta1, beta2 = group["betas"]
        rate, epsilon, decay = (float(group[option]) for option in ("lr", "eps", "weight_decay"))
        groups.append(Group(rate, float(beta1), float(beta2), epsilon, decay, tuple(own)))
    return tuple(groups), parameters
