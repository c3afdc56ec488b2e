"""`generate()` in PyTorch: the driver of `common.generation` over this backend's model and cache."""

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree

from roberta.common.generation import driver
from roberta.common.generation.config import GenerationConfig
from roberta.common.generation.mixin import GenerationBase, call_of
from roberta.common.generation.prompts import Rows
from roberta.common.generation.stepping import StepperBase
from roberta.common.generation.walk import Seed, Streamer
from roberta.common.outputs import ModelOutput
from roberta.pt import cache as caches
from roberta.pt.facts import Facts
from roberta.pt.parts import without_dropout


class ModelStepper(StepperBase):
    """A model of PyTorch and its cache, as the driver steps through it."""

    def __init__(
        self, model: "GenerationMixin", config: GenerationConfig, rows: Rows, max_length: int, extra: Mapping[str, Any]
    ) -> None:
        super().__init__(model, config, extra)
        self.cache = caches.as_cache(self.extra.pop("past_key_values", None))
        self.length = caches.length(self.cache)

    def run(self, inputs: Mapping[str, np.ndarray], count: int = 1) -> Any:
        device = self.model.device
        native = {name: torch.from_numpy(values).to(device) for name, values in inputs.items()}
        total, past = native["input_ids"].shape[1], 0 if self.cache is None else self.length
        self.check_new(past, total)
        prepared = self.model.prepare_inputs_for_generation(
            **native,
            past_key_values=self.cache,
            inputs_embeds=self.embeds,
            cache_position=torch.arange(past, total, device=device),
            use_cache=self.config.use_cache,
            **self.extra,
        )
        prepared.pop("cache_position", None)
        self.length = total
        return self.model(**prepared, **self.outputs_wanted(), return_dict=True)

    def repeated(self, tree: object, copies: int) -> Any:
        return _pytree.tree_map_only(Tensor, lambda tensor: tensor.repeat_interleave(copies, dim=0), tree)

    def rows(self, values: Tensor, rows: np.ndarray) -> Tensor:
        return values[torch.from_numpy(rows).to(values.device)]

    def wide(self, values: Tensor) -> np.ndarray:
        return values.detach().to(torch.promote_types(values.dtype, torch.float32)).cpu().numpy()

    def reorder(self, rows: np.ndarray) -> None:
        if self.cache is not None:
            self.cache = caches.reorder(self.cache, torch.from_numpy(rows).to(self.model.device))

    def cached(self) -> int:
        return caches.length(self.cache)

    def cut(self, length: int, tokens: np.ndarray) -> None:
        prefix = self.cached() - self.length
        self.cache = caches.cut(self.cache, prefix + length, torch.from_numpy(tokens).to(self.model.device))


class NativeTensors(driver.FrameworkBase):
    """Tensors of PyTorch.

    Args:
        device: of the model.
    """

    stepper_class = ModelStepper
    call_name = "forward"

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def to_numpy(self, values: object) -> np.ndarray:
        """A tensor, or what numpy takes, as an array."""
        return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)

    def native(self, values: np.ndarray) -> Tensor:
        """An array as a tensor, where the model is."""
        return self.shown(values).to(self.device)

    def shown(self, values: np.ndarray) -> Tensor:
        """Ids as a tensor for a streamer, on the CPU."""
        return torch.from_numpy(np.ascontiguousarray(values))

    def output(self, cls: type[ModelOutput]) -> type[ModelOutput]:
        """The class of an output; where a script has imported transformers, also an instance of its class."""
        theirs = getattr(sys.modules.get("transformers.generation.utils"), cls.__name__, None)
        return cls if theirs is None else _joined(cls, theirs)


class GenerationMixin(GenerationBase, Facts):
    """`generate()` for a class whose call gives next-token logits."""

    def _tensors(self) -> NativeTensors:
        return NativeTensors(self.device)

    def generate(  # type: ignore[override]  # explicit arguments
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: Sequence[Callable[..., Any]] | None = None,
        stopping_criteria: Callable[..., Any] | Sequence[Callable[..., Any]] | None = None,
        prefix_allowed_tokens_fn: Callable[[int, Tensor], Any] | None = None,
        synced_gpus: bool | None = None,
        assistant_model: "GenerationMixin | None" = None,
        streamer: Streamer | None = None,
        negative_prompt_ids: Tensor | None = None,
        negative_prompt_attention_mask: Tensor | None = None,
        use_model_defaults: bool | None = None,
        custom_generate: str | Callable[..., Any] | None = None,
        *,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: caches.PastKeyValues = None,
        tokenizer: object = None,
        seed: int | Sequence[Seed] | torch.Generator | None = None,
        **settings: Any,
    ) -> Any:
        generator = seed if isinstance(seed, torch.Generator) else None
        if seed is None or generator is not None:
            seed = int(torch.randint(2**62, (), generator=generator))
        with torch.no_grad(), without_dropout(self):
            return driver.generate(self, call_of(locals()), self._tensors())

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        past_key_values: caches.PastKeyValues = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        cache_position: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The arguments of the model's call for the tokens that are not in the cache; `generate` asks for each step.

        Args:
            input_ids: int, (batch, length), of all tokens so far; so are attention_mask, position_ids, token_type_ids.
            inputs_embeds: of the prompt, which are taken until tokens follow it; without those that are in the cache.
            cache_position: int, (new,), the numbers of the tokens to run.
            kwargs: further arguments of the call, given on as they are.
        """
        past = caches.length(caches.as_cache(past_key_values))
        new = input_ids.shape[1] - past if cache_position is None else len(cache_position)
        inputs: dict[str, Any] = {"past_key_values": past_key_values, "attention_mask": attention_mask, **kwargs}
        inputs.pop("labels", None)
        for name in ("position_ids", "token_type_ids"):
            if inputs.get(name) is not None:
                inputs[name] = inputs[name][:, -new:].contiguous()
        if inputs_embeds is not None and (not past or inputs_embeds.shape[1] == input_ids.shape[1]):
            inputs_embeds = inputs_embeds[:, -new:] if past else inputs_embeds
            return {"input_ids": None, "inputs_embeds": inputs_embeds, "cache_position": cache_position, **inputs}
        return {"input_ids": input_ids[:, -new:].contiguous(), "cache_position": cache_position, **inputs}


@functools.cache
def _joined(cls: type[ModelOutput], theirs: type) -> type[ModelOutput]:
    """`cls`, of which `isinstance(output, theirs)` holds too; copied and pickled, it is `cls` again."""
    body = {"__annotations__": dict(cls.__annotations__), "__doc__": cls.__doc__, "__module__": cls.__module__}
    joined: Any = type(cls.__name__, (cls, theirs), {**body, "__reduce__": lambda self: (cls, (dict(self.items()),))})
    joined.fields = cls.fields
    return joined
