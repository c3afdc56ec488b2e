"""`generate()` in TensorFlow: the driver of `common.search` over this backend's model and cache."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from roberta.common.draws import Seed
from roberta.common.generating import Call, generate
from roberta.common.generation import GenerationConfig, generation_defaults
from roberta.common.outputs import ModelOutput
from roberta.common.prompts import Rows
from roberta.common.search import transition_scores
from roberta.tf import cache as kv


class Stepper:
    """A model, its cache, and what its calls returned: what `common.search.Stepper` asks for.

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


class Framework:
    """What `common.generating` asks for."""

    def to_numpy(self, values: Any) -> np.ndarray:
        """A tensor, or what numpy takes, as an array."""
        return np.asarray(values)

    def native(self, values: np.ndarray) -> Tensor:
        """An array as a tensor."""
        return tf.constant(values, tf.int32 if values.dtype.kind == "i" else values.dtype)

    def shown(self, values: np.ndarray) -> Tensor:
        """Ids as a tensor for a streamer."""
        return self.native(values)

    def stepper(
        self, model: Any, config: GenerationConfig, rows: Rows, max_length: int, extra: Mapping[str, Any]
    ) -> Stepper:
        """A model to step through."""
        return Stepper(model, config, rows, max_length, extra)

    def arguments(self, model: Any) -> Mapping[str, inspect.Parameter]:
        """The arguments of the model's call."""
        return inspect.signature(model.call).parameters

    def output(self, cls: type[ModelOutput]) -> type[ModelOutput]:
        """The class of an output."""
        return cls


class GenerationMixin:
    """`generate()` for a class whose call gives next-token logits."""

    _generation_config: GenerationConfig | None = None
    _generation_fields: Mapping[str, Any] | None = None  # of the folder that the model was loaded from

    @property
    def generation_config(self) -> GenerationConfig:
        """What `generate` does by default: the model folder's file, else the config's fields."""
        if self._generation_config is None:
            self._generation_config = generation_defaults(self.config, self._generation_fields)
        return self._generation_config

    @generation_config.setter
    def generation_config(self, value: GenerationConfig | None) -> None:
        self._generation_config = value

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
        """Continue the prompts: greedy by default, without dropout, positions as in the model's own call.

        Args:
            inputs: int, (batch, prompt), padded on the left; None starts from `bos_token_id`.
            generation_config: instead of the model's, which fills in pad, bos and eos ids that are None; transformers'
                own class, or a dictionary, will do.
            logits_processor: a list of callables (input_ids, scores) -> scores, transformers' own among them.
            stopping_criteria: a list of callables (input_ids, scores) -> whether all rows end, or which.
            prefix_allowed_tokens_fn: (number of the prompt, ids of a row) -> the tokens that may follow.
            assistant_model: a smaller causal model that guesses tokens; the result is the same, for one prompt.
            streamer: its `put` gets the prompts, then one token a row at a time; then `end` is called.
            negative_prompt_ids, negative_prompt_attention_mask: what `guidance_scale` moves away from.
            use_model_defaults: fields of `generation_config` at their defaults are the model's.
            synced_gpus: not supported; None or False.
            custom_generate: not supported, but for transformers' names of contrastive and group beam search on the hub.
            input_ids: another name of inputs.
            attention_mask: 1 and 0, (batch, prompt); by default padding tokens are padding.
            token_type_ids: of the prompt; new tokens have that of the last one.
            position_ids: of the prompt; those of new tokens follow the last one.
            inputs_embeds: (batch, prompt, hidden), instead of ids, and new tokens alone are returned; or beside them.
            past_key_values: of the first tokens of the prompt; what an earlier call returned.
            tokenizer: for `stop_strings`.
            seed: of sampling, or a list with one for each prompt; the same in the three frameworks.
                None draws one from TensorFlow's generator.
            settings: fields of `GenerationConfig` to replace: max_new_tokens, do_sample, num_beams, ...; and further
                arguments of the model's call, such as encoder_hidden_states.

        Returns:
            int32, (batch * num_return_sequences, length): prompts and new tokens, padded behind the end; with
            `return_dict_in_generate` a `GenerateDecoderOnlyOutput` or `GenerateBeamDecoderOnlyOutput`.

        Raises:
            UnknownSettingError: a keyword that does not exist; a `TypeError` and a `ValueError`.
            ValueError: a setting or prompt that cannot work, such as one that is too long.
        """
        if seed is None:
            seed = int(tf.random.uniform((), maxval=2**62, dtype=tf.int64))
        call = Call(
            inputs=inputs, input_ids=input_ids, generation_config=generation_config, logits_processor=logits_processor,
            stopping_criteria=stopping_criteria, prefix_allowed_tokens_fn=prefix_allowed_tokens_fn,
            synced_gpus=synced_gpus, assistant_model=assistant_model, streamer=streamer,
            negative_prompt_ids=negative_prompt_ids, negative_prompt_attention_mask=negative_prompt_attention_mask,
            use_model_defaults=use_model_defaults, custom_generate=custom_generate, attention_mask=attention_mask,
            token_type_ids=token_type_ids, position_ids=position_ids, inputs_embeds=inputs_embeds,
            past_key_values=past_key_values, tokenizer=tokenizer, seed=seed, settings=settings,
        )  # fmt: skip
        return generate(self, call, Framework())

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

    def compute_transition_scores(
        self,
        sequences: Tensor,
        scores: tuple[Tensor, ...],
        beam_indices: Tensor | None = None,
        normalize_logits: bool = False,
    ) -> Tensor:
        """The score of each new token of `sequences`, (rows, new); 0 behind the end of a beam.

        Args:
            scores, beam_indices: what `generate` returned with `return_dict_in_generate` and `output_scores`.
            normalize_logits: log probabilities instead of scores.
        """
        framework = Framework()
        found = transition_scores(
            framework.to_numpy(sequences),
            [framework.to_numpy(step) for step in scores],
            None if beam_indices is None else framework.to_numpy(beam_indices),
            normalize_logits,
        )
        return framework.native(found)


def _wide(values: Tensor) -> np.ndarray:
    """Logits or states as numpy, in float32 or wider."""
    return tf.cast(values, tf.float64 if values.dtype == tf.float64 else tf.float32).numpy()
