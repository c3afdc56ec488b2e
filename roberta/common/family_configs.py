"""The configs of CamemBERT and XLM-RoBERTa: RoBERTa's, under the name of their family and with its defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

from roberta.common.config import PUBLISHED, RobertaConfig
from roberta.common.model_types import model_type_of


def _with_defaults(function: Callable[..., Any], **defaults: object) -> FunctionType:
    """A copy of a function in which some parameters have another default."""
    assert isinstance(function, FunctionType)
    old = {name: p.default for name, p in signature(function).parameters.items() if p.default is not p.empty}
    by_position = len(function.__defaults__ or ())
    values = tuple({**old, **defaults}.values())[:by_position]
    copy = FunctionType(
        function.__code__, function.__globals__, function.__name__, values, function.__closure__
    )  # fmt: skip
    copy.__kwdefaults__, copy.__annotations__ = function.__kwdefaults__, function.__annotations__
    copy.__doc__, copy.__qualname__ = function.__doc__, function.__qualname__
    return copy


class CamembertConfig(RobertaConfig):
    """Hyperparameters of a CamemBERT model: those of `RobertaConfig`, with a default `vocab_size` of 30522.

    The published models begin texts with id 5 and end them with 6, as `base` says; the defaults are 0 and 2.

    Source: transformers 4.57 `CamembertConfig`.
    """

    model_type = "camembert"
    _published: ClassVar[dict[str, Any]] = {**PUBLISHED, "vocab_size": 32005, "bos_token_id": 5, "eos_token_id": 6}

    if not TYPE_CHECKING:  # the parameters are those of `RobertaConfig`
        __init__ = _with_defaults(RobertaConfig.__init__, vocab_size=30522)


class XLMRobertaConfig(RobertaConfig):
    """Hyperparameters of an XLM-RoBERTa model: those of `RobertaConfig`, with a default `vocab_size` of 30522.

    Source: transformers 4.57 `XLMRobertaConfig`.
    """

    model_type = "xlm-roberta"
    _published: ClassVar[dict[str, Any]] = {**PUBLISHED, "vocab_size": 250002}

    if not TYPE_CHECKING:  # the parameters are those of `RobertaConfig`
        __init__ = _with_defaults(RobertaConfig.__init__, vocab_size=30522)


CONFIGS: dict[str, type[RobertaConfig]] = {
    kind.model_type: kind for kind in (RobertaConfig, CamembertConfig, XLMRobertaConfig)
}


def config_class_of(fields: Mapping[str, Any]) -> type[RobertaConfig]:
    """The config class of the model type that the fields of a config.json say; `RobertaConfig` for an unknown one."""
    return CONFIGS.get(model_type_of(fields), RobertaConfig)
