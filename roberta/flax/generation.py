"""`generate()` in Flax: the driver of `common.search` over this backend's model and cache."""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from roberta.common.generation import (
    GenerateBeamDecoderOnlyOutput,
    GenerateDecoderOnlyOutput,
    GenerationConfig,
    as_generation_config,
    generation_defaults,
    one_prompt,
)
from roberta.common.search import Plan, decode, make_plan
from roberta.flax import cache as kv
from roberta.flax.layers import check_values
from roberta.flax.parts import Made

ROUNDING = 64  # calls of about the same length share one compiled step


class Stepper:
    """A model, its cache, and what its calls returned: what `common.search.Stepper` asks for.

    Attributes:
        attentions, hidden_states: of each step, where the settings ask for them.
        cache: of the last step.
        room: tokens that arrays are made for, so that every step has the same shapes and is compiled once.
    """

    def __init__(
        self,
        model: Any,
        plan: Plan,
        encoder_hidden_states: Any,
        encoder_attention_mask: Any,
        params: Mapping[str, Any] | None,
    ) -> None:
        self.call = _compiled(model)
        self.params = model.params if params is None else params
        self.config = plan.config
        self.encoder = {
            "encoder_hidden_states": encoder_hidden_states,
            "encoder_attention_mask": encoder_attention_mask,
        }
        rounded = -(-plan.max_length // ROUNDING) * ROUNDING
        self.room = min(rounded, max(model.config.max_position_embeddings, plan.max_length))
        batch = plan.rows.input_ids.shape[0]
        self.cache = model.init_cache(batch, self.room) if plan.config.use_cache else None
        self.attentions: list[Any] = []
        self.hidden_states: list[Any] = []

    def start(self, inputs: Mapping[str, np.ndarray], copies: int) -> np.ndarray:
        """Run the prompts once, and go on with `copies` rows of each."""

        def repeated(tree: Any) -> Any:
            # not the number of tokens in a cache, which all rows share
            return jax.tree.map(lambda leaf: jnp.repeat(leaf, copies, axis=0) if jnp.ndim(leaf) else leaf, tree)

        output = self.run(inputs)
        self.encoder = repeated(self.encoder)
        return self.keep(repeated(dict(output)))

    def step(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Run the next token of each row."""
        return self.keep(self.run(inputs))

    def reorder(self, rows: np.ndarray) -> None:
        """Take the rows of the cache from `rows`."""
        self.cache = kv.reorder(self.cache, jnp.asarray(rows))

    def run(self, inputs: Mapping[str, np.ndarray]) -> Any:
        """Call the model on numpy arguments."""
        length, seq = inputs["attention_mask"].shape[1], inputs["input_ids"].shape[1]
        # room behind the tokens is masked, and no token before it sees it
        filled = {
            name: np.pad(values, ((0, 0), (0, self.room - length)))
            for name, values in inputs.items()
            if self.cache is None or name == "attention_mask"
        }
        with check_values(False):  # the plan has checked ids and lengths
            output = self.call(
                self.params,
                {**inputs, **filled, **self.encoder},
                self.cache,
                seq - 1,
                use_cache=self.config.use_cache,
                output_attentions=self.config.return_dict_in_generate and self.config.output_attentions,
                output_hidden_states=self.config.return_dict_in_generate and self.config.output_hidden_states,
            )
        if output.attentions is not None:
            output.attentions = tuple(weights[:, :, :seq, :length] for weights in output.attentions)
        if output.hidden_states is not None:
            output.hidden_states = tuple(hidden[:, :seq] for hidden in output.hidden_states)
        return output

    def keep(self, output: Mapping[str, Any]) -> np.ndarray:
        """Note what a call returned; its last logits as numpy, (rows, vocab), in float32 or wider."""
        self.cache = output.get("past_key_values")
        self.attentions.append(output.get("attentions"))
        self.hidden_states.append(output.get("hidden_states"))
        logits = output["logits"]
        return np.asarray(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))


class GenerationMixin:
    """`generate()` for a class whose call gives next-token logits."""

    _generation_config: GenerationConfig | None = None

    @property
    def generation_config(self) -> GenerationConfig:
        """What `generate` does by default: the model folder's file, else the config's fields."""
        if self._generation_config is None:
            self._generation_config = generation_defaults(self.config)
        return self._generation_config

    @generation_config.setter
    def generation_config(self, value: GenerationConfig | None) -> None:
        self._generation_config = value

    def generate(
        self,
        input_ids: Array | None = None,
        generation_config: GenerationConfig | None = None,
        *,
        inputs: Array | None = None,
        attention_mask: Array | None = None,
        token_type_ids: Array | None = None,
        encoder_hidden_states: Array | None = None,
        encoder_attention_mask: Array | None = None,
        seed: int | None = None,
        params: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Any:
        """Continue the prompts: greedy by default, without dropout, positions as in the model's own call.

        Args:
            input_ids: int, (batch, prompt), padded on the left; None starts from `bos_token_id`.
            attention_mask: 1 and 0, (batch, prompt); by default padding tokens are padding.
            token_type_ids: of the prompt; new tokens have that of the last one.
            generation_config: instead of the model's, which fills in pad, bos and eos ids that are None; transformers'
                own class, or a dictionary, will do.
            inputs: another name of input_ids.
            seed: of sampling; the same in the three frameworks. None draws one from numpy's global generator.
            params: taken instead of `self.params`.
            settings: fields of `GenerationConfig` to replace: max_new_tokens, do_sample, num_beams, ...

        Returns:
            int, (batch * num_return_sequences, length): prompts and new tokens, padded behind the end; with
            `return_dict_in_generate` a `GenerateDecoderOnlyOutput` or `GenerateBeamDecoderOnlyOutput`.

        Raises:
            TypeError: a setting that does not exist.
            ValueError: a setting or prompt that cannot work: right padding, too long, not a decoder.
        """
        config = self.generation_config
        if generation_config is not None:
            config = as_generation_config(generation_config).with_token_ids(config)
        input_ids = one_prompt(input_ids, inputs)
        plan = make_plan(
            self.config,
            config,
            settings,
            *(_to_numpy(values) for values in (input_ids, attention_mask, token_type_ids)),
            batch=1 if encoder_hidden_states is None else encoder_hidden_states.shape[0],
        )
        stepper = Stepper(self, plan, encoder_hidden_states, encoder_attention_mask, params)
        if seed is None:
            seed = int(np.random.randint(2**62))
        decoded = decode(stepper, plan, seed)

        def native(values: np.ndarray) -> Array:
            return jnp.asarray(values)

        if not plan.config.return_dict_in_generate:
            return native(decoded.sequences)
        fields = {
            "sequences": native(decoded.sequences),
            "scores": tuple(native(scores) for scores in decoded.scores) or None,
            "logits": tuple(native(logits) for logits in decoded.logits) or None,
            "attentions": tuple(stepper.attentions) if plan.config.output_attentions else None,
            "hidden_states": tuple(stepper.hidden_states) if plan.config.output_hidden_states else None,
            "past_key_values": stepper.cache,
        }
        if decoded.beam_indices is None:
            return GenerateDecoderOnlyOutput(fields)
        scores = decoded.sequences_scores
        return GenerateBeamDecoderOnlyOutput(
            fields,
            beam_indices=native(decoded.beam_indices),
            sequences_scores=None if scores is None else native(scores),
        )


def _to_numpy(values: Any) -> np.ndarray | None:
    return None if values is None else np.asarray(values)


_compiled_calls: weakref.WeakKeyDictionary[Any, tuple[Made, Callable[..., Any]]] = weakref.WeakKeyDictionary()


def _compiled(model: Any) -> Callable[..., Any]:
    """The model's call, compiled once a shape and kept as long as the model is what it was; of the logits, the last."""
    made, compiled = _compiled_calls.get(model, (None, None))
    if made is None or compiled is None or not made.is_current(model):
        alive = weakref.ref(model)  # what is kept for the model must not keep it

        def call(params: Any, inputs: Any, cache: Any, last: Array, **flags: bool) -> Any:
            output = alive()(**inputs, params=params, past_key_values=cache, return_dict=True, **flags)
            output.logits = jax.lax.dynamic_index_in_dim(output.logits, last, axis=1, keepdims=False)
            return output

        flags = ("use_cache", "output_attentions", "output_hidden_states")
        compiled = jax.jit(call, static_argnames=flags)
        _compiled_calls[model] = Made(model), compiled
    return compiled
