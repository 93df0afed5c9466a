"""The gradients of the norms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from ._backward import backward
from ._library import LAYER, RMS, WEIGHT_OFFSET, detached
from ._types import Input, Shape

if TYPE_CHECKING:
    from ._types import Dbias, Dweight, Dx


@overload
def layer_norm_backward(
    dy: Input,
    x: Input,
    normalized_shape: Shape | None = None,
    weight: Input | None = None,
    mean: Input | None = None,
    rstd: Input | None = None,
    eps: float = 1e-5,
    *,
    axis: int | None = None,
    detach_mean: bool = False,
    detach_rstd: bool = False,
    dsum: Input | None = None,
    dx: Dx | Literal[True] = True,
    dweight: Dweight | Literal[True] = True,
    dbias: Dbias | Literal[True] = True,
    accumulate_dx: bool = False,
    accumulate_params: bool = False,
) -> tuple[Dx, Dweight, Dbias]: ...
@overload
def layer_norm_backward(
    dy: Input,
    x: Input,
    normalized_shape: Shape | None = None,
    weight: Input | None = None,
    mean: Input | None = None,
    rstd: Input | None = None,
    eps: float = 1e-5,
    *,
    axis: int | None = None,
    detach_mean: bool = False,
    detach_rstd: bool = False,
    dsum: Input | None = None,
    dx: Dx | bool = True,
    dweight: Dweight | bool = True,
    dbias: Dbias | bool = True,
    accumulate_dx: bool = False,
    accumulate_params: bool = False,
) -> tuple[Dx | None, Dweight | None, Dbias | None]: ...
def layer_norm_backward(
    dy: Any,
    x: Any,
    normalized_shape: Any = None,
    weight: Any = None,
    mean: Any = None,
    rstd: Any = None,
    eps: Any = 1e-5,
    *,
    axis: Any = None,
    detach_mean: bool = False,
    detach_rstd: bool = False,
    dsum: Any = None,
    dx: Any = True,
    dweight: Any = True,
    dbias: Any = True,
    accumulate_dx: bool = False,
    accumulate_params: bool = False,
) -> Any:
    """The gradients of layer_norm() with respect to x, weight and bias, given dy, the one with
    respect to y. With x^ = (x - mean) * rstd and g = dy * weight:

        dx      = rstd * (g - sum(g) / n - x^ * sum(g * x^) / n) + dsum
        dweight = sum of dy * x^,  dbias = sum of dy, over the dimensions that are not normalized

    The sums are kept in twice the precision that rows are computed in and rounded once; of 16-bit
    rows, pairs are added up in float32 before.

    Parameters
    ----------
    dy
        Of the shape of y.
    x, normalized_shape, weight, axis
        As layer_norm() was passed them; for add_layer_norm(), x is the sum.
    mean, rstd
        As layer_norm() returned them. Without both, they are computed again, with eps, which serves
        only then.
    detach_mean, detach_rstd
        Whether mean, or rstd, is a constant (DetachNorm of Xu et al. 2019, arXiv:1911.07013): dx is
        without the term sum(g) / n, or x^ * sum(g * x^) / n; with both, rstd * g.
    dsum
        For add_layer_norm(): the gradient that arrives at the sum from elsewhere, of the shape and
        dtype of dy. dx is then the gradient of x and of residual.
    dx, dweight, dbias
        Where each gradient goes: a writable array; True for a new one; False if it is not wanted.
        dx has the dtype of dy, and may be dy or x itself. dweight and dbias have one dtype, that
        of weight, or of x if that is None; arrays of a wider one may be given. They are contiguous.
    accumulate_dx, accumulate_params
        Whether to add to dx, and to dweight and dbias, what is assigned otherwise.

    Returns
    -------
    The tuple (dx, dweight, dbias), with None for what is not wanted.
    """
    flags = detached(detach_mean, detach_rstd)
    return backward(
        LAYER, flags, dy, x, normalized_shape, axis, weight, mean, rstd, eps, dsum,
        dx, dweight, dbias, accumulate_dx, accumulate_params,
    )  # fmt: skip


@overload
def rms_norm_backward(
    dy: Input,
    x: Input,
    normalized_shape: Shape | None = None,
    weight: Input | None = None,
    rstd: Input | None = None,
    eps: float = 1e-5,
    *,
    axis: int | None = None,
    weight_offset: bool = False,
    detach_rstd: bool = False,
    dsum: Input | None = None,
    dx: Dx | Literal[True] = True,
    dweight: Dweight | Literal[True] = True,
    accumulate_dx: bool = False,
    accumulate_params: bool = False,
) -> tuple[Dx, Dweight]: ...
@overload
def rms_norm_backward(
    dy: Input,
    x: Input,
    normalized_shape: Shape | None = None,
    weight: Input | None = None,
    rstd: Input | None = None,
    eps: float = 1e-5,
    *,
    axis: int | None = None,
    weight_offset: bool = False,
    detach_rstd: bool = False,
    dsum: Input | None = None,
    dx: Dx | bool = True,
    dweight: Dweight | bool = True,
    accumulate_dx: bool = False,
    accumulate_params: bool = False,
) -> tuple[Dx | None, Dweight | None]: ...
def rms_norm_backward(
    dy: Any,
    x: Any,
    normalized_shape: Any = None,
    weight: Any = None,
    rstd: Any = None,
    eps: Any = 1e-5,
    *,
    axis: Any = None,
    weight_offset: bool = False,
    detach_rstd: bool = False,
    dsum: Any = None,
    dx: Any = True,
    dweight: Any = True,
    accumulate_dx: bool = False,
    accumulate_params: bool = False,
) -> Any:
    """The gradients of rms_norm() with respect to x and weight, given dy, that of y.
    With x^ = x * rstd, and g = dy * weight, or dy * (1 + weight) with weight_offset:

        dx      = rstd * (g - x^ * sum(g * x^) / n) + dsum
        dweight = sum of dy * x^ over the dimensions that are not normalized

    The other parameters are those of layer_norm_backward(). Returns the tuple (dx, dweight), with
    None for what is not wanted.
    """
    flags = (WEIGHT_OFFSET if weight_offset else 0) | detached(False, detach_rstd)
    return backward(
        RMS, flags, dy, x, normalized_shape, axis, weight, None, rstd, eps, dsum,
        dx, dweight, False, accumulate_dx, accumulate_params,
    )[:2]  # fmt: skip
