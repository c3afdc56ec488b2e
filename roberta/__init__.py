"""One RoBERTa in PyTorch, TensorFlow (Keras 3) and Flax: the same checkpoint, the same numbers.

Names are looked up on first use (PEP 562), so `import roberta` imports no framework, and using a class imports
its own framework only.
"""

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what `__getattr__` gives, for type checkers and editors; a test compares the two
    from roberta.common.auto_classes import register_auto_classes as register_auto_classes
    from roberta.common.tokenizer.encoding import BatchEncoding as BatchEncoding
    from roberta.common.config import RobertaConfig as RobertaConfig
    from roberta.common.family_configs import CamembertConfig as CamembertConfig, XLMRobertaConfig as XLMRobertaConfig
    from roberta.common.storage.folders import CheckpointError as CheckpointError
    from roberta.common.generation.config import GenerationConfig as GenerationConfig
    from roberta.common.pipelines import pipeline as pipeline
    from roberta.common.vocabulary.special_tokens import AddedToken as AddedToken
    from roberta.common.tokenizer.python import RobertaTokenizer as RobertaTokenizer
    from roberta.common.tokenizer.fast import RobertaTokenizerFast as RobertaTokenizerFast
    from roberta.common.tokenizer.auto import AutoTokenizer as AutoTokenizer
    from roberta.common.tokenizer.families import (
        BertTokenizer as BertTokenizer,
        BertTokenizerFast as BertTokenizerFast,
        CamembertTokenizer as CamembertTokenizer,
        CamembertTokenizerFast as CamembertTokenizerFast,
        T5Tokenizer as T5Tokenizer,
        T5TokenizerFast as T5TokenizerFast,
        XLMRobertaTokenizer as XLMRobertaTokenizer,
        XLMRobertaTokenizerFast as XLMRobertaTokenizerFast,
    )
    from roberta.common.tokenizer.library import PreTrainedTokenizerFast as PreTrainedTokenizerFast
    from roberta.common.tokenizer.phobert import (
        BertweetTokenizer as BertweetTokenizer,
        PhobertTokenizer as PhobertTokenizer,
    )
    from roberta.common.training.preparation import prepare as prepare
    from roberta.common.training.session import Training as Training
    from roberta.flax.families import (
        FlaxCamembertForCausalLM as FlaxCamembertForCausalLM,
        FlaxCamembertForMaskedLM as FlaxCamembertForMaskedLM,
        FlaxCamembertForMultipleChoice as FlaxCamembertForMultipleChoice,
        FlaxCamembertForQuestionAnswering as FlaxCamembertForQuestionAnswering,
        FlaxCamembertForSequenceClassification as FlaxCamembertForSequenceClassification,
        FlaxCamembertForTokenClassification as FlaxCamembertForTokenClassification,
        FlaxCamembertModel as FlaxCamembertModel,
        FlaxCamembertPreTrainedModel as FlaxCamembertPreTrainedModel,
        FlaxXLMRobertaForCausalLM as FlaxXLMRobertaForCausalLM,
        FlaxXLMRobertaForMaskedLM as FlaxXLMRobertaForMaskedLM,
        FlaxXLMRobertaForMultipleChoice as FlaxXLMRobertaForMultipleChoice,
        FlaxXLMRobertaForQuestionAnswering as FlaxXLMRobertaForQuestionAnswering,
        FlaxXLMRobertaForSequenceClassification as FlaxXLMRobertaForSequenceClassification,
        FlaxXLMRobertaForTokenClassification as FlaxXLMRobertaForTokenClassification,
        FlaxXLMRobertaModel as FlaxXLMRobertaModel,
        FlaxXLMRobertaPreTrainedModel as FlaxXLMRobertaPreTrainedModel,
    )
    from roberta.flax.models import (
        FlaxRobertaForCausalLM as FlaxRobertaForCausalLM,
        FlaxRobertaForMaskedLM as FlaxRobertaForMaskedLM,
        FlaxRobertaForMultipleChoice as FlaxRobertaForMultipleChoice,
        FlaxRobertaForQuestionAnswering as FlaxRobertaForQuestionAnswering,
        FlaxRobertaForSequenceClassification as FlaxRobertaForSequenceClassification,
        FlaxRobertaForTokenClassification as FlaxRobertaForTokenClassification,
        FlaxRobertaModel as FlaxRobertaModel,
    )
    from roberta.flax.pretrained import FlaxRobertaPreTrainedModel as FlaxRobertaPreTrainedModel
    from roberta.pt.families import (
        CamembertForCausalLM as CamembertForCausalLM,
        CamembertForMaskedLM as CamembertForMaskedLM,
        CamembertForMultipleChoice as CamembertForMultipleChoice,
        CamembertForQuestionAnswering as CamembertForQuestionAnswering,
        CamembertForSequenceClassification as CamembertForSequenceClassification,
        CamembertForTokenClassification as CamembertForTokenClassification,
        CamembertModel as CamembertModel,
        CamembertPreTrainedModel as CamembertPreTrainedModel,
        XLMRobertaForCausalLM as XLMRobertaForCausalLM,
        XLMRobertaForMaskedLM as XLMRobertaForMaskedLM,
        XLMRobertaForMultipleChoice as XLMRobertaForMultipleChoice,
        XLMRobertaForQuestionAnswering as XLMRobertaForQuestionAnswering,
        XLMRobertaForSequenceClassification as XLMRobertaForSequenceClassification,
        XLMRobertaForTokenClassification as XLMRobertaForTokenClassification,
        XLMRobertaModel as XLMRobertaModel,
        XLMRobertaPreTrainedModel as XLMRobertaPreTrainedModel,
    )
    from roberta.pt.models import (
        RobertaForCausalLM as RobertaForCausalLM,
        RobertaForMaskedLM as RobertaForMaskedLM,
        RobertaForMultipleChoice as RobertaForMultipleChoice,
        RobertaForQuestionAnswering as RobertaForQuestionAnswering,
        RobertaForSequenceClassification as RobertaForSequenceClassification,
        RobertaForTokenClassification as RobertaForTokenClassification,
        RobertaModel as RobertaModel,
    )
    from roberta.pt.pretrained import RobertaPreTrainedModel as RobertaPreTrainedModel
    from roberta.tf.families import (
        TFCamembertForCausalLM as TFCamembertForCausalLM,
        TFCamembertForMaskedLM as TFCamembertForMaskedLM,
        TFCamembertForMultipleChoice as TFCamembertForMultipleChoice,
        TFCamembertForQuestionAnswering as TFCamembertForQuestionAnswering,
        TFCamembertForSequenceClassification as TFCamembertForSequenceClassification,
        TFCamembertForTokenClassification as TFCamembertForTokenClassification,
        TFCamembertModel as TFCamembertModel,
        TFCamembertPreTrainedModel as TFCamembertPreTrainedModel,
        TFXLMRobertaForCausalLM as TFXLMRobertaForCausalLM,
        TFXLMRobertaForMaskedLM as TFXLMRobertaForMaskedLM,
        TFXLMRobertaForMultipleChoice as TFXLMRobertaForMultipleChoice,
        TFXLMRobertaForQuestionAnswering as TFXLMRobertaForQuestionAnswering,
        TFXLMRobertaForSequenceClassification as TFXLMRobertaForSequenceClassification,
        TFXLMRobertaForTokenClassification as TFXLMRobertaForTokenClassification,
        TFXLMRobertaModel as TFXLMRobertaModel,
        TFXLMRobertaPreTrainedModel as TFXLMRobertaPreTrainedModel,
    )
    from roberta.tf.models import (
        TFRobertaForCausalLM as TFRobertaForCausalLM,
        TFRobertaForMaskedLM as TFRobertaForMaskedLM,
        TFRobertaForMultipleChoice as TFRobertaForMultipleChoice,
        TFRobertaForQuestionAnswering as TFRobertaForQuestionAnswering,
        TFRobertaForSequenceClassification as TFRobertaForSequenceClassification,
        TFRobertaForTokenClassification as TFRobertaForTokenClassification,
        TFRobertaModel as TFRobertaModel,
    )
    from roberta.tf.pretrained import TFRobertaPreTrainedModel as TFRobertaPreTrainedModel

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
    "CamembertConfig": "roberta.common.family_configs",
    "XLMRobertaConfig": "roberta.common.family_configs",
    "GenerationConfig": "roberta.common.generation.config",
    "CheckpointError": "roberta.common.storage.folders",
    "RobertaTokenizer": "roberta.common.tokenizer.python",
    "RobertaTokenizerFast": "roberta.common.tokenizer.fast",
    "PreTrainedTokenizerFast": "roberta.common.tokenizer.library",
    "AutoTokenizer": "roberta.common.tokenizer.auto",
    **{
        f"{family}Tokenizer{fast}": "roberta.common.tokenizer.families"
        for family in ("Bert", "Camembert", "T5", "XLMRoberta")
        for fast in ("", "Fast")
    },
    "PhobertTokenizer": "roberta.common.tokenizer.phobert",
    "BertweetTokenizer": "roberta.common.tokenizer.phobert",
    "BatchEncoding": "roberta.common.tokenizer.encoding",
    "AddedToken": "roberta.common.vocabulary.special_tokens",
    "pipeline": "roberta.common.pipelines",
    "prepare": "roberta.common.training.preparation",
    "Training": "roberta.common.training.session",
    "register_auto_classes": "roberta.common.auto_classes",
    **{
        f"{prefix}Roberta{name}": f"roberta.{backend}.{'pretrained' if name == 'PreTrainedModel' else 'models'}"
        for prefix, backend in (("", "pt"), ("TF", "tf"), ("Flax", "flax"))
        for name in _CLASSES
    },
    **{
        f"{prefix}{family}{name}": f"roberta.{backend}.families"
        for prefix, backend in (("", "pt"), ("TF", "tf"), ("Flax", "flax"))
        for family in ("Camembert", "XLMRoberta")
        for name in _CLASSES
    },
}
_NEEDS = {"pt": ("torch",), "tf": ("tensorflow", "keras"), "flax": ("jax", "flax")}
_EXTRAS = {package: backend for backend, packages in _NEEDS.items() for package in packages}


