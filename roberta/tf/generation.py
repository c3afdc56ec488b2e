"""`generate()` in TensorFlow: the driver of `common.generation` over this backend's model and cache."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from roberta.common.generation import driver
from roberta.common.generation.config import GenerationConfig
from roberta.common.generation.mixin import GenerationBase, call_of
from roberta.common.generation.prompts import Rows
from roberta.common.generation.walk import Seed
from roberta.tf import cache as kv


class Stepper:
    """A model, its cache, and what its calls returned: what `common.generation.walk.StepperProtocol` asks for.

    Attributes:
        attentions, hidden_states: of each step, where the settings ask for them.
        cache: of the last step.
        length: tokens of the rows that were run; the cache may hold more, a prefix that is no token of them.
    """

    def __init__(
        self, model: Any, config: GenerationConfig, rows: Rows, max_length: int, extra: Mapping[str, Any]
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
            return tf.nest.map_structure(
                lambda leaf: tf.repeat(leaf, copies, axis=0) if tf.is_tensor(leaf) else leaf, tree
            )

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
        ids = inputs["input_ids"]
        tokens = (ids != self.model.config.pad_token_id).sum(axis=1, keepdims=True)
        prefix = kv.length(self.cache) - self.length
        self.length = ids.shape[1]
        self.cache = kv.cut(self.cache, prefix + self.length, tf.constant(tokens, tf.int32))

    def reorder(self, rows: np.ndarray) -> None:
        """Take the rows of the cache from `rows`."""
        if self.cache is not None:
            self.cache = kv.reorder(self.cache, tf.constant(rows))

    def choose(self, rows: np.ndarray) -> None:
        """Take the rows of the cache, and of what the last step noted, from `rows`."""
        self.reorder(rows)
        for noted in (self.attentions, self.hidden_states):
            noted[-1] = noted[-1] and tuple(tf.gather(layer, rows) for layer in noted[-1])

    def last_hidden(self) -> np.ndarray:
        """The last layer's hidden states of the last call."""
        return _wide(self.last["hidden_states"][-1])

    def run(self, inputs: Mapping[str, np.ndarray]) -> Any:
        """Call the model on numpy arguments, those of the tokens that are not in the cache."""
        native = {name: tf.constant(values, tf.int32) for name, values in inputs.items()}
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
            cache_position=tf.range(past, total),
            use_cache=self.config.use_cache,
            **self.extra,
        )
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
    """Tensors of TensorFlow."""

    stepper_class = Stepper
    call_name = "call"

    def native(self, values: np.ndarray) -> Tensor:
        """An array as a tensor."""
        return tf.constant(values, tf.int32 if values.dtype.kind == "i" else values.dtype)


class GenerationMixin(GenerationBase):
    """`generate()` for a class whose call gives next-token logits."""

    def _tensors(self) -> Framework:
        return Framework()

    def generate(
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: Any = None,
        seed: int | Sequence[Seed] | None = None,
        *,
        stopping_criteria: Any = None,
        prefix_allowed_tokens_fn: Any = None,
        synced_gpus: bool | None = None,
        assistant_model: Any = None,
        streamer: Any = None,
        negative_prompt_ids: Tensor | None = None,
        negative_prompt_attention_mask: Tensor | None = None,
        use_model_defaults: bool | None = None,
        custom_generate: Any = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: Any = None,
        tokenizer: Any = None,
        **settings: Any,
    ) -> Any:
        if seed is None:
            seed = int(tf.random.uniform((), maxval=2**62, dtype=tf.int64))
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
        new = input_ids.shape[1] - past if cache_position is None else cache_position.shape[0]
        inputs: dict[str, Any] = {"past_key_values": past_key_values, "attention_mask": attention_mask, **kwargs}
        inputs.pop("labels", None)
        for name in ("position_ids", "token_type_ids"):
            if inputs.get(name) is not None:
                inputs[name] = inputs[name][:, -new:]
        if inputs_embeds is not None and (not past or inputs_embeds.shape[1] == input_ids.shape[1]):
            inputs_embeds = inputs_embeds[:, -new:] if past else inputs_embeds
            return {"input_ids": None, "inputs_embeds": inputs_embeds, **inputs}
        return {"input_ids": input_ids[:, -new:], **inputs}


def _wide(values: Tensor) -> np.ndarray:
    """Logits or states as numpy, in float32 or wider."""
    return tf.cast(values, tf.float64 if values.dtype == tf.float64 else tf.float32).numpy()
