"""The TensorFlow classes and layers under the names, and in the module, that transformers has for them."""

from roberta.tf import layers as _layers
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

TFRobertaEmbeddings = _layers.Embeddings
TFRobertaSelfAttention = _layers.SelfAttention
TFRobertaAttention = _layers.Attention
TFRobertaIntermediate = _layers.Intermediate
TFRobertaLayer = _layers.Layer
TFRobertaEncoder = _layers.Encoder
TFRobertaPooler = _layers.Pooler
TFRobertaLMHead = _layers.LMHead
TFRobertaClassificationHead = _layers.ClassificationHead
TFRobertaMainLayer = TFRobertaModel  # the model without a head is the layer inside the others
