"""Flax's linen.LayerNorm and linen.RMSNorm, computed by liblayernorm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from flax import linen

from ._flax import normalized_axes
from ._functions import layer_norm, rms_norm

_NORMS = (linen.LayerNorm, linen.RMSNorm)


def _call(module: Any, original: Callable[..., Any], x: Any, *, mask: Any = None) -> Any:
    """What the module gives for x: by `original`, its own method, where it asks for something that
    we do not have."""
    axes = normalized_axes(module, x, mask)
    if axes is None:
        return original(x, mask=mask)
    shape = [x.shape[a] for a in axes]
    scale = bias = None
    if module.use_scale:
        scale = module.param("scale", module.scale_init, shape, module.param_dtype)
    if getattr(module, "use_bias", False):
        bias = module.param("bias", module.bias_init, shape, module.param_dtype)
    given = [array for array in (x, scale, bias) if array is not None]
    dtype = np.dtype(linen.dtypes.canonicalize_dtype(*given, dtype=module.dtype))
    if dtype == np.float64:  # then so is Flax's computation
        x = x.astype(dtype)
    if isinstance(module, linen.RMSNorm):
        return rms_norm(x, scale, axis=axes, eps=module.epsilon, dtype=dtype)
    return layer_norm(x, scale, bias, axis=axes, eps=module.epsilon, dtype=dtype)


class LayerNorm(linen.LayerNorm):
    """linen.LayerNorm: the same fields, the same variables. A mask, an axis_name, feature_axes that
    are not the reduction_axes, or force_float32_reductions=False go to Flax's own."""

    @linen.compact
    def __call__(self, x: Any, *, mask: jax.Array | None = None) -> Any:
        return _call(self, super().__call__, x, mask=mask)


class RMSNorm(linen.RMSNorm):
    """linen.RMSNorm, as LayerNorm is linen.LayerNorm."""

    @linen.compact
    def __call__(self, x: Any, *, mask: jax.Array | None = None) -> Any:
        return _call(self, super().__call__, x, mask=mask)


@contextmanager
def replaced() -> Iterator[None]:
    """While it lasts, every linen.LayerNorm and linen.RMSNorm of any model that is applied, or
    traced by jax.jit, is computed by liblayernorm."""

    def intercept(own: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name == "__call__" and type(context.module) in _NORMS:
            return _call(context.module, own, *args, **kwargs)
        return own(*args, **kwargs)

    with linen.intercept_methods(intercept):
        yield
