"""The layers of RoBERTa, from token ids to hidden states, and the heads' own blocks.

Attribute names are those of the checkpoint (`self.self`, `self.LayerNorm`), so `state_dict` has the canonical names.
Shapes: batch, seq (the tokens of this call), key (the cached tokens and these), head, hidden.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from roberta.common import padding_warning
from roberta.common.config import RobertaConfig
from roberta.common.length_errors import distance_error, mask_error, way_out_of_length
from roberta.pt.cache import Cache, LayerCache, extend
from roberta.pt.packed import PackedRows
from roberta.pt.weights import drop_repeated, restore_repeated

ACTIVATION_FUNCTIONS = {
    "gelu": F.gelu,  # erf, not tanh: fairseq trained with the exact GELU
    "gelu_python": F.gelu,
    "gelu_10": lambda x: F.gelu(x).clip(-10, 10),
    **dict.fromkeys(
        ("gelu_new", "gelu_accurate", "gelu_fast", "gelu_python_tanh", "gelu_pytorch_tanh"),
        lambda x: F.gelu(x, approximate="tanh"),
    ),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "laplace": lambda x: 0.5 * (1 + torch.erf((x - 0.707107) / (0.282095 * math.sqrt(2)))),
    "leaky_relu": F.leaky_relu,
    "linear": lambda x: x,
    "mish": F.mish,
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
}


def is_traced() -> bool:
    """Whether values are unknown now (compile, export, trace), so that a check of values cannot be made."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]


def has_values(tensor: Tensor) -> bool:
    """Whether a check can look at the values of a tensor now: not in traced code, nor inside `torch.func.vmap`."""
    if is_traced() or tensor.is_meta or torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return False
    return type(tensor) in (Tensor, nn.Parameter)  # not of fake tensors, for one


def check_range(name: str, values: Tensor, limit: int, way_out: str) -> None:
    """Raise `ValueError` unless all `values` are from 0 to `limit - 1`; in traced code the kernel's own check stays."""
    if values.numel() == 0 or not has_values(values):
        return
    low, high = (int(value) for value in values.aminmax())
    if low < 0 or high >= limit:
        raise ValueError(f"{name} holds {low if low < 0 else high}, allowed are 0 to {limit - 1}; {way_out}")


def warn_of_padding(input_ids: Tensor, config: RobertaConfig) -> None:
    """Warn, once per process, where the rows of ids (batch, seq) that come without a mask seem to be padded.

    Only their first and last tokens are looked at; of a decoder's the first, as none attends to what follows it.
    """
    if padding_warning.was_said() or not has_values(input_ids):
        return
    ends = input_ids[:, :1] if config.is_decoder else input_ids[:, :: max(1, input_ids.shape[1] - 1)]
    if bool((ends == config.pad_token_id).any()):
        padding_warning.say(config.pad_token_id)


def position_ids(input_ids: Tensor, pad_token_id: int, past_tokens: Tensor | int = 0) -> Tensor:
    """Number the tokens of each row from `pad_token_id + 1`; padding keeps `pad_token_id`.

    Args:
        input_ids: int, (batch, seq).
        past_tokens: tokens of the row that the cache holds already, (batch, 1) or one number.

    Returns:
        int, (batch, seq). Example, pad 1: [[0, 5, 2, 1]] -> [[2, 3, 4, 1]].

    Source: fairseq `make_positions`; the offset is why the table has 514 rows for 512 tokens.
    """
    is_token = (input_ids != pad_token_id).long()
    return (is_token.cumsum(dim=1) + past_tokens) * is_token + pad_token_id


def create_position_ids_from_input_ids(
    input_ids: Tensor, padding_idx: int, past_key_values_length: Tensor | int = 0
) -> Tensor:
    """`position_ids` under the name and arguments that transformers has for it."""
    return position_ids(input_ids, padding_idx, past_key_values_length)


def attention_bias(mask: Tensor | None, queries: int, keys: int, causal: bool, like: Tensor) -> Tensor | None:
    """The term added to attention scores: 0 to attend, a very negative number not to; None when all attend to all.

    Args:
        mask: 1 to attend, 0 not to; (batch, key), (batch, seq, key) or (batch, 1 or head, seq, key). The last two
            say everything: no causal mask is added to them.
        like: floating, of the dtype and device wanted.

    Returns:
        float, broadcasts to (batch, head, seq, key). A token that may attend to nothing attends to all: fused kernels
        have a wrong gradient where every score is hugely negative.
    """
    if mask is not None:
        if mask.dim() not in (2, 3, 4) or mask.shape[-1] != keys or (mask.dim() > 2 and mask.shape[-2] != queries):
            raise mask_error(tuple(mask.shape), queries, keys)
        causal = causal and mask.dim() == 2
        if mask.dim() < 4:  # by reshape: indexing with None breaks exporters
            mask = mask.reshape(mask.shape[0], 1, 1 if mask.dim() == 2 else queries, keys)
        mask = mask.to(like)
    if causal:
        key_index = torch.arange(keys, device=like.device)
        seen = (key_index <= key_index[keys - queries :].reshape(-1, 1)).to(like)  # (seq, key)
        mask = seen if mask is None else mask * seen
    if mask is None:
        return None
    has_key = mask.amax(dim=-1, keepdim=True) > 0
    # half of the lowest number: scores cannot push it over
    return (1 - mask) * (torch.finfo(like.dtype).min / 2) * has_key


