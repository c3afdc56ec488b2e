"""The Flax classes and their layers by the names that `transformers.models.roberta.modeling_flax_roberta` has."""

from roberta.common.config import RobertaConfig as RobertaConfig
from roberta.flax import layers as _layers
from roberta.flax.models import (
    FlaxRobertaForCausalLM as FlaxRobertaForCausalLM,
    FlaxRobertaForCausalLMModule as FlaxRobertaForCausalLMModule,
    FlaxRobertaForMaskedLM as FlaxRobertaForMaskedLM,
    FlaxRobertaForMaskedLMModule as FlaxRobertaForMaskedLMModule,
    FlaxRobertaForMultipleChoice as FlaxRobertaForMultipleChoice,
    FlaxRobertaForMultipleChoiceModule as FlaxRobertaForMultipleChoiceModule,
    FlaxRobertaForQuestionAnswering as FlaxRobertaForQuestionAnswering,
    FlaxRobertaForQuestionAnsweringModule as FlaxRobertaForQuestionAnsweringModule,
    FlaxRobertaForSequenceClassification as FlaxRobertaForSequenceClassification,
    FlaxRobertaForSequenceClassificationModule as FlaxRobertaForSequenceClassificationModule,
    FlaxRobertaForTokenClassification as FlaxRobertaForTokenClassification,
    FlaxRobertaForTokenClassificationModule as FlaxRobertaForTokenClassificationModule,
    FlaxRobertaModel as FlaxRobertaModel,
    FlaxRobertaModule as FlaxRobertaModule,
)
from roberta.flax.pretrained import FlaxRobertaPreTrainedModel as FlaxRobertaPreTrainedModel

FlaxRobertaAttention = _layers.Attention
FlaxRobertaClassificationHead = _layers.ClassificationHead
FlaxRobertaEmbeddings = _layers.Embeddings
FlaxRobertaEncoder = _layers.Encoder
FlaxRobertaIntermediate = _layers.Intermediate
FlaxRobertaLMHead = _layers.LMHead
FlaxRobertaLayer = _layers.Layer
FlaxRobertaLayerCollection = _layers.Layers
FlaxRobertaOutput = _layers.ResidualOutput
FlaxRobertaPooler = _layers.Pooler
FlaxRobertaSelfAttention = _layers.SelfAttention
FlaxRobertaSelfOutput = _layers.ResidualOutput
create_position_ids_from_input_ids = _layers.position_ids
