"""A device that does not exist: it computes on the CPU, and what meets a tensor of another device is an error, as on a GPU.

PyTorch sees a backend of its own ("sim", with two devices, an accelerator like others). Tensors of it are plain tensors
over memory of the CPU, made by DLPack. Every operation that arrives at the backend first checks that its tensors are on
one device, and then runs on the CPU. It is for a process of its own: a backend cannot be taken away again.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME, COUNT = "sim", 2
_EXTENSION, _CPU = 12, 1  # DLPack's numbers of devices: PyTorch takes the first for its "PrivateUse1"
_CODES = {torch.bfloat16: 4, torch.bool: 6}  # DLPack's numbers of the kinds of dtypes that torch does not tell
_CPU_KEYS = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
# Operations that autocast runs in its dtype, and in float32, as on CUDA.
_IN_FULL = ("layer_norm",)
_IN_LOW = ("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "scaled_dot_product_attention")


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("index", ctypes.c_int32))


class _Capsule(ctypes.Structure):  # DLManagedTensor
    _fields_ = (
        ("data", ctypes.c_void_p), ("device", _Device), ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16), ("shape", ctypes.c_void_p), ("strides", ctypes.c_void_p),
        ("offset", ctypes.c_uint64), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p),
    )  # fmt: skip


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_alive: list[Any] = []  # memory is never freed: models of tests are small, and the process ends


def _over(tensor: Tensor, device_type: int, index: int) -> Tensor:
    """A tensor of another device over the memory of a tensor."""
    dtype, ndim = tensor.dtype, tensor.dim()
    code = _CODES.get(dtype, 2 if dtype.is_floating_point else 0 if dtype.is_signed else 1)
    shape, strides = ((ctypes.c_int64 * max(ndim, 1))(*values) for values in (tensor.shape, tensor.stride()))
    memory = tensor if tensor.numel() else torch.empty(16)  # the address of nothing may be 0
    capsule = _Capsule(
        memory.data_ptr(), _Device(device_type, index), ndim, code, 8 * dtype.itemsize, 1,
        ctypes.addressof(shape), ctypes.addressof(strides), 0, None, None,
    )  # fmt: skip
    _alive.append((capsule, shape, strides, memory))
    return torch._C._from_dlpack(_new_capsule(ctypes.addressof(capsule), b"dltensor", None))


def _put(tensor: Tensor, index: int) -> Tensor:
    """A tensor of the device that takes over the memory of one of the CPU."""
    return _over(tensor.detach(), _EXTENSION, index)


def _got(tensor: Tensor) -> Tensor:
    """A tensor of the CPU over the same memory."""
    return _over(tensor.detach(), _CPU, 0)


def _one_place(operation: Any, leaves: list[Any]) -> int:
    """The number of the device that an operation runs on; an error where its tensors are on several."""
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    own = {tensor.device for tensor in tensors if tensor.device.type == NAME}
    strangers = {tensor.device for tensor in tensors if tensor.device.type != NAME and tensor.dim()}
    if len(own) > 1 or strangers:
        raise RuntimeError(
            f"{operation}: expected all tensors to be on the same device, found {sorted(map(str, own | strangers))}"
        )
    named = [leaf for leaf in leaves if isinstance(leaf, torch.device)]
    place = next(iter([*own, *named]), None)
    return 0 if place is None or place.index is None else place.index


def _run(operation: Any, *args: Any, **kwargs: Any) -> Any:
    """An operation of the device; views of a tensor's memory stay views of it."""
    leaves, tree = _pytree.tree_flatten((args, kwargs))
    index = _one_place(operation, leaves)
    pairs: dict[int, tuple[Tensor, Tensor]] = {}  # a tensor of the device, and of the CPU
    lower = []
    for leaf in leaves:
        if isinstance(leaf, Tensor) and leaf.device.type == NAME:
            leaf = pairs.setdefault(id(leaf), (leaf, _got(leaf)))[1]
        elif isinstance(leaf, torch.device):
            leaf = torch.device("cpu")
        lower.append(leaf)
    # what an operation writes into is made again, as it may get another size
    given_kwargs = kwargs
    args, kwargs = _pytree.tree_unflatten(lower, tree)
    kwargs = {name: value for name, value in kwargs.items() if name != "pin_memory"}
    if isinstance(kwargs.get("out"), Tensor):
        fresh = operation(*args, **{**kwargs, "out": torch.empty(0, dtype=kwargs["out"].dtype)})
        return _written(given_kwargs["out"], fresh, index)
    result = operation(*args, **kwargs)

    def raised(value: Tensor) -> Tensor:
        for given, cpu in pairs.values():
            if value is cpu:  # changed in place
                return given
            if value.numel() and value.untyped_storage().data_ptr() == cpu.untyped_storage().data_ptr():
                offset = (value.data_ptr() - given.untyped_storage().data_ptr()) // value.element_size()
                return _view(given, value.shape, value.stride(), offset)
        return _put(value, index)

    return _pytree.tree_map_only(Tensor, raised, result)


def _written(out: Tensor, values: Tensor, index: int) -> Tensor:
    """`out` with these values: in its memory, or with other memory where the size is another."""
    if out.shape == values.shape:
        _got(out).copy_(values)
    else:
        out.data = _put(values, index)
    return out


def _view(tensor: Tensor, size: Any, stride: Any, offset: int | None = None) -> Tensor:
    return torch.ops.aten.as_strided.default.redispatch(_CPU_KEYS, tensor, size, stride, offset)


def _copy(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    """The only operation that takes tensors of two devices."""
    source, lower = (_got(tensor) if tensor.device.type == NAME else tensor for tensor in (source, target))
    lower.copy_(source)
    return target


def _cast(operation: Any, *, is_low: bool) -> Any:
    """An operation as autocast runs it."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)):
            dtype = torch.get_autocast_dtype(NAME) if is_low else torch.float32
            floats = (torch.float32, torch.bfloat16)
            args, kwargs = _pytree.tree_map_only(
                Tensor, lambda one: one.to(dtype) if one.dtype in floats else one, (args, kwargs)
            )
            return operation(*args, **kwargs)

    return run


class _Module:
    """What `torch.sim` is."""

    is_initialized = is_available = is_bf16_supported = staticmethod(lambda: True)
    current_device = staticmethod(lambda: 0)
    device_count = staticmethod(lambda: COUNT)
    _is_in_bad_fork = staticmethod(lambda: False)
    # values are drawn by the CPU's generator
    manual_seed_all = staticmethod(lambda seed: None)
    get_rng_state = staticmethod(lambda device=None: torch.get_rng_state())
    set_rng_state = staticmethod(lambda state, device=None: torch.set_rng_state(state))
    get_amp_supported_dtype = staticmethod(lambda: [torch.bfloat16, torch.float16])
    device = staticmethod(lambda index: contextlib.nullcontext())


def register() -> list[torch.library.Library]:
    """Make the device known to PyTorch, while what is returned is kept."""
    _setup_privateuseone_for_python_backend(NAME, _Module())
    every, aten = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    every.fallback(_run, "PrivateUse1")
    every.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    aten.impl("as_strided", _view, "PrivateUse1")
    aten.impl("_copy_from", _copy, "PrivateUse1")
    for name in (*_IN_LOW, *_IN_FULL):
        aten.impl(name, _cast(getattr(torch.ops.aten, name), is_low=name in _IN_LOW), "AutocastPrivateUse1")
    return [every, aten]