class Embeddings(nn.Module):
    """Sum of word, token type and, unless distances stand for them, position embeddings, normalised."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.config = config
        hidden, pad = config.hidden_size, config.pad_token_id
        self.padding_idx = pad
        self.word_embeddings = nn.Embedding(config.vocab_size, hidden, padding_idx=pad)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, hidden, padding_idx=pad)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values_length: Tensor | int = 0,
    ) -> Tensor:
        """Embed ids, or take `inputs_embeds` (batch, seq, hidden) for the word part. Result: (batch, seq, hidden)."""
        config, positions, past_tokens = self.config, position_ids, past_key_values_length
        if inputs_embeds is None:
            assert input_ids is not None
            rows = getattr(self.word_embeddings, "num_embeddings", config.vocab_size)  # an adapter may stand in for it
            check_range("input_ids", input_ids, rows, "is the tokenizer this model's?")
            if positions is None:
                positions = create_position_ids_from_input_ids(input_ids, config.pad_token_id, past_tokens)
            inputs_embeds = self.word_embeddings(input_ids)
        batch, seq, _ = inputs_embeds.shape
        if positions is None:  # no ids, so nothing is known to be padding
            steps = torch.arange(seq, device=inputs_embeds.device).reshape(1, seq)
            positions = steps + past_tokens + config.pad_token_id + 1
        if token_type_ids is None:
            token_type_ids = torch.zeros((batch, seq), dtype=torch.long, device=inputs_embeds.device)
        check_range("token_type_ids", token_type_ids, config.type_vocab_size, "most RoBERTa models know type 0 only")
        hidden = inputs_embeds + self.token_type_embeddings(token_type_ids)
        if not config.has_distances:
            check_range("position_ids", positions, config.max_position_embeddings, way_out_of_length(config))
            hidden = hidden + self.position_embeddings(positions)
        return self.dropout(self.LayerNorm(hidden))

    def create_position_ids_from_inputs_embeds(self, inputs_embeds: Tensor) -> Tensor:
        """The positions of (batch, seq, hidden), of which nothing is known to be padding: int, (batch, seq)."""
        batch, seq, _ = inputs_embeds.shape
        first = self.config.pad_token_id + 1
        return torch.arange(first, first + seq, device=inputs_embeds.device).expand(batch, seq)


class SelfAttention(nn.Module):
    """Multi-head attention of the tokens to themselves and the cache, or to an encoder's states."""

    def __init__(self, config: RobertaConfig, heads: int | None = None, has_distances: bool | None = None) -> None:
        super().__init__()
        self.config = config
        heads = config.num_attention_heads if heads is None else heads
        has_distances = config.has_distances if has_distances is None else has_distances
        self.query, self.key, self.value = (nn.Linear(config.hidden_size, heads * config.head_size) for _ in range(3))
        self.distance_embedding = None
        if has_distances:
            self.distance_embedding = nn.Embedding(2 * config.max_position_embeddings - 1, config.head_size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def forward(
        self,
        hidden: Tensor,
        bias: Tensor | PackedRows | None = None,
        head_mask: Tensor | None = None,
        states: Tensor | None = None,
        past: LayerCache | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None, LayerCache]:
        """Attend; the context comes before the output projection.

        Args:
            hidden: (batch, seq, hidden).
            bias: see `attention_bias`; or how the rows lie end to end, in a batch of one, without the arguments below.
            head_mask: float, broadcasts to (batch, head, seq, key); multiplies the attention weights.
            states: the encoder's, (batch, key, hidden): cross-attention; None for self-attention.
            past: cached (key, value) of this attention.

        Returns:
            (batch, seq, head * head size); weights (batch, head, seq, key) after dropout and head mask, if needed;
            and the (key, value) to cache.
        """
        query = self.split(self.query(hidden))
        if states is not None and past is not None:
            key, value = past
        else:
            source = hidden if states is None else states
            key, value = extend(past, self.split(self.key(source)), self.split(self.value(source)))
        if isinstance(bias, PackedRows):
            return self.attend_packed(query, key, value, bias), None, (key, value)
        if self.distance_embedding is not None:
            distances = self.distance_scores(query, key) / math.sqrt(query.shape[-1])
            bias = distances if bias is None else distances + bias
        weights = None
        if need_weights or head_mask is not None or self.config.attn_implementation == "eager":
            scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])  # (batch, head, seq, key)
            weights = self.dropout((scores if bias is None else scores + bias).softmax(dim=-1))
            weights = weights if head_mask is None else weights * head_mask
            context = weights @ value
        else:
            dropout = self.dropout.p if self.training else 0.0
            context = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
        return context.transpose(1, 2).flatten(2), weights, (key, value)  # (batch, seq, head * head size)

    def attend_packed(self, query: Tensor, key: Tensor, value: Tensor, rows: PackedRows) -> Tensor:
        """The context of rows that lie end to end, (1, tokens, head * head size); queries are (1, head, tokens, ...)."""
        parts = [part.squeeze(0).transpose(0, 1) for part in (query, key, value)]  # (tokens, head, head size)
        context = rows.attend(parts[0], parts[1], parts[2], self.dropout.p if self.training else 0.0)
        return context.flatten(1).unsqueeze(0)

    def split(self, projected: Tensor) -> Tensor:
        """(batch, seq, head * head size) -> (batch, head, seq, head size)."""
        return projected.unflatten(-1, (-1, self.config.head_size)).transpose(1, 2)

    def distance_scores(self, query: Tensor, key: Tensor) -> Tensor:
        """Scores of the signed distance between query and key token, (batch, head, seq, key).

        Source: Shaw et al. 2018 (relative_key), Huang et al. 2020, method 4 (relative_key_query).
        """
        limit = self.config.max_position_embeddings
        if key.shape[2] > limit:
            raise distance_error(key.shape[2], self.config)
        assert self.distance_embedding is not None
        index = torch.arange(key.shape[2], device=key.device)
        distance = index[key.shape[2] - query.shape[2] :].reshape(-1, 1) - index  # (seq, key)
        table = self.distance_embedding(distance + limit - 1)  # (seq, key, head size)
        scores = torch.einsum("bhqd,qkd->bhqk", query, table)
        if self.config.position_embedding_type == "relative_key_query":
            scores = scores + torch.einsum("bhkd,qkd->bhqk", key, table)
        return scores


