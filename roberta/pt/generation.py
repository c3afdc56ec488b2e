"""`generate()` in PyTorch: the driver of `common.search` over this backend's model and cache."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree

from roberta.common.generation import (
    GenerateBeamDecoderOnlyOutput,
    GenerateDecoderOnlyOutput,
    GenerationConfig,
    as_generation_config,
    generation_defaults,
    one_prompt,
)
from roberta.common.search import Plan, decode, make_plan
from roberta.pt import cache as kv
from roberta.pt.parts import without_dropout


class Stepper:
    """A model, its cache, and what its calls returned: what `common.search.Stepper` asks for.

    Attributes:
        attentions, hidden_states: of each step, where the settings ask for them.
        cache: of the last step.
    """

    def __init__(self, model: nn.Module, plan: Plan, encoder_hidden_states: Any, encoder_attention_mask: Any) -> None:
        self.model = model
        self.config = plan.config
        self.encoder = {
            "encoder_hidden_states": encoder_hidden_states,
            "encoder_attention_mask": encoder_attention_mask,
        }
        self.cache: kv.Cache | None = None
        self.attentions: list[Any] = []
        self.hidden_states: list[Any] = []

    def start(self, inputs: Mapping[str, np.ndarray], copies: int) -> np.ndarray:
        """Run the prompts once, and go on with `copies` rows of each."""

        def repeated(tree: Any) -> Any:
            return _pytree.tree_map_only(Tensor, lambda tensor: tensor.repeat_interleave(copies, dim=0), tree)

        output = self.run(inputs)
        self.encoder = repeated(self.encoder)
        return self.keep(repeated(dict(output)))

    def step(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Run the next token of each row."""
        return self.keep(self.run(inputs))

    def reorder(self, rows: np.ndarray) -> None:
        """Take the rows of the cache from `rows`."""
        self.cache = kv.reorder(self.cache, torch.from_numpy(rows).to(self.model.device))

    def run(self, inputs: Mapping[str, np.ndarray]) -> Any:
        """Call the model on numpy arguments."""
        return self.model(
            **{name: torch.from_numpy(values).to(self.model.device) for name, values in inputs.items()},
            **self.encoder,
            past_key_values=self.cache,
            use_cache=self.config.use_cache,
            output_attentions=self.config.return_dict_in_generate and self.config.output_attentions,
            output_hidden_states=self.config.return_dict_in_generate and self.config.output_hidden_states,
            return_dict=True,
        )

    def keep(self, output: Mapping[str, Any]) -> np.ndarray:
        """Note what a call returned; its last logits as numpy, (rows, vocab), in float32 or wider."""
        self.cache = output.get("past_key_values")
        self.attentions.append(output.get("attentions"))
        self.hidden_states.append(output.get("hidden_states"))
        logits = output["logits"][:, -1]
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).cpu().numpy()


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
        input_ids: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *,
        inputs: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        seed: int | None = None,
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
            seed: of sampling; the same in the three frameworks. None draws one from PyTorch's generator.
            settings: fields of `GenerationConfig` to replace: max_new_tokens, do_sample, num_beams, ...

        Returns:
            int64, (batch * num_return_sequences, length): prompts and new tokens, padded behind the end; with
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
        stepper = Stepper(self, plan, encoder_hidden_states, encoder_attention_mask)
        if seed is None:
            seed = int(torch.randint(2**62, ()))
        with torch.no_grad(), without_dropout(self):
            decoded = decode(stepper, plan, seed)

        def native(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).to(self.device)

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
    if values is None:
        return None
    return values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
