"""The seven RoBERTa classes in PyTorch.

Arguments, defaults, their order and the outputs are those of transformers 4.57. Every class takes ids (batch, seq),
or `inputs_embeds` (batch, seq, hidden) instead, and an attention mask of 1 and 0 (see `layers.attention_bias`).
None for an `output_*` argument, `use_cache` or `return_dict` means what the config says.
"""

from typing import Any, ClassVar

from torch import Tensor, nn

from roberta.common.checkpoint.pretrained import head_mask_error
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
from roberta.pt import cache as caches
from roberta.pt.generation import GenerationMixin
from roberta.pt.layers import (
    ClassificationHead,
    Embeddings,
    Encoder,
    LMHead,
    Pooler,
    attention_bias,
    warn_of_padding,
)
from roberta.pt.losses import classification_loss, span_loss, token_loss
from roberta.pt.pretrained import RobertaPreTrainedModel


class RobertaModel(RobertaPreTrainedModel):
    """The encoder, or with `config.is_decoder` the decoder, without a head."""

    head = "Model"

    def __init__(self, config: RobertaConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(self.config)
        self.encoder = Encoder(self.config)
        self.pooler = Pooler(self.config) if add_pooling_layer else None
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        past_key_values: caches.PastKeyValues = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        cache_position: Tensor | None = None,
    ) -> BaseModelOutputWithPoolingAndCrossAttentions | tuple[Any, ...]:
        """Hidden states of every token, and the pooled first one.

        Args:
            attention_mask: over cached and new tokens, when there are cached ones.
            position_ids: int, (batch, seq), rows of the position table; by default `layers.position_ids`.
            head_mask: 1 to keep a head; (head,) or (layer, head).
            encoder_hidden_states: (batch, key, hidden), with `encoder_attention_mask`; for cross-attention.
            past_key_values: what an earlier call returned; `cache.as_cache` says what else. Outside a decoder every
                token attends to them, as in prefix tuning.
            cache_position: int, (seq,): the places of the tokens behind the cached ones, which the cache says already.
        """
        config = self.config
        self.check_given(input_ids, inputs_embeds, encoder_hidden_states)
        # the tokens of this call, and those they attend to
        cache = caches.as_cache(past_key_values)
        if attention_mask is None and input_ids is not None and cache is None:
            warn_of_padding(input_ids, config)
        tokens = inputs_embeds if input_ids is None else input_ids
        assert tokens is not None
        seq = tokens.shape[1]
        keys = caches.length(cache) + seq
        if cache_position is not None:
            caches.check_position(cache_position, keys - seq, seq)
        # positions go on behind the cached tokens
        past_tokens = caches.past_tokens(cache, attention_mask)
        hidden = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds, past_tokens)
        # what each layer attends to: its own tokens, and an encoder's states
        bias = attention_bias(attention_mask, seq, keys, config.is_decoder, hidden)
        states_bias = None
        if encoder_hidden_states is not None:
            states_bias = attention_bias(encoder_attention_mask, seq, encoder_hidden_states.shape[1], False, hidden)
        # the layers
        needs_attentions = self.or_config(output_attentions, "output_attentions")
        hidden_states, attentions, cross_attentions, presents = self.encoder(
            hidden, bias, self.head_masks(head_mask), encoder_hidden_states, states_bias, cache, needs_attentions
        )
        # the output, of what the caller or the config asks for
        has_cross = needs_attentions and encoder_hidden_states is not None
        needs_states = self.or_config(output_hidden_states, "output_hidden_states")
        present = None
        if config.is_decoder and self.or_config(use_cache, "use_cache"):
            new_tokens = caches.count_tokens(input_ids, inputs_embeds, config.pad_token_id)
            present = caches.Cache(presents, past_tokens + new_tokens)
        output = BaseModelOutputWithPoolingAndCrossAttentions(
            last_hidden_state=hidden_states[-1],
            pooler_output=None if self.pooler is None else self.pooler(hidden_states[-1]),
            past_key_values=present,
            hidden_states=tuple(hidden_states) if needs_states else None,
            attentions=tuple(attentions) if needs_attentions else None,
            cross_attentions=tuple(cross_attentions) if has_cross else None,
        )
        if self.or_config(return_dict, "use_return_dict"):
            return output
        return (output[0], output.pooler_output, *output.to_tuple()[1 if self.pooler is None else 2 :])

    def _prune_heads(self, heads_to_prune: dict[int, list[int]]) -> None:
        """As `prune_heads`."""
        self.prune_heads(heads_to_prune)

    def head_masks(self, head_mask: Tensor | None) -> list[Tensor | None]:
        """One mask a layer, (1, head, 1, 1), from (head,) or (layer, head)."""
        layers = self.config.num_hidden_layers
        if head_mask is None:
            return [None] * layers
        if head_mask.dim() not in (1, 2) or (head_mask.dim() == 2 and head_mask.shape[0] != layers):
            raise head_mask_error(tuple(head_mask.shape), self.config)
        rows = head_mask.expand(layers, -1).to(self.dtype)
        return [row.reshape(1, -1, 1, 1) for row in rows]


