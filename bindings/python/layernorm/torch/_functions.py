"""The norms as functions with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from .._library import ADA, LAYER, RMS, detached
from ._autograd import Norm
from ._general import general_norm

_layer_norm = Norm("layer_norm")
_rms_norm = Norm("rms_norm")
_add_layer_norm = Norm("add_layer_norm")
_add_rms_norm = Norm("add_rms_norm")


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    detach_mean: bool = False,
    detach_rstd: bool = False,
) -> Tensor:
    """torch.nn.functional.layer_norm() by liblayernorm.

    float32, float64, float16 and bfloat16 tensors on the CPU, with weight and bias of the same
    dtype, or float32 where the input is a half type. Whatever else there is goes to PyTorch's own
    kernel, which computes it or raises what it raises for it; so do torch.func's transforms,
    forward-mode differentiation and second derivatives.

    With detach_mean, or detach_rstd, the mean, or rstd, is a constant in backward (DetachNorm of Xu
    et al. 2019, arXiv:1911.07013)."""
    tensors = input, weight, bias
    args = input, normalized_shape, weight, bias, eps
    flags = detached(detach_mean, detach_rstd)
    if has_torch_function(tensors):
        detach = {"detach_mean": detach_mean, "detach_rstd": detach_rstd} if flags else {}
        return handle_torch_function(layer_norm, tensors, *args, **detach)
    if flags:
        return general_norm(*args, LAYER, flags)
    return _layer_norm(tensors, args)[0]


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
    *,
    detach_rstd: bool = False,
) -> Tensor:
    """torch.nn.functional.rms_norm() by liblayernorm; see layer_norm()."""
    tensors = input, weight
    args = input, normalized_shape, weight, eps
    if has_torch_function(tensors):
        detach = {"detach_rstd": True} if detach_rstd else {}
        return handle_torch_function(rms_norm, tensors, *args, **detach)
    if detach_rstd:
        flags = detached(False, True)
        return general_norm(input, normalized_shape, weight, None, eps, RMS, flags)
    return _rms_norm(tensors, args)[0]


def ada_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    scale: float = 1.0,
    slope: float = 0.1,
    eps: float = 1e-5,
    *,
    detach_mean: bool = False,
    detach_rstd: bool = False,
) -> Tensor:
    """AdaNorm of Xu et al. 2019 (arXiv:1911.07013): scale * (1 - slope * y) * y for the y of
    layer_norm() without weight and bias. The factor scale * (1 - slope * y) is a constant in
    backward. scale is finite and not 0, slope finite. What layer_norm() says of dtypes, devices and
    derivatives holds here."""
    tensors = (input,)
    args = input, normalized_shape, scale, slope, eps
    flags = detached(detach_mean, detach_rstd)
    if has_torch_function(tensors):
        return handle_torch_function(
            ada_norm, tensors, *args, detach_mean=detach_mean, detach_rstd=detach_rstd
        )
    if not isfinite(scale) or scale == 0 or not isfinite(slope):
        raise ValueError(f"scale={scale}, slope={slope}: they must be finite, and scale not 0")
    return general_norm(input, normalized_shape, None, None, eps, ADA, flags, scale, slope)


def add_layer_norm(
    input: Tensor,
    residual: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """The tuple (y, sum) of sum = input + residual and y = layer_norm(sum, …) in one pass, with the
    bits of the two steps. residual has the shape and dtype of input."""
    tensors = input, residual, weight, bias
    args = input, residual, normalized_shape, weight, bias, eps
    if has_torch_function(tensors):
        return handle_torch_function(add_layer_norm, tensors, *args)
    return _add_layer_norm(tensors, args)


def add_rms_norm(
    input: Tensor,
    residual: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> tuple[Tensor, Tensor]:
    """add_layer_norm() with rms_norm() in the place of layer_norm()."""
    tensors = input, residual, weight
    args = input, residual, normalized_shape, weight, eps
    if has_torch_function(tensors):
        return handle_torch_function(add_rms_norm, tensors, *args)
    return _add_rms_norm(tensors, args)
