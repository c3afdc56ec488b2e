"""Self-attention of tokens that lie end to end, row after row, without padding between them.

Two ways give the same numbers. PyTorch's kernel for rows of different lengths (`torch.nn.attention.varlen`) takes the
tokens as they lie, on some GPUs and in 16 bits; `varlen_obstacle` says where it does not apply, and why. Everywhere else
rows of similar lengths are padded to the longest of them, for attention alone. Each way is tried out once, on a few
tokens, before a device is trusted with it.
"""

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from roberta.common.inference.batching import BUCKET_MULTIPLE, buckets
from roberta.pt.devices import put

_log = logging.getLogger("roberta")
MOST_BUCKETS = 4  # each costs some kernels a layer, and what they would save is a part of attention alone
PACKS_ALL = False  # tests have all tokens packed on the CPU too
LARGEST_HEAD = 192  # beyond it, not every GPU has the kernel's backward pass
_TRIED, _TRIED_KEYS = np.array([9, 4, 4, 1]), np.array([8, 4, 3, 1])  # tokens of rows, and those attended to
# Of what is tried out, as a part of the largest number.
_BOUNDS = {torch.bfloat16: 0.1, torch.float16: 0.02, torch.float32: 1e-3, torch.float64: 1e-9}


@dataclass(frozen=True)
class PackedRows:
    """How the tokens of several rows lie end to end, (tokens, ...).

    Attributes:
        causal: whether a token attends only to itself and those before it in its row.
    """

    causal: bool

    def attend(self, query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> Tensor:
        """The context of each token, from the tokens of its row; all are (tokens, head, head size)."""
        raise NotImplementedError


class Bucket(NamedTuple):
    """Rows of similar lengths, whose tokens follow one another.

    Attributes:
        is_key: bool, (rows, longest): the places that are attended to.
        places: int64, (tokens,): where the tokens are among the rows * longest places; None where they fill all.
    """

    is_key: Tensor
    places: Tensor | None

    def tokens(self) -> int:
        """Tokens of these rows."""
        return self.is_key.numel() if self.places is None else len(self.places)


@dataclass(frozen=True)
class BucketedRows(PackedRows):
    """Rows that are padded in buckets."""

    buckets: tuple[Bucket, ...]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> Tensor:
        """As `PackedRows.attend`, by PyTorch's `scaled_dot_product_attention`."""
        if len(self.buckets) == 1:
            return self._attend(self.buckets[0], query, key, value, dropout)
        counts = [bucket.tokens() for bucket in self.buckets]
        parts = zip(self.buckets, query.split(counts), key.split(counts), value.split(counts), strict=True)
        return torch.cat([self._attend(bucket, q, k, v, dropout) for bucket, q, k, v in parts])

    def _attend(self, bucket: Bucket, query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
        rows, longest = bucket.is_key.shape

        def padded(tokens: Tensor) -> Tensor:
            """(tokens, head, head size) -> (rows, head, longest, head size)."""
            if bucket.places is not None:
                grid = tokens.new_zeros(rows * longest, *tokens.shape[1:])
                tokens = grid.index_copy(0, bucket.places, tokens)
            return tokens.unflatten(0, (rows, longest)).transpose(1, 2)

        # what pads a row comes after its tokens, so that a causal mask hides it already
        has_mask = bucket.places is not None and not self.causal
        context = F.scaled_dot_product_attention(
            padded(query), padded(key), padded(value),
            attn_mask=bucket.is_key[:, None, None] if has_mask else None, dropout_p=dropout, is_causal=self.causal,
        )  # fmt: skip
        flat = context.transpose(1, 2).flatten(0, 1)  # (rows * longest, head, head size)
        return flat if bucket.places is None else flat.index_select(0, bucket.places)


@dataclass(frozen=True)
class VarlenRows(PackedRows):
    """Rows for PyTorch's kernel.

    Attributes:
        kernel: it, causal where that is asked for.
        query_starts, key_starts: int32, (rows + 1,): where rows start among all tokens, and among those attended to.
        longest_query, longest_key: of a row.
        keys: int64: the tokens that are attended to; None for all.
    """

    kernel: Callable[..., Any]
    query_starts: Tensor
    key_starts: Tensor
    longest_query: int
    longest_key: int
    keys: Tensor | None

    def attend(self, query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> Tensor:
        """As `PackedRows.attend`, without dropout."""
        assert not dropout
        if self.keys is not None:
            key, value = key.index_select(0, self.keys), value.index_select(0, self.keys)
        starts, longest = (self.query_starts, self.key_starts), (self.longest_query, self.longest_key)
        context: Tensor = self.kernel(query, key, value, *starts, *longest)
        return context


def is_cpu(device: torch.device) -> bool:
    """Whether a device is the CPU, which has other ways of its own."""
    return device.type == "cpu" and not PACKS_ALL


def lay_out(
    lengths: np.ndarray,
    device: torch.device,
    *,
    causal: bool,
    is_varlen: bool,
    attended: np.ndarray | None = None,
    most_buckets: int = MOST_BUCKETS,
) -> PackedRows:
    """How rows lie end to end, the longest first.

    Args:
        lengths: int, (rows,): tokens of each, at least one.
        is_varlen: for PyTorch's kernel; see `varlen_obstacle`.
        attended: int, (rows,): the first tokens of each row, to which all of the row attend; None for all. Not beside
            `causal`.
        most_buckets: 1 has tensors of the same kinds for all lengths, so that compiled code serves them all.
    """
    assert attended is None or not causal
    attended = lengths if attended is None else attended
    if is_varlen:
        return _varlen_rows(lengths, attended, device, causal)
    found = []
    for group in _groups(lengths, most_buckets):
        found.append(_bucket(lengths[group], attended[group], device, is_full=most_buckets > 1))
    return BucketedRows(causal, tuple(found))


def _varlen_rows(lengths: np.ndarray, attended: np.ndarray, device: torch.device, causal: bool) -> VarlenRows:
    starts = [put(np.concatenate(([0], counts.cumsum())).astype(np.int32), device) for counts in (lengths, attended)]
    keys = None
    if (attended < lengths).any():
        place = np.arange(lengths.max())
        is_token = place < lengths[:, None]
        keys = put(np.flatnonzero((place < attended[:, None])[is_token]), device)
    return VarlenRows(
        causal, varlen_kernel(causal), starts[0], starts[1], int(lengths.max()), int(attended.max()), keys
    )


def _groups(lengths: np.ndarray, most: int) -> list[slice]:
    """Consecutive rows that are padded to one length."""
    limits = np.searchsorted(buckets(int(lengths.max()), most), lengths)
    sizes = [len(list(same)) for _, same in groupby(limits.tolist())]
    stops = np.cumsum(sizes).tolist()
    return [slice(stop - size, stop) for stop, size in zip(stops, sizes, strict=True)]


def _bucket(lengths: np.ndarray, attended: np.ndarray, device: torch.device, *, is_full: bool) -> Bucket:
    """Rows padded to the longest of them, in multiples of 8; if `is_full`, without padding where none is needed."""
    longest = int(lengths.max())
    if is_full and (lengths == longest).all() and (attended == longest).all():
        return Bucket(put(np.ones((len(lengths), longest), bool), device), None)
    place = np.arange(-(-longest // BUCKET_MULTIPLE) * BUCKET_MULTIPLE)
    return Bucket(put(place < attended[:, None], device), put(np.flatnonzero(place < lengths[:, None]), device))


def varlen_kernel(causal: bool) -> Callable[..., Any]:
    """PyTorch's kernel: 2.10 has an argument that makes it causal, later versions a window."""
    from torch.nn.attention.varlen import varlen_attn

    if not causal:
        return varlen_attn
    has_window = "window_size" in inspect.signature(varlen_attn).parameters
    argument: dict[str, Any] = {"window_size": (-1, 0)} if has_window else {"is_causal": True}
    return partial(varlen_attn, **argument)


def varlen_obstacle(
    device: torch.device, dtype: torch.dtype, head_size: int, *, causal: bool, dropout: float = 0.0
) -> str:
    """Say why PyTorch's kernel for rows of different lengths does not apply; "" where it does.

    Args:
        dtype: of queries, keys and values.
        dropout: of attention weights.
    """
    if dropout:
        return f"it has no dropout, and that of attention is {dropout}"
    if dtype not in (torch.bfloat16, torch.float16):
        return f"it computes in 16 bits, not in {dtype}"
    if head_size % 8 or head_size > LARGEST_HEAD:
        return f"heads of {head_size} numbers are not multiples of 8 up to {LARGEST_HEAD}"
    return kernel_obstacle(device) or failed_trial(device, dtype, head_size, causal, True)


def kernel_obstacle(device: torch.device) -> str:
    """Say why a device does not have the kernel; "" where it should."""
    if device.type != "cuda" or torch.version.cuda is None:
        return f"it is for NVIDIA's GPUs, not for {device.type}"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "it needs a GPU of compute capability 8.0"
    if not (torch.backends.cuda.is_flash_attention_available() and torch.backends.cuda.flash_sdp_enabled()):
        return "this PyTorch has no flash attention, or it is switched off"
    return ""


@cache
def failed_trial(device: torch.device, dtype: torch.dtype, head_size: int, causal: bool, is_varlen: bool) -> str:
    """Say what goes wrong when a few tokens attend on a device, forward and backward; "" if the numbers are right."""
    attended = _TRIED if causal else _TRIED_KEYS
    try:
        with torch.inference_mode(False), torch.enable_grad():  # for the gradients, wherever the caller is
            numbers = torch.arange(_TRIED.sum() * 2 * head_size, dtype=torch.float64, device="cpu")
            values = [(numbers * step).sin().to(dtype).view(-1, 2, head_size) for step in (0.7, 1.1, 1.9)]
            packing = lay_out(_TRIED, device, causal=causal, is_varlen=is_varlen, attended=None if causal else attended)
            found = _context_and_gradients(packing.attend, [value.to(device) for value in values])
            by_row = partial(_row_by_row, attended=attended.tolist(), causal=causal)
            wanted = _context_and_gradients(by_row, [value.double() for value in values])
    except (RuntimeError, ImportError, TypeError, ValueError) as error:
        return _noted(f"a trial on {device} failed: {str(error).partition(chr(10))[0]}")
    differences = [(one - other).abs().max() / other.abs().max() for one, other in zip(found, wanted, strict=True)]
    worst = float(torch.stack(differences).max())  # nan, if one is
    return "" if worst < _BOUNDS[dtype] else _noted(f"a trial on {device} was wrong by {worst:.1e}")


def _noted(failure: str) -> str:
    """The same, once it is in the log: a slower way is taken."""
    _log.warning("attention of packed tokens: %s", failure)
    return failure


def _context_and_gradients(attend: Callable[..., Tensor], values: list[Tensor]) -> list[Tensor]:
    """What a way to attend makes of queries, keys and values, and the gradients of these; float64, on the CPU."""
    leaves = [value.detach().requires_grad_() for value in values]
    context = attend(*leaves)
    context.square().sum().backward()
    results = [context, *(leaf.grad for leaf in leaves)]
    return [result.detach().cpu().double() for result in results if result is not None]


def _row_by_row(query: Tensor, key: Tensor, value: Tensor, attended: list[int], causal: bool) -> Tensor:
    """The context of the rows that are tried out, one row after another."""
    rows = zip(*(one.split(_TRIED.tolist()) for one in (query, key, value)), attended, strict=True)
    contexts = []
    for own_query, own_key, own_value, count in rows:
        parts = (own_query, own_key[:count], own_value[:count])
        heads = [part.transpose(0, 1) for part in parts]  # (head, tokens, head size)
        context = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], is_causal=causal)
        contexts.append(context.transpose(0, 1))
    return torch.cat(contexts)