class RobertaForCausalLM(GenerationMixin, RobertaPreTrainedModel):
    """Next-token scores; with `config.is_decoder` each token sees those before it only."""

    head = "ForCausalLM"
    encoder_class = RobertaModel
    accepts_loss_kwargs = True  # Trainer gives num_items_in_batch, the number of labels in all parts of a batch
    _tied_weights_keys: ClassVar[list[str]] = ["lm_head.decoder.weight", "lm_head.decoder.bias"]

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config)
        self.roberta = self.encoder_class(self.config, add_pooling_layer=False)
        self.lm_head = LMHead(self.config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        past_key_values: caches.PastKeyValues = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: int | Tensor | None = None,
        cache_position: Tensor | None = None,
    ) -> CausalLMOutputWithCrossAttentions | tuple[Any, ...]:
        """Logits (batch, seq, vocab); with `labels` (batch, seq), unshifted, the loss (`losses.next_token_loss`)."""
        outputs = self.roberta(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds, encoder_hidden_states,
            encoder_attention_mask, past_key_values, use_cache if labels is None else False, output_attentions,
            output_hidden_states,
            return_dict=True, cache_position=cache_position,
        )  # fmt: skip
        logits = self.lm_head(outputs.last_hidden_state)
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits,
                labels=labels,
                vocab_size=self.config.vocab_size,
                num_items_in_batch=num_items_in_batch,
            )
        return self.make_output(
            CausalLMOutputWithCrossAttentions, outputs, return_dict, loss=loss, logits=logits,
            past_key_values=outputs.past_key_values, cross_attentions=outputs.cross_attentions,
        )  # fmt: skip


