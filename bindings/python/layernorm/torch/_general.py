"""The norms that PyTorch does not have: AdaNorm, and layer norm and RMSNorm whose mean or rstd is a
constant in backward. One operator with a gradient, layernorm::general_norm."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, prod
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .. import _library
from . import _ctypes, _operators, _pytorch
from ._pytorch import Optional, Shape

_KIND = "int norm, int flags, float scale, float slope"
_define = _operators._define
_define(
    "general_norm",
    f"(Tensor x, SymInt[] normalized_shape, Tensor? weight, Tensor? bias, float eps, {_KIND})"
    " -> (Tensor y, Tensor mean, Tensor rstd)",
)
_define(
    "general_norm_backward",
    "(Tensor dy, Tensor x, SymInt[] normalized_shape, Tensor mean, Tensor rstd, Tensor? weight,"
    f" Tensor? bias, float eps, {_KIND}, bool[3] wanted)"
    " -> (Tensor dx, Tensor dweight, Tensor dbias)",
)


def _composed(
    x: Tensor,
    normalized_shape: Shape,
    weight: Optional,
    bias: Optional,
    eps: float,
    norm: int,
    flags: int,
    scale: float,
    slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, mean and rstd by PyTorch's own operators, which can be differentiated."""
    dims = len(normalized_shape)
    torch._check(
        dims > 0 and list(x.shape[-dims:]) == list(normalized_shape),
        lambda: (
            f"normalized_shape={list(normalized_shape)}: input of shape {tuple(x.shape)} does not "
            "end with it"
        ),
    )
    for name, parameter in ("weight", weight), ("bias", bias):
        torch._check(
            parameter is None or list(parameter.shape) == list(normalized_shape),
            lambda name=name: f"{name} does not have the shape {list(normalized_shape)}",
        )
    inner = tuple(range(x.dim() - dims, x.dim()))
    wide = x.to(_pytorch._stats_dtype(x))
    mean = wide.new_empty(0) if norm == _library.RMS else wide.mean(inner, keepdim=True)
    if norm != _library.RMS:
        wide = wide - (mean.detach() if flags & _library.DETACH_MEAN else mean)
    rstd = (wide.square().mean(inner, keepdim=True) + eps).rsqrt()
    y = wide * (rstd.detach() if flags & _library.DETACH_RSTD else rstd)
    if norm == _library.ADA:
        y = y * (scale * (1 - slope * y)).detach()
    if weight is not None:
        y = y * weight
    if bias is not None:
        y = y + bias
    return y.to(x.dtype).contiguous(), mean, rstd


