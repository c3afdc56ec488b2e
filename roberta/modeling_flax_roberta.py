"""The Flax classes and their layers by the names that `transformers.models.roberta.modeling_flax_roberta` has."""

from roberta.common.config import RobertaConfig
from roberta.flax import layers
from roberta.flax.models import (
    FlaxRobertaForCausalLM,
    FlaxRobertaForCausalLMModule,
    FlaxRobertaForMaskedLM,
    FlaxRobertaForMaskedLMModule,
    FlaxRobertaForMultipleChoice,
    FlaxRobertaForMultipleChoiceModule,
    FlaxRobertaForQuestionAnswering,
    FlaxRobertaForQuestionAnsweringModule,
    FlaxRobertaForSequenceClassification,
    FlaxRobertaForSequenceClassificationModule,
    FlaxRobertaForTokenClassification,
    FlaxRobertaForTokenClassificationModule,
    FlaxRobertaModel,
    FlaxRobertaModule,
)
from roberta.flax.pretrained import FlaxRobertaPreTrainedModel

FlaxRobertaAttention = layers.Attention
FlaxRobertaClassificationHead = layers.ClassificationHead
FlaxRobertaEmbeddings = layers.Embeddings
FlaxRobertaEncoder = layers.Encoder
FlaxRobertaIntermediate = layers.Intermediate
FlaxRobertaLMHead = layers.LMHead
FlaxRobertaLayer = layers.Layer
FlaxRobertaLayerCollection = layers.Layers
FlaxRobertaOutput = layers.ResidualOutput
FlaxRobertaPooler = layers.Pooler
FlaxRobertaSelfAttention = layers.SelfAttention
FlaxRobertaSelfOutput = layers.ResidualOutput
create_position_ids_from_input_ids = layers.position_ids

__all__ = [
    "FlaxRobertaAttention",
    "FlaxRobertaClassificationHead",
    "FlaxRobertaEmbeddings",
    "FlaxRobertaEncoder",
    "FlaxRobertaForCausalLM",
    "FlaxRobertaForCausalLMModule",
    "FlaxRobertaForMaskedLM",
    "FlaxRobertaForMaskedLMModule",
    "FlaxRobertaForMultipleChoice",
    "FlaxRobertaForMultipleChoiceModule",
    "FlaxRobertaForQuestionAnswering",
    "FlaxRobertaForQuestionAnsweringModule",
    "FlaxRobertaForSequenceClassification",
    "FlaxRobertaForSequenceClassificationModule",
    "FlaxRobertaForTokenClassification",
    "FlaxRobertaForTokenClassificationModule",
    "FlaxRobertaIntermediate",
    "FlaxRobertaLMHead",
    "FlaxRobertaLayer",
    "FlaxRobertaLayerCollection",
    "FlaxRobertaModel",
    "FlaxRobertaModule",
    "FlaxRobertaOutput",
    "FlaxRobertaPooler",
    "FlaxRobertaPreTrainedModel",
    "FlaxRobertaSelfAttention",
    "FlaxRobertaSelfOutput",
    "RobertaConfig",
    "create_position_ids_from_input_ids",
]