class _KerasWatch:
    """An import hook that finds no module: once Keras is imported, it registers our classes there (`tf.keras_names`)."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Python's hook, called for each module that is imported for the first time."""
        if name.startswith("keras."):
            from roberta.tf.keras_names import register

            if register() and self in sys.meta_path:
                sys.meta_path.remove(self)


if "keras" in sys.modules:
    _KerasWatch().find_spec("keras.")
elif not any(type(finder).__name__ == "_KerasWatch" for finder in sys.meta_path):
    sys.meta_path.insert(0, _KerasWatch())

if not TYPE_CHECKING:  # so that a type checker notices a name that does not exist

    def __getattr__(name: str) -> object:
        """Import the module that defines `name`; a missing framework is named with the extra that brings it."""
        if name == "__all__":  # what `from roberta import *` takes: the classes of the frameworks that are installed
            return _importable()
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
    return [*sorted(_MODULES), "__version__"]


def _importable() -> list[str]:
    """The public names whose framework is installed; no framework is imported to find out."""
    import importlib.util

    absent = {
        f"roberta.{backend}."
        for backend, packages in _NEEDS.items()
        if any(importlib.util.find_spec(package) is None for package in packages)
    }
    return [name for name in __dir__() if not _MODULES.get(name, "").startswith(tuple(absent))]
