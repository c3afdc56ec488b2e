"""The TensorFlow classes of CamemBERT and XLM-RoBERTa: RoBERTa's, under the names and with the configs of their families."""

# ruff: noqa: D101 - the classes for type checkers have the docstrings of those that are made

from typing import TYPE_CHECKING

from roberta.common.family_classes import family_classes
from roberta.tf.models import (
    TFRobertaForCausalLM,
    TFRobertaForMaskedLM,
    TFRobertaForMultipleChoice,
    TFRobertaForQuestionAnswering,
    TFRobertaForSequenceClassification,
    TFRobertaForTokenClassification,
    TFRobertaModel,
)
from roberta.tf.pretrained import TFRobertaPreTrainedModel
from roberta.tf.weights import keras

_CLASSES = family_classes(
    (
        TFRobertaPreTrainedModel,
        TFRobertaModel,
        TFRobertaForCausalLM,
        TFRobertaForMaskedLM,
        TFRobertaForSequenceClassification,
        TFRobertaForMultipleChoice,
        TFRobertaForTokenClassification,
        TFRobertaForQuestionAnswering,
    ),
    __name__,
)
globals().update(_CLASSES)

for _class in _CLASSES.values():
    if hasattr(_class, "head"):
        keras.saving.register_keras_serializable(package="roberta")(_class)

if TYPE_CHECKING:  # the same, for type checkers and editors; a test compares the two

    class TFCamembertPreTrainedModel(TFRobertaPreTrainedModel): ...

    class TFCamembertModel(TFRobertaModel, TFCamembertPreTrainedModel): ...

    class TFCamembertForCausalLM(TFRobertaForCausalLM, TFCamembertPreTrainedModel): ...

    class TFCamembertForMaskedLM(TFRobertaForMaskedLM, TFCamembertPreTrainedModel): ...

    class TFCamembertForSequenceClassification(TFRobertaForSequenceClassification, TFCamembertPreTrainedModel): ...

    class TFCamembertForMultipleChoice(TFRobertaForMultipleChoice, TFCamembertPreTrainedModel): ...

    class TFCamembertForTokenClassification(TFRobertaForTokenClassification, TFCamembertPreTrainedModel): ...

    class TFCamembertForQuestionAnswering(TFRobertaForQuestionAnswering, TFCamembertPreTrainedModel): ...

    class TFXLMRobertaPreTrainedModel(TFRobertaPreTrainedModel): ...

    class TFXLMRobertaModel(TFRobertaModel, TFXLMRobertaPreTrainedModel): ...

    class TFXLMRobertaForCausalLM(TFRobertaForCausalLM, TFXLMRobertaPreTrainedModel): ...

    class TFXLMRobertaForMaskedLM(TFRobertaForMaskedLM, TFXLMRobertaPreTrainedModel): ...

    class TFXLMRobertaForSequenceClassification(TFRobertaForSequenceClassification, TFXLMRobertaPreTrainedModel): ...

    class TFXLMRobertaForMultipleChoice(TFRobertaForMultipleChoice, TFXLMRobertaPreTrainedModel): ...

    class TFXLMRobertaForTokenClassification(TFRobertaForTokenClassification, TFXLMRobertaPreTrainedModel): ...

    class TFXLMRobertaForQuestionAnswering(TFRobertaForQuestionAnswering, TFXLMRobertaPreTrainedModel): ...
