"""The PyTorch classes of CamemBERT and XLM-RoBERTa: RoBERTa's, under the names and with the configs of their families."""

# ruff: noqa: D101 - the classes for type checkers have the docstrings of those that are made

from typing import TYPE_CHECKING

from roberta.common.family_classes import family_classes
from roberta.pt.models import (
    RobertaForCausalLM,
    RobertaForMaskedLM,
    RobertaForMultipleChoice,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
)
from roberta.pt.pretrained import RobertaPreTrainedModel

_CLASSES = family_classes(
    (
        RobertaPreTrainedModel,
        RobertaModel,
        RobertaForCausalLM,
        RobertaForMaskedLM,
        RobertaForSequenceClassification,
        RobertaForMultipleChoice,
        RobertaForTokenClassification,
        RobertaForQuestionAnswering,
    ),
    __name__,
)
globals().update(_CLASSES)

if TYPE_CHECKING:  # the same, for type checkers and editors; a test compares the two

    class CamembertPreTrainedModel(RobertaPreTrainedModel): ...

    class CamembertModel(RobertaModel, CamembertPreTrainedModel): ...

    class CamembertForCausalLM(RobertaForCausalLM, CamembertPreTrainedModel): ...

    class CamembertForMaskedLM(RobertaForMaskedLM, CamembertPreTrainedModel): ...

    class CamembertForSequenceClassification(RobertaForSequenceClassification, CamembertPreTrainedModel): ...

    class CamembertForMultipleChoice(RobertaForMultipleChoice, CamembertPreTrainedModel): ...

    class CamembertForTokenClassification(RobertaForTokenClassification, CamembertPreTrainedModel): ...

    class CamembertForQuestionAnswering(RobertaForQuestionAnswering, CamembertPreTrainedModel): ...

    class XLMRobertaPreTrainedModel(RobertaPreTrainedModel): ...

    class XLMRobertaModel(RobertaModel, XLMRobertaPreTrainedModel): ...

    class XLMRobertaForCausalLM(RobertaForCausalLM, XLMRobertaPreTrainedModel): ...

    class XLMRobertaForMaskedLM(RobertaForMaskedLM, XLMRobertaPreTrainedModel): ...

    class XLMRobertaForSequenceClassification(RobertaForSequenceClassification, XLMRobertaPreTrainedModel): ...

    class XLMRobertaForMultipleChoice(RobertaForMultipleChoice, XLMRobertaPreTrainedModel): ...

    class XLMRobertaForTokenClassification(RobertaForTokenClassification, XLMRobertaPreTrainedModel): ...

    class XLMRobertaForQuestionAnswering(RobertaForQuestionAnswering, XLMRobertaPreTrainedModel): ...
