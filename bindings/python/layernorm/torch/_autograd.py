"""The operators with gradients, by way of whatever looks at the program as it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import _install, _operators, _pytorch

_own = torch.ops.layernorm
_functional = torch.nn.functional
_BelowAutograd = torch._C._AutoDispatchBelowAutograd
_is_compiling = torch.compiler.is_compiling
_in_functorch = torch._C._are_functorch_transforms_active


class Norm:
    """The operator `name` as a function of plain arguments.

    Called with its tensors, some of which may be None, and its arguments; returns (y,), or (y, sum)
    if the operator adds a residual."""

    def __init__(self, name: str) -> None:
        self.adds = name.startswith("add_")
        self.centers = name.endswith("layer_norm")
        self.operator = getattr(_own, name).default
        self.results = 1 + self.adds
        torch.library.register_autograd(
            f"layernorm::{name}",
            self._gradients,
            setup_context=self._save_traced,
            lib=_operators.library,
        )
        self._with_gradients = self._function()

    def __call__(self, tensors: tuple[Tensor | None, ...], args: tuple[Any, ...]) -> Any:
        if _is_compiling():
            return self.operator(*args)[: self.results]
        # Where install() is in effect, PyTorch's own way through its autograd takes less time.
        installed = _install.is_installed() and not self.adds
        if installed or _in_functorch() or forward_ad._current_level >= 0:
            return self._by_pytorch(*args)
        try:
            if torch.is_grad_enabled():
                for each in tensors:
                    if each is not None and each.requires_grad:
                        return self._with_gradients(*args)
        except AttributeError:
            names = *("input", "residual")[: self.results], "weight", "bias"
            name = next(name for name, t in zip(names, tensors, strict=False) if t is each)
            raise TypeError(f"{name} must be a torch.Tensor, not {type(each).__name__}") from None
        with _BelowAutograd():
            return self.operator(*args)[: self.results]

    def _by_pytorch(self, x: Tensor, *args: Any) -> tuple[Tensor, ...]:
        norm: Any = _functional.layer_norm if self.centers else _functional.rms_norm
        if not self.adds:
            return (norm(x, *args),)
        residual, *rest = args
        total = _pytorch.add(x, residual)
        return norm(total, *rest), total

    def _function(self) -> Any:
        """What autograd calls for plain tensors: in half the time that the operator takes."""
        norm = self

        class Function(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *inputs: Any) -> Any:
                with _BelowAutograd():
                    output = norm.operator(*inputs)
                norm._save(ctx, inputs, output)
                if norm.adds:
                    ctx.set_materialize_grads(False)
                return output[: norm.results]

        function: Any = Function
        function.backward = self._gradients
        # Function.apply() is this and what torch.func needs, which does not come here.
        below: Any = super(torch.autograd.Function, function)
        return below.apply

    def _save(self, ctx: Any, inputs: Any, output: Any) -> None:
        x = output[1] if self.adds else inputs[0]
        if self.centers:
            *_, shape, weight, bias, eps = inputs
            ctx.save_for_backward(x, weight, bias, output[-2], output[-1])
        else:
            *_, shape, weight, eps = inputs
            ctx.save_for_backward(x, weight, output[-1])
        ctx.shape_and_eps = shape, eps

    def _save_traced(self, ctx: Any, inputs: Any, output: Any) -> None:
        self._save(ctx, inputs, output)
        ctx.mark_non_differentiable(*output[self.results :])
        ctx.set_materialize_grads(False)

    def _gradients(self, ctx: Any, dy: Tensor | None, *others: Tensor | None) -> tuple[Any, ...]:
        dsum = others[0] if self.adds else None
        # needs_input_grad goes with: x, residual, normalized_shape, weight, bias, eps.
        needed = ctx.needs_input_grad
        wanted = needed[0] or (self.adds and needed[1]), *needed[1 + self.results : -1]
        shape, eps = ctx.shape_and_eps
        x, *params = ctx.saved_tensors
        if dy is None:
            found: Sequence[Tensor | None] = (dsum, None, None)
        elif torch.is_grad_enabled():
            params = params[: 1 + self.centers]
            found = self._differentiably(x, shape, params, eps, dy, dsum, wanted)
        elif self.centers:
            weight, bias, mean, rstd = params
            found = _own.layer_norm_backward.default(
                dy, dsum, x, shape, mean, rstd, weight, bias, wanted
            )
        else:
            weight, rstd = params
            found = _own.rms_norm_backward.default(dy, dsum, x, shape, rstd, weight, wanted)
        gradients = [each if want else None for each, want in zip(found, wanted, strict=False)]
        return *gradients[:1] * self.results, None, *gradients[1:], None

    def _differentiably(
        self,
        x: Tensor,
        shape: Sequence[int],
        params: Sequence[Tensor | None],
        eps: float | None,
        dy: Tensor,
        dsum: Tensor | None,
        wanted: Sequence[bool],
    ) -> list[Tensor | None]:
        """The gradients by PyTorch's own formulas, which can be differentiated again."""
        norm: Any = _functional.layer_norm if self.centers else _functional.rms_norm
        y = norm(x, shape, *params, eps)
        chosen = [each for each, want in zip((x, *params), wanted, strict=True) if want]
        found = iter(torch.autograd.grad(y, chosen, dy, create_graph=True))
        gradients = [next(found) if want else None for want in wanted]
        if gradients[0] is not None and dsum is not None:
            gradients[0] = gradients[0] + dsum
        return gradients
