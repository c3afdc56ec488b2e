"""The averages of trained weights in PyTorch: what is evaluated and saved, where the recipe has a decay for them."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from roberta.common.training.optimizer_state import TrainingState, check_trained_weights
from roberta.common.training.recipes import average_share
from roberta.pt.weights import gathered, native, split_like, to_numpy, to_tensor


class AveragedWeights:
    """Trained parameters and their averages, of which one set is in the model, and the other is kept here.

    Args:
        trained: the module whose parameters are trained; their first averages are their own values.
        decay: of the averages.

    Attributes:
        is_shown: whether the averages are in the model.
    """

    def __init__(self, trained: nn.Module, decay: float) -> None:
        self.decay, self.is_shown = decay, False
        self._trained = {name: one for name, (one, _) in native(trained).items() if one.requires_grad}
        self._kept: dict[str, Tensor] = {name: one.detach().clone() for name, one in self._trained.items()}

    @torch.no_grad()
    def restore(self, state: TrainingState) -> None:
        """Give the model the weights that were trained; those that it has are their averages."""
        check_trained_weights(state, {name: tuple(one.shape) for name, one in self._trained.items()})
        for name, parameter in self._trained.items():
            tensor = to_tensor(np.array(state.weights[name]), parameter.dtype).to(parameter.device)
            parameter.copy_(split_like(tensor, parameter))

    @torch.no_grad()
    def add(self, number: int) -> None:
        """Take in the weights after update `number`."""
        for name, parameter in self._trained.items():
            self._kept[name].lerp_(parameter, average_share(number, self.decay))

    @torch.no_grad()
    def show(self, is_shown: bool) -> bool:
        """Put the averages into the model, or the trained weights back; whether that changed anything."""
        if is_shown == self.is_shown:
            return False
        self.is_shown = is_shown
        for name, parameter in self._trained.items():
            kept = parameter.detach().clone()
            parameter.copy_(self._kept[name])
            self._kept[name] = kept
        return True

    def weights(self) -> Mapping[str, np.ndarray]:
        """The trained weights, by canonical name, while the averages are in the model."""
        assert self.is_shown
        return {name: to_numpy(gathered(tensor)) for name, tensor in self._kept.items()}

    def kept(self) -> Mapping[str, Tensor]:
        """The trained weights as this process has them, by canonical name, while the averages are in the model."""
        assert self.is_shown
        return self._kept
