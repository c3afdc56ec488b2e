"""One RoBERTa in PyTorch, TensorFlow (Keras 3) and Flax: the same checkpoint, the same numbers.

Names are looked up on first use (PEP 562), so `import roberta` imports no framework, and using a class imports
its own framework only.
"""

import importlib

__version__ = "0.1.0"

_CLASSES = (
    "PreTrainedModel",
    "Model",
    "ForCausalLM",
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForMultipleChoice",
    "ForTokenClassification",
    "ForQuestionAnswering",
)
_MODULES = {
    "RobertaConfig": "roberta.common.config",
    "GenerationConfig": "roberta.common.generation",
    "CheckpointError": "roberta.common.files",
    "RobertaTokenizer": "roberta.common.tokenizer",
    "RobertaTokenizerFast": "roberta.common.tokenizer_fast",
    "BatchEncoding": "roberta.common.batch_encoding",
    "AddedToken": "roberta.common.special_tokens",
    "pipeline": "roberta.common.pipelines",
    "Training": "roberta.common.training.session",
    **{
        f"{prefix}Roberta{name}": f"roberta.{backend}.{'pretrained' if name == 'PreTrainedModel' else 'models'}"
        for prefix, backend in (("", "pt"), ("TF", "tf"), ("Flax", "flax"))
        for name in _CLASSES
    },
}
_EXTRAS = {"torch": "pt", "tensorflow": "tf", "keras": "tf", "jax": "flax", "flax": "flax"}

__all__ = [*sorted(_MODULES), "__version__"]


def __getattr__(name: str) -> object:
    """Import the module that defines `name`; a missing framework is named with the extra that brings it."""
    if name not in _MODULES:
        raise AttributeError(f"module 'roberta' has no attribute {name!r}")
    try:
        module = importlib.import_module(_MODULES[name])
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        raise ModuleNotFoundError(
            f"{name} needs {error.name}, which is not installed; pip install 'roberta[{extra}]'",
            name=error.name,
        ) from error
    return getattr(module, name)


def __dir__() -> list[str]:
    return __all__
