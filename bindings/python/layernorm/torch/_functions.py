"""The norms as functions with gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import handle_torch_function, has_torch_function_variadic

from . import _operators, _pytorch

_own = torch.ops.layernorm
_functional = torch.nn.functional
_BelowAutograd = torch._C._AutoDispatchBelowAutograd
_is_compiling = torch.compiler.is_compiling
_in_functorch = torch._C._are_functorch_transforms_active


class _Norm(torch.autograd.Function):
    """The gradients of an operator, of which each subclass has one."""

    operator: Any
    adds: bool  # whether there is a residual
    centers: bool  # whether there are a bias and a mean

    @classmethod
    def save(cls, ctx: Any, inputs: Any, output: Any) -> None:
        """Keeps in ctx what the gradients take of an operator's call."""
        if cls.centers:
            *added, ctx.normalized_shape, weight, bias, ctx.eps = inputs
            *_, mean, rstd = output
            ctx.mark_non_differentiable(mean, rstd)
        else:
            *added, ctx.normalized_shape, weight, ctx.eps = inputs
            *_, rstd = output
            bias = mean = None
            ctx.mark_non_differentiable(rstd)
        normalized = output[1] if cls.adds else added[0]
        ctx.save_for_backward(normalized, weight, bias, mean, rstd)
        ctx.set_materialize_grads(False)

    @classmethod
    def gradients(cls, ctx: Any, dy: Tensor | None, *others: Tensor | None) -> tuple[Any, ...]:
        dsum = others[0] if cls.adds else None
        if dy is None:
            dx, params = dsum, ()
        else:
            # needs_input_grad goes with the inputs: x, residual, normalized_shape, weight, bias, eps.
            needed = ctx.needs_input_grad
            wanted = [any(needed[: 1 + cls.adds]), *needed[2 + cls.adds : -1]]
            differentiate = _differentiably if torch.is_grad_enabled() else _by_operator
            dx, *params = differentiate(cls, ctx, dy, dsum, wanted)
        params = (*params, None, None)[: 1 + cls.centers]
        return (*(dx for _ in range(1 + cls.adds)), None, *params, None)


def _by_operator(
    cls: type[_Norm], ctx: Any, dy: Tensor, dsum: Tensor | None, wanted: list[bool]
) -> list[Tensor | None]:
    x, weight, bias, mean, rstd = ctx.saved_tensors
    with _BelowAutograd():
        if cls.centers:
            found = _layer_norm_backward(
                dy, dsum, x, ctx.normalized_shape, mean, rstd, weight, bias, wanted
            )
        else:
            found = _rms_norm_backward(dy, dsum, x, ctx.normalized_shape, rstd, weight, wanted)
    return [gradient if want else None for gradient, want in zip(found, wanted, strict=True)]


def _differentiably(
    cls: type[_Norm], ctx: Any, dy: Tensor, dsum: Tensor | None, wanted: list[bool]
) -> list[Tensor | None]:
    """For second derivatives: PyTorch's own formulas, which have gradients themselves."""
    x, weight, bias, _, _ = ctx.saved_tensors
    if cls.centers:
        params = weight, bias
        y = _functional.layer_norm(x, ctx.normalized_shape, weight, bias, ctx.eps)
    else:
        params = (weight,)
        y = _functional.rms_norm(x, ctx.normalized_shape, weight, ctx.eps)
    chosen = [each for each, want in zip((x, *params), wanted, strict=True) if want]
    found = iter(torch.autograd.grad(y, chosen, dy, create_graph=True))
    gradients = [next(found) if want else None for want in wanted]
    if gradients[0] is not None and dsum is not None:
        gradients[0] = gradients[0] + dsum
    return gradients


def _differentiable(name: str) -> type[_Norm]:
    """The operator `name` with its gradients, which the operator itself gets, too."""
    operator = getattr(_own, name).default

    class Norm(_Norm):
        adds = name.startswith("add_")
        centers = name.endswith("layer_norm")

        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            with _BelowAutograd():
                output = operator(*inputs)
            Norm.save(ctx, inputs, output)
            return output[:2] if Norm.adds else output[0]

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            return Norm.gradients(ctx, *gradients)

    torch.library.register_autograd(
        f"layernorm::{name}",
        Norm.backward,
        setup_context=lambda ctx, inputs, output: Norm.save(ctx, inputs, output),
        lib=_operators._library,
    )
    return Norm


