"""What the modules for linen and nnx share."""

from __future__ import annotations

from typing import Any

from ._functions import DTYPES


def _as_tuple(axes: Any, ndim: int) -> tuple[int, ...]:
    return tuple(a % ndim for a in (axes if isinstance(axes, (tuple, list)) else (axes,)))


def normalized_axes(module: Any, x: Any, mask: Any) -> tuple[int, ...] | None:
    """The axes that Flax's module normalizes x over; None if it asks for what we do not have."""
    if mask is not None or module.axis_name is not None or x.dtype not in DTYPES:
        return None
    if not getattr(module, "force_float32_reductions", True):
        return None
    axes = _as_tuple(module.feature_axes, x.ndim)
    return axes if list(axes) == sorted(_as_tuple(module.reduction_axes, x.ndim)) else None
