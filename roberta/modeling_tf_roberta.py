"""The TensorFlow classes and layers under the names, and in the module, that transformers has for them."""

from roberta.tf import layers
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

TFRobertaEmbeddings = layers.Embeddings
TFRobertaSelfAttention = layers.SelfAttention
TFRobertaAttention = layers.Attention
TFRobertaIntermediate = layers.Intermediate
TFRobertaLayer = layers.Layer
TFRobertaEncoder = layers.Encoder
TFRobertaPooler = layers.Pooler
TFRobertaLMHead = layers.LMHead
TFRobertaClassificationHead = layers.ClassificationHead
TFRobertaMainLayer = TFRobertaModel  # the model without a head is the layer inside the others

__all__ = [
    "TFRobertaAttention",
    "TFRobertaClassificationHead",
    "TFRobertaEmbeddings",
    "TFRobertaEncoder",
    "TFRobertaForCausalLM",
    "TFRobertaForMaskedLM",
    "TFRobertaForMultipleChoice",
    "TFRobertaForQuestionAnswering",
    "TFRobertaForSequenceClassification",
    "TFRobertaForTokenClassification",
    "TFRobertaIntermediate",
    "TFRobertaLMHead",
    "TFRobertaLayer",
    "TFRobertaMainLayer",
    "TFRobertaModel",
    "TFRobertaPooler",
    "TFRobertaPreTrainedModel",
    "TFRobertaSelfAttention",
]
