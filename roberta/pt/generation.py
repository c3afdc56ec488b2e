"""`generate()` in PyTorch: the driver of `common.generation` over this backend's model and cache."""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree

from roberta.common.generation import driver
from roberta.common.generation.config import GenerationConfig
from roberta.common.generation.mixin import call_of
from roberta.common.generation.tuple_cache import TupleGeneration, TupleStepper
from roberta.common.generation.walk import Seed, Streamer
from roberta.common.outputs import ModelOutput
from roberta.pt import cache as caches
from roberta.pt.devices import put
from roberta.pt.facts import Facts
from roberta.pt.parts import without_dropout


class ModelStepper(TupleStepper):
    """A model of PyTorch and its cache, as the driver steps through it."""

    cache_class = caches.Cache

    def tensor(self, values: np.ndarray) -> Tensor:
        return put(values, self.model.device)

    def repeated(self, tree: object, copies: int) -> Any:
        return _pytree.tree_map_only(Tensor, lambda tensor: tensor.repeat_interleave(copies, dim=0), tree)

    def rows(self, values: Tensor, rows: np.ndarray) -> Tensor:
        return values[put(rows, values.device)]

    def wide(self, values: Tensor) -> np.ndarray:
        return values.detach().to(torch.promote_types(values.dtype, torch.float32)).cpu().numpy()

    def reorder(self, rows: np.ndarray) -> None:
        if self.cache is not None:
            self.cache = caches.reorder(self.cache, self.tensor(rows))


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


class GenerationMixin(TupleGeneration, Facts):
    """`generate()` for a class whose call gives next-token logits."""

    _takes_cache_position = True

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
            place = None if generator is None else generator.device
            seed = int(torch.randint(2**62, (), generator=generator, device=place))
        with torch.no_grad(), without_dropout(self):
            return driver.generate(self, call_of(locals()), self._tensors())

    def _last(self, ids: Tensor, count: int) -> Tensor:
        return super()._last(ids, count).contiguous()


@functools.cache
def _joined(cls: type[ModelOutput], theirs: type) -> type[ModelOutput]:
    """`cls`, of which `isinstance(output, theirs)` holds too; copied and pickled, it is `cls` again."""
    body = {"__annotations__": dict(cls.__annotations__), "__doc__": cls.__doc__, "__module__": cls.__module__}
    joined: Any = type(cls.__name__, (cls, theirs), {**body, "__reduce__": lambda self: (cls, (dict(self.items()),))})
    joined.fields = cls.fields
    return joined
