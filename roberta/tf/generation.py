"""`generate()` in TensorFlow: the driver of `common.generation` over this backend's model and cache."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from roberta.common.generation import driver
from roberta.common.generation.config import GenerationConfig
from roberta.common.generation.mixin import call_of
from roberta.common.generation.tuple_cache import TupleGeneration, TupleStepper
from roberta.common.generation.walk import Seed, Streamer
from roberta.tf import cache as caches
from roberta.tf.devices import on_device_of


class ModelStepper(TupleStepper):
    """A model of Keras and its cache, as the driver steps through it."""

    cache_class = caches.Cache

    def tensor(self, values: np.ndarray) -> Tensor:
        return tf.constant(values, tf.int32)

    def repeated(self, tree: object, copies: int) -> Any:
        return tf.nest.map_structure(lambda leaf: tf.repeat(leaf, copies, axis=0) if tf.is_tensor(leaf) else leaf, tree)

    def rows(self, values: Tensor, rows: np.ndarray) -> Tensor:
        return tf.gather(values, rows)

    def wide(self, values: Tensor) -> np.ndarray:
        return tf.cast(values, tf.float64 if values.dtype == tf.float64 else tf.float32).numpy()

    def reorder(self, rows: np.ndarray) -> None:
        if self.cache is not None:
            self.cache = caches.reorder(self.cache, self.tensor(rows))


class NativeTensors(driver.FrameworkBase):
    """Tensors of TensorFlow."""

    stepper_class = ModelStepper
    call_name = "call"

    def native(self, values: np.ndarray) -> Tensor:
        """An array as a tensor."""
        return tf.constant(values, tf.int32 if values.dtype.kind == "i" else values.dtype)


class GenerationMixin(TupleGeneration):
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
        with on_device_of(self):
            return driver.generate(self, call_of(locals()), self._tensors())
