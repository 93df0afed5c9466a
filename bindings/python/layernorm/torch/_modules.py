"""torch.nn's modules by liblayernorm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from ._functions import ada_norm, layer_norm, rms_norm

_Module = TypeVar("_Module", bound=torch.nn.Module)


class LayerNorm(torch.nn.LayerNorm):
    """torch.nn.LayerNorm, which see for the arguments, computed by layer_norm(); with detach_mean
    and detach_rstd, the mean and rstd are constants in backward."""

    # Of the class, for modules that replace() has made this.
    detach_mean = False
    detach_rstd = False

    def __init__(
        self, *args: Any, detach_mean: bool = False, detach_rstd: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.detach_mean = detach_mean
        self.detach_rstd = detach_rstd

    def forward(self, input: Tensor) -> Tensor:
        return layer_norm(
            input,
            self.normalized_shape,
            self.weight,
            self.bias,
            self.eps,
            detach_mean=self.detach_mean,
            detach_rstd=self.detach_rstd,
        )

    def extra_repr(self) -> str:
        return super().extra_repr() + _detached(self)


class RMSNorm(torch.nn.RMSNorm):
    """torch.nn.RMSNorm, which see for the arguments, computed by rms_norm(); with detach_rstd, rstd
    is a constant in backward."""

    detach_rstd = False

    def __init__(self, *args: Any, detach_rstd: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.detach_rstd = detach_rstd

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(
            x, self.normalized_shape, self.weight, self.eps, detach_rstd=self.detach_rstd
        )

    def extra_repr(self) -> str:
        return super().extra_repr() + _detached(self)


class AdaNorm(torch.nn.Module):
    """ada_norm() over the last dimensions, whose sizes are normalized_shape. Has no parameters."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        scale: float = 1.0,
        slope: float = 0.1,
        eps: float = 1e-5,
        *,
        detach_mean: bool = False,
        detach_rstd: bool = False,
    ) -> None:
        super().__init__()
        sizes = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
        self.normalized_shape = tuple(sizes)
        self.scale = scale
        self.slope = slope
        self.eps = eps
        self.detach_mean = detach_mean
        self.detach_rstd = detach_rstd

    def forward(self, input: Tensor) -> Tensor:
        return ada_norm(
            input,
            self.normalized_shape,
            self.scale,
            self.slope,
            self.eps,
            detach_mean=self.detach_mean,
            detach_rstd=self.detach_rstd,
        )

    def extra_repr(self) -> str:
        shown = f"{self.normalized_shape}, scale={self.scale}, slope={self.slope}, eps={self.eps}"
        return shown + _detached(self)


def _detached(module: Any) -> str:
    names = [name for name in ("detach_mean", "detach_rstd") if getattr(module, name, False)]
    return "".join(f", {name}=True" for name in names)


_REPLACEMENTS: dict[type[torch.nn.Module], type[torch.nn.Module]] = {
    torch.nn.LayerNorm: LayerNorm,
    torch.nn.RMSNorm: RMSNorm,
}


def replace(model: _Module) -> _Module:
    """Turns every torch.nn.LayerNorm and torch.nn.RMSNorm in `model`, itself included, into the
    LayerNorm or RMSNorm of this module, and returns `model`.

    The modules stay the same objects, with their parameters, hooks and state dict. Subclasses of
    torch.nn's are left alone, since they may compute something else."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    for module in model.modules():
        replacement = _REPLACEMENTS.get(type(module))
        if replacement is not None:
            module.__class__ = replacement
    return model
