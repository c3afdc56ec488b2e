"""The Flax classes of CamemBERT and XLM-RoBERTa: RoBERTa's, under the names and with the configs of their families."""

# ruff: noqa: D101 - the classes for type checkers have the docstrings of those that are made

from typing import TYPE_CHECKING

from roberta.common.family_classes import family_classes
from roberta.flax.models import (
    FlaxRobertaForCausalLM,
    FlaxRobertaForMaskedLM,
    FlaxRobertaForMultipleChoice,
    FlaxRobertaForQuestionAnswering,
    FlaxRobertaForSequenceClassification,
    FlaxRobertaForTokenClassification,
    FlaxRobertaModel,
)
from roberta.flax.pretrained import FlaxRobertaPreTrainedModel

_CLASSES = family_classes(
    (
        FlaxRobertaPreTrainedModel,
        FlaxRobertaModel,
        FlaxRobertaForCausalLM,
        FlaxRobertaForMaskedLM,
        FlaxRobertaForSequenceClassification,
        FlaxRobertaForMultipleChoice,
        FlaxRobertaForTokenClassification,
        FlaxRobertaForQuestionAnswering,
    ),
    __name__,
)
globals().update(_CLASSES)

if TYPE_CHECKING:  # the same, for type checkers and editors; a test compares the two

    class FlaxCamembertPreTrainedModel(FlaxRobertaPreTrainedModel): ...

    class FlaxCamembertModel(FlaxRobertaModel, FlaxCamembertPreTrainedModel): ...

    class FlaxCamembertForCausalLM(FlaxRobertaForCausalLM, FlaxCamembertPreTrainedModel): ...

    class FlaxCamembertForMaskedLM(FlaxRobertaForMaskedLM, FlaxCamembertPreTrainedModel): ...

    class FlaxCamembertForSequenceClassification(
        FlaxRobertaForSequenceClassification, FlaxCamembertPreTrainedModel
    ): ...

    class FlaxCamembertForMultipleChoice(FlaxRobertaForMultipleChoice, FlaxCamembertPreTrainedModel): ...

    class FlaxCamembertForTokenClassification(FlaxRobertaForTokenClassification, FlaxCamembertPreTrainedModel): ...

    class FlaxCamembertForQuestionAnswering(FlaxRobertaForQuestionAnswering, FlaxCamembertPreTrainedModel): ...

    class FlaxXLMRobertaPreTrainedModel(FlaxRobertaPreTrainedModel): ...

    class FlaxXLMRobertaModel(FlaxRobertaModel, FlaxXLMRobertaPreTrainedModel): ...

    class FlaxXLMRobertaForCausalLM(FlaxRobertaForCausalLM, FlaxXLMRobertaPreTrainedModel): ...

    class FlaxXLMRobertaForMaskedLM(FlaxRobertaForMaskedLM, FlaxXLMRobertaPreTrainedModel): ...

    class FlaxXLMRobertaForSequenceClassification(
        FlaxRobertaForSequenceClassification, FlaxXLMRobertaPreTrainedModel
    ): ...

    class FlaxXLMRobertaForMultipleChoice(FlaxRobertaForMultipleChoice, FlaxXLMRobertaPreTrainedModel): ...

    class FlaxXLMRobertaForTokenClassification(FlaxRobertaForTokenClassification, FlaxXLMRobertaPreTrainedModel): ...

    class FlaxXLMRobertaForQuestionAnswering(FlaxRobertaForQuestionAnswering, FlaxXLMRobertaPreTrainedModel): ...
