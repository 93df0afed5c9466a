"""layernorm._recurrent on PyTorch's tensors, with gradients."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .._library import DType, adapter
from .._recurrent import OWN, Calls, Layer, backward, forward
from ._operators import native_error

# On PyTorch's threads, by the native adapter, or without it on the library's own.
_CALLS: Final = Calls(adapter("torch"), "layernorm_torch") if native_error is None else OWN
DTYPES: Final = {torch.float32: DType.F32, torch.float64: DType.F64}


class _Arrays:
    """PyTorch's, of one dtype, for _recurrent."""

    calls = _CALLS
    product = staticmethod(torch.mm)

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = DTYPES[dtype]
        self._dtype = dtype

    def empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self._dtype)

    def zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self._dtype)

    def copy(self, array: Tensor) -> Tensor:
        return array.clone(memory_format=torch.contiguous_format)

    def steps(self, array: Tensor) -> tuple[Tensor, ...]:
        return array.unbind()

    def address(self, array: Tensor) -> int:
        return array.data_ptr()

    def add_product(self, total: Tensor, a: Tensor, b: Tensor, scratch: Tensor) -> None:
        total.addmm_(a, b)


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        layer: Layer,
        save: bool,
        names: tuple[str, ...],
        x: Tensor,
        h0: Tensor | None,
        c0: Tensor | None,
        mask: Tensor | None,
        *params: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        by_name = {name: param.contiguous() for name, param in zip(names, params, strict=True)}
        y, h, c, saved = forward(layer, _Arrays(x.dtype), x, h0, c0, mask, by_name, save)
        if save:
            ctx.layer, ctx.names, ctx.saved = layer, names, tuple(saved)
            ctx.save_for_backward(*by_name.values(), *saved.values())
            ctx.set_materialize_grads(False)
        return y, h, c

    @staticmethod
    def backward(
        ctx: Any, dy: Tensor | None, dh: Tensor | None, dc: Tensor | None
    ) -> tuple[Any, ...]:
        again = torch.is_grad_enabled()
        tensors = ctx.saved_tensors
        params = dict(zip(ctx.names, tensors, strict=False))
        saved = dict(zip(ctx.saved, tensors[len(params) :], strict=True))
        inputs = "x", "h0", "c0", "mask", *ctx.names
        needed = ctx.needs_input_grad[-len(inputs) :]
        wanted = frozenset(name for name, need in zip(inputs, needed, strict=True) if need)
        arrays = _Arrays(saved["x"].dtype)
        with torch.no_grad():
            found = backward(ctx.layer, arrays, params, saved, dy, dh, dc, wanted)
        if again:
            found = {name: _Once.apply(_leaf, found[name]) for name in wanted}
        return None, None, None, *(found.get(name) for name in inputs)


_leaf: Final = torch.empty(0, requires_grad=True)


class _Once(torch.autograd.Function):
    """The gradient itself, where create_graph asks for gradients of it too, which there are not."""

    @staticmethod
    def forward(ctx: Any, leaf: Tensor, gradient: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *args: Any) -> Any:
        raise RuntimeError("layernorm.torch.recurrent has no second derivatives")


@torch.compiler.disable
def run(
    layer: Layer,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    mask: Tensor | None,
    params: dict[str, Tensor],
) -> tuple[Tensor, Tensor, Tensor | None]:
    """y[time][batch][hidden], and the last h and c, of one layer in one direction.

    x is [time][batch][input_size], h0 and c0 are [batch][hidden] or None for zeros, and mask is
    bool [time][batch] or None."""
    if mask is not None:
        mask = mask.to(torch.uint8).contiguous()
    given = x, h0, c0, *params.values()
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given)
    # Without either, autograd has nothing to do.
    if save or forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active():
        return _Sequence.apply(layer, save, tuple(params), x, h0, c0, mask, *params.values())
    with torch.no_grad():
        contiguous = {name: param.contiguous() for name, param in params.items()}
        return forward(layer, _Arrays(x.dtype), x, h0, c0, mask, contiguous, False)[:3]


def check(name: str, tensor: Any, shape: tuple[int, ...], like: Tensor, whose: str) -> None:
    """Raises unless `tensor` is one of that shape, of the dtype of `like`, on the CPU."""
    check_kind(name, tensor, like, whose)
    if tensor.shape != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; it must be {tuple(shape)}")


def check_kind(name: str, tensor: Any, like: Tensor, whose: str) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, not {type(tensor).__name__}")
    if tensor.dtype != like.dtype:
        raise TypeError(
            f"{name} has dtype {tensor.dtype}; it must be that of {whose}, {like.dtype}"
        )
    if not tensor.is_cpu:
        raise ValueError(f"{name} is on {tensor.device}; it must be on the CPU")
