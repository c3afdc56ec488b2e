"""`generate()` in PyTorch: the driver of `common.generation` over this backend's model and cache."""

import functools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree

from roberta.common.generation import driver
from roberta.common.generation.config import GenerationConfig
from roberta.common.generation.mixin import GenerationBase, call_of
from roberta.common.generation.prompts import Rows
from roberta.common.generation.walk import Seed
from roberta.common.outputs import ModelOutput
from roberta.pt import cache as kv
from roberta.pt.parts import without_dropout


class Stepper:
    """A model, its cache, and what its calls returned: what `common.generation.walk.StepperProtocol` asks for.

    Attributes:
        attentions, hidden_states: of each step, where the settings ask for them.
        cache: of the last step.
        length: tokens of the rows that were run; the cache may hold more, a prefix that is no token of them.
    """

    def __init__(
        self, model: nn.Module, config: GenerationConfig, rows: Rows, max_length: int, extra: Mapping[str, Any]
    ) -> None:
        self.model = model
        self.config = config
        self.extra = {**extra}
        self.embeds = self.extra.pop("inputs_embeds", None)
        self.cache = kv.as_cache(self.extra.pop("past_key_values", None))
        self.length = kv.length(self.cache)
        self.attentions: list[Any] = []
        self.hidden_states: list[Any] = []
        self.last: Mapping[str, Any] = {}

    def start(self, inputs: Mapping[str, np.ndarray], copies: int) -> np.ndarray:
        """Run the prompts once, and go on with `copies` rows of each."""

        def repeated(tree: Any) -> Any:
            return _pytree.tree_map_only(Tensor, lambda tensor: tensor.repeat_interleave(copies, dim=0), tree)

        output = dict(self.run(inputs))
        self.embeds = None
        head_mask = {name: self.extra.pop(name) for name in ("head_mask",) if name in self.extra}
        self.extra = {**repeated(self.extra), **head_mask}
        return self.record(repeated(output))

    def step(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Run the next token of each row."""
        return self.record(self.run(inputs))

    def read(self, inputs: Mapping[str, np.ndarray], count: int) -> np.ndarray:
        """Run several tokens of each row."""
        self.last = self.run(inputs)
        self.cache = self.last.get("past_key_values")
        return _wide(self.last["logits"][:, -count:])

    def keep(self, count: int, inputs: Mapping[str, np.ndarray]) -> None:
        """Cut the cache to these tokens; of the last call, note the first `count` tokens as a step each."""
        read = self.last["logits"].shape[1]
        for index in range(count):
            there = slice(index, index + 1)
            keys = kv.length(self.cache) - read + index + 1
            weights, hidden = self.last.get("attentions"), self.last.get("hidden_states")
            self.attentions.append(weights and tuple(layer[:, :, there, :keys] for layer in weights))
            self.hidden_states.append(hidden and tuple(layer[:, there] for layer in hidden))
        ids = torch.from_numpy(inputs["input_ids"])
        tokens = (ids != self.model.config.pad_token_id).sum(dim=1, keepdim=True)
        prefix = kv.length(self.cache) - self.length
        self.length = ids.shape[1]
        self.cache = kv.cut(self.cache, prefix + self.length, tokens.to(self.model.device))

    def reorder(self, rows: np.ndarray) -> None:
        """Take the rows of the cache from `rows`."""
        if self.cache is not None:
            self.cache = kv.reorder(self.cache, torch.from_numpy(rows).to(self.model.device))

    def choose(self, rows: np.ndarray) -> None:
        """Take the rows of the cache, and of what the last step noted, from `rows`."""
        self.reorder(rows)
        for noted in (self.attentions, self.hidden_states):
            noted[-1] = noted[-1] and tuple(layer[torch.from_numpy(rows).to(layer.device)] for layer in noted[-1])

    def last_hidden(self) -> np.ndarray:
        """The last layer's hidden states of the last call."""
        return _wide(self.last["hidden_states"][-1])

    def run(self, inputs: Mapping[str, np.ndarray]) -> Any:
        """Call the model on numpy arguments, those of the tokens that are not in the cache."""
        native = {name: torch.from_numpy(values).to(self.model.device) for name, values in inputs.items()}
        total = native["input_ids"].shape[1]
        past = 0 if self.cache is None else self.length
        if past >= total:
            raise ValueError(
                f"past_key_values hold {past} tokens and input_ids {total}; give the ids of all tokens, those of the cache "
                "and at least one more"
            )
        prepared = self.model.prepare_inputs_for_generation(
            **native,
            past_key_values=self.cache,
            inputs_embeds=self.embeds,
            cache_position=torch.arange(past, total, device=self.model.device),
            use_cache=self.config.use_cache,
            **self.extra,
        )
        prepared.pop("cache_position", None)
        self.length = total
        wants = self.config.return_dict_in_generate
        return self.model(
            **prepared,
            output_attentions=wants and self.config.output_attentions,
            output_hidden_states=(wants and self.config.output_hidden_states) or bool(self.config.penalty_alpha),
            return_dict=True,
        )

    def record(self, output: Mapping[str, Any]) -> np.ndarray:
        """Note what a call returned; its last logits as numpy, (rows, vocab), in float32 or wider."""
        self.last = output
        self.cache = output.get("past_key_values")
        self.attentions.append(output.get("attentions"))
        self.hidden_states.append(output.get("hidden_states"))
        return _wide(output["logits"][:, -1])


class Framework(driver.FrameworkBase):
    """Tensors of PyTorch.

    Args:
        device: of the model.
    """

    stepper_class = Stepper
    call_name = "forward"

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def to_numpy(self, values: Any) -> np.ndarray:
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


class GenerationMixin(GenerationBase):
    """`generate()` for a class whose call gives next-token logits."""

    def _tensors(self) -> Framework:
        return Framework(self.device)

    def generate(
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: Any = None,
        stopping_criteria: Any = None,
        prefix_allowed_tokens_fn: Any = None,
        synced_gpus: bool | None = None,
        assistant_model: Any = None,
        streamer: Any = None,
        negative_prompt_ids: Tensor | None = None,
        negative_prompt_attention_mask: Tensor | None = None,
        use_model_defaults: bool | None = None,
        custom_generate: Any = None,
        *,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: Any = None,
        tokenizer: Any = None,
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
        past_key_values: Any = None,
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
        past = kv.length(kv.as_cache(past_key_values))
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


def _wide(values: Tensor) -> np.ndarray:
    """Logits or states as numpy, in float32 or wider."""
    return values.detach().to(torch.promote_types(values.dtype, torch.float32)).cpu().numpy()


@functools.cache
def _joined(cls: type[ModelOutput], theirs: type) -> type[ModelOutput]:
    """`cls`, of which `isinstance(output, theirs)` holds too; copied and pickled, it is `cls` again."""
    body = {"__annotations__": dict(cls.__annotations__), "__doc__": cls.__doc__, "__module__": cls.__module__}
    joined = type(cls.__name__, (cls, theirs), {**body, "__reduce__": lambda self: (cls, (dict(self.items()),))})
    joined.fields = cls.fields
    return joined
