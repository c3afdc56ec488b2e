"""`generate()` in TensorFlow: the driver of `common.generation` over this backend's model and cache."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from roberta.common.generation import driver
from roberta.common.generation.config import GenerationConfig
from roberta.common.generation.mixin import GenerationBase, call_of
from roberta.common.generation.prompts import Rows
from roberta.common.generation.stepping import StepperBase
from roberta.common.generation.walk import Seed, Streamer
from roberta.tf import cache as caches
from roberta.tf.weights import keras


class ModelStepper(StepperBase):
    """A model of Keras and its cache, as the driver steps through it."""

    def __init__(
        self, model: keras.Model, config: GenerationConfig, rows: Rows, max_length: int, extra: Mapping[str, Any]
    ) -> None:
        super().__init__(model, config, extra)
        self.cache = caches.as_cache(self.extra.pop("past_key_values", None))
        self.length = caches.length(self.cache)

    def run(self, inputs: Mapping[str, np.ndarray], count: int = 1) -> Any:
        native = {name: tf.constant(values, tf.int32) for name, values in inputs.items()}
        total, past = native["input_ids"].shape[1], 0 if self.cache is None else self.length
        self.check_new(past, total)
        prepared = self.model.prepare_inputs_for_generation(
            **native,
            past_key_values=self.cache,
            inputs_embeds=self.embeds,
            cache_position=tf.range(past, total),
            use_cache=self.config.use_cache,
            **self.extra,
        )
        self.length = total
        return self.model(**prepared, **self.outputs_wanted(), return_dict=True)

    def repeated(self, tree: object, copies: int) -> Any:
        return tf.nest.map_structure(lambda leaf: tf.repeat(leaf, copies, axis=0) if tf.is_tensor(leaf) else leaf, tree)

    def rows(self, values: Tensor, rows: np.ndarray) -> Tensor:
        return tf.gather(values, rows)

    def wide(self, values: Tensor) -> np.ndarray:
        return tf.cast(values, tf.float64 if values.dtype == tf.float64 else tf.float32).numpy()

    def reorder(self, rows: np.ndarray) -> None:
        if self.cache is not None:
            self.cache = caches.reorder(self.cache, tf.constant(rows))

    def cached(self) -> int:
        return caches.length(self.cache)

    def cut(self, length: int, tokens: np.ndarray) -> None:
        prefix = self.cached() - self.length
        self.cache = caches.cut(self.cache, prefix + length, tf.constant(tokens, tf.int32))


class NativeTensors(driver.FrameworkBase):
    """Tensors of TensorFlow."""

    stepper_class = ModelStepper
    call_name = "call"

    def native(self, values: np.ndarray) -> Tensor:
        """An array as a tensor."""
        return tf.constant(values, tf.int32 if values.dtype.kind == "i" else values.dtype)


class GenerationMixin(GenerationBase):
    """`generate()` for a class whose call gives next-token logits."""

    def _tensors(self) -> NativeTensors:
        return NativeTensors()

    def generate(
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: Sequence[Callable[..., Any]] | None = None,
        seed: int | Sequence[Seed] | None = None,
        *,
        stopping_criteria: Callable[..., Any] | Sequence[Callable[..., Any]] | None = None,
        prefix_allowed_tokens_fn: Callable[[int, Tensor], Any] | None = None,
        synced_gpus: bool | None = None,
        assistant_model: "GenerationMixin | None" = None,
        streamer: Streamer | None = None,
        negative_prompt_ids: Tensor | None = None,
        negative_prompt_attention_mask: Tensor | None = None,
        use_model_defaults: bool | None = None,
        custom_generate: str | Callable[..., Any] | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: caches.PastKeyValues = None,
        tokenizer: object = None,
        **settings: Any,
    ) -> Any:
        if seed is None:
            seed = int(tf.random.uniform((), maxval=2**62, dtype=tf.int64))
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
