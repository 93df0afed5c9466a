"""The operators by PyTorch's own code: for what liblayernorm does not cover, and for the shapes and
dtypes of results while a program is traced."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, TypeAlias

import torch
from torch import Tensor

Shape: TypeAlias = list[int]
Optional: TypeAlias = Tensor | None

_aten = torch.ops.aten
_CPU = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)


def _stats_dtype(x: Tensor) -> torch.dtype:
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype


def add(x: Tensor, residual: Tensor) -> Tensor:
    torch._check(
        x.shape == residual.shape and x.dtype == residual.dtype and x.device == residual.device,
        lambda: (
            f"residual is {residual.dtype} of shape {tuple(residual.shape)} on {residual.device}; "
            f"input is {x.dtype} of shape {tuple(x.shape)} on {x.device}"
        ),
    )
    return (x + residual).contiguous()


def _check_rms_norm(x: Tensor, normalized_shape: Shape, weight: Optional) -> None:
    """What aten::rms_norm checks before aten::_fused_rms_norm."""
    shape = list(normalized_shape)
    torch._check(
        len(shape) > 0 and list(x.shape[-len(shape) :]) == shape,
        lambda: f"normalized_shape={shape}: input of shape {tuple(x.shape)} does not end with it",
    )
    torch._check(
        weight is None or list(weight.shape) == shape,
        lambda: f"weight has shape {tuple(weight.shape)}; normalized_shape={shape}",  # type: ignore
    )


def layer_norm(
    x: Tensor, normalized_shape: Shape, weight: Optional, bias: Optional, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    y, mean, rstd = _aten.native_layer_norm(x, normalized_shape, weight, bias, eps)
    return y, mean.to(_stats_dtype(x)), rstd.to(_stats_dtype(x))


def rms_norm(
    x: Tensor, normalized_shape: Shape, weight: Optional, eps: float | None
) -> tuple[Tensor, Tensor]:
    _check_rms_norm(x, normalized_shape, weight)
    y, rstd = _aten._fused_rms_norm(x, normalized_shape, weight, eps)
    return y.contiguous(), rstd


def add_layer_norm(
    x: Tensor,
    residual: Tensor,
    normalized_shape: Shape,
    weight: Optional,
    bias: Optional,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    total = add(x, residual)
    y, mean, rstd = layer_norm(total, normalized_shape, weight, bias, eps)
    return y, total, mean, rstd


def add_rms_norm(
    x: Tensor, residual: Tensor, normalized_shape: Shape, weight: Optional, eps: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    total = add(x, residual)
    y, rstd = rms_norm(total, normalized_shape, weight, eps)
    return y, total, rstd


def _gradients(x: Tensor, dsum: Optional, found: tuple[Optional, ...]) -> tuple[Tensor, ...]:
    dx, *params = found
    if dx is not None and dsum is not None:
        dx = dx + dsum
    return tuple(x.new_empty(0) if each is None else each for each in (dx, *params))


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
) -> tuple[Tensor, ...]:
    if x.device.type == "cpu":  # whose kernel wants them as its own forward call gives them
        dtype = x.dtype if weight is None else weight.dtype
        mean, rstd = mean.to(dtype), rstd.to(dtype)
    found = _aten.native_layer_norm_backward(
        dy, x, normalized_shape, mean, rstd, weight, bias, wanted
    )
    return _gradients(x, dsum, found)


def rms_norm_backward(
    dy: Tensor,
    dsum: Optional,
    x: Tensor,
    normalized_shape: Shape,
    rstd: Tensor,
    weight: Optional,
    wanted: list[bool],
) -> tuple[Tensor, ...]:
    return _gradients(x, dsum, _rms_norm_backward(dy, x, normalized_shape, rstd, weight, wanted))


def _rms_norm_backward(
    dy: Tensor,
    x: Tensor,
    normalized_shape: Shape,
    rstd: Tensor,
    weight: Optional,
    wanted: list[bool],
) -> tuple[Optional, Optional]:
    """aten::_fused_rms_norm_backward, for which PyTorch has no kernel on the CPU: there it
    differentiates the operators that F.rms_norm is made of. For complex numbers, too."""
    outer = tuple(range(x.dim() - len(normalized_shape)))
    inner = tuple(range(len(outer), x.dim()))
    compute = torch.promote_types(x.dtype, rstd.dtype)
    g = dy.to(compute)
    x_hat = (x.to(compute) * rstd).conj()
    dx = dweight = None
    if wanted[1] and weight is not None:
        dweight = (g * x_hat).sum(outer) if outer else g * x_hat
        dweight = dweight.to(weight.dtype)
    if wanted[0]:
        if weight is not None:
            g = g * weight.conj()
        mean = (g * x_hat).sum(inner, keepdim=True) / prod(normalized_shape)
        dx = (rstd.conj() * (g - x_hat * mean)).to(x.dtype)
    return dx, dweight


def original(name: str) -> Callable[..., Any]:
    """PyTorch's own code on the CPU for the operator aten::`name`, also while ours is installed."""
    if name == "_fused_rms_norm_backward":
        return _rms_norm_backward
    kernel = torch.library.get_kernel(f"aten::{name}", "CPU")

    def call(*args: Any) -> Any:
        return kernel.call_boxed(_CPU, *args)

    return call
