"""The fast forward pass: only real tokens go through the layers, and the last one only where its result is used.

On the CPU rows of one length share a call of attention, so nothing is padded and no mask is needed; on other devices,
where many small kernels cost more than they save, see `packed`. Matrices are laid out for the CPU's matrix library once,
on the first call. The numbers are those of `forward`, to rounding.
"""

import math
import operator
from collections.abc import Callable, Mapping
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roberta.common.inference import dispatch, unpadding
from roberta.common.inference.dispatch import FastModels
from roberta.common.inference.heads import head_results
from roberta.common.inference.unpadding import Tokens
from roberta.common.values import Arrays
from roberta.pt import int8
from roberta.pt.devices import put
from roberta.pt.layers import ACTIVATION_FUNCTIONS, Attention, Embeddings, Layer
from roberta.pt.packed import PackedRows, failed_trial, is_cpu, lay_out, varlen_obstacle
from roberta.pt.parts import Parts, alteration, without_dropout
from roberta.pt.weights import to_numpy

if TYPE_CHECKING:
    from roberta.pt.pretrained import RobertaPreTrainedModel

GELU = ("gelu", "gelu_python")

MOST_FEW = 256  # tokens up to which oneDNN's layout is faster with AVX2: `python -m benchmarks kernels`


def rounded(count: int) -> int:
    """At most a 16th more than `count`, exact up to 32.

    oneDNN makes a program for each number of tokens that it meets, of 0.6 MB and for 2 ms, and keeps 1,024 of them.
    """
    step = max(1, 2 ** ((count - 1).bit_length() - 5)) if count else 1
    return -(-count // step) * step


def _filled(places: np.ndarray, size: int) -> np.ndarray:
    """`size` places, the last one again and again behind the others."""
    return places if len(places) in (0, size) else places[np.minimum(np.arange(size), len(places) - 1)]


class Scratch:
    """Memory for the widest results of a piece, one after another: fresh memory costs as much time as GELU does."""

    def __init__(self, tokens: int, width: int, like: Tensor) -> None:
        self.flat = like.new_empty(tokens * width)

    def take(self, tokens: int, width: int) -> Tensor:
        """(tokens, width), which holds until the next is taken."""
        return self.flat[: tokens * width].view(tokens, width)


_Lengths = list[tuple[int, int]] | PackedRows  # (rows, tokens of each), in the order of the tokens; or how they lie

# (tokens, inputs) and scratch memory, if there is some -> (tokens, outputs), there where the library can write there
Linear = Callable[..., Tensor]


def linear(weight: Tensor, bias: Tensor, dtype: str, *, gelu: bool = False) -> Linear:
    """A projection of (tokens, inputs) by a weight (outputs, inputs), laid out for this machine.

    oneDNN's own layout is taken where the CPU has AVX-512. With AVX2 alone it is faster for few tokens only, so the
    weight is laid out when they come a second time; for many tokens torch's library stays, with GELU by itself.

    Args:
        dtype: "int8" computes with weights and inputs of 8 bits, inputs scaled in every call.
        gelu: apply it (erf) to the result.
    """
    if dtype == "int8":
        project, has_gelu = int8.linear_int8(weight, bias, gelu)
        return with_gelu(project) if gelu and not has_gelu else project
    if weight.device.type == "cpu" and _prefers_onednn(weight.dtype):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
        after: tuple[str, list[object], str] = ("gelu", [], "none") if gelu else ("none", [], "")
        return lambda hidden, scratch=None: torch.ops.mkldnn._linear_pointwise(hidden, packed, bias, *after)
    plain: Linear = FewTokens(weight, bias) if _is_float_on_cpu(weight) else partial(_plain, weight=weight, bias=bias)
    return with_gelu(plain) if gelu else plain


def with_gelu(project: Linear) -> Linear:
    """A projection with GELU (erf) behind it."""
    return lambda hidden, scratch=None: torch.ops.aten.gelu_(project(hidden, scratch))


def _plain(hidden: Tensor, scratch: Scratch | None = None, *, weight: Tensor, bias: Tensor) -> Tensor:
    """By torch's own library."""
    result = None if scratch is None else scratch.take(len(hidden), len(weight))
    return torch.addmm(bias, hidden, weight.t(), out=result)


class FewTokens:
    """A projection that is repacked for small batches on the second small call, so that a single call costs no memory."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight, bias
        self.calls = 0  # with few tokens
        self.packed: Tensor | None = None

    def __call__(self, hidden: Tensor, scratch: Scratch | None = None) -> Tensor:
        """(tokens, outputs)."""
        is_few = 0 < len(hidden) <= MOST_FEW
        self.calls += is_few
        if self.packed is None and self.calls > 1:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.contiguous())
        if self.packed is None or not is_few:
            return _plain(hidden, scratch, weight=self.weight, bias=self.bias)
        return torch.ops.mkldnn._linear_pointwise(hidden, self.packed, self.bias, "none", [], "")


def _is_float_on_cpu(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()


def _prefers_onednn(dtype: torch.dtype) -> bool:
    if dtype == torch.bfloat16:
        return int8.has_avx512() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return int8.has_avx512() and dtype == torch.float32


class FastLayer:
    """One layer on real tokens, (tokens, hidden), with query, key and value in one projection."""

    def __init__(self, layer: Layer, dtype: str, causal: bool) -> None:
        attention: Attention = layer.attention
        parts = (attention.self.query, attention.self.key, attention.self.value)
        weight = torch.cat([part.weight for part in parts]).to(compute_dtype(dtype))
        bias = torch.cat([part.bias for part in parts]).to(compute_dtype(dtype))
        self.project = linear(weight, bias, dtype)
        self.width = max(len(weight), layer.intermediate.dense.out_features)
        self.head_size = attention.self.config.head_size
        self.causal = causal
        self.out = fast_dense(attention.output.dense, dtype)
        self.attention_norm = fast_norm(attention.output.LayerNorm, dtype)
        activation = layer.intermediate.activation
        self.up = fast_dense(layer.intermediate.dense, dtype, gelu=activation in GELU)
        self.activation = None if activation in GELU else ACTIVATION_FUNCTIONS[activation]
        self.down = fast_dense(layer.output.dense, dtype)
        self.output_norm = fast_norm(layer.output.LayerNorm, dtype)

    def __call__(self, hidden: Tensor, lengths: _Lengths, kept: Tensor | None, scratch: Scratch) -> Tensor:
        """Hidden states of all tokens, or of those `kept`: (kept, hidden)."""
        context = self.attend(self.project(hidden, scratch), lengths)
        if kept is not None:
            context, hidden = context[kept], hidden[kept]
        hidden = self.attention_norm(self.out(context).add_(hidden))
        wide = self.up(hidden, scratch)
        if self.activation is not None:
            wide = self.activation(wide)
        return self.output_norm(self.down(wide).add_(hidden))

    def attend(self, projected: Tensor, lengths: _Lengths) -> Tensor:
        """(tokens, 3 * head * head size) -> (tokens, head * head size), each row's tokens among themselves.

        Tokens behind those of `lengths` are the last one again.
        """
        if isinstance(lengths, PackedRows):
            query, key, value = projected.view(len(projected), 3, -1, self.head_size).unbind(1)
            return lengths.attend(query, key, value).flatten(1)
        contexts = []
        start = 0
        for rows, length in lengths:
            stop = start + rows * length
            block = projected[start:stop].view(rows, length, 3, -1, self.head_size)
            query, key, value = block.permute(2, 0, 3, 1, 4)  # (row, head, token, head size) each
            done = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
            contexts.append(done.transpose(1, 2).reshape(rows * length, -1))  # no copy: it lies so already
            start = stop
        if start < len(projected):  # the last token again, as in `projected`
            contexts.append(contexts[-1][-1:].expand(len(projected) - start, -1))
        return contexts[0] if len(contexts) == 1 else torch.cat(contexts)


def compute_dtype(dtype: str) -> torch.dtype:
    """What activations are in: int8 is for projections alone."""
    return torch.float32 if dtype == "int8" else getattr(torch, dtype)


def fast_dense(module: nn.Linear, dtype: str, *, gelu: bool = False) -> Linear:
    """The projection of a layer's module."""
    kind = compute_dtype(dtype)
    return linear(module.weight.detach().to(kind), module.bias.detach().to(kind), dtype, gelu=gelu)


def fast_norm(module: nn.LayerNorm, dtype: str) -> Callable[[Tensor], Tensor]:
    """The norm of a module."""
    kind = compute_dtype(dtype)
    weight, bias = module.weight.detach().to(kind), module.bias.detach().to(kind)
    return lambda hidden: F.layer_norm(hidden, module.normalized_shape, weight, bias, module.eps)


class FastModel:
    """A model's weights laid out for one dtype."""

    def __init__(self, model: "RobertaPreTrainedModel", dtype: str) -> None:
        base = model.base_model
        self.embeddings: Embeddings = base.embeddings
        self.kind = compute_dtype(dtype)
        self.embedding_norm = fast_norm(self.embeddings.LayerNorm, dtype)
        self.layers = [FastLayer(cast(Layer, one), dtype, base.config.is_decoder) for one in base.encoder.layer]
        self.width = max((layer.width for layer in self.layers), default=0)
        self.lengths = lengths_of(model, self.kind)
        self.most_rounded = most_rounded(model, dtype)
        head: Any = model.head
        self.head = head_results(head, HeadKernels(model, dtype), getattr(model, "pooler", None) is not None)

    def __call__(self, tokens: Tokens) -> Arrays:
        """The results of one piece, as `unpadding.run_batch` asks for them."""
        with torch.inference_mode():
            results = self.head(self.encode(tokens), tokens)
            return {name: to_numpy(_as_float(values)) for name, values in results.items()}

    def encode(self, tokens: Tokens) -> Tensor:
        """Last hidden states of `tokens.kept`: (kept, hidden)."""
        hidden = self.embed(tokens)
        if not self.layers:
            return hidden[put(tokens.kept, hidden.device)]
        lengths = self.lengths(tokens.lengths)
        scratch = Scratch(len(hidden), self.width, hidden)
        for layer in self.layers[:-1]:
            hidden = layer(hidden, lengths, None, scratch)
        kept = None
        if len(tokens.kept) < len(tokens.ids):
            kept = put(self.rounded(tokens.kept), hidden.device)
        return self.layers[-1](hidden, lengths, kept, scratch)[: len(tokens.kept)]

    def embed(self, tokens: Tokens) -> Tensor:
        """The embeddings of all tokens, and of the last one again up to a rounded number: (tokens, hidden)."""
        embeddings = self.embeddings
        device = embeddings.LayerNorm.weight.device
        ids, positions, types = (
            put(self.rounded(array), device) for array in (tokens.ids, tokens.positions, tokens.types)
        )
        hidden = (
            F.embedding(ids, embeddings.word_embeddings.weight)
            + F.embedding(types, embeddings.token_type_embeddings.weight)
            + F.embedding(positions, embeddings.position_embeddings.weight)
        )
        return self.embedding_norm(hidden.to(self.kind))

    def rounded(self, places: np.ndarray) -> np.ndarray:
        """Places of tokens, the last one repeated, for as many as the library has programs for."""
        return _filled(places, rounded(len(places))) if len(places) <= self.most_rounded else places


def lengths_of(model: "RobertaPreTrainedModel", kind: torch.dtype) -> Callable[[np.ndarray], _Lengths]:
    """What tells a model's attention the rows of a piece, from their lengths."""
    device, size, causal = model.device, model.config.head_size, model.config.is_decoder
    if is_cpu(device) or failed_trial(device, kind, size, causal, False):
        return lambda lengths: [(len(list(same)), length) for length, same in groupby(lengths.tolist())]
    is_varlen = not varlen_obstacle(device, kind, size, causal=causal)
    return partial(lay_out, device=device, causal=causal, is_varlen=is_varlen)


def most_rounded(model: "RobertaPreTrainedModel", dtype: str) -> float:
    """Up to how many tokens oneDNN computes with a program for each number of them; 0 where other libraries do."""
    if model.device.type != "cpu":
        return 0
    if dtype == "int8":
        return math.inf if int8.runs_on_onednn() else 0
    if _prefers_onednn(compute_dtype(dtype)):
        return math.inf
    return MOST_FEW if dtype == "float32" and torch.backends.mkldnn.is_available() else 0


class HeadKernels:
    """The parts of a model's head: the language head in the dtype of the layers, the small ones in the model's own."""

    rows: Callable[[Any, Any], Any] = staticmethod(operator.getitem)
    tanh: Callable[[Any], Any] = staticmethod(torch.tanh)

    def __init__(self, model: "RobertaPreTrainedModel", dtype: str) -> None:
        self.model, self.dtype = model, dtype

    def dense(self, path: str) -> Callable[[Tensor], Tensor]:
        """A projection by its path."""
        module = self.model.get_submodule(path)
        assert isinstance(module, nn.Linear)
        return lambda hidden: module(hidden.to(module.weight.dtype))

    def language(self) -> Callable[[Tensor, np.ndarray], Tensor]:
        """States and the places of tokens -> logits."""
        head: Any = self.model.lm_head
        transform = fast_dense(head.dense, self.dtype, gelu=True)
        normalise = fast_norm(head.layer_norm, self.dtype)
        decode = fast_dense(head.decoder, self.dtype)
        limit = most_rounded(self.model, self.dtype)

        def logits(hidden: Tensor, asked: np.ndarray) -> Tensor:
            count = len(asked)
            hidden = hidden[_filled(asked, rounded(count)) if count <= limit else asked]
            return decode(normalise(transform(hidden)))[:count]

        return logits


_models = FastModels(Parts, alteration)


def infer(  # noqa: D103 - described in PretrainedBase
    model: "RobertaPreTrainedModel",
    batch: Mapping[str, np.ndarray],
    *,
    where: np.ndarray | None = None,
    dtype: str | None = None,
    batch_tokens: int = 1024,
) -> Arrays:
    own = str(model.dtype).removeprefix("torch.")
    chosen = dispatch.chosen_dtype(dtype, own, ("float32", "bfloat16", "int8"))
    if chosen == "int8" and model.device.type != "cpu":
        raise ValueError(f"dtype='int8' runs on a CPU, and the model is on {model.device}; take 'bfloat16' there")
    altered = _models.check(model)

    def made() -> FastModel:
        with torch.inference_mode():
            return FastModel(model, chosen)

    return dispatch.run_fast_or_plain(
        model, batch,
        where=where, batch_tokens=batch_tokens, dtypes=(chosen, own), altered=altered,
        has_pooler=getattr(model, "pooler", model) is not None, fast=lambda: _models.laid_out(model, chosen, made),
        plain=lambda piece: run_plain(model, piece),
    )  # fmt: skip


def release(model: "RobertaPreTrainedModel") -> None:
    """Free the memory that `infer` prepared; its next call makes it again."""
    _models.release(model)


def run_plain(model: "RobertaPreTrainedModel", piece: Arrays) -> Arrays:
    """The forward pass in eval mode, as numpy what `infer` returns of it."""
    inputs = {name: put(array, model.device) for name, array in piece.items()}
    with torch.no_grad(), without_dropout(model):  # inference mode would spoil what a caller's hooks keep
        output = model(**inputs, return_dict=True)
    head: Any = model.head
    found = unpadding.results(output, head)
    return {name: to_numpy(_as_float(value)) for name, value in found.items()}


def _as_float(values: Tensor) -> Tensor:
    """As numpy has it: numbers of 16 bits as float32."""
    return values.float() if values.element_size() == 2 else values
