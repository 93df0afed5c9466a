"""AdaNorm and its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from numpy.typing import NDArray

from ._backward import backward
from ._forward import forward
from ._library import ADA, detached
from ._types import Input, Shape

if TYPE_CHECKING:
    from ._types import Dx, Out


@overload
def ada_norm(
    x: Input,
    normalized_shape: Shape | None = None,
    scale: float = 1.0,
    slope: float = 0.1,
    eps: float = 1e-5,
    *,
    axis: int | None = None,
    out: Out | None = None,
    return_stats: Literal[False] = False,
) -> Out: ...
@overload
def ada_norm(
    x: Input,
    normalized_shape: Shape | None = None,
    scale: float = 1.0,
    slope: float = 0.1,
    eps: float = 1e-5,
    *,
    axis: int | None = None,
    out: Out | None = None,
    return_stats: Literal[True],
) -> tuple[Out, NDArray[Any], NDArray[Any]]: ...
def ada_norm(
    x: Any,
    normalized_shape: Any = None,
    scale: Any = 1.0,
    slope: Any = 0.1,
    eps: Any = 1e-5,
    *,
    axis: Any = None,
    out: Any = None,
    return_stats: bool = False,
) -> Any:
    """AdaNorm of x over its last dimensions (Xu et al. 2019, arXiv:1911.07013):

        x^ = (x - mean) * rstd
        y  = scale * (1 - slope * x^) * x^

    with the mean and rstd of layer_norm(). The factor scale * (1 - slope * x^) is a constant in the
    gradient. scale, C in the paper, is finite and not 0; slope, k, is finite; both are rounded to
    float32 unless x is float64. The other parameters and what is returned are those of
    layer_norm().
    """
    ada = _number(scale, "scale"), _number(slope, "slope")
    return forward(
        ADA, 0, normalized_shape, axis, None, None, None, eps, x, out, return_stats, ada=ada
    )


@overload
def ada_norm_backward(
    dy: Input,
    x: Input,
    normalized_shape: Shape | None = None,
    scale: float = 1.0,
    slope: float = 0.1,
    mean: Input | None = None,
    rstd: Input | None = None,
    eps: float = 1e-5,
    *,
    axis: int | None = None,
    detach_mean: bool = False,
    detach_rstd: bool = False,
    dsum: Input | None = None,
    dx: Literal[True] = True,
    accumulate_dx: bool = False,
) -> NDArray[Any]: ...
@overload
def ada_norm_backward(
    dy: Input,
    x: Input,
    normalized_shape: Shape | None = None,
    scale: float = 1.0,
    slope: float = 0.1,
    mean: Input | None = None,
    rstd: Input | None = None,
    eps: float = 1e-5,
    *,
    axis: int | None = None,
    detach_mean: bool = False,
    detach_rstd: bool = False,
    dsum: Input | None = None,
    dx: Dx,
    accumulate_dx: bool = False,
) -> Dx: ...
def ada_norm_backward(
    dy: Any,
    x: Any,
    normalized_shape: Any = None,
    scale: Any = 1.0,
    slope: Any = 0.1,
    mean: Any = None,
    rstd: Any = None,
    eps: Any = 1e-5,
    *,
    axis: Any = None,
    detach_mean: bool = False,
    detach_rstd: bool = False,
    dsum: Any = None,
    dx: Any = True,
    accumulate_dx: bool = False,
) -> Any:
    """The gradient dx of ada_norm() with respect to x, given dy, the one with respect to y. With
    g = dy * scale * (1 - slope * x^):

        dx = rstd * (g - sum(g) / n - x^ * sum(g * x^) / n) + dsum

    The parameters are those of ada_norm() and layer_norm_backward(). Returns dx.
    """
    flags = detached(detach_mean, detach_rstd)
    ada = _number(scale, "scale"), _number(slope, "slope")
    return backward(
        ADA, flags, dy, x, normalized_shape, axis, None, mean, rstd, eps, dsum,
        dx, False, False, accumulate_dx, False, ada,
    )[0]  # fmt: skip


def _number(value: Any, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}") from None
