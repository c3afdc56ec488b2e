"""Projections in 8 bits, for `infer(dtype="int8")` on a CPU: weights once, inputs in every call."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor


def linear_int8(weight: Tensor, bias: Tensor, gelu: bool) -> tuple[Callable[..., Tensor], bool]:
    """A projection by a weight (outputs, inputs), and whether GELU, where `gelu` asks for it, is applied in it.

    Weights are in 8 bits with one scale for each output, inputs in 8 with one for each call. The library is oneDNN where
    the CPU multiplies 8 bits (VNNI), and else FBGEMM, which is faster there; PyTorch means to take FBGEMM's tensors out
    one day, and then oneDNN is left.
    """
    if runs_on_onednn():
        return _onednn(weight, bias, gelu)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor, torch.quantize_per_channel", UserWarning)
        zeros = torch.zeros(len(weight), dtype=torch.long)
        codes = torch.quantize_per_channel(weight, _scale(weight).double(), zeros, 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(codes, bias)

    def project(hidden: Tensor, scratch: object = None) -> Tensor:
        # inputs in 7 bits: else pairs of products overflow the 16 bits of their sum
        return torch.ops.quantized.linear_dynamic(hidden, packed, True)

    return project, False


def runs_on_onednn() -> bool:
    """Whether 8 bits are multiplied by oneDNN."""
    return torch.cpu._is_vnni_supported() or not hasattr(torch, "quantize_per_channel")


def has_avx512() -> bool:
    """Whether torch uses AVX-512 here."""
    return "AVX512" in torch.backends.cpu.get_cpu_capability()


def _scale(weight: Tensor) -> Tensor:
    return weight.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / 127


def _onednn(weight: Tensor, bias: Tensor, gelu: bool) -> tuple[Callable[..., Tensor], bool]:
    scale = _scale(weight)
    packed = torch.ops.onednn.qlinear_prepack((weight / scale.unsqueeze(1)).round().to(torch.int8), None)
    zeros = torch.zeros(len(weight), dtype=torch.long)
    levels = 255 if torch.cpu._is_vnni_supported() else 127  # else pairs of products overflow the 16 bits of their sum
    fused = gelu and has_avx512()
    after: tuple[str, list[object], str] = ("gelu", [], "none") if fused else ("none", [], "")

    def project(hidden: Tensor, scratch: object = None) -> Tensor:
        if not len(hidden):
            return hidden.new_empty(0, len(weight))
        low, high = (float(value) for value in hidden.aminmax())
        low, high = min(low, 0.0), max(high, 0.0)  # so that 0 stays 0
        step = max((high - low) / levels, torch.finfo(torch.float32).tiny)
        zero = round(-low / step)
        codes = (hidden / step).add_(zero).round_().clamp_(0, levels).to(torch.uint8)
        return torch.ops.onednn.qlinear_pointwise(
            codes, step, zero, packed, scale, zeros, bias, 1.0, 0, torch.float32, *after
        )

    return project, fused
