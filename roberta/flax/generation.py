"""`generate()` in Flax: the driver of `common.generation` over this backend's model and cache."""

import contextlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from roberta.common.generation import driver
from roberta.common.generation.config import GenerationConfig
from roberta.common.generation.mixin import GenerationBase, call_of
from roberta.common.generation.prompts import Rows
from roberta.common.generation.stepping import StepperBase
from roberta.common.generation.walk import Seed, Streamer
from roberta.common.outputs import ModelOutput
from roberta.flax import cache as caches
from roberta.flax.layers import check_values
from roberta.flax.parts import Made
from roberta.flax.weights import Params

if TYPE_CHECKING:
    from roberta.flax.pretrained import FlaxRobertaPreTrainedModel

ROUNDING = 64  # calls of about the same length share one compiled step


class ModelStepper(StepperBase):
    """A model of Flax and its cache, as the driver steps through it.

    Attributes:
        room: tokens that arrays are made for, so that every step has the same shapes and is compiled once.
    """

    def __init__(
        self,
        model: "FlaxRobertaPreTrainedModel",
        config: GenerationConfig,
        rows: Rows,
        max_length: int,
        extra: Mapping[str, Any],
        params: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(model, config, extra)
        past = caches.as_cache(self.extra.pop("past_key_values", None))
        self.call = _compiled(model)
        self.params = model.params if params is None else params
        rounded = -(-max_length // ROUNDING) * ROUNDING
        self.room = min(rounded, max(model.config.max_position_embeddings, max_length))
        self.length = int(caches.length(past))  # tokens in the cache
        if past is not None:
            self.room = max(self.room, caches.max_length(past))
            self.cache = caches.with_room(past, self.room)
        elif config.use_cache:
            self.cache = model.init_cache(rows.input_ids.shape[0], self.room)

    def run(self, inputs: Mapping[str, np.ndarray], count: int = 1) -> Any:
        """Call the model on numpy arguments, those of the tokens that are not in the cache.

        Args:
            count: logits of so many last tokens, (rows, count, vocab).
        """
        length = inputs["input_ids"].shape[1]
        past = self.length if self.cache is not None else 0
        self.check_new(past, length)
        seq = length - past
        native = {name: values[:, past:] for name, values in inputs.items() if name != "attention_mask"}
        # room after the tokens is masked, and no token before it sees it
        padding = ((0, 0), (0, self.room - length))
        if self.cache is None:
            native = {name: np.pad(values, padding) for name, values in native.items()}
        native["attention_mask"] = np.pad(inputs["attention_mask"], padding)
        if self.embeds is not None:
            native = {**{n: v for n, v in native.items() if n != "input_ids"}, "inputs_embeds": self.embeds[:, past:]}
        options = {"count": count, "use_cache": self.config.use_cache, **self.outputs_wanted()}
        with check_values(False):  # the plan has checked ids and lengths
            output = self.call(self.params, {**native, **self.extra}, self.cache, seq - count, **options)
        self.length = length
        # what was computed for the room is not shown
        if output.attentions is not None:
            output.attentions = tuple(weights[:, :, :seq, :length] for weights in output.attentions)
        if output.hidden_states is not None:
            output.hidden_states = tuple(hidden[:, :seq] for hidden in output.hidden_states)
        return output

    def repeated(self, tree: object, copies: int) -> Any:
        # not the number of tokens in a cache, which all rows share
        return jax.tree.map(lambda leaf: jnp.repeat(leaf, copies, axis=0) if jnp.ndim(leaf) else leaf, tree)

    def rows(self, values: Array, rows: np.ndarray) -> Array:
        return values[jnp.asarray(rows)]

    def wide(self, values: Array) -> np.ndarray:
        return np.asarray(values.astype(jnp.promote_types(values.dtype, jnp.float32)))

    def reorder(self, rows: np.ndarray) -> None:
        if self.cache is not None:
            self.cache = caches.reorder(self.cache, jnp.asarray(rows))

    def cached(self) -> int:
        return self.length

    def cut(self, length: int, tokens: np.ndarray) -> None:
        self.cache = caches.cut(self.cache, length, jnp.asarray(tokens, jnp.int32))


class NativeTensors(driver.FrameworkBase):
    """Arrays of JAX.

    Args:
        model, params: a model and the parameters taken instead of its own.
    """

    def __init__(self, model: "FlaxRobertaPreTrainedModel", params: Mapping[str, Any] | None) -> None:
        self.model, self.params = model, params

    def native(self, values: np.ndarray) -> Array:
        """An array as a tensor."""
        return jnp.asarray(values)

    def stepper_class(self, model: "FlaxRobertaPreTrainedModel", *arguments: Any) -> ModelStepper:
        """A stepper with the parameters of the call, if the model is the call's own, and no assistant."""
        return ModelStepper(model, *arguments, self.params if model is self.model else None)


class GenerationMixin(GenerationBase):
    """`generate()` for a class whose call gives next-token logits."""

    def _tensors(self) -> NativeTensors:
        return NativeTensors(self, None)

    def generate(
        self,
        input_ids: Array | None = None,
        generation_config: GenerationConfig | None = None,
        prng_key: Array | None = None,
        trace: bool = True,
        params: Mapping[str, Any] | None = None,
        logits_processor: Sequence[Callable[..., Any]] | None = None,
        *,
        stopping_criteria: Callable[..., Any] | Sequence[Callable[..., Any]] | None = None,
        prefix_allowed_tokens_fn: Callable[[int, Array], Any] | None = None,
        synced_gpus: bool | None = None,
        assistant_model: "GenerationMixin | None" = None,
        streamer: Streamer | None = None,
        negative_prompt_ids: Array | None = None,
        negative_prompt_attention_mask: Array | None = None,
        use_model_defaults: bool | None = None,
        custom_generate: str | Callable[..., Any] | None = None,
        inputs: Array | None = None,
        attention_mask: Array | None = None,
        token_type_ids: Array | None = None,
        position_ids: Array | None = None,
        inputs_embeds: Array | None = None,
        past_key_values: Mapping[str, Any] | None = None,
        tokenizer: object = None,
        seed: int | Sequence[Seed] | None = None,
        **settings: Any,
    ) -> Any:
        if seed is None and prng_key is not None:
            seed = _seed(prng_key)
        if seed is None:
            seed = int(np.random.randint(2**62))
        with contextlib.nullcontext() if trace else jax.disable_jit():
            return driver.generate(self, call_of(locals()), NativeTensors(self, params))

    def prepare_inputs_for_generation(
        self, input_ids: Array, max_length: int, attention_mask: Array | None = None
    ) -> dict[str, Any]:
        """The arguments, beside the ids, for the first call of a loop of your own.

        They are a cache of `max_length` tokens, a mask over it, and positions.
        `update_inputs_for_generation` makes those of the next. `generate` needs neither.
        """
        batch, _seq = input_ids.shape
        if attention_mask is None:
            attention_mask = (input_ids != self.config.pad_token_id).astype(jnp.int32)
        # room after the prompt is open: no token before it sees it
        room = jnp.ones((batch, max_length - attention_mask.shape[1]), attention_mask.dtype)
        is_token = (input_ids != self.config.pad_token_id).astype(jnp.int32)
        return {
            "past_key_values": self.init_cache(batch, max_length),
            "attention_mask": jnp.concatenate((attention_mask, room), axis=1),
            "position_ids": is_token.cumsum(axis=1) * is_token + self.config.pad_token_id,
        }

    def update_inputs_for_generation(
        self, model_outputs: ModelOutput, model_kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What the next call of such a loop takes beside the new tokens, from what the last one took and returned."""
        last = model_kwargs["position_ids"][:, -1:]
        updated = {"past_key_values": model_outputs["past_key_values"], "position_ids": last + 1}
        return {**model_kwargs, **updated}


def _seed(prng_key: Array) -> int:
    """A key of JAX, old or new, as a number."""
    is_new = jnp.issubdtype(prng_key.dtype, jax.dtypes.prng_key)
    return int.from_bytes(np.asarray(jax.random.key_data(prng_key) if is_new else prng_key, np.uint32).tobytes())


_compiled_calls: weakref.WeakKeyDictionary[Any, tuple[Made, Callable[..., Any]]] = weakref.WeakKeyDictionary()


def _compiled(model: "FlaxRobertaPreTrainedModel") -> Callable[..., Any]:
    """The model's call, compiled once a shape and kept while it is what it was; `count` of the logits from `first` on."""
    made, compiled = _compiled_calls.get(model, (None, None))
    if made is None or compiled is None or not made.is_current(model):
        alive = weakref.ref(model)  # what is kept for the model must not keep it

        def call(
            params: Params,
            inputs: Mapping[str, Any],
            cache: caches.Cache | None,
            first: Array,
            count: int,
            **flags: bool,
        ) -> Any:
            output = alive()(**inputs, params=params, past_key_values=cache, return_dict=True, **flags)
            output.logits = jax.lax.dynamic_slice_in_dim(output.logits, first, count, axis=1)
            return output

        flags = ("count", "use_cache", "output_attentions", "output_hidden_states")
        compiled = jax.jit(call, static_argnames=flags)
        _compiled_calls[model] = Made(model), compiled
    return compiled
