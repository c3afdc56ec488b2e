"""Registration of our classes with transformers' `AutoConfig`, `AutoModel...` and `AutoTokenizer`."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from itertools import product
from types import ModuleType
from typing import get_args

from roberta.common.family_configs import CONFIGS
from roberta.common.frameworks import FRAMEWORKS, class_of, installed
from roberta.common.parameters import Head


def register_auto_classes(frameworks: Iterable[str] | None = None) -> None:
    """Let transformers' auto classes make our configs, models and tokenizers of folders and names.

    The model types are "roberta", "camembert" and "xlm-roberta"; each has its own classes and
    tokenizers.

    Afterwards `AutoModelForMaskedLM.from_pretrained(...)` and its like return ours, as do `pipeline("fill-mask",
    model="name")` and other programs that ask them. Works with transformers 4.57 and 5; may be called again. A folder
    whose tokenizer_config.json names transformers' RobertaTokenizer is still read by that class.

    Args:
        frameworks: of "pt", "tf" and "flax"; by default those that are installed and that transformers has auto
            classes for (transformers 5 has them for PyTorch only).

    Raises:
        ModuleNotFoundError: transformers is not installed.
        ValueError: an unknown framework, or one without auto classes in the installed transformers.
    """
    import roberta

    transformers = importlib.import_module("transformers")
    # transformers imports a framework when it is asked for its classes: ask only for those that are wanted
    here = installed()
    wanted = [name for name in here if _is_usable(transformers, name)] if frameworks is None else list(frameworks)
    for name in wanted:
        if name not in here or not _is_usable(transformers, name):
            usable = [each for each in here if _is_usable(transformers, each)]
            raise ValueError(
                f"frameworks={wanted!r}: {name!r} has no auto classes in transformers {transformers.__version__} "
                f"as it is installed here; it has them for {usable}"
            )
    for model_type, config in CONFIGS.items():
        transformers.AutoConfig.register(model_type, config, exist_ok=True)
    for name, head in product(wanted, get_args(Head)):
        auto_class = getattr(transformers, f"{FRAMEWORKS[name][0]}AutoModel{'' if head == 'Model' else head}")
        for model_type, config in CONFIGS.items():
            auto_class.register(config, class_of(name, head, model_type), exist_ok=True)
    tokenizers = {
        roberta.RobertaConfig: (roberta.RobertaTokenizer, roberta.RobertaTokenizerFast),
        roberta.CamembertConfig: (None, roberta.CamembertTokenizerFast),
        roberta.XLMRobertaConfig: (None, roberta.XLMRobertaTokenizerFast),
    }
    for config, (slow, fast) in tokenizers.items():
        transformers.AutoTokenizer.register(config, slow_tokenizer_class=slow, fast_tokenizer_class=fast, exist_ok=True)


def _is_usable(transformers: ModuleType, framework: str) -> bool:
    """Whether the transformers at hand finds a framework and has auto classes for it."""
    asked = getattr(transformers, f"is_{'torch' if framework == 'pt' else framework}_available", None)
    return hasattr(transformers, f"{FRAMEWORKS[framework][0]}AutoModel") and asked is not None and bool(asked())
