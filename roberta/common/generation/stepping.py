"""The part of the three `ModelStepper`s that needs no framework: which calls are made, and what is recorded of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from roberta.common.generation.config import GenerationConfig

_Inputs = Mapping[str, npt.NDArray[Any]]


class StepperBase:
    """A model with its cache, as the driver sees it, and what its calls returned.

    A backend runs the model, repeats and chooses rows of its tensors, and cuts its cache. `inputs` are the arguments of
    the model's call for all tokens so far; a stepper with a cache runs those only that are not in it.

    Args:
        extra: arguments of the model's call beside those of each step.

    Attributes:
        attentions, hidden_states: of each step, where the settings ask for them.
        cache: of the last step.
        length: tokens of the rows that were run; the cache may hold more, a prefix that is not part of the rows.
        last: what the last call returned.
    """

    def __init__(self, model: Any, config: GenerationConfig, extra: Mapping[str, Any]) -> None:
        self.model = model
        self.config = config
        self.extra = {**extra}
        self.embeds = self.extra.pop("inputs_embeds", None)
        self.cache: Any = None
        self.length = 0
        self.attentions: list[Any] = []
        self.hidden_states: list[Any] = []
        self.last: Mapping[str, Any] = {}

    # -- what a backend does -------------------------------------------------------------------------------------

    def run(self, inputs: _Inputs, count: int = 1) -> Any:
        """Call the model on numpy arguments, those of the tokens that are not in the cache.

        Args:
            count: of how many last tokens logits are needed; there may be more of them.
        """
        raise NotImplementedError

    def repeated(self, tree: Any, copies: int) -> Any:
        """A tree with each row of its tensors `copies` times."""
        raise NotImplementedError

    def rows(self, values: Any, rows: npt.NDArray[Any]) -> Any:
        """A tensor with its rows taken from `rows`."""
        raise NotImplementedError

    def wide(self, values: Any) -> npt.NDArray[Any]:
        """Logits or states as numpy, in float32 or wider."""
        raise NotImplementedError

    def reorder(self, rows: npt.NDArray[Any]) -> None:
        """Take the rows of the cache from `rows`."""
        raise NotImplementedError

    def cached(self) -> int:
        """Number of tokens in the cache."""
        raise NotImplementedError

    def cut(self, length: int, tokens: npt.NDArray[Any]) -> None:
        """Cut the cache to `length` tokens of the rows, of which `tokens`, int (rows, 1), take a position."""
        raise NotImplementedError

    # -- what all do ---------------------------------------------------------------------------------------------

    def start(self, inputs: _Inputs, copies: int) -> npt.NDArray[Any]:
        """Run the prompts once; continue with `copies` rows of each."""
        output = dict(self.run(inputs))
        self.embeds = None
        head_mask = {name: self.extra.pop(name) for name in ("head_mask",) if name in self.extra}
        self.extra = {**self.repeated(self.extra, copies), **head_mask}
        return self.record(self.repeated(output, copies))

    def step(self, inputs: _Inputs) -> npt.NDArray[Any]:
        """Run the next token of each row."""
        return self.record(self.run(inputs))

    def read(self, inputs: _Inputs, count: int) -> npt.NDArray[Any]:
        """Run several tokens of each row."""
        self.last = self.run(inputs, count)
        self.cache = self.last.get("past_key_values")
        return self.wide(self.last["logits"][:, -count:])

    def keep(self, count: int, inputs: _Inputs) -> None:
        """Cut the cache to these tokens; of the last call, note the first `count` tokens as a step each."""
        before = self.cached() - self.last["logits"].shape[1]
        for index in range(count):
            there, keys = slice(index, index + 1), before + index + 1
            weights, hidden = self.last.get("attentions"), self.last.get("hidden_states")
            self.attentions.append(weights and tuple(layer[:, :, there, :keys] for layer in weights))
            self.hidden_states.append(hidden and tuple(layer[:, there] for layer in hidden))
        ids = inputs["input_ids"]
        self.cut(ids.shape[1], (ids != self.model.config.pad_token_id).sum(axis=1, keepdims=True))
        self.length = ids.shape[1]

    def choose(self, rows: npt.NDArray[Any]) -> None:
        """Take the rows of the cache, and of what the last step noted, from `rows`."""
        self.reorder(rows)
        for noted in (self.attentions, self.hidden_states):
            noted[-1] = noted[-1] and tuple(self.rows(layer, rows) for layer in noted[-1])

    def last_hidden(self) -> npt.NDArray[Any]:
        """The last layer's hidden states of the last call."""
        return self.wide(self.last["hidden_states"][-1])

    def record(self, output: Mapping[str, Any]) -> npt.NDArray[Any]:
        """Note what a call returned; its last logits as numpy, (rows, vocab), in float32 or wider."""
        self.last = output
        self.cache = output.get("past_key_values")
        self.attentions.append(output.get("attentions"))
        self.hidden_states.append(output.get("hidden_states"))
        return self.wide(output["logits"][:, -1])

    def outputs_wanted(self) -> dict[str, bool]:
        """Which outputs the model's call is asked for: those that are returned, and the states that a search needs."""
        wants = self.config.return_dict_in_generate
        return {
            "output_attentions": bool(wants and self.config.output_attentions),
            "output_hidden_states": bool(wants and self.config.output_hidden_states) or bool(self.config.penalty_alpha),
        }

    def check_new(self, past: int, total: int) -> None:
        """Raise `ValueError` where the cache holds all tokens already."""
        if past >= total:
            raise ValueError(
                f"past_key_values hold {past} tokens and input_ids {total}; give the ids of all tokens, those of the cache "
                "and at least one more"
            )
