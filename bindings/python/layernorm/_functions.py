"""The norms, alone and fused with what is added before them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from numpy.typing import NDArray

from ._forward import forward
from ._library import LAYER, RMS, WEIGHT_OFFSET
from ._types import Input, Shape

if TYPE_CHECKING:
    from ._types import Out, Sum


@overload
def layer_norm(
    x: Input,
    normalized_shape: Shape | None = None,
    weight: Input | None = None,
    bias: Input | None = None,
    eps: float = 1e-5,
    *,
    axis: int | None = None,
    out: Out | None = None,
    return_stats: Literal[False] = False,
) -> Out: ...
@overload
def layer_norm(
    x: Input,
    normalized_shape: Shape | None = None,
    weight: Input | None = None,
    bias: Input | None = None,
    eps: float = 1e-5,
    *,
    axis: int | None = None,
    out: Out | None = None,
    return_stats: Literal[True],
) -> tuple[Out, NDArray[Any], NDArray[Any]]: ...
def layer_norm(
    x: Any,
    normalized_shape: Any = None,
    weight: Any = None,
    bias: Any = None,
    eps: Any = 1e-5,
    *,
    axis: Any = None,
    out: Any = None,
    return_stats: bool = False,
) -> Any:
    """Layer norm of x over its last dimensions (Ba, Kiros, Hinton 2016, arXiv:1607.06450):

        mean = sum(x) / n
        rstd = 1 / sqrt(sum((x - mean)**2) / n + eps)
        y    = (x - mean) * rstd * weight + bias

    where the sums go over the n elements of the normalized dimensions.

    Arrays are NumPy's or anything on the CPU that has `__dlpack__`; their dtypes, which may differ,
    are float32, float64, float16 or bfloat16 (of ml_dtypes). Any strides will do: an array is
    copied only if it is not aligned, if its normalized dimensions cannot be stepped through with
    one stride, or the others with two.

    Parameters
    ----------
    x
        Of the shape [..., *normalized_shape].
    normalized_shape
        The sizes of the dimensions that are normalized together, with which x's shape must end;
        an int for one dimension. None is the last dimension alone.
    weight, bias
        gamma and beta, of the shape normalized_shape; None for ones and zeros.
    eps
        0 or more, finite; rounded to float32 unless x is float64.
    axis
        The one dimension to normalize over in the place of normalized_shape, such as 1 for the
        channels of [N, C, H, W]: weight and bias have the shape (x.shape[axis],).
    out
        Where y goes: a writable array of x's shape. It may be x itself; any other overlap is
        refused. None makes a new array of x's dtype.
    return_stats
        Whether to return mean and rstd as well.

    Returns
    -------
    y, or with return_stats the tuple (y, mean, rstd). y is `out` if that was given. mean and rstd
    have the shape of x without the normalized dimensions; they are float64 if x is, else float32.

    Raises
    ------
    TypeError
        A dtype or type that is not supported.
    ValueError
        A shape that does not fit, an eps that is out of range, overlap.
    RuntimeError
        LAYERNORM_ISA names an instruction set that is unknown or that the CPU lacks.
    """
    return forward(LAYER, 0, normalized_shape, axis, weight, bias, None, eps, x, out, return_stats)


@overload
def rms_norm(
    x: Input,
    normalized_shape: Shape | None = None,
    weight: Input | None = None,
    eps: float = 1e-5,
    *,
    axis: int | None = None,
    weight_offset: bool = False,
    out: Out | None = None,
    return_stats: Literal[False] = False,
) -> Out: ...
@overload
def rms_norm(
    x: Input,
    normalized_shape: Shape | None = None,
    weight: Input | None = None,
    eps: float = 1e-5,
    *,
    axis: int | None = None,
    weight_offset: bool = False,
    out: Out | None = None,
    return_stats: Literal[True],
) -> tuple[Out, NDArray[Any]]: ...
def rms_norm(
    x: Any,
    normalized_shape: Any = None,
    weight: Any = None,
    eps: Any = 1e-5,
    *,
    axis: Any = None,
    weight_offset: bool = False,
    out: Any = None,
    return_stats: bool = False,
) -> Any:
    """RMSNorm of x over its last dimensions (Zhang, Sennrich 2019, arXiv:1910.07467):

        rstd = 1 / sqrt(sum(x**2) / n + eps)
        y    = x * rstd * weight

    With weight_offset, 1 + weight takes the place of weight, as in Gemma. The other parameters are
    those of layer_norm(). Returns y, or with return_stats the tuple (y, rstd).
    """
    flags = WEIGHT_OFFSET if weight_offset else 0
    return forward(
        RMS, flags, normalized_shape, axis, weight, None, None, eps, x, out, return_stats
    )


@overload
def add_layer_norm(
    x: Input,
    residual: Input,
    normalized_shape: Shape | None = None,
    weight: Input | None = None,
    bias: Input | None = None,
    eps: float = 1e-5,
    *,
    axis: int | None = None,
    x_bias: Input | None = None,
    out: Out | None = None,
    sum_out: Sum | None = None,
    return_stats: Literal[False] = False,
) -> tuple[Out, Sum]: ...
@overload
def add_layer_norm(
    x: Input,
    residual: Input,
    normalized_shape: Shape | None = None,
    weight: Input | None = None,
    bias: Input | None = None,
    eps: float = 1e-5,
    *,
    axis: int | None = None,
    x_bias: Input | None = None,
    out: Out | None = None,
    sum_out: Sum | None = None,
    return_stats: Literal[True],
) -> tuple[Out, Sum, NDArray[Any], NDArray[Any]]: ...
def add_layer_norm(
    x: Any,
    residual: Any,
    normalized_shape: Any = None,
    weight: Any = None,
    bias: Any = None,
    eps: Any = 1e-5,
    *,
    axis: Any = None,
    x_bias: Any = None,
    out: Any = None,
    sum_out: Any = None,
    return_stats: bool = False,
) -> Any:
    """Residual addition and layer norm in one pass:

        sum = x + residual, or (x + x_bias) + residual, rounded to the dtype of x
        y   = layer_norm(sum, normalized_shape, weight, bias, eps)

    with the same bits as the two steps one after the other. Further to what layer_norm() has:

    Parameters
    ----------
    residual
        Of the shape and dtype of x; np.broadcast_to() makes one of a smaller array without a copy.
    x_bias
        The bias of the layer that x comes from: of the shape normalized_shape, and x's dtype.
    out, sum_out
        Where y and the sum go. Each may be x or residual itself.

    Returns
    -------
    The tuple (y, sum), or with return_stats (y, sum, mean, rstd).
    """
    added = residual, x_bias, sum_out
    return forward(
        LAYER, 0, normalized_shape, axis, weight, bias, None, eps, x, out, return_stats, added
    )


@overload
def add_rms_norm(
    x: Input,
    residual: Input,
    normalized_shape: Shape | None = None,
    weight: Input | None = None,
    eps: float = 1e-5,
    *,
    axis: int | None = None,
    weight_offset: bool = False,
    x_bias: Input | None = None,
    out: Out | None = None,
    sum_out: Sum | None = None,
    return_stats: Literal[False] = False,
) -> tuple[Out, Sum]: ...
@overload
def add_rms_norm(
    x: Input,
    residual: Input,
    normalized_shape: Shape | None = None,
    weight: Input | None = None,
    eps: float = 1e-5,
    *,
    axis: int | None = None,
    weight_offset: bool = False,
    x_bias: Input | None = None,
    out: Out | None = None,
    sum_out: Sum | None = None,
    return_stats: Literal[True],
) -> tuple[Out, Sum, NDArray[Any]]: ...
def add_rms_norm(
    x: Any,
    residual: Any,
    normalized_shape: Any = None,
    weight: Any = None,
    eps: Any = 1e-5,
    *,
    axis: Any = None,
    weight_offset: bool = False,
    x_bias: Any = None,
    out: Any = None,
    sum_out: Any = None,
    return_stats: bool = False,
) -> Any:
    """Residual addition and RMSNorm in one pass: add_layer_norm() with rms_norm() in the place of
    layer_norm().

    Returns the tuple (y, sum), or with return_stats (y, sum, rstd).
    """
    added = residual, x_bias, sum_out
    flags = WEIGHT_OFFSET if weight_offset else 0
    return forward(
        RMS, flags, normalized_shape, axis, weight, None, None, eps, x, out, return_stats, added
    )
