"""The norms as functions with gradients."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from ._autograd import Norm

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
) -> Tensor:
    """torch.nn.functional.layer_norm() by liblayernorm.

    float32, float64, float16 and bfloat16 tensors on the CPU, with weight and bias of the same
    dtype, or float32 where the input is a half type. Whatever else there is goes to PyTorch's own
    kernel, which computes it or raises what it raises for it; so do torch.func's transforms,
    forward-mode differentiation and second derivatives."""
    tensors = input, weight, bias
    args = input, normalized_shape, weight, bias, eps
    if has_torch_function(tensors):
        return handle_torch_function(layer_norm, tensors, *args)
    return _layer_norm(tensors, args)[0]


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """torch.nn.functional.rms_norm() by liblayernorm; see layer_norm()."""
    tensors = input, weight
    args = input, normalized_shape, weight, eps
    if has_torch_function(tensors):
        return handle_torch_function(rms_norm, tensors, *args)
    return _rms_norm(tensors, args)[0]


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
