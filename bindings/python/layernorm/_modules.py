"""The norms with what stays the same from call to call held by an object."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

from numpy.typing import NDArray

from ._arrays import as_input, as_params
from ._forward import Pinned, forward
from ._library import LAYER, RMS, WEIGHT_OFFSET
from ._types import Input

if TYPE_CHECKING:
    from ._types import Out


class _Module:
    def __init__(self, norm: int, flags: int, weight: Any, bias: Any, eps: Any, axis: Any) -> None:
        weight = None if weight is None else as_input(weight, "weight")
        bias = None if bias is None else as_input(bias, "bias")
        normalized_shape: Any = None
        pinned = None
        for name, param in ("bias", bias), ("weight", weight):
            if param is not None:
                if param.ndim == 0 or (axis is not None and param.ndim > 1):
                    raise ValueError(f"{name} has shape {param.shape}; it must have one dimension")
                normalized_shape = param.shape
        if normalized_shape is not None:
            weight, bias, dtype = as_params(normalized_shape, weight, bias)
            pinned = Pinned(weight, bias, dtype)
            if axis is not None:
                normalized_shape = None
        self._call = partial(
            forward, norm, flags, normalized_shape, axis, weight, bias, pinned, eps
        )


class LayerNorm(_Module):
    """layer_norm() with weight, bias, eps and axis given once.

    Without axis, normalized_shape is the shape of weight and bias, or the last dimension if there
    are none. They are looked at once, which makes the calls faster: arrays that are contiguous and
    of one dtype are held as they are, of others a copy is held."""

    def __init__(
        self,
        weight: Input | None = None,
        bias: Input | None = None,
        eps: float = 1e-5,
        *,
        axis: int | None = None,
    ) -> None:
        super().__init__(LAYER, 0, weight, bias, eps, axis)

    @overload
    def __call__(
        self, x: Input, *, out: Out | None = None, return_stats: Literal[False] = False
    ) -> Out: ...
    @overload
    def __call__(
        self, x: Input, *, out: Out | None = None, return_stats: Literal[True]
    ) -> tuple[Out, NDArray[Any], NDArray[Any]]: ...
    def __call__(self, x: Any, *, out: Any = None, return_stats: bool = False) -> Any:
        """y, or with return_stats the tuple (y, mean, rstd), as of layer_norm()."""
        return self._call(x, out, return_stats)


class RMSNorm(_Module):
    """rms_norm() with weight, eps, weight_offset and axis given once, as LayerNorm has them."""

    def __init__(
        self,
        weight: Input | None = None,
        eps: float = 1e-5,
        *,
        axis: int | None = None,
        weight_offset: bool = False,
    ) -> None:
        super().__init__(RMS, WEIGHT_OFFSET if weight_offset else 0, weight, None, eps, axis)

    @overload
    def __call__(
        self, x: Input, *, out: Out | None = None, return_stats: Literal[False] = False
    ) -> Out: ...
    @overload
    def __call__(
        self, x: Input, *, out: Out | None = None, return_stats: Literal[True]
    ) -> tuple[Out, NDArray[Any]]: ...
    def __call__(self, x: Any, *, out: Any = None, return_stats: bool = False) -> Any:
        """y, or with return_stats the tuple (y, rstd), as of rms_norm()."""
        return self._call(x, out, return_stats)
