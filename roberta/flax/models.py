"""The seven RoBERTa classes in Flax: a linen module each, and the class that holds it with its parameters.

The classes have one call signature, that of transformers 4.57 (`FlaxRobertaPreTrainedModel.__call__`); the modules
are plain and usable alone, `module.apply({"params": params}, input_ids, ...)`. Every one takes ids (batch, seq), or
`inputs_embeds` (batch, seq, hidden) instead, and an attention mask of 1 and 0 (see `layers.attention_bias`). None for
an `output_*` argument or `return_dict` means what the config says. `deterministic=False` turns dropout on.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from roberta.common.checkpoint.pretrained import MakesOutput, head_mask_error
from roberta.common.config import RobertaConfig
from roberta.common.outputs import (
    BaseModelOutputWithPoolingAndCrossAttentions,
    CausalLMOutputWithCrossAttentions,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from roberta.flax import cache as caches
from roberta.flax.generation import GenerationMixin
from roberta.flax.layers import (
    ClassificationHead,
    Dropout,
    Embeddings,
    Encoder,
    LMHead,
    Pooler,
    attention_bias,
    check_range,
    dense,
    warn_of_padding,
)
from roberta.flax.losses import classification_loss, next_token_loss, span_loss, token_loss
from roberta.flax.pretrained import FlaxRobertaPreTrainedModel


class RobertaModule(MakesOutput, nn.Module):
    """What the linen modules of the seven classes share."""

    config: RobertaConfig
    dtype: DTypeLike = jnp.float32


class RobertaModelModule(RobertaModule):
    """The encoder, or with `config.is_decoder` the decoder, without a head."""

    add_pooling_layer: bool = True
    gradient_checkpointing: bool = False

    def setup(self) -> None:
        self.embeddings = Embeddings(self.config, self.dtype)
        self.encoder = Encoder(self.config, self.dtype, self.gradient_checkpointing)
        self.pooler = Pooler(self.config, self.dtype) if self.add_pooling_layer else None

    def __call__(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        token_type_ids: Array | None = None,
        position_ids: Array | None = None,
        head_mask: Array | None = None,
        inputs_embeds: Array | None = None,
        encoder_hidden_states: Array | None = None,
        encoder_attention_mask: Array | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        deterministic: bool = True,
    ) -> BaseModelOutputWithPoolingAndCrossAttentions | tuple[Any, ...]:
        """Hidden states of every token, and the pooled first one.

        Args:
            attention_mask: over cached and new tokens, when there are cached ones; or over all the cache's room.
            position_ids: int, (batch, seq), rows of the position table; by default `layers.position_ids`.
            head_mask: 1 to keep a head; (head,) or (layer, head).
            encoder_hidden_states: (batch, key, hidden), with `encoder_attention_mask`; for cross-attention.
        """
        config = self.config
        self.check_given(input_ids, inputs_embeds, encoder_hidden_states)
        # the tokens of this call, and those they attend to: with a cache all its room
        cache = caches.as_cache(self.variables.get("cache"))
        if cache is not None and not config.is_decoder:
            raise ValueError("past_key_values need a decoder; make the model with RobertaConfig(is_decoder=True)")
        if attention_mask is None and input_ids is not None:
            warn_of_padding(input_ids, config, caches.length(cache))
        seq = (inputs_embeds if input_ids is None else input_ids).shape[1]
        keys = seq
        if cache is not None:
            keys = caches.max_length(cache)
            self.check_room(cache, seq, attention_mask)
            attention_mask = caches.widen(attention_mask, cache)
        # positions go on behind the cached tokens
        past_tokens = caches.past_tokens(cache, attention_mask)
        if cache is not None and caches.TOKENS in cache and self.is_mutable_collection("cache"):
            new_tokens = caches.count_tokens(input_ids, inputs_embeds, config.pad_token_id)
            self.put_variable("cache", caches.TOKENS, past_tokens + new_tokens)
        hidden = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds, past_tokens, deterministic)
        past = None if cache is None else caches.length(cache)
        # what each layer attends to: its own tokens, and an encoder's states
        bias = attention_bias(attention_mask, seq, keys, config.is_decoder, hidden, past)
        states_bias = None
        if encoder_hidden_states is not None:
            states_bias = attention_bias(encoder_attention_mask, seq, encoder_hidden_states.shape[1], False, hidden)
        # the layers
        needs_attentions = self.or_config(output_attentions, "output_attentions")
        hidden_states, attentions, cross_attentions = self.encoder(
            hidden, bias, self.head_masks(head_mask), encoder_hidden_states, states_bias, needs_attentions,
            deterministic,
        )  # fmt: skip
        # the output, of what the caller or the config asks for
        has_cross = needs_attentions and encoder_hidden_states is not None
        needs_states = self.or_config(output_hidden_states, "output_hidden_states")
        output = BaseModelOutputWithPoolingAndCrossAttentions(
            last_hidden_state=hidden_states[-1],
            pooler_output=None if self.pooler is None else self.pooler(hidden_states[-1]),
            hidden_states=tuple(hidden_states) if needs_states else None,
            attentions=tuple(attentions) if needs_attentions else None,
            cross_attentions=tuple(cross_attentions) if has_cross else None,
        )
        return output if self.or_config(return_dict, "use_return_dict") else output.to_tuple()

    def check_room(self, cache: caches.Cache, seq: int, attention_mask: Array | None) -> None:
        """Raise `ValueError` where `seq` more tokens do not fit the cache, or the mask does not cover them."""
        end = jnp.asarray(caches.length(cache) + seq)
        check_range(
            "past_key_values with the new tokens", end, caches.max_length(cache) + 1,
            "make a longer cache with init_cache(batch_size, max_length)",
        )  # fmt: skip
        if attention_mask is not None:
            check_range(
                "past_key_values with the new tokens", end, attention_mask.shape[-1] + 1,
                "give an attention_mask over cached and new tokens, or over all the room of the cache",
            )  # fmt: skip

    def head_masks(self, head_mask: Array | None) -> list[Array | None]:
        """One mask a layer, (1, head, 1, 1), from (head,) or (layer, head)."""
        layers = self.config.num_hidden_layers
        if head_mask is None:
            return [None] * layers
        if head_mask.ndim not in (1, 2) or (head_mask.ndim == 2 and head_mask.shape[0] != layers):
            raise head_mask_error(tuple(head_mask.shape), self.config)
        rows = jnp.broadcast_to(head_mask, (layers, head_mask.shape[-1])).astype(self.dtype)
        return [row.reshape(1, -1, 1, 1) for row in rows]


class FlaxRobertaModel(FlaxRobertaPreTrainedModel):
    """The encoder, or with `config.is_decoder` the decoder, without a head."""

    head = "Model"
    module_class = RobertaModelModule


class RobertaHeadModule(RobertaModule):
    """What the modules with a head share."""

    gradient_checkpointing: bool = False

    def backbone(self, add_pooling_layer: bool = False) -> RobertaModelModule:
        """The encoder below a head."""
        return RobertaModelModule(self.config, self.dtype, add_pooling_layer, self.gradient_checkpointing)


class RobertaForCausalLMModule(RobertaHeadModule):
    """Next-token scores; with `config.is_decoder` each token sees those before it only."""

    def setup(self) -> None:
        self.roberta = self.backbone()
        self.lm_head = LMHead(self.config, self.dtype)

    def __call__(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        token_type_ids: Array | None = None,
        position_ids: Array | None = None,
        head_mask: Array | None = None,
        inputs_embeds: Array | None = None,
        encoder_hidden_states: Array | None = None,
        encoder_attention_mask: Array | None = None,
        labels: Array | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: int | Array | None = None,
        deterministic: bool = True,
    ) -> CausalLMOutputWithCrossAttentions | tuple[Any, ...]:
        """Logits (batch, seq, vocab); with `labels` (batch, seq), unshifted, the loss (`losses.next_token_loss`)."""
        outputs = self.roberta(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds, encoder_hidden_states,
            encoder_attention_mask, output_attentions, output_hidden_states,
            return_dict=True, deterministic=deterministic,
        )  # fmt: skip
        logits = self.lm_head(outputs.last_hidden_state, self.roberta.embeddings.word_embeddings.embedding)
        loss = None if labels is None else next_token_loss(logits, labels, num_items_in_batch)
        return self.make_output(
            CausalLMOutputWithCrossAttentions, outputs, return_dict,
            loss=loss, logits=logits, cross_attentions=outputs.cross_attentions,
        )  # fmt: skip


class FlaxRobertaForCausalLM(GenerationMixin, FlaxRobertaPreTrainedModel):
    """Next-token scores; with `config.is_decoder` each token sees those before it only."""

    head = "ForCausalLM"
    module_class = RobertaForCausalLMModule


class RobertaForMaskedLMModule(RobertaHeadModule):
    """Scores of every vocabulary entry at every token."""

    def setup(self) -> None:
        self.roberta = self.backbone()
        self.lm_head = LMHead(self.config, self.dtype)

    def __call__(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        token_type_ids: Array | None = None,
        position_ids: Array | None = None,
        head_mask: Array | None = None,
        inputs_embeds: Array | None = None,
        encoder_hidden_states: Array | None = None,
        encoder_attention_mask: Array | None = None,
        labels: Array | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        deterministic: bool = True,
    ) -> MaskedLMOutput | tuple[Any, ...]:
        """Logits (batch, seq, vocab); `labels`: int, (batch, seq), -100 where nothing is to be predicted."""
        outputs = self.roberta(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds, encoder_hidden_states,
            encoder_attention_mask, output_attentions, output_hidden_states,
            return_dict=True, deterministic=deterministic,
        )  # fmt: skip
        logits = self.lm_head(outputs.last_hidden_state, self.roberta.embeddings.word_embeddings.embedding)
        loss = None if labels is None else token_loss(logits, labels)
        return self.make_output(MaskedLMOutput, outputs, return_dict, loss=loss, logits=logits)


class FlaxRobertaForMaskedLM(FlaxRobertaPreTrainedModel):
    """Scores of every vocabulary entry at every token."""

    head = "ForMaskedLM"
    module_class = RobertaForMaskedLMModule


class RobertaForSequenceClassificationModule(RobertaHeadModule):
    """Labels of a whole sequence: classes, several at once, or numbers (`config.problem_type`)."""

    def setup(self) -> None:
        self.roberta = self.backbone()
        self.classifier = ClassificationHead(self.config, self.dtype)

    def __call__(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        token_type_ids: Array | None = None,
        position_ids: Array | None = None,
        head_mask: Array | None = None,
        inputs_embeds: Array | None = None,
        labels: Array | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        deterministic: bool = True,
    ) -> SequenceClassifierOutput | tuple[Any, ...]:
        """Logits (batch, num_labels); `labels` as in `losses.classification_loss`."""
        outputs = self.roberta(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states, return_dict=True,
            deterministic=deterministic,
        )  # fmt: skip
        logits = self.classifier(outputs.last_hidden_state, deterministic)
        loss = None if labels is None else classification_loss(logits, labels, self.config)
        return self.make_output(SequenceClassifierOutput, outputs, return_dict, loss=loss, logits=logits)


class FlaxRobertaForSequenceClassification(FlaxRobertaPreTrainedModel):
    """Labels of a whole sequence: classes, several at once, or numbers (`config.problem_type`)."""

    head = "ForSequenceClassification"
    module_class = RobertaForSequenceClassificationModule


class RobertaForMultipleChoiceModule(RobertaHeadModule):
    """One score for each choice; each choice is a sequence of its own."""

    def setup(self) -> None:
        self.roberta = self.backbone(add_pooling_layer=True)
        self.dropout = Dropout(self.config.hidden_dropout_prob)
        self.classifier = dense(self.config, 1, self.dtype)

    def __call__(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        token_type_ids: Array | None = None,
        position_ids: Array | None = None,
        head_mask: Array | None = None,
        inputs_embeds: Array | None = None,
        labels: Array | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        deterministic: bool = True,
    ) -> MultipleChoiceModelOutput | tuple[Any, ...]:
        """Logits (batch, choices) from inputs (batch, choices, seq); `labels`: int, (batch,)."""
        given = inputs_embeds if input_ids is None else input_ids
        if given is not None and given.ndim != (4 if input_ids is None else 3):
            raise ValueError(f"multiple choice takes (batch, choices, seq), not the shape {tuple(given.shape)}")

        def rows(values: Array | None) -> Array | None:
            return None if values is None else values.reshape(-1, *values.shape[2:])  # (batch * choices, seq, ...)

        outputs = self.roberta(
            rows(input_ids), rows(attention_mask), rows(token_type_ids), rows(position_ids), head_mask,
            rows(inputs_embeds),
            output_attentions=output_attentions, output_hidden_states=output_hidden_states, return_dict=True,
            deterministic=deterministic,
        )  # fmt: skip
        pooled = self.dropout(outputs.pooler_output, deterministic)
        logits = self.classifier(pooled).reshape(given.shape[:2])
        loss = None if labels is None else token_loss(logits, labels)
        return self.make_output(MultipleChoiceModelOutput, outputs, return_dict, loss=loss, logits=logits)


class FlaxRobertaForMultipleChoice(FlaxRobertaPreTrainedModel):
    """One score for each choice; each choice is a sequence of its own."""

    head = "ForMultipleChoice"
    module_class = RobertaForMultipleChoiceModule


class RobertaForTokenClassificationModule(RobertaHeadModule):
    """A label of every token."""

    def setup(self) -> None:
        self.roberta = self.backbone()
        self.dropout = Dropout(self.config.head_dropout)
        self.classifier = dense(self.config, self.config.num_labels, self.dtype)

    def __call__(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        token_type_ids: Array | None = None,
        position_ids: Array | None = None,
        head_mask: Array | None = None,
        inputs_embeds: Array | None = None,
        labels: Array | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        deterministic: bool = True,
    ) -> TokenClassifierOutput | tuple[Any, ...]:
        """Logits (batch, seq, num_labels); `labels`: int, (batch, seq), -100 where there is none."""
        outputs = self.roberta(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states, return_dict=True,
            deterministic=deterministic,
        )  # fmt: skip
        logits = self.classifier(self.dropout(outputs.last_hidden_state, deterministic))
        loss = None if labels is None else token_loss(logits, labels)
        return self.make_output(TokenClassifierOutput, outputs, return_dict, loss=loss, logits=logits)


class FlaxRobertaForTokenClassification(FlaxRobertaPreTrainedModel):
    """A label of every token."""

    head = "ForTokenClassification"
    module_class = RobertaForTokenClassificationModule


class RobertaForQuestionAnsweringModule(RobertaHeadModule):
    """Scores of every token to be the first and the last of the answer."""

    def setup(self) -> None:
        self.roberta = self.backbone()
        self.qa_outputs = dense(self.config, self.config.num_labels, self.dtype)

    def __call__(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        token_type_ids: Array | None = None,
        position_ids: Array | None = None,
        head_mask: Array | None = None,
        inputs_embeds: Array | None = None,
        start_positions: Array | None = None,
        end_positions: Array | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        deterministic: bool = True,
    ) -> QuestionAnsweringModelOutput | tuple[Any, ...]:
        """Two logits (batch, seq); the positions: int, (batch,), both or none (`losses.span_loss`)."""
        outputs = self.roberta(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states, return_dict=True,
            deterministic=deterministic,
        )  # fmt: skip
        logits = self.qa_outputs(outputs.last_hidden_state)
        start, end = logits[..., 0], logits[..., 1]
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = span_loss(start, end, start_positions, end_positions)
        return self.make_output(
            QuestionAnsweringModelOutput, outputs, return_dict, loss=loss, start_logits=start, end_logits=end
        )


class FlaxRobertaForQuestionAnswering(FlaxRobertaPreTrainedModel):
    """Scores of every token to be the first and the last of the answer."""

    head = "ForQuestionAnswering"
    module_class = RobertaForQuestionAnsweringModule


# The linen modules by transformers' names, which its users look up beside the classes.
FlaxRobertaModule = RobertaModelModule
FlaxRobertaForCausalLMModule = RobertaForCausalLMModule
FlaxRobertaForMaskedLMModule = RobertaForMaskedLMModule
FlaxRobertaForSequenceClassificationModule = RobertaForSequenceClassificationModule
FlaxRobertaForMultipleChoiceModule = RobertaForMultipleChoiceModule
FlaxRobertaForTokenClassificationModule = RobertaForTokenClassificationModule
FlaxRobertaForQuestionAnsweringModule = RobertaForQuestionAnsweringModule
