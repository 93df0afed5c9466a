"""Flax's nnx.LayerNorm and nnx.RMSNorm, computed by liblayernorm."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from ._flax import normalized_axes
from ._functions import layer_norm, rms_norm


class LayerNorm(nnx.LayerNorm):
    """nnx.LayerNorm: the same arguments, the same state. A mask, an axis_name, or feature_axes
    that are not the reduction_axes go to Flax's own."""

    def __call__(self, x: Any, *, mask: jax.Array | None = None) -> Any:
        scale = None if self.scale is None else self.scale[...]
        bias = None if self.bias is None else self.bias[...]
        promoted, scale, bias = self.promote_dtype((x, scale, bias), dtype=self.dtype)
        axes = normalized_axes(self, promoted, mask)
        if axes is None:
            return super().__call__(x, mask=mask)
        return layer_norm(promoted, scale, bias, axis=axes, eps=self.epsilon)


class RMSNorm(nnx.RMSNorm):
    """nnx.RMSNorm, as LayerNorm is nnx.LayerNorm."""

    def __call__(self, x: Any, mask: jax.Array | None = None) -> Any:
        scale = None if self.scale is None else self.scale[...]
        promoted, scale = self.promote_dtype((x, scale), dtype=self.dtype)
        axes = normalized_axes(self, promoted, mask)
        if axes is None:
            return super().__call__(x, mask=mask)
        return rms_norm(promoted, scale, axis=axes, eps=self.epsilon)


_OURS = {nnx.LayerNorm: LayerNorm, nnx.RMSNorm: RMSNorm}


def replace(model: Any) -> int:
    """Makes every nnx.LayerNorm and nnx.RMSNorm in the model one of these, in place, and returns
    how many there were. Their state stays as it is."""
    found = [node for _, node in nnx.iter_graph(model) if type(node) in _OURS]
    for module in found:
        module.__class__ = _OURS[type(module)]
    return len(found)
