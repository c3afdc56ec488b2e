"""The model outputs, one family for the three frameworks.

An output is a dict of its fields that are not None, in order; fields are attributes too, and integer indices count
the fields that are there. Each backend registers the classes as a pytree of its framework.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Self


class ModelOutput(OrderedDict[str, Any]):
    """Base of the outputs: `output.logits`, `output["logits"]`, `output[0]` and `output[:2]` all work.

    Subclasses list their fields as annotations. A field that is None is absent from the dict, and its attribute is
    None. The set of fields cannot be changed after construction; a value can.
    """

    fields: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.fields = tuple(cls.__annotations__)

    def __init__(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **named: Any) -> None:
        given = {**dict(values), **named}
        unknown = given.keys() - set(self.fields)
        if unknown:
            raise TypeError(f"{type(self).__name__} has the fields {self.fields}, not {sorted(unknown)}")
        # not super(): a class may also derive from one of transformers', see `pt.generation`
        OrderedDict.__init__(self, ((name, given[name]) for name in self.fields if given.get(name) is not None))

    def __getattr__(self, name: str) -> Any:
        if name in type(self).fields or name in self:
            return self.get(name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, name: str, value: object) -> None:
        if name in type(self).fields:
            self[name] = value
            for field in filter(self.__contains__, self.fields):
                self.move_to_end(field)
        else:
            super().__setattr__(name, value)

    def __getitem__(self, key: str | int | slice) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are not None, in order."""
        return tuple(self[name] for name in self.keys())

    def __reduce__(self) -> tuple[type[Self], tuple[dict[str, Any]]]:
        return type(self), (dict(self.items()),)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy of all values; tensors with a gradient keep it, where PyTorch's own deepcopy raises."""
        _clone_results(self.to_tuple(), memo)
        return type(self)({name: copy.deepcopy(value, memo) for name, value in self.items()})

    def _fixed(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"the fields of a {type(self).__name__} are fixed; build a new one or assign to an attribute")

    pop = popitem = update = setdefault = clear = __delitem__ = _fixed


def _clone_results(value: object, memo: dict[int, Any]) -> None:
    """Note a clone of every PyTorch tensor that was computed with a gradient, for `copy.deepcopy` to take."""
    if isinstance(value, tuple | list):
        for inner in (*value, *getattr(value, "__dict__", {}).values()):
            _clone_results(inner, memo)
    elif hasattr(value, "clone") and getattr(value, "grad_fn", None) is not None:
        memo[id(value)] = value.clone()


class BaseModelOutputWithPoolingAndCrossAttentions(ModelOutput):
    """last_hidden_state (batch, seq, hidden); pooler_output (batch, hidden); the rest on request.

    past_key_values: see the backend's `cache`. hidden_states: num_hidden_layers + 1 of (batch, seq, hidden), the first
    is the embedding. attentions and cross_attentions: num_hidden_layers of (batch, head, seq, key).
    """

    last_hidden_state: Any
    pooler_output: Any
    past_key_values: Any
    hidden_states: Any
    attentions: Any
    cross_attentions: Any


class CausalLMOutputWithCrossAttentions(ModelOutput):
    """loss (), with labels; logits (batch, seq, vocab); the rest on request."""

    loss: Any
    logits: Any
    past_key_values: Any
    hidden_states: Any
    attentions: Any
    cross_attentions: Any


class MaskedLMOutput(ModelOutput):
    """loss (), with labels; logits (batch, seq, vocab); the rest on request."""

    loss: Any
    logits: Any
    hidden_states: Any
    attentions: Any


class SequenceClassifierOutput(ModelOutput):
    """loss (), with labels; logits (batch, labels); the rest on request."""

    loss: Any
    logits: Any
    hidden_states: Any
    attentions: Any


class MultipleChoiceModelOutput(ModelOutput):
    """loss (), with labels; logits (batch, choices); hidden states and attentions have batch * choices rows."""

    loss: Any
    logits: Any
    hidden_states: Any
    attentions: Any


class TokenClassifierOutput(ModelOutput):
    """loss (), with labels; logits (batch, seq, labels); the rest on request."""

    loss: Any
    logits: Any
    hidden_states: Any
    attentions: Any


class QuestionAnsweringModelOutput(ModelOutput):
    """loss (), with both positions; start_logits and end_logits (batch, seq); the rest on request."""

    loss: Any
    start_logits: Any
    end_logits: Any
    hidden_states: Any
    attentions: Any


OUTPUTS: tuple[type[ModelOutput], ...] = tuple(ModelOutput.__subclasses__())
