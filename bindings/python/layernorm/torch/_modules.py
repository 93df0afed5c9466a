"""torch.nn's modules by liblayernorm."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from ._functions import layer_norm, rms_norm

_Module = TypeVar("_Module", bound=torch.nn.Module)


class LayerNorm(torch.nn.LayerNorm):
    """torch.nn.LayerNorm, which see for the arguments, computed by layer_norm()."""

    def forward(self, input: Tensor) -> Tensor:
        return layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


class RMSNorm(torch.nn.RMSNorm):
    """torch.nn.RMSNorm, which see for the arguments, computed by rms_norm()."""

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.normalized_shape, self.weight, self.eps)


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
