"""What the `GenerationMixin` of each backend shares: settings, the description of `generate`, and its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from roberta.common.config import RobertaConfig
from roberta.common.generation.config import GenerationConfig, generation_defaults
from roberta.common.generation.driver import Call, FrameworkBase
from roberta.common.generation.search import transition_scores
from roberta.common.generation.walk import Seed

_ARGUMENTS = frozenset(field.name for field in fields(Call))


class GenerationBase:
    """`generate()` for a class whose call gives next-token logits."""

    config: RobertaConfig
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

    def _tensors(self) -> FrameworkBase:
        """How the backend handles tensors."""
        raise NotImplementedError

    def generate(
        self,
        inputs: Any = None,
        generation_config: GenerationConfig | None = None,
        *arguments: Any,
        seed: int | Sequence[Seed] | None = None,
        **settings: Any,
    ) -> Any:
        """Continue the prompts: greedy by default, without dropout, positions as in the model's own call.

        Args:
            inputs: int, (batch, prompt), padded on the left; None starts from `bos_token_id`. `input_ids` is another
                name of it.
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
            attention_mask: 1 and 0, (batch, prompt); by default padding tokens are padding.
            token_type_ids: of the prompt; new tokens have that of the last one.
            position_ids: of the prompt; those of new tokens follow the last one.
            inputs_embeds: (batch, prompt, hidden), instead of ids, and new tokens alone are returned; or beside them.
            past_key_values: of the first tokens of the prompt; what an earlier call returned.
            tokenizer: for `stop_strings`.
            seed: of sampling, or a list with one for each prompt; the same in the three frameworks. None draws one
                from the framework's generator (Flax: numpy's). PyTorch takes a `torch.Generator` too.
            prng_key: Flax: for sampling, instead of a seed.
            trace: Flax: compile each step; False is for debugging.
            params: Flax: taken instead of `self.params`.
            settings: fields of `GenerationConfig` to replace: max_new_tokens, do_sample, num_beams, ...; and further
                arguments of the model's call, such as encoder_hidden_states.

        Returns:
            int, (batch * num_return_sequences, length): prompts and new tokens, padded behind the end; with
            `return_dict_in_generate` a `GenerateDecoderOnlyOutput` or `GenerateBeamDecoderOnlyOutput`.

        Raises:
            UnknownSettingError: a keyword that does not exist; a `TypeError` and a `ValueError`.
            ValueError: a setting or prompt that cannot work, such as one that is too long.
        """
        raise NotImplementedError

    def compute_transition_scores(
        self, sequences: object, scores: Sequence[object], beam_indices: object = None, normalize_logits: bool = False
    ) -> Any:
        """The score of each new token of `sequences`, (rows, new); 0 behind the end of a beam.

        Args:
            scores, beam_indices: what `generate` returned with `return_dict_in_generate` and `output_scores`.
            normalize_logits: log probabilities instead of scores.
        """
        tensors = self._tensors()
        found = transition_scores(
            tensors.to_numpy(sequences),
            [tensors.to_numpy(step) for step in scores],
            None if beam_indices is None else tensors.to_numpy(beam_indices),
            normalize_logits,
        )
        return tensors.native(found)


def call_of(arguments: Mapping[str, Any]) -> Call:
    """The call that a backend's `generate` got, from its `locals()`, of which it takes those that it knows."""
    return Call(**{name: value for name, value in arguments.items() if name in _ARGUMENTS})
