"""Decoder mode where the cache is a tuple of tensors, as in PyTorch and TensorFlow: the cache, and the steps with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from roberta.common.generation.config import GenerationConfig
from roberta.common.generation.mixin import GenerationBase
from roberta.common.generation.prompts import Rows
from roberta.common.generation.stepping import StepperBase


class TupleCache(tuple[tuple[Any, ...], ...]):
    """The layers' entries, and from which positions continue.

    A plain tuple of the entries is a cache too, but does not know what its tokens were.

    Attributes:
        tokens: int, (batch, 1), the tokens of each row that take a position, as one pass over all of them would count;
            None when not known.
    """

    tokens: Any

    def __new__(cls, layers: Iterable[tuple[Any, ...]] = (), tokens: Any = None) -> Self:
        """A tuple's `__init__` comes too late to give it anything."""
        self = super().__new__(cls, layers)
        self.tokens = tokens
        return self

    @classmethod
    def of(cls, past_key_values: Iterable[Iterable[Any]] | None) -> Self | None:
        """A cache from what callers hand in: ours, transformers' cache objects, tuples with None for absent parts."""
        if past_key_values is None:
            return None
        if hasattr(past_key_values, "to_legacy_cache"):  # transformers 4
            past_key_values = past_key_values.to_legacy_cache()
        layers = tuple(tuple(part for part in layer if part is not None) for layer in past_key_values)
        if not layers or not layers[0]:
            return None
        if any(len(layer) not in (2, 4) for layer in layers):
            raise ValueError(
                f"past_key_values has layers of {sorted({len(layer) for layer in layers})} tensors; each needs "
                "(key, value) or (key, value, cross key, cross value)"
            )
        return cls(layers, past_key_values.tokens if isinstance(past_key_values, cls) else None)

    def cut(self, size: int, tokens: Any) -> Self:
        """The first `size` tokens of each row, of which `tokens`, int (batch, 1), take a position."""
        # keys and values of cross-attention stay
        layers = ((*(part[:, :, :size] for part in layer[:2]), *layer[2:]) for layer in self)
        return type(self)(layers, tokens)


class TupleStepper(StepperBase):
    """A model whose cache is a tuple, as the driver steps through it."""

    cache_class: ClassVar[type[TupleCache]]

    def __init__(
        self, model: Any, config: GenerationConfig, rows: Rows, max_length: int, extra: Mapping[str, Any]
    ) -> None:
        super().__init__(model, config, extra)
        self.cache = self.cache_class.of(self.extra.pop("past_key_values", None))
        self.length = self.cached()

    def tensor(self, values: npt.NDArray[Any]) -> Any:
        """An array of ints as a tensor, where the model is."""
        raise NotImplementedError

    def run(self, inputs: Mapping[str, npt.NDArray[Any]], count: int = 1) -> Any:
        """Call the model on numpy arguments, those of the tokens that are not in the cache; logits of all of them."""
        native = {name: self.tensor(values) for name, values in inputs.items()}
        total, past = native["input_ids"].shape[1], 0 if self.cache is None else self.length
        self.check_new(past, total)
        prepared = self.model.prepare_inputs_for_generation(
            **native,
            past_key_values=self.cache,
            inputs_embeds=self.embeds,
            cache_position=self.tensor(np.arange(past, total)),
            use_cache=self.config.use_cache,
            **self.extra,
        )
        prepared.pop("cache_position", None)
        self.length = total
        return self.model(**prepared, **self.outputs_wanted(), return_dict=True)

    def cached(self) -> int:
        """Number of tokens in the cache."""
        return 0 if self.cache is None else int(self.cache[0][0].shape[2])

    def cut(self, length: int, tokens: npt.NDArray[Any]) -> None:
        """Cut the cache to `length` tokens of the rows, of which `tokens`, int (rows, 1), take a position."""
        if self.cache is not None:
            prefix = self.cached() - self.length
            self.cache = self.cache.cut(prefix + length, self.tensor(tokens))


class TupleGeneration(GenerationBase):
    """`generate()` for a class whose cache is a tuple."""

    _takes_cache_position = False  # whether the model's call does

    def prepare_inputs_for_generation(
        self,
        input_ids: Any,
        past_key_values: Iterable[Iterable[Any]] | None = None,
        attention_mask: Any = None,
        inputs_embeds: Any = None,
        cache_position: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The arguments of the model's call for the tokens that are not in the cache; `generate` asks for each step.

        Args:
            input_ids: int, (batch, length), of all tokens so far; so are attention_mask, position_ids, token_type_ids.
            inputs_embeds: of the prompt, which are taken until tokens follow it; without those that are in the cache.
            cache_position: int, (new,), the numbers of the tokens to run.
            kwargs: further arguments of the call, given on as they are.
        """
        cache = TupleCache.of(past_key_values)
        past = 0 if cache is None else cache[0][0].shape[2]
        new = input_ids.shape[1] - past if cache_position is None else cache_position.shape[0]
        inputs: dict[str, Any] = {"past_key_values": past_key_values, "attention_mask": attention_mask, **kwargs}
        inputs.pop("labels", None)
        if self._takes_cache_position:
            inputs["cache_position"] = cache_position
        for name in ("position_ids", "token_type_ids"):
            if inputs.get(name) is not None:
                inputs[name] = self._last(inputs[name], new)
        if inputs_embeds is not None and (not past or inputs_embeds.shape[1] == input_ids.shape[1]):
            inputs_embeds = inputs_embeds[:, -new:] if past else inputs_embeds
            return {"input_ids": None, "inputs_embeds": inputs_embeds, **inputs}
        return {"input_ids": self._last(input_ids, new), **inputs}

    def _last(self, ids: Any, count: int) -> Any:
        """The last `count` columns of ids."""
        return ids[:, -count:]