def _composed_backward(
    dy: Tensor,
    x: Tensor,
    normalized_shape: Shape,
    mean: Tensor,
    rstd: Tensor,
    weight: Optional,
    bias: Optional,
    eps: float,
    norm: int,
    flags: int,
    scale: float,
    slope: float,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    with torch.enable_grad():
        inputs = [
            None if each is None else each.detach().requires_grad_(want)
            for each, want in zip((x, weight, bias), wanted, strict=True)
        ]
        found = _grad(inputs, normalized_shape, (eps, norm, flags, scale, slope), dy, wanted, False)
    return _made(x, found)


def _grad(
    inputs: Sequence[Optional],
    normalized_shape: Shape,
    kind: Sequence[Any],
    dy: Tensor,
    wanted: Sequence[bool],
    create_graph: bool,
) -> list[Optional]:
    """The gradients of x, weight and bias, by PyTorch's own formulas."""
    x, weight, bias = inputs
    args: Any = (x, normalized_shape, weight, bias, *kind)
    y = _composed(*args)[0]
    chosen = [each for each, want in zip(inputs, wanted, strict=True) if want and each is not None]
    found = iter(torch.autograd.grad(y, chosen, dy, create_graph=create_graph))
    return [
        next(found) if want and each is not None else None
        for each, want in zip(inputs, wanted, strict=True)
    ]


def _made(x: Tensor, found: Sequence[Optional]) -> Any:
    return tuple(x.new_empty(0) if each is None else each for each in found)


def _cpu(
    x: Tensor,
    normalized_shape: Shape,
    weight: Optional,
    bias: Optional,
    eps: float,
    norm: int,
    flags: int,
    scale: float,
    slope: float,
) -> Any:
    params = [each for each in (weight, bias) if each is not None]
    if not _ctypes._covers(x, normalized_shape, [], params) or not 0 <= eps < inf:
        return _composed(x, normalized_shape, weight, bias, eps, norm, flags, scale, slope)
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    outer = x.shape[: x.dim() - len(normalized_shape)]
    shape = (*outer, *(1 for _ in normalized_shape))
    rstd = x.new_empty(shape, dtype=_pytorch._stats_dtype(x))
    mean = rstd.new_empty(0) if norm == _library.RMS else torch.empty_like(rstd)
    _ctypes._call(
        _library.library.layernorm_forward,
        _library.ForwardArgs,
        eps=eps,
        norm=norm,
        x_dtype=_ctypes._DTYPES[x.dtype],
        param_dtype=_ctypes._DTYPES[params[0].dtype] if params else None,
        rows=prod(outer),
        cols=prod(normalized_shape),
        x=x,
        weight=weight,
        bias=bias,
        y=y,
        mean=None if norm == _library.RMS else mean,
        rstd=rstd,
        ada_scale=scale,
        ada_slope=slope,
    )
    return y, mean, rstd


def _cpu_backward(
    dy: Tensor,
    x: Tensor,
    normalized_shape: Shape,
    mean: Tensor,
    rstd: Tensor,
    weight: Optional,
    bias: Optional,
    eps: float,
    norm: int,
    flags: int,
    scale: float,
    slope: float,
    wanted: list[bool],
) -> Any:
    params = [] if weight is None else [weight]
    if not _ctypes._covers(x, normalized_shape, [dy], params) or not 0 <= eps < inf:
        return _composed_backward(
            dy, x, normalized_shape, mean, rstd, weight, bias, eps, norm, flags, scale, slope,
            wanted,
        )  # fmt: skip
    param = weight if weight is not None else bias
    param_dtype = x.dtype if param is None else param.dtype
    made = (
        torch.empty_like(x, memory_format=torch.contiguous_format),
        x.new_empty(normalized_shape, dtype=param_dtype),
        x.new_empty(normalized_shape, dtype=param_dtype),
    )
    dx, dweight, dbias = (each if want else None for each, want in zip(made, wanted, strict=True))
    _ctypes._call(
        _library.library.layernorm_backward,
        _library.BackwardArgs,
        flags=flags,
        norm=norm,
        x_dtype=_ctypes._DTYPES[x.dtype],
        param_dtype=_ctypes._DTYPES[param_dtype],
        rows=x.numel() // prod(normalized_shape),
        cols=prod(normalized_shape),
        dy=dy,
        x=x,
        weight=weight,
        mean=None if norm == _library.RMS else mean,
        rstd=rstd,
        dx=dx,
        dweight=dweight,
        dbias=dbias,
        ada_scale=scale,
        ada_slope=slope,
    )
    return _made(x, (dx, dweight, dbias))


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    x, shape, weight, bias, *kind = inputs
    _, mean, rstd = output
    ctx.save_for_backward(x, weight, bias, mean, rstd)
    ctx.shape_and_kind = shape, kind
    ctx.mark_non_differentiable(mean, rstd)
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, dy: Optional, *_: Optional) -> tuple[Any, ...]:
    x, weight, bias, mean, rstd = ctx.saved_tensors
    shape, kind = ctx.shape_and_kind
    needed = ctx.needs_input_grad
    wanted = [needed[0], needed[2], needed[3]]
    found: Sequence[Optional] = (None, None, None)
    if dy is not None and torch.is_grad_enabled():  # for second derivatives
        found = _grad((x, weight, bias), shape, kind, dy, wanted, True)
    elif dy is not None:
        found = _backward(dy, x, shape, mean, rstd, weight, bias, *kind, wanted)
    dx, dweight, dbias = (each if want else None for each, want in zip(found, wanted, strict=True))
    return dx, None, dweight, dbias, *(None for _ in kind)


def _fake_backward(dy: Tensor, x: Tensor, normalized_shape: Shape, *args: Any) -> Any:
    weight, bias, wanted = args[2], args[3], args[-1]
    param = weight if weight is not None else bias
    dtype = x.dtype if param is None else param.dtype
    dx = torch.empty_like(x, memory_format=torch.contiguous_format)
    params = [x.new_empty(normalized_shape, dtype=dtype) for _ in range(2)]
    found = [each if want else None for each, want in zip((dx, *params), wanted, strict=True)]
    return _made(x, found)


for _name, _own, _kernel, _fake in (
    ("general_norm", _composed, _cpu, _composed),
    ("general_norm_backward", _composed_backward, _cpu_backward, _fake_backward),
):
    _operators.library.impl(_name, _own, "CompositeExplicitAutograd")
    _operators.library.impl(_name, _kernel, "CPU")
    torch.library.register_fake(f"layernorm::{_name}", _fake, lib=_operators.library)
torch.library.register_autograd(
    "layernorm::general_norm", _gradients, setup_context=_save, lib=_operators.library
)
_forward = torch.ops.layernorm.general_norm.default
_backward = torch.ops.layernorm.general_norm_backward.default


def general_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float | None,
    norm: int,
    flags: int,
    scale: float = 1.0,
    slope: float = 0.1,
) -> Tensor:
    """y, with a gradient. torch.func's transforms and forward-mode differentiation go by PyTorch's
    own operators."""
    if eps is None:
        eps = torch.finfo(_pytorch._stats_dtype(x)).eps
    args = x, list(normalized_shape), weight, bias, eps, norm, flags, scale, slope
    transforms = torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    if transforms and not torch.compiler.is_compiling():
        return _composed(*args)[0]
    y: Tensor = _forward(*args)[0]
    return y