_layer_norm_backward = _own.layer_norm_backward.default
_rms_norm_backward = _own.rms_norm_backward.default
_layer_norm = _own.layer_norm.default
_rms_norm = _own.rms_norm.default
_add_layer_norm = _own.add_layer_norm.default
_add_rms_norm = _own.add_rms_norm.default
_LayerNorm = _differentiable("layer_norm")
_RMSNorm = _differentiable("rms_norm")
_AddLayerNorm = _differentiable("add_layer_norm")
_AddRMSNorm = _differentiable("add_rms_norm")


def _is_transformed() -> bool:
    """Whether torch.func or forward-mode differentiation looks at what is computed."""
    return _in_functorch() or forward_ad._current_level >= 0


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """torch.nn.functional.layer_norm() by liblayernorm.

    float32, float64, float16 and bfloat16 tensors on the CPU, with weight and bias of the same dtype, or
    float32 where the input is a half type. Whatever else there is goes to PyTorch's own kernel, which
    computes it or raises what it raises for it; so do torch.func's transforms, forward-mode
    differentiation and second derivatives."""
    if has_torch_function_variadic(input, weight, bias):
        return handle_torch_function(
            layer_norm, (input, weight, bias), input, normalized_shape, weight, bias, eps
        )
    if _is_compiling():
        return _layer_norm(input, normalized_shape, weight, bias, eps)[0]
    if _is_transformed():
        return _functional.layer_norm(input, normalized_shape, weight, bias, eps)
    if torch.is_grad_enabled() and (
        input.requires_grad
        or (weight is not None and weight.requires_grad)
        or (bias is not None and bias.requires_grad)
    ):
        return _LayerNorm.apply(input, normalized_shape, weight, bias, eps)
    with _BelowAutograd():
        return _layer_norm(input, normalized_shape, weight, bias, eps)[0]


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """torch.nn.functional.rms_norm() by liblayernorm; see layer_norm()."""
    if has_torch_function_variadic(input, weight):
        return handle_torch_function(
            rms_norm, (input, weight), input, normalized_shape, weight, eps
        )
    if _is_compiling():
        return _rms_norm(input, normalized_shape, weight, eps)[0]
    if _is_transformed():
        return _functional.rms_norm(input, normalized_shape, weight, eps)
    if torch.is_grad_enabled() and (
        input.requires_grad or (weight is not None and weight.requires_grad)
    ):
        return _RMSNorm.apply(input, normalized_shape, weight, eps)
    with _BelowAutograd():
        return _rms_norm(input, normalized_shape, weight, eps)[0]


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
    if has_torch_function_variadic(*tensors):
        return handle_torch_function(add_layer_norm, tensors, *args)

    def composed() -> tuple[Tensor, Tensor]:
        total = _pytorch.add(input, residual)
        return _functional.layer_norm(total, normalized_shape, weight, bias, eps), total

    return _add_norm(_add_layer_norm, _AddLayerNorm, tensors, args, composed)


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
    if has_torch_function_variadic(*tensors):
        return handle_torch_function(add_rms_norm, tensors, *args)

    def composed() -> tuple[Tensor, Tensor]:
        total = _pytorch.add(input, residual)
        return _functional.rms_norm(total, normalized_shape, weight, eps), total

    return _add_norm(_add_rms_norm, _AddRMSNorm, tensors, args, composed)


def _add_norm(
    operator: Any,
    differentiable: type[_Norm],
    tensors: tuple[Tensor | None, ...],
    args: tuple[Any, ...],
    composed: Callable[[], tuple[Tensor, Tensor]],
) -> tuple[Tensor, Tensor]:
    if _is_compiling():
        y, total, *_ = operator(*args)
        return y, total
    if _is_transformed():
        return composed()
    if torch.is_grad_enabled() and any(
        each is not None and each.requires_grad for each in tensors
    ):
        return differentiable.apply(*args)
    with _BelowAutograd():
        y, total, *_ = operator(*args)
    return y, total
