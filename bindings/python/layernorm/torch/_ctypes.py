"""The operators' CPU kernels through ctypes, for where the native adapter cannot be loaded: the
same results in more time."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import sizeof
from math import prod
from typing import Any

import torch
from torch import Tensor

from .. import _library
from . import _pytorch
from ._pytorch import Optional, Shape

_DTYPES = {
    torch.float32: _library.DType.F32,
    torch.float64: _library.DType.F64,
    torch.float16: _library.DType.F16,
    torch.bfloat16: _library.DType.BF16,
}


def _covers(x: Tensor, normalized_shape: Shape, alike: list[Tensor], params: list[Tensor]) -> bool:
    """Whether liblayernorm takes x, the tensors that must be like it, and the parameters."""
    stats = _pytorch._stats_dtype(x)
    return (
        x.dtype in _DTYPES
        and x.numel() > 0
        and len(normalized_shape) > 0
        and list(x.shape[-len(normalized_shape) :]) == list(normalized_shape)
        and all(each.shape == x.shape and each.dtype == x.dtype for each in alike)
        and all(list(each.shape) == list(normalized_shape) for each in params)
        and all(each.dtype == params[0].dtype for each in params)
        and all(each.dtype in (x.dtype, stats) for each in params)
    )


def _call(function: Callable[..., int], structure: type[Any], **fields: Any) -> None:
    """Calls `function` with contiguous tensors and numbers."""
    threads = torch.get_num_threads()
    if threads != _library.library.layernorm_get_num_threads():
        _library.check(_library.library.layernorm_set_num_threads(min(threads, 1024)))
    held = {
        name: value.contiguous() if isinstance(value, Tensor) else value
        for name, value in fields.items()
        if value is not None
    }
    args = structure(struct_size=sizeof(structure))
    for name, value in held.items():
        setattr(args, name, value.data_ptr() if isinstance(value, Tensor) else value)
    _library.check(function(bytes(args)))


def _forward(
    norm: int,
    x: Tensor,
    residual: Optional,
    normalized_shape: Shape,
    weight: Optional,
    bias: Optional,
    eps: float | None,
) -> tuple[Tensor, ...] | None:
    """y, sum, mean and rstd, of which there are those that apply; None if this is not covered."""
    alike = [] if residual is None else [residual]
    params = [each for each in (weight, bias) if each is not None]
    stats_dtype = _pytorch._stats_dtype(x)
    if eps is None:
        eps = torch.finfo(stats_dtype).eps if stats_dtype.is_floating_point else -1.0
    if not _covers(x, normalized_shape, alike, params) or not 0 <= eps < float("inf"):
        return None
    outer = x.shape[: x.dim() - len(normalized_shape)]
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    total = None if residual is None else torch.empty_like(y)
    stats_shape = (*outer, *(1 for _ in normalized_shape))
    mean = None if norm == _library.RMS else x.new_empty(stats_shape, dtype=stats_dtype)
    rstd = x.new_empty(stats_shape, dtype=stats_dtype)
    _call(
        _library.library.layernorm_forward,
        _library.ForwardArgs,
        eps=eps,
        norm=norm,
        x_dtype=_DTYPES[x.dtype],
        param_dtype=_DTYPES[params[0].dtype] if params else None,
        rows=prod(outer),
        cols=prod(normalized_shape),
        x=x,
        residual=residual,
        weight=weight,
        bias=bias,
        y=y,
        sum=total,
        mean=mean,
        rstd=rstd,
    )
    return tuple(each for each in (y, total, mean, rstd) if each is not None)


def layer_norm(
    x: Tensor, normalized_shape: Shape, weight: Optional, bias: Optional, eps: float
) -> Any:
    found = _forward(_library.LAYER, x, None, normalized_shape, weight, bias, eps)
    return found or _pytorch.layer_norm(x, normalized_shape, weight, bias, eps)


def rms_norm(x: Tensor, normalized_shape: Shape, weight: Optional, eps: float | None) -> Any:
    found = _forward(_library.RMS, x, None, normalized_shape, weight, None, eps)
    return found or _pytorch.rms_norm(x, normalized_shape, weight, eps)


def add_layer_norm(
    x: Tensor,
    residual: Tensor,
    normalized_shape: Shape,
    weight: Optional,
    bias: Optional,
    eps: float,
) -> Any:
    found = _forward(_library.LAYER, x, residual, normalized_shape, weight, bias, eps)
    return found or _pytorch.add_layer_norm(x, residual, normalized_shape, weight, bias, eps)


def add_rms_norm(
    x: Tensor, residual: Tensor, normalized_shape: Shape, weight: Optional, eps: float | None
) -> Any:
    found = _forward(_library.RMS, x, residual, normalized_shape, weight, None, eps)
    return found or _pytorch.add_rms_norm(x, residual, normalized_shape, weight, eps)


def _backward(
    norm: int,
    dy: Tensor,
    dsum: Optional,
    x: Tensor,
    normalized_shape: Shape,
    mean: Optional,
    rstd: Tensor,
    weight: Optional,
    wanted: list[bool],
) -> tuple[Tensor | None, ...] | None:
    """As many of dx, dweight and dbias as `wanted` has entries, None where it says so; None if this
    is not covered."""
    alike = [each for each in (dy, dsum) if each is not None]
    params = [] if weight is None else [weight]
    if not _covers(x, normalized_shape, alike, params):
        return None
    param_dtype = x.dtype if weight is None else weight.dtype
    stats_dtype = _pytorch._stats_dtype(x)
    made = (
        torch.empty_like(x, memory_format=torch.contiguous_format),
        x.new_empty(normalized_shape, dtype=param_dtype),
        x.new_empty(normalized_shape, dtype=param_dtype),
    )
    results = [each if want else None for each, want in zip(made, wanted, strict=False)]
    dx, dweight, dbias = (*results, None)[:3]
    _call(
        _library.library.layernorm_backward,
        _library.BackwardArgs,
        norm=norm,
        x_dtype=_DTYPES[x.dtype],
        param_dtype=_DTYPES[param_dtype],
        rows=x.numel() // prod(normalized_shape),
        cols=prod(normalized_shape),
        dy=dy,
        x=x,
        weight=weight,
        mean=None if mean is None else mean.to(stats_dtype),
        rstd=rstd.to(stats_dtype),
        dsum=dsum,
        dx=dx,
        dweight=dweight,
        dbias=dbias,
    )
    return tuple(results)


def layer_norm_backward(
    dy: Tensor,
    dsum: Optional,
    x: Tensor,
    normalized_shape: Shape,
    mean: Tensor,
    rstd: Tensor,
    weight: Optional,
    bias: Optional,
    wanted: list[bool],
) -> Any:
    args = dy, dsum, x, normalized_shape, mean, rstd, weight
    found = _backward(_library.LAYER, *args, wanted)
    if found is None:
        return _pytorch.layer_norm_backward(*args, bias, wanted)
    return tuple(x.new_empty(0) if each is None else each for each in found)


def rms_norm_backward(
    dy: Tensor,
    dsum: Optional,
    x: Tensor,
    normalized_shape: Shape,
    rstd: Tensor,
    weight: Optional,
    wanted: list[bool],
) -> Any:
    found = _backward(_library.RMS, dy, dsum, x, normalized_shape, None, rstd, weight, wanted)
    if found is None:
        return _pytorch.rms_norm_backward(dy, dsum, x, normalized_shape, rstd, weight, wanted)
    return tuple(x.new_empty(0) if each is None else each for each in found)
