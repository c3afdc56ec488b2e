"""The trained weights of a LoRA adapter in PyTorch, beside the model whose weights they change."""

import numpy as np
import torch
from torch import nn

from roberta.common.training.lora import LoraStart, factor_names
from roberta.pt.pretrained import RobertaPreTrainedModel
from roberta.pt.weights import native, to_numpy, to_tensor


class LoraWeights(nn.Module):
    """A and B of every target and the model's own head, by their canonical names: all that is trained.

    The model's weights are W + scale * B A at any time. All others are frozen.

    Args:
        model: with the base's weights, in the dtype of the training.
    """

    def __init__(self, model: RobertaPreTrainedModel, start: LoraStart) -> None:
        super().__init__()
        self._start = start
        table = native(model)
        for name, (parameter, _) in table.items():
            parameter.requires_grad_(name in start.pairs or name in start.whole)
        self._weights = [(table[name][0], start.scale(name)) for name in start.pairs]  # a list: they are not trained
        self._base = [weight.detach().clone() for weight, _ in self._weights]
        self._factors: list[tuple[nn.Parameter, nn.Parameter]] = []
        for (weight, _), (name, pair) in zip(self._weights, start.pairs.items(), strict=True):
            a, b = (nn.Parameter(to_tensor(np.array(one), weight.dtype).to(weight.device)) for one in pair)
            self._factors.append((a, b))
            for own, factor in zip(factor_names(name), (a, b), strict=True):
                self._place(own, factor)
        for name in start.whole:
            self._place(name, table[name][0])
        self.put_in()

    def _place(self, name: str, parameter: nn.Parameter) -> None:
        *path, leaf = name.split(".")
        part: nn.Module = self
        for step in path:
            if step not in part._modules:
                part.add_module(step, nn.Module())
            part = part.get_submodule(step)
        part.register_parameter(leaf, parameter)

    @torch.no_grad()
    def take_gradients(self) -> None:
        """Give A and B their gradients, of those of the weights, which are dropped."""
        for (weight, scale), (a, b) in zip(self._weights, self._factors, strict=True):
            gradient, weight.grad = weight.grad, None
            if gradient is not None:
                a.grad, b.grad = (b.T @ gradient).mul_(scale), (gradient @ a.T).mul_(scale)

    @torch.no_grad()
    def put_in(self) -> None:
        """Give the model's weights W + scale * B A."""
        for (weight, scale), base, (a, b) in zip(self._weights, self._base, self._factors, strict=True):
            weight.copy_(torch.addmm(base, b, a, alpha=scale))

    def pairs(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """A and B of every target."""
        return {name: (to_numpy(a), to_numpy(b)) for name, (a, b) in zip(self._start.pairs, self._factors, strict=True)}