class ResidualOutput(nn.Module):
    """Projection, dropout, and the norm of its sum with the residual: the end of both sub-layers (post-norm)."""

    def __init__(self, config: RobertaConfig, inputs: int | None = None) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size if inputs is None else inputs, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        """`hidden`: (batch, seq, inputs); `residual` and the result: (batch, seq, hidden)."""
        return self.LayerNorm(self.dropout(self.dense(hidden)) + residual)


class Attention(nn.Module):
    """Attention with its output projection and norm."""

    def __init__(self, config: RobertaConfig, heads: int | None = None, has_distances: bool | None = None) -> None:
        super().__init__()
        heads = config.num_attention_heads if heads is None else heads
        self.self = SelfAttention(config, heads, has_distances)
        self.output = ResidualOutput(config, heads * config.head_size)

    def forward(
        self,
        hidden: Tensor,
        bias: Tensor | PackedRows | None = None,
        head_mask: Tensor | None = None,
        states: Tensor | None = None,
        past: LayerCache | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None, LayerCache]:
        """As `SelfAttention`, with (batch, seq, hidden) as the first result."""
        context, weights, present = self.self(hidden, bias, head_mask, states, past, need_weights)
        return self.output(context, hidden), weights, present


class Intermediate(nn.Module):
    """The wide half of the feed-forward block."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = config.hidden_act  # its name: a function may not be picklable

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, seq, hidden) -> (batch, seq, intermediate)."""
        return ACTIVATION_FUNCTIONS[self.activation](self.dense(hidden))


