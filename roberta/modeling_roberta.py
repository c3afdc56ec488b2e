"""The PyTorch classes and their layers by the names that `transformers.models.roberta.modeling_roberta` has.

`RobertaSelfOutput` and `RobertaOutput` are one class, which takes the width of its input behind the config; the second
has config.intermediate_size. A layer takes (hidden states, what is added to scores, head mask, encoder states, ...) in
transformers' order, and its result begins with hidden states and attention weights.
"""

from roberta.pt.layers import (
    RobertaAttention as RobertaAttention,
    RobertaClassificationHead as RobertaClassificationHead,
    RobertaEmbeddings as RobertaEmbeddings,
    RobertaEncoder as RobertaEncoder,
    RobertaIntermediate as RobertaIntermediate,
    RobertaLayer as RobertaLayer,
    RobertaLMHead as RobertaLMHead,
    RobertaOutput as RobertaOutput,
    RobertaPooler as RobertaPooler,
    RobertaSdpaSelfAttention as RobertaSdpaSelfAttention,
    RobertaSelfAttention as RobertaSelfAttention,
    RobertaSelfOutput as RobertaSelfOutput,
    create_position_ids_from_input_ids as create_position_ids_from_input_ids,
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

ROBERTA_SELF_ATTENTION_CLASSES = {"eager": RobertaSelfAttention, "sdpa": RobertaSdpaSelfAttention}
