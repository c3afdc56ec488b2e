"""The PyTorch classes and their layers by the names that `transformers.models.roberta.modeling_roberta` has.

`RobertaSelfOutput` and `RobertaOutput` are one class, which takes the width of its input behind the config; the second
has config.intermediate_size. A layer takes (hidden states, what is added to scores, head mask, encoder states, ...) in
transformers' order, and its result begins with hidden states and attention weights.
"""

from roberta.pt.layers import (
    RobertaAttention,
    RobertaClassificationHead,
    RobertaEmbeddings,
    RobertaEncoder,
    RobertaIntermediate,
    RobertaLayer,
    RobertaLMHead,
    RobertaOutput,
    RobertaPooler,
    RobertaSdpaSelfAttention,
    RobertaSelfAttention,
    RobertaSelfOutput,
    create_position_ids_from_input_ids,
)
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

ROBERTA_SELF_ATTENTION_CLASSES = {"eager": RobertaSelfAttention, "sdpa": RobertaSdpaSelfAttention}

__all__ = [
    "ROBERTA_SELF_ATTENTION_CLASSES",
    "RobertaAttention",
    "RobertaClassificationHead",
    "RobertaEmbeddings",
    "RobertaEncoder",
    "RobertaForCausalLM",
    "RobertaForMaskedLM",
    "RobertaForMultipleChoice",
    "RobertaForQuestionAnswering",
    "RobertaForSequenceClassification",
    "RobertaForTokenClassification",
    "RobertaIntermediate",
    "RobertaLMHead",
    "RobertaLayer",
    "RobertaModel",
    "RobertaOutput",
    "RobertaPooler",
    "RobertaPreTrainedModel",
    "RobertaSdpaSelfAttention",
    "RobertaSelfAttention",
    "RobertaSelfOutput",
    "create_position_ids_from_input_ids",
]