class Layer(nn.Module):
    """Self-attention, cross-attention in a decoder that has it, and feed-forward."""

    def __init__(self, config: RobertaConfig, index: int = 0) -> None:
        super().__init__()
        self.chunk = config.chunk_size_feed_forward
        self.attention = Attention(config, config.heads_kept(index), config.has_distances)
        self.crossattention = None
        if config.add_cross_attention:  # which knows no distances
            self.crossattention = Attention(config, config.num_attention_heads, has_distances=False)
        self.intermediate = Intermediate(config)
        self.output = ResidualOutput(config, config.intermediate_size)

    def forward(
        self,
        hidden: Tensor,
        bias: Tensor | PackedRows | None = None,
        head_mask: Tensor | None = None,
        states: Tensor | None = None,
        states_bias: Tensor | None = None,
        past: LayerCache | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor | None, LayerCache]:
        """One layer: (batch, seq, hidden), attention weights, cross-attention weights, and what to cache.

        Args:
            states: the encoder's, for cross-attention; `states_bias` is their `attention_bias`.
        """
        hidden, weights, present = self.attention(
            hidden, bias, head_mask, None, None if past is None else past[:2], need_weights
        )
        cross_weights = None
        if states is not None:
            assert self.crossattention is not None
            cross_past = past[2:] if past is not None and len(past) == 4 else None
            hidden, cross_weights, cross_present = self.crossattention(
                hidden, states_bias, head_mask, states, cross_past, need_weights
            )
            present = present + cross_present
        if self.chunk:
            parts = hidden.split(self.chunk, dim=1)
            return (
                torch.cat([self.feed_forward(part) for part in parts], dim=1),
                weights,
                cross_weights,
                present,
            )
        return self.feed_forward(hidden), weights, cross_weights, present

    def feed_forward(self, hidden: Tensor) -> Tensor:
        """(batch, seq, hidden), each token by itself."""
        return self.output(self.intermediate(hidden), hidden)


class Encoder(nn.Module):
    """The stack of layers."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config, index) for index in range(config.num_hidden_layers))
        self.gradient_checkpointing = False
        self.checkpoint_every = 1
        self.checkpoint_function: Callable[..., Any] = partial(checkpoint, use_reentrant=False)

    def forward(
        self,
        hidden: Tensor,
        bias: Tensor | PackedRows | None,
        head_mask: list[Tensor | None],
        states: Tensor | None,
        states_bias: Tensor | None,
        cache: Cache | None,
        need_weights: bool,
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], tuple[LayerCache, ...]]:
        """Run the layers.

        Args:
            head_mask: one for each layer.

        Returns:
            all hidden states, the input first; attention weights; cross-attention weights; what to cache of each layer.
        """
        hidden_states, attentions, cross_attentions, presents = [hidden], [], [], []
        for index, layer in enumerate(self.layer):
            past = None if cache is None else cache[index]
            arguments = (hidden, bias, head_mask[index], states, states_bias, past, need_weights)
            if self.gradient_checkpointing and self.training and index % self.checkpoint_every == 0:
                hidden, weights, cross_weights, present = self.checkpoint_function(layer, *arguments)
            else:
                hidden, weights, cross_weights, present = layer(*arguments)
            hidden_states.append(hidden)
            attentions.append(weights)
            cross_attentions.append(cross_weights)
            presents.append(present)
        return hidden_states, attentions, cross_attentions, tuple(presents)


class Pooler(nn.Module):
    """The first token's state, projected and squashed."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, seq, hidden) -> (batch, hidden)."""
        return torch.tanh(self.dense(hidden[:, 0]))


class LMHead(nn.Module):
    """Scores of every vocabulary entry; the matrix is the word embedding's unless the config unties it."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.bias = self.decoder.bias
        self.is_tied = config.tie_word_embeddings
        self.register_state_dict_post_hook(drop_repeated)
        self.register_load_state_dict_pre_hook(restore_repeated)

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, seq, hidden) -> (batch, seq, vocab)."""
        return self.decoder(self.layer_norm(F.gelu(self.dense(hidden))))  # erf GELU, whatever hidden_act says


class ClassificationHead(nn.Module):
    """Labels from the first token's state, with a hidden layer."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.head_dropout)
        self.out_proj = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, seq, hidden) -> (batch, labels)."""
        first = self.dropout(hidden[:, 0])
        return self.out_proj(self.dropout(torch.tanh(self.dense(first))))


# What transformers calls them: people import these names, and tools look for them (FSDP's classes to wrap,
# `_no_split_modules`, a printed model).
RobertaEmbeddings, RobertaSelfAttention, RobertaSdpaSelfAttention = Embeddings, SelfAttention, SelfAttention
RobertaAttention, RobertaIntermediate, RobertaLayer, RobertaEncoder = Attention, Intermediate, Layer, Encoder
RobertaPooler, RobertaLMHead, RobertaClassificationHead = Pooler, LMHead, ClassificationHead
RobertaSelfOutput = RobertaOutput = ResidualOutput  # the second takes config.intermediate_size too
for _kind in (Embeddings, SelfAttention, Attention, Intermediate, Layer, Encoder, Pooler, LMHead, ClassificationHead):
    _kind.__name__ = _kind.__qualname__ = f"Roberta{_kind.__name__}"
