"""Gradient checkpointing of a PyTorch model: less memory in training, for more time."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from roberta.pt.adapters import Adapters
from roberta.pt.layers import Encoder


class Checkpointing(Adapters):
    """The switches of gradient checkpointing; part of `RobertaPreTrainedModel`."""

    _require_grads_hook: Any = None

    def gradient_checkpointing_enable(
        self,
        gradient_checkpointing_kwargs: dict[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Keep only each layer's input for the backward pass and compute the rest again: less memory, more time.

        Args:
            gradient_checkpointing_kwargs: arguments of `torch.utils.checkpoint.checkpoint`; by default
                {"use_reentrant": False}.
            every_n_layers: 2 does so for every other layer, from the first, and so on.
            offload: True is not supported.
        """
        if offload:
            raise ValueError(
                "offload=True is not supported; omit it, and train inside torch.autograd.graph.save_on_cpu() to keep "
                "what is saved for the backward pass in the memory of the CPU"
            )
        if isinstance(every_n_layers, bool) or not isinstance(every_n_layers, int) or every_n_layers < 1:
            raise ValueError(f"every_n_layers={every_n_layers!r} must be an int of at least 1")
        options = {"use_reentrant": False, **(gradient_checkpointing_kwargs or {})}
        self._set_gradient_checkpointing(True, functools.partial(checkpoint, **options), every_n_layers)
        if self._hf_peft_config_loaded:  # frozen embeddings, whose output the checkpointed layers need a gradient of
            self.enable_input_require_grads()

    def gradient_checkpointing_disable(self) -> None:
        """Undo `gradient_checkpointing_enable`."""
        self._set_gradient_checkpointing(False)
        if self._hf_peft_config_loaded:
            self.disable_input_require_grads()

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: dict[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """The name that transformers 5 has for `gradient_checkpointing_enable`."""
        self.gradient_checkpointing_enable(activation_checkpointing_kwargs, every_n_layers, offload)

    def activation_checkpointing_disable(self) -> None:
        """Undo `activation_checkpointing_enable`."""
        self.gradient_checkpointing_disable()

    def _set_gradient_checkpointing(
        self,
        enable: bool = True,
        gradient_checkpointing_func: Callable[..., Any] = checkpoint,
        every_n_layers: int = 1,
    ) -> None:
        """Switch every encoder of the model; the function is called with a layer and its arguments."""
        for module in self.modules():
            if isinstance(module, Encoder):
                module.gradient_checkpointing = enable
                module.checkpoint_function = gradient_checkpointing_func
                module.checkpoint_every = every_n_layers

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether gradient checkpointing is on."""
        return any(module.gradient_checkpointing for module in self.modules() if isinstance(module, Encoder))

    def enable_input_require_grads(self) -> None:
        """Have the output of the word embedding require a gradient, so that layers behind a frozen one get theirs."""
        self.disable_input_require_grads()
        embeddings: nn.Embedding = self.get_input_embeddings()  # type: ignore[operator]
        self._require_grads_hook = embeddings.register_forward_hook(_require_grad)

    def disable_input_require_grads(self) -> None:
        """Undo `enable_input_require_grads`."""
        if self._require_grads_hook is not None:
            self._require_grads_hook.remove()
            self._require_grads_hook = None


def _require_grad(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
    if torch.is_grad_enabled():
        output.requires_grad_(True)