class RobertaForMaskedLM(RobertaPreTrainedModel):
    """Scores of every vocabulary entry at every token."""

    head = "ForMaskedLM"
    encoder_class = RobertaModel
    _tied_weights_keys: ClassVar[list[str]] = ["lm_head.decoder.weight", "lm_head.decoder.bias"]

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config)
        self.roberta = self.encoder_class(self.config, add_pooling_layer=False)
        self.lm_head = LMHead(self.config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> MaskedLMOutput | tuple[Any, ...]:
        """Logits (batch, seq, vocab); `labels`: int, (batch, seq), -100 where nothing is to be predicted."""
        outputs = self.roberta(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds, encoder_hidden_states,
            encoder_attention_mask,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states, return_dict=True,
        )  # fmt: skip
        logits = self.lm_head(outputs.last_hidden_state)
        loss = None if labels is None else token_loss(logits, labels)
        return self.make_output(MaskedLMOutput, outputs, return_dict, loss=loss, logits=logits)


class RobertaForSequenceClassification(RobertaPreTrainedModel):
    """Labels of a whole sequence: classes, several at once, or numbers (`config.problem_type`)."""

    head = "ForSequenceClassification"
    encoder_class = RobertaModel

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config)
        self.roberta = self.encoder_class(self.config, add_pooling_layer=False)
        self.classifier = ClassificationHead(self.config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutput | tuple[Any, ...]:
        """Logits (batch, num_labels); `labels` as in `losses.classification_loss`."""
        outputs = self.roberta(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states, return_dict=True,
        )  # fmt: skip
        logits = self.classifier(outputs.last_hidden_state)
        loss = None if labels is None else classification_loss(logits, labels, self.config)
        return self.make_output(SequenceClassifierOutput, outputs, return_dict, loss=loss, logits=logits)


class RobertaForMultipleChoice(RobertaPreTrainedModel):
    """One score for each choice; each choice is a sequence of its own."""

    head = "ForMultipleChoice"
    encoder_class = RobertaModel

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config)
        self.roberta = self.encoder_class(self.config)
        self.dropout = nn.Dropout(self.config.hidden_dropout_prob)
        self.classifier = nn.Linear(self.config.hidden_size, 1)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> MultipleChoiceModelOutput | tuple[Any, ...]:
        """Logits (batch, choices) from inputs (batch, choices, seq); `labels`: int, (batch,)."""
        given: Any = inputs_embeds if input_ids is None else input_ids
        if given is not None and given.dim() != (4 if input_ids is None else 3):
            raise ValueError(f"multiple choice takes (batch, choices, seq), not the shape {tuple(given.shape)}")

        def rows(values: Tensor | None) -> Tensor | None:
            return None if values is None else values.flatten(0, 1)  # (batch * choices, seq, ...)

        outputs = self.roberta(
            rows(input_ids), rows(attention_mask), rows(token_type_ids), rows(position_ids), head_mask,
            rows(inputs_embeds),
            output_attentions=output_attentions, output_hidden_states=output_hidden_states, return_dict=True,
        )  # fmt: skip
        logits = self.classifier(self.dropout(outputs.pooler_output)).reshape(given.shape[:2])
        loss = None if labels is None else token_loss(logits, labels)
        return self.make_output(MultipleChoiceModelOutput, outputs, return_dict, loss=loss, logits=logits)


class RobertaForTokenClassification(RobertaPreTrainedModel):
    """A label of every token."""

    head = "ForTokenClassification"
    encoder_class = RobertaModel

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config)
        self.roberta = self.encoder_class(self.config, add_pooling_layer=False)
        self.dropout = nn.Dropout(self.config.head_dropout)
        self.classifier = nn.Linear(self.config.hidden_size, self.config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> TokenClassifierOutput | tuple[Any, ...]:
        """Logits (batch, seq, num_labels); `labels`: int, (batch, seq), -100 where there is none."""
        outputs = self.roberta(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states, return_dict=True,
        )  # fmt: skip
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        loss = None if labels is None else token_loss(logits, labels)
        return self.make_output(TokenClassifierOutput, outputs, return_dict, loss=loss, logits=logits)


class RobertaForQuestionAnswering(RobertaPreTrainedModel):
    """Scores of every token to be the first and the last of the answer."""

    head = "ForQuestionAnswering"
    encoder_class = RobertaModel

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config)
        self.roberta = self.encoder_class(self.config, add_pooling_layer=False)
        self.qa_outputs = nn.Linear(self.config.hidden_size, self.config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> QuestionAnsweringModelOutput | tuple[Any, ...]:
        """Two logits (batch, seq); the positions: int, (batch,), both or none (`losses.span_loss`)."""
        outputs = self.roberta(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions=output_attentions, output_hidden_states=output_hidden_states, return_dict=True,
        )  # fmt: skip
        start, end = self.qa_outputs(outputs.last_hidden_state).unbind(dim=-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = span_loss(start, end, start_positions, end_positions)
        return self.make_output(
            QuestionAnsweringModelOutput, outputs, return_dict, loss=loss, start_logits=start, end_logits=end
        )
